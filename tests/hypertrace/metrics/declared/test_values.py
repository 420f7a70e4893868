"""Values: the number of an event for a declared metric, and what is none."""

from __future__ import annotations

import math
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
    swallowed_errors,
)
from hypertrace.metrics import LastValue, Sum, Summary
from hypertrace.metrics.declared.guard import is_kept
from hypertrace.metrics.declared.kinds import Counter
from hypertrace.metrics.declared.values import INVALID, Values, checked_number

from ....hostile_values import HostileStr, fail


class Hostile:
    __float__ = fail


class HostileInt(int):
    __float__ = fail


NUMBERS = [
    (1, 1.0),
    (-1.5, -1.5),
    (0, 0.0),
    (Decimal("1.25"), 1.25),
    (Fraction(1, 4), 0.25),
    (10**300, 1e300),
    (2**53 + 1, 2.0**53),
]
WRONG = [
    (True, TypeError),
    ("1.5", TypeError),
    (HostileStr("1"), TypeError),
    (b"1", TypeError),
    (bytearray(b"1"), TypeError),
    (memoryview(b"1"), TypeError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (-math.inf, ValueError),
    (10**400, ValueError),
    (Decimal("NaN"), ValueError),
    (Decimal("sNaN"), TypeError),
    (Decimal("1e999"), ValueError),
    (Fraction(10**400), ValueError),
    (1j, TypeError),
    ([1], TypeError),
    (Hostile(), TypeError),
    (HostileInt(1), TypeError),
]


def event(
    props: dict[str, Any] | None = None,
    of_object: dict[str, Any] | None = None,
    of_parent: dict[str, Any] | None = None,
    **of_span: Any,
) -> TraceEvent:
    """Give an event; a span if it says how it ended."""
    parts = (
        None,
        TracedObject("Cart", 1, of_object),
        None if of_parent is None else TracedObject("Shop", 1, of_parent),
        Caller("add", "/srv/cart.py", "cart", 1, 1, props),
    )
    return SpanEvent(*parts, **of_span) if of_span else TraceEvent(*parts)


def gauge(value: Any = "size", **options: Any) -> Values:
    return Values(LastValue("x", value=value, **options))


def is_invalid(number: float | None) -> bool:
    return number is not None and number != number  # noqa: PLR0124 -- as the feeds compare


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=lambda one: str(one)[:9])
def test_a_finite_number_of_any_type_counts(value: Any, number: float) -> None:
    """Decimals, fractions and whole numbers that fit become floats."""
    assert gauge().number_of(event({"size": value})) == number
    assert checked_number(value) == number
    assert type(gauge().number_of(event({"size": value}))) is float


@pytest.mark.parametrize(("value", "error"), WRONG, ids=range(len(WRONG)))
def test_what_is_no_finite_number_is_invalid(value: Any, error: type[Exception]) -> None:
    """Nothing is raised or swallowed; the door for code without tracers raises."""
    assert is_invalid(gauge().number_of(event({"size": value})))
    assert swallowed_errors() == 0
    with pytest.raises(error, match=r"no number|not finite|too large"):
        checked_number(value)


def test_scalars_of_numpy_count_and_its_truth_values_do_not() -> None:
    """Whichever numpy is installed."""
    numpy = pytest.importorskip("numpy")
    for kind in ("float16", "float32", "float64", "int8", "uint64", "longdouble"):
        assert gauge().number_of(event({"size": getattr(numpy, kind)(2)})) == 2
    for wrong in (numpy.bool_(True), numpy.float64("nan"), numpy.str_("1"), numpy.zeros(2)):
        assert is_invalid(gauge().number_of(event({"size": wrong})))


def test_a_sum_takes_no_negative_number() -> None:
    """Zero counts; other kinds take any finite number."""
    values = Values(Sum("x_total", value="size"))
    assert [values.number(number) for number in (0, 0.0, 2)] == [0, 0, 2]
    assert is_invalid(values.number(-1e-9))
    assert is_invalid(INVALID)


@pytest.mark.parametrize(
    ("value", "props", "number"),
    [
        ("size", {"size": 1}, 1),
        ("size", {"size": None}, 2),
        ("size", {}, 2),
        ("size", None, 2),
        ("depth", {}, 3),
        ("call.size", {}, None),
        ("call.size", {"size": 1}, 1),
        ("object.size", {"size": 1}, 2),
        ("object.depth", {"depth": 1}, None),
        ("parent.size", {"size": 1}, 4),
        ("other", {"size": 1}, None),
    ],
)
def test_a_value_is_looked_up_in_the_call_then_the_object_then_the_parent(
    value: str, props: dict[str, Any] | None, number: float | None
) -> None:
    """A path looks at one place; without a value the event is no measurement."""
    values = gauge(value)
    one = event(props, {"size": 2}, {"size": 4, "depth": 3})
    assert values.number_of(one) == number
    looks_in_call = not value.startswith(("object.", "parent."))
    assert values.call_prop == (value.removeprefix("call.") if looks_in_call else None)
    if not props:
        assert values.number(values.of_objects(one.object, one.parent_object)) == number
    assert (values.is_timed, values.needs_event) == (False, False)


def test_a_span_measures_its_duration_and_a_trace_none() -> None:
    """`busy` is that of a generator or coroutine, and none for others."""
    duration, busy = gauge("duration"), gauge("busy")
    assert duration.is_timed
    assert duration.number_of(event()) is None
    assert duration.number_of(event({"duration": 5})) is None
    assert duration.number_of(event(duration=1.5)) == 1.5
    assert busy.number_of(event(duration=1.5)) is None
    assert busy.number_of(event(duration=1.5, busy=0.5)) == 0.5
    assert is_invalid(duration.number_of(event(duration=math.nan)))


def test_a_function_of_the_event_may_measure() -> None:
    """None is no measurement; if it raises, this is counted as swallowed and nothing measured."""
    values = gauge(lambda event: len(event.caller.props["items"]))
    assert values.needs_event
    assert values.number_of(event({"items": [1, 2]})) == 2
    assert swallowed_errors() == 0
    assert values.number_of(event()) is None
    assert swallowed_errors() == 1
    assert gauge(lambda event: None).number_of(event()) is None
    assert is_invalid(gauge(lambda event: "1").number_of(event()))
    set_trace_function(fail, strict=True)
    with pytest.raises(TypeError):
        values.number_of(event())


@pytest.mark.parametrize(
    ("unit", "value", "number"),
    [
        ("bytes", 1500, 1500),
        (("bytes", "bytes"), 1500, 1500),
        (("bytes", "kilobytes"), 1500, 1.5),
        (("kibibytes", "bytes"), 2, 2048),
        (("kibibytes", "kilobytes"), 125, 128),
        (("gigabytes", "terabytes"), 1, 0.001),
        (("nanoseconds", "seconds"), 3, 3e-9),
        (("milliseconds", "seconds"), 1.1, 0.0011),
        (("days", "minutes"), 2, 2880),
        (("ratio", "percent"), 0.25, 25),
        (("percent", "ratio"), 7, 0.07),
    ],
)
def test_a_pair_of_units_converts(unit: Any, value: float, number: float) -> None:
    """Each result is the nearest float there is."""
    assert gauge(unit=unit).number(value) == number


def test_a_conversion_that_overflows_is_invalid() -> None:
    """Also one of a duration."""
    assert is_invalid(gauge(unit=("days", "nanoseconds")).number(1e300))
    summary = Values(Summary("x", unit=("seconds", "milliseconds")))
    assert summary.number_of(event(duration=1.5)) == 1500


def test_a_function_causes_no_events() -> None:
    """What it traces is dropped, so that no event counts what the application did not do."""
    events: list[TraceEvent] = []
    set_trace_function(events.append)
    tracer = Tracer("Cart")

    def measure(event: TraceEvent) -> int:
        tracer.trace("again")
        return 1

    assert gauge(measure).number_of(event()) == 1
    assert events == []


def test_the_class_of_a_value_causes_no_events() -> None:
    """A metaclass may trace wherever a class is hashed, compared, or asked for an attribute."""
    events: list[TraceEvent] = []
    set_trace_function(events.append)
    tracer = Tracer("Cart")

    class Tracing(type):
        def trace(cls, *_: object) -> int:
            tracer.trace("again")
            raise AttributeError

        __hash__ = __eq__ = __getattr__ = trace  # type: ignore[assignment]

    value = Tracing("Value", (), {})()
    assert is_invalid(gauge().number(value))
    with pytest.raises(TypeError, match="a Value is no number"):
        checked_number(value)
    assert events == []


# --- keep and drop ----------------------------------------------------------------------


class NoTruth:
    __bool__ = fail


@pytest.mark.parametrize(
    ("keep", "drop", "kept", "swallowed"),
    [
        (None, None, True, 0),
        (lambda event: True, None, True, 0),
        (lambda event: 0, None, False, 0),
        (None, lambda event: [1], False, 0),
        (None, lambda event: None, True, 0),
        (lambda event: True, lambda event: True, False, 0),
        (fail, None, False, 1),
        (None, fail, False, 1),
        (lambda event: NoTruth(), None, False, 1),
    ],
)
def test_keep_and_drop_choose_events(keep: Any, drop: Any, kept: bool, swallowed: int) -> None:
    """An event is left out if one of them says so, or raises."""
    assert is_kept(Counter("x_total", keep=keep, drop=drop), event()) is kept
    assert swallowed_errors() == swallowed
