"""The metrics server, over real sockets."""

from __future__ import annotations

import errno
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from werkzeug.serving import WSGIRequestHandler

from hypertrace_prometheus import server as module
from hypertrace_prometheus.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., MetricsServer]

PATHS = ["/", "/metrics", "/-/healthy"]
# How long a test waits for what happens at once; only a failing test waits that long.
SOON = 10.0


class Clock:
    """The server's clock, which moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A collector that stands still in a scrape until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        self.entered.set()
        assert self.opened.wait(SOON)
        return []


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("jobs", "Jobs done.", registry=registry).inc(3)
    return registry


@pytest.fixture
def start(registry: CollectorRegistry) -> Iterator[Start]:
    """Give a function that starts a server, which the end of the test stops."""
    servers: list[MetricsServer] = []

    def start(**arguments: Any) -> MetricsServer:
        servers.append(MetricsServer(registry, **arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(start: Start) -> MetricsServer:
    return start()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def ask(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=SOON)
    with closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=SOON)


def read_all(client: socket.socket) -> bytes:
    """Read until the server hangs up; fails when it does not."""
    parts = []
    with suppress(ConnectionError):  # it may hang up on bytes that it never read
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def exchange(server: MetricsServer, request: bytes) -> bytes:
    with connect(server) as client:
        client.sendall(request)
        return read_all(client)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("hypertrace-metrics")]


def workers() -> int:
    return threads().count("hypertrace-metrics-worker")


def test_the_url_leads_to_the_metrics(server: MetricsServer) -> None:
    """The server listens on loopback, on a port that it tells, and serves the registry."""
    assert server.host == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}/metrics"
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\njobs_total 3.0\n" in body


def test_the_query_and_the_headers_reach_the_endpoint(server: MetricsServer) -> None:
    """What the client asks for, restriction and format, is what it gets."""
    answer = exchange(
        server,
        b"GET /metrics?name[]=nothing HTTP/1.1\r\nHost: x\r\n"
        b"Accept: application/openmetrics-text\r\n\r\n",
    )
    assert answer.endswith(b"\r\n\r\n# EOF\n")


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
    answer = exchange(server, f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert rest == b""
    assert status.startswith(f"HTTP/1.1 {expected_status} ")
    assert int(headers["Content-Length"]) == len(body)
    assert list(headers) == list(expected)
    assert headers["Content-Type"] == expected["Content-Type"]


def test_the_server_does_not_tell_its_versions(server: MetricsServer) -> None:
    """The Server header names neither werkzeug nor Python nor any version."""
    assert ask(server, "/metrics")[1]["Server"] == "hypertrace"


def test_a_connection_is_closed_after_one_answer(server: MetricsServer) -> None:
    """A client that wants to keep the connection, and sends more, gets one whole answer."""
    request = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    answer = exchange(server, request + request)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize(
    "request_",
    [
        b"ECHO\r\n\r\n",
        b"GET ECHO ECHO ECHO\r\n\r\n",
        b"GET / HTTP/9.9ECHO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ECHO HTTP/1.1\r\n\r\n",
        b"GET /" + b"ECHO" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"ECHO: 1\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nECHO: " + b"1" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01ECHO\x00\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(
    server: MetricsServer, capfd: pytest.CaptureFixture[str], request_: bytes
) -> None:
    """Bytes that are no request get a 4xx answer, which repeats nothing, and leave no trace."""
    answer = exchange(server, request_)
    assert re.match(rb"HTTP/1\.1 4\d\d [A-Z]", answer)
    assert b"ECHO" not in answer
    assert b"Traceback" not in answer
    assert ask(server, "/-/healthy")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_requests_leave_nothing_on_the_terminal(
    server: MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed for a request, well answered, refused, or broken off."""
    for path in [*PATHS, "/nothing"]:
        ask(server, path)
        ask(server, path, "POST")
    with connect(server) as client:
        client.sendall(b"GET /metr")
    exchange(server, b"\r\n\r\n")
    server.stop()
    assert capfd.readouterr() == ("", "")


def test_a_failing_connection_is_not_news(
    server: MetricsServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A network that fails in the middle of an answer ends that connection, silently."""

    def fail(*_: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    with monkeypatch.context() as patch:
        patch.setattr(module._Handler, "send_header", fail)
        assert exchange(server, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    assert ask(server, "/metrics")[0] == 200
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


def test_other_werkzeug_servers_are_left_alone(server: MetricsServer) -> None:
    """Werkzeug's own request handler, which the application may use, is not changed."""
    assert WSGIRequestHandler.protocol_version == "HTTP/1.0"


def test_a_silent_client_does_not_hold_up_a_scrape(server: MetricsServer) -> None:
    """While clients hold connections open and say nothing, others are served."""
    with connect(server), connect(server) as half:
        half.sendall(b"GET /metrics HT")
        until(lambda: workers() == 2)
        assert ask(server, "/metrics")[0] == 200


@pytest.mark.parametrize("said", [b"", b"GET /met", b"GET / HTTP/1.1\r\nA: b\r\n"])
def test_a_silent_client_is_hung_up_on(server: MetricsServer, clock: Clock, said: bytes) -> None:
    """A client that does not finish its request in time loses its connection and thread."""
    with connect(server) as client:
        client.sendall(said)
        until(lambda: workers() == 1)
        clock.now += 4.1
        assert read_all(client) == b""
    until(lambda: workers() == 0)


def test_a_slow_client_gains_no_time(server: MetricsServer, clock: Clock) -> None:
    """The time for a request is counted from its start, however often a byte comes."""
    with connect(server) as client:
        until(lambda: workers() == 1)
        with suppress(ConnectionError):  # it may be hung up on before the last byte
            for byte in b"GET /":
                client.send(bytes([byte]))
                clock.now += 1.0
        assert read_all(client) == b""


def test_a_late_byte_holds_no_thread(
    start: Start, registry: CollectorRegistry, clock: Clock
) -> None:
    """A client that sends more than its request loses its connection and thread."""
    gate = Gate()
    registry.register(gate)
    server = start()
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert gate.entered.wait(SOON)
        client.sendall(b"late")
        gate.opened.set()
        while b"jobs_total 3.0" not in client.recv(65536):
            pass
        clock.now += 4.1
        read_all(client)
    until(lambda: workers() == 0)


def test_a_client_that_does_not_read_holds_no_thread(
    start: Start, registry: CollectorRegistry, clock: Clock
) -> None:
    """A client that does not take its answer loses its connection and thread."""
    Gauge("large", "x" * 20_000_000, registry=registry)
    server = start()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(SOON)
        client.connect((server.host, server.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert client.recv(1)
        assert workers() == 1
        clock.now += 4.1
        until(lambda: workers() == 0)


def test_a_slow_collector_is_waited_for(
    start: Start, registry: CollectorRegistry, clock: Clock
) -> None:
    """The time that collectors take is theirs, and is not held against the client."""
    gate = Gate()
    registry.register(gate)
    server = start()
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert gate.entered.wait(SOON)
        clock.now += 3600
        server._http.service_actions()
        gate.opened.set()
        assert b"jobs_total 3.0" in read_all(client)


def test_the_number_of_threads_is_bounded(
    monkeypatch: pytest.MonkeyPatch, start: Start, clock: Clock
) -> None:
    """Connections past the bound wait, and are served once the deadline has made room."""
    monkeypatch.setattr(module, "_WORKERS", 2)
    server = start()
    silent = [connect(server) for _ in range(5)]
    until(lambda: workers() == 2)
    answers: list[int] = []
    scrape = threading.Thread(target=lambda: answers.append(ask(server, "/metrics")[0]))
    scrape.start()
    most = 0
    while scrape.is_alive():
        clock.now += 1.0
        most = max(most, len(server._http._deadlines))
        scrape.join(0.01)
    assert answers == [200]
    assert most == 2
    for client in silent:
        client.close()


def test_many_scrapes_at_once_are_answered(server: MetricsServer) -> None:
    """More clients at once than there are workers are all answered in full."""
    answers: list[tuple[int, bytes]] = []

    def scrape() -> None:
        status, _, body = ask(server, "/metrics")
        answers.append((status, body))

    clients = [threading.Thread(target=scrape) for _ in range(40)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(answers) == 40
    assert len(set(answers)) == 1


def test_stop_leaves_nothing_behind(server: MetricsServer) -> None:
    """After stop() no thread and no socket is left, and nobody answers at the port."""
    with connect(server), connect(server) as half:
        half.sendall(b"GET /")
        until(lambda: workers() == 2)
        server.stop()
        assert threads() == []
        assert server._http.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def test_stop_frees_the_port_at_once(start: Start) -> None:
    """A server that is stopped makes room for one on the same port, again and again."""
    server = start()
    for _ in range(20):
        assert ask(server, "/-/healthy")[0] == 200
        server.stop()
        server = start(port=server.port)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")  # noqa: PTH112
def test_start_and_stop_leak_no_descriptor(registry: CollectorRegistry) -> None:
    """A hundred servers start and stop, at once, and leave no file open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    begin = time.monotonic()
    for _ in range(100):
        server = MetricsServer(registry)
        ask(server, "/-/healthy")
        server.stop()
    assert time.monotonic() - begin < 15  # one tick of the server's loop alone is half a second
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_stop_may_be_called_twice_and_from_any_thread(server: MetricsServer) -> None:
    """Several threads may stop a server at once, and again when it is stopped."""
    stoppers = [threading.Thread(target=server.stop) for _ in range(4)]
    for stopper in stoppers:
        stopper.start()
    for stopper in stoppers:
        stopper.join(SOON)
    server.stop()
    assert not any(stopper.is_alive() for stopper in stoppers)
    assert threads() == []


def test_stop_lets_a_running_request_finish(
    start: Start, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape that is under way when the server stops still gets its whole answer."""
    monkeypatch.setattr(module, "_GRACE", SOON)
    gate = Gate()
    registry.register(gate)
    server = start()
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert gate.entered.wait(SOON)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        until(lambda: "hypertrace-metrics" not in threads())
        gate.opened.set()
        assert b"jobs_total 3.0" in read_all(client)
        stopper.join(SOON)
    assert threads() == []


def test_stop_does_not_wait_for_a_collector_that_hangs(
    start: Start, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that does not return keeps neither stop() nor the port."""
    monkeypatch.setattr(module, "_GRACE", 0.05)
    gate = Gate()
    registry.register(gate)
    server = start()
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert gate.entered.wait(SOON)
        server.stop()
        assert not gate.opened.is_set()
        start(port=server.port)
        gate.opened.set()
    until(lambda: workers() == 0)


def test_a_collector_may_stop_the_server(start: Start, registry: CollectorRegistry) -> None:
    """stop() called from a thread of the server itself comes back."""
    stopped = threading.Event()

    class Stopping:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> list[Any]:
            doomed.stop()
            stopped.set()
            return []

    registry.register(Stopping())
    doomed = start()
    with connect(doomed) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert stopped.wait(SOON)
        read_all(client)
    until(lambda: threads() == [])


def test_the_listening_socket_is_not_inherited(server: MetricsServer) -> None:
    """Programs that the application starts do not hold the port."""
    assert server._http.socket.get_inheritable() is False


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_ipv6_is_served(start: Start) -> None:
    """An IPv6 host is served, and its URL has it in brackets."""
    server = start(host="::1")
    assert server.url == f"http://[::1]:{server.port}/metrics"
    assert ask(server, "/metrics")[0] == 200
    assert f"[::1]:{server.port}".encode() in ask(server, "/")[2]


def test_a_host_name_is_served(start: Start) -> None:
    """A name of this machine is as good as its address."""
    server = start(host="localhost")
    assert server.url == f"http://localhost:{server.port}/metrics"
    assert ask(server, "/metrics")[0] == 200


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_the_url_of_a_server_on_every_interface_can_be_opened(
    start: Start, monkeypatch: pytest.MonkeyPatch, host: str, shown: str
) -> None:
    """Where the host stands for every interface, the URL has the loopback address."""
    monkeypatch.setattr(module, "_listen", lambda *_: socket.create_server(("127.0.0.1", 0)))
    server = start(host=host)
    assert server.host == host
    assert server.url == f"http://{shown}:{server.port}/metrics"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_busy_port_is_an_error(
    start: Start, registry: CollectorRegistry, capfd: pytest.CaptureFixture[str], host: str
) -> None:
    """A port that is in use raises OSError with host, port and advice, and prints nothing."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    first = start(host=host)
    with pytest.raises(OSError, match=f"{first.port}: the port is in use; .* another") as caught:
        MetricsServer(registry, host=host, port=first.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert host in str(caught.value)
    assert ask(first, "/metrics")[0] == 200
    assert threads().count("hypertrace-metrics") == 1
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_bound_but_silent_is_busy(registry: CollectorRegistry) -> None:
    """A port that another program holds is busy even where it does not listen on it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            MetricsServer(registry, port=other.getsockname()[1])


def test_a_busy_port_is_an_error_in_any_thread(start: Start, registry: CollectorRegistry) -> None:
    """A thread that asks for a port in use gets OSError, never SystemExit."""
    first = start()
    caught: list[BaseException] = []

    def second() -> None:
        try:
            MetricsServer(registry, port=first.port)
        except BaseException as error:  # noqa: BLE001  SystemExit is what it looks for
            caught.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(SOON)
    assert [type(error) for error in caught] == [OSError]


def test_a_privileged_port_is_an_error(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that the system reserves raises PermissionError with host, port and advice."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(PermissionError, match=r"127\.0\.0\.1:80: .*above 1023") as caught:
        MetricsServer(registry, port=80)
    assert caught.value.errno == errno.EACCES


def test_an_address_of_another_machine_is_an_error(registry: CollectorRegistry) -> None:
    """An address that no interface has raises OSError with host, port and advice."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1:4343: this machine has no such") as caught:
        MetricsServer(registry, host="192.0.2.1", port=4343)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_an_unknown_host_is_an_error(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that nobody knows raises OSError that names it and the port."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(OSError, match="metrics on nowhere:4343: the host is unknown") as caught:
        MetricsServer(registry, host="nowhere", port=4343)
    assert caught.value.errno == socket.EAI_NONAME


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "nul\0"])
def test_a_host_that_can_be_no_name_is_an_error(registry: CollectorRegistry, host: str) -> None:
    """Text that cannot be a host name raises OSError, as an unknown name does."""
    with pytest.raises(OSError, match="the host is unknown"):
        MetricsServer(registry, host=host)


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_a_port_out_of_range_is_an_error(registry: CollectorRegistry, port: int) -> None:
    """A number that is no port raises ValueError with the range and the number."""
    with pytest.raises(ValueError, match=f"0 to 65535 .*not {port}"):
        MetricsServer(registry, port=port)


@pytest.mark.parametrize("port", ["4343", 4343.0, None, True])
def test_a_port_that_is_no_int_is_an_error(registry: CollectorRegistry, port: Any) -> None:
    """A port of another type raises TypeError that shows it."""
    with pytest.raises(TypeError, match="port must be an int .*not " + re.escape(repr(port))):
        MetricsServer(registry, port=port)


def test_an_empty_host_is_an_error(registry: CollectorRegistry) -> None:
    """An empty host, which would open the server to every network, raises ValueError."""
    with pytest.raises(ValueError, match="must not be empty"):
        MetricsServer(registry, host="")


@pytest.mark.parametrize("host", [None, b"127.0.0.1", 0])
def test_a_host_that_is_no_str_is_an_error(registry: CollectorRegistry, host: Any) -> None:
    """A host of another type raises TypeError that shows it."""
    with pytest.raises(TypeError, match="host must be a str .*not " + re.escape(repr(host))):
        MetricsServer(registry, host=host)


def test_a_system_without_threads_keeps_the_port_free(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """When the system refuses a thread, the constructor raises and the port is free again."""
    port = free_port()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            MetricsServer(registry, port=port)
    MetricsServer(registry, port=port).stop()


def run(program: str) -> subprocess.CompletedProcess[str]:
    imports = (
        "import os, signal, socket, sys\n"
        "from prometheus_client import CollectorRegistry\n"
        "from hypertrace_prometheus.server import MetricsServer\n"
        "server = MetricsServer(CollectorRegistry())\n"
        "client = socket.create_connection((server.host, server.port))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", imports + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_a_finished_program_ends_at_once(ending: str, code: int) -> None:
    """A program ends, silently and with its own code, while a client of its server dawdles."""
    program = (
        "import time\n"
        "client.sendall(b'GET')\n"
        "other = socket.create_connection((server.host, server.port))\n"
        "other.sendall(b'GET /-/healthy HTTP/1.1\\r\\n\\r\\n')\n"
        "print(other.recv(8), time.time(), flush=True)\n"
    )
    done = run(program + ending)
    answer, ended = done.stdout.rsplit(None, 1)
    assert (done.returncode, done.stderr, answer) == (code, "", "b'HTTP/1.1'")
    assert time.time() - float(ended) < 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_may_stop_its_copy() -> None:
    """stop() in a forked child comes back, and leaves the server of the parent running."""
    done = run(
        "import warnings; warnings.simplefilter('ignore')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(10)\n"
        "    server.stop()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "client.sendall(b'GET /-/healthy HTTP/1.1\\r\\n\\r\\n')\n"
        "print(client.recv(8))\n"
        "late = socket.create_connection((server.host, server.port))\n"
        "late.sendall(b'GET /-/healthy HTTP/1.1\\r\\n\\r\\n')\n"
        "print(late.recv(8))\n"
        "server.stop()\n"
    )
    assert (done.stdout.split(), done.stderr) == (["7", "b'HTTP/1.1'", "b'HTTP/1.1'"], "")
