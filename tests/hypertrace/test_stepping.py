"""Generators, coroutines and asynchronous generators in spans: they behave as without."""

import asyncio
import gc
import inspect
import itertools
import sys
import time
import traceback
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from types import CodeType, FunctionType, coroutine
from typing import Any

import pytest

from hypertrace import SpanEvent, Tracer, traced
from hypertrace.testing import capture_events

Outcome = tuple[object, ...]


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


@coroutine
def pause(value: object = None) -> Generator[object, object, object]:
    """Suspend the awaiting coroutine, like an event loop's future does."""
    return (yield value)


# --- what is run twice: with and without spans ---------------------------------------------


def echo() -> Generator[object, object, str]:
    """Give back what is sent, three times."""
    received = yield "first"
    for _ in range(2):
        received = yield ("got", received)
    return "done"


def catching() -> Generator[object, object, None]:
    """Go on after some exceptions."""
    while True:
        try:
            yield "waiting"
        except ValueError as error:
            yield ("caught", str(error))


def stubborn() -> Generator[object, object, None]:
    """Refuse to be closed."""
    try:
        yield 1
    except GeneratorExit:
        yield 2


def obliging() -> Generator[object, object, object]:
    """Return when closed."""
    try:
        yield 1
        yield 2
    except GeneratorExit:
        return "closed"
    return "done"


def failing_cleanup() -> Generator[object, object, None]:
    """Raise something else when thrown into."""
    try:
        yield 1
        yield 2
    finally:
        raise LookupError("in the cleanup")


def translating() -> Generator[object, object, None]:
    """Raise another exception because of one."""
    try:
        yield 1
        yield 2
    except Exception as error:
        raise RuntimeError("translated") from error


def stopping() -> Generator[object, object, None]:
    """Raise what must not leave a generator."""
    yield 1
    raise StopIteration(3)  # noqa: PLR1708 -- what it must not do


def delegating() -> Generator[object, object, object]:
    """Delegate to others."""
    result = yield from obliging()
    yield result
    return (yield from echo())


async def waiting() -> object:
    """Await twice, and give back what is sent."""
    first = await pause("a")
    return first, await pause("b")


async def shielded() -> object:
    """Go on after being cancelled once."""
    try:
        await pause("a")
    except asyncio.CancelledError:
        await pause("cleanup")
        return "survived"
    return "done"


async def failing() -> object:
    await pause("a")
    raise LookupError("at the end")


async def cleaning() -> object:
    """Await while it is closed, which it must not."""
    try:
        return await pause("a")
    finally:
        await pause("b")


async def anumbers() -> AsyncGenerator[object, object]:
    """Give back what is sent, and await in between."""
    received: object = None
    for number in range(3):
        await pause(number)
        received = yield ("got", received)


async def acatching() -> AsyncGenerator[object, object]:
    while True:
        try:
            yield "waiting"
        except ValueError as error:
            await pause()
            yield ("caught", str(error))


async def astubborn() -> AsyncGenerator[object, object]:
    try:
        yield 1
    except GeneratorExit:
        yield 2


async def acleaning() -> AsyncGenerator[object, object]:
    try:
        yield 1
        yield 2
    finally:
        await pause("cleanup")


async def afailing() -> AsyncGenerator[object, object]:
    try:
        yield 1
        yield 2
    finally:
        raise LookupError("in the cleanup")


async def astopping() -> AsyncGenerator[object, object]:
    yield 1
    raise StopAsyncIteration


GENERATORS: list[Any] = [
    echo,
    catching,
    stubborn,
    obliging,
    failing_cleanup,
    translating,
    stopping,
    delegating,
]
COROUTINES: list[Any] = [waiting, shielded, failing]
ASYNC_GENERATORS: list[Any] = [anumbers, acatching, astubborn, acleaning, afailing, astopping]

Operation = tuple[str, Callable[[], tuple[object, ...]]]
SEND: list[Operation] = [("send", lambda: (None,)), ("send", lambda: (7,))]
THROW: list[Operation] = [
    ("throw", lambda: (ValueError("thrown"),)),
    ("throw", lambda: (KeyError,)),
    ("throw", lambda: (GeneratorExit(),)),
    ("throw", lambda: (StopIteration(1),)),
    ("throw", lambda: (asyncio.CancelledError(),)),
]
CLOSE: list[Operation] = [("close", tuple)]
OPERATIONS = [*SEND, *THROW, *CLOSE]
# Only close() throws this into a coroutine, and its result is not used.
OF_COROUTINES = [op for op in OPERATIONS if not isinstance(next(iter(op[1]()), 0), GeneratorExit)]


def _outcome(run: Callable[[], object], code: CodeType) -> Outcome:
    try:
        return ("value", run())
    except BaseException as error:  # noqa: BLE001 -- each is compared
        lines = [
            line
            for frame, line in traceback.walk_tb(error.__traceback__)
            if frame.f_code is code
            # What is thrown into code that has not started is raised where that is defined.
            and line != code.co_firstlineno
        ]
        causes = type(error.__cause__), type(error.__context__)
        return ("raised", type(error), str(error), getattr(error, "value", None), causes, lines)


def _awaited(awaitable: Awaitable[object]) -> Callable[[], object]:
    def run() -> object:
        pauses = []
        steps: Any = awaitable.__await__()
        while True:
            try:
                pauses.append(steps.send(None))
            except StopIteration as stop:
                return pauses, stop.value

    return run


def _outcomes(
    function: Callable[[], Any], operations: tuple[Operation, ...], prefix: str
) -> list[Outcome]:
    running, outcomes = function(), []
    for name, arguments in operations:
        method, given = getattr(running, prefix + name), arguments()

        def run(method: Any = method, given: Any = given) -> object:
            result = method(*given)
            return _awaited(result)() if prefix else result

        outcomes.append(_outcome(run, function.__code__))
    return outcomes


def _copy(function: Any) -> Any:
    """Return another function of the same code: one that is traced stays so for other tests."""
    return FunctionType(function.__code__, function.__globals__)


def _is_same(
    function: Callable[[], Any], possible: list[Operation] = OPERATIONS, prefix: str = ""
) -> None:
    with_spans = traced(_copy(function))
    for operations in itertools.product(possible, repeat=3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is left unawaited
            expected = _outcomes(function, operations, prefix)
            assert _outcomes(with_spans, operations, prefix) == expected


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("function", GENERATORS + COROUTINES)
def test_sent_thrown_and_closed_it_does_the_same(
    function: Callable[[], Any], events: list[Any]
) -> None:
    """Whatever is sent or thrown, in any order: the same values, exceptions and places of them."""
    _is_same(function, OF_COROUTINES if function in COROUTINES else OPERATIONS)
    assert {event.caller.function_name for event in events} == {function.__name__}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("function", ASYNC_GENERATORS)
def test_an_asynchronous_generator_does_the_same(
    function: Callable[[], Any], events: list[Any]
) -> None:
    """The same for what is sent to an asynchronous generator, thrown into it or closes it."""
    _is_same(function, prefix="a")
    assert {event.caller.function_name for event in events} == {function.__name__}


def test_a_coroutine_must_not_await_while_it_is_closed(events: list[Any]) -> None:
    """A coroutine that awaits while closed gets the same error as untraced, and ends well."""
    running = traced(cleaning)()
    running.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        running.close()
    del running
    assert [event.result for event in events] == ["ok"]


@pytest.mark.parametrize("function", [*GENERATORS, *COROUTINES, *ASYNC_GENERATORS])
def test_without_a_trace_function_it_is_the_very_same(function: Callable[[], Any]) -> None:
    """While tracing is off the function's own generator or coroutine is returned."""
    running = traced(function)()
    code = getattr(running, "gi_code", None) or getattr(running, "cr_code", None) or running.ag_code
    assert code is function.__code__
    if inspect.iscoroutine(running):
        running.close()


@pytest.mark.parametrize("function", [echo, waiting, anumbers])
def test_it_is_named_like_the_function(function: Callable[[], Any], events: list[Any]) -> None:
    """The wrapper has the same type, and the function's name in its representation."""
    running, own = traced(function)(), function()
    assert type(running) is type(own)
    assert (running.__name__, running.__qualname__) == (own.__name__, own.__qualname__)
    assert repr(running).partition(" at ")[0] == repr(own).partition(" at ")[0]
    for started in (running, own):
        if inspect.iscoroutine(started):
            started.close()


def test_wrong_arguments_raise_at_the_call(events: list[Any]) -> None:
    """A call with wrong arguments raises there, not when the result is used; it is no event."""
    for function in (echo, waiting, anumbers):
        with pytest.raises(TypeError, match=f"{function.__name__}\\(\\) takes 0 positional"):
            traced(function)(1)  # type: ignore[call-arg]
    assert events == []


# --- coroutines that are never awaited ------------------------------------------------------


def test_a_coroutine_closed_before_it_starts_warns_of_nothing(events: list[Any]) -> None:
    """Closing a coroutine that never ran is as silent as without a span."""
    gc.collect()  # what earlier tests left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        traced(waiting)().close()
        gc.collect()
    assert events == []


@pytest.mark.filterwarnings("always")
def test_a_coroutine_never_awaited_warns_once_by_its_name(
    events: list[Any], recwarn: pytest.WarningsRecorder
) -> None:
    """Forgetting to await is warned of once, with the name of the traced function."""
    forgotten: Any = traced(waiting)
    forgotten()
    gc.collect()
    assert [str(w.message) for w in recwarn] == ["coroutine 'waiting' was never awaited"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="functions can be marked since 3.12")
@pytest.mark.parametrize("kind", ["future", "iterator", "nameless"])
def test_a_function_marked_as_a_coroutine_function_may_return_any_awaitable(
    kind: str, events: list[Any]
) -> None:
    """Any awaitable that a marked function returns is awaited in the span."""

    class Ready:
        def __await__(self) -> Iterator[Any]:
            return iter([None])

    class Nameless(Ready):
        def send(self, value: object) -> Any:
            raise StopIteration

        def close(self) -> None:
            pass

    def marked() -> Any:
        if kind == "future":
            return asyncio.sleep(0, "value")
        return Ready() if kind == "iterator" else Nameless()

    async def main() -> object:
        mark: Any = vars(inspect)["markcoroutinefunction"]
        return await traced(mark(marked))()

    assert asyncio.run(main()) == ("value" if kind == "future" else None)
    assert [event.caller.function_name for event in events] == [marked.__qualname__]


# --- asynchronous generators and the event loop ----------------------------------------------


class Numbers:
    """Counts, and needs the loop to end."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    @traced
    async def count(self) -> AsyncGenerator[int, None]:
        try:
            for number in itertools.count():
                yield number
        finally:
            await asyncio.sleep(0)
            self.ended.append("after waiting")


def _run_loop(main: Coroutine[Any, Any, object]) -> list[dict[str, Any]]:
    """Run a coroutine and return what its event loop complains about."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(main)
    return complaints


def test_a_loop_that_shuts_down_closes_what_is_left(events: list[SpanEvent]) -> None:
    """Asynchronous generators that are still referred to are closed with the loop, each once."""
    numbers = Numbers()
    left = []

    async def main() -> None:
        for _ in range(20):
            running = numbers.count()
            left.append(running)
            await anext(running)

    assert _run_loop(main()) == []
    assert numbers.ended == ["after waiting"] * 20
    assert [event.result for event in events] == ["ok"] * 20


def test_the_loop_closes_what_is_abandoned(events: list[SpanEvent]) -> None:
    """An asynchronous generator without references is closed by the loop."""
    numbers = Numbers()

    async def main() -> None:
        async for number in numbers.count():
            if number == 3:
                break
        while not events:  # noqa: ASYNC110 -- the loop closes it, without a signal
            await asyncio.sleep(0)

    assert _run_loop(main()) == []
    assert numbers.ended == ["after waiting"]
    assert [event.result for event in events] == ["ok"]


def test_the_loop_closes_what_the_garbage_collector_finds(events: list[SpanEvent]) -> None:
    """An asynchronous generator in a cycle is closed by the loop, too, whichever is found first."""
    numbers = Numbers()

    async def main() -> None:
        cycle: list[Any] = [numbers.count()]
        cycle.append(cycle)
        await anext(cycle[0])
        del cycle
        gc.collect()
        while not events:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0)

    assert _run_loop(main()) == []
    assert numbers.ended == ["after waiting"]
    assert [event.result for event in events] == ["ok"]


# --- times -----------------------------------------------------------------------------------


@traced
async def sleeping() -> None:
    await asyncio.sleep(0.2)


@traced
async def ticking() -> AsyncGenerator[int, None]:
    for number in range(4):
        await asyncio.sleep(0.05)
        yield number


@traced
def consumed() -> Generator[int, None, None]:
    yield from range(4)


async def _consume() -> None:
    async for _ in ticking():
        pass


def _consume_slowly() -> None:
    for _ in consumed():
        time.sleep(0.05)  # what is measured


@pytest.mark.parametrize(
    "run",
    [
        lambda: asyncio.run(sleeping()),
        lambda: asyncio.run(_consume()),
        _consume_slowly,
    ],
    ids=["coroutine", "async generator", "generator"],
)
def test_waiting_counts_as_duration_but_not_as_busy(
    run: Callable[[], object], events: list[SpanEvent]
) -> None:
    """The duration is the time from first step to last, of which a waiter is hardly busy."""
    run()
    (event,) = events
    assert 0.199 <= event.duration < 0.4
    assert event.busy is not None
    assert 0 < event.busy < 0.05


def test_busy_is_the_time_of_the_steps(
    events: list[SpanEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time between steps is part of the duration alone."""
    now = 0.0
    monkeypatch.setattr("hypertrace._span.clock", lambda: now)

    @traced
    def stepping() -> Iterator[None]:
        nonlocal now
        for _ in range(3):
            now += 1
            yield

    for _ in stepping():
        now += 10
    (event,) = events
    assert (event.duration, event.busy) == (33, 3)


# --- spans inside -----------------------------------------------------------------------------


def test_a_span_inside_is_open_during_the_steps_alone(events: list[SpanEvent]) -> None:
    """A span in a traced generator encloses what the generator does, not what its consumer does."""
    inside, outside = Tracer("inside"), Tracer("outside")

    @traced
    def generator() -> Iterator[None]:
        with inside.span("held"):
            for _ in range(2):
                with inside.span("step"):
                    pass
                yield

    for _ in generator():
        with outside.span():
            pass
    upstreams = [
        (event.id or event.object.class_name, event.upstream and event.upstream.class_name)
        for event in events
    ]
    assert upstreams == [
        ("step", "inside"),
        ("outside", None),
        ("step", "inside"),
        ("outside", None),
        ("held", __name__),
        (__name__, None),
    ]


def test_a_generator_left_inside_a_span_refers_to_nothing_in_a_circle(
    events: list[SpanEvent],
) -> None:
    """A generator that is freed inside its own spans ends them at once."""
    inside = Tracer("inside")

    @traced
    def generator() -> Iterator[None]:
        with inside.span(), inside.span():
            yield

    gc.disable()
    try:
        next(iter(generator()))
        results = [event.result for event in events]
    finally:
        gc.enable()
    assert results == ["ok"] * 3
