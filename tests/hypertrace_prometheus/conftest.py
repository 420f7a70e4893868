"""Fixtures for the tests of the exporter: exporters and servers that end with the test, clocks."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from hypertrace import set_trace_function
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.http import connection, connections
from hypertrace_prometheus.http.server import MetricsServer

from ..running import Clock
from .running import Export
from .wire import serve


@pytest.fixture
def export() -> Iterator[Export]:
    """Give a function that makes an exporter, sets it, and stops it at the end of the test."""
    made: list[PrometheusExporter] = []

    def make(*arguments: Any, **settings: Any) -> PrometheusExporter:
        made.append(PrometheusExporter(*arguments, **{"collect_defaults": False} | settings))
        set_trace_function(made[-1])
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()


@pytest.fixture
def registry() -> CollectorRegistry:
    """Give a registry with one counter, at 3."""
    registry = CollectorRegistry()
    Counter("jobs", "Jobs done.", registry=registry).inc(3)
    return registry


@pytest.fixture
def start(registry: CollectorRegistry) -> Iterator[Callable[..., MetricsServer]]:
    """Give a function that starts a server, which the end of the test stops."""
    servers: list[MetricsServer] = []

    def start(**arguments: Any) -> MetricsServer:
        servers.append(serve(registry, **arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(start: Callable[..., MetricsServer]) -> MetricsServer:
    """Give a running server."""
    return start()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock of the servers' deadlines; they look at it all the time."""
    clock = Clock()
    monkeypatch.setattr(connection, "monotonic", clock)
    monkeypatch.setattr(connections, "monotonic", clock)
    monkeypatch.setattr(connections, "_TICK", 0.005)
    return clock
