"""Functions of `prop_from`: props that are found by the application's own functions of a call."""

from __future__ import annotations

import asyncio
import gc
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

import hypertrace
from hypertrace import TracedCall, Tracer, instrument, set_trace_function, traced
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as found:
        yield found


def test_every_kind_of_argument(events: list[Any]) -> None:
    """Arguments have the names of their parameters, defaults and collected ones included."""
    seen: list[dict[str, Any]] = []

    def size(call: TracedCall) -> int:
        seen.append(dict(call.args))
        return len(call.args)

    @traced(prop_from={"n": size})
    def work(a: int, /, b: int, *rest: int, c: int = 5, **others: int) -> None: ...

    work(1, 2, 3, 4, d=6)
    work(1, b=2, c=3)
    assert seen == [
        {"a": 1, "b": 2, "rest": (3, 4), "c": 5, "others": {"d": 6}},
        {"a": 1, "b": 2, "rest": (), "c": 3, "others": {}},
    ]
    assert [event.caller.props for event in events] == [{"n": 5}, {"n": 5}]


def test_arguments_and_result(events: list[Any]) -> None:
    """A function that asks for the result gets it at the end, together with the arguments."""
    calls: list[str] = []

    def size(call: TracedCall) -> Any:
        calls.append("size")
        return call.args["name"], len(call.result)

    @traced(
        props={"fixed": 1}, prop_from={"first": lambda call: call.args["name"][0], "size": size}
    )
    def work(name: str) -> str:
        calls.append("work")
        return 2 * name

    for name in ("ab", "xyz"):
        work(name)
    assert [event.caller.props for event in events] == [
        {"fixed": 1, "first": "a", "size": ("ab", 4)},
        {"fixed": 1, "first": "x", "size": ("xyz", 6)},
    ]
    assert calls == ["size", "work", "size", "work", "size"]  # once it is known, at the end only


def test_a_function_that_catches_what_it_should_not(events: list[Any]) -> None:
    """One that handles the error of a missing result is called again all the same."""

    def guarded(call: TracedCall) -> Any:
        try:
            return call.result
        except Exception:  # noqa: BLE001
            return "none"

    traced(prop_from={"result": guarded})(lambda: 7)()
    assert [event.caller.props for event in events] == [{"result": 7}]


@pytest.mark.parametrize("error", [KeyError(), AttributeError(), ZeroDivisionError()])
def test_what_a_function_raises_is_swallowed(error: Exception, events: list[Any]) -> None:
    """The prop is left out, the others stay, and the error is counted and logged."""
    tracer = Tracer("Shop")

    def broken(_: TracedCall) -> None:
        tracer.trace()
        raise error

    def broken_at_the_end(call: TracedCall) -> None:
        raise type(error)(call.result)

    sources = {"broken": broken, "later": broken_at_the_end, "good": lambda _: 1}
    assert traced(prop_from=sources)(lambda: 2)() == 2
    assert [event.caller.props for event in events] == [{"good": 1}]
    assert hypertrace.swallowed_errors() == 2
    assert hypertrace.dropped_events() == 1


def test_a_call_that_fails_has_the_props_of_its_arguments(events: list[Any]) -> None:
    """Without a result, those that need it are left out."""

    @traced(prop_from={"a": lambda call: call.args["a"], "r": lambda call: call.result})
    def work(a: int) -> None:
        raise KeyError

    for number in (1, 2):
        with suppress(KeyError):
            work(number)
    assert [event.caller.props for event in events] == [{"a": 1}, {"a": 2}]
    assert hypertrace.swallowed_errors() == 0


def test_every_kind_of_callable(events: list[Any]) -> None:
    """Methods, coroutines, generators and callables in C have the same arguments and results."""
    sources = {
        "a": lambda call: call.args["a"],
        "r": lambda call: (call.args["a"], call.result),
    }

    @traced(prop_from=sources)
    class Subject:
        def method(self, a: int) -> int:
            return a

        @staticmethod
        def static(a: int) -> int:
            return a

        @classmethod
        def of_class(cls, a: int) -> int:
            return a

        async def coroutine(self, a: int) -> int:
            await asyncio.sleep(0)
            return a

        def generator(self, a: int) -> Generator[int, None, int]:
            yield 1
            return a

    subject = Subject()
    subject.method(3)
    subject.static(a=3)
    subject.of_class(3)
    asyncio.run(subject.coroutine(3))
    list(subject.generator(3))
    assert [event.caller.props for event in events] == [{"a": 3, "r": (3, 3)}] * 5


def test_an_asynchronous_generator_has_no_result(events: list[Any]) -> None:
    """Props that need one are left out."""

    @traced(prop_from={"a": lambda call: call.args["a"], "r": lambda call: call.result})
    async def numbers(a: int) -> AsyncIterator[int]:
        yield a

    async def run() -> list[int]:
        return [number async for number in numbers(2)]

    assert asyncio.run(run()) == [2]
    assert [event.caller.props for event in events] == [{"a": 2}]


def test_functions_in_c(events: list[Any]) -> None:
    """Where a function has no signature, arguments are found by their number or keyword."""
    sources = {
        "size": lambda call: len(call.args[0]),
        "all": lambda call: [*call.args],
        "sum": lambda call: call.result,
    }
    with instrument("zlib:crc32", prop_from=sources):
        zlib.crc32(b"abc")
    with instrument("time:strftime", prop_from={"form": lambda call: call.args[0]}):
        time.strftime("%Y")
    assert events[0].caller.props["size"] == 3
    assert events[0].caller.props["sum"] == zlib.crc32(b"abc")
    assert events[1].caller.props == {"form": "%Y"}


def test_a_source_that_is_none_is_refused() -> None:
    """The decoration says what a source may be."""
    with pytest.raises(TypeError, match="'a' must come from a path"):
        traced(prop_from={"a": 3})(lambda: 1)  # type: ignore[dict-item]


def _work(a: int) -> int:
    return a


def test_unknown_names_are_key_errors(events: list[Any]) -> None:
    """A name that is no parameter is no argument."""
    traced(prop_from={"a": lambda call: call.args["b"]})(_work)(1)
    assert [event.caller.props for event in events] == [None]
    assert hypertrace.swallowed_errors() == 1


def test_functions_are_not_called_while_tracing_is_off() -> None:
    """They cost nothing then."""
    calls: list[TracedCall] = []
    assert traced(prop_from={"a": calls.append})(_work)(1) == 1
    assert calls == []


def test_nothing_is_kept() -> None:
    """Arguments and results are gone when the application drops them."""
    set_trace_function(Metrics(workers=False))

    class Value:
        pass

    @traced(prop_from={"a": lambda call: id(call.args["a"]), "r": lambda call: id(call.result)})
    def work(a: Value) -> Value:
        return Value()

    gc.disable()
    try:
        given = Value()
        got = work(given)
        held = ref(given), ref(got)
        del given, got
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


def test_a_generator_without_functions_keeps_no_argument(events: list[Any]) -> None:
    """Only functions of `prop_from` need the arguments at the end."""

    class Value:
        pass

    @traced
    def generator(a: Value) -> Iterator[int]:
        del a
        yield 1

    value = Value()
    held, steps = ref(value), generator(value)
    next(steps)
    del value
    assert held() is None
