"""Spans of many threads, exactly once."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from hypertrace import swallowed_errors

from ...running import in_threads
from ...traced_classes import Cart
from .readings import BUCKET, CALLS, COUNT, EXCEPTIONS, OPEN, SUM, values, values_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypertrace.metrics import Reading

    from .conftest import Count
    from .readings import Values


def _buckets_add_up(reading: Reading) -> None:
    labels = ("object_classname", "caller_functionname", "id", "result")
    counts = values_in(reading, COUNT, *labels)
    buckets: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for series, value in values_in(reading, BUCKET, *labels, "le").items():
        buckets[series[:-1]].append(value)
    assert counts.keys() == buckets.keys()
    for series, count in counts.items():
        assert buckets[series] == sorted(buckets[series])
        assert buckets[series][-1] == count


def _nothing_went_down(readings: Iterable[Reading]) -> None:
    before: Values = {}
    labels = ("object_classname", "caller_functionname", "id", "result", "le", "exception")
    for reading in readings:
        now = {
            (name, *series): value
            for name in (CALLS, COUNT, SUM, BUCKET, EXCEPTIONS)
            for series, value in values_in(reading, name, *labels).items()
        }
        assert all(now[series] >= value for series, value in before.items())
        before = now


def test_threads_count_spans_exactly(count: Count) -> None:
    """8 threads time 10 000 spans each while others scrape: nothing is lost, no count falls."""
    metrics = count()
    done = threading.Event()
    scraped: list[list[Reading]] = [[], []]

    def scrape(readings: list[Reading]) -> None:
        while not done.is_set() and len(readings) < 50:  # to read them takes longer
            readings.append(metrics.read())
            done.wait(0.002)

    def work() -> None:
        cart = Cart()
        for number in range(5_000):
            with cart.tracer.span():
                pass
            with cart.tracer.span("id") as span:
                if number % 100 == 0:
                    span.fail()

    scrapers = [threading.Thread(target=scrape, args=(readings,)) for readings in scraped]
    for scraper in scrapers:
        scraper.start()
    in_threads(*[work] * 8)
    done.set()
    for scraper in scrapers:
        scraper.join()
    assert values(metrics, CALLS, "id") == {(None,): 40_000, ("id",): 40_000}
    assert values(metrics, COUNT, "id", "result") == {
        (None, "ok"): 40_000,
        ("id", "ok"): 39_600,
        ("id", "error"): 400,
    }
    assert set(values(metrics, OPEN).values()) == {0}
    for readings in scraped:
        assert len(readings) > 1
        readings.append(metrics.read())
        for reading in readings:
            _buckets_add_up(reading)
        _nothing_went_down(readings)
    assert swallowed_errors() == 0


def test_buffers_are_bounded_without_a_scrape(count: Count) -> None:
    """However many spans end before the first scrape, only some hundred durations wait."""
    metrics = count(workers=False)
    cart = Cart()
    longest = 0
    cart.add()
    buffers = [
        calls.spans.results["ok"].buffer
        for calls in metrics._functions.calls.all()
        if calls.spans is not None
    ]
    for _ in range(4_999):
        cart.add()
        longest = max(longest, *map(len, buffers))
    assert 0 < longest <= 200
    assert values(metrics, COUNT) == {(): 5_000}
