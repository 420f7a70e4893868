"""Metric data: what the library's own encoder makes of readings, decoded again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData, ResourceMetrics
from opentelemetry.sdk.resources import Resource

import hypertrace
from hypertrace.exporters.opentelemetry.data import (
    Frame,
    resource,
    scope_metrics,
    unit_of,
)
from hypertrace.metrics import (
    Declaration,
    Exemplar,
    ExponentialReading,
    Family,
    HistogramReading,
    Metrics,
    Reading,
    SummaryReading,
)
from hypertrace.metrics.exponential import scale_of_schema
from hypertrace.metrics.exponential_series import Exponential
from hypertrace.metrics.series import Series

from .receiver import attributes_of

if TYPE_CHECKING:
    from hypertrace.metrics.declarations import Kind
    from hypertrace.metrics.reading import Value

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
ORIGIN, BEFORE, NOW = 1_000.0, 1_005.0, 1_010.5
NANO = 10**9
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def family(kind: Kind, name: str, *values: Value, unit: str = "") -> Family:
    """Give a family with a series for each value, that has its number as its only label."""
    declaration = Declaration(kind, name, description="What it is.", unit=unit)
    series = [Series(((str(number), ""), ())) for number in range(len(values))]
    return Family(declaration, ("number", "absent"), series, values)


def decoded(*families: Family, frame: Frame | None = None) -> list[Any]:
    """Give the metrics as a receiver gets them."""
    frame = frame or Frame(ORIGIN, BEFORE, CUMULATIVE)
    scope = scope_metrics(Reading(NOW, families), frame)
    data = MetricsData([ResourceMetrics(Resource({}), [scope], "")])
    read = type(encode_metrics(data)).FromString(encode_metrics(data).SerializeToString())
    (of_resource,) = read.resource_metrics
    (of_scope,) = of_resource.scope_metrics
    assert (of_scope.scope.name, of_scope.scope.version) == ("hypertrace", hypertrace.__version__)
    return list(of_scope.metrics)


def test_counters_are_monotonic_sums() -> None:
    """With all that the protocol says of them; labels without a value are left out."""
    (metric,) = decoded(family("counter", "bytes_total", 7, 2.5, unit="bytes"))
    assert (metric.name, metric.unit, metric.description) == ("bytes_total", "By", "What it is.")
    assert metric.WhichOneof("data") == "sum"
    assert metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == 2
    first, second = metric.sum.data_points
    assert attributes_of(first) == {"number": "0"}
    assert (first.as_int, second.as_double) == (7, 2.5)
    assert (first.start_time_unix_nano, first.time_unix_nano) == (1_000 * NANO, 1_010_500_000_000)


def test_differences_start_with_the_reading_before() -> None:
    """And the first ones with the counts themselves."""
    for previous, start in ((BEFORE, 1_005), (None, 1_000)):
        frame = Frame(ORIGIN, previous, DELTA)
        (metric,) = decoded(family("counter", "calls_total", 7), frame=frame)
        assert metric.sum.aggregation_temporality == 1
        assert metric.sum.data_points[0].start_time_unix_nano == start * NANO


def test_a_clock_that_was_set_back_makes_no_interval_negative() -> None:
    """No point ends before it starts."""
    for frame in (Frame(NOW + 60, None, CUMULATIVE), Frame(ORIGIN, NOW + 60, DELTA)):
        (metric,) = decoded(family("counter", "calls_total", 7), frame=frame)
        (point,) = metric.sum.data_points
        assert 0 < point.start_time_unix_nano <= point.time_unix_nano


def test_integers_beyond_64_bits_are_floats() -> None:
    """The protocol has no greater ones, and one of them would make the reading unsendable."""
    (metric,) = decoded(family("counter", "calls_total", 2**63 - 1, 2**63, 2**80))
    values = [getattr(one, one.WhichOneof("value")) for one in metric.sum.data_points]
    assert values == [2**63 - 1, 2.0**63, 2.0**80]


def test_gauges_are_gauges_and_infos_are_counted() -> None:
    """An info is a sum that is not monotonic, and total in any case, as the specification says."""
    frame = Frame(ORIGIN, BEFORE, DELTA)
    gauge, info = decoded(
        family("gauge", "depth", 3, -1.5), family("info", "build_info", 1), frame=frame
    )
    assert [one.WhichOneof("value") for one in gauge.gauge.data_points] == ["as_int", "as_double"]
    assert not info.sum.is_monotonic
    assert info.sum.aggregation_temporality == 2
    assert info.sum.data_points[0].start_time_unix_nano == 1_000 * NANO


def test_histograms_have_the_bounds_that_they_are_counted_in() -> None:
    """Counts are of each bucket; smallest and largest value are not known."""
    value = HistogramReading((0.1, 1.0), (3, 0, 2), 7.5, {})
    (metric,) = decoded(family("histogram", "took_seconds", value, unit="seconds"))
    (point,) = metric.histogram.data_points
    assert metric.unit == "s"
    assert metric.histogram.aggregation_temporality == 2
    assert list(point.explicit_bounds) == [0.1, 1.0]
    assert list(point.bucket_counts) == [3, 0, 2]
    assert (point.count, point.sum) == (5, 7.5)
    assert not point.HasField("min")
    assert not point.HasField("max")


def test_exemplars_have_the_ids_of_their_traces() -> None:
    """Those that came since the reading before; labels that are no such ids are attributes."""
    ids = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "user": "ann"}
    exemplars = {
        0: Exemplar(ids, 0.05, BEFORE + 1),
        1: Exemplar({"trace_id": "4bf9"}, 0.5, BEFORE + 2),
        2: Exemplar(ids, 5.0, BEFORE - 1),
    }
    value = HistogramReading((0.1, 1.0), (1, 1, 1), 5.55, exemplars)
    (metric,) = decoded(family("histogram", "took_seconds", value))
    first, second = metric.histogram.data_points[0].exemplars
    assert (first.trace_id.hex(), first.span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert [(one.key, one.value.string_value) for one in first.filtered_attributes] == [
        ("user", "ann")
    ]
    assert (first.as_double, first.time_unix_nano) == (0.05, 1_006 * NANO)
    assert [(one.key, one.value.string_value) for one in second.filtered_attributes] == [
        ("trace_id", "4bf9")
    ]
    assert not second.trace_id


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    st.integers(0, 8),
)
@settings(max_examples=50, deadline=None)
def test_exponential_buckets_hold_the_values_that_the_protocol_says(
    values: list[float], schema: int
) -> None:
    """Bucket `i` is from `base ** i`, and not up to it: each value is in its own."""
    series = Exponential(((), ()), schema)
    for value in values:
        series.add(value)
    (metric,) = decoded(family("histogram", "sizes", series.value))
    assert metric.WhichOneof("data") == "exponential_histogram"
    (point,) = metric.exponential_histogram.data_points
    assert (point.scale, point.count) == (schema, len(values))
    assert math.isclose(point.sum, sum(values), abs_tol=1e-6)
    limit = scale_of_schema(schema).limit
    for sign, buckets in ((1, point.positive), (-1, point.negative)):
        for at, count in enumerate(buckets.bucket_counts):
            index = buckets.offset + at
            lower, upper = limit(index), limit(index + 1)
            assert count == sum(lower < sign * value <= upper for value in values)
            assert math.isclose(lower, 2 ** (index * 2.0**-schema), rel_tol=1e-9)
    assert point.zero_count == sum(abs(value) <= 2.0**-64 for value in values)


def test_histograms_of_both_kinds_are_sent_as_is_asked_for() -> None:
    """With explicit bounds, or where that is preferred with exponential ones, and exemplars."""
    ids = {"trace_id": TRACE_ID, "span_id": SPAN_ID}
    exponential = ExponentialReading(3, 2.0**-64, 0, {-5: 1, -3: 2}, {}, 2.0, {})
    value = HistogramReading((1.0,), (3, 0), 2.0, {0: Exemplar(ids, 0.7, NOW)}, exponential)
    (classic,) = decoded(family("histogram", "took_seconds", value))
    assert list(classic.histogram.data_points[0].bucket_counts) == [3, 0]
    frame = Frame(ORIGIN, BEFORE, CUMULATIVE, exponential=True)
    (native,) = decoded(family("histogram", "took_seconds", value), frame=frame)
    (point,) = native.exponential_histogram.data_points
    assert point.positive.offset == -6
    assert list(point.positive.bucket_counts) == [1, 0, 2]
    assert point.exemplars[0].span_id.hex() == SPAN_ID
    plain = HistogramReading((1.0,), (3, 0), 2.0, {})
    (mixed,) = decoded(family("histogram", "took_seconds", value, plain), frame=frame)
    assert len(mixed.histogram.data_points) == 2


def test_summaries_are_quantiles_counts_and_sums() -> None:
    """By the names that Prometheus gives them; a quantile without a value is left out."""
    value = SummaryReading(4, 10.0, {0.5: 2.0, 0.99: math.nan}, {})
    quantiles, count, total = decoded(family("summary", "size_bytes", value, unit="bytes"))
    assert (quantiles.name, quantiles.unit) == ("size_bytes", "By")
    (point,) = quantiles.gauge.data_points
    assert attributes_of(point) == {"number": "0", "quantile": "0.5"}
    assert point.as_double == 2.0
    assert (count.name, count.unit, count.sum.data_points[0].as_int) == ("size_bytes_count", "", 4)
    assert (total.name, total.sum.data_points[0].as_double) == ("size_bytes_sum", 10.0)
    assert not count.sum.is_monotonic
    assert not total.sum.is_monotonic


def test_metrics_without_series_are_left_out() -> None:
    """So are summaries of which no quantile has a value."""
    empty = SummaryReading(1, 1.0, {0.5: math.nan}, {})
    metrics = decoded(family("counter", "calls_total"), family("summary", "sizes", empty))
    assert [metric.name for metric in metrics] == ["sizes_count", "sizes_sum"]


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("function_counter_total", "", ""),
        ("took_seconds", "seconds", "s"),
        ("bytes_total", "bytes", "By"),
        ("sent_bytes_total", "bytes", "By"),
        ("hit_ratio", "ratio", "1"),
        ("bytes_sent_total", "bytes", "{bytes}"),
        ("took", "seconds", "{seconds}"),
        ("milliseconds", "seconds", "{seconds}"),
        ("made_orders_total", "orders", "{orders}"),
    ],
)
def test_units_are_those_of_the_protocol_where_the_name_has_them(
    name: str, unit: str, expected: str
) -> None:
    """Other units are in braces, which no backend adds to a name."""
    assert unit_of(name, unit) == expected


def test_the_resource_is_what_the_process_is() -> None:
    """Short names are those of OpenTelemetry; the instance is given unless the program gives it."""
    instance = "00112233445566778899aabbccddeeff"
    assert dict(resource({}, instance).attributes) == {
        "service.name": "unknown_service",
        "service.instance.id": "00112233-4455-4677-8899-aabbccddeeff",
    }
    labels = {"service": "shop", "version": "1.4", "host": "web-1", "service.instance.id": "7"}
    assert dict(resource(labels, instance).attributes) == {
        "service.name": "shop",
        "service.version": "1.4",
        "host": "web-1",
        "service.instance.id": "7",
    }


def test_all_metrics_of_a_reading_can_be_encoded() -> None:
    """What a program without events has."""
    reading = Metrics(workers=False).read()
    names = {metric.name for metric in decoded(*reading.families)}
    assert {"hypertrace_series", "hypertrace_build_info"} <= names
