"""Writer of StatsD: the lines of one metric."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal
from functools import lru_cache
from math import isfinite, nextafter
from typing import TYPE_CHECKING

from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading
from hypertrace.metrics.samples import NOTHING, Sample

from .statsd_packets import Line
from .statsd_values import Group, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from hypertrace.metrics import Family
    from hypertrace.metrics.reading import Value
    from hypertrace.metrics.series import Series

    from .statsd_packets import Amount

ESTIMATES = 20
"""Values that stand for those of one series in one reading, where receivers ignore weights."""

MOST_PACKED = 1432
"""Bytes of a line with several values, and of the smallest packets."""

_MORE = "more"
"""Stands for infinity among the bounds of buckets."""


def no_sample(_: Series) -> Sample:
    """Return no values, for a series of which none are kept."""
    return NOTHING


class Writer:
    """Writes the lines of one metric.

    Attributes:
        lines: all that were written.
    """

    def __init__(
        self,
        prefix: str,
        family: Family,
        arrived: Mapping[object, float],
        take: Callable[[Series], Sample],
        *,
        packs: bool,
    ) -> None:
        """Write no line yet.

        Args:
            prefix: of the name.
            family: the metric.
            arrived: amounts that a receiver has, by part of a series; empty for none.
            take: returns the values of a series that were kept.
            packs: the receiver reads several values in a line, and uses their weights.
        """
        self.lines: list[Line] = []
        self._family = family
        self._name = family.name
        self._head = prefix + family.name
        self._is_counter = family.kind == "counter"
        self._arrived = arrived
        self._take = take
        self._packs = packs
        is_timed = family.unit == "seconds"
        self._factor = 1_000 if is_timed else 1
        self._has_values = is_timed or packs
        if is_timed:
            self._values_head = f"{self._head.removesuffix('_seconds')}_milliseconds"
        else:
            self._values_head = self._head

    def write(self, series: Series, value: Value, before: str, end: str) -> None:
        """Write the lines of one series.

        Args:
            series: whose value it is.
            value: what came in.
            before: what is between the name and the value.
            end: what is behind the value.
        """
        if isinstance(value, int | float):
            if self._is_counter:
                self._counter(series, "", value, before, end)
            else:
                self._gauge("", value, before, end)
            return
        if not isinstance(value, SummaryReading) and self._has_values:
            if isinstance(value, ExponentialReading):
                value = value.classic()
            self._values(series, value, f"{self._values_head}{before}:", end)
            return
        self._counter(series, ".count", value.count, before, end)
        self._counter(series, ".sum", value.sum, before, end)
        if isinstance(value, SummaryReading):
            for at, found in value.quantiles.items():
                part = f".p{_number(round(at * 100, 6)).replace('.', '_')}"
                self._gauge(part, found, before, end)

    def _new(self, series: Series, part: str | float, amount: float) -> float:
        """Return what of an amount the receiver does not have."""
        return amount - self._arrived.get((self._name, series, part), 0)

    def _counter(self, series: Series, part: str, amount: float, before: str, end: str) -> None:
        if self._arrived:
            amount = self._new(series, part, amount)
        if amount and isfinite(amount):
            text = f"{self._head}{part}{before}:{_number(amount)}|c{end}"
            self.lines.append(Line(text.encode(), (((self._name, series, part), amount),)))

    def _gauge(self, part: str, value: float, before: str, end: str) -> None:
        if isfinite(value):
            start = f"{self._head}{part}{before}:"
            text = f"{start}{_number(value)}|g{end}"
            # A sign means a difference to what the receiver has.
            text = f"{start}0|g{end}\n{text}" if value < 0 else text
            self.lines.append(Line(text.encode()))

    def _values(self, series: Series, value: HistogramReading, start: str, end: str) -> None:
        counts, total = value.counts, value.sum
        if self._arrived:
            keys = (*value.bounds, _MORE)
            pairs = zip(keys, counts, strict=True)
            counts = tuple(int(self._new(series, *pair)) for pair in pairs)
            total = self._new(series, "sum", total)
        most = 1 if self._packs else ESTIMATES
        groups = grouped(value.bounds, counts, total, self._take(series), most)
        said = _Said(self._name, series, value.bounds)
        if self._packs:
            self._packed(groups, said, start, end)
        else:
            for bucket, weight, values in groups:
                rest = f"|ms{_rate(weight)}{end}"
                for each in values:
                    text = f"{start}{_value(each * self._factor)}{rest}"
                    group = Group(bucket, weight, (each,))
                    self.lines.append(Line(text.encode(), said.amounts([group])))

    def _packed(self, groups: Iterable[Group], said: _Said, start: str, end: str) -> None:
        """Write values of equal weight in one line, or in few."""
        by_weight: dict[int, list[Group]] = {}
        for group in groups:
            by_weight.setdefault(group.weight, []).append(group)
        for weight, some in by_weight.items():
            rest = f"|d{_rate(weight)}{end}"
            room = MOST_PACKED - len(start) - len(rest) + 1
            texts: list[str] = []
            held: list[Group] = []
            size = 0
            for group in some:
                first = 0
                for at, each in enumerate(group.values):
                    text = _value(each * self._factor)
                    size += len(text) + 1
                    if size > room and texts:
                        if at > first:
                            held.append(group.part(first, at))
                        self._pack(texts, held, said, start, rest)
                        texts, held, size, first = [], [], len(text) + 1, at
                    texts.append(text)
                held.append(group.part(first, len(group.values)))
            self._pack(texts, held, said, start, rest)

    def _pack(
        self, texts: list[str], groups: list[Group], said: _Said, start: str, rest: str
    ) -> None:
        text = f"{start}{':'.join(texts)}{rest}"
        self.lines.append(Line(text.encode(), said.amounts(groups)))


class _Said:
    """What lines say of the values of one series."""

    __slots__ = ("_bounds", "_name", "_series")

    def __init__(self, name: str, series: Series, bounds: Sequence[float]) -> None:
        self._name = name
        self._series = series
        self._bounds = bounds

    def amounts(self, groups: Sequence[Group]) -> Iterable[Amount]:
        """Return the amounts of a line with some values, which are made when they are needed."""
        return _Amounts(self, groups)

    def of(self, groups: Sequence[Group]) -> Iterator[Amount]:
        """Yield the amounts of a line with some values."""
        keys = (*self._bounds, _MORE)
        for bucket, weight, values in groups:
            for value in values:
                at = bisect_left(self._bounds, value) if bucket is None else bucket
                yield (self._name, self._series, keys[at]), weight
                yield (self._name, self._series, "sum"), weight * value


class _Amounts:
    """The amounts of one line: most lines arrive, or fail, together with all others."""

    __slots__ = ("_groups", "_said")

    def __init__(self, said: _Said, groups: Sequence[Group]) -> None:
        self._said = said
        self._groups = groups

    def __iter__(self) -> Iterator[Amount]:
        return self._said.of(self._groups)


def _value(value: float) -> str:
    """Return a value with nine digits, which is a nanosecond of a second."""
    text = f"{value:.9g}"
    return format(Decimal(text), "f") if "e" in text else text


def _number(value: float) -> str:
    """Return a number without an exponent, which receivers take for something else."""
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    return format(Decimal(text), "f") if "e" in text else text


@lru_cache(4_096)
def _rate(weight: int) -> str:
    """Return the sample rate of a value that stands for so many."""
    if weight == 1:
        return ""
    rate = 1 / weight
    # Receivers drop the fraction of the weight: it must not be below the whole number.
    return f"|@{_number(rate if 1 / rate >= weight else nextafter(rate, 0.0))}"
