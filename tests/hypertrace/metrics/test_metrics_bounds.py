"""Bounds of what is held of spans, and its release with their objects."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from hypertrace import Tracer

from ...running import growth
from ...traced_classes import Cart
from .readings import CALLS, COUNT, EDGES, EXCEPTIONS, OPEN, OVERFLOW, SUM, values

if TYPE_CHECKING:
    from ...running import Clock
    from .conftest import Count


def test_past_the_limit_totals_of_spans_stay_true(count: Count, span_clock: Clock) -> None:
    """What finds no room is counted in the overflow, in the counter, histogram and gauge alike."""
    metrics = count(allowed_props=["topic"], max_series=3, upstream=True)
    cart = Cart()
    with cart.tracer.span("outer"):
        for number in range(10):
            with cart.tracer.span(topic=str(number)) as span:
                span_clock.now += 1
                assert sum(values(metrics, OPEN).values()) == 2
                if number % 2:
                    span.set(topic="changed")
            with pytest.raises(KeyError):
                cart.fail(KeyError(), topic=str(number))
    assert sum(values(metrics, CALLS).values()) == 21
    assert values(metrics, COUNT, "result") == {("ok",): 11, ("error",): 10}
    assert values(metrics, SUM, "result") == {("ok",): 20, ("error",): 0}
    assert values(metrics, EXCEPTIONS, "exception").keys() == {("KeyError",), (None,)}
    assert sum(values(metrics, EXCEPTIONS).values()) == 10
    assert sum(values(metrics, EDGES).values()) == 20
    assert set(values(metrics, OPEN).values()) == {0}
    assert (
        values(metrics, CALLS, "object_classname")[OVERFLOW,]
        == (values(metrics, COUNT, "object_classname")[OVERFLOW,])
    )


def test_calls_take_no_room_twice(count: Count) -> None:
    """A series that has calls alone can have spans, too, at the limit."""
    metrics = count(max_series=2)
    tracers = [Tracer(name) for name in ("a", "b", "c")]
    for tracer in tracers:
        tracer.trace()
    for tracer in tracers:
        with tracer.span():
            pass
    assert values(metrics, CALLS, "object_classname") == {("a",): 2, ("b",): 2, (OVERFLOW,): 2}
    assert values(metrics, COUNT, "object_classname") == {("a",): 1, ("b",): 1, (OVERFLOW,): 1}


@pytest.mark.parametrize("upstream", [False, True])
def test_spans_leave_no_memory_in_use(count: Count, upstream: bool) -> None:
    """Thousands of spans with props without bound, and no scrape, leave the limit and no more."""
    metrics = count(
        allowed_props=["topic"], max_series=50, upstream=upstream, exemplar=lambda: {"n": "1"}
    )
    cart = Cart()

    def work(number: int) -> None:
        cart.add()
        cart.add("id", topic=f"topic-{number}")
        with cart.tracer.span() as span:
            span.set(topic=f"other-{number}")

    # 100 bytes a span would be 600 000.
    assert growth(work) < 60_000
    assert values(metrics, COUNT) == {(): 15_000}


def test_series_of_spans_go_with_their_object(count: Count) -> None:
    """With `object_ids`, the series of an object that is gone are dropped, those of spans too."""
    metrics = count(object_ids=True, allowed_props=["topic"], upstream=True)

    def work(cart: Cart) -> None:
        cart.add()
        cart.add(topic="a")
        with pytest.raises(KeyError):
            cart.fail(KeyError())
        with cart.tracer.span("outer"):
            cart.add()

    living = Cart()
    for _ in range(50):
        work(Cart())
        work(living)
    number = str(living.tracer.object_id)
    gc.collect()  # what pytest.raises() caught refers to the frames
    for name, total in ((CALLS, 250), (COUNT, 250), (EXCEPTIONS, 50), (OPEN, 0)):
        assert values(metrics, name, "object_id") == {(number,): total}, name
    del living
    gc.collect()
    for name in (CALLS, COUNT, EXCEPTIONS, OPEN):
        assert values(metrics, name) == {}, name


def test_an_open_span_keeps_the_series_of_its_object(count: Count) -> None:
    """A span that outlives its object is counted until it has ended."""
    metrics = count(object_ids=True)
    cart = Cart()
    span = cart.tracer.span()
    with span:
        del cart
        gc.collect()
        assert values(metrics, OPEN) == {(): 1}
    assert values(metrics, COUNT) == {(): 1}
    del span
    assert values(metrics, COUNT) == {}
