"""The one global slot: which trace function is set."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType

from . import _callsite, _failures, _guard, _silent
from ._failures import swallow
from ._naming import class_name_of
from ._recorders import Together
from ._targets import EventRecorder, is_bindable, is_span_bindable, receiver_of, target_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from typing import TypeVar

    from ._targets import Target
    from .events import SpanEvent, TracedObject, TraceEvent, Upstream
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


def set_trace_function(function: TraceFunction, *, strict: bool = False) -> None:
    """Send all events to `function` from now on, instead of the one set before.

    Takes effect at once in all threads; a `trace()` that is under way may still reach the old one.
    Tracers made while no trace function was set stay disabled for good: how many there are, and of
    which classes, is logged (logger `hypertrace`), at WARNING the first time in this process and at
    INFO later; see also `silent_tracers`.

    Args:
        function: a callable that takes a `TraceEvent`; see `TraceFunction` for what it may do, and
            `BindableTraceFunction` for a faster way.
        strict: for tests and staging. What would be swallowed or logged as a wrong call is raised
            by the user's own `trace()`, `span()` or decorated call instead: what the trace
            function raises as it is, a wrong call as a `TypeError`. Nothing of it is counted in
            `swallowed_errors()`. What tracing itself traces is dropped and counted as ever. It
            ends with this trace function: when another one is set, or none.

    Raises:
        TypeError: `function`, or the one that it stands for, is not callable, a class, or a
            coroutine or generator function.
    """
    _check_callable(function)
    _check_callable(receiver_of(function))
    _replace_target(target_for(function), strict=strict)
    _silent.report()


def clear_trace_function() -> None:
    """Remove the trace function: enabled tracers fall silent at once, and new ones are disabled."""
    _replace_target(None, strict=False)


def get_trace_function() -> TraceFunction | None:
    """Return the trace function that is set, None if there is none."""
    current = target
    return None if current is None else current.function


def fan_out(*functions: TraceFunction) -> TraceFunction:
    """Make one trace function of several.

    They are called in the order given. One that raises does not stop the others, unless the result
    is set as strict: its error is swallowed like that of any trace function. If all can be bound,
    so can the result. One that is given more than once, or that several stand for, as exporters of
    the same metrics do, is called once.

    Args:
        functions: at least one trace function.

    Raises:
        TypeError: as in `set_trace_function`.
        ValueError: there is none.
    """
    if not functions:
        raise ValueError("fan_out() needs at least one trace function")
    for function in functions:
        _check_callable(function)
    receivers = _receivers(functions)
    for receiver in receivers:
        _check_callable(receiver)
    span_bindable = [f for f in receivers if is_span_bindable(f)]
    if len(span_bindable) == len(receivers):
        return _SpanBindableFanOut(span_bindable)
    bindable = [f for f in receivers if is_bindable(f)]
    if len(bindable) == len(receivers):
        return _BindableFanOut(bindable)
    return _FanOut(receivers)


def _receivers(functions: Iterable[TraceFunction]) -> list[TraceFunction]:
    """Return the trace functions that events are for, each once, also those of other fan-outs."""
    receivers: dict[int, TraceFunction] = {}
    for function in map(receiver_of, functions):
        inner = function.functions if isinstance(function, _FanOut) else [function]
        for receiver in inner:
            receivers.setdefault(id(receiver), receiver)
    return list(receivers.values())


def reset() -> None:
    """Bring all global state back to how it was at import; for tests."""
    clear_trace_function()
    _silent.reset()
    _callsite.reset()
    _failures.reset()
    _guard.reset()


def _check_callable(function: object) -> None:
    if not callable(function):
        raise TypeError(f"a trace function must be callable with one event, not {function!r}")
    if issubclass(type(function), type):
        name = class_name_of(function)
        raise TypeError(
            f"a trace function is called with each event, and {name} is a class: make an instance "
            f"of it and pass that, as in set_trace_function({name}(...))"
        )
    import inspect  # here, as it takes longer to load than all the rest

    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    is_function = issubclass(type(function), FunctionType | MethodType | partial)
    called = function if is_function else type(function).__call__
    if any(is_kind(called) for is_kind in kinds) or _is_marked(function):
        raise TypeError(
            f"a trace function runs when it is called, and {function!r} has to be awaited or "
            "iterated; make it a plain function, that puts the event into a queue if need be"
        )


def _is_marked(function: object) -> bool:
    """Whether an object says that it has to be awaited: one that is marked, or an `AsyncMock`."""
    import inspect  # as above

    with suppress(Exception):  # from the object's own `__getattr__`
        return inspect.iscoroutinefunction(function)
    return False


def _replace_target(new: Target | None, *, strict: bool) -> None:
    global target  # noqa: PLW0603 -- the one slot
    if new is not None:
        _in_use.append(new)
    _failures.strict = strict
    target = new
    # Also those of other threads that set one meanwhile: only the last may go on.
    for old in _in_use.copy():
        if old is not target:
            old.retire()
            with suppress(ValueError):
                _in_use.remove(old)


class _FanOut:
    """Calls each trace function with the event."""

    def __init__(self, functions: Sequence[TraceFunction]) -> None:
        self.functions = functions

    def __call__(self, event: TraceEvent) -> None:
        for function in self.functions:
            try:
                function(event)
            except Exception as error:  # noqa: BLE001 -- the others must get it too
                swallow(error, function)


class _BindableFanOut(_FanOut):
    """Binds each trace function, and calls all recorders."""

    def __init__(self, functions: list[BindableTraceFunction]) -> None:
        super().__init__(functions)
        self._functions = functions

    def share_key(self, object: TracedObject, parent_object: TracedObject | None) -> Hashable:
        keys = [_share_key(f, object, parent_object) for f in self._functions]
        return None if any(key is None for key in keys) else tuple(keys)

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        bound = [(f, _bound(f.bind, event)) for f in self._functions]
        return Together(bound, droppable=True).record

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        bound = [(f, _bound(f.bind_props, event)) for f in self._functions]
        return Together(bound, droppable=True).record


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

    def __init__(self, recorders: list[tuple[TraceFunction, SpanRecorder]]) -> None:
        self._recorders = recorders
        starts = [(f, recorder.start) for f, recorder in recorders]
        self.start = Together(starts, droppable=False).record
        edges = [(f, recorder.edge) for f, recorder in recorders if recorder.edge is not None]
        self.edge = _edges_together(edges) if edges else None

    def end(self, event: SpanEvent) -> None:
        for function, recorder in self._recorders:
            try:
                recorder.end(event)
            except Exception as error:  # noqa: BLE001 -- the others must get it too
                swallow(error, function)

    def fold(self) -> None:
        pass


def _edges_together(edges: list[tuple[TraceFunction, EdgeFunction]]) -> EdgeFunction:
    def edge(upstream: Upstream) -> Callable[[], object]:
        counts = [(f, edge(upstream)) for f, edge in edges]
        return Together(counts, droppable=False).record

    return edge
