"""Raised exceptions: each is counted once as raised, by the innermost span that it ends."""

from __future__ import annotations

import asyncio
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

from hypertrace import SpanEvent, Tracer, _raised, set_trace_function, traced
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class OwnError(Exception):
    """Of a class that allows weak references, as those of built-in classes do not."""


ERRORS = pytest.mark.parametrize("kind", [KeyError, OwnError])


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as found:
        yield found


@pytest.fixture
def tracer(events: list[Any]) -> Tracer:
    return Tracer("Shop")


def _raised_in(events: list[Any]) -> list[tuple[str, str | None]]:
    return [(event.id or event.caller.function_name, event.raised) for event in events]


@ERRORS
def test_the_innermost_span_raises(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """An exception that ends three spans was raised in the innermost, and passes the others."""
    for _ in range(3):  # the next exception gets the place of the one before
        events.clear()
        with suppress(kind), tracer.span("a"), tracer.span("b"), tracer.span("c"):
            raise kind
        assert _raised_in(events) == [("c", "here"), ("b", "inside"), ("a", "inside")]


@ERRORS
def test_functions_inside_each_other(kind: type[Exception], events: list[Any]) -> None:
    """It passes decorated functions, generators and coroutines as it passes blocks."""

    @traced
    def inner() -> None:
        raise kind

    @traced
    def generator() -> Iterator[int]:
        yield 1
        inner()

    @traced
    async def coroutine() -> None:
        await asyncio.sleep(0)
        list(generator())

    @traced
    def outer() -> None:
        asyncio.run(coroutine())

    with pytest.raises(kind):
        outer()
    assert [event.raised for event in events] == ["here", "inside", "inside", "inside"]


@ERRORS
def test_context_managers_between_the_spans(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """`contextmanager` takes its frame out of the traceback, and the exception is the same."""

    @contextmanager
    def inner() -> Iterator[None]:
        with tracer.span("inner"):
            yield

    @asynccontextmanager
    async def async_inner() -> AsyncIterator[None]:
        with tracer.span("inner"):
            yield

    async def run() -> None:
        with tracer.span("outer"):
            async with async_inner():
                raise kind

    with suppress(kind), tracer.span("outer"), inner():
        raise kind
    with suppress(kind):
        asyncio.run(run())
    with suppress(kind), ExitStack() as stack:
        stack.enter_context(tracer.span("outer"))
        stack.enter_context(tracer.span("inner"))
        raise kind
    assert _raised_in(events) == [("inner", "here"), ("outer", "inside")] * 3


@ERRORS
def test_another_exception_is_raised_again(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """One that comes after a handled one was raised where it is, though it has the same id."""

    def fails() -> None:
        raise kind

    for _ in range(3):
        events.clear()
        with suppress(kind), tracer.span("outer"):
            with suppress(kind), tracer.span("attempt"):
                fails()
            fails()
        assert _raised_in(events) == [("attempt", "here"), ("outer", "here")]


@ERRORS
def test_one_that_is_raised_again_is_the_same(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """A retry that gives up with the last exception has not raised another."""
    last = kind()
    with suppress(kind), tracer.span("outer"):
        for _ in range(3):
            try:
                with tracer.span("attempt"):
                    raise last
            except kind as error:
                last = error
        raise last
    assert _raised_in(events) == [*[("attempt", "here")] * 3, ("outer", "inside")]


@ERRORS
def test_a_chained_exception_is_another(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """`raise ... from ...` raises a second exception, which is counted under its own class."""
    with suppress(RuntimeError), tracer.span("outer"), tracer.span("middle"):
        try:
            with tracer.span("inner"):
                raise kind
        except kind as error:
            raise RuntimeError from error
    assert _raised_in(events) == [("inner", "here"), ("middle", "here"), ("outer", "inside")]
    assert [event.exception for event in events] == [kind, RuntimeError, RuntimeError]


@ERRORS
def test_one_object_that_is_raised_twice(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """A span that begins later has raised it again: some libraries keep one exception for all."""
    only = kind()
    for name in ("first", "second"):
        with suppress(kind), tracer.span(name):
            raise only
    assert _raised_in(events) == [("first", "here"), ("second", "here")]


@ERRORS
def test_tasks_that_fail_at_the_same_time(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """Each of a hundred tasks has raised its own exception once, whatever ids they share."""

    def fails() -> None:
        raise kind

    async def inner(name: str) -> None:
        with tracer.span("inner", number=name):
            await asyncio.sleep(0)
            fails()

    async def outer(name: str) -> None:
        with suppress(kind), tracer.span("outer", number=name):
            await inner(name)

    async def run() -> None:
        await asyncio.gather(*(outer(str(number)) for number in range(100)))

    asyncio.run(run())
    assert _raised_in(events) == [("inner", "here"), ("outer", "inside")] * 100


@ERRORS
def test_functions_in_tasks_that_fail_at_the_same_time(
    kind: type[Exception], events: list[Any]
) -> None:
    """Two decorated functions share the code of their wrapper, and no exception."""

    @traced("one")
    async def one() -> None:
        await asyncio.sleep(0)
        raise kind

    @traced("two")
    async def two() -> None:
        await asyncio.sleep(0)
        raise kind

    async def each() -> None:
        async def quiet(call: Any) -> None:
            with suppress(kind):
                await call()

        await asyncio.gather(*(quiet(call) for call in (one, two) * 50))

    asyncio.run(each())
    assert {event.raised for event in events} == {"here"}
    assert len(events) == 100


@ERRORS
def test_it_passes_from_a_task_to_the_one_that_waits(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """What a task raised is the failure of the span that waits for it, and so it is of a thread."""

    def work() -> None:
        with tracer.span("inner"):
            raise kind

    async def run() -> None:
        async def task() -> None:
            work()

        with suppress(kind), tracer.span("outer"):
            await asyncio.create_task(task())

    asyncio.run(run())
    with ThreadPoolExecutor(1) as pool, suppress(kind), tracer.span("outer"):
        pool.submit(work).result()
    assert _raised_in(events) == [("inner", "here"), ("outer", "inside")] * 2


@ERRORS
def test_threads_that_fail_at_the_same_time(kind: type[Exception]) -> None:
    """Over threads, as many exceptions are counted as raised as there were failures."""
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    tracer, together = Tracer("Shop"), Barrier(4)

    def work() -> None:
        together.wait()
        for _ in range(200):
            with suppress(kind), tracer.span("outer"), tracer.span("inner"):
                raise kind

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    family = metrics.read().family("function_exceptions_total")
    place = family.label_names.index("id"), family.label_names.index("raised")
    assert {
        tuple(point.labels[index] for index in place): point.value for point in family.points
    } == {("inner", "here"): 800, ("outer", "inside"): 800}


@ERRORS
def test_a_failure_that_a_block_handles(
    kind: type[Exception], tracer: Tracer, events: list[Any]
) -> None:
    """`fail(error)` is where it was raised, unless a span inside has counted it."""
    with tracer.span("handles") as span:
        try:
            with tracer.span("inner"):
                raise kind
        except kind as error:
            span.fail(error)
    with suppress(kind), tracer.span("passes"), tracer.span("fails") as span:
        try:
            raise kind
        except kind as error:
            span.fail(error)
            raise
    assert _raised_in(events) == [
        ("inner", "here"),
        ("handles", "inside"),
        ("fails", "here"),
        ("passes", "inside"),
    ]


@ERRORS
def test_a_span_of_known_length(kind: type[Exception], tracer: Tracer, events: list[Any]) -> None:
    """`record()` with an exception knows that a span inside has counted it; a class is raised."""
    with tracer.span("outer"):
        try:
            with tracer.span("inner"):
                raise kind
        except kind as error:
            tracer.record(1.0, "whole", exception=error)
            tracer.record(1.0, "class", exception=kind)
    assert _raised_in(events) == [
        ("inner", "here"),
        ("whole", "inside"),
        ("class", "here"),
        ("outer", None),
    ]


def test_what_is_no_error_is_not_raised(tracer: Tracer, events: list[Any]) -> None:
    """An exception that the inner span expects is raised by the one that does not expect it."""
    with suppress(KeyError), tracer.span("outer"), tracer.span("inner").expect(KeyError):
        raise KeyError
    assert _raised_in(events) == [("inner", None), ("outer", "here")]


def test_no_exception_is_kept_alive(tracer: Tracer, events: list[Any]) -> None:
    """An exception, and what its traceback refers to, is gone when the application drops it."""

    class Held:
        pass

    def work(kind: type[Exception]) -> ref[Held]:
        held = Held()
        with tracer.span(), tracer.span() as span:
            span.fail(kind())
            raise kind(held)

    gc.disable()
    try:
        for kind in (KeyError, OwnError):
            held = None
            try:
                work(kind)
            except kind as error:
                held = ref(error.args[0])
            assert held is not None
            assert held() is None
    finally:
        gc.enable()
    assert not any(seen._reference is not None for seen in _raised._known.values())


def test_what_is_known_is_bounded(
    tracer: Tracer, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exceptions that an application keeps are forgotten, the oldest first."""
    monkeypatch.setattr(_raised, "MAX_KNOWN", 5)
    kept: list[Exception] = []
    for _ in range(50):
        try:
            with tracer.span("outer"), tracer.span("inner"):
                raise KeyError
        except KeyError as error:
            kept.append(error)
    assert len(_raised._known) == 5
    assert _raised_in(events) == [("inner", "here"), ("outer", "inside")] * 50


def test_an_event_keeps_where_it_was_raised(tracer: Tracer, events: list[Any]) -> None:
    """It is part of a pickled event, and None without an exception."""
    with suppress(KeyError), tracer.span("outer"), tracer.span("inner"):
        raise KeyError
    with tracer.span():
        pass
    copies: list[SpanEvent] = [pickle.loads(pickle.dumps(event)) for event in events]
    assert [copy.raised for copy in copies] == ["here", "inside", None]
    assert SpanEvent("x", events[0].object, None, events[0].caller, 1.0).raised is None


def test_a_class_may_hide_its_traceback(tracer: Tracer, events: list[Any]) -> None:
    """What a class makes of its attributes is not asked, and raises nothing."""

    class SlyError(KeyError):
        __slots__ = ()

        @property
        def __traceback__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("asked")

    with suppress(SlyError), tracer.span("outer"), tracer.span("inner"):
        raise SlyError
    assert _raised_in(events) == [("inner", "here"), ("outer", "inside")]
