"""Growth of costs with the series, the threads and the live tracers."""

from __future__ import annotations

import gc
import random
from itertools import cycle
from threading import Barrier, Thread
from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest

from . import peers
from .bound import BoundCounter
from .measure import FULL, OURS
from .ours import App, Plain, Swarm, exporting
from .scraping import Shelf, milliseconds, plain_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Points = dict[int, float]
    """Nanoseconds by the amount of what grows."""
    Figure = tuple[str, str, dict[str, Points]]
    """A title, what grows, and the points of each curve by its label."""

SERIES = (10, 100, 1_000, 10_000, 100_000)
THREADS = (1, 2, 4, 8, 16, 32, 64)
TRACERS = (10, 1_000, 100_000, 1_000_000)
CALLS = 128_000
ROUNDS = 5
SAMPLE = 2_000
"""Tracers made, or asked, where there are many."""


def figures() -> Iterator[Figure]:
    """Measure all there are."""
    yield "A trace, by the series there are", "series", _trace_by_series()
    yield "A scrape, for each series", "series", _scrape_by_series()
    yield "A trace, by the threads that trace", "threads", _by_threads()
    yield "A tracer, by those alive", "live tracers", _by_tracers()


class Asked:
    """Receives one topic after another, in an order that caches do not expect."""

    def __init__(self, series: int) -> None:
        """Know so many topics; trace and count each once."""
        shelf = Shelf()
        self.tracer = shelf.tracer
        self.counter = Counter("asked", "Asked", ["topic"], registry=CollectorRegistry())
        topics = [f"topic {number}" for number in range(series)]
        random.Random(series).shuffle(topics)  # noqa: S311 -- no secret
        self._topics = cycle(topics)
        for _ in topics:
            self.trace()
            self.labels()

    def trace(self) -> None:
        """Trace the next topic."""
        self.tracer.trace(topic=next(self._topics))

    def labels(self) -> None:
        """Count the next topic."""
        self.counter.labels(topic=next(self._topics)).inc()


def _trace_by_series() -> dict[str, Points]:
    ours: Points = {}
    theirs: Points = {}
    for series in SERIES:
        with exporting(max_series=2 * series):
            asked = Asked(series)
            times = FULL.nanoseconds({OURS: asked.trace, peers.LABELS: asked.labels})
        ours[series], theirs[series] = times[OURS], times[peers.LABELS]
    return {"trace(topic=…)": ours, "prometheus_client, labels(topic=…).inc()": theirs}


def _scrape_by_series() -> dict[str, Points]:
    ours: Points = {}
    theirs: Points = {}
    for series in SERIES:
        registry = plain_counter(series)
        with exporting(max_series=2 * series) as exporter:
            Shelf().fill(series)
            scrape, peer = exporter.metrics, lambda: generate_latest(registry)  # noqa: B023
            times = milliseconds({"ours": scrape, "theirs": peer})
        ours[series] = times["ours"] * 1e6 / series
        theirs[series] = times["theirs"] * 1e6 / series
    return {"hypertrace": ours, "prometheus_client, generate_latest": theirs}


def _by_threads() -> dict[str, Points]:
    ours: Points = {}
    theirs: Points = {}
    with exporting():
        traced, counted = Swarm(App()).connect, BoundCounter().connect
        for threads in THREADS:
            ours[threads] = min(_shared_out(traced, threads) for _ in range(ROUNDS))
            theirs[threads] = min(_shared_out(counted, threads) for _ in range(ROUNDS))
    return {"trace()": ours, "prometheus_client, bound inc()": theirs}


def _shared_out(operation: Callable[[], object], threads: int) -> float:
    """Return nanoseconds a call, when threads share out some calls among them."""
    barrier = Barrier(threads + 1)

    def run() -> None:
        barrier.wait()
        for _ in range(CALLS // threads):
            operation()

    running = [Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    barrier.wait()
    start = perf_counter()
    for thread in running:
        thread.join()
    return (perf_counter() - start) / CALLS * 1e9


def _by_tracers() -> dict[str, Points]:
    made: Points = {}
    asked: Points = {}
    with exporting():
        alive: list[Plain] = []
        for tracers in TRACERS:
            alive += [Plain() for _ in range(tracers - len(alive))]
            for one in alive:
                one.connect()
            # What the collector does is the same for any objects: the time of ours is asked for.
            gc.collect()
            gc.freeze()
            sample = random.Random(1).choices(alive, k=SAMPLE)  # noqa: S311 -- no secret
            made[tracers] = min(_each(_make, sample) for _ in range(ROUNDS))
            asked[tracers] = min(_each(Plain.connect, sample) for _ in range(ROUNDS))
        gc.unfreeze()
    return {"making an object with a tracer": made, "trace() on one of them": asked}


def _make(_: Plain) -> None:
    Plain()


def _each(operation: Callable[[Plain], object], sample: list[Plain]) -> float:
    start = perf_counter()
    for one in sample:
        operation(one)
    return (perf_counter() - start) / len(sample) * 1e9
