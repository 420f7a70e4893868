"""Readings: families of metrics and their points at one moment, and differences between two."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from math import ldexp
from operator import add, sub
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from . import exponential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        exponential: the same values in exponential buckets, if they are counted in these, too.
            Where processes share their counts, the two may differ by the values that were just
            being added, and by the last one of a worker that was killed.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: Mapping[int, Exemplar]
    exponential: ExponentialReading | None = None

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def plus(self, other: HistogramReading) -> HistogramReading:
        """Return the values of both, which have the same buckets."""
        counts = tuple(map(add, self.counts, other.counts))
        exemplars = {**self.exemplars, **other.exemplars}
        one, two = self.exponential, other.exponential
        both = one.plus(two) if one and two and one.schema == two.schema else None
        return HistogramReading(self.bounds, counts, self.sum + other.sum, exemplars, both)

    def since(self, previous: HistogramReading) -> HistogramReading:
        """Return what came in after `previous`, an earlier reading of the same histogram."""
        counts = tuple(map(sub, self.counts, previous.counts))
        total = self.sum - previous.sum
        now, before = self.exponential, previous.exponential
        added = now.since(before) if now and before else now
        return HistogramReading(self.bounds, counts, total, self.exemplars, added)


@dataclass(slots=True)
class ExponentialReading:
    """A native histogram at one moment: buckets that each are wider by the same factor.

    Bucket `i` has the values above `base ** (i - 1)` and up to `base ** i`, where `base` is
    `2 ** 2 ** -schema`, as Prometheus and OpenTelemetry have it.

    Attributes:
        schema: from 0 to 8.
        zero_threshold: values up to it, on either side of 0, are in the zero bucket.
        zero_count: how many values these are.
        positive: how many values above 0 are in each bucket that is not empty.
        negative: how many values below 0 are, by their absolute value.
        sum: of all values.
        exemplars: by index of the bucket of positive values, the last exemplar in it.
    """

    schema: int
    zero_threshold: float
    zero_count: int
    positive: Mapping[int, int]
    negative: Mapping[int, int]
    sum: float
    exemplars: Mapping[int, Exemplar]

    @property
    def count(self) -> int:
        """How many values there are."""
        return self.zero_count + sum(self.positive.values()) + sum(self.negative.values())

    def classic(self) -> HistogramReading:
        """Return the same values in buckets that end at powers of two, for what has no others.

        There is a bound for each power of two between the smallest and the largest value.
        """
        counts = {-bound: count for bound, count in self._octaves(self.negative).items()}
        if self.zero_count:
            counts[self.zero_threshold] = self.zero_count
        counts |= self._octaves(self.positive, up=1)
        bounds = tuple(sorted(counts))
        exemplars = {bisect_left(bounds, one.value): one for one in self.exemplars.values()}
        numbers = (*(counts[bound] for bound in bounds), 0)
        return HistogramReading(bounds, numbers, self.sum, exemplars, self)

    def _octaves(self, buckets: Mapping[int, int], up: int = 0) -> dict[float, int]:
        """Return counts by powers of two: the one below each bucket, or with `up` at its end."""
        octaves: Counter[int] = Counter()
        for index, count in buckets.items():
            octaves[(index - 1 >> self.schema) + up] += count
        if not octaves:
            return {}
        return {ldexp(1.0, o): octaves[o] for o in range(min(octaves), max(octaves) + 1)}

    def plus(self, other: ExponentialReading) -> ExponentialReading:
        """Return the values of both, which have the same schema."""
        return ExponentialReading(
            self.schema,
            self.zero_threshold,
            self.zero_count + other.zero_count,
            exponential.plus(self.positive, other.positive),
            exponential.plus(self.negative, other.negative),
            self.sum + other.sum,
            {**self.exemplars, **other.exemplars},
        )

    def since(self, previous: ExponentialReading) -> ExponentialReading:
        """Return what came in after `previous`, an earlier reading of the same histogram."""
        return ExponentialReading(
            self.schema,
            self.zero_threshold,
            self.zero_count - previous.zero_count,
            exponential.since(self.positive, previous.positive),
            exponential.since(self.negative, previous.negative),
            self.sum - previous.sum,
            self.exemplars,
        )


@dataclass(slots=True)
class SummaryReading:
    """A summary at one moment: all values since the start, and quantiles of the latest ones.

    Attributes:
        count: how many values there are since the start.
        sum: of all values since the start.
        quantiles: each with the value at it, which is at most 1 % wrong, in the last `max_age`
            seconds; not a number if there was no value in that time.
        window: how many values of that time are in each bucket, by its key; see
            `hypertrace.metrics.exponential.Scale`.
    """

    count: int
    sum: float
    quantiles: Mapping[float, float]
    window: Mapping[int, int]

    @classmethod
    def of(
        cls, count: int, total: float, wanted: Iterable[float], window: Mapping[int, int]
    ) -> SummaryReading:
        """Return a reading with the quantiles of a window.

        Args:
            count: how many values there are since the start.
            total: their sum.
            wanted: the quantiles, from 0 to 1.
            window: the buckets of the latest values.
        """
        scale = exponential.scale_of(exponential.SUMMARY_DIVISIONS)
        return cls(count, total, scale.quantiles(window, wanted), window)

    def plus(self, other: SummaryReading) -> SummaryReading:
        """Return the values of both, with the quantiles of this one."""
        window = exponential.plus(self.window, other.window)
        return SummaryReading.of(
            self.count + other.count, self.sum + other.sum, self.quantiles, window
        )

    def since(self, previous: SummaryReading) -> SummaryReading:
        """Return count and sum of what came in after `previous`, and the quantiles as now."""
        return SummaryReading(
            self.count - previous.count, self.sum - previous.sum, self.quantiles, self.window
        )


Value: TypeAlias = "int | float | HistogramReading | ExponentialReading | SummaryReading"


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
        values: for each series a number, or a `HistogramReading`, `ExponentialReading` or
            `SummaryReading`.
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
        """Of the metric: `counter`, `gauge`, `histogram`, `summary` or `info`."""
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
        if self.kind not in {"counter", "histogram", "summary"}:
            return self
        before = dict(zip(previous.series, previous.values, strict=True))
        changed: list[Series] = []
        differences: list[Value] = []
        for series, value in zip(self.series, self.values, strict=True):
            earlier = before.get(series)
            difference = value if earlier is None else _difference(value, earlier)
            if difference is not None:
                changed.append(series)
                differences.append(difference)
        return Family(self.declaration, self.label_names, changed, differences)


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
    if type(value) is int and type(earlier) is int:  # most are counts
        return value - earlier or None
    if isinstance(value, HistogramReading) and isinstance(earlier, HistogramReading):
        # A value that was just being added may be in one kind of buckets alone.
        is_same = value.counts == earlier.counts and _exponential(value) == _exponential(earlier)
        return None if is_same else value.since(earlier)
    if isinstance(value, ExponentialReading) and isinstance(earlier, ExponentialReading):
        return None if value.count == earlier.count else value.since(earlier)
    if isinstance(value, SummaryReading) and isinstance(earlier, SummaryReading):
        return None if value == earlier else value.since(earlier)
    if isinstance(value, int | float) and isinstance(earlier, int | float):
        return value - earlier or None
    return value


def _exponential(value: HistogramReading) -> int:
    return 0 if value.exponential is None else value.exponential.count
