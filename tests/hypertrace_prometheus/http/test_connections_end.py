"""Ends of connections: a network that fails, `stop()`, the end of the program, a fork."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import Gauge

from hypertrace_prometheus.http import connections as module
from hypertrace_prometheus.http.connection import Connection

from ..wire import (
    HEALTH,
    SCRAPE,
    SOON,
    Gate,
    Start,
    ask,
    connect,
    descriptors,
    exchange,
    held,
    needs_fork,
    needs_proc,
    no_thread_left,
    read_all,
    serve,
    threads,
    until,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from hypertrace_prometheus.http.server import MetricsServer


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
        patch.setattr(Connection, "serve", fail)
        assert exchange(server, HEALTH) == b""
    assert ask(server, "/metrics")[0] == 200
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


@needs_proc
def test_stop_leaves_nothing_behind(start: Start) -> None:
    """After stop() no thread and no descriptor is left, and the port refuses connections."""
    before = descriptors()
    server = start()
    with ExitStack() as stack:
        for said in [b"", b"GET /"] * 10:
            stack.enter_context(connect(server, said))
        assert exchange(server, HEALTH).endswith(b"ok")
        until(lambda: held(server) == 20)
        server.stop()
        assert threads() == []
        assert descriptors() == before + 20  # those of the clients
        with pytest.raises(ConnectionRefusedError):
            connect(server)
    assert descriptors() <= before  # fewer if files of an earlier test have just gone


def test_stop_frees_the_port_at_once(start: Start) -> None:
    """A server that is stopped makes room for one on the same port, again and again."""
    server = start()
    for _ in range(20):
        assert ask(server, "/-/healthy")[0] == 200
        server.stop()
        server = start(port=server.port)


@needs_proc
def test_start_and_stop_leak_no_descriptor(registry: CollectorRegistry) -> None:
    """A hundred servers start and stop, at once, and leave no file open."""
    gc.collect()  # what earlier tests have left open
    before = descriptors()
    begin = time.monotonic()
    for _ in range(100):
        server = serve(registry)
        ask(server, "/-/healthy")
        server.stop()
    assert time.monotonic() - begin < 10
    assert descriptors() == before


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


def test_a_signal_handler_may_stop_a_server_that_stops(
    server: MetricsServer, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that runs while stop() waits for a scrape may call stop() itself."""
    monkeypatch.setattr(module, "_GRACE", 0.2)
    gate = Gate()
    registry.register(gate)
    handled = threading.Event()

    def handle(*_: object) -> None:
        server.stop()
        handled.set()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with connect(server, SCRAPE):
            assert gate.entered.wait(SOON)
            main = threading.main_thread().ident
            assert main is not None
            threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1)).start()
            server.stop()
            assert handled.is_set()
            gate.opened.set()
    finally:
        signal.signal(signal.SIGUSR1, before)
    until(lambda: threads() == [])


def test_stop_lets_a_running_request_finish(
    server: MetricsServer, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape that is running when the server stops still gets its whole response."""
    monkeypatch.setattr(module, "_GRACE", SOON)
    gate = Gate()
    registry.register(gate)
    with connect(server, SCRAPE) as client:
        assert gate.entered.wait(SOON)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        until(lambda: server._connections._listener.fileno() == -1)
        gate.opened.set()
        assert b"jobs_total 3.0" in read_all(client)
        stopper.join(SOON)
    until(lambda: threads() == [])


def test_stop_does_not_wait_for_a_collector_that_hangs(
    start: Start, registry: CollectorRegistry
) -> None:
    """A collector that does not return delays stop() by no second, and does not keep the port."""
    gate = Gate()
    registry.register(gate)
    server = start()
    with connect(server, SCRAPE) as client:
        assert gate.entered.wait(SOON)
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 1
        assert not gate.opened.is_set()
        assert read_all(client) == b""
        start(port=server.port)
        gate.opened.set()
    until(lambda: workers() == 0)


def test_stop_wakes_a_worker_that_waits_for_a_client(
    server: MetricsServer, registry: CollectorRegistry
) -> None:
    """A client that does not read its response delays stop() by no second, and keeps no thread."""
    Gauge("large", "x" * 20_000_000, registry=registry)
    with connect(server, SCRAPE) as client:
        assert client.recv(1)
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 1
        assert threads() == []


@needs_proc
def test_another_holder_of_the_socket_does_not_keep_the_port(start: Start) -> None:
    """stop() frees the port also where a child has a copy of the listening socket."""
    server = start()
    copy = os.dup(server._connections._listener.fileno())
    try:
        server.stop()
        assert ask(start(port=server.port), "/-/healthy")[0] == 200
    finally:
        os.close(copy)


def test_a_thread_of_the_server_may_stop_it(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stop() returns when a worker calls it, as a finalizer may do there."""
    respond = server._connections._respond
    stopped = threading.Event()

    def stopping(head: bytes, client: str, asked: float) -> bytes:
        server.stop()
        stopped.set()
        return respond(head, client, asked)

    monkeypatch.setattr(server._connections, "_respond", stopping)
    with connect(server, HEALTH) as client:
        assert stopped.wait(SOON)
        assert read_all(client).endswith(b"ok")
    until(lambda: threads() == [])


def test_a_collector_may_stop_the_server(
    server: MetricsServer, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stop() returns when a collector calls it, in whichever thread it runs."""
    monkeypatch.setattr(module, "_GRACE", 0.1)
    stopped = threading.Event()

    class Stopping:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> list[Any]:
            server.stop()
            stopped.set()
            return []

    registry.register(Stopping())
    with connect(server, SCRAPE) as client:
        assert stopped.wait(SOON)
        read_all(client)
    until(lambda: threads() == [])


def test_the_listening_socket_is_not_inherited(server: MetricsServer) -> None:
    """Programs that the application starts do not hold the port."""
    assert server._connections._listener.get_inheritable() is False


def test_a_system_without_threads_keeps_the_port_free(
    registry: CollectorRegistry, free_port: Callable[[], int]
) -> None:
    """When the system refuses a thread, the constructor raises and the port is free again."""
    port = free_port()
    with no_thread_left(), pytest.raises(RuntimeError, match="new thread"):
        serve(registry, port=port)
    serve(registry, port=port).stop()


def test_a_system_without_descriptors_keeps_the_port_free(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """When the system refuses what the loop needs, the constructor raises and frees the port."""
    port = free_port()

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("socket.socketpair", refuse)
        with pytest.raises(OSError, match="Too many"):
            serve(registry, port=port)
    serve(registry, port=port).stop()


PROGRAM = """\
import faulthandler, os, signal, socket, sys, threading, time, warnings
faulthandler.dump_traceback_later(20, exit=True)
warnings.simplefilter("ignore")  # of 3.12, about fork and threads: ours is what is tried
from prometheus_client import CollectorRegistry
from hypertrace_prometheus.http.server import MetricsServer
from hypertrace_prometheus.routes import routes

HEALTH = b"GET /-/healthy HTTP/1.1\\r\\n\\r\\n"
registry = CollectorRegistry()

def serve(port=0):
    return MetricsServer(lambda address: routes(registry, address), port=port)

server = serve()

def connect(said):
    client = socket.create_connection((server.host, server.port), 5)
    client.sendall(said)
    return client

def sockets():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            pass
    return sum(link.startswith("socket:") for link in links)

class Slow:
    entered = threading.Event()
    def describe(self):
        return []
    def collect(self):
        self.entered.set()
        time.sleep(15)
        return []

"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
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
        ("signal.signal(signal.SIGTERM, exit); os.kill(os.getpid(), signal.SIGTERM)", 5),
        ("server.stop(); sys.exit(4)", 4),
    ],
)
def test_a_finished_program_ends_at_once(ending: str, code: int) -> None:
    """A program ends within a second while a scrape runs and 20 clients are slow."""
    done = run(
        "def exit(*_):\n"
        "    server.stop()\n"
        "    sys.exit(5)\n"
        "registry.register(Slow())\n"
        "clients = [connect(b'GET') for _ in range(20)]\n"
        "scrape = connect(b'GET /metrics HTTP/1.1\\r\\n\\r\\n')\n"
        "answer = connect(HEALTH).recv(8)\n"
        "assert Slow.entered.wait(5)\n"
        "print(answer, time.time(), flush=True)\n" + ending
    )
    answer, ended = done.stdout.rsplit(None, 1)
    assert (done.returncode, done.stderr, answer) == (code, "", "b'HTTP/1.1'")
    assert time.time() - float(ended) < 1.5  # with the start of what reads the clock


@pytest.mark.parametrize("holder", ["del", "generator"])
def test_what_dies_with_the_interpreter_may_stop_the_server(holder: str) -> None:
    """stop() in a finalizer that runs when the interpreter ends, and all other threads, returns."""
    done = run(
        "class Application:\n"
        "    def __del__(self, stop=server.stop, print=print):\n"
        "        stop()\n"
        "        print('stopped')\n"
        "def serving():\n"
        "    try:\n"
        "        yield\n"
        "    finally:\n"
        "        server.stop()\n"
        "        print('stopped')\n"
        f"held = {{'del': Application, 'generator': serving}}[{holder!r}]()\n"
        "if not isinstance(held, Application): next(held)\n"
        "connect(HEALTH).recv(8)\n"
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "stopped\n")


@needs_fork
@needs_proc
def test_a_forked_child_keeps_neither_port_nor_connection() -> None:
    """A child has no socket of the server; the parent restarts it on the port while it lives."""
    done = run(
        "half = connect(b'GET /-/healthy HTTP/1.1\\r\\n')\n"
        "assert connect(HEALTH).recv(8) == b'HTTP/1.1'\n"
        "ours = 1\n"  # half
        "ready, notify = os.pipe()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(10)\n"
        "    print('child', sockets() - ours, flush=True)\n"
        "    server.stop()\n"
        "    server.stop()\n"
        "    own = serve()\n"
        "    with socket.create_connection((own.host, own.port), 5) as client:\n"
        "        client.sendall(HEALTH)\n"
        "        print('child', client.recv(8), flush=True)\n"
        "    own.stop()\n"
        "    print('child', sockets() - ours, flush=True)\n"
        "    os.write(notify, b'x')\n"
        "    signal.pause()\n"
        "os.read(ready, 1)\n"
        "half.sendall(b'\\r\\n')\n"
        "print('parent', half.recv(8))\n"
        "begin = time.monotonic()\n"
        "server.stop()\n"
        "server = serve(server.port)\n"
        "print('parent', connect(HEALTH).recv(8), time.monotonic() - begin < 1)\n"
        "os.kill(child, signal.SIGKILL)\n"
        "os.waitpid(child, 0)\n"
        "server.stop()\n"
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "child 0",
        "child b'HTTP/1.1'",
        "child 0",
        "parent b'HTTP/1.1'",
        "parent b'HTTP/1.1' True",
    ]


STEPS = ["_watch", "_receive", "_next_waiting", "_start_worker", "_finish_done", "_drain"]


@needs_fork
@needs_proc
def test_a_fork_at_any_step_of_the_loop_is_harmless() -> None:
    """A child that is forked in the middle of the loop has no socket of it, and stops at once."""
    done = run(
        "from hypertrace_prometheus.http.connections import Connections\n"
        "def forked(step):\n"
        "    global server\n"
        "    original = getattr(Connections, step)\n"
        "    children = []\n"
        "    def forking(self, *arguments):\n"
        "        if not children:\n"
        "            children.append(os.fork())\n"
        "            if not children[0]:\n"
        "                server.stop()\n"
        "                os._exit(sockets() - ours)\n"
        "        return original(self, *arguments)\n"
        "    ours = sockets() + 1\n"  # the client
        "    server = serve()\n"
        "    setattr(Connections, step, forking)\n"
        "    client = connect(HEALTH)\n"
        "    print(step, client.recv(8))\n"
        "    client.sendall(b'late')\n"  # something to drain
        "    while not children: time.sleep(0.001)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))\n"
        "    setattr(Connections, step, original)\n"
        "    server.stop()\n"
        "    client.close()\n"
        "server.stop()\n"
        f"for step in {STEPS}: forked(step)\n"
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        line for step in STEPS for line in (f"{step} b'HTTP/1.1'", "0")
    ]


@needs_fork
def test_a_forked_child_leaves_the_parents_clients_alone() -> None:
    """A child that ends, with its copy of the server stopped or not, closes no connection."""
    done = run(
        "half = connect(b'GET /-/healthy HTTP/1.1\\r\\n')\n"
        "connect(HEALTH).recv(8)\n"
        "for end in (server.stop, lambda: None):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        end()\n"
        "        os._exit(7)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "half.sendall(b'\\r\\n')\n"
        "print(half.recv(8))\n"
        "server.stop()\n"
    )
    assert (done.stdout.split(), done.stderr) == (["7", "7", "b'HTTP/1.1'"], "")
