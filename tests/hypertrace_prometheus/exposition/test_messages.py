"""Messages of hypertrace's own families, decoded with the schema of Prometheus."""

from __future__ import annotations

import math
import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypertrace.metrics import (
    Declaration,
    Exemplar,
    ExponentialReading,
    Family,
    HistogramReading,
    SummaryReading,
)
from hypertrace.metrics.series import Series
from hypertrace_prometheus.exposition.label_texts import TextCache
from hypertrace_prometheus.exposition.messages import message

from ..metrics_proto import families, labels_of, type_of
from ..metrics_proto import message as decoded

if TYPE_CHECKING:
    from hypertrace.metrics.declarations import Kind


def family(
    kind: Kind,
    *points: tuple[tuple[str, ...], Any],
    names: tuple[str, ...] = ("a", "b"),
    name: str = "x_total",
) -> Family:
    """Give a family of some series: label values, the first of which is common, and a value."""
    series = [Series((labels[:1], labels[1:])) for labels, _ in points]
    return Family(
        Declaration(kind, name, description="Hélp\\n."),
        names,
        series,
        [value for _, value in points],
    )


def encoded(one: Family) -> bytes:
    return message(one, TextCache().encoded(one))


def the(one: Family) -> Any:
    (found,) = families(encoded(one))
    return found


def pairs(**labels: str) -> list[Any]:
    return [decoded("LabelPair", name=name, value=value) for name, value in labels.items()]


def test_a_counter_is_encoded_as_google_encodes_it() -> None:
    """The bytes of a family are those that the library of the format makes."""
    expected = decoded(
        "MetricFamily",
        name="x_total",
        help="Hélp\\n.",
        type=0,
        metric=[
            decoded("Metric", label=pairs(a="1", b="2"), counter=decoded("Counter", value=3)),
            decoded("Metric", label=pairs(a="é\n"), counter=decoded("Counter", value=0.5)),
        ],
    ).SerializeToString()
    one = family("counter", (("1", "2"), 3), (("é\n", ""), 0.5))
    assert encoded(one) == bytes([len(expected)]) + expected


def test_each_kind_of_number_has_its_type() -> None:
    """Gauges and infos are gauges, and a counter need not end in `_total`."""
    gauge = the(family("gauge", (("1", ""), -2.5), name="x"))
    assert (type_of(gauge), gauge.metric[0].gauge.value) == ("GAUGE", -2.5)
    info = the(family("info", (("1", ""), 1), name="x_info"))
    assert (type_of(info), info.name, info.metric[0].gauge.value) == ("GAUGE", "x_info", 1)
    counter = the(family("counter", (("1", ""), 1), name="calls"))
    assert (type_of(counter), counter.name) == ("COUNTER", "calls")


def test_a_family_without_series_is_no_message() -> None:
    """Prometheus gets no family that has no metric."""
    assert encoded(family("counter")) == b""


def test_a_family_without_labels() -> None:
    """A metric without labels has none."""
    (metric,) = the(family("gauge", ((), 4), names=())).metric
    assert (labels_of(metric), metric.gauge.value) == ({}, 4)


_texts = st.text(max_size=200).filter(lambda text: text.isprintable() or "\n" in text)
_points = st.dictionaries(
    st.tuples(_texts, _texts), st.integers(0, 2**63) | st.floats(), max_size=20
)


@settings(deadline=None)
@given(_points)
def test_prometheus_reads_back_what_there_is(points: dict[tuple[str, str], float]) -> None:
    """Whatever labels and values are, and however long, they are decoded as they were."""
    one = family("gauge", *points.items())
    found = {}
    for each in families(encoded(one)):
        for metric in each.metric:
            labels = labels_of(metric)
            found[labels.get("a", ""), labels.get("b", "")] = metric.gauge.value
    assert found.keys() == points.keys()
    for key, value in points.items():
        assert struct.pack("d", found[key]) == struct.pack("d", value)


def test_what_is_no_unicode_costs_no_page() -> None:
    """A lone surrogate becomes a question mark, as in text."""
    assert labels_of(the(family("counter", (("\ud800", ""), 1))).metric[0]) == {"a": "?"}


def test_many_series_are_all_there() -> None:
    """A family of more series than are written at once is whole, in its order."""
    found = the(family("counter", *((("c", str(n)), n) for n in range(12_000))))
    assert [(labels_of(m)["b"], m.counter.value) for m in found.metric] == [
        (str(n), n) for n in range(12_000)
    ]


# --- histograms -------------------------------------------------------------------------

EXEMPLARS = {
    0: Exemplar({"trace_id": "a", "span_id": "é"}, 0.05, 1234.5),
    2: Exemplar({"trace_id": "b"}, 7.0, 1235.0),
}


def histogram(reading: HistogramReading | ExponentialReading, **more: Any) -> Any:
    found = the(family("histogram", (("1", "2"), reading), name="x_seconds", **more))
    assert type_of(found) == "HISTOGRAM"
    return found.metric[0].histogram


def test_classic_buckets() -> None:
    """Buckets are cumulative, and the last one is known from the count."""
    found = histogram(HistogramReading((0.1, 1.0), (2, 300, 1), 42.5, {}))
    assert (found.sample_count, found.sample_sum) == (303, 42.5)
    assert [(b.cumulative_count, b.upper_bound) for b in found.bucket] == [(2, 0.1), (302, 1.0)]
    assert not found.HasField("schema")
    assert not found.positive_span


def test_exemplars_are_in_their_buckets() -> None:
    """An exemplar has its labels, value and time, also the one of the last bucket."""
    found = histogram(HistogramReading((0.1, 1.0), (2, 300, 1), 42.5, EXEMPLARS))
    assert [(b.cumulative_count, b.upper_bound) for b in found.bucket] == [
        (2, 0.1),
        (302, 1.0),
        (303, math.inf),
    ]
    first, second, third = (b.exemplar for b in found.bucket)
    assert (labels_of(first), first.value) == ({"trace_id": "a", "span_id": "é"}, 0.05)
    assert (first.timestamp.seconds, first.timestamp.nanos) == (1234, 500_000_000)
    assert second.value == 0
    assert (labels_of(third), third.value) == ({"trace_id": "b"}, 7.0)


def buckets(spans: Any, deltas: Any) -> dict[int, int]:
    """Give the counts of the buckets that spans and differences stand for."""
    indices: list[int] = []
    start = 0
    for span in spans:
        start += span.offset
        indices += range(start, start + span.length)
        start += span.length
    return dict(zip(indices, accumulate(deltas), strict=True))


_counts = st.dictionaries(st.integers(-700, 700), st.integers(0, 2**40), max_size=30)


@settings(deadline=None)
@given(_counts, _counts, st.integers(0, 8), st.integers(0, 1000))
def test_exponential_buckets_are_spans_and_differences(
    positive: dict[int, int], negative: dict[int, int], schema: int, zeros: int
) -> None:
    """The buckets of either side can be read back, and are those that are not empty."""
    reading = ExponentialReading(schema, 1e-9, zeros, positive, negative, 2.5, {})
    classic = HistogramReading((1.0,), (reading.count, 0), 2.5, {}, reading)
    found = histogram(classic)
    assert (found.schema, found.zero_threshold, found.zero_count) == (schema, 1e-9, zeros)
    assert buckets(found.negative_span, found.negative_delta) == _filled(negative)
    assert buckets(found.positive_span, found.positive_delta) == _filled(positive)
    assert (found.sample_count, found.sample_sum) == (reading.count, 2.5)
    assert len(found.bucket) == 1


def _filled(counts: dict[int, int]) -> dict[int, int]:
    return {index: count for index, count in counts.items() if count}


def test_neighbours_are_one_span() -> None:
    """Buckets that follow each other are in one span; the next one says how many it skips."""
    reading = ExponentialReading(3, 0.5, 0, {-3: 1, -2: 4, 5: 2}, {}, 1.0, {})
    found = histogram(reading)
    assert [(span.offset, span.length) for span in found.positive_span] == [(-3, 2), (6, 1)]
    assert list(found.positive_delta) == [1, 3, -2]


def test_a_native_histogram_without_values_is_one() -> None:
    """A span of no buckets says that it is a native histogram."""
    (span,) = histogram(ExponentialReading(3, 0.0, 0, {}, {}, 0.0, {})).positive_span
    assert (span.offset, span.length) == (0, 0)


def test_a_native_histogram_has_exemplars() -> None:
    """Exemplars of the classic buckets are those of the native histogram, too."""
    native = ExponentialReading(3, 0.5, 0, {-3: 303}, {}, 42.5, {})
    found = histogram(HistogramReading((0.1, 1.0), (2, 300, 1), 42.5, EXEMPLARS, native))
    assert [labels_of(one)["trace_id"] for one in found.exemplars] == ["a", "b"]
    assert all(one.HasField("timestamp") for one in found.exemplars)


@pytest.mark.parametrize(
    ("classic", "cumulative"), [((2, 1, 0), [2, 3]), ((2, 3, 0), [2, 4]), ((4, 1, 1), [4, 4])]
)
def test_the_count_is_that_of_the_exponential_buckets(
    classic: tuple[int, ...], cumulative: list[int]
) -> None:
    """Where other processes are just counting, no classic bucket has more than there are values."""
    native = ExponentialReading(3, 0.5, 1, {-3: 3}, {}, 42.5, {})
    found = histogram(HistogramReading((0.1, 1.0), classic, 40.0, {}, native))
    assert (found.sample_count, found.sample_sum) == (4, 42.5)
    assert [bucket.cumulative_count for bucket in found.bucket] == cumulative


def test_exponential_buckets_alone_have_classic_ones_for_others() -> None:
    """A scraper that knows no native histograms finds buckets of powers of two."""
    found = histogram(ExponentialReading(0, 0.5, 0, {0: 3, 2: 1}, {}, 6.0, {}))
    assert [(b.cumulative_count, b.upper_bound) for b in found.bucket] == [(3, 1), (3, 2), (4, 4)]


def test_histograms_of_a_family_are_all_native_or_none_is() -> None:
    """One without exponential buckets, as of another worker, makes all of its family classic."""
    native = ExponentialReading(3, 0.5, 0, {-3: 1}, {}, 0.5, {})
    one = family(
        "histogram",
        (("1", ""), HistogramReading((1.0,), (1, 0), 0.5, {}, native)),
        (("2", ""), HistogramReading((1.0,), (0, 1), 2.5, {})),
    )
    for metric in the(one).metric:
        assert not metric.histogram.HasField("schema")
        assert len(metric.histogram.bucket) == 1


def test_a_summary_has_its_quantiles() -> None:
    """A summary has count and sum, and a value for each quantile, also if that is no number."""
    reading = SummaryReading(4, 10.5, {0.5: 2.0, 0.99: math.nan}, {})
    found = the(family("summary", (("1", ""), reading), name="x"))
    assert type_of(found) == "SUMMARY"
    summary = found.metric[0].summary
    assert (summary.sample_count, summary.sample_sum) == (4, 10.5)
    assert [one.quantile for one in summary.quantile] == [0.5, 0.99]
    assert summary.quantile[0].value == 2.0
    assert math.isnan(summary.quantile[1].value)
