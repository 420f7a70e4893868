"""Operations: spans that an integration starts and ends for a framework."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import SpanEvent, Tracer, clear_trace_function, set_trace_function, suppress_tracing
from hypertrace._operations import Operations, current_entry
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypertrace import TraceEvent


class Shop:
    """What the application does inside an operation."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def sell(self) -> None:
        with self.tracer.span():
            pass


@pytest.fixture
def events() -> Iterator[list[TraceEvent]]:
    """Give the events that are traced."""
    with capture_events(strict=True) as captured:
        yield captured


def _span(event: Any) -> SpanEvent:
    assert isinstance(event, SpanEvent)
    return event


def test_an_operation_is_one_span_with_the_props_of_its_end(events: list[TraceEvent]) -> None:
    """What is known at the end stands in the event, and ending it again changes nothing."""
    operation = Operations("Queue", "run").start()
    operation.end({"job": "mail"})
    operation.end({"job": "other"}, "error")
    span = _span(events.pop())
    assert not events
    assert (span.object.class_name, span.caller.function_name, span.id) == ("Queue", "run", None)
    assert (span.result, span.exception, span.caller.props) == ("ok", None, {"job": "mail"})
    assert span.duration > 0


def test_spans_inside_have_the_operation_as_upstream(events: list[TraceEvent]) -> None:
    """An operation is the open span from its start to its end, and the one before it after that."""
    shop = Shop()
    operation = Operations("Queue", "run").start()
    shop.sell()
    operation.end({})
    shop.sell()
    inner, _, after = map(_span, events)
    assert inner.upstream is not None
    assert (inner.upstream.class_name, inner.upstream.function_name) == ("Queue", "run")
    assert after.upstream is None


def test_an_operation_inside_a_span_has_that_as_upstream(events: list[TraceEvent]) -> None:
    """Also one whose length is known, which is recorded when it is over."""
    calls = Operations("Client", "call")
    with Tracer("outer").span():
        calls.start().end({})
        calls.record(1.5, {})
    first, second, _ = map(_span, events)
    assert first.upstream is not None
    assert second.upstream is not None
    assert (first.upstream.class_name, second.upstream.class_name) == ("outer", "outer")
    assert second.duration == 1.5


@pytest.mark.parametrize(
    ("exception", "result"), [(KeyError, "error"), (asyncio.CancelledError, "cancelled")]
)
def test_an_exception_says_how_it_ended(
    events: list[TraceEvent], exception: type[BaseException], result: str
) -> None:
    """The result is that of a span which the exception ends."""
    Operations("Queue", "run").start().end({}, exception=exception)
    span = _span(events.pop())
    assert (span.result, span.exception) == (result, exception)


def test_the_entry_is_known_inside_it_alone() -> None:
    """Its name may come late, and is that of the outermost entry."""
    with capture_events():
        requests, jobs = (
            Operations("Web", "request", entry="http"),
            Operations("Q", "run", entry="job"),
        )
        request = requests.start()
        assert not current_entry()
        request.entry_name = "GET /"
        assert current_entry() == "GET /"
        job = jobs.start()
        job.entry_name = "mail"
        assert current_entry() == "GET /"  # the job is a part of the request
        job.end({})
        assert current_entry() == "GET /"
        request.end({})
    assert not current_entry()


def test_an_operation_may_end_in_another_context() -> None:
    """Neither the context it began in nor that it ended in has it as open span or entry."""
    shop_events: list[TraceEvent] = []
    with capture_events() as events:
        shop = Shop()
        operation = Operations("Web", "request", entry="http").start()
        operation.entry_name = "GET /"
        inside = contextvars.copy_context()
        contextvars.Context().run(operation.end, {})
        shop.sell()
        inside.run(shop.sell)
        assert not current_entry()
        assert not inside.run(current_entry)
        shop_events = events[1:]
    assert [_span(event).upstream for event in shop_events] == [None, None]


def test_threads_end_each_operation_once(events: list[TraceEvent]) -> None:
    """Of several threads that end it, one does."""
    operations = [Operations("Web", "request").start() for _ in range(500)]

    def end_all() -> None:
        for operation in operations:
            operation.end({})

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=end_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(events) == 500


def test_nothing_is_recorded_while_tracing_is_off() -> None:
    """An operation that begins or ends without a trace function does nothing, and can be ended."""
    operations = Operations("Web", "request", entry="http")
    clear_trace_function()
    operation = operations.start()
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    operation.end({"route": "/"})
    assert [point.value for point in metrics.read().family("function_counter_total").points] == [1]
    operation = operations.start()
    clear_trace_function()
    operation.end({})
    assert not current_entry()
    set_trace_function(metrics)
    suppress_tracing(operations.start().end, {})
    suppress_tracing(operations.count, {})
    assert [point.value for point in metrics.read().family("function_counter_total").points] == [1]


def test_a_count_is_a_call(events: list[TraceEvent]) -> None:
    """What has no length is an event without one."""
    Operations("Queue", "sent").count({"job": "mail"})
    (event,) = events
    assert not isinstance(event, SpanEvent)
    assert (event.caller.function_name, event.caller.props) == ("sent", {"job": "mail"})


def test_a_trace_function_that_raises_harms_no_operation() -> None:
    """The framework sees nothing of it."""

    def fail(event: TraceEvent) -> None:
        raise ValueError

    set_trace_function(fail)
    operations = Operations("Web", "request", entry="http")
    operations.start().end({})
    operations.record(1, {})
    operations.count({})
    clear_trace_function()
