"""Target with handlers: delivers to the trace function, and to the handlers that match."""

from __future__ import annotations

from ._failures import swallow
from ._fan_out import FanOutSpanRecorder, share_key_of, span_recorder, span_recorder_finder
from ._guard import suppress_tracing
from ._recorders import PropsRecorder
from ._targets import EventRecorder, RecorderTarget, is_plain_id, recorder_key
from ._trace_functions import is_bindable, is_span_bindable, receiver_of
from .cells import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any, Protocol

    from ._base import TracerBase
    from ._callsite import CallSite
    from ._targets import SpanBinder
    from .events import SpanEvent, TracedObject, TraceEvent, Upstream
    from .protocols import SpanRecorder, TraceFunction

    class Recipient(Protocol):
        """Takes the events that it matches."""

        def matches(self, event: TraceEvent) -> bool:
            """Whether it takes events like this one, with the same names and the same id."""

        def take(self, event: TraceEvent) -> None:
            """Take an event; called while tracing is suppressed. Raises only if strict."""


MAX_MATCHED = 16_384
"""Names and ids whose handlers are remembered. Beyond it, all are forgotten and found again."""

_BESIDE = 2
"""Offset of the recorder that the trace function has at a call site with handlers. Bytes 0 and 1
are those of calls without handlers, which find the recorder there and call nothing else."""


class HandlingTarget(RecorderTarget):
    """Delivers to a trace function, if one is set, and to the handlers that match a call site.

    A call site that no handler matches has the recorder of the trace function in the tracer's
    table. Any other one has none there, so that each `trace()` comes here, where its event is made.
    """

    __slots__ = ("_matched", "_recipients")

    def __init__(self, function: TraceFunction | None, handlers: Iterable[Recipient]) -> None:
        receiver = _NO_FUNCTION if function is None else receiver_of(function)
        self._recipients = list(handlers)
        if not is_bindable(receiver):  # it takes each event, before the handlers do
            self._recipients.insert(0, _PlainFunction(receiver))
            receiver = _NO_FUNCTION
        super().__init__(_NO_FUNCTION if function is None else function, receiver)
        spans = receiver if is_span_bindable(receiver) else _EventSpans(receiver)
        self._spans = _HandledSpans(receiver, spans, self._find_matching)
        self._matched: dict[Hashable, _Matching | None] = {}

    def deliver(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> None:
        """Record one `trace()` for which the tracer's table had no recorder."""
        key = recorder_key(site.address, id, with_props=props is not None)
        if is_plain_id(id) and tracer._table.get(key) is not None:
            super().deliver(tracer, site, id, props)
            return
        # The application may change the props later.
        event = tracer._event(site, id, None if props is None else props.copy())
        matching = self._find_matching(event)
        if matching is None:
            super().deliver(tracer, site, id, props)
            return
        if self._receiver is not _NO_FUNCTION:
            try:
                self._record(tracer, site, id, props, site.address + _BESIDE)
            except Exception as error:  # noqa: BLE001 -- the handlers must still get the event
                swallow(error, self.function)
        suppress_tracing(matching.take, event)

    def _share_key(self, event: TraceEvent) -> Hashable:
        return share_key_of(self._receiver, event.object, event.parent_object)

    def _find_matching(self, event: TraceEvent) -> _Matching | None:
        """Return the recipients that match events like this one; None if none does."""
        if not is_plain_id(event.id):
            return self._match(event)
        key = event.object.class_name, event.caller.function_name, event.id
        try:
            return self._matched[key]
        except KeyError:
            if len(self._matched) >= MAX_MATCHED:
                self._matched.clear()
            matching = self._matched[key] = self._match(event)
            return matching

    def _match(self, event: TraceEvent) -> _Matching | None:
        recipients = [one for one in self._recipients if one.matches(event)]
        return _Matching(recipients) if recipients else None


class _Matching:
    """The recipients that match a call site."""

    __slots__ = ("_recipients",)

    def __init__(self, recipients: list[Recipient]) -> None:
        self._recipients = recipients

    def take(self, event: TraceEvent) -> None:
        """Give an event to each of them in turn."""
        for recipient in self._recipients:
            recipient.take(event)


class _PlainFunction:
    """A trace function without recorders, as a recipient of each event."""

    __slots__ = ("_function",)

    def __init__(self, function: TraceFunction) -> None:
        self._function = function

    def matches(self, event: TraceEvent) -> bool:  # noqa: ARG002 -- it takes all
        return True

    def take(self, event: TraceEvent) -> None:
        try:
            self._function(event)
        except Exception as error:  # noqa: BLE001 -- the handlers must still get the event
            swallow(error, self._function)


class _HandledSpans:
    """Binds the spans of a trace function, and those that handlers match to these, too."""

    def __init__(
        self,
        function: TraceFunction,
        spans: SpanBinder,
        find_matching: Callable[[TraceEvent], _Matching | None],
    ) -> None:
        self._function = function
        self._binder = spans
        self._find_matching = find_matching

    def bind_span(self, event: TraceEvent) -> SpanRecorder:
        matching = self._find_matching(event)
        if matching is None:
            return self._binder.bind_span(event)
        recorder = span_recorder(self._function, self._binder.bind_span, event)
        return self._with(recorder, EventRecorder(matching.take))

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], SpanRecorder]:
        matching = self._find_matching(event)
        if matching is None:
            return self._binder.bind_span_props(event)
        find = span_recorder_finder(self._function, self._binder.bind_span_props, event)
        taking = EventRecorder(matching.take)
        return lambda props: self._with(span_recorder(self._function, find, props), taking)

    def _with(self, recorder: SpanRecorder, taking: EventRecorder) -> SpanRecorder:
        return FanOutSpanRecorder([(self._function, recorder), (self._function, taking)])


class _EventSpans:
    """Binds the spans of a trace function that has no recorders for spans."""

    def __init__(self, function: TraceFunction) -> None:
        self._recorder = EventRecorder(function)

    def bind_span(self, event: TraceEvent) -> SpanRecorder:  # noqa: ARG002 -- one for all
        return self._recorder

    def bind_span_props(
        self,
        event: TraceEvent,  # noqa: ARG002 -- as above
    ) -> Callable[[dict[str, object]], SpanRecorder]:
        return lambda _: self._recorder


class _NoFunction:
    """The trace function while none is set: it binds recorders that do nothing."""

    def __init__(self) -> None:
        # The count is not used: a cell is the cheapest callable, since it is never guarded.
        self._recorder = Cell().increment
        by_props = PropsRecorder((), {(): self._recorder}, lambda *_: self._recorder)
        self._props_recorder = by_props.record
        self._spans = _NoSpans()

    def __call__(self, event: TraceEvent) -> None:
        pass

    def share_key(self, object: TracedObject, parent_object: TracedObject | None) -> Hashable:  # noqa: ARG002
        return object.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:  # noqa: ARG002
        return self._recorder

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:  # noqa: ARG002
        return self._props_recorder

    def bind_span(self, event: TraceEvent) -> SpanRecorder:  # noqa: ARG002
        return self._spans

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], SpanRecorder]:  # noqa: ARG002
        return lambda _: self._spans


class _NoSpans:
    """A recorder of spans that does nothing; the spans are still upstream of those inside them."""

    def __init__(self) -> None:
        self.durations: list[float] = []
        self.start = Cell().increment

    def end(self, event: SpanEvent) -> None:
        pass

    def edge(self, upstream: Upstream) -> Callable[[], object]:  # noqa: ARG002
        return self.start

    def fold(self) -> None:
        self.durations.clear()


_NO_FUNCTION = _NoFunction()
