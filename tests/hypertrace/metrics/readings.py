"""Readings of `Metrics` for tests: the numbers, by label values."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from hypertrace.metrics import HistogramReading, declarations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypertrace.metrics import Metrics, Reading

    Values = dict[tuple[Any, ...], float]

CALLS = declarations.CALLS.name
DURATIONS = declarations.DURATIONS.name
COUNT, SUM, BUCKET = f"{DURATIONS}_count", f"{DURATIONS}_sum", f"{DURATIONS}_bucket"
EXCEPTIONS = declarations.EXCEPTIONS.name
OPEN = declarations.IN_PROGRESS.name
EDGES = declarations.EDGES.name
OVERFLOW = "<overflow>"


def rows(reading: Reading) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Give name, labels and value of each number; a histogram has several.

    Labels without a value are left out; the label `le` of a bucket is a number.
    """
    for family in reading.families:
        for point in family.points:
            pairs = zip(family.label_names, point.labels, strict=True)
            labels: dict[str, Any] = {name: value for name, value in pairs if value}
            if isinstance(point.value, HistogramReading):
                bounds = (*point.value.bounds, math.inf)
                for bound, value in zip(bounds, accumulate(point.value.counts), strict=True):
                    yield f"{family.name}_bucket", labels | {"le": bound}, value
                yield f"{family.name}_count", labels, point.value.count
                yield f"{family.name}_sum", labels, point.value.sum
            elif isinstance(point.value, int | float):
                yield family.name, labels, point.value


def values_in(reading: Reading, name: str, *labels: str) -> Values:
    """Sum up the numbers of a name, by the values of some labels; None where there is no value."""
    found: Values = defaultdict(float)
    for row, has, value in rows(reading):
        if row == name:
            found[tuple(has.get(label) for label in labels)] += value
    return dict(found)


def values(metrics: Metrics, name: str, *labels: str) -> Values:
    return values_in(metrics.read(), name, *labels)


def samples(metrics: Metrics, name: str = CALLS) -> list[tuple[dict[str, Any], float]]:
    return [(labels, value) for row, labels, value in rows(metrics.read()) if row == name]


def labels_of(metrics: Metrics, name: str = CALLS) -> list[dict[str, Any]]:
    return [labels for labels, _ in samples(metrics, name)]


def only(metrics: Metrics) -> dict[str, Any]:
    (labels,) = labels_of(metrics)
    return labels


def by(name: str, metrics: Metrics) -> dict[str | None, float]:
    """Sum up the calls by the values of one label."""
    return {value: count for (value,), count in values(metrics, CALLS, name).items()}


def total(metrics: Metrics) -> float:
    return sum(value for _, value in samples(metrics))
