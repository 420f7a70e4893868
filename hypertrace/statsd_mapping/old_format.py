"""Old format: mappings of statsd_exporter from before they were YAML.

A block has a pattern in its first line, and below it `name="…"` and labels, as `action="$1"`, a
line each. Blocks are separated by empty lines; the first one whose pattern matches is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .configuration import Lines, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"(.*)"')
_LIKE_A_LABEL = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*[=:]\s*(.*)")


def rules_in(text: str, file: str) -> list[dict[str, Any]]:
    """Return the rules of a file, as today's format has them.

    Args:
        text: that is in it.
        file: it is called in errors.

    Raises:
        ValueError: a line is wrong. The message names file, line and what to do.
    """
    rules = []
    numbers = []
    for block in _blocks(text):
        number, pattern = block[0]
        if _LIKE_A_LABEL.fullmatch(pattern):
            raise _error(
                file,
                number,
                f"{pattern!r} is no pattern; a block begins with one, as shop.*.paid, and ends "
                "with an empty line; YAML is today's format already",
            )
        rules.append(_rule(file, block))
        numbers.append(number)
    if not rules:
        raise ValueError(
            f"{file}: there is no mapping; it has blocks of a pattern, as shop.*.paid, and below "
            'it name="orders" and labels, as shop="$1"'
        )
    rules_of(rules, Lines(file, numbers))  # raises what else is wrong
    return rules


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Give the lines of each block, with their numbers."""
    block: list[tuple[int, str]] = []
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        line = raw.strip()
        if line and not line.startswith("#"):
            block.append((number, line))
        elif block and not line:
            yield block
            block = []


def _rule(file: str, block: list[tuple[int, str]]) -> dict[str, Any]:
    (first, pattern), *lines = block
    values: dict[str, str] = {}
    for number, line in lines:
        found = _LABEL.fullmatch(line)
        if found is None:
            raise _error(file, number, _what_is_wrong(line))
        label, value = found.groups()
        if label in values:
            raise _error(file, number, f"{label!r} is there twice in one block; leave one out")
        values[label] = value
    if not values.get("name"):
        raise _error(
            file, first, f'the block of {pattern!r} has no name; add a line as name="orders"'
        )
    rule: dict[str, Any] = {"match": pattern, "name": values.pop("name")}
    return {**rule, "labels": values} if values else rule


def _what_is_wrong(line: str) -> str:
    near = _LIKE_A_LABEL.fullmatch(line)
    if near is None:
        return (
            f'{line!r} is no label; in a block there are lines as name="orders" below the '
            "pattern, and an empty line ends it"
        )
    value = near[2].strip("\"'")
    return f'{line!r} is no label; write {near[1]}="{value}"'


def _error(file: str, number: int, message: str) -> ValueError:
    return ValueError(f"{file}, line {number}: {message}")
