"""Helpers for tests: capture of events, and reset of the state of the process."""

from __future__ import annotations

from contextlib import contextmanager

from . import (
    _calls,
    _callsite,
    _failures,
    _guard,
    _handlers,
    _object_ids,
    _operations,
    _raised,
    _silent,
    _span,
    polling,
)
from ._dispatch import clear_trace_function, get_trace_function, set_trace_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .events import TraceEvent

__all__ = ["capture_events", "reset"]


def reset() -> None:
    """Restore the state that this package had in this process after its import.

    Clears the trace function, detaches all handlers, stops all polls, forgets counted errors,
    dropped events and silent tracers, cached call sites and classes, and the current span and entry
    of this context, and starts the ids of objects from 1 again. What `instrument` replaced stays
    replaced. For a fixture that runs around each test.
    """
    clear_trace_function()
    modules = (
        *(_handlers, _calls, _callsite, _failures, _guard, _object_ids, _operations),
        *(_raised, _silent, _span, polling),
    )
    for module in modules:
        module.reset()


@contextmanager
def capture_events(*, strict: bool = False) -> Iterator[list[TraceEvent]]:
    """Collect all events of this process in a list, instead of sending them to the trace function.

    Make objects inside the block, or while another trace function is set: tracers made before are
    disabled permanently. The end of the block restores the former trace function.

    Args:
        strict: whether wrong calls raise, as in `set_trace_function`.

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
