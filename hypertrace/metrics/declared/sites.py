"""Sites: recorders of the events of one call site, for the built-in and the declared metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hypertrace import Caller, PropsRecorder, SpanEvent, TracedObject, TraceEvent
from hypertrace.cells import CellGroup
from hypertrace.inspection import are_texts
from hypertrace.metrics.labels import Labeller
from hypertrace.metrics.recorders import PropsIndex, SpansRecorder, props_recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hypertrace import Cell, Upstream
    from hypertrace.metrics.aggregations import Calls, Spans
    from hypertrace.metrics.functions import FunctionSeries
    from hypertrace.metrics.labels import Values

    from .feeds import Feed, Scaled

    Props = Mapping[str, object]

T = TypeVar("T")

MAX_KNOWN = 1_000
"""Combinations of values that a call site remembers: the props of several metrics may have many
more than there are series."""

_LARGE = 10**15
"""Up to it, integers are floats without loss, and numbers are finite."""
_NO_PROPS: Props = {}
_NO_OBJECT = TracedObject("", 0)


class DeclaredSite:
    """The events of one call site, which some declared metrics are about.

    Its recorders keep an event, and with it the props of an object, only where functions are called
    with events: there each tracer has its own recorders.
    """

    def __init__(self, feeds: Iterable[Feed], event: TraceEvent, functions: FunctionSeries) -> None:
        """Prepare to record.

        Args:
            feeds: of the metrics that are about these events.
            event: one of them, without the props of its call.
            functions: the series of the built-in metrics.
        """
        self._functions = functions
        self._site = functions.site_of(event)
        self._edge = functions.edge_of(event)
        self._feeds = tuple(feeds)
        self._counting: list[_Place] = []
        self._timing: list[_Place] = []
        self._measuring: list[_Place] = []
        self._others: list[Feed] = []
        for feed in self._feeds:
            place = _Place(feed, event)
            if feed.needs_event or not place.has_texts:
                self._others.append(feed)
            elif feed.is_timed:
                self._timing.append(place)
            else:
                (self._counting if feed.values is None else self._measuring).append(place)
        of_calls = [feed for feed in self._others if not feed.is_timed]
        self._with_events = _WithEvents(of_calls, event) if of_calls else None

    def calls(self) -> Callable[..., object]:
        """Return the recorder of calls without props."""
        if self._measuring or self._with_events:
            return self._calls_recorder().record
        return self._counters(_NO_PROPS)[0].increment

    def calls_with_props(self) -> Callable[[Props], object]:
        """Return the recorder of calls, called with their props."""
        if self._measuring or self._with_events:
            return self._calls_recorder().record

        # What may not be remembered is no group, but its method.
        def make(props: Props) -> Callable[[], object]:
            group, lasts = self._counters(props)
            return group if lasts else group.increment

        index = self._index(self._counting, make, lambda found: type(found) is CellGroup)
        return props_recorder(index)

    def spans(self) -> SpansRecorder:
        """Return the recorder of spans without props."""
        return self._spans_recorder(_NO_PROPS)

    def spans_with_props(self) -> Callable[[Props], SpansRecorder]:
        """Return what finds the recorder of spans by the props they start with."""
        if self._others or self._measuring:
            index = self._index([], self._event_recorder, _lasts)
        else:
            index = self._index(self._counting + self._timing, self._spans_recorder, _lasts)
        return index.find

    def _index(
        self,
        places: Iterable[_Place],
        make: Callable[[Props], T],
        is_lasting: Callable[[T], bool],
    ) -> PropsIndex[T]:
        """Return an index by the allowed props, and those that the tags of metrics look at."""
        labeller = self._functions.labeller
        looked = (name for place in places for name in place.tags.names_of_call_props)
        names = dict.fromkeys([*labeller.allowed, *looked])
        union = Labeller(dict.fromkeys(names, ""), labeller.max_length, object_ids=False)
        return _Index(union, make, is_lasting)

    def _calls_at(self, props: Props) -> Calls:
        return self._functions.calls_at(self._site, self._functions.labeller.of_props(props))

    def _counters(self, props: Props) -> tuple[CellGroup, bool]:
        """Return what counts calls with some props, and whether that may be remembered."""
        calls = self._calls_at(props)
        cells, lasts = [calls.cell], not self._functions.calls.is_overflow(calls)
        for place in self._counting:
            series = place.series(props)
            if series is not None:
                cells.append(series.cell)
            lasts = lasts and place.lasts(series)
        return CellGroup(tuple(cells)), lasts

    def _calls_recorder(self) -> _CallsRecorder:
        def make(props: Props) -> _Found:
            group, lasts = self._counters(props)
            return _Found(group.increment, [_Measure(one) for one in self._measuring], lasts)

        places = self._counting + self._measuring
        index = self._index(places, make, lambda found: found.lasts)
        return _CallsRecorder(index, self._with_events)

    def _spans_recorder(self, props: Props) -> DeclaredSpansRecorder:
        return self._recorder(props, None if self._others else self._ends(props))

    def _event_recorder(self, props: Props) -> DeclaredSpansRecorder:
        return self._recorder(props, None)

    def _recorder(self, props: Props, ends: _Ends | None) -> DeclaredSpansRecorder:
        functions = self._functions
        spans = functions.spans_at(self._site, functions.labeller.of_props(props))
        return DeclaredSpansRecorder(spans, functions, self._edge, self._feeds, ends)

    def _ends(self, props: Props) -> _Ends | None:
        """Return what counts spans that end well with the props they start with.

        None if that takes an event.
        """
        if any(place.value(props) is not None for place in self._measuring):
            return None
        _, caller, _ = self._site
        placed = Caller(caller.function_name, caller.filename, props=props)
        event = SpanEvent(None, _NO_OBJECT, None, placed, 0.0)  # of which only the end is looked at
        cells: list[Cell] = []
        scaled: list[Scaled] = []
        lasts = True
        for place in self._counting:
            series = place.series_of_end(event)
            if series is not None:
                cells.append(series.cell)
            lasts = lasts and place.lasts(series)
        for place in self._timing:
            if place.feed.metric.value != "duration":
                continue  # `busy`, which such spans do not have
            series = place.series_of_end(event)
            if series is not None:
                target = place.feed.scaled(series)
                if target is None:
                    return None
                scaled.append(target)
            lasts = lasts and place.lasts(series)
        return _Ends(tuple(cells), tuple(scaled), lasts)


class _Index(PropsIndex[T]):
    """Finds what belongs to the values of the allowed props, and of those that tags look at."""

    def __init__(
        self, labeller: Labeller, make: Callable[[Props], T], is_lasting: Callable[[T], bool]
    ) -> None:
        super().__init__(labeller, lambda _: make(_NO_PROPS), is_lasting, most=MAX_KNOWN)
        self._make_for = make

    def make(self, _: Values, props: Props) -> T:
        return self._make_for(props)


class _Place:
    """One metric at a call site."""

    __slots__ = ("call_prop", "caller", "feed", "otherwise", "tags")

    def __init__(self, feed: Feed, event: TraceEvent) -> None:
        self.feed = feed
        self.tags = feed.tags.at(event)
        self.caller = event.caller
        self.call_prop: str | None = None
        self.otherwise: object = None  # the value of a call that has none
        if feed.values is not None:
            self.call_prop = feed.values.call_prop
            self.otherwise = feed.values.of_objects(event.object, event.parent_object)

    @property
    def has_texts(self) -> bool:
        """Whether no function raised for a tag that all events have in common."""
        return self.tags.values(None) is not None

    def value(self, props: Props) -> object:
        """Return the value of an event whose call has some props; None without one."""
        value = None if self.call_prop is None else props.get(self.call_prop)
        return self.otherwise if value is None else value

    def series(self, props: Props) -> Any:
        """Return the series of a call; None if a function of a tag raised."""
        texts = self.tags.values(props)
        return None if texts is None else self.feed.table.get((texts, ()), self.caller)

    def series_of_end(self, event: SpanEvent) -> Any:
        """Return the series of a span; None if a function of a tag raised."""
        texts = self.tags.values_of(event)
        return None if texts is None else self.feed.table.get((texts, ()), self.caller)

    def lasts(self, series: Any) -> bool:
        """Whether it may be remembered that a series is that of some values."""
        return series is not None and not self.feed.table.is_overflow(series)


class _Found(NamedTuple):
    """What records the calls with some values of props."""

    increment: Callable[[], object]
    measures: list[_Measure]
    lasts: bool


class _Measure:
    """Records the numbers of calls with some values of the props that tags look at.

    The series is made at the first number.
    """

    __slots__ = ("_add", "_add_as_it_is", "_place", "_prop")

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._prop = place.call_prop or ""
        self._add: Callable[[float], object] | None = None
        self._add_as_it_is: Callable[[float], object] | None = None

    def record(self, props: Props) -> None:
        """Record the number of one call."""
        add = self._add_as_it_is
        if add is not None:
            value = props.get(self._prop)
            kind = type(value)
            if (kind is int or kind is float) and 0 <= value <= _LARGE:  # type: ignore[operator]
                add(value)  # type: ignore[arg-type]
                return
        place = self._place
        feed = place.feed
        number = feed.values.number(place.value(props))  # type: ignore[union-attr]  # it has one
        if not feed.is_valid(number):
            return
        add = self._add or self._found(props)
        if add is not None:
            add(number)  # type: ignore[arg-type]  # it is valid

    def _found(self, props: Props) -> Callable[[float], object] | None:
        """Return what adds a number to the series; None if a function of a tag raised."""
        place = self._place
        series = place.series(props)
        if series is None:
            return None
        add = place.feed.adder(series)
        if place.lasts(series):
            self._add = add
            if place.call_prop is not None and not place.feed.metric.converted_from:
                self._add_as_it_is = add
        return add


class _WithEvents:
    """Records calls in metrics whose functions are called with events."""

    def __init__(self, feeds: list[Feed], event: TraceEvent) -> None:
        self._feeds = feeds
        self._event = event

    def record(self, props: Props) -> None:
        """Record one call."""
        known, caller = self._event, self._event.caller
        event = TraceEvent(
            known.id,
            known.object,
            known.parent_object,
            Caller(
                caller.function_name,
                caller.filename,
                caller.module,
                caller.line,
                caller.column,
                props or None,
            ),
        )
        for feed in self._feeds:
            feed.record(event)


class _CallsRecorder(PropsRecorder):
    """Records calls whose props have numbers, or that functions are called with.

    It runs code of the application in `suppress_tracing`, and so is called directly.
    """

    __slots__ = ("_index", "_with_events")

    def __init__(self, index: PropsIndex[_Found], with_events: _WithEvents | None) -> None:
        super().__init__(index.names, {}, lambda *_: _nothing)
        self._index = index
        self._with_events = with_events

    def record(self, props: Props = _NO_PROPS) -> None:
        """Record one call."""
        index = self._index
        values = tuple(map(props.get, index.names))  # as `find`, without its call
        found = index.known.get(values) if are_texts(values) else None
        if found is None:
            found = index.made(values, props)
        found.increment()
        for measure in found.measures:
            measure.record(props)
        if self._with_events is not None:
            self._with_events.record(props)


def _nothing() -> None: ...


class _Ends(NamedTuple):
    """What counts spans that end well."""

    cells: tuple[Cell, ...]
    scaled: tuple[Scaled, ...]
    lasts: bool
    """Whether it may be remembered."""


class DeclaredSpansRecorder(SpansRecorder):
    """Records the spans of one call site in declared metrics, too.

    Attributes:
        lasts: whether it may be remembered for the props that spans start with.
    """

    __slots__ = ("_feeds", "lasts")

    def __init__(
        self,
        spans: Spans,
        functions: FunctionSeries,
        edge: Callable[[Upstream], Callable[[], object]] | None,
        feeds: tuple[Feed, ...],
        ends: _Ends | None,
    ) -> None:
        """Record in the series where spans start.

        Args:
            spans: of that series.
            functions: the series of the built-in metrics.
            edge: as in `SpansRecorder`.
            feeds: of the metrics that are about these spans.
            ends: what counts spans that end well; None if that takes an event.
        """
        super().__init__(spans, functions, edge, simple=functions.is_simple)
        self._feeds = feeds
        self.needs_busy: bool = any(feed.metric.value == "busy" for feed in feeds)
        self.lasts: bool = spans is not functions.overflow_spans and (ends is None or ends.lasts)
        own = self.durations
        self.durations: list[float] | CellGroup | None = None
        if own is not None and ends is not None:
            into = own.append if isinstance(own, CellGroup) else own
            self.durations = CellGroup(ends.cells, ((into, 1.0, 1.0), *ends.scaled))

    def end(self, event: SpanEvent) -> None:
        """Record the end of a span."""
        try:
            super().end(event)
        finally:
            for feed in self._feeds:
                feed.record(event)


def _lasts(recorder: DeclaredSpansRecorder) -> bool:
    return recorder.lasts
