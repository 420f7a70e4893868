"""Line protocol: readings as lines of InfluxDB, and lines as batches of a bounded size."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading
from hypertrace.metrics.exponential import scale_of_schema

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from hypertrace.metrics import Family, Reading
    from hypertrace.metrics.reading import Value

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
    reading: Reading, time: int, prefix: str = "", without: Container[str] = ()
) -> Iterator[str]:
    """Yield a line for each series, with its line break.

    Args:
        reading: what the lines say.
        time: the timestamp of all lines.
        prefix: of the names of measurements.
        without: names of metrics to leave out.
    """
    for family in reading.families:
        if family.name not in without:
            name = measurement(prefix + family.name)
            yield from _family(family, name, reading.labels.items(), time)


def _family(
    family: Family, name: str, process: Iterable[tuple[str, str]], time: int
) -> Iterator[str]:
    keys = [tag_key(label) for label in family.label_names]
    others = [(tag_key(label), value) for label, value in process]
    # The same tag twice is an error in a line.
    start = name + "".join(_tags((key, value) for key, value in others if key not in keys))
    for point in family.points:
        fields = ",".join(_fields(family, point.value))
        if fields:
            tags = "".join(_tags(zip(keys, point.labels, strict=True)))
            yield f"{start}{tags} {fields} {time}\n"


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
    if isinstance(value, str):
        text = _CONTROL.sub(" ", value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i" if abs(value) <= _LARGEST else ""
    return repr(value) if isfinite(value) else ""


def _fields(family: Family, value: Value) -> Iterator[str]:
    for name, number in _numbers(family, value):
        text = field(number)
        if text:
            yield f"{name}={text}"


def _numbers(family: Family, value: Value) -> Iterator[tuple[str, float]]:
    if isinstance(value, int | float):
        # A field keeps the type of its first value, and a gauge may be set to 1 and then to 0.5.
        yield "val", float(value) if family.kind == "gauge" else value
        return
    count = value.count
    yield "count", count
    yield "sum", float(value.sum)
    if count:
        yield "mean", value.sum / count
    if isinstance(value, HistogramReading):
        yield from _limits(value)
        yield from zip(_bucket_names(value.bounds), accumulate(value.counts), strict=False)
    elif isinstance(value, SummaryReading):
        yield from ((_quantile_name(at), found) for at, found in value.quantiles.items())
    else:
        yield from _estimates(value)


def _limits(value: HistogramReading) -> Iterator[tuple[str, float]]:
    """Yield the bounds between which all values are, where the buckets have them."""
    filled = [at for at, count in enumerate(value.counts) if count]
    if filled and filled[0]:
        yield "min", value.bounds[filled[0] - 1]
    if filled and filled[-1] < len(value.bounds):
        yield "max", value.bounds[filled[-1]]


def _estimates(value: ExponentialReading) -> Iterator[tuple[str, float]]:
    scale = scale_of_schema(value.schema)
    counts = {-scale.key_of(index): count for index, count in value.negative.items()}
    counts |= {scale.key_of(index): count for index, count in value.positive.items()}
    counts[0] = value.zero_count
    for at, found in scale.quantiles(counts, _ESTIMATES).items():
        yield _ESTIMATES[at], found


@lru_cache(maxsize=256)
def _bucket_names(bounds: Sequence[float]) -> list[str]:
    return [f"le_{repr(float(bound)).removesuffix('.0')}" for bound in bounds]


@lru_cache(maxsize=256)
def _quantile_name(quantile: float) -> str:
    return f"p{quantile * 100:.10g}"
