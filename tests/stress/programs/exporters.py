"""Risks of exporters that push: receivers that are down, refuse, or hang."""

import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypertrace import set_trace_function
from hypertrace.exporters.influx import InfluxExporter
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.exporters.statsd import StatsdExporter
from hypertrace.metrics import Metrics

from .tools import Swarm

BLOCK = 200


def broken_receivers(rounds: int, seconds: float, interval: float, series: int) -> dict[str, Any]:
    """Work with and without exporters in turn; return what is kept of the pace and of the CPU.

    One pushes to a server that answers 500, one to a receiver that accepts and never reads, and one
    to a pipe that nothing reads.

    Args:
        rounds: how often each is measured.
        seconds: of CPU, for which it works at a time.
        interval: of the exporters.
        series: how many there are.
    """
    metrics = Metrics(allowed_props=["peer"])
    set_trace_function(metrics)
    swarm = Swarm()
    for number in range(series):
        swarm.meet(f"peer {number}")
    calls, kept, shares, failures = series, [], [], 0
    with _refusing() as url, _silent() as address, _unread() as pipe:
        for number in range(rounds):
            paces = {}
            # In turn, so that a machine that gets slower or faster favours neither.
            for pushes in (True, False) if number % 2 else (False, True):
                with ExitStack() as stack:
                    exporters = _exporters(metrics, interval, url, address, pipe) if pushes else []
                    for exporter in exporters:
                        stack.enter_context(exporter)
                    done, own, took = _work(swarm, seconds)
                    failures += sum(exporter.failures for exporter in exporters)
                paces[pushes] = done / took
                calls += done
                if pushes:
                    shares.append(own / took)
            kept.append(paces[True] / paces[False])
    counted = sum(metrics.read().family("function_counter_total").values)  # type: ignore[arg-type]
    return {
        "pace": statistics.median(kept),
        "share": statistics.median(shares),
        "failures": failures,
        "missing": calls - counted,
        "threads": threading.active_count(),
    }


def _exporters(metrics: Metrics, interval: float, url: str, address: str, pipe: Path) -> list[Any]:
    return [
        InfluxExporter(url, database="db", metrics=metrics, interval=interval),
        StatsdExporter(f"tcp://{address}", metrics=metrics, interval=interval),
        JsonLinesExporter(pipe, metrics=metrics, interval=interval),
    ]


def _work(swarm: Swarm, seconds: float) -> tuple[int, float, float]:
    """Work for so many seconds of CPU.

    Exporters take theirs from the thread that works, as only one thread has the GIL. Other programs
    of the machine do not count.

    Returns:
        How often something was traced, and how much CPU this thread and all threads took.
    """
    done, own, start = 0, time.thread_time(), time.process_time()
    while (took := time.process_time() - start) < seconds:
        for i in range(BLOCK):
            sum(range(i))  # what the application is there for
            swarm.connect()
        done += BLOCK
    return done, time.thread_time() - own, took


@contextmanager
def _refusing() -> Iterator[str]:
    """Run a server that answers 500, in another process: its work is not the application's."""
    context = get_context("spawn")
    inside, outside = context.Pipe()
    server = context.Process(target=_serve, args=(outside,), daemon=True)
    server.start()
    yield f"http://127.0.0.1:{inside.recv()}"
    server.terminate()
    server.join()


def _serve(outside: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        outside.send(server.server_port)
        server.serve_forever()


@contextmanager
def _silent() -> Iterator[str]:
    """Listen, and never read."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def _unread() -> Iterator[Path]:
    """Open a pipe, and never read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipe")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            yield path
        finally:
            os.close(reader)
