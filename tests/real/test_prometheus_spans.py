"""Durations in a real Prometheus: those that the spans of an application took."""

import asyncio
import math
import re
import runpy
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from hypertrace import SpanEvent, TraceEvent, fan_out, set_trace_function
from hypertrace.testing import reset
from hypertrace_prometheus import PrometheusExporter

BUCKETS = (0.005, 0.012, 0.018, 0.025, 0.05, 0.1, 0.2, 0.5)


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def exemplars(self, promql: str, since: float) -> list[dict[str, Any]]:
        """Give the exemplars of the series that `promql` asks for."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


@dataclass
class Kitchen:
    """An example that has done its work three times, and the Prometheus that scraped it since."""

    prometheus: Prometheus
    spans: list[SpanEvent]
    trace_id: str
    began: float

    def durations(self, function: str, *results: str) -> list[float]:
        return [
            span.duration
            for span in self.spans
            if span.caller.function_name == function and span.result in results
        ]

    def value(self, promql: str) -> float:
        ((_, value),) = self.prometheus.query(promql)
        return value


@pytest.fixture(scope="module")
def kitchen(root: Path, start_prometheus: Callable[[int], Prometheus]) -> Iterator[Kitchen]:
    """Run examples/kitchen.py inside a trace of OpenTelemetry, under the eyes of a Prometheus."""
    events: list[TraceEvent] = []
    began = time.time()
    provider = TracerProvider(shutdown_on_exit=False)
    with (
        pytest.MonkeyPatch.context() as patch,
        PrometheusExporter(0, buckets=BUCKETS, upstream=True) as exporter,
    ):
        # The library lets it be set once in a process.
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        assert exporter.port
        prometheus = start_prometheus(exporter.port)
        evening = runpy.run_path(str(root / "examples" / "kitchen.py"))["evening"]
        set_trace_function(fan_out(exporter, events.append))
        with provider.get_tracer("test").start_as_current_span("evening") as span:
            for _ in range(3):
                asyncio.run(evening())
        reset()
        prometheus.wait_for_scrape("hypertrace")
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        spans = [event for event in events if isinstance(event, SpanEvent)]
        yield Kitchen(prometheus, spans, trace_id, began)


def _quantile(quantile: float, durations: Sequence[float]) -> float:
    """Do what `histogram_quantile` does: a straight line inside the bucket with that rank."""
    bounds = (*BUCKETS, math.inf)
    counts = [0] * len(bounds)
    for duration in durations:
        counts[bisect_left(BUCKETS, duration)] += 1
    rank, below, bucket = quantile * len(durations), 0, 0
    while below + counts[bucket] < rank:
        below += counts[bucket]
        bucket += 1
    if math.isinf(bounds[bucket]):
        return BUCKETS[-1]
    start = BUCKETS[bucket - 1] if bucket else 0.0
    return start + (bounds[bucket] - start) * (rank - below) / counts[bucket]


@pytest.mark.parametrize("function", ["cook", "_bring", "serve"])
@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_quantiles_are_those_of_the_spans(kitchen: Kitchen, function: str, quantile: float) -> None:
    """`histogram_quantile` answers what the durations of all spans of a function give."""
    buckets = f'function_duration_seconds_bucket{{caller_functionname="{function}"}}'
    found = kitchen.value(f"histogram_quantile({quantile}, sum by (le) ({buckets}))")
    durations = kitchen.durations(function, "ok", "error", "cancelled")
    assert found == pytest.approx(_quantile(quantile, durations))
    assert len(durations) >= 9


def test_means_are_those_of_the_spans(kitchen: Kitchen) -> None:
    """Sum and count give the mean duration of the spans that ended well."""
    labels = '{caller_functionname="cook",result="ok"}'
    found = kitchen.value(
        f"sum(function_duration_seconds_sum{labels}) / sum(function_duration_seconds_count{labels})"
    )
    durations = kitchen.durations("cook", "ok")
    assert found == pytest.approx(math.fsum(durations) / len(durations))


@pytest.mark.parametrize(("function", "ratio"), [("cook", 1 / 7), ("_bring", 2 / 7)])
def test_the_error_ratio_is_that_of_the_spans(
    kitchen: Kitchen, function: str, ratio: float
) -> None:
    """Failed spans among all are as many as the application had failures."""
    spans = f'function_duration_seconds_count{{caller_functionname="{function}"'
    assert kitchen.value(f'sum({spans},result="error"}}) / sum({spans}}})') == pytest.approx(ratio)


def test_results_and_exceptions_are_those_of_the_spans(kitchen: Kitchen) -> None:
    """Spans by result, exceptions by class, and calls, are exactly those that ended."""
    for labels, value in kitchen.prometheus.query(
        "sum by (caller_functionname, result) (function_duration_seconds_count)"
    ):
        durations = kitchen.durations(labels["caller_functionname"], labels["result"])
        assert value == len(durations)
    assert kitchen.value("sum(function_duration_seconds_count)") == len(kitchen.spans)
    assert kitchen.value("sum(function_counter_total)") == len(kitchen.spans)
    exceptions = kitchen.prometheus.query("sum by (exception) (function_exceptions_total)")
    assert {labels["exception"]: value for labels, value in exceptions} == {
        "CollapsedError": 6,
        "CancelledError": 3,
        "TimeoutError": 3,
    }


def test_edges_are_those_of_the_spans(kitchen: Kitchen) -> None:
    """Who calls whom is exactly what each span said of its upstream."""
    edges = kitchen.prometheus.query(
        "sum by (from_functionname, to_functionname) (function_edges_total)"
    )
    assert {tuple(sorted(labels.values())): value for labels, value in edges} == {
        ("_bring", "cook"): 21,
        ("_bring", "serve"): 21,
        ("serve", "served"): 9,
    }


def test_exemplars_lead_to_the_trace(kitchen: Kitchen) -> None:
    """`query_exemplars` gives, for every function, the id of the trace that the spans ran in."""
    query = 'function_duration_seconds_bucket{job="hypertrace"}'
    found = kitchen.prometheus.exemplars(query, kitchen.began)
    exemplars = [exemplar for series in found for exemplar in series["exemplars"]]
    assert {exemplar["labels"]["trace_id"] for exemplar in exemplars} == {kitchen.trace_id}
    functions = {series["seriesLabels"]["caller_functionname"] for series in found}
    assert functions == {"cook", "_bring", "serve", "served"}
    durations = [span.duration for span in kitchen.spans]
    for exemplar in exemplars:
        assert min(abs(float(exemplar["value"]) - d) for d in durations) < 1e-9


def test_prometheus_takes_the_queries_of_the_pages(kitchen: Kitchen, root: Path) -> None:
    """Every query that the documentation shows is one that Prometheus understands."""
    pages = [root / "README.md", root / "docs" / "prometheus.md"]
    text = "\n".join(page.read_text() for page in pages)
    queries = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    assert len(queries) > 9
    for query in queries:
        kitchen.prometheus.query(query)
