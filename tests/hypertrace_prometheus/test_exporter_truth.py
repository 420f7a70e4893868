"""Scrapes while threads trace as fast as they can: what may change, and what holds."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import tracemalloc
from collections import defaultdict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Tracer, dropped_events, swallowed_errors

from ..traced_classes import Swarm
from .pages import by, samples, samples_of, total
from .running import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .running import Export

    Page = dict[str, dict[tuple[tuple[str, str], ...], float]]

OVERFLOW = (("object_classname", "<overflow>"),)
CALLS = "function_counter_total"
COUNT = "function_duration_seconds_count"
BUCKET = "function_duration_seconds_bucket"
RISING = (CALLS, COUNT, BUCKET, "function_duration_seconds_sum", "function_exceptions_total")


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def read(text: str) -> Page:
    """Give the samples of a page by name and labels."""
    page: Page = defaultdict(dict)
    for family in parse_text(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in page[sample.name]
            page[sample.name][labels] = sample.value
    return page


def check_alone(page: Page) -> None:
    """Check that the histograms of a page are consistent in themselves."""
    buckets: dict[Any, list[float]] = defaultdict(list)
    for labels, value in page[BUCKET].items():
        buckets[tuple(pair for pair in labels if pair[0] != "le")].append(value)
    assert buckets.keys() == page[COUNT].keys()
    for series, count in page[COUNT].items():
        # In the order of the page: the bounds ascend, infinity is the last.
        assert buckets[series] == sorted(buckets[series])
        assert buckets[series][-1] == count


def check_after(before: Page, page: Page) -> None:
    """Check that nothing that only rises has gone down or away."""
    for name in RISING:
        for labels, value in before[name].items():
            assert page[name][labels] >= value, (name, labels)


def test_scrapes_are_true_while_threads_trace(export: Export, switching: None) -> None:
    """No series falls, each histogram adds up, no gauge is below zero; the end is exact."""
    exporter = export(allowed_props=["topic"], max_series=12)
    done = threading.Event()
    texts: list[list[str]] = [[], []]
    rounds = 150

    def work(index: int) -> None:
        if index < 2:
            while not done.is_set():
                texts[index].append(exporter.metrics())
                done.wait(0.02)
            return
        tracer = Tracer("thing")
        for number in range(rounds):
            tracer.trace()
            tracer.trace(topic=str(number % 20))
            with tracer.span("id"):
                pass
            with tracer.span(topic=str((number + index) % 20)) as span:
                if number % 3 == 0:
                    span.fail(KeyError())
        left.append(index)
        if len(left) == 6:
            done.set()

    left: list[int] = []
    in_threads(*(partial(work, index) for index in range(8)))
    for scraped in texts:
        pages = [read(text) for text in [*scraped, exporter.metrics()]]
        for page in pages:
            check_alone(page)
            assert min(page["function_in_progress"].values(), default=0) >= 0
        for before, page in pairwise(pages):
            check_after(before, page)
    page = read(exporter.metrics())
    assert sum(page[CALLS].values()) == 6 * rounds * 4
    assert sum(page[COUNT].values()) == 6 * rounds * 2
    assert sum(page["function_exceptions_total"].values()) == 6 * rounds / 3
    assert set(page["function_in_progress"].values()) == {0}
    assert len(page[CALLS]) == 13
    assert swallowed_errors() == 0


def test_threads_that_race_for_the_last_room_agree(export: Export, switching: None) -> None:
    """Series are whole: none of them is counted in part in the overflow, up to the limit."""
    exporter = export(allowed_props=["topic"], max_series=50)

    def work(index: int) -> None:
        tracer = Tracer("thing")
        for number in range(200):
            with tracer.span(topic=str((number + 5 * index) % 200)):
                pass

    in_threads(*(partial(work, index) for index in range(16)))
    page = read(exporter.metrics())
    for name in (CALLS, COUNT):
        values = page[name].copy()
        overflow = [value for labels, value in values.items() if "<overflow>" in str(labels)]
        assert overflow == [16 * 150]
        assert sorted(values.values())[:-1] == [16] * 50
    assert exporter.metrics().count("hypertrace_series_limit{") == 3


def test_calls_and_their_durations_agree_at_the_limit(export: Export) -> None:
    """A series that has room for its calls has it for its durations; others overflow in both."""
    exporter = export(max_series=1)
    tracer, other = Tracer("thing"), Tracer("other")
    tracer.trace()
    for _ in range(3):
        with other.span():
            pass
        with tracer.span():
            pass
    page = read(exporter.metrics())
    assert sum(page[CALLS].values()) == 7
    assert page[CALLS][OVERFLOW] == page[COUNT][(*OVERFLOW, ("result", "ok"))] == 3
    assert sum(page[COUNT].values()) == 6


def test_what_interrupts_the_end_of_a_span_is_counted(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without OpenTelemetry a signal handler's calls count at each step of a failed span."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    exporter = export()
    tracer, handler = Tracer("thing"), Tracer("handler")
    calls = 0

    def interrupt(*_: object) -> None:
        nonlocal calls
        calls += 1
        handler.trace()

    handler.trace()
    try:
        with tracer.span() as span:
            span.fail(KeyError())
            sys.setprofile(interrupt)
    finally:
        sys.setprofile(None)
    assert calls > 10
    assert by("object_classname", exporter) == {"thing": 1, "handler": 1 + calls}
    assert dropped_events() == 0


def test_values_without_bound_hold_two_megabytes(
    export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    """With 2 000 series, the default of nothing else, what is held stays below 2 MB."""
    caplog.set_level(logging.WARNING)
    exporter = export(allowed_props=["topic"], max_series=2_000)
    tracer = Tracer("thing")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(4_000):
            tracer.trace(topic=f"topic-{number}")
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2_000_000
    page = read(exporter.metrics())
    assert page[CALLS].pop(OVERFLOW) == 2_000
    assert len(page[CALLS]) == sum(page[CALLS].values()) == 2_000
    (warning,) = caplog.messages
    for part in (CALLS, "caller_props_topic", f"{__name__.replace('.', '/')}.py:"):
        assert part in warning


def test_the_line_that_meets_the_limit_is_not_held_up(export: Export) -> None:
    """Saying which label is to blame looks at no more series than it can in some milliseconds."""
    looked_at: list[Any] = []
    exporter = export(allowed_props=["topic"], max_series=10_000)
    tracer = Tracer("thing")
    for number in range(10_000):
        tracer.trace(topic=str(number))
    logger = logging.getLogger("hypertrace.metrics")
    handler = logging.Handler()
    handler.emit = lambda record: looked_at.append(record.args)  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        tracer.trace(topic="one more")
    finally:
        logger.removeHandler(handler)
    ((_, held, *_, values, looked, _, _),) = looked_at
    assert (held, values, looked) == (10_000, 1_000, 1_000)
    assert read(exporter.metrics())[CALLS][OVERFLOW] == 1


def test_threads_that_race_for_series_count_exactly(export: Export) -> None:
    """Sixteen threads that make 500 series where 50 have room lose no count."""
    exporter = export(allowed_props=["topic"], max_series=50)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:

        def work(index: int) -> None:
            swarm = Swarm()
            for number in range(5_000):
                swarm.connect(topic=str((number + 31 * index) % 500))

        in_threads(*(partial(work, index) for index in range(16)))
    finally:
        sys.setswitchinterval(interval)
    assert total(exporter) == 16 * 5_000
    assert len(samples(exporter)) == 51
    assert swallowed_errors() == 0


def test_no_count_goes_down_between_scrapes(export: Export) -> None:
    """While threads count and make series, each scrape has every series with at least as much."""
    exporter = export(allowed_props=["topic"])
    done = threading.Event()
    pages, counted = [], []

    def work(index: int) -> None:
        if index == 0:
            pages.extend([exporter.metrics() for _ in range(20)])
            done.set()
            return
        swarm, number = Swarm(), 0
        while not done.is_set():
            swarm.connect(topic=str(number % 100))
            swarm.plain()
            number += 1
        counted.append(2 * number)

    in_threads(*(partial(work, index) for index in range(4)))
    pages.append(exporter.metrics())
    before: dict[str, float] = {}
    for page in pages:
        now = {str(sorted(labels.items())): value for labels, value in samples_of(page)}
        assert all(now[series] >= value for series, value in before.items())
        before = now
    assert total(exporter) == sum(counted) > 0


def test_objects_that_come_and_go_in_threads(export: Export) -> None:
    """Objects die in some threads while others scrape: no error, and living ones stay exact."""
    exporter = export(object_ids=True)
    living = Swarm()
    done = threading.Event()
    failed = []

    def work(index: int) -> None:
        try:
            if index < 2:
                while not done.is_set():
                    exporter.metrics()
                return
            for _ in range(1_000):
                Swarm().connect()
                living.connect()
        except Exception as error:  # noqa: BLE001 -- reported by the test
            failed.append(error)
        finally:
            done.set()

    in_threads(*(partial(work, index) for index in range(4)))
    assert failed == []
    assert swallowed_errors() == 0
    assert by("object_id", exporter) == {str(living.tracer.object_id): 2_000}


def test_finalizers_that_trace_during_a_scrape(export: Export) -> None:
    """Objects that trace as they are collected, in the midst of a scrape, are all counted."""
    exporter = export(allowed_props=["topic"])
    threshold = gc.get_threshold()
    made = ended = 0

    class Ghost:
        def __init__(self) -> None:
            nonlocal made
            made += 1
            self.tracer = Tracer(self)
            self.cycle = self

        def __del__(self) -> None:
            nonlocal ended
            ended += 1
            self.tracer.trace(topic=str(ended))
            if made < 500:
                Ghost()

    swarm = Swarm()
    for number in range(500):
        swarm.connect(topic=str(number))
    gc.collect()
    gc.disable()
    Ghost()
    try:
        gc.set_threshold(5)
        gc.enable()
        for _ in range(3):
            exporter.metrics()
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
        made = 500
        gc.collect()
    assert ended > 20
    assert by("object_classname", exporter) == {"Swarm": 500, "Ghost": ended}
    assert swallowed_errors() == 0
