"""Spans of many threads, exactly once."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from hypertrace import swallowed_errors

from .pages import BUCKET, CALLS, COUNT, EXCEPTIONS, OPEN, SUM, values, values_in
from .running import in_threads
from .traced_classes import Cart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .pages import Values
    from .running import Export


def _buckets_add_up(page: str) -> None:
    labels = ("object_classname", "caller_functionname", "id", "result")
    counts = values_in(page, COUNT, *labels)
    buckets: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for series, value in values_in(page, BUCKET, *labels, "le").items():
        buckets[series[:-1]].append(value)
    assert counts.keys() == buckets.keys()
    for series, count in counts.items():
        assert buckets[series] == sorted(buckets[series])
        assert buckets[series][-1] == count


def _nothing_went_down(pages: Iterable[str]) -> None:
    before: Values = {}
    labels = ("object_classname", "caller_functionname", "id", "result", "le", "exception")
    for page in pages:
        now = {
            (name, *series): value
            for name in (CALLS, COUNT, SUM, BUCKET, EXCEPTIONS)
            for series, value in values_in(page, name, *labels).items()
        }
        assert all(now[series] >= value for series, value in before.items())
        before = now


def test_threads_count_spans_exactly(export: Export) -> None:
    """8 threads time 10 000 spans each while others scrape: nothing is lost, nothing goes down."""
    exporter = export()
    done = threading.Event()
    scraped: list[list[str]] = [[], []]

    def scrape(pages: list[str]) -> None:
        while not done.is_set() and len(pages) < 50:  # to read them takes longer
            pages.append(exporter.metrics())
            done.wait(0.002)

    def work() -> None:
        cart = Cart()
        for number in range(5_000):
            with cart.tracer.span():
                pass
            with cart.tracer.span("id") as span:
                if number % 100 == 0:
                    span.fail()

    scrapers = [threading.Thread(target=scrape, args=(pages,)) for pages in scraped]
    for scraper in scrapers:
        scraper.start()
    in_threads(*[work] * 8)
    done.set()
    for scraper in scrapers:
        scraper.join()
    assert values(exporter, CALLS, "id") == {(None,): 40_000, ("id",): 40_000}
    assert values(exporter, COUNT, "id", "result") == {
        (None, "ok"): 40_000,
        ("id", "ok"): 39_600,
        ("id", "error"): 400,
    }
    assert set(values(exporter, OPEN).values()) == {0}
    for pages in scraped:
        assert len(pages) > 1
        pages.append(exporter.metrics())
        for page in pages:
            _buckets_add_up(page)
        _nothing_went_down(pages)
    assert swallowed_errors() == 0


def test_buffers_are_bounded_without_a_scrape(export: Export) -> None:
    """However many spans end before the first scrape, only some hundred durations wait."""
    exporter = export()
    cart = Cart()
    longest = 0
    cart.add()
    buffers = [timings.results["ok"].buffer for _, timings in list(exporter.timings.items())]
    for _ in range(4_999):
        cart.add()
        longest = max(longest, *map(len, buffers))
    assert 0 < longest <= 200
    assert values(exporter, COUNT) == {(): 5_000}
