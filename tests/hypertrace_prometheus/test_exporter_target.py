"""Labels of the process, as Prometheus sees them."""

import re

import pytest
from prometheus_client import CollectorRegistry, Info, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.render import render

LABELS = {"service": "shop", "k8s.pod.name": "a-1"}
SHOWN = '{k8s_pod_name="a-1",service="shop"} 1'


def target_of(registry: CollectorRegistry) -> list[str]:
    """Return the samples of the target."""
    return re.findall(r"^target_info(.*)$", render(registry).decode(), re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HYPERTRACE_SERVICE", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)


def test_without_labels_there_is_no_target() -> None:
    """Neither `target_info` nor `hypertrace_application_info`."""
    with PrometheusExporter() as exporter:
        assert "target_info" not in exporter.metrics()
        assert "hypertrace_application_info" not in exporter.metrics()


def test_labels_are_on_the_target_and_on_no_series() -> None:
    """In both formats, and in what `prometheus_client` makes of the registry."""
    with PrometheusExporter(labels=LABELS) as exporter:
        set_trace_function(exporter)
        Tracer("Cart").trace()
        assert target_of(exporter.registry) == [f"{SHOWN}.0"]
        lines = exporter.metrics().splitlines()
        openmetrics = render(exporter.registry, openmetrics=True).decode()
        pages = [
            generate_latest(exporter.registry).decode(),
            generate_openmetrics(exporter.registry).decode(),  # type: ignore[no-untyped-call]
        ]
    assert [line.partition("{")[0] for line in lines if "shop" in line] == [
        "target_info",
        "hypertrace_application_info",
    ]
    assert f"hypertrace_application_info{SHOWN}" in lines
    for page in (openmetrics, *pages):
        assert f"\ntarget_info{SHOWN}" in page
        assert f"\nhypertrace_application_info{SHOWN}" in page
    assert "# TYPE target info\n" in openmetrics
    assert "# TYPE hypertrace_application info\n" in openmetrics


def test_labels_are_those_of_the_metrics() -> None:
    """An exporter that is given `Metrics` shows what they have."""
    with PrometheusExporter(metrics=Metrics(labels=LABELS)) as exporter:
        assert target_of(exporter.registry) == [f"{SHOWN}.0"]


def test_the_target_goes_with_the_exporter() -> None:
    """After `stop()` the registry is as it was, and has room for another one."""
    registry = CollectorRegistry()
    for _ in range(2):
        with PrometheusExporter(registry=registry, labels=LABELS):
            assert target_of(registry)
        assert registry.get_target_info() is None
        assert target_of(registry) == []
    Info("target", "Of the application.", registry=registry)


def test_a_start_that_fails_leaves_no_target() -> None:
    """The registry is as it was."""
    registry = CollectorRegistry()
    with pytest.raises(ValueError, match="host"):
        PrometheusExporter(0, host="", registry=registry, labels=LABELS)
    assert registry.get_target_info() is None


def test_a_target_of_the_application_stays() -> None:
    """Labels are then shown beside it only; after `stop()` it is still there."""
    registry = CollectorRegistry(target_info={"own": "1"})
    with PrometheusExporter(registry=registry, labels=LABELS) as exporter:
        assert target_of(registry) == ['{own="1"} 1.0']
        assert f"hypertrace_application_info{SHOWN}" in exporter.metrics()
    assert registry.get_target_info() == {"own": "1"}


def test_a_target_that_a_collector_gives_stays() -> None:
    """Also where it is a metric of the application, and not of the registry."""
    registry = CollectorRegistry()
    Info("target", "Of the application.", registry=registry).info({"own": "1"})
    with PrometheusExporter(registry=registry, labels=LABELS):
        assert target_of(registry) == ['{own="1"} 1.0']
    assert target_of(registry) == ['{own="1"} 1.0']


def test_the_application_may_set_the_target_later() -> None:
    """It replaces that of the exporter, and `stop()` leaves it."""
    with PrometheusExporter(labels=LABELS) as exporter:
        exporter.registry.set_target_info({"own": "1"})
        assert target_of(exporter.registry) == ['{own="1"} 1.0']
    assert exporter.registry.get_target_info() == {"own": "1"}


def test_values_are_escaped() -> None:
    """What stands in a label may be any text."""
    with PrometheusExporter(labels={"note": 'a "b"\n\\'}) as exporter:
        assert target_of(exporter.registry) == ['{note="a \\"b\\"\\n\\\\"} 1.0']
