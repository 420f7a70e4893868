"""Lines of StatsD: a reading as text that no label value can break, and packets of such lines."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from math import isfinite, nextafter
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from hypertrace.metrics import (
    DeclaredMetric,
    ExponentialReading,
    HistogramReading,
    SummaryReading,
)
from hypertrace.metrics.distinct import DISTINCT
from hypertrace.metrics.labels import CLASS, FUNCTION, TRACE_ID

from .statsd_datadog import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hypertrace.metrics import Declaration, Family, Reading
    from hypertrace.metrics.distinct import SetValues
    from hypertrace.metrics.reading import Value
    from hypertrace.metrics.series import Series

    Amount: TypeAlias = "tuple[tuple[str, Series, str | float], float]"

Tags: TypeAlias = Literal["none", "dogstatsd", "graphite"]

LONGEST_LINE = 8192
"""Bytes: the buffer of receivers, which would cut a longer line."""

SAMPLES = 20
"""Values that stand for those of one series in one reading, where receivers ignore weights."""

_FIRST = (CLASS, FUNCTION, TRACE_ID)
"""Labels of functions that come first in a path."""

_NO_ENVIRONMENT = Environment()

_EMPTY = "_"
"""Stands in a path for a label without a value."""

# ASCII alone: Node.js, which runs the StatsD daemon, drops the highest bit of each byte that comes
# over TCP, and so makes line breaks and colons of others.
_NO_PART = re.compile(r"[^A-Za-z0-9_-]")
_NO_TAG = re.compile(r"[^A-Za-z0-9_./-]")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class Line(NamedTuple):
    """Text that stays in one packet, and what it says: amounts of parts of series."""

    text: bytes
    amounts: Sequence[Amount] = ()


class Packet(NamedTuple):
    """Lines that are sent together."""

    text: bytes
    lines: Sequence[Line]


class Encoder:
    """Makes lines of readings. Immutable."""

    def __init__(self, prefix: str, tags: str, environment: Environment = _NO_ENVIRONMENT) -> None:
        """Know how names are written.

        Args:
            prefix: of all names, without a dot at its end; empty for none.
            tags: where labels go.
            environment: what each line of DogStatsD has besides.

        Raises:
            TypeError: `prefix` is no `str`.
            ValueError: `prefix` has other characters than names, or `tags` is none of the three.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {prefix!r}")
        prefix = prefix.removesuffix(".")
        if prefix and not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"prefix {prefix!r} is no beginning of a name: it takes letters, digits, '_' and "
                "'-', with single dots between"
            )
        if tags not in ("none", "dogstatsd", "graphite"):
            raise ValueError(f"tags must be 'none', 'dogstatsd' or 'graphite', not {tags!r}")
        self._prefix = prefix and f"{prefix}."
        self._tags = tags
        self._environment = environment

    def encode(self, reading: Reading, arrived: Mapping[object, float]) -> list[Line]:
        """Return the lines of what came in.

        Args:
            reading: what came in.
            arrived: amounts in it that a receiver has, by part of a series; empty for none.
        """
        lines: list[Line] = []
        for family in reading.families:
            if family.kind == "info" and self._tags == "none":
                continue
            ends = self.ends_of(family.declaration, family.label_names, reading.labels)
            writer = _Writer(self._prefix, family, ends, arrived, weighs=self._tags == "dogstatsd")
            for series, value in zip(family.series, family.values, strict=True):
                lines += writer.lines(series, value)
        return lines

    def set_lines(
        self,
        sets: Iterable[SetValues],
        sent: Mapping[object, Mapping[str, float]],
        common: Mapping[str, str],
    ) -> list[Line]:
        """Return a line for each value that some sets got.

        Args:
            sets: with the values that they have.
            sent: those that they had before, by name and labels of the set.
            common: labels of the process.
        """
        lines: list[Line] = []
        for metric, labels, values in sets:
            earlier = sent.get((metric.name, labels), {})
            before, end = self.ends_of(metric, metric.labels, common).of(labels)
            head = f"{self._prefix}{metric.name.removesuffix(DISTINCT)}{before}"
            lines += [
                Line(f"{head}:{value}|s{end}".encode())
                for value, came in values.items()
                if earlier.get(value) != came
            ]
        return lines

    def ends_of(
        self, declaration: Declaration, names: Sequence[str], common: Mapping[str, str]
    ) -> Ends:
        """Return what follows names and values in the lines of one metric.

        Args:
            declaration: of the metric.
            names: of its labels.
            common: labels of the process.
        """
        order = [*range(len(names))]
        if not isinstance(declaration, DeclaredMetric):  # whose tags stay as they are declared
            order.sort(key=lambda i: _FIRST.index(names[i]) if names[i] in _FIRST else len(_FIRST))
        environment = self._environment if self._tags == "dogstatsd" else _NO_ENVIRONMENT
        given = {name: value for name, value in common.items() if value}
        common = {**environment.tags, **given}
        return Ends(self._tags, names, order, common, environment.origin)


class Ends:
    """What follows the name and the value in the lines of one family, by its labels."""

    def __init__(
        self,
        tags: str,
        names: Sequence[str],
        order: Sequence[int],
        common: Mapping[str, str],
        origin: str,
    ) -> None:
        """Know what all lines have.

        Args:
            tags: where labels go.
            names: of the labels.
            order: of the labels in a path, by their index.
            common: tags of each line, by name.
            origin: what follows the tags.
        """
        self._tags = tags
        self._names = [tag_text(name) for name in names]
        self._order = order
        self._common = [tag_pair(*pair) for pair in common.items() if pair[0] not in names]
        self._origin = origin

    def of(self, values: Sequence[str]) -> tuple[str, str]:
        """Return what follows the name, and what follows the value."""
        if self._tags == "none":
            return "".join([f".{path_text(values[i])}" for i in self._order]), ""
        pairs = zip(self._names, values, strict=True)
        tags = [*self._common, *((name, tag_text(value)) for name, value in pairs if value)]
        if self._tags == "graphite":
            return "".join([f";{name}={value}" for name, value in tags]), ""
        return "", tags_text(tags) + self._origin


class _Writer:
    """Writes the lines of one family."""

    def __init__(
        self,
        prefix: str,
        family: Family,
        ends: Ends,
        arrived: Mapping[object, float],
        *,
        weighs: bool,
    ) -> None:
        self._head = prefix + family.name
        self._family = family
        self._name = family.name
        self._ends = ends
        self._arrived = arrived
        self._weighs = weighs

    def lines(self, series: Series, value: Value) -> Iterable[Line]:
        """Return the lines of one series."""
        self._series = series
        self._before, self._end = self._ends.of(series.labels)
        if isinstance(value, int | float):
            if self._family.kind == "counter":
                return self._counter("", value)
            return self._gauge("", value)
        if isinstance(value, SummaryReading):
            return self._summary(value)
        if isinstance(value, ExponentialReading):
            value = value.classic()
        if self._family.unit == "seconds":
            head = f"{self._head.removesuffix('_seconds')}_milliseconds"
            return self._samples(head, value, "ms", 1_000)
        if self._weighs:
            return self._samples(self._head, value, "h", 1)
        return self._totals(value)

    def _text(self, part: str, value: float, kind: str) -> str:
        return f"{self._head}{part}{self._before}:{_number(value)}|{kind}{self._end}"

    def _new(self, part: str | float, amount: float) -> float:
        """Return what of an amount the receiver does not have."""
        if not self._arrived:
            return amount
        return amount - self._arrived.get((self._name, self._series, part), 0)

    def _amount(self, part: str | float, amount: float) -> Amount:
        return (self._name, self._series, part), amount

    def _counter(self, part: str, amount: float) -> Sequence[Line]:
        amount = self._new(part, amount)
        if not (amount and isfinite(amount)):
            return ()
        return (Line(self._text(part, amount, "c").encode(), (self._amount(part, amount),)),)

    def _gauge(self, part: str, value: float) -> Sequence[Line]:
        if not isfinite(value):
            return ()
        text = self._text(part, value, "g")
        # A sign means a difference to what the receiver has.
        return (Line((f"{self._text(part, 0, 'g')}\n{text}" if value < 0 else text).encode()),)

    def _totals(self, value: HistogramReading | SummaryReading) -> Iterator[Line]:
        yield from self._counter(".count", value.count)
        yield from self._counter(".sum", value.sum)

    def _summary(self, value: SummaryReading) -> Iterator[Line]:
        yield from self._totals(value)
        for at, found in value.quantiles.items():
            yield from self._gauge(f".p{_number(round(at * 100, 6)).replace('.', '_')}", found)

    def _samples(
        self, head: str, value: HistogramReading, kind: str, factor: int
    ) -> Iterator[Line]:
        keys: tuple[str | float, ...] = (*value.bounds, "more")
        counts = [int(self._new(*pair)) for pair in zip(keys, value.counts, strict=True)]
        found = estimates(value.bounds, counts, self._new("sum", value.sum))
        per_value = (1 if self._weighs else SAMPLES) / max(1, sum(counts))
        for key, count, each in zip(keys, counts, found, strict=True):
            if count > 0:
                text = f"{head}{self._before}:{_number(round(each * factor, 6))}|{kind}"
                for weight in _weights(count, count * per_value):
                    yield Line(
                        f"{text}{_rate(weight)}{self._end}".encode(),
                        (self._amount(key, weight), self._amount("sum", weight * each)),
                    )


def estimates(bounds: Sequence[float], counts: Sequence[int], total: float) -> list[float]:
    """Return a value for each bucket that stands for those in it.

    All are at the same fraction of the width of their buckets: the one with which they add up to
    `total`. What is above the last bound is estimated from what the others leave of it.

    Args:
        bounds: upper bounds of the buckets, without infinity. The first bucket begins at 0, or has
            no width if its bound is negative.
        counts: how many values are in each bucket, the last one up to infinity.
        total: sum of all values.
    """
    lows = [min(0.0, *bounds[:1]), *bounds] if bounds else [0.0]
    widths = [high - low for low, high in zip(lows, bounds, strict=False)]
    base = sum(count * low for count, low in zip(counts, lows, strict=True))
    rest = total - base - sum(c * w for c, w in zip(counts, widths, strict=False)) / 2
    widths.append(max(0.0, 2 * rest / counts[-1]) if counts[-1] else 0.0)
    span = sum(count * width for count, width in zip(counts, widths, strict=True))
    fraction = min(1.0, max(0.0, (total - base) / span)) if span else 0.0
    return [low + fraction * width for low, width in zip(lows, widths, strict=True)]


def pack(lines: Iterable[Line], limit: int) -> Iterator[Packet]:
    """Fill packets with lines; one that is longer than the limit is alone.

    Args:
        lines: each stays in one packet.
        limit: bytes of a packet.
    """
    held: list[Line] = []
    size = -1
    for line in lines:
        if held and size + 1 + len(line.text) > limit:
            yield _packet(held)
            held, size = [], -1
        held.append(line)
        size += 1 + len(line.text)
    if held:
        yield _packet(held)


def _packet(lines: Sequence[Line]) -> Packet:
    return Packet(b"\n".join([line.text for line in lines]), lines)


@lru_cache(16_384)
def path_text(value: str) -> str:
    """Return a label's value as a part of a path."""
    return _NO_PART.sub("_", value) or _EMPTY


@lru_cache(16_384)
def tag_text(text: str) -> str:
    """Return a label's name or value as it stands in a tag."""
    return _NO_TAG.sub("_", text)


def tag_pair(name: str, value: str) -> tuple[str, str]:
    """Return a tag's name and value as they stand in it."""
    return tag_text(name), tag_text(value)


def tags_text(tags: Iterable[tuple[str, str]]) -> str:
    """Return tags of DogStatsD, with what is before them; empty for none."""
    text = ",".join([f"{name}:{value}" if value else name for name, value in tags])
    return text and f"|#{text}"


def _number(value: float) -> str:
    """Return a number without an exponent, which receivers take for something else."""
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    return format(Decimal(text), "f") if "e" in text else text


def _weights(count: int, wanted: float) -> Iterator[int]:
    """Divide a count into about so many whole numbers."""
    parts = min(count, max(1, round(wanted)))
    each, more = divmod(count, parts)
    return (each + (i < more) for i in range(parts))


def _rate(weight: int) -> str:
    """Return the sample rate of a value that stands for so many."""
    if weight == 1:
        return ""
    rate = 1 / weight
    # Receivers drop the fraction of the weight: it must not be below the whole number.
    return f"|@{_number(rate if 1 / rate >= weight else nextafter(rate, 0.0))}"
