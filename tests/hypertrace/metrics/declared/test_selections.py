"""Selections: which events are exported one by one, and what is read of each."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent
from hypertrace.metrics import Counter, Distribution, EventPoint, Metrics, Sum
from hypertrace.metrics.declared.selections import checked_selections
from hypertrace.patterns import EventPattern

from ....hostile_values import VALUES, GivesHostileStr, OfHostileMeta

if TYPE_CHECKING:
    from hypertrace.metrics import DeclaredMetric

NOW = time.time_ns()
ALL = EventPattern()


def event_of(
    props: dict[str, Any] | None = None,
    *,
    object_props: dict[str, Any] | None = None,
    parent: TracedObject | None = None,
) -> TraceEvent:
    """Give an event of a call with some props."""
    place = Caller("pay", "<stdin>", "shop", 1, 1, props)
    return TraceEvent("card", TracedObject("Checkout", 1, object_props), parent, place)


def span_of(props: dict[str, Any] | None = None, **settings: Any) -> SpanEvent:
    """Give a span with some props."""
    caller = Caller("pay", "<stdin>", "shop", 1, 1, props)
    return SpanEvent(None, TracedObject("Checkout", 1), None, caller, 0.25, **settings)


def read(
    selected: EventPattern | DeclaredMetric, event: TraceEvent, **settings: Any
) -> EventPoint | None:
    """Give what is read of an event."""
    return Metrics(**settings).selection(selected).read(event)


def read_one(
    selected: EventPattern | DeclaredMetric, event: TraceEvent, **settings: Any
) -> EventPoint:
    """Give what is read of an event that is not left out."""
    point = read(selected, event, **settings)
    assert point is not None
    return point


def test_an_event_that_a_pattern_selects_has_the_labels_of_its_function() -> None:
    """Those that have a value, with the allowed props of all three."""
    props = {"amount": 3, "channel": "web", "secret": "x"}
    event = event_of(
        props, object_props={"channel": "shop"}, parent=TracedObject("Shop", 1, {"amount": 2.5})
    )
    point = read_one(ALL, event, allowed_props=["amount", "channel", "size"])
    assert (point.name, point.value, point.number) == ("Checkout.pay", 1, 0)
    assert point.tags == {
        "object_classname": "Checkout",
        "object_props_channel": "shop",
        "parent_object_classname": "Shop",
        "parent_object_props_amount": 2.5,
        "caller_functionname": "pay",
        "caller_filename": "<stdin>",
        "id": "card",
        "caller_props_amount": 3,
        "caller_props_channel": "web",
    }


def test_a_span_says_how_it_ended() -> None:
    """And how long it took."""
    ended = span_of(result="error", exception=OSError, raised="inside", busy=0.125)
    tags = read_one(ALL, ended).tags
    labels = ("result", "exception", "raised", "duration", "busy")
    assert [tags[label] for label in labels] == ["error", "OSError", "inside", 0.25, 0.125]
    assert not {"exception", "raised"} & read_one(ALL, span_of()).tags.keys()


def test_an_event_of_a_declared_metric_has_its_tags_and_value() -> None:
    """Under the name that is shown; a counter counts 1."""
    orders = Counter("orders_total", tags={"channel": "call.channel", "sum": "amount"})
    event = event_of({"amount": 3, "channel": "web"})
    point = read_one(orders, event, prefix="shop_")
    assert (point.name, point.value) == ("shop_orders_total", 1)
    assert point.tags == {"channel": "web", "sum": 3}
    paid = Sum("paid_total", value="amount", unit=("milliseconds", "seconds"))
    assert read_one(paid, event).value == 0.003
    took = Distribution("took_seconds", tags=["result"])
    assert read_one(took, span_of())[2:4] == (0.25, {"result": "ok"})


def test_what_a_metric_leaves_out_is_no_event() -> None:
    """No duration, no value, `keep`, and a tag whose function raises."""
    event = event_of({"amount": 3})
    for metric in (
        Distribution("took_seconds"),
        Sum("paid_total", value="size"),
        Counter("a_total", keep=lambda event: event.id != "card"),
        Counter("b_total", tags=["amount"], tag_values={"amount": lambda amount: 1 // 0 * amount}),
    ):
        assert read(metric, event) is None


def test_a_value_that_is_no_number_is_counted() -> None:
    """Under the name of the metric, and makes no event."""
    metrics = Metrics()
    selection = metrics.selection(Sum("paid_total", value="amount"))
    assert selection.read(event_of({"amount": "much"})) is None
    (point,) = metrics.read().family("hypertrace_invalid_values_total").points
    assert point == (("paid_total",), 1)


def test_tag_values_make_texts() -> None:
    """Also of numbers, that then are texts; None leaves the tag out."""
    metric = Counter(
        "orders_total",
        tags=["status", "code", "none"],
        tag_values={"status": str, "code": {404: "missing"}, "none": lambda _: None},
    )
    event = event_of({"status": 200, "code": 404, "none": 1})
    assert read_one(metric, event).tags == {"status": "200", "code": "missing"}


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (0.5, 0.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (Decimal("1.5"), 1.5),
        (b"bytes", "bytes"),
        ("a\nb", "a\nb"),
        pytest.param(10**5000, "<unprintable int>", id="huge"),
        (GivesHostileStr(), 'of "its" own'),
        (OfHostileMeta(), "<unprintable OfHostileMeta>"),
    ],
)
def test_numbers_stay_numbers_and_all_else_is_text(value: Any, tag: object) -> None:
    """Numbers without a number in JSON or InfluxDB are text, too."""
    for point in (
        read_one(Counter("orders_total", tags=["size"]), event_of({"size": value})),
        read_one(ALL, event_of({"size": value}), allowed_props=["size"]),
    ):
        found = point.tags.get("size", point.tags.get("caller_props_size"))
        assert (found, type(found)) == (tag, type(tag))


@pytest.mark.parametrize("name", VALUES)
def test_no_value_raises(name: str) -> None:
    """Whatever a prop is, and does when it is looked at."""
    value, _ = VALUES[name]
    event = event_of({"size": value, "timestamp": value})
    for point in (
        read_one(Counter("orders_total", tags=["size"]), event),
        read_one(ALL, event, allowed_props=["size"]),
    ):
        assert all(type(tag) in {str, int, float, bool} for tag in point.tags.values())
        assert point.time > NOW


def test_a_value_is_read_when_it_comes() -> None:
    """What the application changes later is not seen, and no object is held."""
    props = {"channel": ["web"]}
    point = read_one(Counter("orders_total", tags=["channel"]), event_of(props))
    props["channel"].append("phone")
    assert point.tags == {"channel": "['web']"}


@pytest.mark.parametrize(
    ("given_time", "nanoseconds"),
    [
        (1_612_369_449, 1_612_369_449_000_000_000),
        (1_612_369_449_000_000_001, 1_612_369_449_000_000_001),
        (-5, -5_000_000_000),
        (0, 0),
        (1_764_469_463.123456, 1_764_469_463_123_456_000),
        (Decimal("1764469463.5"), 1_764_469_463_500_000_000),
        (datetime(2026, 1, 1, microsecond=7, tzinfo=UTC), 1_767_225_600_000_007_000),
        (
            datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
            1_767_225_600_000_000_000,
        ),
    ],
)
def test_the_time_of_an_event_may_be_given(given_time: Any, nanoseconds: int) -> None:
    """In seconds, as a datetime, or in nanoseconds."""
    assert read_one(ALL, event_of({"timestamp": given_time})).time == nanoseconds
    assert read_one(ALL, span_of({"timestamp": given_time})).time == nanoseconds


def test_a_time_without_a_zone_is_local() -> None:
    """As everywhere in Python."""
    moment = datetime(2026, 1, 1)  # noqa: DTZ001 -- the point of it
    expected = int(moment.timestamp()) * 1_000_000_000
    assert read_one(ALL, event_of({"timestamp": moment})).time == expected


@pytest.mark.parametrize("wrong", [None, "noon", True, math.nan, math.inf, 1e300, 10**100, 1e10])
def test_a_time_that_is_none_is_now(wrong: Any) -> None:
    """Also one that has no 64 bits of nanoseconds."""
    before = time.time_ns()
    assert before <= read_one(ALL, event_of({"timestamp": wrong})).time <= time.time_ns()


@given(st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)))  # noqa: DTZ001 -- as it asks
def test_a_datetime_is_exact_to_the_microsecond(moment: datetime) -> None:
    """In any year that 64 bits of nanoseconds have."""
    moment = moment.replace(tzinfo=UTC)
    nanoseconds = read_one(ALL, event_of({"timestamp": moment})).time
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000) == moment
    assert nanoseconds % 1000 == 0


def test_what_selects_events_is_checked() -> None:
    """With an error that names what is wrong."""
    orders = Counter("orders_total")
    pattern = EventPattern("Cart.*", "card")
    first, *others = checked_selections(["Cart.*", orders, pattern, orders])
    assert isinstance(first, EventPattern)
    assert (first.of, first.id, others) == ("Cart.*", None, [pattern, orders])
    for wrong in ("Cart.*", b"Cart.*", pattern, orders, None, 7):
        with pytest.raises(TypeError, match="events must be several patterns or declared metrics"):
            checked_selections(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"or declared metrics as Counter.*, not 7"):
        checked_selections([7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="of='pay' can match nothing"):
        checked_selections(["pay"])
    with pytest.raises(ValueError, match="orders_total is declared already, and differs"):
        checked_selections([orders, Counter("orders_total", tags=["result"])])
