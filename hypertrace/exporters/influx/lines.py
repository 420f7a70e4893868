"""Line protocol: readings as lines of InfluxDB, and lines as batches of a bounded size."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate, compress
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from hypertrace.exporters.series_texts import SeriesTexts
from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading
from hypertrace.metrics.exponential import scale_of_schema

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from hypertrace.metrics import Family, Reading
    from hypertrace.metrics.reading import Value
    from hypertrace.metrics.series import Series

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""No receiver can read a line break in a tag; some read the others as one, or as a space."""

_AMBIGUOUS = re.compile(r"\\(?=[,= \\]|\Z)")
"""Backslashes that some receivers read as the begin of an escape, and others as themselves."""

_RESERVED = {"time", "_field", "_measurement"}

_LARGEST = 2**63 - 1

_ESTIMATES = {0.0: "min", 0.5: "p50", 0.9: "p90", 0.99: "p99", 1.0: "max"}
"""Quantiles of native histograms: the bounds of their buckets differ from one reading to the next.
"""


class Batch(NamedTuple):
    """Lines that are sent together."""

    data: bytes
    lines: int
    """How many these are."""


def batches(lines: Iterable[str], size: int) -> list[Batch]:
    """Return lines in batches of up to `size` bytes; a longer line is a batch by itself."""
    made: list[Batch] = []
    held: list[bytes] = []
    length = 0
    for line in lines:
        data = line.encode("utf-8", "replace")
        if held and length + len(data) > size:
            made.append(Batch(b"".join(held), len(held)))
            held, length = [], 0
        held.append(data)
        length += len(data)
    if held:
        made.append(Batch(b"".join(held), len(held)))
    return made


def lines(
    reading: Reading,
    time: int,
    prefix: str = "",
    without: Container[str] = (),
    texts: SeriesTexts[str] | None = None,
) -> Iterator[str]:
    """Yield a line for each series, with its line break.

    Args:
        reading: what the lines say.
        time: the timestamp of all lines.
        prefix: of the names of measurements.
        without: names of metrics to leave out.
        texts: what is known of the series from earlier readings.
    """
    texts = SeriesTexts() if texts is None else texts
    for family in reading.families:
        if family.name not in without:
            name = measurement(prefix + family.name)
            yield from _family(family, name, reading.labels.items(), time, texts.of(family))


def _family(
    family: Family,
    name: str,
    process: Iterable[tuple[str, str]],
    time: int,
    known: dict[Series, str],
) -> Iterator[str]:
    keys = [tag_key(label) for label in family.label_names]
    others = [(tag_key(label), value) for label, value in process]
    # The same tag twice is an error in a line.
    start = name + "".join(_tags((key, value) for key, value in others if key not in keys))
    is_gauge = family.kind == "gauge"
    for series, value in zip(family.series, family.values, strict=True):
        fields = _fields(value, is_gauge=is_gauge)
        if fields:
            head = known.get(series)
            if head is None:
                tags = _tags(zip(keys, series.labels, strict=True))
                head = known[series] = f"{start}{''.join(tags)} "
            yield f"{head}{fields} {time}\n"


def _tags(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f",{key}={tag_value(value)}" for key, value in pairs if value]


def measurement(text: str) -> str:
    """Return a text as the name of a measurement.

    A `#` at its begin, which would make a comment of the line, becomes a `_`.
    """
    return _escaped(f"_{text[1:]}" if text.startswith("#") else text)


def _escaped(text: str) -> str:
    return _clean(text).replace(",", "\\,").replace(" ", "\\ ")


@lru_cache(maxsize=1024)
def tag_key(text: str) -> str:
    """Return a text as the key of a tag; one that InfluxDB reserves gets a `_` behind it."""
    return tag_value(f"{text}_" if text in _RESERVED else text)


@lru_cache(maxsize=8192)
def tag_value(text: str) -> str:
    """Return a text as the value of a tag.

    What cannot be escaped so that every receiver reads it is replaced: each control character by a
    space; and a backslash by `/` where one of these follows it: a comma, an equals sign, a space,
    another backslash, or the end.
    """
    return _escaped(text).replace("=", "\\=")


def _clean(text: str) -> str:
    return _AMBIGUOUS.sub("/", _CONTROL.sub(" ", text))


def field(value: float | str) -> str:
    """Return a value as that of a field; nothing if InfluxDB has no such number.

    Control characters of a text are replaced by spaces, as in tags.

    Args:
        value: a truth value, an integer, a float or a text.
    """
    if type(value) is int:  # most are
        return f"{value}i" if -_LARGEST <= value <= _LARGEST else ""
    if isinstance(value, str):
        text = _CONTROL.sub(" ", value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i" if abs(value) <= _LARGEST else ""
    return repr(value) if isfinite(value) else ""


def _fields(value: Value, *, is_gauge: bool) -> str:
    """Return the fields of a value, without a space; nothing if it has none."""
    if isinstance(value, HistogramReading):
        count = sum(value.counts)
        if count <= _LARGEST:
            return _fields_of_buckets(value, count)
    if isinstance(value, int | float):
        # A field keeps the type of its first value, and a gauge may be set to 1 and then to 0.5.
        text = field(float(value) if is_gauge else value)
        return text and f"val={text}"
    pairs = ((name, field(number)) for name, number in _numbers(value))
    return ",".join([f"{name}={text}" for name, text in pairs if text])


def _fields_of_buckets(value: HistogramReading, count: int) -> str:
    """Return the fields of a histogram, whose count is no larger than InfluxDB has."""
    counts, total = value.counts, float(value.sum)
    texts = [f"count={count}i"]
    if isfinite(total):
        texts.append(f"sum={total!r}")
        if count:
            texts.append(f"mean={total / count!r}")
    buckets = _buckets(value.bounds)
    # The bounds between which all values are, where the buckets have them.
    filled = [*compress(buckets.indexes, counts)]
    if filled and filled[0]:
        texts.append(f"min={buckets.bounds[filled[0] - 1]}")
    if filled and filled[-1] < len(buckets.bounds):
        texts.append(f"max={buckets.bounds[filled[-1]]}")
    if buckets.bounds:
        texts.append(buckets.fields % (*accumulate(counts[:-1]),))
    return ",".join(texts)


def _numbers(
    value: ExponentialReading | HistogramReading | SummaryReading,
) -> Iterator[tuple[str, float]]:
    count = value.count
    yield "count", count
    yield "sum", float(value.sum)
    if count:
        yield "mean", value.sum / count
    if isinstance(value, SummaryReading):
        yield from ((_quantile_name(at), found) for at, found in value.quantiles.items())
    elif isinstance(value, ExponentialReading):
        yield from _estimates(value)


def _estimates(value: ExponentialReading) -> Iterator[tuple[str, float]]:
    scale = scale_of_schema(value.schema)
    counts = {-scale.key_of(index): count for index, count in value.negative.items()}
    counts |= {scale.key_of(index): count for index, count in value.positive.items()}
    counts[0] = value.zero_count
    for at, found in scale.quantiles(counts, _ESTIMATES).items():
        yield _ESTIMATES[at], found


class _Buckets(NamedTuple):
    """Texts of the buckets of a metric."""

    indexes: Sequence[int]
    bounds: Sequence[str]
    """As values of fields."""
    fields: str
    """With a place for each number."""


@lru_cache(maxsize=256)
def _buckets(bounds: Sequence[float]) -> _Buckets:
    names = [f"le_{repr(float(bound)).removesuffix('.0')}" for bound in bounds]
    texts = [field(float(bound)) for bound in bounds]
    return _Buckets(range(len(names) + 1), texts, ",".join([f"{name}=%di" for name in names]))


@lru_cache(maxsize=256)
def _quantile_name(quantile: float) -> str:
    return f"p{quantile * 100:.10g}"
