"""VictoriaMetrics over OTLP: what it answers equals what the program did."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter, with_counts
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, Summary
from hypertrace_prometheus import PrometheusExporter

from .databases import VictoriaMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEVER = 3_600.0
PATH = "/opentelemetry/v1/metrics"
NAMINGS = ((), ("-opentelemetry.usePrometheusNaming",))
"""Metrics and attributes are called what they are sent as, or as Prometheus would have it."""


@pytest.fixture(scope="module", params=NAMINGS, ids=["as sent", "Prometheus naming"])
def victoria(
    request: pytest.FixtureRequest,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[VictoriaMetrics]:
    """Give a running VictoriaMetrics with one naming, and then with the other."""
    program, folder = component("victoria-metrics1"), tmp_path_factory.mktemp("victoria")
    with VictoriaMetrics.started(program, folder, free_port(), *request.param) as server:
        yield server


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Give a beginning of names that no other test has."""
    # Without two underscores in a row, of which Prometheus' naming makes one.
    return f"{request.node.originalname[5:25].strip('_')}_"


class Shop:
    """What the program does, and how often."""

    DECLARED = (
        Counter("orders_total", of="Shop.*", tags=["channel"]),
        Sum("paid_total", of="Shop.*", value="amount"),
        Sum("sent_bytes_total", of="Shop.*", value="amount", unit="bytes"),
        LastValue("fill_ratio", of="Shop.*", value="amount", unit="ratio"),
        LastValue("last_amount", of="Shop.*", value="amount", unit="euros"),
        Summary("amounts", of="Shop.*", value="amount"),
        Distribution("baskets", of="Shop.*", value="amount", buckets=(1.0, 3.0)),
    )

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def order(self, channel: str, amount: float) -> None:
        with self.tracer.span("order", {"channel": channel, "amount": amount}):
            pass


def last(victoria: VictoriaMetrics, name: str, labels: str = "") -> float:
    return victoria.value(f"sum(last_over_time({name}{{{labels}}}[1h]))")


def test_totals_are_what_the_program_did(victoria: VictoriaMetrics, prefix: str) -> None:
    """Counters, histograms and their buckets, gauges, summaries; exactly."""
    metrics = Metrics(declared=Shop.DECLARED, labels={"service": "the shop"}, prefix=prefix)
    set_trace_function(metrics)
    with OpenTelemetryExporter(
        f"{victoria.url}{PATH}", metrics=metrics, interval=NEVER
    ) as exporter:
        shop = Shop()
        for number in range(5):
            for _ in range(100):
                shop.order("web", 0.5)
                shop.order('phone, "fax" = old\n', 2)
            assert exporter.flush(), number
    assert (exporter.dropped, exporter.failures) == (0, 0)
    expected = {
        "function_counter_total": 1000,
        "paid_total": 1250,
        "sent_bytes_total": 1250,
        "fill_ratio": 2,
        "last_amount": 2,
        "function_duration_seconds_count": 1000,
        "amounts_count": 1000,
        "amounts_sum": 1250,
        "baskets_count": 1000,
        "baskets_sum": 1250,
        "function_in_progress": 0,
    }
    for name, value in expected.items():
        victoria.wait_for_value(f"sum(last_over_time({prefix}{name}[1h]))", value)
    assert last(victoria, f"{prefix}orders_total", 'channel="web"') == 500
    assert last(victoria, f"{prefix}orders_total", r'channel="phone, \"fax\" = old\n"') == 500
    assert last(victoria, f"{prefix}baskets_bucket", 'le="1"') == 500
    assert last(victoria, f"{prefix}baskets_bucket", 'le="3"') == 1000
    assert last(victoria, f"{prefix}amounts", 'quantile="0.99"') == pytest.approx(2, rel=0.01)
    total = sum(
        value.sum
        for value in metrics.read().family(f"{prefix}function_duration_seconds").values
        if not isinstance(value, int | float)
    )
    assert last(victoria, f"{prefix}function_duration_seconds_sum") == pytest.approx(total)


def test_names_are_those_that_prometheus_shows(victoria: VictoriaMetrics, prefix: str) -> None:
    """Also where the backend adds units and `_total` to names."""
    metrics = Metrics(declared=Shop.DECLARED, prefix=prefix)
    set_trace_function(metrics)
    Shop().order("web", 0.5)
    with OpenTelemetryExporter(f"{victoria.url}{PATH}", metrics=metrics, interval=NEVER):
        pass
    with PrometheusExporter(None, metrics=metrics, collect_defaults=False) as prometheus:
        page = prometheus.metrics()
    shown = {re.split(r"[ {]", line)[0] for line in page.splitlines() if line[:1] not in {"#", ""}}
    ours = {name for name in shown if name.startswith(prefix)} | {"hypertrace_build_info"}
    assert len(ours) > 15

    def names() -> set[str]:
        victoria.ask("/internal/force_flush")
        answer = victoria.ask("/api/v1/label/__name__/values")
        return {name for name in answer["data"] if name.startswith((prefix, "hypertrace_build"))}

    victoria.wait(lambda: names() >= ours)
    assert names() == ours


def test_differences_add_up_to_what_the_program_did(victoria: VictoriaMetrics, prefix: str) -> None:
    """VictoriaMetrics stores them as they come."""
    metrics = Metrics(declared=Shop.DECLARED, prefix=prefix)
    set_trace_function(metrics)
    with OpenTelemetryExporter(
        f"{victoria.url}{PATH}", metrics=metrics, interval=NEVER, temporality="delta"
    ) as exporter:
        shop = Shop()
        for _ in range(5):
            for _ in range(100):
                shop.order("web", 0.5)
            assert exporter.flush()
    expected = {
        "orders_total": 500,
        "paid_total": 250,
        "function_duration_seconds_count": 500,
        "amounts_sum": 250,
        "baskets_count": 500,
    }
    for name, value in expected.items():
        victoria.wait_for_value(f"sum(sum_over_time({prefix}{name}[1h]))", value)


def test_exponential_histograms_have_the_right_quantiles(
    victoria: VictoriaMetrics, prefix: str
) -> None:
    """In VictoriaMetrics' own buckets; each value is in the one it belongs to."""
    sizes = Distribution("sizes", of="*", value="size", native=True)
    metrics = Metrics(declared=[sizes], prefix=prefix)
    set_trace_function(metrics)
    with OpenTelemetryExporter(f"{victoria.url}{PATH}", metrics=metrics, interval=NEVER):
        for number in range(1, 1001):
            Tracer("shop").trace(None, {"size": number})
    victoria.wait(lambda: last(victoria, f"{prefix}sizes_count") == 1000)
    assert last(victoria, f"{prefix}sizes_sum") == 500_500
    assert last(victoria, f"{prefix}sizes_bucket") == 1000
    query = f"histogram_quantile(0.5, sum(last_over_time({prefix}sizes_bucket[1h])) by (vmrange))"
    assert victoria.value(query) == pytest.approx(500, rel=0.05)


def test_a_server_that_goes_away_and_comes_back(victoria: VictoriaMetrics, prefix: str) -> None:
    """What the program did meanwhile is there afterwards, as totals and as differences."""
    metrics = Metrics(prefix=prefix)
    set_trace_function(metrics)
    sides = {
        kind: OpenTelemetryExporter(
            f"{victoria.url}{PATH}?extra_label=kind={kind}",
            metrics=metrics,
            interval=NEVER,
            temporality=kind,
        )
        for kind in ("cumulative", "delta")
    }
    Tracer("shop").trace()
    assert all(exporter.flush() for exporter in sides.values())
    victoria.stop()
    try:
        for _ in range(10):
            Tracer("shop").trace()
            for exporter in sides.values():
                exporter.flush(0.1)
        assert all(exporter.failures for exporter in sides.values())
    finally:
        victoria.start()
    for exporter in sides.values():
        victoria.wait(partial(exporter.flush, 0.1))
        exporter.stop()
    calls = f"{prefix}function_counter_total"
    victoria.wait(lambda: last(victoria, calls, 'kind="cumulative"') == 11)
    query = f'sum(sum_over_time({calls}{{kind="delta"}}[1h]))'
    victoria.wait(lambda: victoria.value(query) == 11)


PROGRAM = """
import os, sys
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter

exporter = OpenTelemetryExporter(workers=sys.argv[2], prefix=sys.argv[1], interval=3600)
set_trace_function(exporter)
for number in range(4):
    if os.fork() == 0:
        for _ in range(10 ** number):
            Tracer("shop").trace()
        if number == 3:
            os._exit(0)  # another worker sends what it counted
        sys.exit()
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_workers_are_one_instance(victoria: VictoriaMetrics, prefix: str, tmp_path: Path) -> None:
    """The sum of all, in one series, whichever of them sends."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, prefix, str(tmp_path / "shared")],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent),
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{victoria.url}{PATH}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "forking",
        },
        check=True,
        timeout=120,
    )
    calls = f"{prefix}function_counter_total"
    victoria.wait(lambda: last(victoria, calls) == 1111)
    assert victoria.value(f"count(last_over_time({calls}[1h]))") == 1
    (series,) = victoria.ask("/api/v1/series", **{"match[]": calls})["data"]
    assert series.get("service.name", series.get("service_name")) == "forking"


def test_counts_beside_those_of_the_application(victoria: VictoriaMetrics, prefix: str) -> None:
    """By the application's own exporter."""
    metrics = Metrics(prefix=prefix)
    set_trace_function(metrics)
    otlp = OTLPMetricExporter(f"{victoria.url}{PATH}")
    reader = PeriodicExportingMetricReader(with_counts(otlp, metrics))
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("shop").create_counter(f"{prefix}visits_total").add(5)
    for _ in range(7):
        Tracer("shop").trace()
    provider.shutdown()
    victoria.wait(lambda: last(victoria, f"{prefix}visits_total") == 5)
    victoria.wait(lambda: last(victoria, f"{prefix}function_counter_total") == 7)


HOSTILE = st.text(
    st.one_of(st.sampled_from('\\\n\r\t ,="{}#\x00\x7f\u2028'), st.characters(codec="utf-8")),
    min_size=1,
    max_size=12,
)


def test_any_value_of_a_label_comes_back(victoria: VictoriaMetrics, prefix: str) -> None:
    """As it is: OTLP needs no replacement."""
    numbers = itertools.count()

    @settings(max_examples=10, deadline=None, database=None)
    @given(st.sets(HOSTILE, min_size=1, max_size=40))
    def round_trip(values: set[str]) -> None:
        name = f"{prefix}{next(numbers)}_"
        declared = Counter("orders_total", of="*", tags=["channel"])
        metrics = Metrics(declared=[declared], prefix=name)
        set_trace_function(metrics)
        with OpenTelemetryExporter(
            f"{victoria.url}{PATH}", metrics=metrics, interval=NEVER
        ) as exporter:
            for value in values:
                Tracer("shop").trace(None, {"channel": value})
            assert exporter.flush()

        def labels() -> list[dict[str, str]]:
            victoria.ask("/internal/force_flush")
            answer = victoria.ask("/api/v1/series", **{"match[]": f"{name}orders_total"})
            found: list[dict[str, str]] = answer["data"]
            return found

        victoria.wait(lambda: len(labels()) >= len(values))
        assert {one["channel"] for one in labels()} == values
        assert len({frozenset(one) for one in labels()}) == 1

    round_trip()


def test_the_queries_of_the_page_have_answers(victoria: VictoriaMetrics, root: Path) -> None:
    """Each that docs/opentelemetry.md shows, on what its kind of program sends."""
    page = (root / "docs" / "opentelemetry.md").read_text()
    queries = [
        query
        for block in re.findall(r"```promql\n(.*?)```", page, re.DOTALL)
        for query in filter(None, map(str.strip, block.splitlines()))
    ]
    assert len(queries) == 3
    metrics = Metrics()
    set_trace_function(metrics)
    with OpenTelemetryExporter(
        f"{victoria.url}{PATH}", metrics=metrics, interval=NEVER
    ) as exporter:
        for _ in range(4):
            Shop().order("web", 1)
            assert exporter.flush()
            time.sleep(0.01)  # points of one millisecond are one
    for query in queries:
        victoria.wait(partial(victoria.value, query))


def test_the_configuration_of_the_collector_parses(root: Path) -> None:
    """And receives where the exporter sends by default."""
    yaml: Any = pytest.importorskip("yaml")
    page = (root / "docs" / "opentelemetry.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    configuration = yaml.safe_load(block)
    assert configuration["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    (pipeline,) = configuration["service"]["pipelines"].values()
    assert set(pipeline["exporters"]) <= set(configuration["exporters"])
    (exporter,) = configuration["exporters"].values()
    assert exporter["metrics_endpoint"].endswith(PATH)
