"""Gauge of spans that have not ended."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hypertrace import clear_trace_function, set_trace_function

from ...running import in_threads
from ...traced_classes import Cart
from .readings import COUNT, OPEN, values

if TYPE_CHECKING:
    from .conftest import Count


def test_open_spans_are_in_progress(count: Count) -> None:
    """The gauge shows how many spans of a series are open, and is 0 when all have ended."""
    metrics = count()
    tracer = Cart().tracer
    spans = [tracer.span("a") for _ in range(3)]
    assert values(metrics, OPEN) == {}
    for number, span in enumerate(spans, 1):
        span.__enter__()
        assert values(metrics, OPEN, "id") == {("a",): number}
    for number, span in enumerate(spans, 1):
        span.__exit__(None, None, None)
        assert values(metrics, OPEN, "id") == {("a",): 3 - number}


@pytest.mark.parametrize(
    "error",
    [None, KeyError(), asyncio.CancelledError(), GeneratorExit(), SystemExit()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("start_props", [{}, {"topic": "a"}], ids=["bare", "with props"])
@pytest.mark.parametrize("set_props", [{}, {"topic": "b"}, {"other": 1}], ids=["", "b", "other"])
def test_the_gauge_goes_back_after_any_ending(
    count: Count,
    error: BaseException | None,
    start_props: dict[str, str],
    set_props: dict[str, str],
) -> None:
    """However a span ends, and whatever props were set, the gauge is where it was, everywhere."""
    metrics = count(allowed_props=["topic"])
    tracer = Cart().tracer
    with tracer.span():
        before = values(metrics, OPEN, "caller_functionname", "caller_props_topic")
        for _ in range(2):
            with suppress(BaseException), tracer.span(**start_props) as span:
                topic = start_props.get("topic")
                assert values(metrics, OPEN, "caller_props_topic")[topic,] >= 1
                if set_props:
                    span.set(set_props)
                if error is not None:
                    raise error
        after = values(metrics, OPEN, "caller_functionname", "caller_props_topic")
    assert {series: value for series, value in after.items() if value} == before
    assert set(values(metrics, OPEN, "caller_props_topic").values()) == {0}
    topic = {**start_props, **set_props}.get("topic")
    result = "ok" if error is None else result_of(error)
    expected = {(topic, result): 2.0}
    expected[None, "ok"] = expected.get((None, "ok"), 0) + 1
    assert values(metrics, COUNT, "caller_props_topic", "result") == expected


def result_of(error: BaseException) -> str:
    if isinstance(error, GeneratorExit | SystemExit):
        return "ok"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"


def test_the_gauge_goes_back_when_tracing_ends_meanwhile(count: Count) -> None:
    """A span that is open when the trace function goes still ends where it started."""
    first = count()
    tracer = Cart().tracer
    with tracer.span():
        clear_trace_function()
    with tracer.span():
        pass
    second = count()
    with tracer.span():
        set_trace_function(first)
    assert [set(values(e, OPEN).values()) for e in (first, second)] == [{0}, {0}]
    assert [values(e, COUNT) for e in (first, second)] == [{(): 1}, {(): 1}]


def test_the_gauge_is_never_below_zero(count: Count) -> None:
    """While threads start, change and end spans, no scrape finds fewer than none open."""
    metrics = count(allowed_props=["topic"])
    done = threading.Event()
    found: list[float] = []

    def scrape() -> None:
        while not done.is_set():
            found.extend(values(metrics, OPEN, "caller_props_topic").values())

    def work() -> None:
        tracer = Cart().tracer
        for number in range(1_500):
            with tracer.span(topic=str(number % 3)) as span:
                span.set(topic=str(number % 2))
            with tracer.span(), tracer.span("inner") as span:
                span.set(topic="0")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        scraper = threading.Thread(target=scrape)
        scraper.start()
        in_threads(*[work] * 4)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        scraper.join()
    assert min(found) == 0
    assert max(found) >= 1
    assert set(values(metrics, OPEN).values()) == {0}
    assert values(metrics, COUNT) == {(): 4 * 1_500 * 3}
