"""Families that an exporter shows to a registry of `prometheus_client`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import hypertrace
from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    Upstream,
    set_trace_function,
)
from hypertrace.metrics import Metrics
from hypertrace_prometheus.exposition.collector import ExporterCollector

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
OF_A = {"object_classname": "A", "caller_functionname": "f", "caller_filename": "a.py"}
TABLES = (
    "x_total",
    "function_duration_seconds",
    "function_exceptions_total",
    "function_edges_total",
)


def counted(
    name: str = "x_total", limit: int = 10, *, upstream: bool = False, **counts: int
) -> Metrics:
    """Give metrics that counted so many calls of each id."""
    metrics = Metrics(
        counter_name=name,
        max_series=limit,
        max_label_length=64,
        buckets=(1.0, 2.0),
        exemplar=None,
        upstream=upstream,
    )
    for trace_id, count in counts.items():
        for _ in range(count):
            metrics(TraceEvent(trace_id, TracedObject("A", 1), None, CALLER))
    return metrics


def registry_of(metrics: Metrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ExporterCollector(metrics))
    return registry


def samples(metrics: Metrics, prefix: str = "") -> list[Sample]:
    found = [sample for family in registry_of(metrics).collect() for sample in family.samples]
    return [sample for sample in found if sample.name.startswith(prefix)]


def span(error: type[BaseException] | None = None, function: str = "f") -> SpanEvent:
    return SpanEvent(
        None,
        TracedObject("Cart", 1),
        None,
        Caller(function, "/srv/a.py", "a", 1, 1),
        1.5,
        "ok" if error is None else "error",
        error,
        Upstream("Shop", "serve"),
    )


def test_each_series_is_a_sample() -> None:
    """The counter has one sample a series, with its labels and its count."""
    assert [(s.name, s.labels, s.value) for s in samples(counted(a=2, b=1), "x_")] == [
        ("x_total", OF_A | {"id": "a"}, 2),
        ("x_total", OF_A | {"id": "b"}, 1),
    ]


def test_a_series_without_a_call_is_not_shown() -> None:
    """A span that started counts as open, and as a call only once it has ended."""
    metrics = counted()
    recorder = metrics.bind_span(span())
    recorder.start()
    assert samples(metrics, "x_") == []
    assert [s.value for s in samples(metrics, "function_in_progress")] == [1]
    recorder.end(span())
    assert [s.value for s in samples(metrics, "x_")] == [1]


def test_the_overflow_is_a_sample_once_it_is_used() -> None:
    """Updates past the limit are shown under the class `<overflow>`, and not before there are."""
    assert len(samples(counted(limit=1, a=1), "x_")) == 1
    last = samples(counted(limit=1, a=1, b=2, c=1), "x_")[-1]
    assert (last.labels, last.value) == ({"object_classname": "<overflow>"}, 3)


def test_a_span_is_shown_in_every_metric_of_spans() -> None:
    """A span that failed is a call, a duration, an exception and an edge, and is not open."""
    metrics = counted(upstream=True)
    metrics(span(KeyError))
    labels = {"object_classname": "Cart", "caller_functionname": "f", "caller_filename": "a.py"}
    failed = labels | {"result": "error"}
    edge = {
        "from_classname": "Shop",
        "from_functionname": "serve",
        "to_classname": "Cart",
        "to_functionname": "f",
    }
    shown = [s for s in samples(metrics) if not s.name.startswith("hypertrace_")]
    assert [(s.name, s.labels, s.value) for s in shown] == [
        ("x_total", labels, 1),
        ("function_duration_seconds_bucket", failed | {"le": "1.0"}, 0),
        ("function_duration_seconds_bucket", failed | {"le": "2.0"}, 1),
        ("function_duration_seconds_bucket", failed | {"le": "+Inf"}, 1),
        ("function_duration_seconds_count", failed, 1),
        ("function_duration_seconds_sum", failed, 1.5),
        ("function_exceptions_total", labels | {"exception": "KeyError", "raised": "here"}, 1),
        ("function_in_progress", labels, 0),
        ("function_edges_total", edge, 1),
    ]


def test_without_spans_there_are_none_of_their_series() -> None:
    """What only counts calls has no series of durations, exceptions, open spans or edges."""
    assert samples(counted(a=1, upstream=True), "function_") == []


@pytest.mark.parametrize("upstream", [False, True])
def test_edges_are_a_metric_where_they_are_wanted(upstream: bool) -> None:
    """Without `upstream` the page does not even name the metric."""
    names = [family.name for family in registry_of(counted(upstream=upstream)).collect()]
    assert ("function_edges" in names) == upstream
    assert names.index("x") == 0


def test_a_registry_can_be_restricted_to_the_counter() -> None:
    """Asked for one name, a registry gives that family alone."""
    page = generate_latest(registry_of(counted(a=2)).restricted_registry(["x_total"])).decode()
    assert [line for line in page.splitlines() if line[0] != "#"] == [
        'x_total{caller_filename="a.py",caller_functionname="f",id="a",object_classname="A"} 2.0'
    ]


def test_a_registry_can_be_restricted_to_the_sums() -> None:
    """Asked for one line of the histogram, a registry gives that line alone."""
    metrics = counted()
    metrics(span())
    registry = registry_of(metrics).restricted_registry(["function_duration_seconds_sum"])
    lines = generate_latest(registry).decode().splitlines()
    (line,) = [line for line in lines if line[0] != "#"]
    assert line.startswith("function_duration_seconds_sum{")


@pytest.mark.parametrize("name", ["x_total", "x"])
def test_a_registry_refuses_the_same_names_twice(name: str) -> None:
    """The collector describes itself, so that a registry knows its names."""
    registry = registry_of(counted(name))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(ExporterCollector(counted(name)))


def _health(metrics: Metrics, name: str) -> dict[str, float]:
    """Give the values of one of the exporter's own metrics, by the metric they are about."""
    return {s.labels.get("metric", ""): s.value for s in samples(metrics) if s.name == name}


def test_the_health_metrics_show_the_series() -> None:
    """Series held, their limit and what went past it are shown, of each metric."""
    metrics = counted(limit=2, a=1, b=1, c=3, upstream=True)
    for number, error in enumerate((KeyError, ValueError, TypeError, None)):
        metrics(span(error, str(number)))
    assert _health(metrics, "hypertrace_series_limit") == dict.fromkeys(TABLES, 2)
    # The calls took all room, so no span has its own series.
    assert _health(metrics, "hypertrace_series") == dict(zip(TABLES, (2, 0, 2, 2), strict=True))
    overflowed = dict(zip(TABLES, (3 + 4, 4, 1, 2), strict=True))
    assert _health(metrics, "hypertrace_overflowed_updates_total") == overflowed


def test_the_health_metrics_show_swallowed_errors() -> None:
    """Errors of trace functions are counted, of every trace function."""
    name = "hypertrace_swallowed_errors_total"
    assert _health(counted(), name) == {"": 0}

    def fail(_: object) -> None:
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fail)
    tracer = Tracer("here")
    for _ in range(3):
        tracer.trace()
    assert _health(counted(), name) == {"": 3}


def test_the_health_metrics_show_silent_tracers() -> None:
    """Tracers made too early are a gauge by class; names cut to the same text are one series."""
    assert samples(counted(), "hypertrace_silent_tracers") == []
    for name in ("Database", "Database", "x" * 70, "x" * 80):
        Tracer(name)
    set_trace_function(print)
    Tracer("enabled")
    assert [(s.labels, s.value) for s in samples(counted(), "hypertrace_silent_tracers")] == [
        ({"object_classname": "Database"}, 2),
        ({"object_classname": "x" * 63 + "…"}, 2),
    ]


def test_the_health_metrics_show_dropped_events() -> None:
    """What a trace function traces itself is dropped, and counted."""
    name = "hypertrace_dropped_events_total"
    tracer: Tracer

    def trace(_: object) -> None:
        tracer.trace()

    set_trace_function(trace)
    tracer = Tracer("here")
    before = _health(counted(), name)[""]
    for _ in range(3):
        tracer.trace()
    assert _health(counted(), name) == {"": before + 3}


def test_the_health_metrics_show_collectors_that_failed() -> None:
    """Failures of other collectors are counted by their class, for every reader of the registry."""
    collector = ExporterCollector(counted())
    registry = CollectorRegistry()
    registry.register(collector)
    assert "hypertrace_failed_collections_total{" not in generate_latest(registry).decode()
    failing: object
    for failing in ({}, {}, []):
        collector.failures.count(failing, RuntimeError("closed"))
    lines = generate_latest(registry).decode().splitlines()
    assert [line for line in lines if line.startswith("hypertrace_failed_collections_total")] == [
        'hypertrace_failed_collections_total{collector="builtins.dict"} 2.0',
        'hypertrace_failed_collections_total{collector="builtins.list"} 1.0',
    ]


def test_the_health_metrics_show_the_versions() -> None:
    """The version of hypertrace and the Python it runs on are labels of an info metric."""
    (info,) = samples(counted(), "hypertrace_build_info")
    assert info.value == 1
    assert info.labels == {
        "version": hypertrace.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
    }
