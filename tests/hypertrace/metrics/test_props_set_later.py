"""Props that are set later: a span ends in the series of the props it has then."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Span, TraceEvent, Tracer, set_trace_function
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum

from .readings import CALLS, COUNT, OPEN, rows, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...running import Clock

VALUES: tuple[Any, ...] = ("a", "b", "", None, 1, True, 2.5, b"x", "long" * 100, ["list"])
DECLARED = (
    Counter("by_topic_total", of="Shop.*", tags=["topic"]),
    Distribution("took_seconds", of="Shop.*", tags=["topic", "result"], buckets=[1.0]),
    Sum("size_total", of="Shop.*", value="size", tags=["topic"]),
    LastValue("left", of="Shop.*", id="number", value="size"),
)


class Shop:
    """Ends spans with props in each way."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def sell(self, seed: int, clock: Clock) -> None:
        draw = random.Random(seed)

        def props() -> dict[str, Any]:
            names = [name for name in ("topic", "other") if draw.randrange(2)]
            size = {"size": draw.randrange(5)} if draw.randrange(4) == 0 else {}
            return {**{name: draw.choice(VALUES) for name in names}, **size}

        for _ in range(200):
            id: Any = draw.choice([None, "number", 7])
            with (
                suppress(KeyError),
                self.tracer.span("outer"),
                self.tracer.span(id, **props()) as span,
            ):
                clock.now += 0.5
                for _ in range(draw.randrange(3)):
                    span.set(props())
                if draw.randrange(6) == 0:
                    span.fail()
                if draw.randrange(6) == 0:
                    raise KeyError


def _by_events(metrics: Metrics) -> Callable[[TraceEvent], None]:
    def count(event: TraceEvent) -> None:  # which has nothing to bind
        metrics(event)

    return count


def _counts(metrics: Metrics) -> dict[tuple[Any, ...], float]:
    """Return the numbers of functions and declared metrics, by their names and labels."""
    found = {}
    for name, labels, value in rows(metrics.read()):
        if not name.startswith("hypertrace_"):
            found[name, *sorted(labels.items())] = value
    return {key: value for key, value in found.items() if value}


@pytest.mark.parametrize("upstream", [True, False])
@pytest.mark.parametrize("declared", [(), DECLARED], ids=["functions", "declared"])
@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_events(
    seed: int, declared: tuple[Any, ...], span_clock: Clock, *, upstream: bool
) -> None:
    """Found by the values of the props, the series are the same as those of an event each."""
    found = []
    for is_bound in (True, False):
        metrics = Metrics(
            allowed_props=["topic"], declared=declared, upstream=upstream, workers=False
        )
        set_trace_function(metrics if is_bound else _by_events(metrics))
        Shop().sell(seed, span_clock)
        found.append(_counts(metrics))
        assert set(values(metrics, OPEN).values()) == {0}
    assert found[0] == found[1]
    assert hypertrace.swallowed_errors() == 0


def test_it_takes_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that ends well with texts is found by them, which takes a few microseconds."""
    metrics = Metrics(allowed_props=["topic"], workers=False)
    set_trace_function(metrics)
    tracer = Tracer("Shop")
    with tracer.span():  # binds what the next ones find
        pass

    def refuse(*_: object) -> None:
        raise AssertionError("an event was made")

    monkeypatch.setattr(Span, "_span_event", refuse)
    for topic in ("a", "b", "a"):
        with tracer.span() as span:
            span.set(topic=topic, other=[1])
            assert values(metrics, OPEN)[()] == 1
    assert values(metrics, COUNT, "caller_props_topic") == {(None,): 1, ("a",): 2, ("b",): 1}
    assert values(metrics, CALLS, "caller_props_topic") == {(None,): 1, ("a",): 2, ("b",): 1}
    assert hypertrace.swallowed_errors() == 0


def test_a_trace_function_that_is_replaced_meanwhile() -> None:
    """The span ends in the metrics in which it started, and is in progress in none."""
    first, second = Metrics(workers=False), Metrics(workers=False)
    set_trace_function(first)
    tracer = Tracer("Shop")

    def sell(*others: Metrics) -> None:
        with tracer.span() as span:
            span.set(topic="a")
            if others:
                set_trace_function(others[0])
                sell(*others[1:])

    for _ in range(3):
        sell(second, first)
    assert [values(one, COUNT) for one in (first, second)] == [{(): 6}, {(): 3}]
    assert [set(values(one, OPEN).values()) for one in (first, second)] == [{0}, {0}]


def test_many_spans_are_folded() -> None:
    """Their durations do not pile up."""
    metrics = Metrics(allowed_props=["topic"], workers=False)
    set_trace_function(metrics)
    tracer = Tracer("Shop")
    for _ in range(1_000):
        with tracer.span() as span:
            span.set(topic="a")
    longest = max(len(histogram.buffer) for histogram in metrics.histograms())  # type: ignore[union-attr]
    assert longest <= 200
    assert values(metrics, COUNT) == {(): 1_000}
