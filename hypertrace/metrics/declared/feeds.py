"""Feeds: what each declared metric records of events, and the series it records them in."""

from __future__ import annotations

from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from hypertrace import COMPILED, SpanEvent
from hypertrace.patterns import EventPattern

from .guard import is_kept
from .kinds import Counter, LastValue
from .tags import MetricTags
from .units import ratio
from .values import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from hypertrace import TracedObject, TraceEvent
    from hypertrace.metrics.labels import Labeller
    from hypertrace.metrics.series import SeriesTable

    from .kinds import DeclaredMetric

    Scaled = tuple[Callable[[float], object], float, float]

_PLAIN = frozenset(map(id, (str, int, float, bool, type(None))))
"""Types by their ids; their values are recorded in the same way if they and the types are equal."""


class Feed:
    """What one declared metric records of the events that it is about. Any thread may use it.

    Attributes:
        metric: its declaration.
        table: its series.
        tags: finds the label values of events.
        values: finds their numbers; None for a `Counter`.
    """

    def __init__(
        self,
        metric: DeclaredMetric,
        table: SeriesTable[Any],
        labeller: Labeller,
        count_invalid: Callable[[str], object],
    ) -> None:
        """Record what a declaration says.

        Args:
            metric: the declaration.
            table: its series.
            labeller: makes the texts of labels.
            count_invalid: is called with the metric's name for each value that is no number.
        """
        self.metric: DeclaredMetric = metric
        self.table: SeriesTable[Any] = table
        self.tags: MetricTags = MetricTags(metric, labeller)
        self.values: Values | None = None if isinstance(metric, Counter) else Values(metric)
        self._has_predicates = metric.keep is not None or metric.drop is not None
        self._pattern = EventPattern(metric.of, metric.id)
        self._count_invalid = count_invalid
        # Before the first character that stands for others.
        self._head = (metric.of or "").partition("*")[0].partition("?")[0].partition("[")[0]

    @property
    def needs_event(self) -> bool:
        """Whether a function of the application is called with each event."""
        return self._has_predicates or (self.values is not None and self.values.needs_event)

    @property
    def is_timed(self) -> bool:
        """Whether it measures how long spans took: a `trace()` is no measurement."""
        return self.values is not None and self.values.is_timed

    def matches(self, event: TraceEvent) -> bool:
        """Whether the metric is about the events of an event's call site."""
        return self._pattern.matches(event)

    def record(self, event: TraceEvent) -> None:
        """Record one event that the metric is about.

        It raises nothing that values or functions raise, unless the trace function is strict.
        """
        if self.is_timed and not isinstance(event, SpanEvent):
            return
        if not is_kept(self.metric, event):
            return
        if self.values is None:
            if (series := self.series_of(event)) is not None:
                series.cell.increment()
            return
        number = self.values.number_of(event)
        if self.is_valid(number) and (series := self.series_of(event)) is not None:
            self.adder(series)(number)  # type: ignore[arg-type]  # it is valid

    def is_valid(self, number: float | None) -> bool:
        """Whether there is a number; counts one that is invalid."""
        if number is None:
            return False
        if number == number:  # noqa: PLR0124 -- but for `INVALID`
            return True
        self._count_invalid(self.metric.name)
        return False

    def adder(self, series: Any) -> Callable[[float], object]:
        """Return what adds a number to a series."""
        name = self.metric.mode if isinstance(self.metric, LastValue) else "add"
        return getattr(series, name)  # type: ignore[no-any-return]  # `add` or `set`

    def series_of(self, event: TraceEvent) -> Any:
        """Return the series of an event; None if a function of a tag raised."""
        texts = self.tags.values_of(event)
        return None if texts is None else self.table.get((texts, ()), event.caller)

    def scaled(self, series: Any) -> Scaled | None:
        """Return what a `CellGroup` calls with the durations of spans, for a series.

        None if the compiled core cannot do that without running Python code.
        """
        add = self.adder(series)
        if COMPILED and type(add) is not BuiltinMethodType:
            return None
        return (add, *ratio(self.metric.converted_from, self.metric.unit))

    def may_take(self, class_name: str) -> bool:
        """Whether the metric may be about events of objects with this class name."""
        start = f"{class_name}."
        return start.startswith(self._head) or self._head.startswith(start)

    def key_of(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        """Return a key that is equal for objects whose calls are recorded in the same way.

        None if there is none, since the event must be that of the object itself.
        """
        if self.is_timed:
            return self.tags.of_objects(traced, parent)
        if self.needs_event:
            return None
        value = None if self.values is None else self.values.of_objects(traced, parent)
        if id(type(value)) not in _PLAIN:
            return None
        return self.tags.of_objects(traced, parent), type(value), value
