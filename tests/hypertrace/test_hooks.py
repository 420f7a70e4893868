"""Functions that are traced by rewritten bytecode: whose code it is, and for how long."""

import asyncio
import copyreg
import gc
import pickle
import sys
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest

from hypertrace import _callables, _compiled, _engines, set_trace_function, traced
from hypertrace._endings import ErrorRules
from hypertrace.testing import capture_events

core: Any = _compiled.speedups

pytestmark = pytest.mark.skipif(
    _engines.name != "bytecode", reason="rewrites the bytecode of CPython 3.11, in C"
)

OPTIONS = {"id": None, "props": None, "prop_from": None, "rules": ErrorRules()}


@pytest.fixture
def left() -> Callable[[], int]:
    """Give a function that counts the functions that this test has traced and not undone."""
    gc.collect()
    before = core.traced_count()
    return lambda: int(core.traced_count() - before)


@pytest.fixture
def names() -> Iterator[Callable[[], list[str]]]:
    """Give a function that lists the names of the functions that had a span."""
    with capture_events() as events:
        yield lambda: [event.caller.function_name.rpartition(".")[2] for event in events]


def _trace(function: Any, within: type | None = None) -> Callable[[], None]:
    made = _callables.trace_callable(function, OPTIONS, within=within)
    assert made.value is function
    return made.undo


def _plain() -> Any:
    def plain(x: object = 1) -> object:
        return x

    return plain


def test_undone_a_function_has_its_code_again(names: Any, left: Any) -> None:
    """The code of a function is the same object as before once all that traced it is undone."""
    function = _plain()
    code = function.__code__
    first, second = _trace(function), _trace(function)
    first()
    first()
    assert function.__code__ is not code
    function()
    second()
    assert function.__code__ is code
    function()
    assert names() == ["plain"]
    assert left() == 0


def test_code_of_others_stays(names: Any) -> None:
    """Code that was given to a traced function meanwhile stays when the tracing is undone."""
    function, code = _plain(), (lambda: 7).__code__
    undo = _trace(function)
    function.__code__ = code
    assert function() == 7
    undo()
    assert function.__code__ is code
    assert names() == []


def test_derived_code_is_traced_until_it_is_undone(names: Any) -> None:
    """Code made of rewritten code, as by `types.coroutine`, is traced, and stays."""

    def steps() -> Iterator[int]:
        yield 1

    undo = _trace(steps)
    made = types.coroutine(steps)
    assert made is steps
    assert list(steps()) == [1]
    code = steps.__code__
    undo()
    assert steps.__code__ is code
    assert list(steps()) == [1]
    assert names() == ["steps"]
    undo = _trace(steps)
    assert list(steps()) == [1]
    undo()
    assert names() == ["steps", "steps"]


def test_a_copy_is_another_function(names: Any) -> None:
    """A copy of a traced function is not traced; traced itself, it has the code of the original."""
    function = _plain()
    code = function.__code__
    undo = _trace(function)
    copied = types.FunctionType(function.__code__, {}, "copied", (2,))
    assert copied() == 2
    assert names() == []
    undo_copied = _trace(copied)
    undo()
    assert (function(), copied()) == (1, 2)
    assert len(names()) == 1
    undo_copied()
    assert function.__code__ is copied.__code__ is code


def test_code_that_is_loaded_elsewhere_does_the_same(names: Any) -> None:
    """Rewritten code can be pickled by its parts for another process; it is not traced there."""
    function = _plain()
    undo = _trace(function)
    parts = function.__code__.replace, {"co_consts": function.__code__.co_consts}
    assert copyreg.dispatch_table.get(types.CodeType) is None
    constants = pickle.loads(pickle.dumps(parts[1]))["co_consts"]
    function.__code__ = function.__code__.replace(co_consts=constants)
    assert function(3) == 3
    undo()
    assert names() == []
    with pytest.raises(TypeError, match="have no items"):
        constants[-1][1] = 2


def test_inherited_methods_are_separate(names: Any, left: Any) -> None:
    """A method that several classes inherit is traced for those that were asked for."""

    class Base:
        def method(self) -> str:
            return type(self).__name__

    class First(Base):
        pass

    class Second(Base):
        pass

    function = Base.method
    undo_first, undo_second = _trace(function, First), _trace(function, Second)
    for one in (Base(), First(), Second()):
        one.method()
    assert len(names()) == 2
    undo_first()
    for one in (Base(), First(), Second()):
        one.method()
    assert len(names()) == 3
    undo_second()
    assert left() == 0


def test_nothing_is_left_of_a_function_that_dies(left: Any) -> None:
    """A traced function dies with its last reference, without the collector, and leaves nothing."""
    gc.collect()
    gc.disable()
    try:
        function = traced(_plain())
        code, reference = function.__code__, weakref.ref(function)
        del function
        assert reference() is None
        assert left() == 1, "of the code, which is still there"
        del code
        assert left() == 0
    finally:
        gc.enable()


def test_what_cannot_be_rewritten_is_replaced(names: Any) -> None:
    """A function with bytecode that no compiler makes gets a wrapper."""
    function = _plain()
    code = function.__code__
    function.__code__ = code.replace(co_code=code.co_code + bytes([144, 1]))
    wrapper = traced(function)
    assert wrapper is not function
    assert wrapper(4) == 4
    assert names() == ["plain"]


def test_calls_that_run_end_after_the_undo(names: Any) -> None:
    """A generator that began before the undo ends its span; one that begins later has none."""

    def steps() -> Iterator[int]:
        yield 1
        yield 2

    undo = _trace(steps)
    began = steps()
    next(began)
    later = steps()
    undo()
    assert (list(began), list(later)) == ([2], [1, 2])
    assert names() == ["steps"]
    assert core.open_calls() == 0


def _stubborn() -> Iterator[int]:
    while True:
        with suppress(GeneratorExit):
            yield 1


async def _astubborn() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await asyncio.sleep(0)


async def _waiting() -> None:
    try:
        await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["dropped", "closed", "in a cycle"])
@pytest.mark.parametrize("function", [_stubborn, _astubborn, _waiting])
def test_what_does_not_end_when_it_is_closed_ends_when_it_dies(
    function: Any, how: str, names: Any
) -> None:
    """A generator that yields when it is closed has one span, which ends when it is freed."""
    undo = _trace(function)
    made: Any = function()
    is_asynchronous = hasattr(made, "asend")
    with suppress(StopIteration):
        (made.asend(None) if is_asynchronous else made).send(None)
    if how == "closed" and is_asynchronous:
        made.aclose().send(None)
        assert names() == []
    elif how == "closed":
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            made.close()
        assert names() == []
    if how == "in a cycle":
        cycle = [made]
        cycle.append(cycle)
        del cycle
    del made
    gc.collect()
    assert names() == [function.__name__]
    assert core.open_calls() == 0
    undo()


def test_a_generator_that_may_not_raise_fails() -> None:
    """`StopIteration` that leaves a generator is the error that the interpreter makes of it."""

    @traced
    def steps() -> Iterator[int]:
        yield 1
        next(iter([]))

    message = "generator raised StopIteration"
    with capture_events() as events, pytest.raises(RuntimeError, match=message) as raised:
        list(steps())
    assert [(event.result, event.exception) for event in cast("list[Any]", events)] == [
        ("error", RuntimeError)
    ]
    assert [frame.name for frame in raised.traceback] == [sys._getframe().f_code.co_name]


def test_hot_functions_are_traced_and_undone(left: Any) -> None:
    """Threads that call a function see no difference while it is traced and undone."""
    function = _plain()
    stop, wrong = threading.Event(), []

    def run() -> None:
        i = 0
        while not stop.is_set():
            i += 1
            if function(i) != i:
                wrong.append(i)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    counted: list[object] = []
    set_trace_function(counted.append)
    for _ in range(200):
        undo = _trace(function)
        stop.wait(0.001)
        undo()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert counted
    assert (core.open_calls(), left()) == (0, 0)
