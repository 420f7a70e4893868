"""Pattern on events: which classes, functions and trace ids it selects."""

from __future__ import annotations

import re
from fnmatch import translate

from ._guard import suppress_tracing
from ._plain import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .events import TraceEvent

    Match = Callable[[str], object]

_NO_CHARACTER = "(?!)"
"""What `translate` makes of a set that contains no character, as `[z-a]`."""
_SIGNS = frozenset("*?[")
"""What stands for other characters."""
_UNIT = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
"""What stands for one character, or for any number if it is `*`."""
_SHORTEST = 3
"""Characters of the shortest `Class.function`."""


class EventPattern:
    """Selects events by shell patterns: `*`, `?`, `[abc]`, `[!abc]`; case counts. Immutable.

    Attributes:
        of: pattern on `Class.function`, with the names that events have; `*` matches dots, too.
            None selects every event.
        id: pattern on the trace id, which is empty for an event without one. None selects any id.
    """

    __slots__ = ("_matches_id", "_matches_name", "id", "of")

    def __init__(self, of: str | None = None, id: str | None = None) -> None:
        """Make a pattern; the class describes the arguments.

        Raises:
            TypeError: one of them is neither a `str` nor None.
            ValueError: one of them can match nothing. The message says why, and what to write.
        """
        self.of: str | None = of
        self.id: str | None = id
        self._matches_name = None if of is None else _compiled_name(of)
        self._matches_id = (
            None if id is None else _compiled("id", id, "on the trace id, 'upload-*'")
        )

    def matches(self, event: TraceEvent) -> bool:
        """Whether the pattern selects an event.

        An id that is no text, by mistake, is turned into one, which may run code of the
        application, in `suppress_tracing`.
        """
        if self._matches_name is not None:
            # Joined, not formatted: a subclass of str may have any `__format__`.
            name = ".".join((event.object.class_name, event.caller.function_name))  # noqa: FLY002
            if not self._matches_name(name):
                return False
        return self._matches_id is None or bool(self._matches_id(_text_of_id(event.id)))


def _compiled_name(of: str) -> Match:
    match = _compiled("of", of, "on 'Class.function', 'Cart.*'")
    if not of:
        reason = "it is empty; leave it out for all events"
    elif of != of.strip():
        reason = f"no name has spaces at its ends; write {of.strip()!r}"
    elif "." not in of and _SIGNS.isdisjoint(of):
        reason = (
            f"there is no '.' in it, as in 'Class.function'; write '{of}.*' for all functions of a "
            f"class, '*.{of}' for a function of any class"
        )
    elif _most_characters(of) < _SHORTEST:
        reason = "'Class.function' is longer; write '*' where there may be more characters"
    else:
        return match
    raise ValueError(f"of={of!r} can match nothing: {reason}")


def _compiled(argument: str, pattern: str, what: str) -> Match:
    if not isinstance(pattern, str):
        raise TypeError(
            f"{argument} must be a pattern {what}, not {pattern!r}; leave it out for all events"
        )
    expression = translate(pattern)
    if _NO_CHARACTER in expression:
        raise ValueError(
            f"{argument}={pattern!r} can match nothing: a set of characters in it is empty; write "
            "it as '[a-z]', or '[[]' for a '['"
        )
    return re.compile(expression).match


def _most_characters(pattern: str) -> float:
    units = _UNIT.findall(pattern)
    return float("inf") if "*" in units else len(units)


def _text_of_id(id: Any) -> str:
    if id is None:
        return ""
    if type(id) is str:
        return id
    if issubclass(type(id), str):
        return str.__str__(id)
    return str(suppress_tracing(plain, id))
