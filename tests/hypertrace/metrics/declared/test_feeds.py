"""Feeds: each kind of declared metric, by how its events come, and by where its tags come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, Summary

from .model import points_of

BUCKETS = (1.0, 4.0)


class Order:
    """Traced in each way, with a prop `size` of 2 and a tag in each place."""

    def __init__(self) -> None:
        parent = Tracer("Shop", {"place": "parent"})
        self.tracer = Tracer(self, {"own": "object"}, parent=parent)

    def trace(self) -> None:
        self.tracer.trace("pay", size=2, mine="call")

    def ok(self) -> None:
        with self.tracer.span("pay", size=2, mine="call"):
            pass

    def ok_late(self) -> None:
        with self.tracer.span("pay") as span:
            span.set(size=2, mine="call")

    def error(self) -> None:
        with suppress(KeyError), self.tracer.span("pay", size=2, mine="call"):
            raise KeyError

    def cancelled(self) -> None:
        with (
            suppress(asyncio.CancelledError),
            self.tracer.span("pay", size=2, mine="call"),
        ):
            raise asyncio.CancelledError


def unbound(order: Order, metrics: Metrics) -> None:
    """Record an event that comes from elsewhere."""
    metrics(TraceEvent("pay", *_objects(), _caller("trace")))


def unbound_span(order: Order, metrics: Metrics) -> None:
    """Record a span that comes from elsewhere."""
    metrics(SpanEvent("pay", *_objects(), _caller("ok"), 0.5))


def _objects() -> tuple[TracedObject, TracedObject]:
    return (
        TracedObject("Order", 1, {"own": "object"}),
        TracedObject("Shop", 1, {"place": "parent"}),
    )


def _caller(name: str) -> Caller:
    return Caller(name, __file__, __name__, 1, 1, {"size": 2, "mine": "call"})


Event = Callable[[Order, Metrics], object]
EVENTS: dict[str, tuple[Event, str, str]] = {
    "trace": (lambda order, _: order.trace(), "", ""),
    "ok": (lambda order, _: order.ok(), "ok", ""),
    "late": (lambda order, _: order.ok_late(), "ok", ""),
    "error": (lambda order, _: order.error(), "error", "KeyError"),
    "cancelled": (lambda order, _: order.cancelled(), "cancelled", "CancelledError"),
    "unbound": (unbound, "", ""),
    "unbound span": (unbound_span, "ok", ""),
}
KINDS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "counter": (Counter, {}, 3),
    "sum": (Sum, {"value": "size"}, 6.0),
    "sum of durations": (Sum, {"value": "duration"}, 1.5),
    "gauge": (LastValue, {"value": "size"}, 2.0),
    "added gauge": (LastValue, {"value": "size", "mode": "add"}, 6.0),
    "distribution": (Distribution, {"value": "size", "buckets": BUCKETS}, ((0, 3, 0), 6.0)),
    "durations": (Distribution, {"buckets": BUCKETS}, ((3, 0, 0), 1.5)),
    "native": (Distribution, {"value": "size", "native": True}, (3, 6.0)),
    "native durations": (Distribution, {"native": True}, (3, 1.5)),
    "summary": (Summary, {"value": "size"}, (3, 6.0)),
    "summary of durations": (Summary, {}, (3, 1.5)),
}
"""The kind, its options, and its point after three events of half a second."""
TAGS: dict[str, tuple[Any, Callable[[str, str], tuple[str, ...]]]] = {
    "none": ((), lambda *_: ()),
    "call": (("mine",), lambda *_: ("call",)),
    "object": (("own",), lambda *_: ("object",)),
    "parent": (("place",), lambda *_: ("parent",)),
    "facts": (("class", "id", "result", "exception"), lambda *end: ("Order", "pay", *end)),
    "paths": (
        {"a": "call.mine", "b": "object.mine", "c": "parent.place"},
        lambda *_: ("call", "", "parent"),
    ),
}
FILTERS: dict[str, tuple[dict[str, Any], bool]] = {
    "all": ({}, True),
    "kept": ({"keep": lambda event: event.caller.props["size"] == 2}, True),
    "not kept": ({"keep": lambda event: event.caller.props["size"] > 2}, False),
    "dropped": ({"drop": lambda event: event.object.class_name == "Order"}, False),
    "raises": ({"drop": lambda event: event.nothing}, False),
    "other class": ({"of": "Cart.*"}, False),
    "other id": ({"id": "dial"}, False),
    "this site": ({"of": "Order.*", "id": "p?y"}, True),
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each span take half a second."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    monkeypatch.setattr("hypertrace._span.clock", clock)


def declared(kind: str, **options: Any) -> Any:
    cls, own, _ = KINDS[kind]
    name = "events_total" if cls in {Counter, Sum} else "events"
    return cls(name, **(own | options))


def recorded(metric: Any, event: str) -> dict[tuple[str, ...], Any]:
    """Return the points after three events."""
    metrics = Metrics(declared=[metric], workers=False)
    set_trace_function(metrics)
    order = Order()
    for _ in range(3):
        EVENTS[event][0](order, metrics)
    return points_of(metrics, metric.name)


def expected(kind: str, event: str) -> Any:
    """Return the point; None if the events are no measurements."""
    is_timed = kind.endswith("durations")
    return None if is_timed and event in {"trace", "unbound"} else KINDS[kind][2]


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_records_each_event_by_each_tag(kind: str, event: str, tags: str) -> None:
    """A metric has one series for the label values of its events, with what they measure."""
    paths, labels = TAGS[tags]
    point = expected(kind, event)
    _, result, exception = EVENTS[event]
    found = recorded(declared(kind, tags=paths), event)
    assert found == ({} if point is None else {labels(result, exception): point})


@pytest.mark.parametrize("chosen", FILTERS)
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_patterns_and_predicates_choose_events(kind: str, event: str, chosen: str) -> None:
    """Events that the pattern, `keep` or `drop` leave out are not recorded."""
    options, is_recorded = FILTERS[chosen]
    point = expected(kind, event)
    found = recorded(declared(kind, **options), event)
    assert found == ({(): point} if is_recorded and point is not None else {})


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", ["sum", "gauge", "added gauge", "distribution"])
def test_units_are_converted(kind: str, event: str) -> None:
    """A pair of units converts each number."""
    converted = {
        "sum": 6000.0,
        "gauge": 2000.0,
        "added gauge": 6000.0,
        "distribution": ((0, 0, 3), 6000.0),
    }
    found = recorded(declared(kind, unit=("kilobytes", "bytes")), event)
    assert found == {(): converted[kind]}


@pytest.mark.parametrize("event", ["ok", "error", "unbound span"])
def test_durations_are_converted(event: str) -> None:
    """A pair of units converts durations, also where a span's end is one step."""
    found = recorded(declared("durations", unit=("seconds", "milliseconds")), event)
    assert found == {(): ((0, 0, 3), 1500.0)}
