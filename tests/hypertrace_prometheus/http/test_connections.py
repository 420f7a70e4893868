"""Connections of the metrics server: workers, deadlines and bounds."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from hypertrace_prometheus.http import connections as module
from hypertrace_prometheus.http.connection import Connection

from ..wire import (
    ELSEWHERE,
    HEALTH,
    HERE,
    SCRAPE,
    SOON,
    Gate,
    Start,
    ask,
    connect,
    exchange,
    held,
    no_thread_left,
    read_all,
    threads,
    until,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace_prometheus.http.server import MetricsServer

    from ...running import Clock

HALVES = [b"", b"GET /met", b"GET / HTTP/1.1\r\nA: b\r\n"]


def test_half_a_request_costs_no_worker(server: MetricsServer) -> None:
    """While many clients hold connections open and finish no request, no thread waits for them."""
    with ExitStack() as clients:
        for said in HALVES * 10:
            clients.enter_context(connect(server, said))
        until(lambda: held(server) == 30)
        assert ask(server, "/metrics")[0] == 200
        until(lambda: held(server) == 30)
        assert threads() == ["hypertrace-metrics"]


@pytest.mark.parametrize("said", HALVES)
def test_a_silent_client_is_hung_up_on(server: MetricsServer, clock: Clock, said: bytes) -> None:
    """A client that does not finish its request in time loses its connection."""
    with connect(server, said) as client:
        until(lambda: held(server) == 1)
        clock.now += 4.1
        assert read_all(client) == b""
    assert held(server) == 0


def test_a_slow_client_gains_no_time(server: MetricsServer, clock: Clock) -> None:
    """The time for a request is counted from its start, however often a byte comes."""
    with connect(server) as client:
        until(lambda: held(server) == 1)
        with suppress(ConnectionError):  # it may be hung up on before the last byte
            for byte in b"GET /":
                client.send(bytes([byte]))
                clock.now += 1.0
        assert read_all(client) == b""


@pytest.mark.parametrize("request_", [HEALTH, HEALTH.replace(b"\r", b"")])
def test_a_request_may_come_in_pieces(request_: bytes) -> None:
    """A request is read until its head is there, whatever the pieces are."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, (HERE, 1), None)
        taken = []
        for byte in request_:
            theirs.send(bytes([byte]))
            taken.append(connection.receive())
        with pytest.raises(BlockingIOError):
            connection.receive()
    assert taken == [False] * (len(request_) - 1) + [True]


def test_a_client_that_does_not_read_holds_no_thread(
    start: Start, registry: CollectorRegistry, clock: Clock
) -> None:
    """A client that does not read its response loses the connection and what it left unread."""
    Gauge("large", "x" * 20_000_000, registry=registry)
    server = start()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(SOON)
        client.connect((server.host, server.port))
        client.sendall(SCRAPE)
        assert client.recv(1)
        assert workers() == 1
        clock.now += 4.1
        until(lambda: workers() == 0)
        with pytest.raises(ConnectionResetError):
            sum(iter(lambda: len(client.recv(65536)), 0))
    assert held(server) == 0


def test_a_late_byte_holds_nothing(
    server: MetricsServer, registry: CollectorRegistry, clock: Clock
) -> None:
    """A client that sends more than its request gets its response, and is then disconnected."""
    gate = Gate()
    registry.register(gate)
    with connect(server, SCRAPE) as client:
        assert gate.entered.wait(SOON)
        client.sendall(b"late")
        gate.opened.set()
        assert b"jobs_total 3.0" in read_all(client)
        assert workers() == 0
        client.sendall(b"later")
        clock.now += 1.1
        until(lambda: held(server) == 0)


def test_what_is_sent_beside_a_request_does_not_cost_the_answer(server: MetricsServer) -> None:
    """A client that sends a large body, which is never parsed, gets the whole response."""
    with connect(server, b"POST /metrics HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n") as client:
        body = threading.Thread(target=client.sendall, args=(bytes(8_000_000),))
        body.start()
        answer = b""
        while part := client.recv(65536):
            answer += part
        body.join(SOON)
    assert answer.endswith(b"\r\n\r\nOnly GET and HEAD work here.\n")


def test_a_client_may_close_its_side_at_once(server: MetricsServer) -> None:
    """A client that closes its side after the request gets its response."""
    with connect(server, HEALTH) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"\r\n\r\nok")


def test_a_slow_collector_is_waited_for(
    server: MetricsServer, registry: CollectorRegistry, clock: Clock
) -> None:
    """The time that collectors take does not count as the client's."""
    gate = Gate()
    registry.register(gate)
    with connect(server, SCRAPE) as client:
        assert gate.entered.wait(SOON)
        clock.now += 3600
        exchange(server, HEALTH)  # some turns of the loop
        gate.opened.set()
        assert b"jobs_total 3.0" in read_all(client)


def test_a_request_waits_its_turn_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
    server: MetricsServer,
    registry: CollectorRegistry,
    clock: Clock,
) -> None:
    """A request that finds no free worker is dropped after its total time, and not before."""
    monkeypatch.setattr(module, "_WORKERS", 1)
    gate = Gate()
    registry.register(gate)
    with connect(server, SCRAPE) as first:
        assert gate.entered.wait(SOON)
        with connect(server, SCRAPE) as second:
            until(lambda: len(server._connections._waiting) == 1)
            clock.now += 5.9
            with connect(server):  # a turn of the loop
                until(lambda: held(server) == 3)
            until(lambda: held(server) == 2)
            assert len(server._connections._waiting) == 1
            clock.now += 0.2
            assert read_all(second) == b""
        gate.opened.set()
        assert b"jobs_total 3.0" in read_all(first)


def test_all_its_time_is_bounded_whatever_a_client_does(clock: Clock) -> None:
    """A client that is slow at each step gets its total time, and the collectors' in addition."""
    one, other = socket.socketpair()
    with one, other:
        connection = Connection(one, (HERE, 1), None)
        clock.now += 3.9
        other.sendall(HEALTH)
        connection.notice(clock.now)
        assert connection.receive()

        def respond(_: bytes, client: str, asked: float) -> bytes:
            assert (client, asked, connection.deadline) == (HERE, 1003.9, float("inf"))
            clock.now += 100
            return b""

        connection.wait_for_worker()
        assert connection.deadline == pytest.approx(1006)
        connection.serve(respond)
        assert connection.deadline == pytest.approx(1106)


def test_a_request_was_there_when_it_was_noticed() -> None:
    """A request arrived when it was first seen, not when its turn came to be read."""
    asked = []

    def respond(_: bytes, client: str, when: float) -> bytes:
        asked.append((client, when))
        return b""

    one, other = socket.socketpair()
    with one, other:
        connection = Connection(one, (HERE, 1), None)
        for part, moments in ((HEALTH[:9], (1.0, 2.0)), (HEALTH[9:], (3.0, 4.0))):
            other.sendall(part)
            for moment in moments:
                connection.notice(moment)
            assert connection.receive() is (part != HEALTH[:9])
        connection.serve(respond)
    assert asked == [(HERE, 3.0)]


def test_one_client_cannot_have_all_workers(
    server: MetricsServer, registry: CollectorRegistry
) -> None:
    """At most 8 workers serve one address, and 16 all together; further requests wait."""
    gate = Gate()
    registry.register(gate)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server, SCRAPE)) for _ in range(20)]
        until(lambda: held(server) == 20 and workers() == 8)
        with connect(server, HEALTH, ELSEWHERE) as another:
            assert read_all(another).endswith(b"ok")
        for source in (ELSEWHERE, "127.0.0.3", "127.0.0.4"):
            clients += [stack.enter_context(connect(server, SCRAPE, source)) for _ in range(10)]
        until(lambda: held(server) == 50 and workers() == 16)
        assert len(server._connections._working) == 16
        gate.opened.set()
        assert all(b"jobs_total 3.0" in read_all(client) for client in clients)


def test_connections_are_bounded(
    monkeypatch: pytest.MonkeyPatch, server: MetricsServer, clock: Clock
) -> None:
    """Past the bound, the oldest idle connection of the address with the most makes room."""
    monkeypatch.setattr(module, "_MAX_OPEN", 4)
    with ExitStack() as stack:
        alone = stack.enter_context(connect(server, b"", ELSEWHERE))
        until(lambda: held(server) == 1)
        crowd = []
        for _ in range(3):
            crowd.append(stack.enter_context(connect(server)))
            until(lambda: held(server) == 1 + len(crowd))
        assert exchange(server, HEALTH).endswith(b"ok")
        assert read_all(crowd[0]) == b""
        for client in (alone, crowd[1], crowd[2]):
            client.sendall(HEALTH)
            assert read_all(client).endswith(b"ok")


@contextmanager
def standing(server: MetricsServer) -> Iterator[None]:
    """Hold the loop in the middle of a turn while the block runs."""
    finish = server._connections._finish_done
    arrived, go = threading.Event(), threading.Event()

    def wait() -> None:
        arrived.set()
        assert go.wait(SOON)
        finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server._connections, "_finish_done", wait)
        assert arrived.wait(SOON)
        yield
    go.set()


def test_a_connection_may_be_closed_by_the_event_before_its_own(
    monkeypatch: pytest.MonkeyPatch, server: MetricsServer
) -> None:
    """A client that sends just when its connection is closed for another does not stop the loop."""
    monkeypatch.setattr(module, "_MAX_OPEN", 1)
    with ExitStack() as stack:
        first = stack.enter_context(connect(server))
        until(lambda: held(server) == 1)
        with standing(server):
            first.sendall(HEALTH)
            second = stack.enter_context(connect(server, HEALTH))
        assert read_all(first) == b""
        assert read_all(second).endswith(b"ok")


def looks(server: MetricsServer, patch: pytest.MonkeyPatch, look: Callable[[], int]) -> list[int]:
    """Return what is seen at each start of a worker from now on."""
    start_worker, seen = server._connections._start_worker, []

    def note(connection: Connection) -> None:
        seen.append(look())
        start_worker(connection)

    patch.setattr(server._connections, "_start_worker", note)
    return seen


def test_hanging_up_on_many_delays_no_caller(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """A request that arrives while many connections are overdue is served before all are closed."""
    seen = looks(server, monkeypatch, lambda: held(server))
    with ExitStack() as stack:
        late = [stack.enter_context(connect(server)) for _ in range(60)]
        until(lambda: held(server) == 60)
        with standing(server):
            monkeypatch.setattr(module, "_TICK", SOON)  # it is not to rest with some left
            clock.now += 4.1
            client = stack.enter_context(connect(server, HEALTH))
        assert read_all(client).endswith(b"ok")
        assert [read_all(each) for each in late] == [b""] * 60
    assert seen[0] > 30


@pytest.mark.parametrize(("source", "place"), [(ELSEWHERE, 0), (HERE, 60)])
def test_many_slow_clients_delay_no_caller(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch, source: str, place: int
) -> None:
    """A request is read before bytes of many older connections, and of clients with many."""
    opened = server._connections._open
    seen = looks(server, monkeypatch, lambda: sum(bool(each._received) for each in opened))
    with ExitStack() as stack:
        sources = [HERE] * 60
        sources.insert(place, source)
        slow = [stack.enter_context(connect(server, b"", each)) for each in sources]
        client = slow.pop(place)
        until(lambda: held(server) == 61)
        with standing(server):
            for each in slow:
                each.sendall(b"G")
            client.sendall(HEALTH)
        assert read_all(client).endswith(b"ok")
        until(lambda: sum(bool(each._received) for each in tuple(opened)) >= 60)
    assert seen[0] < 30


class NoDescriptors:
    """A listener of a process that has too many files open, the first time it accepts."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.failed = threading.Event()

    def accept(self) -> Any:
        if not self.failed.is_set():
            self.failed.set()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


def test_a_process_without_descriptors_gets_one_back(server: MetricsServer, clock: Clock) -> None:
    """Where the system refuses another descriptor, an idle connection is closed for it."""
    with connect(server) as silent:
        until(lambda: held(server) == 1)
        listener: Any = NoDescriptors(server._connections._listener)
        server._connections._listener = listener
        assert exchange(server, HEALTH).endswith(b"ok")
        assert listener.failed.is_set()
        assert read_all(silent) == b""


def test_a_process_that_may_open_less_than_it_has_gives_connections_up(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system refuses to watch so many connections, the oldest idle ones are closed."""
    selector = server._connections._selector
    select = selector.select

    def refuse(seconds: float | None) -> Any:
        if len(selector.get_map()) > 6:  # the listener, and what wakes the loop
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return select(seconds)

    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(12)]
        until(lambda: held(server) == 12)
        monkeypatch.setattr(selector, "select", refuse)
        until(lambda: held(server) == 4)
        assert [read_all(client) for client in idle[:8]] == [b""] * 8
        idle[-1].sendall(HEALTH)
        assert read_all(idle[-1]).endswith(b"ok")


def test_a_system_without_threads_loses_a_request_and_no_more(
    server: MetricsServer,
) -> None:
    """When the system refuses a worker, that connection is closed and the next one is answered."""
    with no_thread_left():
        assert exchange(server, HEALTH) == b""
    assert exchange(server, HEALTH).endswith(b"ok")


def test_many_scrapes_at_once_are_answered(server: MetricsServer) -> None:
    """More clients at once than there are workers are all answered in full."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server, SCRAPE)) for _ in range(200)]
        answers = [read_all(client) for client in clients]
    assert all(b"\njobs_total 3.0\n" in answer for answer in answers)


def test_the_default_timeout_of_sockets_is_not_ours(
    server: MetricsServer, registry: CollectorRegistry
) -> None:
    """An application that sets a default timeout for its sockets does not change the server."""
    Gauge("large", "x" * 20_000_000, registry=registry)
    socket.setdefaulttimeout(0.001)
    try:
        with connect(server, SCRAPE[:9]) as client:
            until(lambda: held(server) == 1)
            client.sendall(SCRAPE[9:])
            assert client.recv(1)
            time.sleep(0.05)  # longer than that timeout
            assert read_all(client).endswith(b"\nlarge 0.0\n")
    finally:
        socket.setdefaulttimeout(None)


def test_an_idle_server_sleeps(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clients the loop is not woken: the application has its processor to itself."""
    turns = []
    assert exchange(server, HEALTH).endswith(b"ok")
    until(lambda: held(server) == 0)
    monkeypatch.setattr(server._connections, "_finish_done", lambda: turns.append(1))
    time.sleep(0.5)  # nothing is to happen, so there is nothing to wait for
    assert len(turns) <= 1  # the one that was under way


def test_clients_that_misbehave_cost_neither_threads_nor_time(
    start: Start, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many clients of each bad kind are disconnected in time; others can scrape meanwhile."""
    monkeypatch.setattr("hypertrace_prometheus.http.connection._REQUEST_TIME", 0.8)
    monkeypatch.setattr("hypertrace_prometheus.http.connection._RESPONSE_TIME", 0.8)
    monkeypatch.setattr("hypertrace_prometheus.http.connection._TOTAL_TIME", 1.3)
    Gauge("large", "x" * 5_000_000, registry=registry)
    server = start()
    most, slowest = 0, 0.0
    with ExitStack() as stack:
        begin = time.monotonic()
        for said in HALVES * 20:
            stack.enter_context(connect(server, said))
        slow = [stack.enter_context(connect(server)) for _ in range(20)]
        late = [stack.enter_context(connect(server, SCRAPE)) for _ in range(10)]
        for _ in range(10):
            unread = stack.enter_context(socket.socket())
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.connect((server.host, server.port))
            unread.sendall(SCRAPE)
        until(lambda: held(server) >= 100)
        while held(server):
            assert time.monotonic() < begin + 4, server._connections._open
            for client in (*slow, *late):
                with suppress(OSError):
                    client.send(b"x")
            asked = time.monotonic()
            with connect(server, HEALTH, ELSEWHERE) as scraper:
                assert read_all(scraper).endswith(b"ok")
            slowest = max(slowest, time.monotonic() - asked)
            most = max(most, workers())
            time.sleep(0.05)  # not to be an attack itself
    assert 1 <= most <= 16
    assert slowest < 1
