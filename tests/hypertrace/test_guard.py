"""Suppression: events that tracing itself causes are dropped and counted, and no others."""

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

import hypertrace
from hypertrace import (
    Cell,
    PropsRecorder,
    Span,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    Upstream,
    _engines,
    _guard,
    dropped_events,
    fan_out,
    set_trace_function,
    suppress_tracing,
    swallowed_errors,
    traced,
)
from hypertrace.testing import reset

from .conftest import needs_fork


class Inner:
    """Events caused inside tracing, by each kind of call, bound before and not."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def run(self) -> None:
        self.tracer.trace()
        self.tracer.trace("id")
        self.tracer.trace(a="b")
        self.tracer.trace({"a": 1})
        with self.tracer.span():
            pass
        with self.tracer.span("id", a=1):
            pass
        self.work()

    @traced
    def work(self) -> None:
        """Do nothing."""

    CALLS = 7


class Recorder:
    """A recorder of spans, each method of which runs a given callable."""

    durations = None

    def __init__(self, counting: "Counting") -> None:
        self._counting = counting

    def start(self) -> None:
        self._counting.at("start")

    def end(self, event: SpanEvent) -> None:
        self._counting.at("end")

    def edge(self, upstream: Upstream) -> Callable[[], object]:
        self._counting.at("edge")
        return lambda: self._counting.at("count")

    def fold(self) -> None:
        self._counting.at("fold")


class Folding(Recorder):
    """Keeps durations in a list."""

    def __init__(self, counting: "Counting") -> None:
        super().__init__(counting)
        self.durations: list[float] = []  # type: ignore[assignment]

    def fold(self) -> None:
        self.durations.clear()
        super().fold()


class Counting:
    """Counts in cells, and runs a given callable in each method."""

    def __init__(self, where: str = "", run: Callable[[], object] = int) -> None:
        self.cell, self.known = Cell(), {}  # type: ignore[var-annotated]
        self.where, self.run = where, run
        self.runs = 0

    def at(self, place: str) -> None:
        if place == self.where:
            self.runs += 1
            self.run()

    def __call__(self, event: TraceEvent) -> None:
        self.at("call")
        self.cell.increment()

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        self.at("share_key")
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        self.at("bind")
        return self.cell.increment

    def bind_props(self, event: TraceEvent) -> Callable[[Any], object]:
        self.at("bind_props")
        return PropsRecorder(("a",), self.known, self._make).record

    def bind_span(self, event: TraceEvent) -> Any:
        self.at("bind_span")
        return (Folding if self.where == "fold" else Recorder)(self)

    def bind_span_props(self, event: TraceEvent) -> Callable[[Any], Any]:
        self.at("bind_span_props")
        return self._find

    def _find(self, props: object) -> Any:
        self.at("find")
        return Recorder(self)

    def _make(self, values: Any, props: Any) -> Callable[[], object]:
        self.at("make")
        for value in values:
            suppress_tracing(str, value)
        return self.cell.increment


class InPython(Counting):
    """Records in Python."""

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return lambda: self(event)

    def bind_props(self, event: TraceEvent) -> Callable[[Any], object]:
        return lambda _: self(event)


class Outer:
    """Events of the application: one of each kind, and one span inside another."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def run(self) -> None:
        self.tracer.trace()
        self.tracer.trace(a=object())
        with self.tracer.span(), self.tracer.span("id", a=1):
            pass
        for _ in range(150):
            with self.tracer.span("many"):
                pass


def _plain(counting: Counting) -> Any:
    return counting.__call__


DROPPING = ("call", "start", "count")
"""Where a trace function is not expected to create anything: all that it traces is dropped."""

NESTING = (
    "share_key",
    "bind",
    "bind_props",
    "bind_span",
    "bind_span_props",
    "find",
    "make",
    "end",
    "edge",
    "fold",
)
"""Methods that may create objects; events of finalizers and signal handlers there are recorded."""

PLACES = (*DROPPING, *NESTING)


@pytest.mark.parametrize("where", DROPPING)
def test_what_a_trace_function_traces_is_dropped(where: str) -> None:
    """Events of a recorder, in each kind of call, bound before or not, are dropped and counted."""
    counting = (InPython if where == "call" else Counting)()
    set_trace_function(counting)
    inner = Inner()
    inner.run()  # some of it is bound by now, some not
    counting.where, counting.run = where, inner.run
    assert dropped_events() == 0
    Outer().run()
    assert counting.runs > 0
    assert dropped_events() == counting.runs * Inner.CALLS
    assert swallowed_errors() == 0


@pytest.mark.parametrize("where", NESTING)
def test_a_trace_function_that_traces_while_it_binds_ends(where: str) -> None:
    """Where a trace function traces itself for ever, that ends at a small depth, and is counted."""
    counting = Counting()
    set_trace_function(counting)
    Inner().run()
    made: list[Inner] = []

    def run() -> None:
        made.append(Inner())
        made[-1].tracer.trace(str(len(made)))
        made[-1].tracer.trace(str(len(made)), a=len(made))
        with made[-1].tracer.span(str(len(made))):
            pass
        with made[-1].tracer.span(str(len(made)), a=len(made)):
            pass

    counting.where, counting.run = where, run
    tracer = Tracer("outer")
    tracer.trace("id")
    tracer.trace("id", a=5)
    with tracer.span(), tracer.span("id"), tracer.span("id", a=1):
        pass
    if where == "fold":
        for _ in range(200):
            with tracer.span("many"):
                pass
    assert counting.runs > 0
    assert swallowed_errors() == 0
    assert (dropped_events() > 0) == (where != "fold")  # which is called again much later
    assert counting.runs < 100
    assert _guard.active_suppressions == []


def test_what_is_bound_already_ends_as_well() -> None:
    """A trace function that traces without end through a bound recorder is stopped."""
    counting = Counting()
    set_trace_function(counting)
    tracer = Tracer("a")

    def run() -> None:
        tracer.trace(a=object())

    run()
    counting.where, counting.run = "make", run
    run()
    assert counting.runs == _guard.MAX_DEPTH
    assert dropped_events() == 1
    assert swallowed_errors() == 0


def test_a_recorder_that_never_folds_ends_as_well() -> None:
    """A buffer that stays full, and gets spans while it is folded, is no endless loop."""
    counting = Counting("fold")
    set_trace_function(counting)
    tracer = Tracer("a")
    full = [0.0] * 1_000
    recorder = Folding(counting)
    recorder.durations = full
    recorder.fold = lambda: counting.at("fold")  # type: ignore[method-assign]
    counting.bind_span = lambda event: recorder  # type: ignore[method-assign]

    def run() -> None:
        with tracer.span():
            pass

    run()
    counting.run = run
    run()
    assert counting.runs == 1 + _guard.MAX_DEPTH
    assert dropped_events() == 1
    assert swallowed_errors() == 0


def test_a_signal_or_finalizer_while_binding_is_recorded() -> None:
    """Events during the binding of a call site are counted, unless they recurse without end."""
    counting = Counting()
    set_trace_function(counting)
    finalizer = Tracer("finalizer")
    runs = 0

    def run() -> None:
        nonlocal runs
        counting.where = ""
        runs += 1
        finalizer.trace()
        finalizer.trace(str(runs))

    counting.run = run
    for where in NESTING:
        set_trace_function(counting)
        counting.where = where
        before = counting.cell.value
        Outer().run()
        assert counting.cell.value == before + 2 + 2
    assert runs == len(NESTING)
    assert dropped_events() == 0


@pytest.mark.parametrize("wrap", [_plain, lambda c: fan_out(c.__call__, c.__call__), fan_out])
def test_events_of_the_application_are_all_counted(wrap: Callable[[Counting], Any]) -> None:
    """A trace function that traces gets each event of the application, and no other."""
    counting = InPython("call")
    counting.run = Inner.run.__get__(Inner)  # replaced below, when objects can be made
    set_trace_function(wrap(counting))
    counting.run = Inner().run
    tracer = Tracer("outer")
    for _ in range(10):
        tracer.trace()
        tracer.trace(a="b")
        if wrap is not fan_out:  # then it has recorders for spans
            with tracer.span():
                pass
    calls = counting.runs
    assert calls in {20, 30, 60}
    assert counting.cell.value == calls
    assert dropped_events() == calls * Inner.CALLS


def test_what_is_suppressed_is_dropped() -> None:
    """A trace function that runs code of the application may say so: what that traces is dropped.

    Such as values of props, whose `__hash__` and `__eq__` are not even asked.
    """

    class Value:
        def __init__(self) -> None:
            self.inner = Inner()

        def __str__(self) -> str:
            self.inner.run()
            return "value"

        def __hash__(self) -> int:
            self.inner.run()
            return 1

        def __eq__(self, other: object) -> bool:
            self.inner.run()
            return True

    counting = Counting()
    set_trace_function(counting)
    tracer, value = Tracer("outer"), Value()
    value.inner.run()
    before = counting.cell.value
    for _ in range(3):
        tracer.trace(a=value)
        tracer.trace({"a": value})
    assert counting.cell.value == before + 6
    assert dropped_events() == 6 * Inner.CALLS


def test_what_a_mapping_traces_is_dropped() -> None:
    """A mapping that traces while it is read does not count that, nor call itself for ever."""

    class Traced(dict[str, object]):
        def __init__(self) -> None:
            super().__init__(a=1)
            self.tracer = Tracer(self, {"topic": "a"})
            self.tracer = Tracer(self, self)

        def __getitem__(self, key: str) -> object:
            self.tracer.trace(self)
            return super().__getitem__(key)

        def keys(self) -> Any:
            self.tracer.trace(self)
            return super().keys()

        def __iter__(self) -> Iterator[str]:
            self.tracer.trace(self)
            return super().__iter__()

    counting = Counting()
    set_trace_function(counting)
    mapping = Traced()
    made = dropped_events()
    assert made > 0
    mapping.tracer.trace(mapping)
    with mapping.tracer.span() as span:
        span.set(mapping)
    assert counting.cell.value == 1
    assert dropped_events() > made
    assert swallowed_errors() == 0


def test_what_prop_paths_trace_is_dropped() -> None:
    """A traced property that `prop_from` asks for counts only what the application asks."""

    class Peer:
        @property
        @traced
        def host(self) -> str:
            return "here"

    @traced(prop_from={"host": "args.peer.host", "result": "result.host"})
    def connect(peer: Peer) -> Peer:
        return peer

    events: list[TraceEvent] = []
    set_trace_function(events.append)
    connect(Peer())
    assert [event.object.class_name for event in events] == [__name__]
    assert events[0].caller.props == {"host": "here", "result": "here"}
    assert dropped_events() == 2


def test_a_traced_log_handler_gets_the_log_of_an_error() -> None:
    """The line about a swallowed error goes through a traced handler without end."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.tracer = Tracer(self)

        def emit(self, record: logging.LogRecord) -> None:
            self.tracer.trace()
            lines.append(record.getMessage())

    def fail(event: TraceEvent) -> None:
        raise LookupError

    set_trace_function(fail)
    logger, handler = logging.getLogger("hypertrace"), Handler()
    logger.addHandler(handler)
    try:
        Tracer("a").trace()
        Tracer("a").trace("id", 7)  # type: ignore[arg-type]
        Tracer("early")
    finally:
        logger.removeHandler(handler)
    assert len(lines) == 2
    assert dropped_events() == 2
    assert swallowed_errors() == 2


def test_other_threads_are_recorded_through_what_is_bound() -> None:
    """While one thread is inside tracing, what others trace is counted, bound before or not."""
    counting = Counting()
    set_trace_function(counting)
    inner = Inner()
    inner.tracer.trace()

    def run_in_a_thread() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def work() -> None:
        for _ in range(5):
            inner.tracer.trace()

    suppress_tracing(run_in_a_thread)
    assert counting.cell.value == 6
    assert dropped_events() == 0
    suppress_tracing(work)
    assert counting.cell.value == 6
    assert dropped_events() == 5


@needs_fork
def test_a_child_process_is_not_inside_what_other_threads_were() -> None:
    """In a fork nothing is left of the threads that were inside tracing."""
    inside, done = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        done.wait(timeout=60)

    thread = threading.Thread(target=suppress_tracing, args=(_guard.limit_recursion, wait))
    thread.start()
    inside.wait(timeout=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which is the point
        pid = os.fork()
    if pid == 0:
        os._exit(len(_guard.active_suppressions) + len(_guard._recursions))
    _, status = os.waitpid(pid, 0)
    left = len(_guard.active_suppressions), len(_guard._recursions)
    done.set()
    thread.join()
    assert (status, left) == (0, (1, 1))


def test_suppress_tracing_has_a_former_name() -> None:
    """`hypertrace.untraced` still is `hypertrace.suppress_tracing`."""
    assert hypertrace.untraced is hypertrace.suppress_tracing


def test_suppress_tracing_is_transparent() -> None:
    """The result of the function is returned, and its exceptions propagate."""
    assert suppress_tracing(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        suppress_tracing(divmod, 7, 0)
    assert _guard.active_suppressions == []


def test_tasks_that_tracing_starts_are_its_own_doing() -> None:
    """Events of a task that a recorder started are dropped; those of other tasks are recorded."""
    counting = InPython("call")
    tasks = set()

    def trace() -> None:
        shipping.trace()
        shipping.trace(a="b")

    async def ship() -> None:
        await asyncio.sleep(0)
        trace()
        Tracer("shipping").trace()

    async def work() -> None:
        tracer = Tracer("work")
        for _ in range(5):
            tracer.trace()
            await asyncio.sleep(0)

    async def run() -> None:
        counting.run = lambda: tasks.add(asyncio.create_task(ship()))
        await asyncio.gather(work(), work())
        await asyncio.gather(*tasks)

    set_trace_function(counting)
    shipping = Tracer("shipping")
    trace()  # binds it
    asyncio.run(run())
    assert counting.cell.value == 12
    assert dropped_events() == 30


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, OSError])
@pytest.mark.parametrize("where", PLACES)
def test_nothing_stays_set_after_an_error(where: str, error: type[BaseException]) -> None:
    """Whatever ends a trace function, the next events are recorded, and no span stays open."""

    def fail() -> None:
        raise error

    logging.getLogger("hypertrace").disabled = True
    try:
        counting = (InPython if where == "call" else Counting)(where, fail)
        set_trace_function(counting)
        for _ in range(3):
            try:
                Outer().run()
            except (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
                assert error is not OSError
    finally:
        logging.getLogger("hypertrace").disabled = False
    assert counting.runs > 0
    assert _guard.active_suppressions == []
    assert _guard._recursions == {}
    assert not _guard._is_suppressed.get()
    assert (swallowed_errors() > 0) == (error is OSError)
    uppers: list[object] = []
    set_trace_function(lambda event: uppers.append(getattr(event, "upstream", 0)))
    tracer = Tracer("after")
    tracer.trace()
    with tracer.span():
        pass
    assert uppers == [0, None]
    assert dropped_events() == 0


def test_a_span_that_is_dropped_does_nothing() -> None:
    """Inside tracing a span is the one that does nothing, whatever it is asked."""
    counting = Counting()
    set_trace_function(counting)
    tracer = Tracer("inner")

    def run() -> Span:
        with tracer.span() as span:
            span.set(a=1)
            span.fail()
        return span

    assert suppress_tracing(run) is suppress_tracing(tracer.span) is not run()
    assert dropped_events() == 2


def test_generators_that_are_resumed_inside_tracing_end_well() -> None:
    """A span that started outside ends where it ends: start and end belong together."""
    places: list[str] = []

    class Balanced(Counting):
        def at(self, place: str) -> None:
            if place in {"start", "end"}:
                places.append(place)
            super().at(place)

    @traced
    def numbers() -> Iterator[int]:
        yield 1

    counting = Balanced()
    set_trace_function(counting)
    outside, fresh = numbers(), numbers()
    next(outside)
    suppress_tracing(lambda: (list(outside), list(fresh)))
    # Traced where it is, the other one begins with its first step, and so inside.
    spans = 2 if _engines.name == "closures" else 1
    assert sorted(places) == ["end"] * spans + ["start"] * spans
    assert dropped_events() == 2 - spans


def test_a_copied_context_stays_inside() -> None:
    """Code in a copy of the context is inside the span as long as it runs there."""
    events: list[TraceEvent] = []
    contexts = []

    def function(event: TraceEvent) -> None:
        events.append(event)
        contexts.append(copy_context())

    set_trace_function(function)
    tracer = Tracer("a")
    tracer.trace()
    contexts[0].run(tracer.trace)
    tracer.trace()
    assert len(events) == 2
    assert dropped_events() == 1


def test_reset_counts_from_zero() -> None:
    """After a reset nothing was dropped."""
    tracers: list[Tracer] = []
    set_trace_function(lambda _: tracers[0].trace())
    tracers.append(Tracer("a"))
    tracers[0].trace()
    assert dropped_events() == 1
    reset()
    assert dropped_events() == 0
