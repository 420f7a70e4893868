"""Memory that a tracer and a series occupy."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter

from .measure import OURS, Row, compared
from .ours import Plain, exporting
from .scraping import LABELS, Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace_prometheus import PrometheusExporter

    from .measure import Effort

OBJECTS = 10_000
BOUND = "prometheus_client, a child of a `Counter`"


class Untraced:
    """Like `Plain`, without a tracer."""

    def __init__(self) -> None:
        """Hold nothing in its place."""
        self.tracer = None

    def connect(self) -> None:
        """Do nothing."""


def bytes_kept(make: Callable[[], object]) -> int:
    """Return how many bytes are allocated by what `make` does and still there when it returned."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = make()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return after - before


def rows(effort: Effort) -> Iterator[Row]:
    """Measure 10 000 objects with a tracer that has traced, and 10 000 series."""
    with exporting():
        traced = bytes_kept(lambda: _objects(Plain))
        bare = bytes_kept(lambda: _objects(Untraced))
    yield Row("memory of a tracer", (traced - bare) / OBJECTS, "bytes", promise=240, goal=200)
    with exporting(max_series=2 * OBJECTS) as exporter:
        exporter.metrics()  # what a first scrape loads once is not what a series costs
        series = bytes_kept(lambda: _shown(exporter)) / OBJECTS
    if effort.quick:
        yield Row("memory of a series", series, "bytes", promise=700, goal=450)
        return
    child = bytes_kept(_children) / OBJECTS
    yield Row("memory of a series", series, "bytes", promise=700, goal=450)
    yield from compared("memory of a series", {OURS: series, BOUND: child}, unit="bytes")


def _shown(exporter: PrometheusExporter) -> None:
    # With a scrape: the text of its labels, which is kept for the next one, belongs to a series.
    Shelf().fill(OBJECTS)
    exporter.metrics()


def _objects(kind: type[Plain | Untraced]) -> list[Plain | Untraced]:
    # One by one: what a first trace() makes once is not what a tracer costs.
    made = [kind() for _ in range(OBJECTS)]
    for one in made:
        one.connect()
    return made


def _children() -> Counter:
    counter = Counter("calls", "Calls", LABELS, registry=CollectorRegistry())
    for number in range(OBJECTS):
        counter.labels("Shelf", "fill", "benchmarks/scraping.py", f"topic {number}").inc()
    return counter
