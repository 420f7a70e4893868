"""Slot of the trace function, and the handlers beside it: read by all tracers of the process."""

from __future__ import annotations

from contextlib import suppress

from . import _failures, _silent
from ._targets import target_for
from ._trace_functions import check_trace_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._handling import Recipient
    from ._targets import Target
    from .protocols import TraceFunction

target: Target | None = None
"""The target that delivers to the trace function and the handlers; None while there are none."""

handlers: dict[Recipient, None] = {}
"""The handlers that are attached, in this order. Who changes it calls `update_target`."""

after_update: list[Callable[[], object]] = []
"""Functions that are called when the target has changed; they look at it themselves."""

_setting: tuple[TraceFunction | None, bool] = None, False
"""The trace function, and whether it is strict."""

_change: object = None
"""Stands for the last change of the trace function or the handlers."""

_delivered_change: object = None
"""The change after which the target was made."""

_active_targets: list[Target] = []
"""Targets that are not retired. There is more than one only while a trace function is replaced."""


def set_trace_function(function: TraceFunction, *, strict: bool = False) -> None:
    """Send all events to `function` from now on, instead of the trace function set before.

    Takes effect at once in all threads; a `trace()` that is in progress may still reach the old
    one. Tracers made while no trace function was set stay disabled permanently: their number and
    classes are logged (logger `hypertrace`), at WARNING the first time in this process and at INFO
    later; see also `silent_tracers`.

    Args:
        function: a callable that takes a `TraceEvent`; see `TraceFunction` for what it may do, and
            `BindableTraceFunction` for a faster way.
        strict: for tests and staging. Errors that would be swallowed, and wrong calls that would be
            logged, are raised by the user's `trace()`, `span()` or decorated call instead: errors
            of the trace function unchanged, wrong calls as `TypeError`. They are not counted in
            `swallowed_errors()`. Events that tracing itself causes are still dropped and counted.
            It ends with this trace function: when another one is set, or none.

    Raises:
        TypeError: `function`, or the one that it forwards to, is not callable, a class, or a
            coroutine or generator function.
    """
    check_trace_function(function)
    _set(function, strict=strict)
    _silent.report()


def clear_trace_function() -> None:
    """Remove the trace function: enabled tracers stop at once, and new ones are disabled.

    Unless handlers are attached: then tracers go on, for them alone.
    """
    _set(None, strict=False)


def get_trace_function() -> TraceFunction | None:
    """Return the trace function that is set, None if there is none."""
    return _setting[0]


def rebind() -> None:
    """Bind each call site again at its next event, as trace functions record something else now."""
    current = target
    if current is not None:
        current.rebind()
        _retire_others()  # what an interrupted change has left


def update_target() -> None:
    """Deliver from now on to the trace function and the handlers that there are now.

    Other threads, signal handlers and finalizers may do the same meanwhile: this returns when a
    target is in place that was made after the last change.
    """
    global target, _change, _delivered_change  # noqa: PLW0603 -- the slot
    _change = object()
    while _delivered_change is not _change:
        change = _change
        function, strict = _setting
        new = _new_target(function, tuple(handlers.copy()))
        if change is not _change:
            continue  # what is new by now may be in place already
        if new is not None:
            _active_targets.append(new)
        _failures.strict = strict
        target = new
        _delivered_change = change
    _retire_others()
    for call in after_update:
        call()


def _set(function: TraceFunction | None, *, strict: bool) -> None:
    global _setting  # noqa: PLW0603 -- the slot
    _setting = function, strict
    update_target()


def _new_target(function: TraceFunction | None, attached: tuple[Recipient, ...]) -> Target | None:
    if attached:
        from ._handling import HandlingTarget  # here, since most programs attach no handler

        return HandlingTarget(function, attached)
    return None if function is None else target_for(function)


def _retire_others() -> None:
    # Also retires the targets of threads that set a trace function at the same time: only the
    # last one stays.
    for old in _active_targets.copy():
        if old is not target:
            old.retire()
            with suppress(ValueError):
                _active_targets.remove(old)
