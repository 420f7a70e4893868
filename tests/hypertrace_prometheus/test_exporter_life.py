"""Start and stop of an exporter, which leaves nothing behind."""

from __future__ import annotations

import gc
import os
import socket
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

from hypertrace import get_trace_function
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import registries
from hypertrace_prometheus.exposition.render import expose

from .pages import families_of
from .running import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric


class Held:
    """What this process holds that an exporter might leave behind."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gc.collect()
        self.threads = set(threading.enumerate())
        self.files = len(list(Path("/proc/self/fd").iterdir())) if os.path.isdir("/proc") else 0  # noqa: PTH112
        self.page = generate_latest(registry)
        self.names = dict(registry._names_to_collectors)
        self.watched = len(registries._watched)
        self.function = get_trace_function()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(("port", "times"), [(None, 100), (0, 20)], ids=["bare", "with a server"])
def test_starting_and_stopping_leaves_nothing(port: int | None, times: int) -> None:
    """However often it is started and stopped, there is no thread, socket or name more."""
    registry = CollectorRegistry()
    PrometheusExporter(port, registry=registry).stop()
    before = Held(registry)
    for _ in range(times):
        exporter = PrometheusExporter(port, registry=registry)
        assert "function_counter_total" in exporter.metrics()
        exporter.stop()
        del exporter
    after = Held(registry)
    assert after.files <= before.files  # fewer if something of an earlier test has just gone
    after.files = before.files
    assert after == before


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"port": "busy"}, OSError),
        ({"port": 70_000}, ValueError),
        ({"port": 0, "path": "/"}, ValueError),
        ({"port": 0, "host": "no such host."}, (OSError, ValueError)),
        ({"allowed_props": ["password"]}, ValueError),
        ({"counter_name": "orders_total"}, ValueError),
        ({"counter_name": "orders"}, ValueError),
        ({"buckets": []}, ValueError),
    ],
    ids=str,
)
def test_a_start_that_fails_leaves_nothing(
    settings: dict[str, Any], error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """Whatever keeps an exporter from starting, the process is as it was, and can try again."""
    registry = CollectorRegistry()
    Counter("orders", "Of the application.", registry=registry)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        if settings.get("port") == "busy":
            settings = {"port": busy.getsockname()[1], "strict_port": True}
        registries.watch(registry)
        before = Held(registry)
        for _ in range(3):
            with pytest.raises(error) as caught:
                PrometheusExporter(registry=registry, **settings)
            assert str(caught.value)
            del caught
        assert Held(registry) == before
    with PrometheusExporter(0, registry=registry) as exporter:
        assert "orders_total" in exporter.metrics()


def test_two_exporters_on_one_registry() -> None:
    """The second says what to do, the first goes on, and the place is free once it has stopped."""
    with PrometheusExporter(registry=CollectorRegistry()) as first:
        before = Held(first.registry).names
        for settings in ({}, {"counter_name": "calls_total"}):
            with pytest.raises(ValueError, match=r"stop\(\) the exporter .* another registry"):
                PrometheusExporter(registry=first.registry, **settings)  # type: ignore[arg-type]
        assert Held(first.registry).names == before
    with PrometheusExporter(registry=first.registry) as second:
        assert second.metrics().count("# TYPE function_counter_total") == 1


@pytest.mark.parametrize("suffix", ["_count", "_sum", "_bucket", "_created", "_info"])
def test_the_counter_is_not_called_like_a_part_of_another_metric(suffix: str) -> None:
    """A name that histograms and the like have on the page is refused; `_total` behind it helps."""
    with pytest.raises(ValueError, match=f"counter_name 'shop{suffix}' ends like a part of a metr"):
        PrometheusExporter(counter_name=f"shop{suffix}")
    with PrometheusExporter(counter_name=f"shop{suffix}_total") as exporter:
        assert f"# TYPE shop{suffix}_total counter" in exporter.metrics()


def test_a_part_of_a_histogram_of_the_application_is_not_taken() -> None:
    """A counter that OpenMetrics would show under the name of such a part is refused there."""
    registry = CollectorRegistry()
    Histogram("shop", "Of the application.", registry=registry)
    with pytest.raises(ValueError, match=r"has metrics of these names already .*shop_count"):
        PrometheusExporter(registry=registry, counter_name="shop_count_total")
    PrometheusExporter(registry=registry, counter_name="calls_total").stop()


def test_a_metric_of_the_application_may_not_come_later_either() -> None:
    """While an exporter is on a registry, its names are taken there."""
    with PrometheusExporter() as exporter, pytest.raises(ValueError, match="function_duration"):
        Histogram("function_duration_seconds", "Of the application.", registry=exporter.registry)


@pytest.mark.parametrize("registry", ["registry", object(), Counter], ids=["str", "object", "type"])
def test_what_is_no_registry_is_refused(registry: Any) -> None:
    """A mistake raises, and says what is wanted."""
    with pytest.raises(TypeError, match=r"registry must be a prometheus_client.CollectorRegistry"):
        PrometheusExporter(registry=registry)


def test_metrics_that_the_application_took_off_are_no_error() -> None:
    """Stopping an exporter that is not on its registry any more takes off what is left of it."""
    exporter = PrometheusExporter()
    exporter.registry.unregister(exporter._collectors[0])
    exporter.stop()
    assert exporter.metrics() == ""


def test_a_collector_that_raises_keeps_no_exporter_from_starting() -> None:
    """A bad collector of the application costs its own metrics, at the start, too."""

    class Bad(Collector):
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("a mistake of the application")

        def describe(self) -> list[Metric]:
            return []

    registry = CollectorRegistry()
    registry.register(Bad())
    Counter("orders", "Of the application.", registry=registry)
    with PrometheusExporter(registry=registry) as exporter:
        page = exporter.metrics()
    assert page.count("# TYPE python_info ") == page.count("# TYPE orders_total ") == 1


def test_a_start_that_is_interrupted_leaves_nothing() -> None:
    """A Ctrl-C just after a collector was registered takes it off again."""

    class Interrupted(CollectorRegistry):
        def register(self, collector: Collector) -> None:
            super().register(collector)
            raise KeyboardInterrupt

    registry = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        PrometheusExporter(registry=registry)
    assert Held(registry).names == {}
    assert generate_latest(registry) == b""


def test_a_start_asks_no_collector() -> None:
    """A collector of the application that hangs, or costs much, does not hold up the start."""
    asked: list[object] = []

    class Slow(Collector):
        def collect(self) -> Iterator[Metric]:
            asked.append(self)
            return iter(())

        def describe(self) -> list[Metric]:
            return []

    registry = CollectorRegistry()
    registry.register(Slow())
    PrometheusExporter(registry=registry).stop()
    assert asked == []


def test_a_collector_of_any_class_keeps_no_exporter_from_starting() -> None:
    """A class that cannot be hashed or compared is no obstacle, neither at the start nor later."""

    class Meta(type(Collector)):  # type: ignore[misc]
        def __hash__(cls) -> int:
            raise RuntimeError("no hash")

        def __eq__(cls, _: object) -> bool:
            raise RuntimeError("no comparison")

    class Odd(metaclass=Meta):
        def collect(self) -> list[Metric]:
            return []

        describe = collect

    registry = CollectorRegistry()
    registry.register(Odd())
    with PrometheusExporter(registry=registry) as exporter:
        assert "function_counter_total" in exporter.metrics()
        assert "function_counter_total" in expose(registry, bounded=True).page().decode()


def test_an_exporter_without_references_is_freed() -> None:
    """Nothing of the packages keeps an exporter that was stopped."""
    exporter = PrometheusExporter(0)
    exporter.metrics()
    exporter.stop()
    gone = ref(exporter)
    del exporter
    gc.collect()
    assert gone() is None


def test_without_a_port_there_is_no_server() -> None:
    """An exporter without a port starts no thread, and has neither port nor address."""
    before = threading.active_count()
    with PrometheusExporter() as exporter:
        assert threading.active_count() == before
        assert exporter.port is None
        assert exporter.url is None


def test_the_server_is_known_while_it_runs() -> None:
    """Port and address are known until the exporter is stopped."""
    exporter = PrometheusExporter(0)
    assert exporter.port
    assert exporter.url == f"http://127.0.0.1:{exporter.port}/metrics"
    port = exporter.port
    exporter.stop()
    assert exporter.port is None
    assert exporter.url is None
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_an_exporter_can_be_stopped_twice() -> None:
    """`stop()` takes the metrics off the registry; again, or after the block, it does nothing."""
    with PrometheusExporter(0) as exporter:
        assert "function_counter_total" in families_of(exporter.metrics())
        exporter.stop()
        assert exporter.metrics() == ""
        exporter.stop()
    exporter.stop()
    assert exporter.metrics() == ""


def test_an_exporter_can_be_stopped_by_several_threads() -> None:
    """Threads that stop one exporter at once all come back, and it is stopped."""
    failed = []
    for _ in range(20):
        exporter = PrometheusExporter()

        def stop(_: int, exporter: PrometheusExporter = exporter) -> None:
            try:
                exporter.stop()
            except Exception as error:  # noqa: BLE001 -- reported by the test
                failed.append(error)

        in_threads(*(partial(stop, index) for index in range(4)))
        assert exporter.metrics() == ""
    assert failed == []
