"""Writer of StatsD: the lines of one metric."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from decimal import Decimal
from functools import lru_cache
from math import isfinite, nextafter
from typing import TYPE_CHECKING, TypeAlias

from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading
from hypertrace.metrics.samples import NOTHING, Sample

from .values import Group, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from hypertrace.metrics import Family
    from hypertrace.metrics.reading import Value
    from hypertrace.metrics.series import Series

    Amount: TypeAlias = "tuple[tuple[str, Series, str | float], float]"
    """How much of a part of a series."""
    Values: TypeAlias = "tuple[Sequence[float], Sequence[Group], int, int]"
    """Bounds of buckets, values of equal weight, and from which to which of these a line has."""
    Said: TypeAlias = "float | tuple[str, float] | Values | None"
    """What a line says: an amount, one of a part, values, or nothing to add up."""

ESTIMATES = 20
"""Values that stand for those of one series in one reading, where receivers ignore weights."""

MOST_PACKED = 1432
"""Bytes of a line with several values, and of the smallest packets."""

_MORE = "more"
"""Stands for infinity among the bounds of buckets."""


def no_sample(_: Series) -> Sample:
    """Return no values, for a series of which none are kept."""
    return NOTHING


class Lines:
    """Lines of all metrics, and what they say.

    There are no objects of the lines, as there may be very many: the garbage collector of the
    application would look at each.

    Attributes:
        texts: of the lines. A text may have several lines, which stay together.
    """

    def __init__(self) -> None:
        """Have no line."""
        self.texts: list[bytes] = []
        self._starts: list[int] = []
        self._writers: list[Writer] = []

    def add(self, writer: Writer) -> None:
        """Add the lines of a metric."""
        self._starts.append(len(self.texts))
        self._writers.append(writer)
        self.texts += writer.texts

    def amounts(self, end: int, start: int = 0) -> Iterator[Amount]:
        """Yield what some of the lines say, by parts of series.

        Args:
            end: index of the line behind them.
            start: index of the first one.
        """
        for at in range(start, end):
            found = bisect_right(self._starts, at) - 1
            yield from self._writers[found].amounts(at - self._starts[found])


class Writer:
    """Writes the lines of one metric.

    Attributes:
        texts: of all lines that were written.
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
        self.texts: list[bytes] = []
        self._series: list[Series] = []
        self._said: list[Said] = []
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
        if isinstance(value, HistogramReading) and self._has_values:
            self._values(series, value, f"{self._values_head}{before}:", end)
            return
        if isinstance(value, int | float):
            if self._is_counter:
                self._counter(series, "", value, before, end)
            else:
                self._gauge(series, "", value, before, end)
            return
        if isinstance(value, ExponentialReading) and self._has_values:
            self._values(series, value.classic(), f"{self._values_head}{before}:", end)
            return
        self._counter(series, ".count", value.count, before, end)
        self._counter(series, ".sum", value.sum, before, end)
        if isinstance(value, SummaryReading):
            for at, found in value.quantiles.items():
                part = f".p{_number(round(at * 100, 6)).replace('.', '_')}"
                self._gauge(series, part, found, before, end)

    def amounts(self, at: int) -> Iterator[Amount]:
        """Yield what a line says, by parts of its series.

        Args:
            at: index of the line.
        """
        series, name = self._series[at], self._name
        match self._said[at]:
            case None:
                return
            case (str(part), amount):
                yield (name, series, part), amount
            case (bounds, groups, first, end):
                keys = _keys(bounds)
                found = [(bucket, weight, each) for bucket, weight, some in groups for each in some]
                for bucket, weight, each in found[first:end]:
                    place = bisect_left(bounds, each) if bucket is None else bucket
                    yield (name, series, keys[place]), weight
                    yield (name, series, "sum"), weight * each
            case amount:
                yield (name, series, ""), amount

    def _write(self, series: Series, text: str, said: Said) -> None:
        self.texts.append(text.encode())
        self._series.append(series)
        self._said.append(said)

    def _new(self, series: Series, part: str | float, amount: float) -> float:
        """Return what of an amount the receiver does not have."""
        return amount - self._arrived.get((self._name, series, part), 0)

    def _counter(self, series: Series, part: str, amount: float, before: str, end: str) -> None:
        if self._arrived:
            amount = self._new(series, part, amount)
        if amount and isfinite(amount):
            number = amount if type(amount) is int else _number(amount)  # most are
            text = f"{self._head}{part}{before}:{number}|c{end}"
            self._write(series, text, (part, amount) if part else amount)

    def _gauge(self, series: Series, part: str, value: float, before: str, end: str) -> None:
        if isfinite(value):
            start = f"{self._head}{part}{before}:"
            text = f"{start}{value if type(value) is int else _number(value)}|g{end}"
            # A sign means a difference to what the receiver has.
            text = f"{start}0|g{end}\n{text}" if value < 0 else text
            self._write(series, text, None)

    def _values(self, series: Series, value: HistogramReading, start: str, end: str) -> None:
        counts, total = value.counts, value.sum
        if self._arrived:
            pairs = zip(_keys(value.bounds), counts, strict=True)
            counts = tuple(int(self._new(series, *pair)) for pair in pairs)
            total = self._new(series, "sum", total)
        most = 1 if self._packs else ESTIMATES
        bounds, kind = value.bounds, "d" if self._packs else "ms"
        for weight, groups in _by_weight(grouped(bounds, counts, total, self._take(series), most)):
            rest = f"|{kind}{_rate(weight)}{end}"
            texts = [_value(each * self._factor) for _, _, values in groups for each in values]
            room = MOST_PACKED - len(start) - len(rest) if self._packs else 0
            for first, last in _ranges(texts, room):
                text = f"{start}{':'.join(texts[first:last])}{rest}"
                self._write(series, text, (bounds, groups, first, last))


def _keys(bounds: Sequence[float]) -> tuple[str | float, ...]:
    """Return what stands for each bucket among the parts of a series."""
    return (*bounds, _MORE)


def _by_weight(groups: Sequence[Group]) -> Iterable[tuple[int, Sequence[Group]]]:
    """Return groups of equal weight together."""
    if len(groups) == 1:
        return ((groups[0][1], groups),)
    found: dict[int, list[Group]] = {}
    for group in groups:
        found.setdefault(group[1], []).append(group)
    return found.items()


def _ranges(texts: Sequence[str], room: int) -> Iterable[tuple[int, int]]:
    """Return the indexes of texts which together, with colons between, have room; one at least."""
    if len(texts) == 1:
        return ((0, 1),)
    found: list[tuple[int, int]] = []
    first = size = 0
    for at, text in enumerate(texts):
        size += len(text) + 1
        if size > room + 1 and at > first:
            found.append((first, at))
            first, size = at, len(text) + 1
    found.append((first, len(texts)))
    return found


def _value(value: float) -> str:
    """Return a value with nine digits, which is a nanosecond of a second."""
    text = f"{value:.9g}"
    if "e" not in text:
        return text
    if abs(value) > 1:
        return format(Decimal(text), "f")
    return f"{value:.12f}".rstrip("0").rstrip(".")


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
