"""Scrapes: each writes series as text that was rendered before, and delays no thread."""

from __future__ import annotations

import gc
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest

from hypertrace import Tracer
from hypertrace_prometheus.exposition.render import Format, expose

from .measure import OURS, Row, compared
from .ours import exporting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypertrace_prometheus import PrometheusExporter

    from .measure import Effort

PLAIN = "prometheus_client, `generate_latest` on a plain `Counter`"
MESSAGES = "hypertrace, as protobuf"
TEXT = "hypertrace, as text"
PROMISED = 100_000
"""Series that the promises are about."""

ROUNDS = 5
HELD_UP_SCRAPES = 8
LABELS = ("object_classname", "caller_functionname", "caller_filename", "caller_props_topic")


class Shelf:
    """An object that is counted by a prop of many values."""

    def __init__(self) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self)

    def fill(self, series: int) -> None:
        """Trace once for each series."""
        for number in range(series):
            self.tracer.trace(topic=f"topic {number}")


def plain_counter(series: int) -> CollectorRegistry:
    """Return a registry with one counter that has as many series with the same labels."""
    registry = CollectorRegistry()
    counter = Counter("function_counter", "How often a traced line ran.", LABELS, registry=registry)
    for number in range(series):
        counter.labels("Shelf", "fill", "benchmarks/scraping.py", f"topic {number}").inc()
    return registry


def milliseconds(operations: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return what each operation takes, the fastest of some in turn."""
    best = dict.fromkeys(operations, float("inf"))
    for _ in range(ROUNDS):
        for name, operation in operations.items():
            gc.collect()
            start = perf_counter()
            operation()
            best[name] = min(best[name], (perf_counter() - start) * 1e3)
    return best


def longest_gap(meanwhile: Callable[[], object]) -> float:
    """Return for how many ms at a time a thread that always wants to run could not."""
    started, ended = Event(), Event()
    gaps = []

    def spin() -> None:
        longest, last = 0.0, perf_counter()
        started.set()
        while not ended.is_set():
            now = perf_counter()
            longest = max(longest, now - last)
            last = now
        gaps.append(longest * 1e3)

    thread = Thread(target=spin)
    thread.start()
    started.wait()
    meanwhile()
    ended.set()
    thread.join()
    return gaps[0]


def rows(effort: Effort) -> Iterator[Row]:
    """Measure scrapes of 1 000 to 100 000 series, and the thread that runs meanwhile."""
    for series in (PROMISED,) if effort.quick else (1_000, 10_000, PROMISED):
        with exporting(max_series=2 * series) as exporter:
            Shelf().fill(series)
            yield from _scrape(series, exporter)


def _scrape(series: int, exporter: PrometheusExporter) -> Iterator[Row]:
    registry = plain_counter(series)
    operations = {
        OURS: exporter.metrics,
        MESSAGES: lambda: expose(exporter.registry, Format.PROTOBUF).page(),
        PLAIN: lambda: generate_latest(registry),
    }
    is_promised = series == PROMISED
    times = milliseconds(operations)
    messages, what = times.pop(MESSAGES), f"a scrape of {series:_} series".replace("_", " ")
    promises = {PLAIN: (1 / 12, 1 / 20)} if is_promised else {}
    yield from compared(what, times, promises, "ms")
    beside = {OURS: messages, TEXT: times[OURS]}
    promises = {TEXT: (1.2, 1.0)} if is_promised else {}
    yield from compared(f"{what} as protobuf", beside, promises, "ms")
    if series != PROMISED:
        return
    # The least of some: another process that gets the processor makes a gap, too.
    gaps = [longest_gap(exporter.metrics) for _ in range(HELD_UP_SCRAPES)]
    what = "the longest that another thread is held up meanwhile"
    yield Row(what, min(gaps), "ms", promise=10, goal=10)
