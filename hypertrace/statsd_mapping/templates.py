"""Templates: texts with references, `$1` or `${1}`, to the parts of a name that differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REFERENCE = re.compile(r"\$(?:(\$)|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})")
_RUN_ON = re.compile(r"(\d+)[A-Za-z_]\w*")


class Template:
    """A text with references. Immutable."""

    def __init__(self, text: str, groups: Mapping[str, int], what: str) -> None:
        """Find the references.

        Args:
            text: with `$1` or `${1}` where a part of the name goes, and `$$` for a dollar sign.
            groups: by what can be referred to, its index in what `filled` gets.
            what: the text is called in errors, as `label 'method'`.

        Raises:
            ValueError: it refers to what is not there. The message says what to do.
        """
        self.text: str = text
        parts: list[str | int] = []
        end = 0
        for found in _REFERENCE.finditer(text):
            parts.append(text[end : found.start()])
            end = found.end()
            dollar, *words = found.groups()
            word = "".join(filter(None, words))
            if not dollar and word not in groups:
                raise ValueError(f"{what} {text!r} {_what_is_wrong(found.group(), word, groups)}")
            parts.append(dollar or groups[word])
        self._parts = (*parts, text[end:])

    @property
    def literal(self) -> str:
        """The text without its references."""
        return "".join(part for part in self._parts if isinstance(part, str))

    def filled(self, captures: Sequence[str]) -> str:
        """Return the text with the parts of a name in it.

        Args:
            captures: those parts, by the index of a reference.
        """
        return "".join([part if isinstance(part, str) else captures[part] for part in self._parts])

    def may_give(self, text: str) -> bool:
        """Return whether the text can be what this makes of some name."""
        parts = (re.escape(part) if isinstance(part, str) else ".*" for part in self._parts)
        return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _what_is_wrong(reference: str, word: str, groups: Mapping[str, int]) -> str:
    run_on = _RUN_ON.fullmatch(word)
    if run_on is not None:
        number = run_on[1]
        meant = f"${{{number}}}{word.removeprefix(number)}"
        return f"has {reference!r}, which is read as one word; write {meant!r}"
    if word == "0":
        return "has '$0', the whole name, which only a match_type: regex has; leave it out"
    there = ", ".join(f"${name}" for name in groups) or "none"
    return f"refers to {reference!r}, which the match does not have; it has {there}"
