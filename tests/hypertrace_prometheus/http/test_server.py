"""Metrics server: its pages, over real sockets, and how it warns."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.http import server as module

from ..metrics_proto import families
from ..wire import PATHS, Start, ask, connect, exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypertrace_prometheus.http.server import MetricsServer


def test_the_url_leads_to_the_metrics(server: MetricsServer) -> None:
    """The server listens on loopback, on the port that `port` and `url` name."""
    assert server.host == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}"
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\njobs_total 3.0\n" in body


def test_the_query_and_the_headers_reach_the_endpoint(server: MetricsServer) -> None:
    """The query and the headers of a request choose the names and the format of the page."""
    answer = exchange(
        server,
        b"GET /metrics?name[]=nothing HTTP/1.1\r\nHost: localhost\r\n"
        b"Accept: application/openmetrics-text\r\n\r\n",
    )
    assert answer.endswith(b"\r\n\r\n# EOF\n")


def test_messages_are_sent_as_they_are(server: MetricsServer) -> None:
    """A client that asks for messages gets them, byte by byte."""
    accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"
    answer = exchange(
        server,
        b"GET /metrics?name[]=jobs_total HTTP/1.1\r\nHost: localhost\r\n"
        b"Accept: %b;encoding=delimited\r\n\r\n" % accept.encode(),
    )
    (jobs,) = families(answer.partition(b"\r\n\r\n")[2])
    assert (jobs.name, jobs.metric[0].counter.value) == ("jobs_total", 3)


def test_the_root_is_a_page_about_this_server(server: MetricsServer) -> None:
    """`/` is an HTML page that shows how to scrape this very server."""
    status, headers, body = ask(server, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert f"127.0.0.1:{server.port}".encode() in body


def test_the_health_check_says_ok(server: MetricsServer) -> None:
    """`/-/healthy` is the text ok."""
    status, headers, body = ask(server, "/-/healthy")
    assert (status, body) == (200, b"ok")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/secret", "/metrics/", "/metrics%00", "/-/", "*"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_found(server: MetricsServer, path: str, method: str) -> None:
    """Any other path gets status 404 and the paths that exist, not what was asked for."""
    status, _, body = ask(server, path, method)
    assert status == 404
    assert body == b"Not here. Try: / /metrics /-/healthy\n"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused(server: MetricsServer, path: str, method: str) -> None:
    """Any method but GET and HEAD gets status 405 on a path that exists."""
    status, headers, body = ask(server, path, method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert method.encode() not in body


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_head_sends_headers_alone(server: MetricsServer, path: str) -> None:
    """HEAD sends the status and headers of GET over the wire, and not one byte after them."""
    expected_status, expected, body = ask(server, path)
    answer = exchange(server, f"HEAD {path} HTTP/1.1\r\n\r\n".encode())
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert rest == b""
    assert status.startswith(f"HTTP/1.1 {expected_status} ")
    assert int(headers["Content-Length"]) == len(body)
    assert list(headers) == list(expected)
    assert headers["Content-Type"] == expected["Content-Type"]


def test_the_server_does_not_show_its_versions(server: MetricsServer) -> None:
    """The Server header names neither Python nor any version."""
    assert ask(server, "/metrics")[1]["Server"] == "hypertrace"


def test_requests_leave_nothing_on_the_terminal(
    server: MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed for a request, whether it is served, refused or broken off."""
    for path in [*PATHS, "/nothing"]:
        ask(server, path)
        ask(server, path, "POST")
    with connect(server) as client:
        client.sendall(b"GET /metr")
    exchange(server, b"\r\n\r\n")
    server.stop()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every host be one beyond loopback, without opening a port there."""
    monkeypatch.setattr(module, "listen", lambda *_: socket.create_server(("127.0.0.1", 0)))
    monkeypatch.setattr(module, "is_loopback", lambda _: False)
    module._warn_that_it_is_open.cache_clear()
    yield
    module._warn_that_it_is_open.cache_clear()


@pytest.mark.usefixtures("everywhere")
def test_a_server_that_everyone_can_read_warns_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond loopback, a server that accepts every client warns once for each address."""
    start(host="0.0.0.0").stop()
    start(host="0.0.0.0")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("hypertrace_prometheus", logging.WARNING)
    for word in ("on 0.0.0.0 is open", "auth", "certfile", "host='127.0.0.1'"):
        assert word in record.getMessage()
    start(host="192.0.2.1")
    assert len(caplog.records) == 2


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("security", "warnings"),
    [
        ({"auth": "env:METRICS_AUTH"}, 0),
        ({"certfile": "c", "keyfile": "k", "client_ca": "a"}, 0),
        ({"certfile": "c", "keyfile": "k"}, 1),
    ],
)
def test_a_server_that_refuses_others_does_not_warn(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    security: dict[str, str],
    warnings: int,
) -> None:
    """Beyond loopback, `auth` or `client_ca` prevents the warning; a certificate alone does not."""
    monkeypatch.setenv("METRICS_AUTH", "Bearer x")
    monkeypatch.setattr(module, "make_context", lambda *_: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    start(host="0.0.0.0", **security)
    assert len(caplog.records) == warnings


def test_a_server_on_loopback_does_not_warn(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """On loopback no other machine can read, and there is no warning."""
    start(host="localhost")
    start(host="127.0.0.3")
    assert caplog.records == []


def test_counting_goes_on_when_a_port_is_busy() -> None:
    """A second exporter that finds the port in use raises, and the first counts and serves on."""
    with PrometheusExporter(0, collect_defaults=False) as exporter:
        set_trace_function(exporter)
        tracer = Tracer("Cart")
        tracer.trace("before")
        with pytest.raises(OSError, match="in use"):
            PrometheusExporter(exporter.port, strict_port=True)
        tracer.trace("after")
        assert exporter._server is not None
        page = ask(exporter._server, "/metrics")[2].decode()
    assert 'id="before"' in page
    assert 'id="after"' in page


@pytest.mark.parametrize("name", ["certfile", "keyfile", "client_ca", "auth"])
def test_security_without_a_server_is_an_error(name: str) -> None:
    """Without a server, an argument that would secure it raises ValueError that names it."""
    arguments: dict[str, Any] = {name: "file:x"}
    with pytest.raises(ValueError, match=f"{name} without port: .*pass a port"):
        PrometheusExporter(**arguments)


def test_an_exporter_passes_security_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to the exporter secures its server."""
    monkeypatch.setenv("METRICS_AUTH", "Bearer x")
    with PrometheusExporter(0, auth="env:METRICS_AUTH") as exporter:
        assert exporter._server is not None
        assert ask(exporter._server, "/metrics")[0] == 401
        assert ask(exporter._server, "/metrics", Authorization="Bearer x")[0] == 200
