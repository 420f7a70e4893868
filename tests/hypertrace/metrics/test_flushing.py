"""Flushes: blocks and functions after which exporters have sent what came in."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace.rate_limit
from hypertrace.metrics import Metrics, flushing
from hypertrace.metrics.flushing import Flushed, flush_all
from hypertrace.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 30.0


@pytest.fixture(autouse=True)
def _log_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_log_limit", RateLimit())


class Flushes:
    """A flush that keeps its time-outs, and succeeds or not."""

    def __init__(self, *, succeeds: bool = True) -> None:
        self.timeouts: list[float] = []
        self.succeeds = succeeds

    def __call__(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        return self.succeeds


class HandlerError(Exception):
    """What the application raises."""


def test_a_block_flushes_at_its_end() -> None:
    """Not before, and each time."""
    flushes = Flushes()
    flushed = Flushed(flushes, 0.5)
    for times in (1, 2):
        with flushed:
            assert len(flushes.timeouts) == times - 1
        assert flushes.timeouts == [0.5] * times


@pytest.mark.parametrize("succeeds", [True, False])
@pytest.mark.parametrize("kind", [HandlerError, KeyboardInterrupt, SystemExit])
def test_what_a_block_raises_passes_through(kind: type[BaseException], succeeds: bool) -> None:
    """The same error, with nothing added, whether the flush succeeds or not."""
    flushes, raised = Flushes(succeeds=succeeds), kind("as it was")

    @Flushed(flushes, 0.5)
    def handler() -> None:
        raise raised

    with pytest.raises(kind) as caught:
        handler()
    assert caught.value is raised
    assert (raised.__context__, raised.__cause__) == (None, None)
    assert len(flushes.timeouts) == 1


def test_a_function_is_what_it_was() -> None:
    """Name, signature, arguments, result, and as a method."""
    flushes = Flushes()

    @Flushed(flushes, 0.5)
    def handler(event: str, *, context: int = 1) -> tuple[str, int]:
        """Handle an event."""
        assert not flushes.timeouts
        return event, context

    class Service:
        handle = Flushed(flushes, 0.5)(lambda self, event: (self, event))

    assert handler("a", context=2) == ("a", 2)
    assert (handler.__name__, handler.__doc__) == ("handler", "Handle an event.")
    assert str(inspect.signature(handler)).startswith("(event: 'str', *, context: 'int' = 1)")
    service = Service()
    assert service.handle("b") == (service, "b")
    assert len(flushes.timeouts) == 2


def test_a_coroutine_function_stays_one() -> None:
    """It flushes when the coroutine has returned or raised, not when it is made."""
    flushes = Flushes()

    @Flushed(flushes, 0.5)
    async def handler(result: Any) -> Any:
        await asyncio.sleep(0)
        assert not flushes.timeouts
        if result is HandlerError:
            raise HandlerError
        return result

    assert inspect.iscoroutinefunction(handler)
    coroutine = handler(1)
    assert not flushes.timeouts
    assert asyncio.run(coroutine) == 1
    assert len(flushes.timeouts) == 1
    flushes.timeouts.clear()
    with pytest.raises(HandlerError):
        asyncio.run(handler(HandlerError))
    assert len(flushes.timeouts) == 1


def test_an_object_with_an_async_call_is_awaited() -> None:
    """As an ASGI application may be one."""
    flushes = Flushes()

    class Handler:
        async def __call__(self, event: str) -> str:
            await asyncio.sleep(0)
            assert not flushes.timeouts
            return event

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

    assert asyncio.run(Flushed(flushes, 0.5)(Handler())("a")) == "a"
    assert len(flushes.timeouts) == 1


def test_the_event_loop_goes_on_meanwhile() -> None:
    """A flush that takes long delays the task that flushes, and no other one."""
    other_ran, thread = threading.Event(), []

    def flush(_: float) -> bool:
        thread.append(threading.current_thread())
        return other_ran.wait(SOON)

    async def other() -> None:
        await asyncio.sleep(0)
        other_ran.set()

    async def main() -> None:
        async def flushing_one() -> None:
            async with Flushed(flush, 0.5):
                pass

        await asyncio.gather(flushing_one(), other())

    asyncio.run(main())
    assert thread != [threading.current_thread()]


def test_a_cancelled_handler_flushes() -> None:
    """The cancellation passes through."""
    flushes = Flushes()

    async def main() -> None:
        @Flushed(flushes, 0.5)
        async def handler() -> None:
            await asyncio.sleep(SOON)

        task = asyncio.create_task(handler())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(flushes.timeouts) == 1


def test_without_asyncio_a_coroutine_flushes_itself() -> None:
    """In the event loop of another library, the end of the block waits."""
    flushes = Flushes()

    @Flushed(flushes, 0.5)
    async def handler() -> int:
        return 1

    with pytest.raises(StopIteration) as ended:
        handler().send(None)
    assert ended.value.value == 1
    assert len(flushes.timeouts) == 1


def test_a_flush_that_fails_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how long it had; never raised."""
    now = [1_000.0]
    monkeypatch.setattr(hypertrace.rate_limit, "monotonic", lambda: now[0])
    flushed = Flushed(Flushes(succeeds=False), 0.25)
    for seconds in (0, 1, 1, 60):
        now[0] += seconds
        with flushed:
            pass
    message = (
        "Not all exporters have sent what came in within 0.25 seconds; it is part of their next "
        "attempt"
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{message} (0 more flushes not logged)",
        f"{message} (2 more flushes not logged)",
    ]
    assert {record.name for record in caplog.records} == {"hypertrace.exporters"}


def test_a_broken_log_handler_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs its line."""

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(logging.getLogger("hypertrace.exporters"), "handle", fail)
    with Flushed(Flushes(succeeds=False), 0.25):
        pass


def generator() -> Iterator[int]:
    """Yield."""
    yield 1


async def async_generator() -> Any:
    """Yield."""
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_function_is_refused(function: Callable[..., Any]) -> None:
    """It has done nothing yet when it returns; the error says what to do."""
    with pytest.raises(TypeError, match="use a with block in it instead"):
        Flushed(Flushes(), 0.5)(function)


@pytest.mark.parametrize("function", [1, "handler", HandlerError, None])
def test_what_is_no_function_is_refused(function: Any) -> None:
    """Classes among them."""
    with pytest.raises(TypeError, match="only a function can be flushed after, not"):
        Flushed(Flushes(), 0.5)(function)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 3_601])
def test_a_timeout_is_a_time(timeout: float) -> None:
    """One that no program means is refused."""
    with pytest.raises(ValueError, match="timeout must be above 0 and up to 3600 seconds"):
        Metrics().flushed(timeout)


@pytest.mark.parametrize("timeout", ["2", None, True])
def test_a_timeout_is_a_number(timeout: Any) -> None:
    """One that is no number is refused."""
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not"):
        Metrics().flushed(timeout)


class Waiting:
    """An exporter whose flush takes some seconds."""

    def __init__(self, seconds: float, *, succeeds: bool = True) -> None:
        self._seconds = seconds
        self._succeeds = succeeds
        self.asked = 0

    def request_flush(self) -> Callable[[float], bool]:
        self.asked += 1
        done = time.monotonic() + self._seconds

        def wait(timeout: float) -> bool:
            assert timeout >= 0
            left = done - time.monotonic()
            time.sleep(max(0.0, min(left, timeout)))
            return left <= timeout and self._succeeds

        return wait


def test_all_are_flushed_at_the_same_time() -> None:
    """All together take as long as the slowest one, or the time-out."""
    started = time.monotonic()
    assert flush_all([Waiting(0.2) for _ in range(50)], SOON)
    assert time.monotonic() - started < 5
    assert not flush_all([*(Waiting(SOON) for _ in range(50)), Waiting(0)], 0.2)
    assert time.monotonic() - started < 10


def test_each_is_waited_for_after_one_has_failed() -> None:
    """One that fails at once does not end the wait for the others."""
    started = time.monotonic()
    assert not flush_all([Waiting(0, succeeds=False), Waiting(0.2)], SOON)
    assert time.monotonic() - started >= 0.2


def test_metrics_flush_what_is_attached() -> None:
    """From when it is attached until it is detached, once however often it was attached."""
    metrics, one, other = Metrics(), Waiting(0), Waiting(0, succeeds=False)
    assert metrics.flush()
    metrics.exports.attach(one)
    metrics.exports.attach(one)
    assert metrics.flush()
    metrics.exports.attach(other)
    assert not metrics.flush()
    metrics.exports.detach(other)
    metrics.exports.detach(other)
    with metrics.flushed():
        pass
    assert (one.asked, other.asked) == (3, 1)
