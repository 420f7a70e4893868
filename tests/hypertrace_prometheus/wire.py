"""Clients of the metrics server, and what tests look at while they misbehave."""

from __future__ import annotations

import gc
import http.client
import os
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from hypertrace_prometheus.http.server import MetricsServer, Security
from hypertrace_prometheus.routes import routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry

PROC = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not PROC.is_dir(), reason="needs Linux's /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SECURITY = "certfile", "keyfile", "client_ca", "auth"
PATHS = ["/", "/metrics", "/-/healthy"]
SOON = 10.0
"""Seconds that a test waits for what happens at once; only a failing test waits that long."""

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
SCRAPE = b"GET /metrics HTTP/1.1\r\n\r\n"
HEALTH = b"GET /-/healthy HTTP/1.1\r\n\r\n"


class Start(Protocol):
    """Starts a server; the fixture `start` gives one."""

    def __call__(self, **arguments: Any) -> MetricsServer: ...


def serve(registry: CollectorRegistry, **arguments: Any) -> MetricsServer:
    """Return a server of the exporter's pages."""
    files = {name: arguments.pop(name) for name in SECURITY if name in arguments}
    return MetricsServer(partial(routes, registry), security=Security(**files), **arguments)


class Gate:
    """A collector that waits in a scrape until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        self.entered.set()
        assert self.opened.wait(SOON)
        return []


class Reached(Protocol):
    """A server that can be asked: a `MetricsServer`, or a `SharedServer` that serves."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int | None: ...


def ask(server: Reached, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=SOON)
    with closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def connect(server: MetricsServer, said: bytes = b"", source: str = HERE) -> socket.socket:
    """Return a connection on which some bytes were sent."""
    client = socket.create_connection((server.host, server.port), SOON, (source, 0))
    client.sendall(said)
    return client


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection; fails when it does not."""
    parts = []
    with suppress(ConnectionError):  # it may close the connection on bytes that it never read
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def exchange(server: MetricsServer, request: bytes) -> bytes:
    with connect(server, request) as client:
        return read_all(client)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("hypertrace-metrics")]


def workers() -> int:
    return threads().count("hypertrace-metrics-worker")


def descriptors() -> int:
    """Return how many files this process has open, without those of garbage."""
    gc.collect()
    return len(list(PROC.iterdir()))


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Let the system refuse every thread in the block."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def held(server: MetricsServer) -> int:
    """Return how many connections the server has."""
    return len(server._connections._open)
