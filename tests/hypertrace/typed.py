"""Types of the public names, for type checkers; run by test_types.py, too."""

import asyncio
import functools
from collections import UserDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, assert_type

from hypertrace import (
    Handler,
    Instrumentation,
    InstrumentedFunction,
    Span,
    SpanEvent,
    TraceEvent,
    TraceFunction,
    Tracer,
    Upstream,
    attach,
    fan_out,
    get_trace_function,
    handlers,
    instrument,
    instrumented,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.metrics import Metrics
from hypertrace.stats import Stats

P = ParamSpec("P")
R = TypeVar("R")


# --- timers -----------------------------------------------------------------------------------


@Metrics(workers=False).distribution("fetch_seconds").time()
def fetched(a: int) -> str:
    return f"{a}"


@Stats().timer("fetch")
def timed(a: int) -> str:
    return f"{a}"


assert_type(fetched(1), str)
assert_type(timed(1), str)


# --- @traced ----------------------------------------------------------------------------------


@traced
def function(a: int, *, b: str = "b") -> str:
    return f"{a}{b}"


@traced()
def called(a: int) -> str:
    return f"{a}"


@traced("id")
def with_id(a: int) -> str:
    return f"{a}"


@traced("id", props={"a": 1}, prop_from={"x": "args.a", "r": "result"})
def with_everything(a: int) -> str:
    return f"{a}"


@traced(props=MappingProxyType({"a": 1}), prop_from={"r": "result"})
async def coroutine(a: int) -> str:
    return f"{a}"


@traced
async def bare_coroutine(a: int) -> str:
    return f"{a}"


@traced
def generator(a: int) -> Iterator[str]:
    yield f"{a}"


@traced("id")
async def async_generator(a: int) -> AsyncIterator[str]:
    yield f"{a}"


@traced
class Swarm:
    """A class of which everything is traced."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.tracer = Tracer(self, {"topic": topic})

    def connect(self, peer: str) -> int:
        return len(peer)

    @traced("wait")
    async def wait(self) -> int:
        return 1

    @property
    @traced
    def size(self) -> int:
        return 2

    @functools.cached_property
    @traced("id")
    def cached(self) -> int:
        return 3

    @traced
    @classmethod
    def made(cls, topic: str) -> "Swarm":
        return cls(topic)

    @traced("id")
    @staticmethod
    def static(a: int) -> str:
        return f"{a}"


@traced(include=["connect"], exclude=("_*",))
class Chosen:
    def connect(self, peer: str) -> int:
        return len(peer)


@traced("id", include="connect")
class ChosenById:
    def connect(self, peer: str) -> int:
        return len(peer)


class Child(Swarm):
    def connect(self, peer: str) -> int:
        return super().connect(peer) + 1


class Adder:
    def __call__(self, a: int) -> int:
        return a + 1


def logged(function: Callable[P, R]) -> Callable[P, R]:
    return function


@logged
@traced
@logged
def between(a: int) -> int:
    return a


def use_functions() -> None:
    assert_type(function(1, b="c"), str)
    assert_type(called(1), str)
    assert_type(with_id(1), str)
    assert_type(with_everything(1), str)
    assert_type(between(1), int)
    assert_type(next(generator(1)), str)
    assert_type(traced(Adder())(1), int)
    assert_type(traced(Adder()), Adder)
    assert_type(traced("id")(Adder()), Adder)
    assert_type(traced(functools.partial(len, "abc"))(), int)


def refuse() -> None:
    """Let mypy say that each of these is wrong: it complains of ignores that are not needed."""
    function("a")  # type: ignore[arg-type]
    function(1, "b")  # type: ignore[call-arg]
    with_id("a")  # type: ignore[arg-type]
    with_everything(a="a")  # type: ignore[arg-type]
    Swarm(1)  # type: ignore[arg-type]
    Swarm("a").connect(1)  # type: ignore[arg-type]
    traced(1, 2)  # type: ignore[call-overload]
    traced(prop_from={"a": 1})  # type: ignore[dict-item]
    instrument()  # type: ignore[call-arg]
    Tracer("a").span(7)  # type: ignore[arg-type]
    Tracer("a").trace(7)  # type: ignore[arg-type]


async def use_coroutines() -> None:
    assert_type(await coroutine(1), str)
    assert_type(await bare_coroutine(1), str)
    waiting: Coroutine[Any, Any, str] = coroutine(1)
    await waiting
    async for item in async_generator(1):
        assert_type(item, str)
    assert_type(await Swarm("a").wait(), int)


def use_classes() -> None:
    swarm = Swarm("topic")
    assert_type(swarm, Swarm)
    assert_type(swarm.topic, str)
    assert_type(swarm.connect("a"), int)
    assert_type(swarm.size, int)
    assert_type(swarm.cached, int)
    assert_type(Swarm.made("topic"), Swarm)
    assert_type(Swarm.static(1), str)
    assert_type(Child("topic").connect("a"), int)
    assert_type(Chosen().connect("a"), int)
    assert_type(ChosenById().connect("a"), int)


# --- tracers and spans ------------------------------------------------------------------------


def use_tracers() -> None:
    tracer = Tracer("a", {"topic": "a"}, parent=Tracer("b"))
    assert_type(tracer, Tracer)
    tracer.trace()
    tracer.trace("id")
    tracer.trace("id", {"peer-id": 1}, peer=2)
    tracer.trace({"peer-id": 1})
    tracer.trace(UserDict(a=1), peer=2)
    tracer.trace(peer=1)


def use_spans() -> None:
    tracer = Tracer("a")
    tracer.record(2.5, "id", {"peer-id": 1}, result="error", exception=ValueError, peer=2)
    with tracer.span("id", {"peer-id": 1}, peer=2) as span:
        assert_type(span, Span)
        span.set(a=1)
        span.set({"peer-id": 1}, a=2)
        span.fail()
        span.fail(ValueError("x"))
    with tracer.span(), tracer.span("id"), tracer.span({"peer-id": 1}), tracer.span(peer=1):
        pass


def failing() -> int:
    """Go on after a `with`: no span holds an exception back, so this returns always."""
    with Tracer("a").span():
        return 1


# --- instrument and the trace function --------------------------------------------------------


def use_instrument() -> None:
    handle = instrument("json.encoder:JSONEncoder.*", id="id", props={"a": 1}, prop_from={})
    assert_type(handle, Instrumentation)
    assert_type(handle.names, list[str])
    assert_type(handle.skipped, Mapping[str, str])
    for function in instrumented():
        assert_type(function, InstrumentedFunction)
        assert_type((function.name, function.engine), tuple[str, str])
        assert_type(function.patterns, tuple[str, ...])
    instrument(["json", "email.**"], exclude=("json.tool", "json:_*")).undo()
    with suppress(TypeError):
        instrument(5)  # type: ignore[arg-type]
    handle.undo()
    with instrument("json:dumps") as entered:
        assert_type(entered, Instrumentation)


def on_event(event: TraceEvent) -> None:
    assert_type(event.id, str | None)
    if isinstance(event, SpanEvent):
        assert_type(event.duration, float)
        assert_type(event.busy, float | None)
        assert_type(event.exception, type[BaseException] | None)
        assert_type(event.upstream, Upstream | None)


def use_trace_functions() -> None:
    set_trace_function(on_event)
    assert_type(get_trace_function(), TraceFunction | None)
    set_trace_function(fan_out(on_event, list[TraceEvent]().append))
    assert_type(swallowed_errors(), int)


def use_handlers() -> None:
    with attach(on_event, of="Cart.*", id="up*", queue=10, detach_on_error=True) as handler:
        assert_type(handler, Handler)
        assert_type(handlers(), list[Handler])
        assert_type(handler.function, TraceFunction)
        assert_type((handler.of, handler.queue), tuple[str | None, int | None])
        assert_type((handler.calls, handler.dropped, handler.attached), tuple[int, int, bool])


def main() -> None:
    """Run everything that is not to be refused."""
    use_trace_functions()
    use_handlers()
    use_functions()
    use_classes()
    use_tracers()
    use_spans()
    use_instrument()
    asyncio.run(use_coroutines())
    assert_type(failing(), int)
