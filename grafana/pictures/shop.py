"""Shop that has all that integrations measure, for pictures and tests.

    python grafana/pictures/shop.py --port 4343 --version 1.4

Two workers answer requests, which wait for a database and a payment service, and send jobs to
threads that work in the background. Requests, jobs, queries and the runtime are measured by their
integrations. Calls, WebSockets, the pool and the models need libraries that are not there, so the
shop declares their metrics itself. Durations are waited for, not made up.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import multiprocessing
import queue
import random
import signal
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hypertrace import set_trace_function
from hypertrace._operations import Operations
from hypertrace.integrations import install
from hypertrace.integrations.dbapi import trace_connection
from hypertrace.integrations.entries import NAME, declare_entries
from hypertrace.integrations.gauges import Gauge
from hypertrace.integrations.http_server import SECONDS, HttpServer
from hypertrace.integrations.jobs import count_job, job
from hypertrace.metrics import Counter, Distribution, declare
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.dashboards import integrated as names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.integrations.http_server import Request

_WORKERS, _VISITORS, _CLERKS, _CONNECTIONS = 2, 6, 2, 4
_ROUTES = {
    ("GET", "/items"): 6,
    ("GET", "/items/{id}"): 8,
    ("POST", "/cart/{id}"): 3,
    ("POST", "/checkout"): 2,
    ("GET", "/account"): 1,
    ("GET", names.UNMATCHED): 1,
}
_QUEUES = {"send_receipt": "mail", "update_stock": "stock"}
_PAYMENTS, _STOCK = ("payments.example.com", "443"), ("stock.example.com", "8080")
_OFTEN = 0.3


def _seldom(every: int = 30) -> Iterator[bool]:
    """Return what is true the first time, so that it is seen at once, and then now and then."""
    return itertools.cycle([True] + [False] * (every - 1))


class PaymentError(Exception):
    """The payment service refused."""


class ReceiptError(Exception):
    """A receipt could not be written."""


class _Timed:
    """Operations that are timed, with a distribution."""

    def __init__(self, metric: str, function: str, *tags: str, entry: str = "") -> None:
        self._tags = tags
        self._is_entry = bool(entry)
        self._operations = Operations("Measured", function, entry=entry)
        declare(Distribution(metric, of=f"Measured.{function}", tags=list(tags), buckets=SECONDS))

    @contextmanager
    def timed(self, *values: str) -> Iterator[dict[str, object]]:
        """Time a block; props that it sets are known at its end."""
        props: dict[str, object] = dict(zip(self._tags, values, strict=False))
        operation = self._operations.start()
        if self._is_entry:
            props[NAME] = operation.entry_name = values[0]
        try:
            yield props
        except Exception as error:
            props[names.ERROR] = type(error).__name__
            operation.end(props, "error", type(error))
            raise
        else:
            operation.end(props, "error" if props.get(names.ERROR) else "ok")

    def record(self, seconds: float, *values: str) -> None:
        """Record what took so long."""
        self._operations.record(seconds, dict(zip(self._tags, values, strict=True)))


class _Counted:
    """Events that are counted, with a counter."""

    def __init__(self, metric: str, function: str, *tags: str) -> None:
        self._tags = tags
        self._operations = Operations("Counted", function)
        declare(Counter(metric, of=f"Counted.{function}", tags=list(tags)))

    def count(self, *values: str) -> None:
        """Count one."""
        self._operations.count(dict(zip(self._tags, values, strict=True)))


class Database:
    """A database in memory, and a pool of connections to it."""

    def __init__(self) -> None:
        """Open the connections, and declare what is measured of the pool and the models."""
        self._waits = _Timed(names.POOL_WAITS, "pool", names.POOL)
        self._pending = Gauge(names.POOL_PENDING, (names.POOL,), "Requests that wait.")
        self._open = Gauge(names.POOLED, (names.POOL, names.STATE), "Connections.")
        self._models = _Counted(names.MODELS, "model", names.APP, names.MODEL, names.ACTION)
        self._fails = _seldom()
        self._idle: queue.Queue[sqlite3.Connection] = queue.Queue()
        for _ in range(_CONNECTIONS):
            self._idle.put(self._connect())
        self._leave_idle = [self._open.enter("main", "idle") for _ in range(_CONNECTIONS)]

    @staticmethod
    def _connect() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.create_function("wait", 1, _wait)
        for table in ("items", "carts", "orders"):
            connection.execute(f"CREATE TABLE {table} (id INTEGER)")
        connection.executemany("INSERT INTO items VALUES (?)", [(number,) for number in range(5)])
        connection.execute("INSERT INTO carts VALUES (1)")
        return trace_connection(connection)

    def query(self, operation: str, table: str, rng: random.Random) -> None:
        """Ask, or change a model."""
        statement = {
            "SELECT": f"SELECT id FROM {table} WHERE wait(?) LIMIT 5",
            "UPDATE": f"UPDATE {table} SET id = wait(?)",
            "INSERT": f"INSERT INTO {table} SELECT wait(?)",
        }[operation]
        # The database refuses to wait for a negative time.
        waits = -1 if table == "carts" and next(self._fails) else rng.lognormvariate(-7, 0.8)
        with self._connection() as connection:
            connection.execute(statement, (waits,)).fetchall()
        if operation != "SELECT":
            action = "create" if operation == "INSERT" else "update"
            self._models.count("shop", table.removesuffix("s").capitalize(), action)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        started, leave = time.perf_counter(), self._pending.enter("main")
        connection = self._idle.get()
        leave()
        self._waits.record(time.perf_counter() - started, "main")
        leave_idle, leave = self._leave_idle.pop(), self._open.enter("main", "used")
        leave_idle()
        try:
            yield connection
        finally:
            leave()
            self._leave_idle.append(self._open.enter("main", "idle"))
            self._idle.put(connection)


class Jobs:
    """Jobs, and threads that do them."""

    def __init__(self) -> None:
        """Start without jobs."""
        self._sent: queue.Queue[tuple[str, float]] = queue.Queue()
        self._is_retried, self._fails = _seldom(), _seldom()

    def send(self, name: str) -> None:
        """Let a job be done."""
        count_job(name, "sent", _QUEUES[name])
        self._sent.put((name, time.time()))

    def work(self, rng: random.Random) -> None:
        """Do jobs until the process ends."""
        while True:
            name, sent = self._sent.get()
            with (
                suppress(ReceiptError),
                job(name, _QUEUES[name], waited=time.time() - sent) as running,
            ):
                time.sleep(rng.lognormvariate(-1.6 if name == "send_receipt" else -3, 0.5))
                if next(self._is_retried):
                    running.end_as("retried")
                    self.send(name)
                elif name == "send_receipt" and next(self._fails):
                    raise ReceiptError


class Client:
    """Client of two other servers."""

    def __init__(self) -> None:
        """Declare what is measured."""
        server = names.ADDRESS, names.PORT
        self._calls = _Timed(
            names.CLIENT_REQUESTS, "call", *server, names.METHOD, names.STATUS, names.ERROR
        )
        self._connects = _Timed(names.CONNECTS, "connect", *server)
        self._lookups = _Timed(names.LOOKUPS, "lookup", *server)
        self._times_out, self._is_refused = _seldom(), _seldom()
        self._active = Gauge(names.CLIENT_ACTIVE, (names.METHOD, *server), "Calls.")

    def call(self, server: tuple[str, str], method: str, rng: random.Random) -> None:
        """Ask a server, and wait for the answer."""
        leave = self._active.enter(method, *server)
        with self._calls.timed(*server, method, "200", "") as props:
            if rng.random() < _OFTEN:
                self._lookups.record(rng.lognormvariate(-6, 0.5), *server)
                self._connects.record(rng.lognormvariate(-4.5, 0.5), *server)
            time.sleep(rng.lognormvariate(-2.6 if server == _PAYMENTS else -4, 0.6))
            if next(self._times_out):
                props[names.STATUS], props[names.ERROR] = "", "timeout"
            elif next(self._is_refused):
                props[names.STATUS] = props[names.ERROR] = "503"
        leave()


class Sockets:
    """A live page, whose buttons send messages."""

    def __init__(self) -> None:
        """Declare what is measured."""
        self._messages = _Timed(
            names.MESSAGES, "message", names.ROUTE, names.MESSAGE, entry="websocket"
        )
        self._counts = _Counted(names.MESSAGE_COUNTS, "messages", names.ROUTE, names.DIRECTION)
        self._open = Gauge(names.CONNECTIONS, (names.ROUTE,), "WebSockets that are open.")

    def watch(self, rng: random.Random) -> None:
        """Look at the live page, and click, until the process ends."""
        while True:
            leave = self._open.enter("/live")
            for _ in range(rng.randint(5, 50)):
                time.sleep(rng.expovariate(2))
                self._counts.count("/live", "receive")
                with self._messages.timed("/live", rng.choice(("more", "less", "reset"))):
                    time.sleep(rng.lognormvariate(-5, 0.5))
                self._counts.count("/live", "transmit")
            leave()


class Shop:
    """The shop, in one worker."""

    def __init__(self) -> None:
        """Declare what is measured."""
        declare_entries()
        self._http = HttpServer()
        self._database, self._jobs = Database(), Jobs()
        self._client, self._sockets = Client(), Sockets()
        self._payment_fails, self._is_busy = _seldom(), _seldom(3)

    def run(self) -> None:
        """Work until the process ends."""
        work: list[Callable[[random.Random], object]] = [
            *[self._visit] * _VISITORS,
            *[self._jobs.work] * _CLERKS,
            self._sockets.watch,
        ]
        for number, each in enumerate(work):
            threading.Thread(target=each, args=(random.Random(number),), daemon=True).start()
        asyncio.run(self._wait())

    @staticmethod
    async def _wait() -> None:
        """Wait in an event loop, which a computation delays now and then."""
        while True:
            await asyncio.sleep(1)
            await asyncio.gather(*(asyncio.sleep(1) for _ in range(random.randint(1, 20))))
            if random.random() < _OFTEN:
                _compute(random.Random(), most=0.03)

    def _visit(self, rng: random.Random) -> None:
        routes, weights = zip(*_ROUTES.items(), strict=True)
        while True:
            # As many as there are after some minutes, and half of it before.
            time.sleep(rng.expovariate(6 + 4 * math.sin(time.monotonic() / 60)))
            ((method, route),) = rng.choices(routes, weights)
            request = self._http.start(method, route)
            assert request is not None
            request.route = route
            try:
                self._answer(request, route, rng)
            except Exception as error:  # noqa: BLE001 -- as a server
                request.status = 500
                request.finish(error)
            else:
                request.finish()

    def _answer(self, request: Request, route: str, rng: random.Random) -> None:
        request.status = 404 if route == names.UNMATCHED else 200
        _compute(rng)
        if route.startswith("/items"):
            for _ in range(rng.randint(1, 4)):
                self._database.query("SELECT", "items", rng)
        elif route == "/cart/{id}":
            self._database.query("SELECT", "carts", rng)
            self._database.query("UPDATE", "carts", rng)
        elif route == "/checkout":
            self._check_out(rng)
        elif route == "/account" and next(self._is_busy):
            request.status = 503

    def _check_out(self, rng: random.Random) -> None:
        self._client.call(_STOCK, "GET", rng)
        self._client.call(_PAYMENTS, "POST", rng)
        if next(self._payment_fails):
            raise PaymentError
        self._database.query("INSERT", "orders", rng)
        for name in _QUEUES:
            self._jobs.send(name)


def _compute(rng: random.Random, most: float = 0.006) -> None:
    until = time.thread_time() + rng.uniform(0.001, most)
    while time.thread_time() < until:
        pass


def _wait(seconds: float) -> int:
    time.sleep(seconds)
    return 1


def _work() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Shop().run()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="1.4")
    arguments = parser.parse_args()
    labels = {"service": "shop", "version": arguments.version}
    exporter = PrometheusExporter(arguments.port, upstream=True, labels=labels)
    set_trace_function(exporter)
    install("runtime")
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_work, daemon=True) for _ in range(_WORKERS)]
    for worker in workers:
        worker.start()

    def end(*_: object) -> None:
        for worker in workers:
            worker.kill()

    signal.signal(signal.SIGTERM, end)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
