"""Registry that an exporter is on, and what else is there."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.render import render

from ..traced_classes import Swarm
from .pages import families_of, parse_openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from .running import Export


@pytest.mark.parametrize("registry", [REGISTRY, CollectorRegistry()], ids=["REGISTRY", "fresh"])
def test_an_exporter_shares_the_page_with_the_application(
    export: Export, registry: CollectorRegistry
) -> None:
    """On any registry the application's own metrics come out of the same page, each once."""
    orders = Counter("orders", "Orders.", registry=registry)
    orders.inc(2)
    try:
        exporter = export(registry=registry, collect_defaults=True)
        assert exporter.registry is registry
        Swarm().connect()
        text = exporter.metrics()
        openmetrics = render(registry, openmetrics=True).decode()
    finally:
        registry.unregister(orders)
    families = families_of(text)
    assert {"orders_total", "function_counter_total", "hypertrace_series"} <= set(families)
    assert {"python_info", "python_gc_objects_collected_total"} <= set(families)
    assert set(families.values()) == {1}
    assert "orders_total 2.0" in text
    assert {f.name for f in parse_openmetrics(openmetrics)} >= {"orders", "function_counter"}


def test_the_page_has_what_the_collector_gives(export: Export) -> None:
    """`prometheus_client`, asked for the same registry, gives the same samples."""
    exporter = export(allowed_props=["topic"], max_series=3)
    swarm = Swarm()
    for topic in ("a", 'b"\n\\', None, "c", "a"):
        swarm.connect(topic=topic)
    theirs = generate_latest(exporter.registry).decode()
    assert [family.samples for family in parse_text(exporter.metrics())] == [
        family.samples for family in parse_text(theirs)
    ]


@pytest.mark.parametrize("name", ["calls_total", "calls", "_x9"])
def test_the_counter_is_called_as_it_was_named(export: Export, name: str) -> None:
    """`counter_name` is the exact name in both formats, also one that OpenMetrics calls unknown."""
    exporter = export(counter_name=name)
    Swarm().connect()
    assert f"# TYPE {name} counter\n" in exporter.metrics()
    assert f"\n{name}{{" in exporter.metrics()
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    (family,) = [f for f in parse_openmetrics(openmetrics) if f.name == name.removesuffix("_total")]
    assert family.type == ("counter" if name.endswith("_total") else "unknown")
    assert [sample.name for sample in family.samples] == [name]


def test_default_metrics_come_by_default() -> None:
    """Metrics of process, platform and garbage collector are there unless they are not wanted."""
    with PrometheusExporter() as exporter:
        names = set(families_of(exporter.metrics()))
    assert {"python_info", "python_gc_collections_total"} <= names
    assert "process_cpu_seconds_total" in names or sys.platform != "linux"
    with PrometheusExporter(collect_defaults=False) as exporter:
        names = set(families_of(exporter.metrics()))
    assert not {name for name in names if name.startswith(("python_", "process_"))}


def test_default_metrics_that_are_there_are_not_added() -> None:
    """Of the default metrics only those are registered that the registry does not have yet."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    before = generate_latest(registry).decode()
    with PrometheusExporter(registry=registry) as exporter:
        families = families_of(exporter.metrics())
    assert "python_gc_collections_total" in families
    assert set(families.values()) == {1}
    assert families_of(generate_latest(registry).decode()) == families_of(before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no metrics of a process")
def test_default_metrics_under_another_name_are_others() -> None:
    """Metrics of the process that the application has under its own prefix are not the default."""
    registry = CollectorRegistry()
    ProcessCollector(namespace="shop", registry=registry)
    with PrometheusExporter(registry=registry) as exporter:
        families = families_of(exporter.metrics())
    for name in ("process_start_time_seconds", "shop_process_start_time_seconds"):
        assert families[name] == 1


def test_default_metrics_of_the_default_registry_stay_when_an_exporter_goes() -> None:
    """What `prometheus_client` had registered itself is not taken off by `stop()`."""
    before = families_of(generate_latest(REGISTRY).decode())
    with PrometheusExporter(registry=REGISTRY):
        pass
    assert families_of(generate_latest(REGISTRY).decode()) == before


def test_exporters_on_two_registries_have_both_all_metrics() -> None:
    """The default metrics are on each of two registries."""
    with PrometheusExporter() as one, PrometheusExporter() as other:
        assert families_of(one.metrics()) == families_of(other.metrics())


def test_a_registry_that_has_the_metrics_is_refused(free_port: Callable[[], int]) -> None:
    """A second exporter on one registry raises, says what to do, and leaves nothing behind."""
    port = free_port()
    with PrometheusExporter() as first:
        before = families_of(first.metrics())
        with pytest.raises(ValueError, match=r"stop\(\) the exporter .* use another registry"):
            PrometheusExporter(port, registry=first.registry)
        assert families_of(first.metrics()) == before
    with PrometheusExporter(port, registry=first.registry) as again:
        assert families_of(again.metrics()) == before


def test_a_registry_that_has_a_metric_of_that_name_is_refused() -> None:
    """A metric of the application with the counter's name raises, and another name helps."""
    registry = CollectorRegistry()
    Counter("function_counter", "Of the application.", registry=registry)
    before = generate_latest(registry)
    with pytest.raises(ValueError, match=r"function_counter.* another registry"):
        PrometheusExporter(registry=registry)
    assert generate_latest(registry).splitlines()[:2] == before.splitlines()[:2]
    assert families_of(generate_latest(registry).decode()) == families_of(before.decode())
    PrometheusExporter(registry=registry, counter_name="calls_total").stop()


def test_a_busy_port_leaves_nothing_behind(free_port: Callable[[], int]) -> None:
    """When the port is taken, the error names it and the registry is as it was."""
    registry = CollectorRegistry()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}"):
            PrometheusExporter(port, registry=registry, strict_port=True)
    assert generate_latest(registry) == b""
    PrometheusExporter(port, registry=registry).stop()
