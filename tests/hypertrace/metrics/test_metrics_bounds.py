"""What is held of spans is bounded, and goes with their objects."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from hypertrace import Tracer

from .pages import CALLS, COUNT, EDGES, EXCEPTIONS, OPEN, OVERFLOW, SUM, values
from .running import growth
from .traced_classes import Cart

if TYPE_CHECKING:
    from .running import Export
    from .wire import Clock


def test_past_the_limit_totals_of_spans_stay_true(export: Export, span_clock: Clock) -> None:
    """What finds no room is counted in the overflow, in the counter, histogram and gauge alike."""
    exporter = export(allowed_props=["topic"], max_series=3, upstream=True)
    cart = Cart()
    with cart.tracer.span("outer"):
        for number in range(10):
            with cart.tracer.span(topic=str(number)) as span:
                span_clock.now += 1
                assert sum(values(exporter, OPEN).values()) == 2
                if number % 2:
                    span.set(topic="changed")
            with pytest.raises(KeyError):
                cart.fail(KeyError(), topic=str(number))
    assert sum(values(exporter, CALLS).values()) == 21
    assert values(exporter, COUNT, "result") == {("ok",): 11, ("error",): 10}
    assert values(exporter, SUM, "result") == {("ok",): 20, ("error",): 0}
    assert values(exporter, EXCEPTIONS, "exception").keys() == {("KeyError",), (None,)}
    assert sum(values(exporter, EXCEPTIONS).values()) == 10
    assert sum(values(exporter, EDGES).values()) == 20
    assert set(values(exporter, OPEN).values()) == {0}
    assert (
        values(exporter, CALLS, "object_classname")[OVERFLOW,]
        == (values(exporter, COUNT, "object_classname")[OVERFLOW,])
    )


def test_calls_take_no_room_twice(export: Export) -> None:
    """A series that has calls alone can have spans, too, at the limit."""
    exporter = export(max_series=2)
    tracers = [Tracer(name) for name in ("a", "b", "c")]
    for tracer in tracers:
        tracer.trace()
    for tracer in tracers:
        with tracer.span():
            pass
    assert values(exporter, CALLS, "object_classname") == {("a",): 2, ("b",): 2, (OVERFLOW,): 2}
    assert values(exporter, COUNT, "object_classname") == {("a",): 1, ("b",): 1, (OVERFLOW,): 1}


@pytest.mark.parametrize("upstream", [False, True])
def test_spans_leave_no_memory_in_use(export: Export, upstream: bool) -> None:
    """Thousands of spans with props without bound, and no scrape, leave the limit and no more."""
    exporter = export(
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
    assert values(exporter, COUNT) == {(): 15_000}


def test_series_of_spans_go_with_their_object(export: Export) -> None:
    """With `object_ids`, the series of an object that is gone are dropped, those of spans too."""
    exporter = export(object_ids=True, allowed_props=["topic"], upstream=True)

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
        assert values(exporter, name, "object_id") == {(number,): total}, name
    del living
    gc.collect()
    for name in (CALLS, COUNT, EXCEPTIONS, OPEN):
        assert values(exporter, name) == {}, name


def test_an_open_span_keeps_the_series_of_its_object(export: Export) -> None:
    """A span that outlives its object is counted until it has ended."""
    exporter = export(object_ids=True)
    cart = Cart()
    span = cart.tracer.span()
    with span:
        del cart
        gc.collect()
        assert values(exporter, OPEN) == {(): 1}
    assert values(exporter, COUNT) == {(): 1}
    del span
    assert values(exporter, COUNT) == {}
