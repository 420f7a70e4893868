"""For tests: see what is traced, and start each test from a clean state."""

from __future__ import annotations

from contextlib import contextmanager

from . import _dispatch, _failures, _object_ids
from ._dispatch import clear_trace_function, get_trace_function, set_trace_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .events import TraceEvent

__all__ = ["capture_events", "reset"]


def reset() -> None:
    """Bring the state of this package in this process back to how it was at import.

    Clears the trace function, and forgets counted errors and dropped events, cached call sites and
    the numbers of objects. For a fixture that runs around each test.
    """
    _dispatch.reset()
    _object_ids.reset()


@contextmanager
def capture_events(*, strict: bool = False) -> Iterator[list[TraceEvent]]:
    """Collect all events of this process in a list, instead of sending them to the trace function.

    Objects have to be made inside the block, or while another trace function was set: tracers made
    before are disabled for good. Afterwards the trace function that was set before is set again.

    Args:
        strict: wrong calls raise, as in `set_trace_function`.

    Yields:
        The list, to which each event is added as it happens, from any thread.
    """
    events: list[TraceEvent] = []
    before, was_strict = get_trace_function(), _failures.strict
    set_trace_function(events.append, strict=strict)
    try:
        yield events
    finally:
        if before is None:
            clear_trace_function()
        else:
            set_trace_function(before, strict=was_strict)
