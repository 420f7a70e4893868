"""Metrics of third-party collectors as messages, decoded with the schema of Prometheus."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
    Timestamp,
    UnknownMetricFamily,
)
from prometheus_client.samples import BucketSpan, Exemplar, NativeHistogram, Sample

from hypertrace_prometheus.exposition.message_sections import MessageSection, message_sections_of

from ..metrics_proto import families, labels_of, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ENCODED = 1_500_000_000.5


def sections(family: Metric, errors: list[BaseException]) -> list[MessageSection]:
    return message_sections_of(family, errors.append)


def written(*given: Metric, errors: int = 0) -> list[Any]:
    """Give the messages of families, of which so many samples or exemplars are wrong."""
    failed: list[BaseException] = []
    parts = [section for family in given for section in sections(family, failed)]
    assert len(failed) == errors, failed
    return families(b"".join(part.message() for part in parts))


def the(family: Metric, *, errors: int = 0) -> Any:
    (found,) = written(family, errors=errors)
    return found


def of(register: Callable[[CollectorRegistry], Any]) -> Any:
    """Give the message of one metric of `prometheus_client`."""
    registry = CollectorRegistry()
    register(registry)
    (family,) = registry.collect()
    return the(family)


def metric(kind: str, *samples: Sample, name: str = "x", unit: str = "") -> Metric:
    family = Metric(name, "Help.", "gauge", unit)
    family.type = kind
    family.samples = list(samples)
    return family


def test_a_counter() -> None:
    """A counter is called as its samples are, and has its exemplar and when it was created."""
    found = of(
        lambda registry: (
            Counter("orders", 'Orders "\\\n é.', ["kind"], registry=registry)
            .labels('a\\b\n"é')
            .inc(3, {"trace_id": "t"})
        )
    )
    assert (found.name, found.help, type_of(found)) == (
        "orders_total",
        'Orders "\\\n é.',
        "COUNTER",
    )
    (one,) = found.metric
    assert labels_of(one) == {"kind": 'a\\b\n"é'}
    assert one.counter.value == 3
    assert (labels_of(one.counter.exemplar), one.counter.exemplar.value) == ({"trace_id": "t"}, 3)
    assert one.counter.exemplar.timestamp.seconds > ENCODED
    assert one.counter.created_timestamp.seconds > ENCODED


@pytest.mark.parametrize("value", [-0.5, 5e-324, 1.5e300, math.inf, -math.inf])
def test_a_gauge(value: float) -> None:
    """A gauge may have any number."""
    found = of(lambda registry: Gauge("depth", "Depth.", registry=registry).set(value))
    assert (found.name, type_of(found)) == ("depth", "GAUGE")
    assert found.metric[0].gauge.value == value


def test_an_info_is_a_gauge() -> None:
    """An info is the gauge that Prometheus reads in the text."""
    found = of(lambda registry: Info("app", "App.", registry=registry).info({"version": "1"}))
    assert (found.name, type_of(found)) == ("app_info", "GAUGE")
    assert (labels_of(found.metric[0]), found.metric[0].gauge.value) == ({"version": "1"}, 1)


def test_a_state_set_is_a_gauge() -> None:
    """Each state is a gauge of 0 or 1."""
    found = of(lambda registry: Enum("state", "S.", states=["on", "off"], registry=registry))
    assert type_of(found) == "GAUGE"
    assert [(labels_of(m), m.gauge.value) for m in found.metric] == [
        ({"state": "on"}, 1),
        ({"state": "off"}, 0),
    ]


def test_a_histogram() -> None:
    """The samples of one histogram are one metric, with buckets in ascending order."""
    found = of(
        lambda registry: (
            Histogram("wait", "Wait.", ["a"], buckets=[1e-5, 1e7], registry=registry)
            .labels("b")
            .observe(0.1, {"trace_id": "t"})
        )
    )
    assert (found.name, type_of(found)) == ("wait", "HISTOGRAM")
    (one,) = found.metric
    assert labels_of(one) == {"a": "b"}
    histogram = one.histogram
    assert (histogram.sample_count, histogram.sample_sum) == (1, 0.1)
    assert [(b.cumulative_count, b.upper_bound) for b in histogram.bucket] == [
        (0, 1e-5),
        (1, 1e7),
        (1, math.inf),
    ]
    assert [labels_of(b.exemplar) for b in histogram.bucket] == [{}, {"trace_id": "t"}, {}]
    assert histogram.created_timestamp.seconds > ENCODED
    assert not histogram.HasField("schema")
    assert not histogram.HasField("sample_count_float")


def test_a_histogram_without_sum() -> None:
    """A sum that is not given is no number, and the count is that of the last bucket."""
    family = HistogramMetricFamily("x", "X.", buckets=[("-1.0", 1), ("+Inf", 3)], sum_value=None)
    histogram = the(family).metric[0].histogram
    assert histogram.sample_count == 3
    assert math.isnan(histogram.sample_sum)


def test_counts_that_are_no_integers() -> None:
    """A count with a fraction is there as a float, and whole beside it."""
    family = HistogramMetricFamily("x", "X.", buckets=[("1", 1.5), ("+Inf", 2.5)], sum_value=1)
    histogram = the(family).metric[0].histogram
    assert (histogram.sample_count, histogram.sample_count_float) == (2, 2.5)
    first, _ = histogram.bucket
    assert (first.cumulative_count, first.cumulative_count_float) == (1, 1.5)


@pytest.mark.parametrize(("count", "whole"), [(-1, 0), (math.inf, 2**64 - 1), (math.nan, 0)])
def test_counts_that_are_impossible(count: float, whole: int) -> None:
    """A count that no integer can be is the nearest one, and itself as a float."""
    family = HistogramMetricFamily("x", "X.", buckets=[("+Inf", count)], sum_value=1)
    (bucket,) = the(family).metric[0].histogram.bucket
    assert bucket.cumulative_count == whole
    assert repr(bucket.cumulative_count_float) == repr(float(count))


def test_a_gauge_histogram_is_a_histogram() -> None:
    """Its counts may fall; Prometheus reads the same series of it."""
    family = GaugeHistogramMetricFamily("x", "X.", buckets=[("1", 1), ("+Inf", 2)], gsum_value=3)
    found = the(family)
    assert (found.name, type_of(found)) == ("x", "HISTOGRAM")
    histogram = found.metric[0].histogram
    assert (histogram.sample_count, histogram.sample_sum, len(histogram.bucket)) == (2, 3, 2)


def test_a_native_histogram() -> None:
    """What `prometheus_client` has as a native histogram is one."""
    native = NativeHistogram(
        6,
        9.5,
        3,
        0.001,
        1,
        [BucketSpan(-2, 2), BucketSpan(1, 1)],
        [BucketSpan(0, 1)],
        [1, 1, -1],
        [1],
    )
    found = the(metric("histogram", Sample("x", {"a": "b"}, 0, None, None, native)))
    assert labels_of(found.metric[0]) == {"a": "b"}
    histogram = found.metric[0].histogram
    assert (histogram.sample_count, histogram.sample_sum) == (6, 9.5)
    assert (histogram.schema, histogram.zero_threshold, histogram.zero_count) == (3, 0.001, 1)
    assert [(s.offset, s.length) for s in histogram.positive_span] == [(-2, 2), (1, 1)]
    assert list(histogram.positive_delta) == [1, 1, -1]
    assert [(s.offset, s.length) for s in histogram.negative_span] == [(0, 1)]
    assert list(histogram.negative_delta) == [1]


def test_histograms_of_a_family_are_all_native_or_none_is() -> None:
    """Prometheus fails for a family of both, so the native one is shown by count and sum."""
    native = NativeHistogram(1, 2.5, 3, 0.001, 1, None, None, None, None)
    found = the(
        metric(
            "histogram",
            Sample("x", {"a": "1"}, 0, None, None, native),
            Sample("x_bucket", {"a": "2", "le": "1"}, 1),
        )
    )
    assert [one.histogram.HasField("schema") for one in found.metric] == [False, False]
    assert found.metric[0].histogram.sample_sum == 2.5


def test_a_summary() -> None:
    """A summary has count, sum, creation and quantiles."""
    plain = of(lambda registry: Summary("size", "S.", registry=registry).observe(3))
    summary = plain.metric[0].summary
    assert (type_of(plain), summary.sample_count, summary.sample_sum) == ("SUMMARY", 1, 3)
    assert summary.created_timestamp.seconds > ENCODED
    family = SummaryMetricFamily("x", "X.", count_value=2, sum_value=5)
    family.add_sample("x", {"quantile": "0.5"}, 2.5)
    (quantile,) = the(family).metric[0].summary.quantile
    assert (quantile.quantile, quantile.value) == (0.5, 2.5)


def test_an_unknown_metric_is_untyped() -> None:
    """What has no type has none in the message."""
    found = the(UnknownMetricFamily("x", "X.", 3))
    assert (type_of(found), found.metric[0].untyped.value) == ("UNTYPED", 3)


def test_samples_of_other_names_are_untyped() -> None:
    """A sample that its type does not have is shown under its own name, as in text."""
    old = metric("counter", Sample("x", {"a": "1"}, 4), Sample("x_total", {}, 5))
    bare = metric("summary", Sample("y_max", {}, 7), name="y")
    found = {one.name: (type_of(one), len(one.metric)) for one in written(old, bare)}
    assert found == {"x_total": ("COUNTER", 1), "x": ("UNTYPED", 1), "y_max": ("UNTYPED", 1)}


def test_a_metric_that_was_only_created_is_left_out() -> None:
    """A time of creation without a value is no metric."""
    samples = [Sample("x_created", {}, ENCODED)]
    assert written(*(metric(kind, *samples) for kind in ("counter", "summary", "histogram"))) == []


@pytest.mark.parametrize(
    ("timestamp", "milliseconds"),
    [(1234.5, 1_234_500), (Timestamp(1235, 7_000_000), 1_235_007), (-1.5, -1_500), (0, 0)],
)
def test_a_sample_has_its_time(timestamp: Any, milliseconds: int) -> None:
    """The time of a sample is in milliseconds; metrics of other times are others."""
    found = the(metric("gauge", Sample("x", {}, 1, timestamp), Sample("x", {}, 2, 99)))
    assert [one.timestamp_ms for one in found.metric] == [milliseconds, 99_000]


def test_the_unit_is_the_end_of_the_name() -> None:
    """A unit that the name does not end in would make Prometheus refuse the page."""
    assert the(metric("gauge", Sample("x_meters", {}, 1), name="x", unit="meters")).unit == "meters"
    assert the(CounterMetricFamily("x_bytes", "X.", 1, unit="bytes")).unit == "bytes"
    wrong = metric("gauge", Sample("x", {}, 1))
    wrong.unit = "meters"
    assert the(wrong).unit == ""


# --- what is wrong ----------------------------------------------------------------------

GOOD = Sample("x", {"good": "yes"}, 1)


class Loud(str):
    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError


@pytest.mark.parametrize(
    "sample",
    [
        Sample("x", {"__name__": "y"}, 1),
        Sample("x", {"a.b": "1"}, 1),
        Sample("x", {"": "1"}, 1),
        Sample("x", {"a": 1}, 1),  # type: ignore[dict-item]
        Sample("x", {"a": None}, 1),  # type: ignore[dict-item]
        Sample("x", {"a": "\ud800"}, 1),
        Sample("x", None, 1),  # type: ignore[arg-type]
        Sample("x", {}, "many"),  # type: ignore[arg-type]
        Sample("x", {}, None),  # type: ignore[arg-type]
        Sample("x", {}, 10**400),
        Sample("x", {}, 1, 1e30),
        Sample("x", {}, 1, math.nan),
        Sample("x", {}, 1, "1.2.3"),  # type: ignore[arg-type]
        Sample("not a name", {}, 1),
        Sample("x.y", {}, 1),
        Sample("", {}, 1),
        Sample(None, {}, 1),  # type: ignore[arg-type]
        GOOD,
    ],
)
def test_a_sample_that_is_wrong_costs_itself(sample: Sample) -> None:
    """A sample that Prometheus cannot read, or that is there already, is reported and left out."""
    (one,) = the(metric("gauge", GOOD, sample), errors=1).metric
    assert (labels_of(one), one.gauge.value) == ({"good": "yes"}, 1)


@pytest.mark.parametrize(
    "exemplar",
    [
        Exemplar({"a.b": "1"}, 1),
        Exemplar({"__name__": "1"}, 1),
        Exemplar({"a": "\ud800"}, 1),
        Exemplar({"a": 1}, 1),  # type: ignore[dict-item]
        Exemplar({}, "x"),  # type: ignore[arg-type]
        Exemplar({}, 1, math.nan),
        Exemplar({}, 1, math.inf),
        Exemplar({}, 1, "1.2.3"),  # type: ignore[arg-type]
        "trace",
    ],
)
def test_an_exemplar_that_is_wrong_costs_itself(exemplar: Any) -> None:
    """Its sample is shown without it."""
    found = the(metric("counter", Sample("x_total", {}, 1, None, exemplar)), errors=1)
    assert found.metric[0].counter.value == 1
    assert not found.metric[0].counter.HasField("exemplar")


def test_an_exemplar_that_no_message_has_is_reported() -> None:
    """The count of a histogram is shown without the exemplar, for which there is no place."""
    sample = Sample("x_count", {}, 1, None, Exemplar({"a": "b"}, 1))
    found = the(metric("histogram", sample), errors=1)
    assert found.metric[0].histogram.sample_count == 1


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("type", "nonsense"),
        ("type", None),
        ("name", "not a name"),
        ("name", None),
        ("documentation", "\ud800"),
        ("documentation", None),
        ("samples", None),
    ],
)
def test_a_family_that_is_wrong_is_an_error(attribute: str, value: Any) -> None:
    """What cannot be written at all is an error of its collector."""
    family = metric("gauge", GOOD)
    setattr(family, attribute, value)
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        sections(family, [])


def test_code_of_the_application_runs_before_the_page_is_made() -> None:
    """A text of another class is made plain when it is collected, so its code costs no page."""
    family = metric("gauge", Sample("x", {Loud("a"): Loud("b")}, 1))
    family.documentation = Loud("Help.")
    found = the(family)
    assert (found.help, labels_of(found.metric[0])) == ("Help.", {"a": "b"})


# --- sections of one name ---------------------------------------------------------------


def joined(*given: Metric) -> tuple[Any, list[BaseException]]:
    errors: list[BaseException] = []
    first, *others = (sections(family, errors)[0] for family in given)
    for other in others:
        first.join(other, errors.append)
    (found,) = families(first.message())
    return found, errors


def values(found: Any) -> Iterable[tuple[dict[str, str], float]]:
    return [(labels_of(one), one.gauge.value) for one in found.metric]


def test_sections_of_one_name_are_joined() -> None:
    """Of a series that two collectors give, the first is shown, and of others each."""
    found, errors = joined(
        metric("gauge", Sample("x", {"a": "1"}, 1)),
        metric("gauge", Sample("x", {"a": "1"}, 2), Sample("x", {"a": "2"}, 3)),
    )
    assert values(found) == [({"a": "1"}, 1), ({"a": "2"}, 3)]
    assert len(errors) == 1


def test_a_section_of_another_type_is_not_joined() -> None:
    """A name has one type, that of the first."""
    found, errors = joined(metric("gauge", GOOD), metric("unknown", Sample("x", {}, 2)))
    assert values(found) == [({"good": "yes"}, 1)]
    assert "another type" in str(errors[0])
