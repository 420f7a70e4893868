"""Messages that a real Prometheus scrapes, and native histograms in it."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import GaugeHistogramMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.metrics import Distribution, Metrics
from hypertrace.metrics import Summary as DeclaredSummary
from hypertrace.testing import reset
from hypertrace_prometheus import PrometheusExporter

DURATIONS = "function_duration_seconds"
FEATURES = ("native-histograms", "exemplar-storage")


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def exemplars(self, promql: str, since: float) -> list[dict[str, Any]]:
        """Give the exemplars of the series that `promql` asks for."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


class Others(Collector):
    """A collector of the types that have no class to count with."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeHistogramMetricFamily(
            "sizes", "Sizes.", buckets=[("1.0", 2), ("+Inf", 3)], gsum_value=2.5
        )
        yield UnknownMetricFamily("unknown", "Unknown.", value=7)
        old = Metric("old", "Old.", "counter")
        old.add_sample("old", {"kind": "a"}, 4)
        yield old


@dataclass
class Shop:
    """Durations that were counted, and the Prometheus that scraped them since."""

    prometheus: Prometheus
    seconds: list[float]
    began: float

    def value(self, promql: str) -> float:
        ((_, value),) = self.prometheus.query(promql)
        return value


@pytest.fixture(scope="module")
def shop(each_prometheus: Callable[..., Prometheus]) -> Iterator[Shop]:
    """Count durations over four decades, and let a Prometheus with the feature scrape them."""
    chance, began = random.Random(1), time.time()
    with PrometheusExporter(0, native_histograms=True, exemplar=lambda: {"trace_id": "t-1"}) as it:
        registry = it.registry
        assert it.port
        prometheus = each_prometheus(it.port, features=FEATURES)
        set_trace_function(it)
        seconds = [10 ** chance.uniform(-4, 0) for _ in range(5_000)]
        for each in seconds:
            cart = TracedObject("Cart", 1)
            it(SpanEvent(None, cart, None, Caller("pay", "/a.py", "a", 1, 1), each, "ok", None))
        it(TraceEvent("é\\n", TracedObject("Cart", 1), None, Caller("f", "/a.py", "a", 1, 1)))
        Counter("orders", "Orders.", ["kind"], registry=registry).labels("a\\b\n").inc(3)
        Gauge("depth", "Depth.", registry=registry).set(-0.5)
        Summary("wait", "Wait.", registry=registry).observe(2.5)
        plain = Histogram("plain", "Plain.", buckets=(1, 2), registry=registry)
        for value in (0.5, 1.5, 5):
            plain.observe(value)
        Info("app", "The application.", registry=registry).info({"version": "1"})
        Enum("state", "State.", states=["up", "down"], registry=registry)
        registry.register(Others())
        prometheus.wait_for_scrape("hypertrace")
        yield Shop(prometheus, seconds, began)
    reset()


def test_histogram_count_and_sum_are_those_of_the_program(shop: Shop) -> None:
    """A native histogram has as many values, and the same sum, as the program timed."""
    assert shop.value(f"histogram_count({DURATIONS})") == len(shop.seconds)
    assert math.isclose(shop.value(f"histogram_sum({DURATIONS})"), sum(shop.seconds), rel_tol=1e-9)


@pytest.mark.parametrize("quantile", [0.01, 0.5, 0.9, 0.99])
def test_quantiles_are_right(shop: Shop, quantile: float) -> None:
    """`histogram_quantile` of a native histogram is within a bucket of the exact quantile."""
    exact = sorted(shop.seconds)[math.ceil(quantile * len(shop.seconds)) - 1]
    found = shop.value(f"histogram_quantile({quantile}, {DURATIONS})")
    assert exact / 1.1 < found < exact * 1.1


def test_buckets_of_a_native_histogram_are_no_series(shop: Shop) -> None:
    """Instead of a series for each classic bucket there is one for all."""
    assert shop.prometheus.query(f"count({DURATIONS}_bucket)") == []
    assert shop.value(f"count({DURATIONS})") == 1


def test_exemplars_are_there(shop: Shop) -> None:
    """Exemplars of a native histogram are in the store of exemplars."""
    (found,) = shop.prometheus.exemplars(DURATIONS, shop.began)
    assert {one["labels"]["trace_id"] for one in found["exemplars"]} == {"t-1"}


@pytest.mark.parametrize(
    ("promql", "value"),
    [
        (r'orders_total{kind="a\\b\n"}', 3),
        ("depth", -0.5),
        ("wait_count", 1),
        ("wait_sum", 2.5),
        ("plain_count", 3),
        ("plain_sum", 7),
        ('plain_bucket{le="1.0"}', 1),
        ('plain_bucket{le="2.0"}', 2),
        ('plain_bucket{le="+Inf"}', 3),
        ('app_info{version="1"}', 1),
        ('state{state="up"}', 1),
        ('state{state="down"}', 0),
        ('sizes_bucket{le="1.0"}', 2),
        ("sizes_count", 3),
        ("sizes_sum", 2.5),
        ("unknown", 7),
        ('old{kind="a"}', 4),
        (r'function_counter_total{id="é\\n"}', 1),
        ('function_counter_total{caller_functionname="pay"}', 5_000),
        ("function_in_progress", 0),
        ("hypertrace_build_info", 1),
    ],
)
def test_metrics_of_every_type_are_there(shop: Shop, promql: str, value: float) -> None:
    """Each type that the application or hypertrace has is in Prometheus with its value."""
    assert shop.value(promql) == value


class Upload:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def send(self, size: float) -> None:
        self.tracer.trace(size=size)


def test_declared_metrics_are_there(each_prometheus: Callable[..., Prometheus]) -> None:
    """Declared native histograms have values of either sign, and summaries their quantiles."""
    sizes = [float(number) for number in range(-20, 1_000)]
    declared = [
        Distribution("size_bytes", of="Upload.*", value="size", unit="bytes", native=True),
        DeclaredSummary("sizes", of="Upload.*", value="size", quantiles=(0.5, 0.9)),
    ]
    with PrometheusExporter(0, metrics=Metrics(declared=declared)) as exporter:
        assert exporter.port
        set_trace_function(exporter)
        upload = Upload()
        for size in sizes:
            upload.send(size)
        prometheus = each_prometheus(exporter.port, features=FEATURES)
        prometheus.wait_for_scrape("hypertrace")
        found = {
            promql: prometheus.query(promql)[0][1]
            for promql in (
                "histogram_count(size_bytes)",
                "histogram_sum(size_bytes)",
                "histogram_quantile(0.5, size_bytes)",
                "sizes_count",
                "sizes_sum",
                'sizes{quantile="0.9"}',
            )
        }
    count, total, median, *of_summary, ninth = found.values()
    assert (count, total, of_summary) == (len(sizes), sum(sizes), [count, total])
    assert abs(median - 489) < 489 * 0.1
    assert abs(ninth - 897) < 897 * 0.01


def _bought(exporter: PrometheusExporter) -> None:
    cart = TracedObject("Cart", 1)
    for seconds in (0.001, 0.2, 0.3):
        exporter(SpanEvent(None, cart, None, Caller("buy", "/a", "a", 1, 1), seconds, "ok", None))


def test_without_the_feature_there_are_classic_buckets(
    each_prometheus: Callable[..., Prometheus],
) -> None:
    """A Prometheus that does not ask for native histograms gets the buckets it always got."""
    with PrometheusExporter(0, native_histograms=True, buckets=(0.01, 0.25)) as exporter:
        assert exporter.port
        _bought(exporter)
        prometheus = each_prometheus(exporter.port)
        prometheus.wait_for_scrape("hypertrace")
        found = prometheus.query(f"{DURATIONS}_bucket")
    assert {labels["le"]: value for labels, value in found} == {"0.01": 1, "0.25": 2, "+Inf": 3}


def test_messages_without_native_histograms_have_classic_buckets(
    start_prometheus: Callable[..., Prometheus],
) -> None:
    """A Prometheus that asks for messages for another reason gets what it gets as text."""
    features = ["created-timestamp-zero-ingestion"]
    with PrometheusExporter(0, buckets=(0.01, 0.25)) as exporter:
        assert exporter.port
        _bought(exporter)
        Counter("orders", "Orders.", registry=exporter.registry).inc(3)
        prometheus = start_prometheus(exporter.port, program="prometheus3", features=features)
        prometheus.wait_for_scrape("hypertrace")
        found = prometheus.query(f"{DURATIONS}_bucket")
        orders = prometheus.query("orders_total")
    assert {labels["le"]: value for labels, value in found} == {"0.01": 1, "0.25": 2, "+Inf": 3}
    assert [value for _, value in orders] == [3]
