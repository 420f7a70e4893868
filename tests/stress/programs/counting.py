"""Risks for a count: threads, races, finalizers, signals, tasks, greenlets, odd clocks."""

import asyncio
import gc
import itertools
import math
import random
import re
import signal
import sys
import threading
import time
import warnings
from collections import defaultdict
from typing import Any

import hypertrace
from hypertrace import Caller, SpanEvent, TracedObject, Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .tools import COUNTER, OVERFLOW, Swarm, counts, in_threads, repeating, samples

DURATION = "function_duration_seconds"
MOST_HANDLERS = 4
_BUCKET = re.compile(r'(.*),?le="([^"]*)"(.*)')


class Watch:
    """Reads the pages of an exporter, and remembers what may not be on them."""

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter
        self._before: dict[str, float] = {}
        self.pages = 0
        self.went_down: list[str] = []
        self.unequal: list[str] = []

    def look(self) -> None:
        """Take one page."""
        page = samples(self._exporter.metrics())
        rising = {s: v for s, v in page.items() if s.startswith((COUNTER, f"{DURATION}_"))}
        gone = [s for s, value in self._before.items() if rising.get(s, -1) < value]
        self.went_down += gone
        self.unequal += _unequal(rising)
        self._before = rising
        self.pages += 1


def _unequal(page: dict[str, float]) -> list[str]:
    """Return the histograms whose buckets do not add up to their count."""
    buckets = defaultdict(list)
    for series, value in page.items():
        if series.startswith(f"{DURATION}_bucket"):
            start, bound, end = _BUCKET.fullmatch(series).groups()  # type: ignore[union-attr]
            buckets[start + end].append((float(bound.replace("Inf", "inf")), value))
    bad = []
    for name, pairs in buckets.items():
        values = [value for _, value in sorted(pairs)]
        count = page[_without_comma(name.replace("_bucket", "_count", 1))]
        if values != sorted(values) or values[-1] != count:
            bad.append(f"{name} {values} {count}")
    return bad


def _without_comma(series: str) -> str:
    return series.replace(",,", ",").replace("{,", "{").replace(",}", "}")


def threads(number: int, calls: int) -> dict[str, Any]:
    """Count in many threads that switch all the time, scraped every 10 ms."""
    sys.setswitchinterval(1e-6)
    exporter = PrometheusExporter(allowed_props=["peer"], collect_defaults=False)
    set_trace_function(exporter)
    swarm, watch = Swarm(), Watch(exporter)

    def work(_: int) -> None:
        for _ in range(calls // 4):
            swarm.connect()
            swarm.dial()
            swarm.meet("a")
            swarm.join()

    start = time.monotonic()
    with repeating(watch.look, 0.01):
        in_threads(number, work)
    seconds = time.monotonic() - start
    found = list(counts(exporter.metrics()).values())
    return {
        "series": found,
        "total": sum(found),
        "pages": watch.pages,
        "went down": watch.went_down[:3],
        "unequal": watch.unequal[:3],
        "seconds": seconds,
    }


def races(number: int, series: int, limit: int) -> dict[str, Any]:
    """Let many threads make the same series, far more than there is room for."""
    sys.setswitchinterval(1e-6)
    exporter = PrometheusExporter(
        allowed_props=["peer"], max_series=limit, collect_defaults=False, object_ids=False
    )
    set_trace_function(exporter)
    swarm = Swarm()

    def work(thread: int) -> None:
        peers = list(range(series))
        # The first are made at the same moment, the rest in an order of each thread's own.
        half = peers[limit // 2 :]
        random.Random(thread).shuffle(half)
        for peer in peers[: limit // 2] + half:
            swarm.meet(str(peer))

    in_threads(number, work)
    found = counts(exporter.metrics())
    overflow = found.pop(OVERFLOW, 0)
    return {"series": len(found), "each": sorted(set(found.values())), "overflow": overflow}


def finalizers_and_signals(seconds: float, *, upstream: bool) -> dict[str, Any]:
    """Trace in signal handlers and in finalizers of cycles while series are made and scraped.

    Args:
        seconds: how long.
        upstream: count which spans are inside which, too.
    """
    exporters: list[PrometheusExporter] = []
    made = {name: itertools.count() for name in ("signal", "finalizer", "loop")}
    draw = random.Random(1)

    def trace(source: str) -> None:
        number = next(made[source])
        peer = f"{source} {number}"
        swarm.meet(peer)
        swarm.join()
        swarm.tracer.trace(peer[:8])

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            trace("finalizer")

    exporters.append(_unlimited(upstream=upstream))
    swarm = Swarm()
    handling: list[None] = []

    def handle(*_: object) -> None:
        handling.append(None)
        if (
            len(handling) < MOST_HANDLERS
        ):  # where the machine is slow, they come faster than they go
            trace("signal")
        handling.pop()

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    start, pages = time.monotonic(), 0
    over = threading.Event()

    def beside() -> None:
        while not over.wait(0.001):
            trace("loop")
            Cycle()

    thread = threading.Thread(target=beside)
    thread.start()
    while (elapsed := time.monotonic() - start) < seconds:
        if elapsed > len(exporters):  # another, so that series are made all the time
            exporters.append(_unlimited(upstream=upstream))
        for _ in range(20):
            # The collector comes after so many new objects: each time at another place.
            gc.set_threshold(draw.randrange(1, 60), 20, 50)
            Cycle()
            trace("loop")
        exporters[-1].metrics()
        pages += 1
    over.set()
    thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.collect()
    calls = {name: next(number) for name, number in made.items()}
    total = sum(sum(counts(exporter.metrics()).values()) for exporter in exporters)
    return {
        "calls": calls,
        "missing": 3 * sum(calls.values()) - total,
        "dropped": hypertrace.dropped_events(),
        "pages": pages,
    }


def _unlimited(*, upstream: bool) -> PrometheusExporter:
    """Return an exporter that is set, and makes a series of each value."""
    exporter = PrometheusExporter(
        allowed_props=["peer"], max_series=10**6, upstream=upstream, collect_defaults=False
    )
    set_trace_function(exporter)
    return exporter


def tasks(number: int, calls: int) -> dict[str, Any]:
    """Count in many tasks that wait between their calls."""
    exporter = PrometheusExporter(allowed_props=["peer"], collect_defaults=False)
    set_trace_function(exporter)
    swarm = Swarm()

    async def work(task: int) -> None:
        for i in range(calls):
            if i % 10 == 0:
                with swarm.tracer.span("with waiting", peer=str(task % 10)):
                    await asyncio.sleep(0)
            else:
                swarm.meet(str(task % 10))
                await asyncio.sleep(0)

    async def main() -> int:
        work_under_way = asyncio.gather(*(work(task) for task in range(number)))
        pages = 0
        while not work_under_way.done():
            await asyncio.to_thread(exporter.metrics)
            pages += 1
            await asyncio.sleep(0.05)
        await work_under_way
        return pages

    pages = asyncio.run(main())
    page = exporter.metrics()
    still_open = sum(counts(page, "function_in_progress").values())
    return {"total": sum(counts(page).values()), "open": still_open, "pages": pages}


def greenlets(number: int, calls: int) -> dict[str, Any]:
    """Count in greenlets. The importer chose whether gevent patched before or after."""
    import gevent  # noqa: PLC0415

    exporter = PrometheusExporter(allowed_props=["peer"], collect_defaults=False)
    set_trace_function(exporter)
    swarm, pages = Swarm(), []

    def work(greenlet: int) -> None:
        for i in range(calls):
            swarm.meet(f"{greenlet % 7} {i % 50}")
            with swarm.tracer.span():
                gevent.sleep(0)

    def look() -> None:
        while True:
            pages.append(sum(counts(exporter.metrics()).values()))
            gevent.sleep(0.001)

    looking = gevent.spawn(look)
    gevent.joinall([gevent.spawn(work, i) for i in range(number)], raise_error=True)
    looking.kill()
    total = sum(counts(exporter.metrics()).values())
    return {"total": total, "pages": len(pages), "down": pages != sorted(pages)}


def greenlets_patched_after(number: int, calls: int) -> dict[str, Any]:
    """Let gevent patch the standard library after hypertrace was imported."""
    from gevent import monkey  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gevent's about modules that were imported before
        monkey.patch_all()
    return greenlets(number, calls)


def odd_durations(spans: int, seed: int) -> dict[str, Any]:
    """Report spans of odd durations between good ones, while the clocks jump about."""
    draw = random.Random(seed)
    exporter = PrometheusExporter(exemplar=lambda: {"trace_id": "a"}, collect_defaults=False)
    set_trace_function(exporter)
    odd = [math.nan, math.inf, -math.inf, -1.0, -0.0, -1e300]
    traced = TracedObject("Swarm", 1)
    wall = time.time
    good = 0.0
    for i in range(spans):
        duration = draw.choice(odd) if draw.random() < 0.5 else draw.random()
        place = Caller("join", "swarm.py", "swarm", 1, 1)
        good += duration if 0 < duration < 1 else 0.0
        result: Any = draw.choice(["ok", "error", "cancelled"])
        exporter(SpanEvent("odd", traced, None, place, duration, result))
        if i % 100 == 0:
            jump = draw.uniform(-1e9, 1e9)
            time.time = lambda jump=jump: wall() + jump  # type: ignore[misc]
            Swarm().join()
    time.time = wall
    page = samples(exporter.metrics())
    sums = {series: v for series, v in page.items() if series.startswith(f"{DURATION}_sum")}
    odd_sums = [value for series, value in sums.items() if 'id="odd"' in series]
    return {
        "not finite": [series for series, value in page.items() if not math.isfinite(value)],
        "negative": [series for series, value in page.items() if value < 0],
        "unequal": _unequal(page),
        "sum is off by": abs(sum(odd_sums) - good),
        "total": sum(counts(exporter.metrics()).values()) - math.ceil(spans / 100),
        "swallowed": hypertrace.swallowed_errors(),
    }


def clock_that_jumps(spans: int) -> dict[str, Any]:
    """Time spans by a clock that goes back, stops, and is no number for a while."""
    exporter = PrometheusExporter(collect_defaults=False)
    set_trace_function(exporter)
    tracer = Tracer("clock")
    draw = random.Random(1)
    wall = time.time
    for _ in range(spans):
        jump = draw.choice([-1e9, 0.0, 1e9, math.nan])
        time.time = lambda jump=jump: wall() + jump  # type: ignore[misc]
        with tracer.span():
            pass
    time.time = wall
    page = samples(exporter.metrics())
    sums = [value for series, value in page.items() if series.startswith(f"{DURATION}_sum")]
    return {"total": sum(counts(exporter.metrics()).values()), "seconds": sum(sums)}
