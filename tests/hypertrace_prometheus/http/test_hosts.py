"""Which hosts a request may name."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from hypertrace_prometheus.http import server as module
from hypertrace_prometheus.http.hosts import host_guard

from ..wire import exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace_prometheus.http.server import MetricsServer

OURS = [
    "localhost",
    "LocalHost:4343",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.8.9.10:1",
    "[::1]",
    "[::1]:4343",
    "localhost:",
    "Box-7.lan",
    "box-7.lan:4343",
]
FOREIGN = [
    "evil.example",
    "evil.example:4343",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example, localhost",
    "localhost, localhost",
    "localhost:4343@evil.example",
    "user@localhost",
    "localhost/evil.example",
    "local host",
    "localhost:80:80",
    "localhost:x",
    "192.168.0.1",
    "[::2]",
    "[::1",
    "::1",
    "[localhost]",
    "0.0.0.0",
    "",
    ":",
    ":4343",
    "locälhost",
]


@pytest.mark.parametrize("host", OURS)
def test_this_machine_may_be_named(host: str) -> None:
    """Names and addresses of loopback are let in at any port, and the host that was given."""
    assert host_guard("Box-7.lan")({"HTTP_HOST": host}) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_another_machine_may_not_be_named(host: str) -> None:
    """Any other name, and what is none, is refused with status 421 and a constant text."""
    refusal = host_guard("127.0.0.1")({"HTTP_HOST": host})
    assert refusal is not None
    assert refusal.status == 421
    assert refusal.body == b"This server has another name.\n"


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        b"Host: evil.example",
        b"Host: localhost\r\nHost: evil.example",
        b"Host: evil.example\r\nHost: localhost",
        b"Host: evil.example\r\nX-Forwarded-Host: localhost",
        b"host:evil.example",
    ],
)
def test_a_foreign_name_gets_nothing(server: MetricsServer, path: str, headers: bytes) -> None:
    """On loopback no path answers a page on the web whose name was made to point here."""
    answer = exchange(server, f"GET {path} HTTP/1.1\r\n".encode() + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"jobs_total" not in answer
    assert b"evil" not in answer


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"http://evil.example/metrics", 421), (b"http://localhost/metrics", 200)],
)
def test_a_name_in_the_target_counts(server: MetricsServer, target: bytes, status: int) -> None:
    """Where the target of the request names the host, that is the name."""
    answer = exchange(server, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_who_names_no_host_is_let_in(server: MetricsServer) -> None:
    """Old tools send no `Host`; browsers always do."""
    assert exchange(server, b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_forwarded_name_changes_nothing(server: MetricsServer) -> None:
    """What a proxy says of the name it was asked by is not looked at."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n\r\n"
    assert exchange(server, request).startswith(b"HTTP/1.1 200 ")


def test_beyond_loopback_any_name_will_do(
    start: Callable[..., MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that listens beyond loopback has names that it does not know."""

    def everywhere(*_: object) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    monkeypatch.setattr(module, "listen", everywhere)
    monkeypatch.setattr(module, "is_loopback", lambda _: False)
    server = start(host="0.0.0.0", auth=None)
    request = b"GET /metrics HTTP/1.1\r\nHost: metrics.example\r\n\r\n"
    assert exchange(server, request).startswith(b"HTTP/1.1 200 ")
