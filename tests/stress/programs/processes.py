"""Risks between processes, and at the end of one."""

import gc
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NoReturn

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hypertrace import clear_trace_function, set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .tools import (
    Swarm,
    connected,
    counts,
    descriptors,
    get,
    sockets,
    threads_at_rest,
    watch_by_alarm,
)

PATIENCE = 10
OWN = 100


def forks(times: int, *, server: bool) -> dict[str, Any]:
    """Fork again and again while threads make series; each child counts, shows that, and ends.

    Args:
        times: how often.
        server: the parent has a metrics server, which is scraped all the time.
    """
    exporter = PrometheusExporter(
        port=0 if server else None,
        allowed_props=["peer"],
        max_series=10**6,
        collect_defaults=False,
    )
    set_trace_function(exporter)
    watch_by_alarm(PATIENCE * times)
    made = [count() for _ in range(4)]
    over = threading.Event()

    def work(thread: int) -> None:
        draw = random.Random(thread)
        swarm = Swarm()
        while not over.is_set():
            swarm.meet(f"peer {draw.randrange(100_000)}")
            swarm.join()
            Swarm().connect()
            next(made[thread])
            if thread == 0:
                exporter.metrics()

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for worker in workers:
        worker.start()
    if exporter.port is not None:
        workers.append(threading.Thread(target=_scrape, args=(exporter.port, over)))
        workers[-1].start()
    ends = []
    for i in range(times):
        time.sleep(0.01)  # for the threads to be somewhere else than at the last fork
        child = os.fork()
        if child == 0:
            _child(exporter, i)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    over.set()
    for worker in workers:
        worker.join()
    total = sum(counts(exporter.metrics()).values())
    exporter.stop()
    return {
        "hung": ends.count(-signal.SIGALRM),
        "wrong": sum(end not in {0, -signal.SIGALRM} for end in ends),
        # What the children counted is in the sums of all.
        "missing": 3 * sum(map(next, made)) + 2 * OWN * times - total,
    }


def _scrape(port: int, over: threading.Event) -> None:
    while not over.is_set():
        get(port)


def _child(exporter: PrometheusExporter, number: int) -> NoReturn:
    signal.alarm(PATIENCE)
    # An exit code says what an assertion would.
    swarm = Swarm()
    for i in range(OWN):
        swarm.tracer.trace(f"child {number}", peer=str(i))
        swarm.join()
    page = counts(exporter.metrics())
    own = sum(value for labels, value in page.items() if f'id="child {number}"' in labels)
    code = 0 if own == OWN else 3
    if number % 2:
        os._exit(code)
    exporter.stop()
    raise SystemExit(code)


def forked_server(times: int) -> dict[str, Any]:
    """Restart a server on its port while children that were forked from it live."""
    watch_by_alarm(PATIENCE * times)
    exporter = PrometheusExporter(port=0, collect_defaults=False)
    port = exporter.port
    assert port is not None
    children, took = [], []
    for _ in range(times):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        start = time.monotonic()
        exporter.stop()
        exporter = PrometheusExporter(port=port, collect_defaults=False)
        assert get(port)[0] == 200
        took.append(time.monotonic() - start)
    exporter.stop()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {"seconds": max(took)}


class Slow(Collector):
    """Takes longer than anyone waits."""

    def __init__(self) -> None:
        self.running = threading.Event()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Any:
        self.running.set()
        time.sleep(30)
        yield GaugeMetricFamily("slow", "Slow.", value=1)


def stop_with_clients(clients: int) -> dict[str, Any]:
    """Stop a server that has half-open clients and a scrape under way; return what is left."""
    before = threads_at_rest(), sockets()
    exporter = PrometheusExporter(port=0, collect_defaults=False)
    set_trace_function(exporter)
    assert exporter.port is not None
    half_open = [connected(exporter.port, b"GET /metrics HTTP/1.1\r\n") for _ in range(clients)]
    get(exporter.port)
    start = time.monotonic()
    exporter.stop()
    seconds = time.monotonic() - start
    for client in half_open:
        client.close()
    left = threads_at_rest() - before[0], sockets() - before[1]
    return {"seconds": seconds, "threads": left[0], "sockets": left[1]}


ENDING = """
import signal, sys, threading, time
from hypertrace import set_trace_function
from hypertrace_prometheus import PrometheusExporter
from stress.programs.processes import Slow
from stress.programs.tools import Swarm

exporter = PrometheusExporter(port=0, collect_defaults=False)
set_trace_function(exporter)
slow = Slow()
{register}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Swarm().connect()
print(exporter.port, flush=True)
sys.stdin.readline()
{end}
"""

ENDS = {
    "SIGTERM": "time.sleep(60)",
    "SIGTERM, stopping": "with exporter: time.sleep(60)",
    "sys.exit": "sys.exit(0)",
    "sys.exit, stopping": "with exporter: sys.exit(0)",
    "end": "",
}


def endings(clients: int, at_once: int) -> dict[str, Any]:
    """End programs whose server has half-open clients and a scrape under way, in several ways."""
    cases = {f"{way}{', scraped' * slow}": (way, slow) for way in ENDS for slow in (False, True)}
    with ThreadPoolExecutor(at_once) as pool:
        ends = pool.map(lambda case: _end(clients, *case), cases.values())
        return dict(zip(cases, ends, strict=True))


def _end(clients: int, way: str, slow: bool) -> tuple[float, int, str]:
    import subprocess  # noqa: PLC0415

    code = ENDING.format(end=ENDS[way], register="exporter.registry.register(slow)" if slow else "")
    program = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    port = int(program.stdout.readline())
    # The last of them asks for all there is to ask for.
    said = [b"GET /metrics HTTP/1.1\r\n"] * clients + [b"GET /metrics HTTP/1.0\r\n\r\n"]
    open_clients = [connected(port, each) for each in said]
    time.sleep(0.3)  # for what they say to reach the server
    start = time.monotonic()
    if way.startswith("SIGTERM"):
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
        time.sleep(0.1)  # for the program to wait
        start = time.monotonic()
        program.terminate()
    try:
        _, errors = program.communicate("\n" if program.stdin else None, timeout=2 * PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()
        _, errors = program.communicate()
    seconds = time.monotonic() - start
    for client in open_clients:
        client.close()
    return seconds, program.returncode, errors


def restarts(times: int) -> dict[str, Any]:
    """Start and stop an exporter again and again; return what each leaves."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    registry = CollectorRegistry()
    exporter = PrometheusExporter(port=0, registry=registry)
    exporter.stop()
    before = threads_at_rest(), sockets(), descriptors()
    answers = set()
    port = 0
    for _ in range(times):
        with PrometheusExporter(port=port, registry=registry) as exporter:
            set_trace_function(exporter)
            Swarm().connect()
            assert exporter.port is not None
            port = exporter.port
            status, _, body = get(port)
            answers.add((status, list(counts(body.decode()).values()) == [1]))
            for options in ({"registry": registry}, {"port": port, "strict_port": True}):
                try:
                    PrometheusExporter(**options)
                except (ValueError, OSError):
                    continue
                answers.add((0, False))
    clear_trace_function()  # the files of an exporter go with the last recorder that counts there
    gc.collect()
    left = (
        threads_at_rest() - before[0],
        sockets() - before[1],
        descriptors() - before[2],
    )
    return {
        "answers": sorted(answers),
        "left": left,
        "families": [family.name for family in registry.collect()],
    }
