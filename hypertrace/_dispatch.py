"""The one global slot: which trace function is set, and what was made before it was."""

from __future__ import annotations

from contextlib import suppress
from itertools import count

from . import _callsite, _failures
from ._failures import logger, swallow
from ._naming import class_name_of
from ._targets import EventRecorder, is_bindable, is_span_bindable, target_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import TypeVar

    from ._targets import Target
    from .events import TracedObject, TraceEvent, Upstream
    from .protocols import (
        BindableTraceFunction,
        SpanBindableTraceFunction,
        SpanRecorder,
        TraceFunction,
    )

    EdgeFunction = Callable[[Upstream], Callable[[], object]]
    _T = TypeVar("_T")

target: Target | None = None
"""What delivers to the trace function; None while none is set."""

_in_use: list[Target] = []
"""Targets that are not retired; more than one only while they are replaced."""

_NAMES_KEPT = 5

_disabled_count = count()
_disabled_names: dict[str, None] = {}


def set_trace_function(function: TraceFunction) -> None:
    """Send all events to `function` from now on, instead of the one set before.

    Takes effect at once in all threads; a `trace()` that is under way may still reach the old one.
    Tracers made while no trace function was set stay disabled for good: how many there are is
    logged at INFO (logger `hypertrace`).

    Args:
        function: a callable that takes a `TraceEvent`; see `TraceFunction` for what it may do, and
            `BindableTraceFunction` for a faster way.

    Raises:
        TypeError: `function` is not callable.
    """
    _check_callable(function)
    _replace_target(target_for(function))
    _tell_disabled()


def clear_trace_function() -> None:
    """Remove the trace function: enabled tracers fall silent at once, and new ones are disabled."""
    _replace_target(None)


def get_trace_function() -> TraceFunction | None:
    """Return the trace function that is set, None if there is none."""
    current = target
    return None if current is None else current.function


def fan_out(*functions: TraceFunction) -> TraceFunction:
    """Make one trace function of several.

    They are called in the order given. One that raises does not stop the others: its error is
    swallowed like that of any trace function. If all can be bound, so can the result.

    Args:
        functions: at least one trace function.

    Raises:
        TypeError: one of them is not callable.
        ValueError: there is none.
    """
    if not functions:
        raise ValueError("fan_out() needs at least one trace function")
    for function in functions:
        _check_callable(function)
    span_bindable = [f for f in functions if is_span_bindable(f)]
    if len(span_bindable) == len(functions):
        return _SpanBindableFanOut(span_bindable)
    bindable = [f for f in functions if is_bindable(f)]
    if len(bindable) == len(functions):
        return _BindableFanOut(bindable)
    return _FanOut(functions)


def note_disabled(ctx: object) -> None:
    """Remember that a tracer of `ctx` was made while no trace function was set."""
    next(_disabled_count)
    if len(_disabled_names) < _NAMES_KEPT:
        _disabled_names[class_name_of(ctx)] = None


def reset() -> None:
    """Bring all global state back to how it was at import; for tests."""
    clear_trace_function()
    _forget_disabled()
    _callsite.reset()
    _failures.reset()


def _check_callable(function: object) -> None:
    if not callable(function):
        raise TypeError(f"a trace function must be callable with one event, not {function!r}")


def _replace_target(new: Target | None) -> None:
    global target  # noqa: PLW0603 -- the one slot
    if new is not None:
        _in_use.append(new)
    target = new
    # Also those of other threads that set one meanwhile: only the last may go on.
    for old in _in_use.copy():
        if old is not target:
            old.retire()
            with suppress(ValueError):
                _in_use.remove(old)


def _tell_disabled() -> None:
    silent = next(_disabled_count)
    if silent:
        logger().info(
            "%d tracers were made before the trace function was set and stay silent, of %s; "
            "set it before the objects are made",
            silent,
            ", ".join(_disabled_names),
        )
    _forget_disabled()


def _forget_disabled() -> None:
    global _disabled_count  # noqa: PLW0603 -- starts anew
    _disabled_count = count()
    _disabled_names.clear()


class _FanOut:
    """Calls each trace function with the event."""

    def __init__(self, functions: tuple[TraceFunction, ...]) -> None:
        self._functions = functions

    def __call__(self, event: TraceEvent) -> None:
        for function in self._functions:
            try:
                function(event)
            except Exception as error:  # noqa: BLE001 -- the others must get it too
                swallow(error, function)


class _BindableFanOut:
    """Binds each trace function, and calls all recorders."""

    def __init__(self, functions: list[BindableTraceFunction]) -> None:
        self._functions = functions
        self._call = _FanOut(tuple(functions))

    def __call__(self, event: TraceEvent) -> None:
        self._call(event)

    def share_key(self, object: TracedObject, parent_object: TracedObject | None) -> Hashable:
        keys = [_share_key(f, object, parent_object) for f in self._functions]
        return None if any(key is None for key in keys) else tuple(keys)

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return _together([(f, _bound(f.bind, event)) for f in self._functions])

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        return _together([(f, _bound(f.bind_props, event)) for f in self._functions])


def _share_key(
    function: BindableTraceFunction,
    object: TracedObject,
    parent_object: TracedObject | None,
) -> Hashable:
    try:
        key = function.share_key(object, parent_object)
        hash(key)
    except Exception as error:  # noqa: BLE001 -- the others must get the event
        swallow(error, function)
        return None
    return key


def _bound(
    bind: Callable[[TraceEvent], Callable[..., object]], event: TraceEvent
) -> Callable[..., object]:
    def bind_and_record(*props: object) -> object:
        return bind(event)(*props)

    try:
        return bind(event)
    except Exception:  # noqa: BLE001 -- tried again at each call, where its error is swallowed
        return bind_and_record


class _SpanBindableFanOut(_BindableFanOut):
    """Binds each trace function for spans, too."""

    def __init__(self, functions: list[SpanBindableTraceFunction]) -> None:
        super().__init__(list(functions))
        self._span_functions = functions

    def bind_span(self, event: TraceEvent) -> SpanRecorder:
        return _Recorders([(f, _recorder(f, f.bind_span, event)) for f in self._span_functions])

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], SpanRecorder]:
        bound = [(f, _recorder_finder(f, event)) for f in self._span_functions]
        return lambda props: _Recorders([(f, _recorder(f, find, props)) for f, find in bound])


def _recorder_finder(
    function: SpanBindableTraceFunction, event: TraceEvent
) -> Callable[[dict[str, object]], SpanRecorder]:
    try:
        return function.bind_span_props(event)
    except Exception as error:  # noqa: BLE001 -- the others must get the span
        swallow(error, function)
        return lambda _: EventRecorder(function)


def _recorder(
    function: TraceFunction, bind: Callable[[_T], SpanRecorder], argument: _T
) -> SpanRecorder:
    try:
        return bind(argument)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, function)
        return EventRecorder(function)


class _Recorders:
    """Records each span with all of several recorders."""

    durations = None

    def __init__(self, recorders: list[tuple[BindableTraceFunction, SpanRecorder]]) -> None:
        self.start = _together([(f, recorder.start) for f, recorder in recorders])
        self.end = _together([(f, recorder.end) for f, recorder in recorders])
        edges = [(f, recorder.edge) for f, recorder in recorders if recorder.edge is not None]
        self.edge = _edges_together(edges) if edges else None

    def fold(self) -> None:
        pass


def _edges_together(
    edges: list[tuple[BindableTraceFunction, EdgeFunction]],
) -> EdgeFunction:
    return lambda upstream: _together([(f, edge(upstream)) for f, edge in edges])


def _together(
    recorders: list[tuple[BindableTraceFunction, Callable[..., object]]],
) -> Callable[..., object]:
    def record(*props: object) -> None:
        for function, recorder in recorders:
            try:
                recorder(*props)
            except Exception as error:  # noqa: BLE001 -- the others must get it too
                swallow(error, function)

    return record
