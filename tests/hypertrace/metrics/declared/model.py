"""Model of declared metrics: what each records of a list of events, as their documentation says."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from hypertrace import SpanEvent
from hypertrace.metrics import Counter, Distribution, HistogramReading, LastValue, Sum, Summary
from hypertrace.metrics.labels import import_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypertrace import TraceEvent
    from hypertrace.metrics import Metrics
    from hypertrace.metrics.declared.kinds import DeclaredMetric

    Points = dict[tuple[str, ...], Any]

FACTORS = {("seconds", "milliseconds"): 1000.0, ("bytes", "kilobytes"): 0.001}
NUMBERS = (int, float, Decimal, Fraction)


def modelled(metric: DeclaredMetric, events: Iterable[TraceEvent]) -> tuple[Points, int]:
    """Return the points of a metric after some events, and how many values were invalid."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    invalid = 0
    for event in events:
        if not _is_about(metric, event):
            continue
        number = 1.0 if isinstance(metric, Counter) else _number(metric, event)
        if number is None:
            continue
        if math.isnan(number):
            invalid += 1
        else:
            texts = dict(metric.tag_values)
            labels = tuple(
                _text(_value(path, event), texts.get(label)) for label, path in metric.tags
            )
            found[labels].append(number)
    return {labels: _aggregated(metric, numbers) for labels, numbers in found.items()}, invalid


def points_of(metrics: Metrics, name: str) -> Points:
    """Return the points of a metric, as `modelled` does."""
    points: Points = {}
    for point in metrics.read().family(name).points:
        value: Any = point.value
        if isinstance(value, HistogramReading):
            value = (value.counts, rounded(value.sum))
        elif not isinstance(value, int | float):
            value = (value.count, rounded(value.sum))
        points[point.labels] = value
    return points


def invalid_of(metrics: Metrics, name: str) -> int:
    """Return how many values of a metric were invalid."""
    points = metrics.read().family("hypertrace_invalid_values_total").points
    return sum(point.value for point in points if point.labels == (name,))  # type: ignore[misc]


def rounded(number: float) -> float:
    """Return a number without the last digits, which depend on the order of additions."""
    return float(f"{number:.9g}")


def _is_about(metric: DeclaredMetric, event: TraceEvent) -> bool:
    name = f"{event.object.class_name}.{event.caller.function_name}"
    if metric.of is not None and not fnmatchcase(name, metric.of):
        return False
    if metric.id is not None and not fnmatchcase(event.id or "", metric.id):
        return False
    if metric.value in {"duration", "busy"} and not isinstance(event, SpanEvent):
        return False
    try:
        if metric.keep is not None and not metric.keep(event):
            return False
        return metric.drop is None or not metric.drop(event)
    except ZeroDivisionError:
        return False


def _number(metric: DeclaredMetric, event: TraceEvent) -> float | None:
    value: Any
    if callable(metric.value):
        value = metric.value(event)
    elif metric.value in {"duration", "busy"}:
        value = getattr(event, str(metric.value))
    else:
        value = _value(str(metric.value), event)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    number *= FACTORS.get((metric.converted_from, str(metric.unit)), 1.0)
    is_valid = math.isfinite(number) and not (isinstance(metric, Sum) and number < 0)
    return number if is_valid else math.nan


def _value(path: str, event: TraceEvent) -> Any:
    facts = {
        "class": event.object.class_name,
        "function": event.caller.function_name,
        "file": import_path(event.caller),
        "id": event.id,
        "result": getattr(event, "result", None),
        "exception": getattr(getattr(event, "exception", None), "__name__", None),
        "raised": getattr(event, "raised", None),
    }
    if path in facts:
        return facts[path]
    parent = event.parent_object
    places: dict[str, Any] = {
        "call": event.caller.props or {},
        "object": event.object.props or {},
        "parent": (None if parent is None else parent.props) or {},
    }
    scope, dot, name = path.partition(".")
    if dot:
        return places[scope].get(name)
    for props in places.values():
        if props.get(path) is not None:
            return props[path]
    return None


def _text(value: Any, texts: Any) -> str:
    if value is None:
        return ""
    if callable(texts):
        value = texts(value)
    elif texts is not None:
        value = dict(texts).get(value, value)
    text = str(value)
    return text if len(text) <= 256 else text[:255] + "…"


def _aggregated(metric: DeclaredMetric, numbers: list[float]) -> Any:
    if isinstance(metric, LastValue):
        return numbers[-1] if metric.mode == "set" else sum(numbers)
    if isinstance(metric, Distribution):
        buckets = metric.buckets or ()
        if metric.native:
            return len(numbers), rounded(sum(numbers))
        counts = Tally(bisect_left(buckets, number) for number in numbers)
        return tuple(counts[i] for i in range(len(buckets) + 1)), rounded(sum(numbers))
    if isinstance(metric, Summary):
        return len(numbers), rounded(sum(numbers))
    return sum(numbers)
