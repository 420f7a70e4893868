"""Messages of hypertrace's own families: each as a `MetricFamily` of Prometheus, encoded.

The messages: https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, repeat
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, cast

from hypertrace.metrics import ExponentialReading

from .label_texts import encode
from .protobuf import BLOCK, DOUBLE, NUMBER, block, packed_double, tag, varint, zigzag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hypertrace.metrics import Exemplar, Family, HistogramReading, SummaryReading
    from hypertrace.metrics.reading import Value

    from .label_texts import Columns

COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM = range(5)
"""The types of a family. There is one for histograms that are gauges, too: Prometheus 2.42 shows
all their series under one name."""

_TYPES = {
    "counter": COUNTER,
    "gauge": GAUGE,
    "histogram": HISTOGRAM,
    "info": GAUGE,
    "summary": SUMMARY,
}


class FamilyTags:
    """Tags of `MetricFamily`."""

    NAME = tag(1, BLOCK)
    HELP = tag(2, BLOCK)
    TYPE = tag(3, NUMBER)
    METRIC = tag(4, BLOCK)
    UNIT = tag(5, BLOCK)


class MetricTags:
    """Tags of `Metric`, and of the value in it."""

    TIMESTAMP = tag(6, NUMBER)
    OF_TYPE = (tag(3, BLOCK), tag(2, BLOCK), tag(4, BLOCK), tag(5, BLOCK), tag(7, BLOCK))
    """Of the message with the value, by the type of the family."""
    VALUE = tag(1, DOUBLE)
    """Of the number in a counter, a gauge, or what is untyped."""
    EXEMPLAR = tag(2, BLOCK)
    """Of a counter."""
    CREATED = (tag(3, BLOCK), b"", tag(4, BLOCK), b"", tag(15, BLOCK))
    """When counting began, by the type of the family; empty where it has no such field."""


class HistogramTags:
    """Tags of `Histogram`; the first two are those of `Summary`, too."""

    COUNT = tag(1, NUMBER)
    SUM = tag(2, DOUBLE)
    BUCKET = tag(3, BLOCK)
    COUNT_FLOAT = tag(4, DOUBLE)
    SCHEMA = tag(5, NUMBER)
    ZERO_THRESHOLD = tag(6, DOUBLE)
    ZERO_COUNT = tag(7, NUMBER)
    NEGATIVE = tag(9, BLOCK), tag(10, BLOCK)
    """Of the spans, and of the differences of the counts."""
    POSITIVE = tag(12, BLOCK), tag(13, BLOCK)
    EXEMPLAR = tag(16, BLOCK)


class BucketTags:
    """Tags of `Bucket`."""

    COUNT = tag(1, NUMBER)
    BOUND = tag(2, DOUBLE)
    EXEMPLAR = tag(3, BLOCK)
    COUNT_FLOAT = tag(4, DOUBLE)


_QUANTILE = tag(3, BLOCK)
"""Of a summary."""
_QUANTILE_AT = tag(1, DOUBLE)
_QUANTILE_VALUE = tag(2, DOUBLE)
_SPAN_OFFSET = tag(1, NUMBER)
_SPAN_LENGTH = tag(2, NUMBER)
_NO_SPAN = ((0, 0),)
"""The span that makes a histogram without values a native one."""
_EXEMPLAR_VALUE = tag(2, DOUBLE)
_EXEMPLAR_TIME = tag(3, BLOCK)
_SECONDS = tag(1, NUMBER)
_NANOSECONDS = tag(2, NUMBER)
_A_SECOND = 10**9

_SERIES_AT_ONCE = 5_000
_NUMBER_AFTER_LABELS = 11
"""Bytes of a number, with its tag, in a message with its tag and length."""


def message(family: Family, labels: Columns[bytes]) -> bytes:
    """Return a family as a message with its length before it; empty without series.

    Args:
        family: what to write.
        labels: of its series, encoded.
    """
    if not family.series:
        return b""
    kind = _TYPES[family.kind]
    if kind == HISTOGRAM:
        metrics = _joined(_histograms(family, labels))
    elif kind == SUMMARY:
        metrics = _joined(_summaries(family, labels))
    else:
        metrics = _numbers(kind, cast("Sequence[float]", family.values), labels)
    return family_message(family.name, family.description, kind, metrics)


def as_histogram(value: Value) -> HistogramReading:
    """Return the reading of a histogram with classic buckets, and with exponential ones it has."""
    classic = value.classic() if isinstance(value, ExponentialReading) else value
    return cast("HistogramReading", classic)


def family_message(name: str, description: str, kind: int, metrics: bytes, unit: str = "") -> bytes:
    """Return a `MetricFamily` with its length before it.

    Args:
        name: of the family.
        description: its help text.
        kind: its type.
        metrics: its `Metric` fields.
        unit: of its values; the name ends in it.
    """
    head = b"%b%b%b%b" % (
        block(FamilyTags.NAME, name.encode()),
        block(FamilyTags.HELP, description.encode()),
        FamilyTags.TYPE,
        varint(kind),
    )
    tail = block(FamilyTags.UNIT, unit.encode()) if unit else b""
    return b"%b%b%b%b" % (varint(len(head) + len(metrics) + len(tail)), head, metrics, tail)


def encoded_exemplar(labels: bytes, value: float, time: float | None) -> bytes:
    """Return the content of an `Exemplar`.

    Args:
        labels: encoded.
        value: what it stands for.
        time: in seconds since the epoch, if that is known.
    """
    moment = b"" if time is None else block(_EXEMPLAR_TIME, encoded_time(time))
    return b"%b%b%b%b" % (labels, _EXEMPLAR_VALUE, packed_double(value), moment)


def encoded_time(time: float) -> bytes:
    """Return the content of a `Timestamp`, from seconds since the epoch."""
    seconds, nanoseconds = divmod(round(time * _A_SECOND), _A_SECOND)
    return _SECONDS + varint(seconds) + _NANOSECONDS + varint(nanoseconds)


def encoded_bucket(content: bytes, exemplar: bytes = b"") -> bytes:
    """Return a field with a bucket of a histogram.

    Args:
        content: its fields.
        exemplar: the content of its exemplar; empty without one.
    """
    if exemplar:
        content += block(BucketTags.EXEMPLAR, exemplar)
    return block(HistogramTags.BUCKET, content)


def encoded_quantile(quantile: float, value: float) -> bytes:
    """Return a field with a quantile of a summary."""
    at, of = packed_double(quantile), packed_double(value)
    return block(_QUANTILE, b"%b%b%b%b" % (_QUANTILE_AT, at, _QUANTILE_VALUE, of))


def encoded_buckets(
    tags: tuple[bytes, bytes], spans: Iterable[tuple[int, int]], differences: Iterable[int]
) -> bytes:
    """Return the fields of one side of a native histogram.

    Args:
        tags: of the spans and the differences.
        spans: how many buckets are skipped before those of each span, and how many these are.
        differences: of the number of values in each bucket to that in the bucket before.
    """
    of_span, of_differences = tags
    fields = [
        block(of_span, _SPAN_OFFSET + zigzag(offset) + _SPAN_LENGTH + varint(length))
        for offset, length in spans
    ]
    packed = b"".join(map(zigzag, differences))
    return b"".join([*fields, block(of_differences, packed)] if packed else fields)


def _joined(metrics: Iterable[bytes]) -> bytes:
    return b"".join(metrics)


def _numbers(kind: int, values: Sequence[float], labels: Columns[bytes]) -> bytes:
    """Return the metrics of a family of numbers, by column: that takes a third of the time."""
    start = MetricTags.OF_TYPE[kind] + varint(len(MetricTags.VALUE) + 8) + MetricTags.VALUE
    pack = Struct(f"<{len(start)}sd").pack
    chunks = []
    # Other threads wait for as long as a single step takes.
    for first in range(0, len(values), _SERIES_AT_ONCE):
        part = slice(first, first + _SERIES_AT_ONCE)
        commons, rests = labels.commons[part], labels.rests[part]
        pieces = [b""] * (4 * len(commons))
        pieces[0::4] = map(_start_of_number, map(len, commons), map(len, rests))
        pieces[1::4] = commons
        pieces[2::4] = rests
        pieces[3::4] = map(pack, repeat(start), values[part])
        chunks.append(b"".join(pieces))
    return b"".join(chunks)


@lru_cache(maxsize=4096)
def _start_of_number(common: int, rest: int) -> bytes:
    """Return the start of a metric with labels of these lengths and a number."""
    return FamilyTags.METRIC + varint(common + rest + _NUMBER_AFTER_LABELS)


def _metrics(kind: int, labels: Columns[bytes], values: Iterable[bytes]) -> Iterator[bytes]:
    of_value = MetricTags.OF_TYPE[kind]
    for common, rest, value in zip(labels.commons, labels.rests, values, strict=True):
        yield block(FamilyTags.METRIC, b"%b%b%b" % (common, rest, block(of_value, value)))


def _summaries(family: Family, labels: Columns[bytes]) -> Iterator[bytes]:
    readings = cast("Sequence[SummaryReading]", family.values)
    return _metrics(SUMMARY, labels, map(_summary, readings))


def _summary(value: SummaryReading) -> bytes:
    quantiles = [encoded_quantile(at, of) for at, of in value.quantiles.items()]
    return b"".join([_count_and_sum(value.count, value.sum), *quantiles])


def _count_and_sum(count: int, total: float) -> bytes:
    tags = HistogramTags
    return b"%b%b%b%b" % (tags.COUNT, varint(count), tags.SUM, packed_double(total))


def _histograms(family: Family, labels: Columns[bytes]) -> Iterator[bytes]:
    readings = list(map(as_histogram, family.values))
    # Prometheus takes all histograms of a family to be what the first one is.
    is_native = all(one.exponential for one in readings)
    return _metrics(HISTOGRAM, labels, (_histogram(one, native=is_native) for one in readings))


def _histogram(value: HistogramReading, *, native: bool) -> bytes:
    exponential = value.exponential if native else None
    counts = list(accumulate(value.counts))
    total, count = value.sum, counts[-1]
    if exponential is not None:
        # Prometheus refuses a page whose count is not that of the exponential buckets. Classic ones
        # may differ by what was just being added: then none may have more.
        total, count = exponential.sum, exponential.count
        counts = [min(each, count) for each in counts]
    # Prometheus knows the last bucket from the count of all values.
    pieces = [
        _start_of_bucket(count) + bound
        for count, bound in zip(counts[:-1], _encoded_bounds(value.bounds), strict=True)
    ]
    for bucket, exemplar in value.exemplars.items():
        bound = value.bounds[bucket] if bucket < len(value.bounds) else float("inf")
        content = (BucketTags.COUNT, varint(counts[bucket]), BucketTags.BOUND, packed_double(bound))
        pieces[bucket : bucket + 1] = [encoded_bucket(b"".join(content), _exemplar(exemplar))]
    if exponential is not None:
        pieces.append(_exponential(exponential, value.exemplars))
    return _count_and_sum(count, total) + b"".join(pieces)


@lru_cache(maxsize=4096)
def _start_of_bucket(count: int) -> bytes:
    """Return a bucket up to its bound."""
    number = varint(count)
    length = len(BucketTags.COUNT) + len(number) + len(BucketTags.BOUND) + 8
    return HistogramTags.BUCKET + varint(length) + BucketTags.COUNT + number


@lru_cache(maxsize=256)
def _encoded_bounds(bounds: tuple[float, ...]) -> tuple[bytes, ...]:
    return tuple(BucketTags.BOUND + packed_double(bound) for bound in bounds)


def _exponential(value: ExponentialReading, exemplars: Mapping[int, Exemplar]) -> bytes:
    tags = HistogramTags
    positive, negative = _spans(value.positive), _spans(value.negative)
    pieces = [
        tags.SCHEMA,
        zigzag(value.schema),
        tags.ZERO_THRESHOLD,
        packed_double(value.zero_threshold),
        tags.ZERO_COUNT,
        varint(value.zero_count),
        encoded_buckets(tags.NEGATIVE, *negative),
        encoded_buckets(tags.POSITIVE, positive.spans or _NO_SPAN, positive.differences),
        *[block(tags.EXEMPLAR, _exemplar(one)) for one in exemplars.values()],
    ]
    return b"".join(pieces)


class _Side(NamedTuple):
    """One side of a native histogram."""

    spans: list[tuple[int, int]]
    """How many buckets are skipped before those of a span, and how many these are."""
    differences: list[int]
    """Of the number of values in each bucket to that in the bucket before."""


def _spans(buckets: Mapping[int, int]) -> _Side:
    side = _Side([], [])
    end = before = 0
    for index in sorted(index for index, count in buckets.items() if count):
        if index > end or not side.spans:
            side.spans.append((index - end, 1))
        else:
            offset, length = side.spans[-1]
            side.spans[-1] = offset, length + 1
        side.differences.append(buckets[index] - before)
        end, before = index + 1, buckets[index]
    return side


def _exemplar(exemplar: Exemplar) -> bytes:
    labels = encode(list(exemplar.labels), list(exemplar.labels.values()))
    return encoded_exemplar(labels, exemplar.value, exemplar.timestamp)
