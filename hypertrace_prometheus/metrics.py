"""From what is traced to the series of the metrics: the trace function behind the exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hypertrace import Cell, SpanEvent, Upstream, untraced

from . import exemplars
from . import labels as label
from .calls import Calls
from .recorders import PropsIndex, TimingsRecorder, props_recorder
from .series import SeriesTable
from .timings import Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from hypertrace import Caller, SpanRecorder, TracedObject, TraceEvent

    from .exemplars import ExemplarFunction
    from .labels import Labeller, Labels

    Props = Mapping[str, object]
    EdgeFunction = Callable[[Upstream], Callable[[], object]]
    Place = tuple[Caller, TracedObject | None]

T = TypeVar("T")

COUNTER = "function_counter_total"
"""The counter's name, unless the user renames it: with the word "counter" in it, as dashboards made
for the JavaScript exporter ask for it."""

DURATION = "function_duration_seconds"
EXCEPTIONS = "function_exceptions_total"
IN_PROGRESS = "function_in_progress"
EDGES = "function_edges_total"


class TraceMetrics:
    """Counts and times what is traced. Any thread may call it.

    Attributes:
        calls, timings, exceptions, edges: the series of the metrics; `edges` is None if they are
            not wanted.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        labeller: Labeller,
        *,
        counter_name: str,
        max_series: int,
        own_series: bool,
        bounds_of: Callable[[Labels], tuple[float, ...]],
        exemplar: ExemplarFunction | None,
        upstream: bool,
    ) -> None:
        """Start without series.

        Args:
            labeller: makes labels.
            counter_name: of the counter of calls.
            max_series: of each metric.
            own_series: the series of an object are its own, and go with it.
            bounds_of: the buckets for the durations of a series.
            exemplar: returns what a span is remembered by.
            upstream: count which function calls which.
        """
        self._labeller = labeller
        self._own_series = own_series
        self._exemplar = exemplar
        self._share_keys: set[Hashable] = set()
        self.calls = SeriesTable(counter_name, max_series, lambda _: Calls())
        self.timings = SeriesTable(DURATION, max_series, lambda labels: Timings(bounds_of(labels)))
        self.exceptions = SeriesTable(EXCEPTIONS, max_series, lambda _: Cell())
        # What finds no room there finds none here: spans are calls, too.
        self.calls.overflow.timings = self.timings.overflow
        self.edges = SeriesTable(EDGES, max_series, lambda _: Cell()) if upstream else None

    def __call__(self, event: TraceEvent) -> None:
        """Count one event; of a span that was not told when it started, its start, too."""
        labels, place = self._labels_of(event, event.caller.props), self._place(event)
        if isinstance(event, SpanEvent):
            recorder = self._recorder(labels, place, self._edge(event))
            recorder.start()
            if recorder.edge is not None and event.upstream is not None:
                recorder.edge(event.upstream)()
            recorder.end(event)
        else:
            self.calls.get(labels, *place).cell.increment()

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        """Return the labels that the events of a tracer have in common.

        None where each object has series of its own, and where there is no room for further
        series: what is bound for such a tracer must not outlive it.
        """
        if self._own_series:
            return None
        key = tuple(self._labeller.of_objects(traced, parent).items())
        if not self.calls.is_full:
            self._share_keys.add(key)
        return key if key in self._share_keys else None

    def of_class(self, name: str) -> Labels:
        """Return the label of a class, given its name."""
        return {label.CLASS: self._labeller.text(name)}

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        """Return what counts events like this one; it runs in C."""
        return self.calls.get(self._labels_of(event, None), *self._place(event)).cell.increment

    def bind_props(self, event: TraceEvent) -> Callable[[Props], object]:
        """Return what counts events like this one, each with props of its own."""
        labels, place, calls = self._labels_of(event, None), self._place(event), self.calls
        overflow = calls.overflow.cell.increment

        def make(props: Props) -> Callable[[], object]:
            more = self._labeller.of_props(label.CALLER_PROPS, props)
            return calls.get(labels | more, *place).cell.increment

        return props_recorder(self._index(make, lambda increment: increment != overflow))

    def bind_span(self, event: TraceEvent) -> SpanRecorder:
        """Return what records spans like this one."""
        return self._recorder(self._labels_of(event, None), self._place(event), self._edge(event))

    def bind_span_props(self, event: TraceEvent) -> Callable[[Props], SpanRecorder]:
        """Return what finds the recorder for spans like this one, each with props of its own."""
        labels, place, edge = self._labels_of(event, None), self._place(event), self._edge(event)

        overflow = self.timings.overflow
        # One for all, so that none is kept for each.
        overflowing = TimingsRecorder(overflow, self, edge, simple=self._is_simple())

        def make(props: Props) -> TimingsRecorder:
            more = self._labeller.of_props(label.CALLER_PROPS, props)
            recorder = self._recorder(labels | more, place, edge)
            return overflowing if recorder.timings is overflow else recorder

        return self._index(make, lambda recorder: recorder is not overflowing).find

    def timings_of(self, event: SpanEvent) -> Timings:
        """Return the timings of the series that a span ends in."""
        return self._timings_at(self._labels_of(event, event.caller.props), self._place(event))

    def count_ending(self, event: SpanEvent) -> None:
        """Count the exception that ended a span, if there is one."""
        if event.exception is not None:
            labels = self._labels_of(event, event.caller.props)
            labels[label.EXCEPTION] = self._labeller.text(label.type_name(event.exception))
            self.exceptions.get(labels, *self._place(event)).increment()

    def exemplar(self) -> Mapping[str, str] | None:
        """Return what to remember the span by that ends now.

        Raises:
            Exception: whatever the application's function raises, or a ValueError if what it
                returns is too long.
        """
        function = self._exemplar
        # In `untraced` what a signal handler traces is dropped: so only where there is one to ask.
        if function is None or exemplars.is_never(function):
            return None
        return untraced(exemplars.ask, function)

    def _labels_of(self, event: TraceEvent, props: Props | None) -> Labels:
        labels = self._labeller.of_call(event)
        return labels | self._labeller.of_props(label.CALLER_PROPS, props)

    def _place(self, event: TraceEvent) -> Place:
        # Not the event itself: a recorder that is shared must not keep an object's props. Tracers
        # of decorated functions number no object, and share their series: none goes with one.
        is_owner = self._own_series and event.object.id
        return event.caller, event.object if is_owner else None

    def _index(self, make: Callable[[Props], T], is_lasting: Callable[[T], bool]) -> PropsIndex[T]:
        names = tuple(self._labeller.allowed)
        return PropsIndex(names, make, is_lasting, self._labeller.text)

    def _recorder(self, labels: Labels, place: Place, edge: EdgeFunction | None) -> TimingsRecorder:
        timings = self._timings_at(labels, place)
        return TimingsRecorder(timings, self, edge, simple=self._is_simple())

    def _is_simple(self) -> bool:
        return exemplars.is_never(self._exemplar)

    def _edge(self, event: TraceEvent) -> EdgeFunction | None:
        edges, of_edge, caller = self.edges, self._labeller.of_edge, event.caller
        if edges is None:
            return None
        inner = Upstream(event.object.class_name, caller.function_name)
        # Objects share their edges, so no edge goes with an object.
        return lambda outer: edges.get(of_edge(outer, inner), caller).increment

    def _timings_at(self, labels: Labels, place: Place) -> Timings:
        calls = self.calls.get(labels, *place)
        if calls is self.calls.overflow:
            return self.timings.overflow
        timings = self.timings.get(labels, *place)
        # Another thread may have had the last room: these spans are in the overflow's calls.
        if timings is not self.timings.overflow:
            calls.timings = timings
        return timings
