"""Message sections: metrics of third-party collectors as messages, checked sample by sample."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from . import messages
from .label_texts import encoded_label
from .messages import BucketTags, FamilyTags, HistogramTags, MetricTags
from .protobuf import block, packed_double, varint, zigzag

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

    from .failures import Fail

    Labels: TypeAlias = tuple[tuple[str, str], ...]
    Key: TypeAlias = tuple[Labels, int | None]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__name__\Z)[a-zA-Z_][a-zA-Z0-9_]*")
_MOST_MILLISECONDS = 1 << 62
_LARGEST_COUNT = (1 << 64) - 1

_VALUE, _COUNT, _SUM, _CREATED, _BUCKET, _NATIVE = range(6)
"""What a sample says of its metric."""


class _Kind(NamedTuple):
    """How the samples of a type are written."""

    type: int
    """Of the family in the message."""
    suffix: str
    """Of the name of the family in the message."""
    parts: dict[str, int]
    """What a sample says, by the suffix of its name."""
    bucket_label: str = ""
    """The label that distinguishes the buckets or quantiles of a metric."""


_NUMBER = {"": _VALUE}
_UNTYPED = _Kind(messages.UNTYPED, "", _NUMBER)
_KINDS = {
    "counter": _Kind(messages.COUNTER, "_total", {"_total": _VALUE, "_created": _CREATED}),
    "gauge": _Kind(messages.GAUGE, "", _NUMBER),
    "info": _Kind(messages.GAUGE, "_info", {"_info": _VALUE}),
    "stateset": _Kind(messages.GAUGE, "", _NUMBER),
    "summary": _Kind(
        messages.SUMMARY,
        "",
        {"": _BUCKET, "_count": _COUNT, "_sum": _SUM, "_created": _CREATED},
        "quantile",
    ),
    "histogram": _Kind(
        messages.HISTOGRAM,
        "",
        {"": _NATIVE, "_bucket": _BUCKET, "_count": _COUNT, "_sum": _SUM, "_created": _CREATED},
        "le",
    ),
    "gaugehistogram": _Kind(
        messages.HISTOGRAM,
        "",
        {"_bucket": _BUCKET, "_gcount": _COUNT, "_gsum": _SUM, "_created": _CREATED},
        "le",
    ),
    "unknown": _UNTYPED,
    "untyped": _UNTYPED,
}


class MessageSection:
    """The metrics of one family.

    Attributes:
        title: name of the family.
        names: of its samples.
    """

    def __init__(self, title: str, description: str, kind: int, unit: str = "") -> None:
        """Start without metrics.

        Args:
            title: name of the family.
            description: its help text.
            kind: its type in the message.
            unit: of its values; left out where the name does not end in it.
        """
        if not _NAME.fullmatch(title):
            raise ValueError(f"it gave a metric with the name {title[:200]!r}")
        self.title = title
        self.names: set[str] = set()
        self._description = description
        self._kind = kind
        # Prometheus refuses the page for a unit that is not in the name.
        is_named = title.removesuffix("_total").endswith(f"_{unit}")
        self._unit = unit if unit and is_named else ""
        self._metrics: dict[Key, _Metric] = {}

    def add(self, sample: Sample, part: int, bucket_label: str, fail: Fail) -> None:
        """Add what a sample says.

        Args:
            sample: one of this family.
            part: what it says.
            bucket_label: the label that distinguishes buckets or quantiles.
            fail: receives an error of its exemplar, without which the sample is added.

        Raises:
            Exception: the sample cannot be written, or is there already.
        """
        labels = dict(sample.labels)
        at = float(labels.pop(bucket_label)) if part == _BUCKET else None
        key = _checked_labels(labels), _milliseconds(sample.timestamp)
        metric = self._metrics.get(key) or _Metric(key)
        if part == _NATIVE:
            metric.add_native(sample.native_histogram)
        else:
            metric.add(part, at, float(sample.value))
        # Now that nothing else can fail.
        self._metrics[key] = metric
        self.names.add(sample.name)
        if sample.exemplar is not None:
            try:
                metric.add_exemplar(part, at, sample.exemplar)
            except Exception as error:  # noqa: BLE001 -- it must not cost the sample
                fail(error)

    def join(self, other: MessageSection, fail: Fail) -> None:
        """Add the metrics of another section of this name.

        Args:
            other: gives its metrics.
            fail: receives an error for each metric that is here already, and one for a section of
                another type, of which no metric is added.
        """
        if other._kind != self._kind:
            fail(ValueError(f"it gave {self.title}, which has another type at another collector"))
            return
        self.names |= other.names
        for key, metric in other._metrics.items():
            if self._metrics.setdefault(key, metric) is not metric:
                fail(_twice(key))

    def message(self) -> bytes:
        """Return it encoded, with its length before it; empty without metrics."""
        encode = _ENCODERS[self._kind]
        # Prometheus takes all histograms of a family to be what the first one is.
        if not all(metric.native for metric in self._metrics.values()):
            for metric in self._metrics.values():
                metric.native = b""
        metrics = [
            block(FamilyTags.METRIC, _encoded_key(key) + block(MetricTags.OF_TYPE[self._kind], of))
            for key, metric in self._metrics.items()
            if (of := encode(metric, self._kind))
        ]
        if not metrics:
            return b""
        joined = b"".join(metrics)
        return messages.family_message(
            self.title, self._description, self._kind, joined, self._unit
        )


class _Metric:
    """What the samples of one metric say."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self.numbers: dict[int, float] = {}
        self.buckets: dict[float, float] = {}
        self.exemplars: dict[float | None, bytes] = {}
        self.native = b""

    def add(self, part: int, at: float | None, value: float) -> None:
        """Add a number, at a bound or quantile if it belongs to one."""
        if part == _CREATED:
            messages.encoded_time(value)  # it must be a time
        if at is None:
            _put(self.numbers, part, value, self._key)
        else:
            _put(self.buckets, at, value, self._key)

    def add_native(self, histogram: Any) -> None:
        """Add the `NativeHistogram` of a sample, which has count and sum in it."""
        count, total = float(histogram.count_value), float(histogram.sum_value)
        encoded = _encoded_native(histogram)
        _put(self.numbers, _COUNT, count, self._key)
        _put(self.numbers, _SUM, total, self._key)
        self.native = encoded

    def add_exemplar(self, part: int, at: float | None, exemplar: Any) -> None:
        """Add an exemplar, which only counters and the buckets of histograms have."""
        labels = _encoded_labels(_checked_labels(exemplar.labels))
        time = None if exemplar.timestamp is None else float(exemplar.timestamp)
        if part not in {_VALUE, _BUCKET}:
            raise ValueError(
                f"it gave an exemplar to a sample that can have none: {exemplar!r:.200}"
            )
        self.exemplars[at] = messages.encoded_exemplar(labels, float(exemplar.value), time)


def message_sections_of(family: Metric, fail: Fail) -> list[MessageSection]:
    """Return a family as messages: one, and one for each other name that its samples have.

    Args:
        family: with its samples.
        fail: receives an error for each sample or exemplar that cannot be written; it is left out.

    Raises:
        Exception: the family as a whole cannot be written.
    """
    kind = _KINDS[family.type]
    name, description = _plain(family.name), _plain(family.documentation)
    section = MessageSection(f"{name}{kind.suffix}", description, kind.type, family.unit)
    others: dict[str, MessageSection] = {}
    for sample in family.samples:
        try:
            given = _plain(sample.name)
            part = kind.parts.get(given.removeprefix(name)) if given.startswith(name) else None
            if part is not None and _has(sample, part, kind):
                section.add(sample, part, kind.bucket_label, fail)
            else:
                other = others.get(given) or MessageSection(given, description, messages.UNTYPED)
                other.add(sample, _VALUE, "", fail)
                others[given] = other
        except Exception as error:  # noqa: BLE001 -- one sample must not cost the others
            fail(error)
    return [section, *others.values()]


def _has(sample: Sample, part: int, kind: _Kind) -> bool:
    """Whether a sample has what its name says."""
    if part == _BUCKET:
        return kind.bucket_label in sample.labels
    return part != _NATIVE or getattr(sample, "native_histogram", None) is not None


def _put(numbers: dict[Any, float], at: float, value: float, key: Key) -> None:
    if at in numbers:
        raise _twice(key)
    numbers[at] = value


def _twice(key: Key) -> ValueError:
    labels = dict(key[0])
    return ValueError(f"the series {labels!r:.200} is given twice; the first is shown")


def _checked_labels(labels: dict[str, str]) -> Labels:
    for name in labels:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"it gave a sample with the label {name!r:.200}")
    return tuple(sorted((_plain(name), _plain(value)) for name, value in labels.items()))


def _plain(text: str) -> str:
    """Return a text that can be encoded, without what a subclass may do when it is.

    Raises:
        TypeError: it is no text.
        ValueError: it is no valid Unicode.
    """
    plain = str.__str__(text)
    plain.encode()
    return plain


def _encoded_labels(labels: Labels) -> bytes:
    return b"".join([encoded_label(name, value) for name, value in labels])


def _milliseconds(timestamp: Any) -> int | None:
    if timestamp is None:
        return None
    milliseconds = int(float(timestamp) * 1000)
    if abs(milliseconds) > _MOST_MILLISECONDS:
        raise ValueError(f"it gave a sample with the time {timestamp!r:.200}")
    return milliseconds


def _encoded_key(key: Key) -> bytes:
    labels, milliseconds = key
    time = b"" if milliseconds is None else MetricTags.TIMESTAMP + varint(milliseconds)
    return _encoded_labels(labels) + time


def _encoded_number(metric: _Metric, kind: int) -> bytes:
    value = metric.numbers.get(_VALUE)
    if value is None:  # only when it was created is known
        return b""
    exemplar = metric.exemplars.get(None)
    return b"".join(
        [
            MetricTags.VALUE,
            packed_double(value),
            block(MetricTags.EXEMPLAR, exemplar) if exemplar and kind == messages.COUNTER else b"",
            _encoded_created(metric, kind),
        ]
    )


def _encoded_created(metric: _Metric, kind: int) -> bytes:
    created = metric.numbers.get(_CREATED)
    if created is None or not MetricTags.CREATED[kind]:
        return b""
    return block(MetricTags.CREATED[kind], messages.encoded_time(created))


def _encoded_summary(metric: _Metric, kind: int) -> bytes:
    if not metric.buckets and not metric.numbers.keys() - {_CREATED}:
        return b""
    count = metric.numbers.get(_COUNT, 0)
    return b"".join(
        [
            HistogramTags.COUNT,
            varint(_whole(count)),
            _encoded_sum(metric),
            *[messages.encoded_quantile(at, of) for at, of in metric.buckets.items()],
            _encoded_created(metric, kind),
        ]
    )


def _encoded_histogram(metric: _Metric, kind: int) -> bytes:
    buckets = sorted(metric.buckets.items())
    if not buckets and not metric.numbers.keys() - {_CREATED}:
        return b""
    count = metric.numbers.get(_COUNT, buckets[-1][1] if buckets else 0)
    return b"".join(
        [
            _encoded_count(HistogramTags.COUNT, HistogramTags.COUNT_FLOAT, count),
            _encoded_sum(metric),
            *[_encoded_bucket(at, of, metric.exemplars.get(at, b"")) for at, of in buckets],
            _encoded_created(metric, kind),
            metric.native,
        ]
    )


def _encoded_bucket(bound: float, count: float, exemplar: bytes) -> bytes:
    number = _encoded_count(BucketTags.COUNT, BucketTags.COUNT_FLOAT, count)
    content = b"%b%b%b" % (number, BucketTags.BOUND, packed_double(bound))
    return messages.encoded_bucket(content, exemplar)


def _encoded_count(tag: bytes, tag_of_float: bytes, count: float) -> bytes:
    """Return a count as an integer, and also as a float if it is none."""
    whole = _whole(count)
    number = tag + varint(whole)
    return number if whole == count else number + tag_of_float + packed_double(count)


def _whole(count: float) -> int:
    return int(min(max(count, 0), _LARGEST_COUNT)) if count == count else 0  # noqa: PLR0124 -- NaN


def _encoded_sum(metric: _Metric) -> bytes:
    # A sum that is not there is shown as none, and not as 0.
    return HistogramTags.SUM + packed_double(metric.numbers.get(_SUM, math.nan))


def _encoded_native(histogram: Any) -> bytes:
    tags = HistogramTags
    return b"".join(
        [
            tags.SCHEMA,
            zigzag(histogram.schema),
            tags.ZERO_THRESHOLD,
            packed_double(histogram.zero_threshold),
            tags.ZERO_COUNT,
            varint(_whole(histogram.zero_count)),
            messages.encoded_buckets(
                tags.NEGATIVE, histogram.neg_spans or (), histogram.neg_deltas or ()
            ),
            messages.encoded_buckets(
                tags.POSITIVE, histogram.pos_spans or ((0, 0),), histogram.pos_deltas or ()
            ),
        ]
    )


_ENCODERS: dict[int, Callable[[_Metric, int], bytes]] = {
    messages.COUNTER: _encoded_number,
    messages.GAUGE: _encoded_number,
    messages.UNTYPED: _encoded_number,
    messages.SUMMARY: _encoded_summary,
    messages.HISTOGRAM: _encoded_histogram,
}
