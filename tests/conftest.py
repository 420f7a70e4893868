"""Fixtures for every test: global state put back, free ports, programs; hooks for speed."""

from __future__ import annotations

import gc
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hypertrace.metrics.declared import registry
from hypertrace.testing import reset

from .running import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import TracerProvider

INSTALL = {
    "prometheus": "apt-get install -y --no-install-recommends prometheus",
    "prometheus-node-exporter": (
        "apt-get install -y --no-install-recommends prometheus-node-exporter"
    ),
    "prometheus-pushgateway": "apt-get install -y --no-install-recommends prometheus-pushgateway",
    "promtool": "apt-get install -y --no-install-recommends prometheus",
    "redis-server": "apt-get install -y --no-install-recommends redis-server",
    "influxd": "apt-get install -y --no-install-recommends influxdb",
    "victoria-metrics": "apt-get install -y --no-install-recommends victoria-metrics",
    "vmagent": "apt-get install -y --no-install-recommends victoria-metrics",
    "prometheus3": "bash .ci/components",
    "statsd": "bash .ci/components",
    "victoria-metrics1": "bash .ci/components",
}
OWN = {
    "prometheus3": ("HYPERTRACE_PROMETHEUS3", ".ci/.prometheus3/usr/bin/prometheus"),
    "statsd": ("HYPERTRACE_STATSD", ".ci/.statsd/node_modules/.bin/statsd"),
    "victoria-metrics1": (
        "HYPERTRACE_VICTORIAMETRICS1",
        ".ci/.victoriametrics1/usr/bin/victoria-metrics",
    ),
}
"""Programs that are not on the PATH: a variable that has their place, and the place without it."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let a worker's questions to pytest-rerunfailures leave at once.

    Each test asks whether it runs again, through a socket whose small packets otherwise wait for
    an acknowledgement: 40 ms a test.
    """
    connection = getattr(getattr(config, "failures_db", None), "sock", None)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run twice as many tests at once as there are cores: most of the time they wait."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_finish() -> None:
    """Leave modules and tests, which stay, out of the garbage collections that tests ask for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    yield
    reset()
    registry.reset()


@pytest.fixture
def span_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let all spans be measured with a clock that only the test puts on."""
    clock = Clock()
    monkeypatch.setattr("hypertrace._span.clock", clock)
    return clock


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """Give a tracer provider of OpenTelemetry that the application has set."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- few tests need it

    provider = TracerProvider(shutdown_on_exit=False)
    # The library lets it be set once in a process.
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    return provider


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the folder that has the tests, the documentation and the examples in it."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Give a function that finds a TCP port on loopback without a listener."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture(scope="session")
def component(root: Path) -> Callable[[str], str]:
    """Give a function that finds an external program by its name, one that INSTALL knows.

    Where it is missing the test is skipped with the command that installs it; in CI it fails.
    """

    def find(name: str) -> str:
        variable, place = OWN.get(name, ("", name))
        path = shutil.which(os.environ.get(variable) or (root / place if variable else place))
        if path is not None:
            return path
        message = f"{name} is missing: {INSTALL[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    return find
