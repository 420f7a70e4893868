"""Rules of what is an error: `expected`, `error_if` and `ok_if`, and `expect` of a span."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

import hypertrace
from hypertrace import Tracer, instrument, set_trace_function, traced
from hypertrace._endings import ErrorRules
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as found:
        yield found


def _endings(events: list[Any]) -> list[tuple[str, type[BaseException] | None]]:
    return [(event.result, event.exception) for event in events]


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("options", "error", "result"),
    [
        ({"expected": (KeyError,)}, KeyError(), "ok"),
        ({"expected": KeyError}, KeyError(), "ok"),
        ({"expected": [OSError, LookupError]}, KeyError(), "ok"),
        ({"expected": (KeyError,)}, ValueError(), "error"),
        ({"expected": (asyncio.CancelledError,)}, asyncio.CancelledError(), "ok"),
        ({"expected": (KeyboardInterrupt,)}, KeyboardInterrupt(), "ok"),
        ({"ok_if": lambda error: error.errno == 2}, OSError(2, "none"), "ok"),
        ({"ok_if": lambda error: error.errno == 2}, OSError(13, "denied"), "error"),
        ({"ok_if": lambda error: [error]}, ValueError(), "ok"),
        ({"ok_if": lambda _: False}, asyncio.CancelledError(), "cancelled"),
        ({"ok_if": lambda _: False}, SystemExit(0), "ok"),
        ({"error_if": lambda _: True}, ValueError(), "error"),
        ({"error_if": lambda _: True}, None, "error"),
        ({"error_if": lambda result: result is None}, None, "error"),
        ({"error_if": lambda result: result is not None}, None, "ok"),
    ],
)
def test_rules_of_a_function(
    options: dict[str, Any], error: BaseException | None, result: str, events: list[Any]
) -> None:
    """A rule decides on the result of the span; the exception passes, and is in the event."""

    @traced(**options)
    def work() -> None:
        if error is not None:
            raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)) as caught:
            work()
        assert caught.value is error
    assert _endings(events) == [(result, error and type(error))]
    assert events[0].raised == (None if error is None or result == "ok" else "here")


def test_rules_hold_for_every_kind_of_callable(events: list[Any]) -> None:
    """Methods, static and class methods, properties, coroutines and generators have them too."""

    @traced(error_if=lambda result: result == "bad", expected=KeyError)
    class Subject:
        def method(self) -> str:
            return "bad"

        @staticmethod
        def static() -> str:
            return "bad"

        @classmethod
        def of_class(cls) -> str:
            return "bad"

        @property
        def prop(self) -> str:
            return "bad"

        async def coroutine(self) -> str:
            return "bad"

        def generator(self) -> Generator[int, None, str]:
            yield 1
            return "bad"

        async def raises(self) -> None:
            raise KeyError

    subject = Subject()
    assert {subject.method(), subject.static(), subject.of_class(), subject.prop} == {"bad"}
    assert asyncio.run(subject.coroutine()) == "bad"
    assert list(subject.generator()) == [1]
    assert [event.result for event in events] == ["error"] * 6
    with pytest.raises(KeyError):
        asyncio.run(subject.raises())
    assert _endings(events)[-1] == ("ok", KeyError)


def test_rules_of_an_asynchronous_generator(events: list[Any]) -> None:
    """It has no result, so `error_if` is refused; the other rules hold."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise KeyError

    with pytest.raises(TypeError, match="asynchronous generator, which has no result"):
        traced(error_if=bool)(numbers)

    async def run() -> None:
        async for _ in traced(expected=KeyError)(numbers)():
            pass

    with pytest.raises(KeyError):
        asyncio.run(run())
    assert _endings(events) == [("ok", KeyError)]


def test_rules_of_third_party_code(events: list[Any]) -> None:
    """`instrument` takes the same rules."""
    with instrument("json:loads", expected=ValueError, error_if=lambda result: result == []):
        with pytest.raises(ValueError, match="Expecting"):
            json.loads("no json")
        json.loads("[]")
        json.loads("{}")
    assert [event.result for event in events] == ["ok", "error", "ok"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expected": 3}, r"expected must be classes of exceptions, as .* not 3"),
        ({"expected": "KeyError"}, "not 'KeyError'"),
        ({"expected": [KeyError()]}, r"not \[KeyError\(\)\]"),
        ({"expected": int}, "not <class 'int'>"),
        ({"error_if": True}, "error_if must be a function, as error_if=lambda result: .* not True"),
        ({"ok_if": KeyError()}, "ok_if must be a function, as ok_if=lambda error: "),
    ],
)
def test_wrong_rules_are_refused(options: dict[str, Any], message: str) -> None:
    """The decoration says what a rule must be, also while tracing is off."""
    with pytest.raises(TypeError, match=message):
        traced(**options)(_raise)
    with pytest.raises(TypeError, match=message):
        instrument("json:dumps", **options)


@pytest.mark.parametrize("rule", ["error_if", "ok_if"])
def test_a_rule_that_raises_is_swallowed(rule: str, events: list[Any]) -> None:
    """Its exception is counted and logged, what it traces is dropped, and the default holds."""
    tracer = Tracer("Rule")

    def broken(_: object) -> bool:
        tracer.trace()
        raise ZeroDivisionError

    def work() -> None:
        if rule == "ok_if":
            raise KeyError

    options: dict[str, Any] = {rule: broken}
    with suppress(KeyError):
        traced(**options)(work)()
    assert [event.result for event in events] == ["error" if rule == "ok_if" else "ok"]
    assert hypertrace.swallowed_errors() == 1
    assert hypertrace.dropped_events() == 1


def test_a_result_without_truth_is_no_error(events: list[Any]) -> None:
    """What a rule returns may refuse to be true or false, as arrays do; that is swallowed."""

    class Array:
        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

    traced(error_if=lambda _: Array())(lambda: 1)()
    assert [event.result for event in events] == ["ok"]
    assert hypertrace.swallowed_errors() == 1


def test_a_span_expects_exceptions(events: list[Any]) -> None:
    """`expect` returns the span, and the exceptions pass as errors do."""
    tracer = Tracer("Shop")
    with suppress(KeyError), tracer.span("dial", peer=1).expect(KeyError) as span:
        span.set(left=2)
        raise KeyError
    with suppress(OSError), tracer.span() as span:
        span.expect(KeyError, ok_if=lambda error: isinstance(error, OSError))
        raise OSError("x")
    with pytest.raises(ValueError, match="y"), tracer.span().expect(KeyError):
        raise ValueError("y")
    assert _endings(events) == [("ok", KeyError), ("ok", OSError), ("error", ValueError)]
    assert events[0].caller.props == {"peer": 1, "left": 2}


def test_a_failure_that_is_said_is_one(events: list[Any]) -> None:
    """`fail()` wins over what is expected, as long as the block handles the exception."""
    with Tracer("Shop").span().expect(KeyError) as span:
        span.fail(KeyError())
    assert _endings(events) == [("error", KeyError)]


def test_a_span_that_expects_nonsense(events: list[Any], caplog: Any) -> None:
    """A wrong argument is logged, and nothing is expected; strict tests raise it."""
    with suppress(KeyError), Tracer("Shop").span().expect(KeyError, 3):  # type: ignore[arg-type]
        raise KeyError
    assert _endings(events) == [("error", KeyError)]
    assert "span.expect(): expected must be classes of exceptions" in caplog.text
    with capture_events(strict=True), pytest.raises(TypeError, match="ok_if must be a function"):
        Tracer("Shop").span().expect(ok_if=3)  # type: ignore[arg-type]


def test_a_span_that_does_nothing_expects_nothing() -> None:
    """While tracing is off the span is shared, and keeps no rule."""
    span = Tracer("Shop").span()
    assert span.expect(KeyError) is span
    with pytest.raises(KeyError), span.expect(KeyError):
        raise KeyError
    assert not hasattr(span, "_rules")


def test_what_is_no_error_is_no_counted_exception() -> None:
    """Alerts on exceptions see what is an error, or cancels, and nothing else."""
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    tracer = Tracer("Shop")
    for error in (KeyError(), SystemExit(0), StopIteration(), GeneratorExit(), ValueError()):
        with suppress(BaseException), tracer.span().expect(KeyError):
            raise error
    family = metrics.read().family("function_exceptions_total")
    assert [(point.labels[-2:], point.value) for point in family.points] == [
        (("ValueError", "here"), 1)
    ]


def test_rules_keep_no_result_and_no_exception(events: list[Any]) -> None:
    """What a rule was called with is gone when the application drops it."""

    class Result:
        pass

    class OwnError(Exception):
        pass

    class Refusing:
        def __int__(self) -> int:
            raise OwnError

    def make() -> Result:
        return Result()

    result = traced(error_if=lambda _: False)(make)()
    held = ref(result)
    del result
    assert held() is None
    gone: ref[OwnError] | None = None
    try:
        traced(ok_if=lambda _: False)(lambda: int(Refusing()))()
    except OwnError as error:
        gone = ref(error)
    assert gone is not None
    assert gone() is None


def test_no_rules_are_none() -> None:
    """Rules without a rule are false, so that calls are as fast as before."""
    assert not ErrorRules()
    assert ErrorRules(KeyError)
    assert ErrorRules(error_if=bool).needs_result
