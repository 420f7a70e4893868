"""Selections: events that are exported one by one, and what is read of each when it comes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from math import isfinite
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hypertrace import SpanEvent, suppress_tracing
from hypertrace.inspection import type_name
from hypertrace.metrics.labels import (
    CALLER_PROPS,
    EXCEPTION,
    OBJECT_PROPS,
    PARENT_PROPS,
    RAISED,
    RESULT,
)
from hypertrace.metrics.labels import clean as clean_name
from hypertrace.patterns import EventPattern

from .guard import is_kept
from .kinds import Counter, DeclaredMetric
from .registry import additions
from .tags import MetricTags
from .values import Values, checked_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypertrace import TraceEvent
    from hypertrace.metrics.labels import Labeller

Selected: TypeAlias = str | EventPattern | DeclaredMetric
Tag: TypeAlias = str | float

TIMESTAMP = "timestamp"
"""Prop of a call that has the time of its event."""

_LARGEST = 2**63 - 1
_LATEST = 2**63 - 2
"""In nanoseconds, and as far before the epoch: InfluxDB has no more."""
_SECOND = 1_000_000_000
_LEAST_NANOSECONDS = 10**16
"""From here on integers are nanoseconds: as seconds it would be in 300 million years."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class EventPoint(NamedTuple):
    """One event, as it was when it came. It refers to nothing of the application."""

    name: str
    """Of the declared metric, as it is shown; of an event that a pattern selects
    `Class.function`."""
    time: int
    """When it came, or its prop `timestamp`: nanoseconds since the epoch, in 64 bits."""
    value: float
    """The number that the declared metric measures; 1 of a `Counter` and of a pattern."""
    tags: Mapping[str, Tag]
    """The tags of the declared metric; for a pattern the labels that the metrics of functions have,
    with `result`, `exception`, `raised`, `duration` and `busy` of a span. Those without a value are
    left out. Numbers and truth values stay what they are; anything else is text."""
    number: int = 0
    """Counts the events of an exporter, from 1; those that are dropped have one, too."""


def checked_selections(events: Iterable[Selected]) -> list[EventPattern | DeclaredMetric]:
    """Return what selects events, with each declared metric once.

    Args:
        events: patterns on `Class.function`, `EventPattern` for those on trace ids, too, or
            declared metrics.

    Raises:
        TypeError: it is something else.
        ValueError: a pattern can match nothing, or two metrics of one name differ.
    """
    if isinstance(events, str | bytes | EventPattern | DeclaredMetric) or not isinstance(
        events, Iterable
    ):
        raise TypeError(
            "events must be several patterns or declared metrics, as ['Checkout.*'], not "
            f"{events!r}"
        )
    patterns: list[EventPattern | DeclaredMetric] = []
    declared: list[DeclaredMetric] = []
    for one in events:
        if isinstance(one, DeclaredMetric):
            declared.append(one)
        elif isinstance(one, EventPattern | str):
            patterns.append(EventPattern(one) if isinstance(one, str) else one)
        else:
            raise TypeError(
                "events must have patterns on 'Class.function', EventPattern(of, id), or declared "
                f"metrics as Counter('orders_total', of='Checkout.pay'), not {one!r}"
            )
    return patterns + additions({}, declared)


class EventSelection(NamedTuple):
    """The events that a declared metric is about, or that a pattern selects."""

    name: str
    """Under which the metric is shown; empty for a pattern."""
    pattern: EventPattern
    """Selects the call sites."""
    read: Callable[[TraceEvent], EventPoint | None]
    """Returns what is exported of an event of such a call site, None if the metric leaves it out.
    Any thread may call it. It raises only what functions of the declaration raise while the trace
    function is strict."""


def selection_of(
    selected: EventPattern | DeclaredMetric,
    labeller: Labeller,
    name_of: Callable[[str], str],
    count_invalid: Callable[[str], object],
) -> EventSelection:
    """Return a selection.

    Args:
        selected: what selects the events.
        labeller: makes the texts of tags, and knows the allowed props.
        name_of: returns the name under which a metric is shown.
        count_invalid: is called with it for each value that is no number.
    """
    if isinstance(selected, EventPattern):
        return EventSelection("", selected, _PatternReader(labeller).read)
    name = name_of(selected.name)
    reader = _MetricReader(selected, name, labeller, count_invalid)
    return EventSelection(name, EventPattern(selected.of, selected.id), reader.read)


class _PatternReader:
    """Reads of an event what the metrics of functions have as labels."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller
        self._props = {prop: clean_name(prop) for prop in labeller.allowed}

    def read(self, event: TraceEvent) -> EventPoint:
        labeller, caller, parent = self._labeller, event.caller, event.parent_object
        texts = zip(labeller.site_names, labeller.of_site(event), strict=True)
        tags: dict[str, Tag] = {label: text for label, text in texts if text}
        # Again, as numbers are texts there.
        self._add_props(tags, OBJECT_PROPS, event.object.props)
        if parent is not None:
            self._add_props(tags, PARENT_PROPS, parent.props)
        self._add_props(tags, CALLER_PROPS, caller.props)
        if isinstance(event, SpanEvent):
            tags |= {RESULT: event.result, "duration": event.duration}
            if event.exception is not None:
                tags[EXCEPTION] = labeller.text(type_name(event.exception))
            if event.raised is not None:
                tags[RAISED] = labeller.text(event.raised)
            if event.busy is not None:
                tags["busy"] = event.busy
        # Joined, not formatted: a subclass of str may have any `__format__`.
        name = labeller.text(".".join((event.object.class_name, caller.function_name)))  # noqa: FLY002
        return EventPoint(name, _time_of(event), 1, tags)

    def _add_props(
        self, tags: dict[str, Tag], prefix: str, props: Mapping[str, object] | None
    ) -> None:
        """Add the allowed ones of some props to the tags."""
        if props:
            for prop, name in self._props.items():
                if (value := props.get(prop)) is not None:
                    _add(tags, prefix + name, value, self._labeller)


class _MetricReader:
    """Reads of an event what a declared metric says."""

    def __init__(
        self,
        metric: DeclaredMetric,
        name: str,
        labeller: Labeller,
        count_invalid: Callable[[str], object],
    ) -> None:
        self._metric = metric
        self._name = name
        self._labeller = labeller
        self._tags = MetricTags(metric, labeller)
        self._values = None if isinstance(metric, Counter) else Values(metric)
        self._count_invalid = count_invalid

    def read(self, event: TraceEvent) -> EventPoint | None:
        values = self._values
        if values is not None and values.is_timed and not isinstance(event, SpanEvent):
            return None
        if not is_kept(self._metric, event):
            return None
        value = 1 if values is None else values.number_of(event)
        if value is None:
            return None
        if value != value:  # noqa: PLR0124 -- only `INVALID` differs from itself
            self._count_invalid(self._name)
            return None
        found = self._tags.items_of(event)
        if found is None:
            return None
        tags: dict[str, Tag] = {}
        for label, item in found.items():
            _add(tags, label, item, self._labeller)
        return EventPoint(self._name, _time_of(event), value, tags)


def _add(tags: dict[str, Tag], label: str, value: object, labeller: Labeller) -> None:
    """Add a value to some tags: a number as it is, anything else as a text that is not empty."""
    number = _number(value)
    tag = labeller.text(value) if number is None else number
    if tag != "":
        tags[label] = tag


def _number(value: object) -> float | None:
    """Return a value as it is if it is a truth value or a number, None if it is neither.

    Integers above 64 bits, and floats that are not finite, are none.
    """
    kind = type(value)
    if kind is str:
        return None
    if kind is bool:
        return value  # type: ignore[return-value]  # a bool
    if kind is int:
        return value if -_LARGEST <= value <= _LARGEST else None  # type: ignore[operator, return-value]
    if kind is float:
        return value if isfinite(value) else None  # type: ignore[arg-type, return-value]
    try:
        return checked_number(value)
    except (TypeError, ValueError):
        return None


def _time_of(event: TraceEvent) -> int:
    """Return the time of an event, in nanoseconds since the epoch."""
    props = event.caller.props
    given = props.get(TIMESTAMP) if props else None
    if given is not None:
        try:
            nanoseconds = suppress_tracing(_nanoseconds, given)
        except Exception:  # noqa: BLE001 -- whatever a value of the application raises
            nanoseconds = _LATEST + 1
        if -_LATEST <= nanoseconds <= _LATEST:
            return nanoseconds
    return time.time_ns()


def _nanoseconds(given: Any) -> int:
    if isinstance(given, datetime):
        return (given.astimezone(UTC) - _EPOCH) // _MICROSECOND * 1_000
    if isinstance(given, bool):
        raise TypeError("a truth value is no time")
    if hasattr(type(given), "__index__"):
        number = index(given)
        return number if abs(number) >= _LEAST_NANOSECONDS else number * _SECOND
    # Floats have no more than microseconds today.
    return round(checked_number(given) * 1_000_000) * 1_000
