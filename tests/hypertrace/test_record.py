"""Finished spans: `tracer.record()` counts like a span of that length that ends now."""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from hypertrace import (
    SpanEvent,
    TraceEvent,
    Tracer,
    clear_trace_function,
    set_trace_function,
    suppress_tracing,
    swallowed_errors,
)
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events

from ..running import Clock


class Job:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def finish(self, *args: Any, **kwargs: Any) -> None:
        self.tracer.record(*args, **kwargs)


@pytest.fixture
def events() -> Iterator[list[TraceEvent]]:
    with capture_events() as captured:
        yield captured


def _ending(event: TraceEvent) -> tuple[object, ...]:
    assert isinstance(event, SpanEvent)
    return event.duration, event.result, event.exception


def test_a_record_is_one_event_of_a_span(events: list[TraceEvent]) -> None:
    """It has the duration, id and props that were given, and the place of the call."""
    Job().finish(2.5, "daily", {"peer-id": 1}, queue="mail")
    (event,) = events
    assert isinstance(event, SpanEvent)
    assert _ending(event) == (2.5, "ok", None)
    assert (event.id, event.caller.props) == ("daily", {"peer-id": 1, "queue": "mail"})
    assert (event.object.class_name, event.caller.function_name) == ("Job", "finish")
    assert (event.upstream, event.busy) == (None, None)


class OddError(Exception):
    """An exception of the application."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("ok", None)),
        ({"result": "error"}, ("error", None)),
        ({"result": "cancelled"}, ("cancelled", None)),
        ({"exception": OddError}, ("error", OddError)),
        ({"exception": OddError("x")}, ("error", OddError)),
        ({"exception": GeneratorExit}, ("ok", GeneratorExit)),
        ({"exception": SystemExit(0)}, ("ok", SystemExit)),
        ({"exception": SystemExit(1)}, ("error", SystemExit)),
        ({"exception": SystemExit}, ("error", SystemExit)),
        ({"result": "cancelled", "exception": OddError}, ("cancelled", OddError)),
        ({"result": "error", "exception": GeneratorExit()}, ("error", GeneratorExit)),
    ],
)
def test_how_it_ended(
    events: list[TraceEvent], given: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """The result is as given; an exception, or its class, makes an error of it."""
    Job().finish(1, **given)
    assert _ending(events[0])[1:] == expected


@pytest.mark.parametrize("duration", [0, 1, 2.5, Decimal("2.5"), Fraction(5, 2), 10**300], ids=repr)
def test_any_finite_number_is_a_duration(events: list[TraceEvent], duration: Any) -> None:
    """It is a float in the event."""
    Job().finish(duration)
    seconds = _ending(events[0])[0]
    assert (type(seconds), seconds) == (float, float(duration))


class Unready:
    """No number."""

    def __float__(self) -> float:
        raise LookupError


@pytest.mark.parametrize(
    "duration",
    [-1, -0.001, math.nan, math.inf, 10**400, "3", b"3", memoryview(b"3"), None, True, Unready()],
    ids=lambda value: f"{type(value).__name__} {str(value)[:8]}",
)
def test_a_wrong_duration_is_logged_and_records_nothing(
    events: list[TraceEvent], caplog: pytest.LogCaptureFixture, duration: Any
) -> None:
    """It is a misuse like that of `trace()`: no error, and the log says what to give."""
    Job().finish(duration)
    assert events == []
    assert swallowed_errors() == 0
    assert "record() got" in caplog.text
    assert "seconds" in caplog.text


@pytest.mark.parametrize("result", ["failed", "OK", None, 1, ["ok"]], ids=repr)
def test_a_wrong_result_is_logged_and_is_an_error(
    events: list[TraceEvent], caplog: pytest.LogCaptureFixture, result: Any
) -> None:
    """What the application meant is not known, but hardly that all is well."""
    Job().finish(1, result=result)
    assert _ending(events[0]) == (1.0, "error", None)
    assert "'ok', 'error', 'cancelled'" in caplog.text


@pytest.mark.parametrize("exception", ["ValueError", int, 3], ids=repr)
def test_a_wrong_exception_is_logged_and_left_out(
    events: list[TraceEvent], caplog: pytest.LogCaptureFixture, exception: Any
) -> None:
    """As `span.fail()` does."""
    Job().finish(1, exception=exception)
    assert _ending(events[0]) == (1.0, "ok", None)
    assert "which is none, and ignores it" in caplog.text


def test_a_wrong_argument_is_raised_if_strict() -> None:
    """As all misuse is."""
    with capture_events(strict=True), pytest.raises(TypeError, match="0 or more"):
        Job().finish(-1)


@pytest.mark.parametrize("upstream", [True, False])
@pytest.mark.parametrize("with_props", [True, False])
@pytest.mark.parametrize("error", [None, OddError()], ids=repr)
def test_it_counts_like_a_span_that_ends_now(
    span_clock: Clock, *, upstream: bool, with_props: bool, error: Exception | None
) -> None:
    """A `Metrics` has the same series and numbers after both, edges included."""
    props: dict[str, Any] = {"queue": "mail"} if with_props else {}

    def as_span(tracer: Tracer) -> None:
        try:
            with tracer.span("daily", **props):
                span_clock.now += 2.5
                if error is not None:
                    raise error
        except OddError:
            pass

    def as_record(tracer: Tracer) -> None:
        span_clock.now += 2.5
        tracer.record(2.5, "daily", exception=error, **props)

    as_record.__qualname__ = as_span.__qualname__
    as_record.__code__ = as_record.__code__.replace(
        co_name=as_span.__code__.co_name, co_qualname=as_span.__code__.co_qualname
    )
    readings = [_read(run, upstream=upstream) for run in (as_span, as_record)]
    assert readings[0] == readings[1]
    assert len(readings[0]) >= 3


def _read(run: Callable[[Tracer], None], *, upstream: bool) -> dict[Any, Any]:
    metrics = Metrics(allowed_props=["queue"], upstream=upstream)
    set_trace_function(metrics)
    tracer = Tracer("Job")
    for _ in range(200):  # more than the buffer of durations holds
        run(tracer)
        with Tracer("Outer").span():
            run(tracer)
    clear_trace_function()
    return {
        (family.name, point.labels): point.value
        for family in metrics.read().families
        if family.name.startswith("function_")
        for point in family.points
        if "Job" in point.labels
    }


def test_the_open_span_is_upstream(events: list[TraceEvent]) -> None:
    """The innermost one that has not ended; after it, none."""
    job = Job()
    with Tracer("Outer").span():
        with Tracer("Inner").span():
            pass
        job.finish(1)
    job.finish(1)
    upstream = [e.upstream for e in events if e.object.class_name == "Job"]  # type: ignore[attr-defined]
    assert [u and u.class_name for u in upstream] == ["Outer", None]


def test_it_is_upstream_of_nothing(events: list[TraceEvent]) -> None:
    """It has ended: the span that comes after it is not inside it."""
    Job().finish(1)
    with Tracer("After").span():
        pass
    assert events[-1].upstream is None  # type: ignore[attr-defined]


def test_a_disabled_tracer_records_nothing() -> None:
    """Also after a trace function was set, and with wrong arguments."""
    job = Job()
    with capture_events() as captured:
        job.finish(1)
        job.finish("wrong", result=0)
    assert captured == []


def test_an_enabled_tracer_records_nothing_while_tracing_is_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor does it check its arguments."""
    with capture_events():
        job = Job()
    job.finish(1)
    job.finish(-1)
    assert caplog.text == ""


def test_a_record_of_the_trace_function_is_dropped(events: list[TraceEvent]) -> None:
    """As its other events."""
    job = Job()
    suppress_tracing(job.finish, 1)
    assert events == []


def test_a_trace_function_that_raises_does_not_stop_it() -> None:
    """Its error is counted and swallowed."""
    set_trace_function(lambda _: 1 / 0)
    Job().finish(1)
    assert swallowed_errors() == 1
