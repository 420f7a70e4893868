"""Fan-out: one trace function that passes each event to several."""

from __future__ import annotations

from ._failures import swallow
from ._recorders import FanOutRecorder
from ._targets import EventRecorder
from ._trace_functions import check_trace_function, is_bindable, is_span_bindable, receiver_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from typing import TypeVar

    from .events import SpanEvent, TracedObject, TraceEvent, Upstream
    from .protocols import (
        BindableTraceFunction,
        SpanBindableTraceFunction,
        SpanRecorder,
        TraceFunction,
    )

    EdgeFunction = Callable[[Upstream], Callable[[], object]]
    _T = TypeVar("_T")


def fan_out(*functions: TraceFunction) -> TraceFunction:
    """Make one trace function of several.

    They are called in the order given. An exception of one does not stop the others, unless the
    result is set as strict: it is swallowed like that of any trace function. If all can be bound,
    so can the result. A trace function that is given more than once, or to which several forward,
    as exporters of the same metrics do, is called once.

    Args:
        functions: at least one trace function.

    Raises:
        TypeError: as in `set_trace_function`.
        ValueError: no trace function was given.
    """
    if not functions:
        raise ValueError("fan_out() needs at least one trace function")
    for function in functions:
        check_trace_function(function, "fan_out")
    found = receivers(functions)
    span_bindable = [f for f in found if is_span_bindable(f)]
    if len(span_bindable) == len(found):
        return _SpanBindableFanOut(span_bindable)
    bindable = [f for f in found if is_bindable(f)]
    if len(bindable) == len(found):
        return _BindableFanOut(bindable)
    return _FanOut(found)


def receivers(functions: Iterable[TraceFunction]) -> list[TraceFunction]:
    """Return the trace functions that receive the events, each once; expand inner fan-outs."""
    found: dict[int, TraceFunction] = {}
    for function in map(receiver_of, functions):
        is_fan_out = issubclass(type(function), _FanOut)  # isinstance() could run code of a proxy
        for receiver in function.functions if is_fan_out else [function]:  # type: ignore[attr-defined]
            found.setdefault(id(receiver), receiver)
    return list(found.values())


class _FanOut:
    """Calls each trace function with the event."""

    def __init__(self, functions: Sequence[TraceFunction]) -> None:
        self.functions = functions

    def __call__(self, event: TraceEvent) -> None:
        for function in self.functions:
            try:
                function(event)
            except Exception as error:  # noqa: BLE001 -- the others must still be called
                swallow(error, function)


class _BindableFanOut(_FanOut):
    """Binds each trace function, and calls all recorders."""

    def __init__(self, functions: list[BindableTraceFunction]) -> None:
        super().__init__(functions)
        self._functions = functions

    def share_key(self, object: TracedObject, parent_object: TracedObject | None) -> Hashable:
        keys = [share_key_of(f, object, parent_object) for f in self._functions]
        return None if any(key is None for key in keys) else tuple(keys)

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        recorders = [(f, bind_or_retry(f.bind, event)) for f in self._functions]
        return FanOutRecorder(recorders, droppable=True).record

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        recorders = [(f, bind_or_retry(f.bind_props, event)) for f in self._functions]
        return FanOutRecorder(recorders, droppable=True).record


def share_key_of(
    function: BindableTraceFunction,
    object: TracedObject,
    parent_object: TracedObject | None,
) -> Hashable:
    """Return the key of objects with the same labels; None if the trace function fails."""
    try:
        key = function.share_key(object, parent_object)
        hash(key)
    except Exception as error:  # noqa: BLE001 -- the others must still get the event
        swallow(error, function)
        return None
    return key


def bind_or_retry(
    bind: Callable[[TraceEvent], Callable[..., object]], event: TraceEvent
) -> Callable[..., object]:
    def bind_and_record(*props: object) -> object:
        return bind(event)(*props)

    try:
        return bind(event)
    except Exception:  # noqa: BLE001 -- retried by each call, which swallows its exception
        return bind_and_record


class _SpanBindableFanOut(_BindableFanOut):
    """Binds each trace function for spans, too."""

    def __init__(self, functions: list[SpanBindableTraceFunction]) -> None:
        super().__init__(list(functions))
        self._span_functions = functions

    def bind_span(self, event: TraceEvent) -> SpanRecorder:
        recorders = [(f, span_recorder(f, f.bind_span, event)) for f in self._span_functions]
        return FanOutSpanRecorder(recorders)

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], SpanRecorder]:
        functions = self._span_functions
        finders = [(f, span_recorder_finder(f, f.bind_span_props, event)) for f in functions]
        return lambda props: FanOutSpanRecorder(
            [(f, span_recorder(f, find, props)) for f, find in finders]
        )


def span_recorder_finder(
    function: TraceFunction,
    bind: Callable[[TraceEvent], Callable[[dict[str, object]], SpanRecorder]],
    event: TraceEvent,
) -> Callable[[dict[str, object]], SpanRecorder]:
    """Return what finds the recorders of spans; one that records by events if binding fails."""
    try:
        return bind(event)
    except Exception as error:  # noqa: BLE001 -- the others must still get the span
        swallow(error, function)
        return lambda _: EventRecorder(function)


def span_recorder(
    function: TraceFunction, bind: Callable[[_T], SpanRecorder], argument: _T
) -> SpanRecorder:
    """Return the recorder that `bind` makes; one that records by events if it fails."""
    try:
        return bind(argument)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, function)
        return EventRecorder(function)


class FanOutSpanRecorder:
    """Records each span with several recorders."""

    durations = None

    def __init__(self, recorders: Sequence[tuple[TraceFunction, SpanRecorder]]) -> None:
        self._recorders = recorders
        starts = [(f, recorder.start) for f, recorder in recorders]
        self.start = FanOutRecorder(starts, droppable=False).record
        edges = [(f, recorder.edge) for f, recorder in recorders if recorder.edge is not None]
        self.edge = _fan_out_edge(edges) if edges else None

    def end(self, event: SpanEvent) -> None:
        for function, recorder in self._recorders:
            try:
                recorder.end(event)
            except Exception as error:  # noqa: BLE001 -- the others must still be called
                swallow(error, function)

    def fold(self) -> None:
        pass


def _fan_out_edge(edges: list[tuple[TraceFunction, EdgeFunction]]) -> EdgeFunction:
    def edge(upstream: Upstream) -> Callable[[], object]:
        recorders = [(f, edge(upstream)) for f, edge in edges]
        return FanOutRecorder(recorders, droppable=False).record

    return edge
