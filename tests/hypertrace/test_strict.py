"""Strict trace functions: errors are raised by the user's call instead of swallowed."""

import asyncio
import logging
import traceback
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import (
    Cell,
    PropsRecorder,
    TracedObject,
    TraceEvent,
    Tracer,
    clear_trace_function,
    dropped_events,
    fan_out,
    get_trace_function,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.testing import capture_events, reset

LINE = "user's line"


class Broken(UserDict[str, object]):
    def keys(self) -> Any:
        raise LookupError("broken mapping")


class Failing:
    """Fails in one of its methods, or in those of its recorders."""

    durations = None

    def __init__(self, where: str) -> None:
        self.where = where

    def at(self, place: str) -> None:
        if place == self.where:
            raise LookupError(place)

    def __call__(self, event: TraceEvent) -> None:
        self.at("call")

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> str:
        self.at("share_key")
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        self.at("bind")
        return lambda: self.at("record")

    def bind_props(self, event: TraceEvent) -> Callable[[Any], object]:
        self.at("bind_props")
        return PropsRecorder(("a",), {}, self._make).record

    def _make(self, values: object, props: object) -> Callable[[], object]:
        self.at("make")
        return Cell().increment

    def bind_span(self, event: TraceEvent) -> Any:
        self.at("bind_span")
        return self

    def bind_span_props(self, event: TraceEvent) -> Callable[[Any], Any]:
        self.at("bind_span_props")
        return lambda _: self

    def start(self) -> None:
        self.at("start")

    def end(self, event: object) -> None:
        self.at("end")

    def fold(self) -> None:
        self.at("fold")

    def edge(self, upstream: object) -> Callable[[], object]:
        self.at("edge")
        return lambda: self.at("count")


PLACES = {
    "call": lambda f: f.__call__,
    "share_key": lambda f: f,
    "bind": lambda f: f,
    "record": lambda f: f,
    "bind_props": lambda f: f,
    "make": lambda f: f,
    "bind_span": lambda f: f,
    "bind_span_props": lambda f: f,
    "start": lambda f: f,
    "end": lambda f: f,
    "edge": lambda f: f,
    "count": lambda f: f,
}


class User:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def run(self, **props: Any) -> None:
        self.tracer.trace()  # user's line
        self.tracer.trace("id", **props)  # user's line
        with self.tracer.span():  # user's line
            self.work()  # user's line
        with self.tracer.span(**props):  # user's line
            pass
        next(self.numbers())  # user's line

    @traced
    def work(self) -> int:
        return 1

    @traced
    def numbers(self) -> Iterator[int]:
        yield 1


def _lines_of(error: BaseException) -> list[str | None]:
    return [frame.line for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("wrap", [lambda f: f, fan_out])
@pytest.mark.parametrize("where", PLACES)
def test_what_a_trace_function_raises_is_raised(where: str, wrap: Callable[[Any], Any]) -> None:
    """The error itself comes out of the user's call, each time, and nothing is swallowed."""
    failing = Failing(where)
    set_trace_function(wrap(PLACES[where](failing)), strict=True)
    user = User()
    for _ in range(3):
        with pytest.raises(LookupError, match=where) as caught:
            user.run(a=1)
        assert any(LINE in line for line in _lines_of(caught.value) if line)
    failing.where = ""
    user.run(a=1)
    assert swallowed_errors() == dropped_events() == 0


def _in(tracer: Tracer, use: Callable[[Any], object]) -> None:
    with tracer.span() as span:
        use(span)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (lambda t: t.trace("id", 7), TypeError, r"trace\(\) got props of type int"),
        (lambda t: t.trace(None, ["a"]), TypeError, r"trace\(\) got props of type list"),
        (lambda t: t.trace(Broken(a=1)), LookupError, "broken mapping"),
        (lambda t: t.span("id", 7), TypeError, "got props of type int"),
        (lambda t: _in(t, lambda span: span.set(7)), TypeError, r"span.set\(\) got props of type"),
        (lambda t: _in(t, lambda span: span.set(Broken(a=1))), LookupError, "broken mapping"),
        (lambda t: _in(t, lambda span: span.fail("no")), TypeError, r"span.fail\(\) got str"),
        (lambda t: t.span().__exit__(None, None, None), TypeError, "had not started"),
        (lambda t: Tracer("a", Broken(a=1)), LookupError, "broken mapping"),
    ],
)
def test_a_wrong_call_is_raised(
    wrong: Callable[[Tracer], object], kind: type[Exception], message: str, make_counting: type[Any]
) -> None:
    """Errors otherwise logged or swallowed are raised by the user's calls, and by nothing else."""
    set_trace_function(make_counting(), strict=True)
    with pytest.raises(kind, match=message):
        wrong(Tracer("a"))
    assert swallowed_errors() == 0
    set_trace_function(make_counting())
    logging.getLogger("hypertrace").disabled = True
    try:
        wrong(Tracer("a"))
    finally:
        logging.getLogger("hypertrace").disabled = False


def test_an_error_of_prop_paths_is_raised() -> None:
    """Code that `prop_from` runs is strict, too; what is not there is still left out."""

    class Peer:
        @property
        def host(self) -> str:
            raise RuntimeError("no host")

    @traced(prop_from={"host": "args.peer.host", "port": "args.peer.port"})
    def connect(peer: Peer | int) -> None:
        """Do nothing."""

    with capture_events(strict=True) as events:
        connect(5)
        with pytest.raises(RuntimeError, match="no host"):
            connect(Peer())
    assert len(events) == 1


def test_what_tracing_traces_raises_nothing() -> None:
    """It is still dropped and counted."""
    inner: list[Tracer] = []

    def function(event: TraceEvent) -> None:
        inner[0].trace()

    set_trace_function(function, strict=True)
    inner.append(Tracer("inner"))
    Tracer("outer").trace()
    assert dropped_events() == 1


@pytest.mark.parametrize(
    "end", [clear_trace_function, reset, lambda: set_trace_function(lambda _: None)]
)
def test_it_ends_with_the_trace_function(end: Callable[[], None]) -> None:
    """Another trace function, or none, is not strict."""
    set_trace_function(print, strict=True)
    end()
    set_trace_function(get_trace_function() or print)
    Tracer("a").trace("id", 7)  # type: ignore[arg-type]


def test_captured_events_may_be_strict() -> None:
    """The test double is strict if asked, and afterwards all is as before."""
    set_trace_function(lambda _: None, strict=True)
    with capture_events() as events:
        Tracer("a").trace("id", 7)  # type: ignore[arg-type]
        with capture_events(strict=True), pytest.raises(TypeError):
            Tracer("a").trace("id", 7)  # type: ignore[arg-type]
        Tracer("a").trace("id", 7)  # type: ignore[arg-type]
    assert len(events) == 2
    with pytest.raises(TypeError):
        Tracer("a").trace("id", 7)  # type: ignore[arg-type]


def test_no_span_stays_open_after_an_error() -> None:
    """A span that raises at its start or end is not what later spans are inside."""
    for where in ("start", "end"):
        set_trace_function(Failing(where), strict=True)
        with pytest.raises(LookupError):
            User().run()
    with capture_events() as events, Tracer("a").span():
        pass
    assert events[0].upstream is None  # type: ignore[attr-defined]


def test_the_error_of_the_block_is_not_lost() -> None:
    """Where both the block and its span's end raise, the block's error is the other's context."""
    set_trace_function(Failing("end"), strict=True)
    with pytest.raises(LookupError) as caught, Tracer("a").span():
        raise OSError
    context: BaseException | None = caught.value
    kinds = []
    while context is not None:
        kinds.append(type(context))
        context = context.__context__
    assert OSError in kinds


def test_coroutines_raise_where_they_are_awaited() -> None:
    """The error of a coroutine's span comes out of the `await`."""

    @traced
    async def work() -> None:
        """Do nothing."""

    async def run() -> None:
        await work()

    set_trace_function(Failing("end"), strict=True)
    with pytest.raises(LookupError):
        asyncio.run(run())
