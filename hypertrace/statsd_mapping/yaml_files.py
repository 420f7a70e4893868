"""YAML files: the format of statsd_exporter as text, read and written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .configuration import Lines, check_labels, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .rules import Rules

_MISSING = "a mapping in a file needs PyYAML: pip install 'hypertrace[yaml]'"


def stats_rules(mapping: object) -> Rules:
    """Return the rules that `Stats` takes, from a file or as a program gives them.

    Args:
        mapping: path of a file of YAML; or what is in it, as mapping or as list of rules.

    Raises:
        ModuleNotFoundError: a path is given, and PyYAML is not installed.
        OSError: the file cannot be read.
        TypeError: it is something else.
        ValueError: as `rules_of`, and for text that is no YAML and labels that cannot be shown.
    """
    if isinstance(mapping, str | os.PathLike):
        rules = read(text_of(Path(mapping).read_bytes(), str(mapping)), str(mapping))
    else:
        rules = rules_of(mapping)  # type: ignore[arg-type]  # which it checks
    check_labels(rules)
    return rules


def read(text: str, file: str) -> Rules:
    """Return the rules of a file.

    Args:
        text: that is in it.
        file: it is called in errors.

    Raises:
        ModuleNotFoundError: PyYAML is not installed.
        ValueError: the text is no YAML, has a key twice, or as `rules_of`.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_MISSING, name="yaml") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of values, and of depth
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(
            f"{file}{line}: this is no YAML: {getattr(error, 'problem', None) or error}"
        ) from error
    _check_keys(node, file, set())
    return rules_of({} if config is None else config, Lines(file, _lines_of(node)))


def text_of(content: bytes, file: str) -> str:
    """Return the text of a file.

    Args:
        content: that is in it.
        file: it is called in errors.

    Raises:
        ValueError: it is no text.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}, line {line}: this is no text in UTF-8; save it in this encoding"
        ) from error


def written(rules: Sequence[Mapping[str, Any]], comment: str = "") -> str:
    """Return rules as text of a file.

    Args:
        rules: as in the list `mappings`.
        comment: lines at the start of it.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines.append("mappings:" if rules else "mappings: []")
    for rule in rules:
        inner = [line for key, value in rule.items() for line in _lines(key, value)]
        lines += [f"{'  ' if i else '- '}{line}" for i, line in enumerate(inner)]
    return "\n".join(lines) + "\n"


def _lines(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield f"{key}:"
        for inner, each in value.items():
            for line in _lines(inner, each):
                yield f"  {line}"
    else:
        yield f"{key}: {_shown(value)}"


def _shown(value: str | Sequence[float]) -> str:
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    return f"[{', '.join(map(repr, value))}]"


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _lines_of(node: Any) -> list[int]:
    """Return the lines in which the rules of a file begin."""
    pairs = node.value if node is not None and isinstance(node.value, list) else []
    if node is not None and node.id == "sequence":
        return [one.start_mark.line + 1 for one in pairs]
    return [
        one.start_mark.line + 1
        for key, value in pairs
        if key.value == "mappings" and value.id == "sequence"
        for one in value.value
    ]


def _check_keys(node: Any, file: str, seen: set[int]) -> None:
    """Check that no key stands twice in one place, of which only the last would count."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if node.id == "sequence":
        for one in node.value:
            _check_keys(one, file, seen)
    elif node.id == "mapping":
        keys = set()
        for key, value in node.value:
            if key.id == "scalar" and key.value in keys:
                raise ValueError(
                    f"{file}, line {key.start_mark.line + 1}: {key.value!r} is there twice; leave "
                    "one out"
                )
            keys.add(key.value if key.id == "scalar" else id(key))
            _check_keys(value, file, seen)
