"""Feeds: random declarations record of random events what the model says."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    set_trace_function,
)
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, Summary

from .model import invalid_of, modelled, points_of

TAGS = [
    "country",
    "size",
    "tier",
    "result",
    "exception",
    "raised",
    "class",
    "function",
    "id",
    "file",
]
PATHS = {"a": "call.country", "b": "object.tier", "c": "parent.tier", "d": "object.size"}
TEXTS: list[Any] = ["de", "fr", "", None, "x" * 300, 7, True, 1.5, ("a", "b"), Fraction(1, 2)]
SIZES: list[Any] = [None, 0, 3, 2.5, -4, True, "8", math.nan, -math.inf, 10**400, Decimal("1.5")]
IDS = [None, "up", "down"]
ENDINGS: list[BaseException | None] = [None, None, KeyError("x"), asyncio.CancelledError()]
BUCKETS = (-1, 0.5, 2, 1500)


def upper(value: object) -> str:
    """Make a text of a value."""
    return str(value).upper()


def has_size(event: TraceEvent) -> bool:
    """Look at an event's props."""
    return bool(event.caller.props and event.caller.props.get("size") is not None)


def is_object_one(event: TraceEvent) -> bool:
    """Look at an event's object; raises for objects without props."""
    return 1 // (event.object.props is not None) == 1 and event.object.class_name == "Cart"


def twice_tier(event: TraceEvent) -> Any:
    """Return the number of an event, which depends on its object."""
    return len(str(event.object.props)) + len(str(event.caller.props))


def declaration(draw: random.Random, name: str, *, with_functions: bool) -> Any:
    """Draw a declaration; objects share recorders only where no function gets events."""
    options: dict[str, Any] = {}
    options["of"] = draw.choice([None, "*", "Cart.*", "*.pay", "C?rt.[a-o]*", "Shop.Nested.*"])
    options["id"] = draw.choice([None, None, None, "up", "*n", ""])
    tags = draw.sample(TAGS, draw.randrange(4))
    options["tags"] = tags
    if draw.random() < 0.3:
        options["tags"] = dict(draw.sample(sorted(PATHS.items()), 2))
    if "country" in options["tags"] and draw.random() < 0.5:
        options["tag_values"] = {"country": draw.choice([upper, {"de": "Germany", 7: "seven"}])}
    if with_functions:
        options["keep"] = draw.choice([None, None, has_size, is_object_one])
        options["drop"] = draw.choice([None, None, None, has_size])
    kind = draw.choice([Counter, Counter, Sum, LastValue, Distribution, Summary])
    if kind is Counter:
        return Counter(f"{name}_total", **options)
    values = ["size", "call.size", "object.size", "duration", "busy"]
    options["value"] = draw.choice([*values, twice_tier] if with_functions else values)
    pair = ("bytes", "kilobytes")
    if options["value"] in {"duration", "busy"}:
        pair = ("seconds", "milliseconds")
    if draw.random() < 0.4:
        options["unit"] = pair
    if kind is Sum:
        return Sum(f"{name}_total", **options)
    if kind is LastValue:
        return LastValue(name, mode=draw.choice(["set", "add"]), **options)
    if kind is Summary:
        return Summary(name, **options)
    if draw.random() < 0.3:
        return Distribution(name, native=True, **options)
    return Distribution(name, buckets=BUCKETS, **options)


class Clock:
    """Goes on by what is drawn."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.draw.choice([0.25, 0.5, 2.0, 8.0])
        return self.now


class Traced:
    """Traces in every way, at separate call sites."""

    def __init__(self, props: dict[str, Any] | None, parent: Tracer | None) -> None:
        self.tracer = Tracer(self, props, parent=parent)

    def pay(self, id: str | None, props: dict[str, Any]) -> None:
        self.tracer.trace(id, **props)
        self.tracer.trace(id)
        self.tracer.trace(id, props)

    def zip(self, id: str | None, props: dict[str, Any], more: dict[str, Any], how: Any) -> None:
        with suppress(KeyError, asyncio.CancelledError), self.tracer.span(id):
            _end(how)
        with suppress(KeyError, asyncio.CancelledError), self.tracer.span(id, **props):
            _end(how)
        with suppress(KeyError, asyncio.CancelledError), self.tracer.span(id, **props) as span:
            span.set(more)
            _end(how)
        with suppress(KeyError, asyncio.CancelledError), self.tracer.span(id) as span:
            span.fail(KeyError("handled"))


def _end(how: BaseException | None) -> None:
    if how is not None:
        raise how


class Cart(Traced):
    """One class of objects."""


class Shop:
    """Has another one."""

    class Nested(Traced):
        """Another class of objects."""


def props(draw: random.Random) -> dict[str, Any]:
    drawn = {"country": draw.choice(TEXTS), "size": draw.choice(SIZES), "other": "x"}
    return {name: drawn[name] for name in drawn if draw.random() < 0.6}


def objects(draw: random.Random) -> list[Traced]:
    parents = [None, Tracer("Parent"), Tracer("Parent", {"tier": "p"}), Tracer("P", {"size": 9})]
    made: list[Traced] = []
    for _ in range(8):
        kind = draw.choice([Cart, Shop.Nested])
        own = draw.choice(
            [None, {"tier": "gold"}, {"tier": 1, "size": 5}, {"tier": 1.0, "size": "?"}]
        )
        made.append(kind(own, draw.choice(parents)))
    return made


def by_hand(draw: random.Random) -> TraceEvent:
    caller = Caller(draw.choice(["pay", "zip"]), "shop.py", "shop", 1, 1, props(draw) or None)
    own: Any = draw.choice([None, {"tier": "gold"}])
    traced = TracedObject("Cart", 1, own)
    id = draw.choice(IDS)
    if draw.random() < 0.5:
        return TraceEvent(id, traced, None, caller)
    return SpanEvent(id, traced, None, caller, 0.5, "error", KeyError, None, 0.25)


def run(draw: random.Random, metrics: Metrics, steps: int) -> list[TraceEvent]:
    """Trace at random; return the events of that."""
    events: list[TraceEvent] = []
    state = draw.getstate()
    for function in (metrics, events.append):
        # Twice the same, since a fan-out would not use the recorders of the metrics alone.
        draw.setstate(state)
        set_trace_function(function)
        traced = objects(draw)
        for _ in range(steps):
            one, id = draw.choice(traced), draw.choice(IDS)
            if draw.random() < 0.2:
                function(by_hand(draw))
            elif draw.random() < 0.5:
                one.pay(id, props(draw))
            else:
                one.zip(id, props(draw), props(draw), draw.choice(ENDINGS))
    return events


@pytest.mark.parametrize("workers", [False, True], ids=["memory", "shared"])
@pytest.mark.parametrize("seed", range(12))
def test_readings_equal_the_model(
    seed: int, workers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is declared and traced, each metric has the points that the model has."""
    draw = random.Random(seed)
    monkeypatch.setattr("hypertrace._span.clock", Clock(draw))
    with_functions = draw.random() < 0.5
    declared = [declaration(draw, f"m{n}", with_functions=with_functions) for n in range(8)]
    allowed = draw.choice([(), ("country",), ("tier", "size")])
    metrics = Metrics(declared=declared, allowed_props=allowed, workers=workers)
    events = run(draw, metrics, 40)
    for metric in declared:
        points, invalid = modelled(metric, events)
        assert points_of(metrics, metric.name) == _sums(points), metric
        assert invalid_of(metrics, metric.name) == invalid, metric
    metrics.close()


def _sums(points: dict[Any, Any]) -> dict[Any, Any]:
    return {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in points.items()
    }
