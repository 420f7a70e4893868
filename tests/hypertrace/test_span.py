"""Spans made by hand: their events, and what they never do."""

import asyncio
import contextvars
import gc
import logging
import sys
import weakref
from collections import UserDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import hypertrace
from hypertrace import (
    Span,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    Upstream,
    _span,
    clear_trace_function,
    fan_out,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.testing import capture_events
from hypertrace_prometheus import PrometheusExporter


class Swarm:
    def __init__(self, props: dict[str, object] | None = None) -> None:
        self.tracer = Tracer(self, props)

    def connect(self, error: BaseException | None = None) -> None:
        with self.tracer.span():
            if error is not None:
                raise error

    def fail(self) -> None:
        with self.tracer.span():
            raise ValueError

    def connect_to(self, peer: object) -> None:
        with self.tracer.span("connect", peer=peer):
            pass


class Recorder:
    """Records spans, and fails in the methods that are named."""

    def __init__(self, failing: str = "", *, keeps_durations: bool = True) -> None:
        self.failing = failing
        self.durations: list[float] | None = [] if keeps_durations else None
        self.calls: list[str] = []
        self.ended: list[SpanEvent] = []

    def _record_call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.failing:
            raise LookupError(name)

    def start(self) -> None:
        self._record_call("start")

    def end(self, event: SpanEvent) -> None:
        self.ended.append(event)
        self._record_call("end")

    def edge(self, upstream: Upstream) -> Callable[[], object]:
        self._record_call("edge")
        return lambda: self._record_call("count edge")

    def fold(self) -> None:
        self._record_call("fold")
        if self.durations is not None:
            self.durations.clear()


class Binding:
    """A trace function with one recorder for all spans."""

    def __init__(self, recorder: Recorder, failing: str = "") -> None:
        self.recorder = recorder
        self.failing = failing
        self.events: list[TraceEvent] = []
        self.bound: list[str] = []

    def _record_call(self, name: str) -> None:
        self.bound.append(name)
        if name == self.failing:
            raise LookupError(name)

    def __call__(self, event: TraceEvent) -> None:
        self.events.append(event)

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        self._record_call("share_key")
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return lambda: None

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        return lambda _: None

    def bind_span(self, event: TraceEvent) -> Recorder:
        self._record_call("bind_span")
        return self.recorder

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], Recorder]:
        self._record_call("bind_span_props")
        return lambda props: self.recorder


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


def _values(exporter: PrometheusExporter, name: str) -> list[float]:
    samples = [s for family in exporter.registry.collect() for s in family.samples]
    return [sample.value for sample in samples if sample.name == name]


# --- contents of an event ---------------------------------------------------------------------


def test_a_finished_span_is_one_event(events: list[Any]) -> None:
    """Leaving the block makes one event, with the object, the place, the props and the duration."""
    swarm = Swarm({"topic": "a"})
    with swarm.tracer.span("connect", {"peer-id": 7}, peer="b") as span:
        assert events == []
        assert isinstance(span, Span)
    (event,) = events
    assert isinstance(event, SpanEvent)
    assert (event.id, event.object.class_name, event.object.props) == (
        "connect",
        "Swarm",
        {"topic": "a"},
    )
    assert event.caller.function_name == "test_a_finished_span_is_one_event"
    assert event.caller.props == {"peer-id": 7, "peer": "b"}
    assert (event.result, event.exception, event.upstream, event.busy) == ("ok", None, None, None)
    assert 0 <= event.duration < 1


def test_a_span_takes_the_arguments_of_trace(events: list[Any]) -> None:
    """Id and props have the same forms as in `trace()`."""
    tracer = Tracer("A")
    for span in (
        tracer.span({"peer-id": 1}),
        tracer.span("a", {"peer-id": 1}),
        tracer.span("a", {"x": 1}, x=2),
        tracer.span(UserDict(x=3)),
        tracer.span({}),
    ):
        with span:
            pass
    assert [(e.id, e.caller.props) for e in events] == [
        (None, {"peer-id": 1}),
        ("a", {"peer-id": 1}),
        ("a", {"x": 2}),
        (None, {"x": 3}),
        (None, None),
    ]


def test_a_span_reports_the_parent_it_has_when_it_ends(events: list[Any]) -> None:
    """A new parent counts for spans that have not ended."""
    tracer = Tracer("A", parent=Tracer("old"))
    with tracer.span():
        tracer.set_parent(Tracer("new"))
    with tracer.span():
        pass
    assert [event.parent_object.class_name for event in events] == ["new", "new"]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ValueError("x"), "error"),
        (KeyboardInterrupt(), "error"),
        (SystemExit(1), "error"),
        (SystemExit("a message"), "error"),
        (SystemExit(None), "ok"),
        (SystemExit(0), "ok"),
        (SystemExit(pytest.ExitCode.OK), "ok"),
        (SystemExit(pytest.ExitCode.TESTS_FAILED), "error"),
        (StopIteration(), "ok"),
        (StopAsyncIteration(), "ok"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "ok"),
        (ExceptionGroup("several", [ValueError()]), "error"),
    ],
)
def test_an_exception_ends_a_span_and_passes_on(
    error: BaseException, result: str, events: list[Any]
) -> None:
    """An exception of the block is reported by its class and reaches the application unchanged."""
    swarm = Swarm()
    with pytest.raises(type(error)) as raised:
        swarm.connect(error)
    assert raised.value is error
    assert [(e.result, e.exception) for e in events] == [(result, type(error))]


def test_the_cancellation_of_trio_is_one(
    events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where trio is loaded its Cancelled counts as a cancellation, and not before."""

    class Cancelled(BaseException):
        pass

    trio = ModuleType("trio")
    swarm = Swarm()
    for module in (None, SimpleNamespace(Cancelled="half loaded"), trio):
        if module is trio:
            vars(trio)["Cancelled"] = Cancelled
        if module is not None:
            monkeypatch.setitem(sys.modules, "trio", module)
        with suppress(Cancelled):
            swarm.connect(Cancelled())
    assert [event.result for event in events] == ["error", "error", "cancelled"]


def test_without_asyncio_nothing_is_missing(
    events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not load asyncio has no cancellations of it."""
    monkeypatch.delitem(sys.modules, "asyncio")
    with suppress(ValueError):
        Swarm().connect(ValueError())
    assert [event.result for event in events] == ["error"]
    assert "asyncio" not in sys.modules


# --- set and fail -------------------------------------------------------------------------------


def test_props_can_be_set_before_the_end(events: list[Any]) -> None:
    """Props set later win over those of the span, keywords over a mapping."""
    with Tracer("A").span(a=1, b=1) as span:
        span.set(b=2)
        span.set({"c-d": 3, "e": 1}, e=4)
        span.set()
    assert events[0].caller.props == {"a": 1, "b": 2, "c-d": 3, "e": 4}


def test_wrong_props_are_left_out(events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Setting what is no mapping, or one that raises, is logged and changes nothing else."""

    class Broken(UserDict[str, object]):
        def keys(self) -> Any:
            raise LookupError("broken")

    with Tracer("A").span() as span:
        span.set(7, a=1)  # type: ignore[arg-type]
        span.set(Broken(b=1))
        span.set(c=2)
    assert events[0].caller.props == {"a": 1, "c": 2}
    assert "span.set() got props of type int" in caplog.text
    assert swallowed_errors() == 1


@pytest.mark.parametrize(
    ("error", "exception"), [(ValueError("x"), ValueError), (None, None)], ids=["named", "unnamed"]
)
def test_a_handled_failure_can_be_reported(
    error: Exception | None, exception: type[Exception] | None, events: list[Any]
) -> None:
    """A span that is failed ends as an error, with the class of what is given."""
    with Tracer("A").span() as span:
        span.fail(error)
    assert [(e.result, e.exception) for e in events] == [("error", exception)]
    assert events[0].caller.props is None


def test_an_exception_wins_over_a_failure_that_was_reported(events: list[Any]) -> None:
    """The exception that leaves the block is reported, whatever `fail` got before."""
    for error in (LookupError(), asyncio.CancelledError()):
        with suppress(BaseException), Tracer("A").span() as span:
            span.fail(ValueError())
            raise error
    assert [(e.result, e.exception) for e in events] == [
        ("error", LookupError),
        ("cancelled", asyncio.CancelledError),
    ]


# --- off ----------------------------------------------------------------------------------------


def test_the_spans_of_a_disabled_tracer_are_one_object_that_does_nothing() -> None:
    """A disabled tracer gives the same span for all, which holds nothing back."""
    tracer = Tracer("early")
    with capture_events() as captured:
        span = tracer.span("a", {"b": 1}, c=2)
        assert span is tracer.span()
        with span as entered:
            assert entered is span
            span.set(a=1)
            span.fail(ValueError())
        with pytest.raises(LookupError), span:
            raise LookupError
    assert captured == []
    assert isinstance(span, Span)


def test_cleared_and_set_again_spans_fall_silent_and_speak() -> None:
    """An enabled tracer's spans follow the trace function at once."""
    first: list[TraceEvent] = []
    second: list[TraceEvent] = []
    set_trace_function(first.append)
    swarm = Swarm()
    swarm.connect()
    clear_trace_function()
    swarm.connect()
    set_trace_function(second.append)
    swarm.connect()
    assert (len(first), len(second)) == (1, 1)


@pytest.mark.parametrize("change", ["cleared", "replaced"])
def test_a_span_ends_where_it_began(change: str) -> None:
    """A span that is open while the trace function changes is reported to the first one."""
    first, second = PrometheusExporter(collect_defaults=False), list[TraceEvent]()
    set_trace_function(first)
    swarm = Swarm()
    with swarm.tracer.span():
        if change == "cleared":
            clear_trace_function()
        else:
            set_trace_function(second.append)
    assert _values(first, "function_in_progress") == [0]
    assert _values(first, "function_counter_total") == [1]
    assert second == []


# --- recorders ----------------------------------------------------------------------------------


def test_a_span_that_ends_well_is_an_append() -> None:
    """With a list of durations nothing else is called at a good end, and no event is built."""
    recorder = Recorder()
    set_trace_function(Binding(recorder))
    swarm = Swarm()
    for _ in range(10):
        swarm.connect()
    assert recorder.calls == ["start"] * 10
    assert recorder.durations is not None
    assert len(recorder.durations) == 10
    assert all(0 <= duration < 1 for duration in recorder.durations)


def test_a_call_site_is_bound_once() -> None:
    """Spans without props bind their call site once, and those of equal objects share that."""
    binding = Binding(Recorder())
    set_trace_function(binding)
    for swarm in (Swarm(), Swarm()):
        for _ in range(5):
            swarm.connect()
    assert binding.bound.count("bind_span") == 1


def test_durations_are_folded_before_they_are_many() -> None:
    """A list of durations stays bounded: `fold` of the recorder is called."""
    recorder = Recorder()
    set_trace_function(Binding(recorder))
    swarm = Swarm()
    for _ in range(10 * _span.MAX_BUFFERED):
        swarm.connect()
        assert recorder.durations is not None
        assert len(recorder.durations) <= _span.MAX_BUFFERED
    assert recorder.calls.count("fold") == 10 * _span.MAX_BUFFERED // (_span.MAX_BUFFERED + 1)


def test_durations_of_traced_functions_are_folded_before_they_are_many() -> None:
    """The list of durations of a traced function stays bounded in the same way."""
    recorder = Recorder()

    @hypertrace.traced
    def work() -> None:
        pass

    set_trace_function(Binding(recorder))
    for _ in range(10 * _span.MAX_BUFFERED):
        work()
        assert recorder.durations is not None
        assert len(recorder.durations) <= _span.MAX_BUFFERED
    assert recorder.calls.count("fold") == 10 * _span.MAX_BUFFERED // (_span.MAX_BUFFERED + 1)


@pytest.mark.parametrize("keeps_durations", [True, False])
def test_other_ends_are_reported_as_events(keeps_durations: bool) -> None:
    """Errors and set props are recorded by events, and without durations all ends are."""
    recorder = Recorder(keeps_durations=keeps_durations)
    set_trace_function(Binding(recorder))
    swarm = Swarm()
    swarm.connect()
    with suppress(ValueError):
        swarm.connect(ValueError())
    swarm.connect_to("b")
    with swarm.tracer.span() as span:
        span.set(a=1)
    recorded = [(event.result, event.caller.props) for event in recorder.ended]
    expected: list[Any] = [("error", None), ("ok", {"a": 1})]
    well: list[Any] = [("ok", None), ("error", None), ("ok", {"peer": "b"}), ("ok", {"a": 1})]
    assert recorded == (expected if keeps_durations else well)
    assert recorder.calls.count("start") == 4


@pytest.mark.parametrize("failing", ["start", "end", "fold", "edge", "count edge"])
@pytest.mark.parametrize("keeps_durations", [True, False])
def test_a_recorder_that_raises_is_no_concern_of_the_application(
    failing: str, keeps_durations: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever method of a recorder raises, the block runs, and its exception and end count."""
    monkeypatch.setattr(_span, "MAX_BUFFERED", 0)
    recorder = Recorder(failing, keeps_durations=keeps_durations)
    set_trace_function(Binding(recorder))
    swarm = Swarm()
    with swarm.tracer.span():
        swarm.connect()
    error = ValueError()
    with pytest.raises(ValueError) as raised, swarm.tracer.span():  # noqa: PT011
        swarm.connect(error)
    assert raised.value is error
    assert (swallowed_errors() > 0) is (failing in recorder.calls)
    assert recorder.calls.count("start") == 4
    ended = len(recorder.ended) + len(recorder.durations or []) + recorder.calls.count("fold")
    assert ended >= 4


@pytest.mark.parametrize("failing", ["bind_span", "bind_span_props", "share_key"])
def test_a_trace_function_that_fails_to_bind_costs_the_event_alone(failing: str) -> None:
    """A span that cannot be bound does nothing; the error is swallowed, and the block runs."""
    binding = Binding(Recorder(), failing)
    set_trace_function(binding)
    swarm, ran = Swarm(), []
    with swarm.tracer.span():
        ran.append(1)
    with swarm.tracer.span(a=1):
        ran.append(2)
    assert ran == [1, 2]
    assert swallowed_errors() == (2 if failing == "share_key" else 1)


def test_a_plain_trace_function_that_raises_is_swallowed() -> None:
    """A trace function that raises at the end of a span changes nothing for the application."""

    def broken(event: TraceEvent) -> None:
        raise LookupError(event)

    set_trace_function(broken)
    Swarm().connect()
    with pytest.raises(ValueError):  # noqa: PT011
        Swarm().connect(ValueError())
    assert swallowed_errors() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_trace_function_passes_on(error: type[BaseException]) -> None:
    """Exceptions that must end the program do so, wherever they are raised."""

    def interrupted(event: TraceEvent) -> None:
        raise error

    set_trace_function(interrupted)
    with pytest.raises(error):
        Swarm().connect()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_at_the_start_of_a_span_passes_on(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exceptions that must end the program also do so while a span is bound."""

    def interrupted(event: TraceEvent) -> None:
        raise error

    binding = Binding(Recorder(), "")
    monkeypatch.setattr(binding, "bind_span", interrupted)
    set_trace_function(binding)
    with pytest.raises(error):
        Swarm().tracer.span()


def test_a_trace_function_that_opens_spans_is_not_traced(events: list[Any]) -> None:
    """Spans of a trace function itself are dropped, so that it does not call itself."""
    swarm = Swarm()
    recorded = []

    def curious(event: TraceEvent) -> None:
        recorded.append(event)
        swarm.connect()

    set_trace_function(curious)
    swarm.connect()
    assert len(recorded) == 1


# --- several trace functions ----------------------------------------------------------------------


def test_several_trace_functions_get_each_span() -> None:
    """Whatever kinds of trace functions share the events, each gets each span once."""
    plain: list[TraceEvent] = []
    recorders = Recorder(), Recorder(keeps_durations=False)
    exporter = PrometheusExporter(collect_defaults=False)
    several: list[list[Any]] = [
        [Binding(recorders[0]), Binding(recorders[1]), exporter],
        [plain.append, Binding(recorders[0]), exporter],
    ]
    for functions in several:
        set_trace_function(fan_out(*functions))
        swarm = Swarm()
        swarm.connect()
        swarm.connect_to("b")
    assert [len(recorder.ended) for recorder in recorders] == [2, 2]
    assert len(plain) == 2
    assert _values(exporter, "function_in_progress") == [0, 0]
    assert _values(exporter, "function_counter_total") == [2, 2]


@pytest.mark.parametrize("failing", ["bind_span", "bind_span_props"])
@pytest.mark.parametrize("place", [0, 1])
def test_one_that_cannot_be_bound_does_not_stop_the_others(failing: str, place: int) -> None:
    """A trace function that fails to bind spans gets events, and the others their spans."""
    good, bad = Binding(Recorder()), Binding(Recorder(), failing)
    set_trace_function(fan_out(*([bad, good] if place == 0 else [good, bad])))
    swarm = Swarm()
    for _ in range(2):
        swarm.connect()
        swarm.connect_to("b")
    assert len(good.recorder.ended) == 4
    assert len(bad.recorder.ended) + len(bad.events) == 4
    assert swallowed_errors() > 0


# --- lifetime -------------------------------------------------------------------------------------


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def _run_each_kind(swarm: Swarm) -> None:
    swarm.connect()
    swarm.connect_to("b")
    with suppress(ValueError):
        swarm.fail()
    with swarm.tracer.span() as span, swarm.tracer.span("inner"):
        span.set(a=1)
        span.fail(ValueError())
    for function in (_function, _failing, _generator, _abandoned, _coroutine, _async_generator):
        with suppress(ValueError):
            function()


@traced
def _function() -> None:
    pass


@traced
def _failing() -> None:
    raise ValueError


@traced
def _numbers() -> Iterator[int]:
    yield 1
    raise ValueError


def _generator() -> None:
    list(_numbers())


def _abandoned() -> None:
    next(iter(_numbers()))


@traced
async def _failing_coroutine() -> None:
    raise ValueError


def _coroutine() -> None:
    _failing_coroutine().send(None)


@traced
async def _async_numbers() -> Any:
    yield 1
    raise ValueError


def _async_generator() -> None:
    running = _async_numbers()
    for _ in range(2):
        with suppress(StopIteration):
            anext(running).__await__().send(None)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("kind", ["plain", "exporter", "upstream", "object ids"])
def test_spans_leave_nothing_to_the_garbage_collector(kind: str) -> None:
    """Spans of every kind and ending are freed by reference counting, with objects and frames."""
    if kind == "plain":
        set_trace_function(lambda _: None)
    else:
        exporter = PrometheusExporter(
            collect_defaults=False, upstream=kind == "upstream", object_ids=kind == "object ids"
        )
        set_trace_function(exporter)
    _run_each_kind(Swarm())
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(1_000):
        swarm = Swarm()
        gone = weakref.ref(swarm)
        _run_each_kind(swarm)
        del swarm
        assert gone() is None
    gc.collect()
    ours = [
        thing
        for thing in gc.garbage
        if type(thing).__module__.startswith("hypertrace") or isinstance(thing, Swarm)
    ]
    assert ours == []
    assert len(gc.garbage) < 100


@pytest.mark.parametrize("form", ["by hand", "decorator"])
def test_a_span_that_ended_holds_nothing_of_those_around_it(form: str, events: list[Any]) -> None:
    """Tasks that start each other in spans hold no chain of spans."""
    tracer = Tracer("A")
    spans: list[weakref.ref[object]] = []
    alive: list[int] = []

    class Marker:
        """Stands in a span's props, and so lives as long as the span."""

    def marked(marker: object) -> object:
        spans.append(weakref.ref(marker))
        return marker

    async def by_hand(left: int, done: asyncio.Event) -> None:
        with tracer.span(marker=marked(Marker())):
            go_on(left, done)

    @traced(prop_from={"marker": "args.done.marker"})
    async def by_decorator(left: int, done: Any) -> None:
        go_on(left, done)

    def go_on(left: int, done: Any) -> None:
        events.clear()
        if left:
            done.marker = marked(Marker())
            task = asyncio.create_task(relay(left - 1, done))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            alive.append(sum(span() is not None for span in spans))
            done.set()

    relay = by_hand if form == "by hand" else by_decorator
    tasks: set[asyncio.Task[None]] = set()

    async def main() -> None:
        done = asyncio.Event()
        await relay(5_000, done)
        await done.wait()

    asyncio.run(main())
    assert len(spans) >= 5_000
    assert alive[0] <= 5


# --- misuse ---------------------------------------------------------------------------------------


def test_a_span_used_again_does_no_harm(events: list[Any]) -> None:
    """Used twice, or inside itself, a span raises nothing and stays in no reference cycle."""
    tracer = Tracer("A")
    span = tracer.span()
    for _ in range(2):
        with span:
            pass
    with span, tracer.span("between"), span:
        other, stray = _left_open(tracer), _left_open(tracer)
        contextvars.copy_context().run(next, stray)
        next(other)
        stray.close()
        span.__exit__(None, None, None)
        other.close()
    assert swallowed_errors() == 0
    with tracer.span("last"):
        pass
    assert events[-1].id == "last"


def _left_open(tracer: Tracer) -> Any:
    with tracer.span("left open"):
        yield


@pytest.mark.skipif(hypertrace.COMPILED, reason="the compiled core does not call _getframe()")
def test_a_span_outside_of_any_frame_is_reported_as_from_nowhere(events: list[Any]) -> None:
    """Where no Python code calls `span()` the place is unknown."""
    tracer = Tracer("A")

    def no_frame(depth: int) -> Any:
        raise ValueError("call stack is not deep enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hypertrace._tracer._getframe", no_frame)
        span = tracer.span()
    with span:
        pass
    assert events[0].caller.function_name == "<unknown>"


def test_representations_are_short(events: list[Any]) -> None:
    """An event's representation starts with how it ended and how long it took."""
    with suppress(ValueError):
        Swarm().connect(ValueError())
    Swarm().connect()
    failed, good = events
    assert repr(failed).startswith("SpanEvent(ValueError, 0.")
    assert repr(good).startswith("SpanEvent(ok, 0.")
    assert repr(Upstream("A", "f")) == "Upstream('A', 'f')"


def test_nothing_is_logged_in_good_times(
    events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Spans that are used as they should be log nothing."""
    caplog.set_level(logging.DEBUG, "hypertrace")
    _run_each_kind(Swarm())
    assert caplog.records == []
