"""Raised exceptions: which span counts an exception as raised, and which ones it passes through.

The first span that an exception ends is the innermost one. Each span that it ends later, and that
was open then, is passed through. What is known of an exception does not keep it alive.
"""

from __future__ import annotations

from contextlib import suppress
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    from ._callsite import CallSite

    Raised = Literal["here", "inside"]

MAX_KNOWN = 1_000
"""Exceptions that are known at the most. Beyond it, the oldest one is forgotten."""

_traceback_of = vars(BaseException)["__traceback__"].__get__
"""Reads the traceback of an exception, whatever a subclass makes of the name."""

_weakref_offset_of = vars(type)["__weakrefoffset__"].__get__
"""Returns 0 for a class whose objects allow no weak references: to try it costs a microsecond."""

_GENERATORS = 0x20 | 0x200
"""`inspect.CO_GENERATOR` and `CO_ASYNC_GENERATOR`: importing it takes longer than all of this."""

_NAME = "__name__"
_STEPPING = f"{__package__}._stepping"


def place_of(error: BaseException, began: float, now: float, own: CallSite | None) -> Raised:
    """Return where an exception that ends a span was raised, and know from now on that it did.

    Args:
        error: the exception.
        began: when the span began.
        now: the time, by the same clock.
        own: the call site of the span, if its end is in the function that has other such spans;
            None for the span of a decorated function.

    Returns:
        `here` for the innermost span that it ends, `inside` for one that it passes through.
    """
    seen = _known.pop(id(error), None)
    is_known = seen is not None and began < seen.at and seen.is_of(error, own)
    if len(_known) >= MAX_KNOWN:
        with suppress(StopIteration, RuntimeError):  # another thread was faster
            _known.pop(next(iter(_known)), None)
    _known[id(error)] = _Seen(error, now, own)
    return "inside" if is_known else "here"


def reset() -> None:
    """Forget all exceptions."""
    _known.clear()


class _Seen:
    """An exception that ended a span, found again by its id.

    Another exception may get the id when this one is gone. Where the class allows it, a weak
    reference distinguishes the two. Otherwise, as for built-in classes, the traceback does: that of
    an exception which has passed a frame contains the frame, at the same instruction.
    """

    __slots__ = ("_own", "_places", "_reference", "at")

    def __init__(self, error: BaseException, at: float, own: CallSite | None) -> None:
        self.at = at
        self._own = own
        self._reference: ref[BaseException] | None = None
        self._places: list[tuple[int, int, int]] = []
        if _weakref_offset_of(type(error)):
            # Bound here: an interpreter that shuts down clears the globals first.
            key, forget = id(error), _known.pop
            self._reference = ref(error, lambda _: forget(key, None))
        else:
            self._places = _ends_of(_traceback_of(error))

    def is_of(self, error: BaseException, own: CallSite | None) -> bool:
        """Return whether it is this exception that ends another span."""
        if self._reference is not None:
            return self._reference() is error
        traceback = _traceback_of(error)
        # Two spans in one frame: two spans of one call site are in two frames, the later of which
        # may have the address of the earlier one.
        if traceback is not None and _place(traceback) in self._places:
            return own is not None and self._own is not None and own is not self._own
        while traceback is not None:
            if _place(traceback) in self._places:
                return True
            traceback = traceback.tb_next
        return False


def _ends_of(traceback: TracebackType | None) -> list[tuple[int, int, int]]:
    """Return where an exception leaves the span that it ends."""
    if traceback is None:
        return []
    places = [_place(traceback)]
    # `contextmanager` takes the frame of the generator out of the traceback again. Those that run
    # the steps of traced functions stay; the frame inside would be one more that others resemble.
    frame = traceback.tb_frame
    is_generator = frame.f_code.co_flags & _GENERATORS and frame.f_globals.get(_NAME) != _STEPPING
    if traceback.tb_next is not None and is_generator:
        places.append(_place(traceback.tb_next))
    return places


def _place(traceback: TracebackType) -> tuple[int, int, int]:
    frame = traceback.tb_frame
    return id(frame), id(frame.f_code), traceback.tb_lasti


_known: dict[int, _Seen] = {}
