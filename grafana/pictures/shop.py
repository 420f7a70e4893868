"""Shop that does what integrations measure, without their libraries: for pictures and tests.

    python grafana/pictures/shop.py --port 4343 --version 1.4

Two workers answer requests, which wait for a database and a payment service, and send jobs to
threads that work in the background. Times are waited for, not made up.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import queue
import random
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypertrace import Tracer, set_trace_function
from hypertrace._operations import Operations
from hypertrace.integrations.entries import NAME, declare_entries
from hypertrace.integrations.gauges import Gauge
from hypertrace.integrations.http_server import (
    ERROR,
    METHOD,
    SECONDS,
    STATUS,
    UNMATCHED,
    HttpServer,
)
from hypertrace.metrics import Counter, Distribution, declare
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.dashboards import integrated as names

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORKERS, _THREADS = 2, 6
_ROUTES = {
    ("GET", "/items"): 6,
    ("GET", "/items/{id}"): 8,
    ("POST", "/cart/{id}"): 3,
    ("POST", "/checkout"): 2,
    ("GET", "/account"): 1,
    ("GET", ""): 1,
}


class PaymentError(Exception):
    """The payment service refused."""


class ReceiptError(Exception):
    """A receipt could not be written."""


class _Timed:
    """Operations with a distribution of their own."""

    def __init__(self, metric: str, kind: str, function: str, *tags: str, entry: str = "") -> None:
        self._tags = tags
        self._is_entry = bool(entry)
        self._operations = Operations(kind, function, entry=entry)
        declare(Distribution(metric, of=f"{kind}.{function}", tags=list(tags), buckets=SECONDS))

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
            operation.finish({ERROR: type(error).__name__} | props, "error", type(error))
            raise
        else:
            failed = bool(props.get(ERROR))
            operation.finish(props, "error" if failed else "ok")

    def record(self, seconds: float, *values: str) -> None:
        """Record what took so long."""
        self._operations.record(seconds, dict(zip(self._tags, values, strict=True)))


class _Events:
    """Events that are counted."""

    def __init__(self, metric: str, kind: str, function: str, *tags: str) -> None:
        self._tags = tags
        self._operations = Operations(kind, function)
        declare(Counter(metric, of=f"{kind}.{function}", tags=list(tags)))

    def count(self, *values: str) -> None:
        """Count one."""
        self._operations.count(dict(zip(self._tags, values, strict=True)))


class Shop:
    """The shop, in one worker."""

    def __init__(self) -> None:
        """Declare what is measured."""
        declare_entries()
        self.tracer = Tracer(self)
        self._http = HttpServer()
        self._calls = _Timed(
            names.CLIENT_REQUESTS, "HttpClient", "request",
            names.ADDRESS, names.PORT, METHOD, STATUS, ERROR,
        )  # fmt: skip
        self._connects = _Timed(
            names.CLIENT_CONNECTS, "HttpClient", "connect", names.ADDRESS, names.PORT
        )
        self._lookups = _Timed(names.CLIENT_LOOKUPS, "HttpClient", "lookup", names.ADDRESS)
        self._queries = _Timed(
            names.QUERIES, "Database", "query",
            names.SYSTEM, names.OPERATION, names.TABLE, ERROR,
        )  # fmt: skip
        self._waits = _Timed(names.POOL_WAITS, "Database", "wait")
        self._jobs = _Timed(
            names.JOBS, "Jobs", "job", names.JOB, names.QUEUE, names.RESULT, entry="job"
        )
        self._queue_waits = _Timed(names.JOB_WAITS, "Jobs", "wait", names.JOB, names.QUEUE)
        self._job_events = _Events(
            names.JOB_EVENTS, "Jobs", "event", names.JOB, names.QUEUE, names.EVENT
        )
        self._running = Gauge(names.JOBS_RUNNING, (names.JOB, names.QUEUE), "Jobs.")
        self._models = _Events(
            names.MODELS, "Models", "event", names.APP, names.MODEL, names.ACTION
        )
        self._pool = threading.Semaphore(4)
        self._sent: queue.Queue[tuple[str, str, float]] = queue.Queue()

    def run(self) -> None:
        """Work until the process ends."""
        work = [self._visit] * _THREADS + [self._work] * 2
        threads = [
            threading.Thread(target=each, args=(random.Random(n),), daemon=True)  # noqa: S311 -- no secret
            for n, each in enumerate(work)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _visit(self, rng: random.Random) -> None:
        (routes, weights) = zip(*_ROUTES.items(), strict=True)
        while True:
            time.sleep(rng.expovariate(6 + 4 * math.sin(time.monotonic() / 30)))
            ((method, route),) = rng.choices(routes, weights)
            request = self._http.start(method, route)
            assert request is not None
            request.route = route or UNMATCHED
            request.status = 200 if route else 404
            try:
                self._answer(request, route, rng)
            except Exception as error:  # noqa: BLE001 -- as a server
                request.finish(error)
            else:
                request.finish()

    def _answer(self, request: object, route: str, rng: random.Random) -> None:
        _compute(rng)
        if route.startswith("/items"):
            for _ in range(rng.randint(1, 4)):
                self._query("SELECT", "items", rng)
        elif route == "/cart/{id}":
            self._query("SELECT", "carts", rng)
            self._query("UPDATE", "carts", rng)
            self._models.count("shop", "Cart", "update")
        elif route == "/checkout":
            self._pay(rng)
            self._query("INSERT", "orders", rng)
            self._models.count("shop", "Order", "create")
            for job in ("send_receipt", "update_stock"):
                self._job_events.count(job, "mail" if job == "send_receipt" else "stock", "sent")
                self._sent.put((job, "mail" if job == "send_receipt" else "stock", time.time()))
        elif route == "/account" and rng.random() < 0.3:
            request.status = 503  # type: ignore[attr-defined] -- of the base

    def _query(self, operation: str, table: str, rng: random.Random) -> None:
        started = time.perf_counter()
        with self._pool:
            self._waits.record(time.perf_counter() - started)
            with self._queries.timed("postgresql", operation, table, ""):
                time.sleep(rng.lognormvariate(-6, 0.8))
                if table == "carts" and rng.random() < 0.02:
                    raise TimeoutError

    def _pay(self, rng: random.Random) -> None:
        host = ("payments.example.com", "443")
        self._call(*host, "POST", rng)
        self._call("stock.example.com", "8080", "GET", rng)
        if rng.random() < 0.03:
            raise PaymentError

    def _call(self, host: str, port: str, method: str, rng: random.Random) -> None:
        with self._calls.timed(host, port, method, "200", "") as props:
            if rng.random() < 0.3:
                self._lookups.record(rng.lognormvariate(-6, 0.5), host)
                self._connects.record(rng.lognormvariate(-4.5, 0.5), host, port)
            time.sleep(rng.lognormvariate(-2.6 if port == "443" else -4, 0.6))
            if rng.random() < 0.02:
                props[STATUS], props[ERROR] = "", "ConnectTimeout"
            elif rng.random() < 0.02:
                props[STATUS] = props[ERROR] = "503"

    def _work(self, rng: random.Random) -> None:
        while True:
            job, name, sent = self._sent.get()
            self._queue_waits.record(time.time() - sent, job, name)
            self._job_events.count(job, name, "started")
            leave = self._running.enter(job, name)
            event = "processed"
            try:
                with self._jobs.timed(job, name):
                    time.sleep(rng.lognormvariate(-1.6 if job == "send_receipt" else -3, 0.5))
                    if job == "send_receipt" and rng.random() < 0.04:
                        raise ReceiptError
                    self._models.count("shop", "Stock", "update")
            except ReceiptError:
                event = "failed"
            if event == "processed" and rng.random() < 0.03:
                event = "retried"
                self._sent.put((job, name, time.time()))
            leave()
            self._job_events.count(job, name, event)


def _compute(rng: random.Random) -> None:
    until = time.thread_time() + rng.uniform(0.001, 0.006)
    while time.thread_time() < until:
        pass


def _worker() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Shop().run()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="1.4")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    exporter = PrometheusExporter(
        arguments.port, upstream=True, labels={"service": "shop", "version": arguments.version}
    )
    set_trace_function(exporter)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_worker, daemon=True) for _ in range(_WORKERS)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
            worker.join()


if __name__ == "__main__":
    main()
