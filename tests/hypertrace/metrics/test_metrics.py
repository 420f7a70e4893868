"""`Metrics`: from calls and spans to their series, through tracers as an application has them."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    Tracer,
    fan_out,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.metrics import Metrics

from ...traced_classes import Cart, Shop
from .readings import (
    BUCKET,
    CALLS,
    COUNT,
    EDGES,
    EXCEPTIONS,
    OPEN,
    OVERFLOW,
    SUM,
    labels_of,
    values,
)

if TYPE_CHECKING:
    from hypertrace import TraceEvent

    from ...running import Clock
    from .conftest import Count

# Where this file was imported from.
FILE = __name__.replace(".", "/") + ".py"


def test_a_span_is_counted_in_buckets(count: Count, span_clock: Clock) -> None:
    """Durations are in buckets, with their sum and count, under the call's labels."""
    metrics = count(buckets=[0.1, 1, 10], allowed_props=["topic"])
    cart = Cart({"topic": "a"}, Tracer("shop", {"topic": "b"}))
    for seconds in (0.05, 0.5, 0.7, 5.0, 50.0):
        with cart.tracer.span("pay", topic="c"):
            span_clock.now += seconds
    assert values(metrics, BUCKET, "le") == {
        (0.1,): 1,
        (1.0,): 3,
        (10.0,): 4,
        (math.inf,): 5,
    }
    assert values(metrics, COUNT) == {(): 5}
    assert values(metrics, SUM)[()] == pytest.approx(56.25)
    assert labels_of(metrics, SUM) == [
        {
            "object_classname": "Cart",
            "object_props_topic": "a",
            "parent_object_classname": "shop",
            "parent_object_props_topic": "b",
            "caller_functionname": "test_a_span_is_counted_in_buckets",
            "caller_filename": FILE,
            "caller_props_topic": "c",
            "id": "pay",
            "result": "ok",
        }
    ]


def test_each_result_is_counted_for_itself(count: Count, span_clock: Clock) -> None:
    """Spans that end well, fail, are cancelled or handle a failure are distinguished."""
    metrics = count()
    cart = Cart()
    errors = (KeyError(), ValueError(), asyncio.CancelledError(), GeneratorExit(), SystemExit())
    for error in errors:
        with pytest.raises(type(error)):
            cart.fail(error)
    cart.add()
    with cart.tracer.span() as span:
        span_clock.now += 2
        span.fail(OSError("handled"))
    with cart.tracer.span() as span:
        span.fail()
    assert values(metrics, COUNT, "result", "caller_functionname") == {
        ("error", "fail"): 2,
        ("cancelled", "fail"): 1,
        ("ok", "fail"): 2,
        ("ok", "add"): 1,
        ("error", "test_each_result_is_counted_for_itself"): 2,
    }
    assert values(metrics, SUM, "result") == {("error",): 2, ("cancelled",): 0, ("ok",): 0}
    assert values(metrics, EXCEPTIONS, "exception") == {
        (name,): 1
        for name in (
            "KeyError",
            "ValueError",
            "CancelledError",
            "OSError",
        )
    }
    assert set(values(metrics, OPEN, "caller_functionname").values()) == {0}


def test_an_exception_has_the_labels_of_the_call(count: Count) -> None:
    """An exception is counted under the labels of its span, and by its class."""
    metrics = count(allowed_props=["topic"])
    for topic in ("a", "b", "a"):
        with pytest.raises(KeyError):
            Cart().fail(KeyError(), topic=topic)
    labels = ("object_classname", "caller_functionname", "caller_props_topic", "exception")
    assert values(metrics, EXCEPTIONS, *labels) == {
        ("Cart", "fail", "a", "KeyError"): 2,
        ("Cart", "fail", "b", "KeyError"): 1,
    }


def test_the_counter_counts_spans_and_calls(count: Count) -> None:
    """A span is a call once it has ended, in the same series as a `trace()` with its labels."""
    metrics = count(allowed_props=["topic"])
    tracer = Cart().tracer
    with tracer.span("a"):
        tracer.trace("a")
        assert values(metrics, CALLS, "id") == {("a",): 1}
    for topic in ("x", "y", "x"):
        with tracer.span("a", topic=topic):
            tracer.trace("a", topic=topic)
    assert values(metrics, CALLS, "id", "caller_props_topic") == {
        ("a", None): 2,
        ("a", "x"): 4,
        ("a", "y"): 2,
    }
    assert values(metrics, COUNT) == {(): 4}


def test_what_is_traced_by_a_decorator_is_timed(count: Count) -> None:
    """`@traced` gives the same metrics as a span in the function would."""
    metrics = count()

    @traced("x")
    def work() -> None:
        pass

    work()
    work()
    labels = ("object_classname", "caller_functionname", "caller_filename", "id", "result")
    name = "test_what_is_traced_by_a_decorator_is_timed.<locals>.work"
    assert values(metrics, COUNT, *labels) == {(__name__, name, FILE, "x", "ok"): 2}


def bounds(metrics: Metrics, name: str) -> list[float]:
    """Give the bounds of the buckets of a class."""
    page = values(metrics, BUCKET, "object_classname", "le")
    return [le for class_name, le in page if class_name == name]


def test_buckets_can_be_set_by_class_and_by_id(count: Count) -> None:
    """Buckets of an id win over those of a class, and those over the buckets for all."""
    metrics = count(buckets=[1], buckets_for={"Cart": [2], "pay": [3, 4], "unused": [9]})
    tracers = {name: Tracer(name) for name in ("Cart", "Shop")}
    for tracer in tracers.values():
        for trace_id in (None, "pay", "other"):
            with tracer.span(trace_id):
                pass
    found = values(metrics, BUCKET, "object_classname", "id", "le")
    assert set(found) == {
        ("Cart", None, 2.0),
        ("Cart", None, math.inf),
        ("Cart", "other", 2.0),
        ("Cart", "other", math.inf),
        ("Shop", None, 1.0),
        ("Shop", None, math.inf),
        ("Shop", "other", 1.0),
        ("Shop", "other", math.inf),
        *((name, "pay", le) for name in tracers for le in (3.0, 4.0, math.inf)),
    }


def test_the_overflow_has_the_buckets_for_all(count: Count) -> None:
    """Where series of different buckets end up together, the general ones count."""
    metrics = count(buckets=[1, 2], buckets_for={"b": [5]}, max_series=1)
    for name in ("a", "b"):
        with Tracer(name).span():
            pass
    assert bounds(metrics, OVERFLOW) == [1.0, 2.0, math.inf]


def test_there_are_buckets_by_default(count: Count) -> None:
    """Without any setting they reach from half a millisecond to ten seconds."""
    metrics = count()
    Cart().add()
    assert bounds(metrics, "Cart")[0] == 0.0005
    assert bounds(metrics, "Cart")[-2:] == [10.0, math.inf]
    assert len(bounds(metrics, "Cart")) == 15


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"buckets": [2, 1]}, ValueError, r"buckets must be ascending .*, not \[2, 1\]"),
        ({"buckets": []}, ValueError, r"buckets must be ascending .*, not \[\]"),
        ({"buckets": 5}, TypeError, "buckets must be numbers of seconds, not 5"),
        ({"buckets_for": {"Cart": [-1]}}, ValueError, r"buckets_for\['Cart'\] must be ascending"),
        ({"buckets_for": {"Cart": 1}}, TypeError, r"buckets_for\['Cart'\] must be numbers of sec"),
        ({"buckets_for": {Cart: [1]}}, TypeError, "buckets_for must map names .*Cart"),
        ({"buckets_for": [1, 2]}, TypeError, r"buckets_for must map names .* not \[1, 2\]"),
        ({"buckets_for": "Cart"}, TypeError, "buckets_for must map names .* not 'Cart'"),
    ],
    ids=str,
)
def test_bad_buckets_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A mistake in the buckets raises at once, and the message says in which of them."""
    with pytest.raises(error, match=message):
        Metrics(**settings)


def test_two_metrics_both_have_all_spans(count: Count, span_clock: Clock) -> None:
    """Through `fan_out` each `Metrics` counts every span, with its own labels and buckets."""
    bare, rich = count(buckets=[1]), count(buckets=[5], allowed_props=["topic"], upstream=True)
    set_trace_function(fan_out(bare, rich))
    cart = Cart()
    with cart.tracer.span("outer"):
        assert [values(e, OPEN) for e in (bare, rich)] == [{(): 1}, {(): 1}]
        for topic in ("a", "b", "a"):
            with cart.tracer.span(topic=topic) as span:
                span_clock.now += 2
                span.set(topic="z" if topic == "b" else topic)
        with pytest.raises(KeyError):
            cart.fail(KeyError())
    assert values(bare, CALLS, "caller_props_topic") == {(None,): 5}
    assert values(rich, COUNT, "caller_props_topic") == {("a",): 2, ("z",): 1, (None,): 2}
    for metrics in (bare, rich):
        assert values(metrics, COUNT, "result") == {("ok",): 4, ("error",): 1}
        assert values(metrics, SUM, "result") == {("ok",): 12, ("error",): 0}
        assert values(metrics, EXCEPTIONS, "exception") == {("KeyError",): 1}
        assert set(values(metrics, OPEN).values()) == {0}
    assert values(bare, BUCKET, "le") == {(1.0,): 1, (math.inf,): 5}
    assert values(rich, BUCKET, "le") == {(5.0,): 4, (math.inf,): 5}
    assert values(rich, EDGES) == {(): 4}


def test_metrics_beside_a_plain_function_have_all_spans(count: Count) -> None:
    """Through `fan_out` with any callable, also one that raises, spans are counted as events."""
    metrics = count(allowed_props=["topic"], upstream=True)
    events: list[TraceEvent] = []

    def fail(_: TraceEvent) -> None:
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fan_out(fail, metrics, events.append))
    cart = Cart()
    with cart.tracer.span():
        cart.add(topic="a")
        with pytest.raises(KeyError):
            cart.fail(KeyError())
    assert values(metrics, COUNT, "result") == {("ok",): 2, ("error",): 1}
    assert values(metrics, CALLS, "caller_props_topic") == {("a",): 1, (None,): 2}
    assert values(metrics, EXCEPTIONS) == {(): 1}
    assert values(metrics, EDGES) == {(): 2}
    assert set(values(metrics, OPEN).values()) == {0}
    assert len(events) == swallowed_errors() == 3


def test_an_event_counts_like_the_span_it_describes(count: Count, span_clock: Clock) -> None:
    """Called with events, `Metrics` has the same numbers as one that binds its recorders."""
    settings = {"allowed_props": ["topic"], "upstream": True, "buckets": [1, 2]}
    bound, plain = count(**settings), count(**settings)

    def forward(event: TraceEvent) -> None:
        plain(event)

    shop, cart = Shop(), Cart({"topic": "a"})
    for function in (bound, forward):
        set_trace_function(function)
        for _ in range(2):
            shop.serve()
            cart.tracer.trace(topic="b")
            with cart.tracer.span(topic="b") as span:
                span_clock.now += 1.5
                span.set(topic="c")
            with pytest.raises(KeyError):
                cart.fail(KeyError())
    for name in (CALLS, COUNT, SUM, BUCKET, EXCEPTIONS, EDGES):
        labels = ("object_classname", "id", "caller_props_topic", "result", "le", "exception")
        assert values(bound, name, *labels) == values(plain, name, *labels), name
    assert sum(values(plain, CALLS).values()) == 2 * (4 + 3)
    assert set(values(plain, OPEN).values()) == {0}


def test_an_event_made_by_hand_is_taken(count: Count) -> None:
    """A duration from elsewhere can be given to `Metrics` as an event."""
    metrics = count()
    caller = Caller("pay", "shop/cart.py", "shop.cart")
    event = SpanEvent("x", TracedObject("Cart", 1), None, caller, 0.3, "error", OSError)
    metrics(event)
    labels = ("object_classname", "caller_functionname", "caller_filename", "id", "result")
    assert values(metrics, SUM, *labels) == {("Cart", "pay", "shop/cart.py", "x", "error"): 0.3}
    assert values(metrics, EXCEPTIONS, "exception") == {("OSError",): 1}
