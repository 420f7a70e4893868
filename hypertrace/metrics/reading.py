"""Readings: families of metrics and their points at one moment, and differences between two."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add, sub
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .declarations import Declaration, Kind
    from .series import Series


class Exemplar(NamedTuple):
    """A span that stands for those of its bucket."""

    labels: Mapping[str, str]
    value: float
    """Seconds it took."""
    timestamp: float
    """When it ended, in seconds since the epoch."""


@dataclass(slots=True)  # not frozen, which would triple what it costs to make one
class HistogramReading:
    """A histogram at one moment, consistent in itself.

    Attributes:
        bounds: upper bounds of the buckets, without infinity.
        counts: how many values are in each bucket, the last one up to infinity; not cumulative.
        sum: of all values.
        exemplars: by index of the bucket, the last exemplar in it.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: Mapping[int, Exemplar]

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def plus(self, other: HistogramReading) -> HistogramReading:
        """Return the values of both, which have the same buckets."""
        counts = tuple(map(add, self.counts, other.counts))
        exemplars = {**self.exemplars, **other.exemplars}
        return HistogramReading(self.bounds, counts, self.sum + other.sum, exemplars)

    def since(self, previous: HistogramReading) -> HistogramReading:
        """Return what came in after `previous`, an earlier reading of the same histogram."""
        counts = tuple(map(sub, self.counts, previous.counts))
        total = self.sum - previous.sum
        return HistogramReading(self.bounds, counts, total, self.exemplars)


Value: TypeAlias = "int | float | HistogramReading"


class Point(NamedTuple):
    """The value of one series.

    Labels without a value are empty text.
    """

    labels: tuple[str, ...]
    """Values of the labels, in the order of the family's `label_names`."""
    value: Value


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one metric at one moment.

    The series and their values are held in two columns, which costs less than an object for each
    point: there may be a hundred thousand of them.

    Attributes:
        declaration: what the metric is.
        label_names: of all its labels.
        series: an object for each series, the same one in every reading.
        values: a number or a `HistogramReading` for each series.
    """

    declaration: Declaration
    label_names: tuple[str, ...]
    series: Sequence[Series]
    values: Sequence[Value]

    @property
    def name(self) -> str:
        """Of the metric, as Prometheus shows it."""
        return self.declaration.name

    @property
    def kind(self) -> Kind:
        """Of the metric: `counter`, `gauge`, `histogram` or `info`."""
        return self.declaration.kind

    @property
    def unit(self) -> str:
        """Of the values, as `seconds`; empty for counts."""
        return self.declaration.unit

    @property
    def description(self) -> str:
        """One sentence about the metric."""
        return self.declaration.description

    @property
    def points(self) -> Iterator[Point]:
        """The series with their values."""
        for series, value in zip(self.series, self.values, strict=True):
            yield Point(series.labels, value)

    def since(self, previous: Family) -> Family:
        """Return what came in after `previous`; gauges and infos are as they are now.

        Series whose values did not change are left out.
        """
        if self.kind not in {"counter", "histogram"}:
            return self
        before = dict(zip(previous.series, previous.values, strict=True))
        changed: list[tuple[Series, Value]] = []
        for series, value in zip(self.series, self.values, strict=True):
            earlier = before.get(series)
            difference = value if earlier is None else _difference(value, earlier)
            if difference is not None:
                changed.append((series, difference))
        return Family(
            self.declaration,
            self.label_names,
            [series for series, _ in changed],
            [value for _, value in changed],
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """All families of one `Metrics` at one moment.

    Attributes:
        time: when it was taken, in seconds since the epoch.
        families: in the order in which they are shown.
        labels: of the whole process, and so of each series; not in `label_names`.
    """

    time: float
    families: Sequence[Family] = field(default_factory=tuple)
    labels: Mapping[str, str] = field(default_factory=dict)

    def family(self, name: str) -> Family:
        """Return the family of a metric.

        Raises:
            KeyError: there is none of this name.
        """
        for family in self.families:
            if family.name == name:
                return family
        raise KeyError(f"no family {name!r}; there are {', '.join(f.name for f in self.families)}")

    def since(self, previous: Reading) -> Reading:
        """Return what came in after `previous`, an earlier reading of the same `Metrics`."""
        before = {family.name: family for family in previous.families}
        return Reading(
            self.time,
            [f.since(before[f.name]) if f.name in before else f for f in self.families],
            self.labels,
        )


def _difference(value: Value, earlier: Value) -> Value | None:
    """Return what was added to a value; None if nothing was."""
    if isinstance(value, HistogramReading) and isinstance(earlier, HistogramReading):
        return None if value.counts == earlier.counts else value.since(earlier)
    if isinstance(value, HistogramReading) or isinstance(earlier, HistogramReading):
        return value
    return value - earlier or None
