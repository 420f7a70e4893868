"""Patterns of declared metrics: which events they are about."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any

from hypertrace import suppress_tracing

_UNIT = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
"""What stands for one character, or for any number if it is `*`."""
_NEVER = "(?!)"
"""What an empty set of characters becomes, as `[z-a]`."""
_SHORTEST = 3
"""Characters of the shortest `Class.function`."""


class Pattern:
    """Pattern on `Class.function` and on the trace id, compiled once. Immutable.

    A pattern is that of a shell: `*` is any text, dots included, `?` one character, `[...]` one of
    several. It is case-sensitive, and is about the whole text.
    """

    __slots__ = ("_of_function", "_of_id")

    def __init__(self, of: str | None, id: str | None) -> None:
        """Compile the patterns.

        Args:
            of: on `Class.function`; None for any.
            id: on the trace id, which is empty text for events without one; None for any.

        Raises:
            TypeError: one is no text.
            ValueError: one can match nothing.
        """
        check_of(of)
        check_id(id)
        self._of_function = None if of is None else re.compile(translate(of)).match
        self._of_id = None if id is None else re.compile(translate(id)).match

    def matches(self, class_name: str, function_name: str, id: object) -> bool:
        """Return whether the events of a call site are meant.

        Args:
            class_name: of the traced object.
            function_name: of the caller.
            id: the trace id, None without one. The `__str__` of what is no text is called, in
                `suppress_tracing`; its exceptions propagate.
        """
        # Joined, not formatted: a subclass of str may have any `__format__`.
        name = ".".join((class_name, function_name))  # noqa: FLY002
        if self._of_function is not None and self._of_function(name) is None:
            return False
        return self._of_id is None or self._of_id(_text(id)) is not None


def check_of(pattern: object) -> None:
    """Check a pattern on `Class.function`.

    Raises:
        TypeError: it is no text.
        ValueError: it can match nothing.
    """
    if pattern is None:
        return
    if not isinstance(pattern, str):
        raise TypeError(
            f"of must be a pattern on 'Class.function', as 'Cart.*', not {pattern!r}; leave it out "
            "for all events"
        )
    reason = None
    if not pattern:
        reason = "it is empty; leave it out for all events"
    elif pattern != pattern.strip():
        reason = f"no name has spaces at its ends; write {pattern.strip()!r}"
    elif "." not in pattern and not any(sign in pattern for sign in "*?["):
        reason = (
            f"there is no '.' in it, as in 'Class.function'; write '{pattern}.*' for all functions "
            f"of a class, '*.{pattern}' for a function of any class"
        )
    elif _NEVER in translate(pattern):
        reason = "a set of characters in it is empty; write it as '[a-z]', or '[[]' for a '['"
    elif _most_characters(pattern) < _SHORTEST:
        reason = "'Class.function' is longer; write '*' where there may be more characters"
    if reason is not None:
        raise ValueError(f"of={pattern!r} can match nothing: {reason}")


def check_id(pattern: object) -> None:
    """Check a pattern on the trace id.

    Raises:
        TypeError: it is no text.
        ValueError: it can match nothing.
    """
    if pattern is None:
        return
    if not isinstance(pattern, str):
        raise TypeError(
            f"id must be a pattern on the trace id, as 'upload-*', not {pattern!r}; leave it out "
            "for all events"
        )
    if _NEVER in translate(pattern):
        raise ValueError(
            f"id={pattern!r} can match nothing: a set of characters in it is empty; write it as "
            "'[a-z]', or '[[]' for a '['"
        )


def _most_characters(pattern: str) -> float:
    units = _UNIT.findall(pattern)
    return float("inf") if "*" in units else len(units)


def _text(id: Any) -> str:
    if id is None:
        return ""
    return str.__str__(id) if issubclass(type(id), str) else suppress_tracing(str, id)
