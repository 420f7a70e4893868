"""Shared server: one process of a program serves, and another when that has ended."""

from __future__ import annotations

import gc
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics.shared.locks import Locks
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus import shared_server as module
from hypertrace_prometheus.http.server import Security
from hypertrace_prometheus.http.views import Response, text_response
from hypertrace_prometheus.shared_server import SharedServer

from .wire import HERE, SOON, descriptors, needs_fork, needs_proc, no_thread_left, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypertrace_prometheus.http.views import Request, View

pytest.importorskip("fcntl", reason="this system has no POSIX locks")
BUSY = "in use by this process itself" if sys.platform == "linux" else "in use by another program"


def routes(_: str) -> Mapping[str, View]:
    def page(_: Request) -> Response:
        return text_response(http.HTTPStatus.OK, str(os.getpid()))

    return {"/": page}


def asked(port: int | None, **headers: str) -> tuple[int, int]:
    """Return the status, and the pid of the process that serves; 0, 0 if none does."""
    assert port
    connection = http.client.HTTPConnection(HERE, port, timeout=SOON)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, int(text) if response.status == 200 else 0
    return 0, 0


def until_served_by(pid: int, port: int | None) -> None:
    until(lambda: asked(port) == (200, pid))


def standby_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == module.THREAD_NAME]


WORKER = """
import json, os, sys
sys.path.insert(0, {tests!r})
from hypertrace.metrics.shared.locks import Locks
from hypertrace_prometheus.http.server import Security
from hypertrace_prometheus.shared_server import SharedServer
from http import HTTPStatus
from hypertrace_prometheus.http.views import text_response
import logging
logging.basicConfig(stream=sys.stdout, level="WARNING", format="%(message)s")

def routes(_):
    return {{"/": lambda _: text_response(HTTPStatus.OK, str(os.getpid()))}}

def start(port, **security):
    return SharedServer(routes, host="127.0.0.1", port=port, security=Security(**security),
                        locks=Locks(sys.argv[1]))
"""


class Worker:
    """Another process of the same program, which asks for the same port."""

    def __init__(self, directory: Path, port: int, more: str = "") -> None:
        program = WORKER.format(tests=str(Path(__file__).parent)) + (
            f"server = start({port})\nprint(server.is_serving, server.port, flush=True)\n{more}\n"
            "for line in sys.stdin:\n    print(eval(line), flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.started = self.receive()

    def receive(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, expression: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.receive()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Give a function that starts a worker."""
    workers: list[Worker] = []

    def start(port: int, more: str = "") -> Worker:
        workers.append(Worker(tmp_path, port, more))
        return workers[-1]

    yield start
    for each in workers:
        each.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., SharedServer]]:
    """Give a function that starts a shared server in this process."""
    servers: list[SharedServer] = []
    locks = Locks(str(tmp_path))

    def start(port: int = 0, *, shared: bool = True, **settings: Any) -> SharedServer:
        settings = dict[str, Any](host=HERE, security=Security()) | settings
        servers.append(SharedServer(routes, port=port, locks=locks if shared else None, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    locks.close()


def test_one_of_several_processes_serves(
    start: Callable[..., SharedServer], worker: Callable[..., Worker], free_port: Callable[[], int]
) -> None:
    """The first process serves; the second one neither raises nor serves, and knows the port."""
    port = free_port()
    server = start(port)
    assert worker(port).started == f"False {port}"
    assert server.is_serving
    assert asked(port) == (200, os.getpid())


@pytest.mark.parametrize("number", [0, 1], ids=["any port", "one port"])
def test_another_process_serves_once_the_first_is_killed(
    start: Callable[..., SharedServer],
    worker: Callable[..., Worker],
    free_port: Callable[[], int],
    number: int,
) -> None:
    """The port stays the same while one process after the other is killed, also with port 0."""
    asked_for = free_port() if number else 0
    first = worker(asked_for)
    served, text = first.started.split()
    port = int(text)
    server = start(asked_for)
    assert (served, server.port, server.is_serving) == ("True", port, False)
    assert server.url == f"http://{HERE}:{port}"
    until_served_by(first.pid, port)
    first.kill()
    until_served_by(os.getpid(), port)
    assert worker(asked_for).started == f"False {port}"


def test_another_process_serves_once_the_first_stops(
    start: Callable[..., SharedServer], worker: Callable[..., Worker]
) -> None:
    """A server that is stopped in a process that lives on makes room for another."""
    server = start()
    port = server.port
    other = worker(0)
    server.stop()
    until_served_by(other.pid, port)


def test_a_free_port_that_another_program_took_is_replaced(
    start: Callable[..., SharedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With port 0, the next leader takes another free port if the last one is taken."""
    monkeypatch.setattr(module, "_HANDOVER", 0.05)
    first = start()
    port = first.port
    assert port
    first.stop()
    with socket.create_server((HERE, port)):
        second = start()
        assert second.is_serving
        assert second.port != port


def test_stopping_a_standby_leaves_nothing(
    start: Callable[..., SharedServer], worker: Callable[..., Worker]
) -> None:
    """A process that stands by can stop at once, and has no thread or descriptor more then."""
    first = worker(0)
    assert first.started.startswith("True")
    start().stop()
    gc.collect()
    before = descriptors() if Path("/proc/self/fd").is_dir() else 0
    for _ in range(10):
        server = start()
        assert len(standby_threads()) == 1
        server.stop()
        server.stop()
    assert standby_threads() == []
    gc.collect()
    assert before == 0 or descriptors() <= before
    assert asked(int(first.started.split()[1]))[1] == first.pid


def test_servers_of_one_process_serve_one_after_the_other(
    start: Callable[..., SharedServer], free_port: Callable[[], int]
) -> None:
    """Of two servers of a process that ask for different ports, both serve."""
    first, second = start(free_port()), start(free_port())
    assert first.is_serving
    assert second.is_serving
    assert first.port != second.port


@pytest.mark.parametrize("shared", [True, False])
def test_a_busy_port_is_tried_again(
    start: Callable[..., SharedServer],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,
) -> None:
    """A port in use costs one warning, which names the program, and is served once it is free."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    caplog.set_level(logging.INFO)
    with socket.create_server((HERE, 0)) as foreign:
        port = foreign.getsockname()[1]
        server = start(port, shared=shared)
        tried: list[object] = []
        bound = SharedServer._bind

        def bind(server: SharedServer) -> None:
            tried.append(server)
            bound(server)

        monkeypatch.setattr(SharedServer, "_bind", bind)
        until(lambda: len(tried) > 3)
        assert not server.is_serving
        assert server.port == port
        (record,) = caplog.records
        text = record.getMessage()
        assert record.levelno == logging.WARNING
        for part in (f"{HERE}:{port}: the port is {BUSY}", "Counting goes on", "strict_port"):
            assert part in text
    until(lambda: server.is_serving)
    assert asked(port) == (200, os.getpid())
    assert [each.levelno for each in caplog.records] == [logging.WARNING, logging.INFO]
    until(lambda: standby_threads() == [])


def test_a_busy_port_is_tried_more_rarely_the_longer_it_is_busy(
    start: Callable[..., SharedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried every second at first, and every 15 seconds in the end."""
    server = start()
    now = 1_000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    server._failing_since = now
    pauses = []
    for _ in range(40):
        pauses.append(server._pause())
        now += pauses[-1]
    assert pauses[:3] == [1, 1, 1]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15


@pytest.mark.parametrize("shared", [True, False])
def test_a_busy_port_is_an_error_on_request(
    start: Callable[..., SharedServer], shared: bool
) -> None:
    """With `strict_port` a port that another program has raises, and nothing leads or runs then."""
    with socket.create_server((HERE, 0)) as foreign, pytest.raises(OSError, match="in use"):
        start(foreign.getsockname()[1], shared=shared, strict_port=True)
    assert standby_threads() == []
    assert start(0, strict_port=True).is_serving


def test_strict_port_does_not_mind_other_workers(
    start: Callable[..., SharedServer], worker: Callable[..., Worker], free_port: Callable[[], int]
) -> None:
    """A port that another process of the same program serves is no error."""
    port = free_port()
    assert worker(port).started == f"True {port}"
    assert not start(port, strict_port=True).is_serving


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"host": "192.0.2.1"}, OSError),
        ({"host": "a..b"}, OSError),
        ({"host": ""}, ValueError),
        ({"port": 70_000}, ValueError),
        ({"port": "4343"}, TypeError),
    ],
    ids=str,
)
def test_a_standby_is_checked_as_a_server(
    start: Callable[..., SharedServer],
    worker: Callable[..., Worker],
    settings: dict[str, Any],
    error: type[Exception],
) -> None:
    """What could never be served raises at once, also in a process that would stand by."""
    assert worker(0).started.startswith("True")
    with pytest.raises(error):
        start(**{"port": 0} | settings)
    assert standby_threads() == []


def test_a_standby_whose_port_is_reserved_is_an_error(
    start: Callable[..., SharedServer],
    worker: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port that the system reserves raises in a process that would stand by."""
    assert worker(0).started.startswith("True")
    monkeypatch.setattr(socket.socket, "bind", _refuse)
    with pytest.raises(PermissionError, match="above 1023"):
        start(80)


def _refuse(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_system_without_threads_is_an_error(
    start: Callable[..., SharedServer], worker: Callable[..., Worker]
) -> None:
    """A process that cannot start a thread to stand by says so when it is made."""
    assert worker(0).started.startswith("True")
    with no_thread_left(), pytest.raises(RuntimeError):
        start()


@needs_fork
def test_no_thread_of_a_standby_is_there_at_a_fork(
    start: Callable[..., SharedServer], worker: Callable[..., Worker]
) -> None:
    """The thread ends before a fork, so that Python does not warn of it, and starts afterwards."""
    first = worker(0)
    server = start()
    (before,) = standby_threads()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"%d" % len(standby_threads()))
        os._exit(0)
    assert os.read(read, 1) == b"1"
    os.waitpid(child, 0)
    (after,) = standby_threads()
    assert after is not before
    assert not before.is_alive()
    first.kill()
    until_served_by(os.getpid(), server.port)
    os.close(read)
    os.close(write)


@needs_fork
def test_a_forked_child_takes_over(worker: Callable[..., Worker]) -> None:
    """A child of the process that serves does not serve, and does once its parent is killed."""
    parent = worker(0, "child = os.fork()\nif not child:\n    __import__('signal').pause()")
    port = int(parent.started.split()[1])
    child = int(parent.ask("child"))
    try:
        for _ in range(3):
            assert asked(port) == (200, parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        until_served_by(child, port)
    finally:
        os.kill(child, signal.SIGKILL)


@needs_fork
def test_a_forked_child_without_locks_does_not_serve(
    start: Callable[..., SharedServer],
) -> None:
    """Without locks a child neither serves nor stands by, in its own children neither."""
    server = start(shared=False)
    child = os.fork()
    if not child:
        grandchild = os.fork()
        if not grandchild:
            os._exit(len(standby_threads()) + server.is_serving)
        code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
        os._exit(code + len(standby_threads()) + server.is_serving)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asked(server.port) == (200, os.getpid())


@needs_proc
@needs_fork
def test_the_credentials_hold_in_a_child(
    start: Callable[..., SharedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that serves after its parent stopped has its credentials, whatever was locked."""
    monkeypatch.setenv("METRICS_AUTH", "Bearer x")
    security = Security(auth="env:METRICS_AUTH")
    server = start(security=security)
    credentials: Any = security._credentials
    with credentials._failures._lock:
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
    try:
        server.stop()
        until(lambda: asked(server.port, Authorization="Bearer x") == (200, child))
        assert asked(server.port)[0] == 401
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_exporter_shows_the_page_at_its_path() -> None:
    """`path` is where the metrics are, what the URL says and the index page links to."""
    with PrometheusExporter(0, path="/internal/metrics") as exporter:
        assert exporter.url == f"http://{HERE}:{exporter.port}/internal/metrics"
        pages = {}
        for path in ("/", "/metrics", "/internal/metrics"):
            with closing(http.client.HTTPConnection(HERE, exporter.port or 0)) as connection:
                connection.request("GET", path)
                response = connection.getresponse()
                pages[path] = response.status, response.read().decode()
    assert pages["/metrics"][0] == 404
    assert "function_counter_total" in pages["/internal/metrics"][1]
    assert 'href="/internal/metrics"' in pages["/"][1]
    assert "metrics_path: /internal/metrics" in pages["/"][1]


@pytest.mark.parametrize(
    "path", ["", "metrics", "/", "//", "/a//b", "/a b", "/ä", "/a?b", "/../a", "/-/healthy", "/%41"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    """A path that a client would not send as it is, or that another page has, raises."""
    with pytest.raises(ValueError, match="path must be"):
        PrometheusExporter(path=path)


@pytest.mark.parametrize("path", [None, b"/metrics", 1])
def test_a_path_that_is_no_str_is_refused(path: Any) -> None:
    """A path of another type raises TypeError that shows it."""
    with pytest.raises(TypeError, match="path must be a str"):
        PrometheusExporter(path=path)
