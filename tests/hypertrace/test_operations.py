"""Operations: spans that an integration starts and ends for a framework."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

from hypertrace import SpanEvent, Tracer, clear_trace_function, set_trace_function, suppress_tracing
from hypertrace._operations import Operation, Operations, current_entry
from hypertrace._span import MAX_BUFFERED
from hypertrace.metrics import Metrics
from hypertrace.metrics.reading import HistogramReading
from hypertrace.testing import capture_events

from ..running import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def _in_four_threads(work: Callable[[], None]) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(*[work] * 4)
    finally:
        sys.setswitchinterval(interval)


def test_threads_end_each_operation_once(events: list[TraceEvent]) -> None:
    """Of several threads that end it, one does."""
    operations = [Operations("Web", "request").start() for _ in range(500)]

    def end_all() -> None:
        for operation in operations:
            operation.end({})

    _in_four_threads(end_all)
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


def _props(route: str) -> dict[str, object]:
    return {"route": route}


def _counted(metrics: Metrics, name: str) -> dict[str, float]:
    """Return the counts of a metric by id and the prop `route`."""
    family = metrics.read().family(name)
    where = [family.label_names.index(label) for label in ("id", "caller_props_route")]
    counts: dict[str, float] = {}
    for point in family.points:  # one for each result
        key = " ".join(filter(None, (point.labels[at] for at in where)))
        assert isinstance(point.value, HistogramReading)
        counts[key] = counts.get(key, 0) + point.value.count
    return counts


def test_operations_with_known_keys_are_counted_exactly() -> None:
    """The props of a key are asked for once, and each operation counts where its props say."""
    metrics = Metrics(allowed_props=["route"], upstream=True, workers=False)
    set_trace_function(metrics)
    asked: list[str] = []

    def props(route: str) -> dict[str, object]:
        asked.append(route)
        return {"route": route}

    requests, calls = Operations("Web", "request", entry="http"), Operations("Client", "call")
    for number in range(1_000):
        route = f"/{number % 3}"
        request = requests.start()
        inner = requests.start()
        calls.record(0.5, props, "ok", None, (route,))
        inner.end(props, "ok", None, (route,))
        request.end(props, "ok", None, (route,))
        calls.start().end(props, "error", None, (route,))
    kinds = {"entry.http": 1, "nested.http": 1, "": 2}
    expected = {
        " ".join(filter(None, (kind, f"/{rest}"))): times * (334 if rest == 0 else 333)
        for kind, times in kinds.items()
        for rest in range(3)
    }
    assert _counted(metrics, "function_duration_seconds") == expected
    assert len(asked) == 3 * 3 + 1_000  # an error has an event, which has the props
    edges = {
        point.labels: point.value for point in metrics.read().family("function_edges_total").points
    }
    assert list(edges.values()) == [1_000, 1_000]  # a request inside one, and a call inside one
    assert not current_entry()


def test_threads_end_each_known_operation_once() -> None:
    """Of several threads that end it with a key, one does; what is active is left once."""
    metrics = Metrics(allowed_props=["route"], workers=False)
    set_trace_function(metrics)
    kind = Operations("Web", "request")
    active: list[float] = []
    kind.start().end(_props, "ok", None, ("/",))
    operations = [kind.start([active.append]) for _ in range(2_000)]

    def end_all() -> None:
        for operation in operations:
            operation.end(_props, "ok", None, ("/",))

    _in_four_threads(end_all)
    assert _counted(metrics, "function_duration_seconds") == {"/": 2_001}
    assert (active.count(1), active.count(-1)) == (2_000, 2_000)


def test_what_is_active_is_left_at_each_end() -> None:
    """Functions get 1 at the start, and -1 at the first of a stop, an end and an abandonment."""
    kind = Operations("Web", "request", entry="http")
    active: list[float] = []
    for is_on in (True, False):
        if is_on:
            set_trace_function(Metrics(workers=False))
        else:
            clear_trace_function()
        for end in ("end", "stop", "abandon"):
            for start in (Operation.start, Operation.start_aside):
                operation = start(kind, (active.append,))
                assert active == [1]
                if end == "stop":
                    operation.stop()
                    assert operation.has_stopped
                elif end == "abandon":
                    operation.abandon()
                operation.end({})
                operation.end({})
                assert operation.has_ended
                assert active == [1, -1]
                active.clear()


def test_a_function_that_raises_harms_no_operation(caplog: pytest.LogCaptureFixture) -> None:
    """What is called at the start and the end may fail; the operation is counted."""

    def fail(_: float) -> None:
        raise ValueError

    metrics = Metrics(allowed_props=["route"], workers=False)
    set_trace_function(metrics)
    kind = Operations("Web", "request")
    kind.start().end(_props, "ok", None, ("/",))
    kind.start([fail])._active = ()
    operation = kind.start([fail])
    operation._active = ()
    operation.end(_props, "ok", None, ("/",))
    assert _counted(metrics, "function_duration_seconds") == {"/": 2}
    assert "swallowed ValueError" in caplog.text


class _Basket(Operation):
    """An operation of a framework."""

    __slots__ = ("items",)

    def __init__(self, kind: Operations) -> None:
        super().__init__(kind)
        self.items: tuple[str, ...] = ()


def test_operations_of_one_class_have_their_own_values() -> None:
    """A subclass sets what it has at first, and what is set later is of one operation alone."""
    set_trace_function(Metrics(workers=False))
    kind = Operations("Shop", "buy", entry="other")
    first, second = _Basket.start(kind), _Basket.start_aside(kind)
    first.items, first.entry_name = ("bread",), "bread"
    third = _Basket.start(kind)
    assert (type(third), second.items, third.items) == (_Basket, (), ())
    assert (second.entry_name, third.entry_name) == ("", "")
    assert type(kind.start()) is Operation
    assert not _Basket(kind).items
    assert _Basket(kind).has_ended


def test_durations_that_wait_are_bounded() -> None:
    """Ends with a known key leave few numbers behind, and none is lost."""
    metrics = Metrics(allowed_props=["route"], workers=False)
    set_trace_function(metrics)
    kind = Operations("Web", "request")
    for _ in range(10 * MAX_BUFFERED):
        kind.start().end(_props, "ok", None, ("/",))
    binding = kind.known(None, ("/",))
    assert binding is not None
    assert binding.durations is not None
    assert len(binding.durations) <= MAX_BUFFERED
    assert _counted(metrics, "function_duration_seconds") == {"/": 10 * MAX_BUFFERED}


def test_an_operation_that_is_dropped_leaves_nothing_behind() -> None:
    """Neither its kind nor the context keeps one that started aside and never ended."""
    set_trace_function(Metrics(workers=False))
    kind = Operations("Web", "request")
    dropped = ref(_Basket.start_aside(kind))
    gc.collect()
    assert dropped() is None


@pytest.mark.parametrize("wrong", [(), (object(),), (1, (), ())])
def test_an_operation_has_a_kind(wrong: tuple[Any, ...]) -> None:
    """A start without one is an error of the integration."""
    with pytest.raises((TypeError, AttributeError)):
        Operation.start(*wrong)
