"""Engines that trace functions where they are: what they set in the interpreter and leave there."""

from __future__ import annotations

import gc
import os
import sys
import threading
import types
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import (
    _compiled,
    _engines,
    clear_trace_function,
    instrument,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace._callables import trace_callable
from hypertrace._endings import ErrorRules
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events

from ..running import in_threads
from .conftest import needs_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace import SpanEvent

pytestmark = pytest.mark.skipif(
    _engines.name == "closures", reason="closures replace a function: see docs/traced.md"
)
needs_monitoring = pytest.mark.skipif(
    _engines.name != "monitoring", reason="sets no events in the interpreter"
)

core: Any = _compiled.speedups
monitoring: Any = getattr(sys, "monitoring", None)
OPTIONS: dict[str, Any] = {"id": None, "props": None, "prop_from": None, "rules": ErrorRules()}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    gc.collect()
    before = core.traced_count()
    yield
    gc.collect()
    assert (core.open_calls(), core.traced_count()) == (0, before)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


def tool() -> int:
    """Return the id that the engine has among the tools of the interpreter."""
    return next(number for number in range(6) if monitoring.get_tool(number) == "hypertrace")


def events_of(function: Any) -> int:
    """Return the events that are set for the code of a function."""
    return int(monitoring.get_local_events(tool(), function.__code__))


def make() -> Callable[[], str]:
    """Return a function that has its code in common with all others from here."""

    def made() -> str:
        return "made"

    return made


# --- events -----------------------------------------------------------------------------------


@needs_monitoring
def test_events_are_set_while_there_is_a_trace_function() -> None:
    """Switched off, a traced function has no events, and the interpreter none for all code."""
    function = traced(make())
    assert events_of(function) == 0
    with capture_events() as events:
        assert events_of(function) != 0
        assert (monitoring.get_events(tool()) != 0) is (sys.version_info < (3, 15))
        function()
        clear_trace_function()
        assert (events_of(function), monitoring.get_events(tool())) == (0, 0)
    assert len(events) == 1


@needs_monitoring
def test_events_stay_until_the_calls_that_run_have_ended(events: list[Any]) -> None:
    """A call that runs when tracing is switched off, or undone, is a span; then no event is set."""

    def calls(end: Callable[[], object]) -> str:
        end()
        return "done" if events_of(calls) != 0 else "without events"

    def steps(end: Callable[[], object]) -> Iterator[int]:
        yield 1
        end()
        yield 2

    for function in (calls, steps):
        for number in range(2):
            undo = trace_callable(function, OPTIONS).undo
            set_trace_function(events.append)
            result = function(clear_trace_function if number else undo)
            assert result == "done" if function is calls else list(result) == [1, 2]
            assert events_of(function) == 0
            undo()
    assert [event.result for event in events] == ["ok"] * 4


@needs_monitoring
def test_without_a_free_tool_id_closures_trace() -> None:
    """Where other tools have taken all ids, a function is replaced, and counts all the same."""
    program = """
import sys
from hypertrace import traced
from hypertrace.testing import capture_events
for number in range(6):
    sys.monitoring.use_tool_id(number, f"tool {number}")
def function(): return 1
with capture_events() as events:
    it = traced(function)
    assert it is not function and it() == 1
    assert len(events) == 1
"""
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", program) == 0


# --- functions that share their code ----------------------------------------------------------


def test_functions_made_again_and_again_leave_nothing(events: list[Any]) -> None:
    """A closure that is decorated at each call of its maker counts, and is forgotten with it."""
    before = core.traced_count()
    for number in range(100):
        function = traced(str(number))(make())
        function()
        assert core.traced_count() == before + 1
    assert [event.id for event in events] == [str(number) for number in range(100)]


def test_siblings_that_are_alive_are_distinguished(events: list[SpanEvent]) -> None:
    """Of many functions with one code each counts under its own id, and the others not at all."""
    functions = [make() for _ in range(60)]
    for number, function in enumerate(functions):
        if number % 3:
            traced(str(number))(function)
    for function in functions:
        function()
    assert [event.id for event in events] == [str(number) for number in range(60) if number % 3]
    del functions[::2], function
    gc.collect()
    events.clear()
    for function in functions:
        function()
    left = [str(number) for number in range(1, 60, 2) if number % 3]
    assert [event.id for event in events] == left


def test_new_code_is_traced_as_the_old(events: list[SpanEvent]) -> None:
    """A function whose code is set later, as `types.coroutine` does, stays traced until `undo`."""

    def steps() -> Iterator[int]:
        yield 1

    undo = trace_callable(steps, OPTIONS).undo
    awaitable: Any = types.coroutine(steps)
    assert awaitable is steps
    assert list(steps()) == [1]
    undo()
    assert list(steps()) == [1]
    assert len(events) == 1


@needs_monitoring
def test_a_function_that_gets_other_code_while_it_runs(events: list[SpanEvent]) -> None:
    """The call that runs ends as a span, the next ones run the new code, and are spans, too."""

    def function(then: Callable[[], object]) -> str:
        then()
        return "old"

    def other(then: Callable[[], object]) -> str:
        return "new"

    def set_code(code: Any) -> None:
        function.__code__ = code

    old = function.__code__
    change = partial(set_code, other.__code__)
    undo = trace_callable(function, OPTIONS).undo
    assert [function(change), function(change)] == ["old", "new"]
    set_code(old)
    assert function(change) == "old"
    assert len(events) == 3
    undo()
    assert (function(change), len(events), events_of(function)) == ("new", 3, 0)


# --- undo -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_last_undo_counts(order: tuple[int, ...], events: list[Any]) -> None:
    """Undone in any order, a function stays traced for those that still want it."""
    function = make()
    undo = [trace_callable(function, OPTIONS).undo for _ in range(3)]
    for number in order:
        function()
        undo[number]()
        undo[number]()
    function()
    assert len(events) == 3


def test_an_inherited_method_of_several_classes(events: list[SpanEvent]) -> None:
    """The classes that inherit a method are traced each by itself, in any order."""

    class Base:
        def run(self) -> None:
            pass

        @classmethod
        def make(cls) -> None:
            pass

    class One(Base):
        pass

    class Two(Base):
        pass

    class Three(One):
        pass

    def counted() -> list[str]:
        events.clear()
        for cls in (Base, One, Two, Three):
            cls().run()
            cls.make()
        return [event.object.class_name for event in events]

    def trace(cls: type) -> list[Callable[[], None]]:
        values = [Base.run, vars(Base)["make"]]
        return [trace_callable(value, OPTIONS, within=cls).undo for value in values]

    one = trace(One)
    assert counted() == ["One", "One", "Three", "Three"]
    two = trace(Two)
    assert counted() == ["One", "One", "Two", "Two", "Three", "Three"]
    for undo in one:
        undo()
    assert counted() == ["Two", "Two"]
    for undo in two:
        undo()
    assert counted() == []


# --- the trace function -----------------------------------------------------------------------


def test_strict_errors_are_raised_by_the_traced_call() -> None:
    """In strict mode the caller of a traced function gets the error of the trace function."""

    def fails(event: object) -> None:
        raise LookupError("strict")

    function = make()
    undo = trace_callable(function, OPTIONS).undo
    set_trace_function(fails, strict=True)
    with pytest.raises(LookupError, match="strict"):
        function()
    set_trace_function(fails)
    assert function() == "made"
    assert swallowed_errors() == 1
    undo()  # a log record may refer to the function


def test_a_debugger_sees_the_trace_function() -> None:
    """Code that a trace function runs is seen by `sys.settrace`, as all other code is."""
    seen: list[str] = []

    def trace_function(event: object) -> None:
        pass

    def debug(frame: types.FrameType, event: str, _: object) -> None:
        seen.append(frame.f_code.co_name)

    function = traced(make())
    set_trace_function(trace_function)
    before = sys.gettrace()
    sys.settrace(debug)
    try:
        function()
    finally:
        sys.settrace(before)
    assert {"made", "trace_function"} <= set(seen)


def test_generators_count_their_times_without_an_event() -> None:
    """Metrics that do not look at `busy` get the duration of a generator as that of a function."""
    metrics = Metrics()
    set_trace_function(metrics)

    @traced
    def steps() -> Iterator[int]:
        yield from range(3)

    for _ in range(300):
        assert list(steps()) == [0, 1, 2]
    points = metrics.read().family("function_duration_seconds").points
    assert [point.value.count for point in points if point.value.count] == [300]  # type: ignore[union-attr]


# --- threads and processes --------------------------------------------------------------------


def test_switched_200_times_against_hot_threads() -> None:
    """Whatever is switched while functions and generators run: nothing is left open, or lost."""
    running = True

    @traced
    def function() -> int:
        return sum(steps())

    @traced
    def steps() -> Iterator[int]:
        yield from range(3)

    other = make()

    def work() -> None:
        while running:
            assert function() == 3
            assert other() == "made"

    def switch() -> None:
        nonlocal running
        try:
            for _ in range(200):
                with capture_events() as events:
                    undo = trace_callable(other, OPTIONS).undo
                    function()
                    assert events
                undo()
        finally:
            running = False

    in_threads(work, work, work, switch)
    assert swallowed_errors() == 0


@needs_fork
def test_a_child_forgets_the_calls_of_other_threads(events: list[Any]) -> None:
    """In a forked child only the calls of the thread that forked are open, and end."""
    inside, leave = threading.Event(), threading.Event()

    @traced
    def waits() -> None:
        inside.set()
        leave.wait()

    @traced
    def forks() -> int:
        child = os.fork()
        if child == 0:
            os._exit(core.open_calls())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    thread = threading.Thread(target=waits)
    thread.start()
    inside.wait()
    try:
        assert forks() == 1
    finally:
        leave.set()
        thread.join()
    assert len(events) == 2


def test_a_package_is_traced_and_undone_in_place() -> None:
    """`instrument` leaves the functions where they are, and nothing behind."""
    import json.encoder  # noqa: PLC0415

    before = dict(vars(json.encoder.JSONEncoder))
    handle = instrument("json.encoder:JSONEncoder.*")
    assert dict(vars(json.encoder.JSONEncoder)) == before
    with capture_events() as events:
        json.dumps({"a": [1]}, indent=1)
        handle.undo()
        json.dumps({"a": [1]}, indent=1)
    assert len(events) == 2
    assert dict(vars(json.encoder.JSONEncoder)) == before


def test_calls_by_c_code_are_spans(events: list[SpanEvent]) -> None:
    """Calls of a traced function by C code, such as `map` and `sorted`, are spans as any other."""
    function = traced(lambda value: -value)
    assert sorted(map(function, [1, 3, 2])) == [-3, -2, -1]
    assert sorted([1, 3, 2], key=function) == [3, 2, 1]
    assert [partial(function, 1)(), min([1, 2], key=function)] == [-1, 2]
    assert len(events) == 9
