"""Pattern on events: which classes, functions and trace ids it selects."""

from __future__ import annotations

import re
from fnmatch import translate

from ._guard import suppress_tracing
from ._plain import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import TraceEvent

    Match = Callable[[str], object]

_NO_CHARACTER = "(?!)"
"""What `translate` makes of a range that contains no character."""

_CAN_MATCH_A_DOT = frozenset(".*?[")


class EventPattern:
    """Selects events by shell patterns: `*`, `?`, `[abc]`, `[!abc]`; case counts.

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
        self._matches_id = None if id is None else _compiled("id", id, "'upload' or 'upload-*'")

    def matches(self, event: TraceEvent) -> bool:
        """Whether the pattern selects an event."""
        if self._matches_name is not None:
            name = f"{event.object.class_name}.{event.caller.function_name}"
            if not self._matches_name(name):
                return False
        return self._matches_id is None or bool(self._matches_id(_text_of_id(event.id)))


def _compiled_name(of: str) -> Match:
    match = _compiled("of", of, "'Auth.login' or 'Auth.*'")
    if _CAN_MATCH_A_DOT.isdisjoint(of):
        raise ValueError(
            f"of={of!r} matches no event, since it is compared with Class.function; write "
            f"'{of or '*'}.*' for all functions of a class, '*.{of or '*'}' for a function of any "
            "class, or leave it out for all events"
        )
    return match


def _compiled(argument: str, pattern: str, examples: str) -> Match:
    if not isinstance(pattern, str):
        raise TypeError(
            f"{argument} must be a pattern such as {examples}, or None for all events, "
            f"not {pattern!r}"
        )
    expression = translate(pattern)
    if _NO_CHARACTER in expression:
        raise ValueError(
            f"{argument}={pattern!r} matches no event, since a range in it contains no character; "
            "write the smaller character first, as in '[a-z]'"
        )
    return re.compile(expression).match


def _text_of_id(id: object) -> str:
    if id is None:
        return ""
    # By mistake it may be any object, whose text is made by code of the application.
    return id if type(id) is str else str(suppress_tracing(plain, id))
