"""The gauge of spans that have not ended."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hypertrace import clear_trace_function, set_trace_function

from .pages import COUNT, OPEN, values
from .running import in_threads
from .traced_classes import Cart

if TYPE_CHECKING:
    from .running import Export


def test_open_spans_are_in_progress(export: Export) -> None:
    """The gauge tells how many spans of a series are open, and is 0 when all have ended."""
    exporter = export()
    tracer = Cart().tracer
    spans = [tracer.span("a") for _ in range(3)]
    assert values(exporter, OPEN) == {}
    for number, span in enumerate(spans, 1):
        span.__enter__()
        assert values(exporter, OPEN, "id") == {("a",): number}
    for number, span in enumerate(spans, 1):
        span.__exit__(None, None, None)
        assert values(exporter, OPEN, "id") == {("a",): 3 - number}


@pytest.mark.parametrize(
    "error",
    [None, KeyError(), asyncio.CancelledError(), GeneratorExit(), SystemExit()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("start_props", [{}, {"topic": "a"}], ids=["bare", "with props"])
@pytest.mark.parametrize("set_props", [{}, {"topic": "b"}, {"other": 1}], ids=["", "b", "other"])
def test_the_gauge_goes_back_after_any_ending(
    export: Export,
    error: BaseException | None,
    start_props: dict[str, str],
    set_props: dict[str, str],
) -> None:
    """However a span ends, and whatever props were set, the gauge is where it was, everywhere."""
    exporter = export(allowed_props=["topic"])
    tracer = Cart().tracer
    with tracer.span():
        before = values(exporter, OPEN, "caller_functionname", "caller_props_topic")
        for _ in range(2):
            with suppress(BaseException), tracer.span(**start_props) as span:
                topic = start_props.get("topic")
                assert values(exporter, OPEN, "caller_props_topic")[topic,] >= 1
                if set_props:
                    span.set(set_props)
                if error is not None:
                    raise error
        after = values(exporter, OPEN, "caller_functionname", "caller_props_topic")
    assert {series: value for series, value in after.items() if value} == before
    assert set(values(exporter, OPEN, "caller_props_topic").values()) == {0}
    topic = {**start_props, **set_props}.get("topic")
    result = "ok" if error is None else exporter_result(error)
    expected = {(topic, result): 2.0}
    expected[None, "ok"] = expected.get((None, "ok"), 0) + 1
    assert values(exporter, COUNT, "caller_props_topic", "result") == expected


def exporter_result(error: BaseException) -> str:
    cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return "cancelled" if cancelled else "error"


def test_the_gauge_goes_back_when_tracing_ends_meanwhile(export: Export) -> None:
    """A span that is open when the trace function goes still ends where it started."""
    first = export()
    tracer = Cart().tracer
    with tracer.span():
        clear_trace_function()
    with tracer.span():
        pass
    second = export()
    with tracer.span():
        set_trace_function(first)
    assert [set(values(e, OPEN).values()) for e in (first, second)] == [{0}, {0}]
    assert [values(e, COUNT) for e in (first, second)] == [{(): 1}, {(): 1}]


def test_the_gauge_is_never_below_zero(export: Export) -> None:
    """While threads start, change and end spans, no scrape finds fewer than none open."""
    exporter = export(allowed_props=["topic"])
    done = threading.Event()
    found: list[float] = []

    def scrape() -> None:
        while not done.is_set():
            found.extend(values(exporter, OPEN, "caller_props_topic").values())

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
    assert set(values(exporter, OPEN).values()) == {0}
    assert values(exporter, COUNT) == {(): 4 * 1_500 * 3}
