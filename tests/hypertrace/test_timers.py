"""Timers: what they measure of blocks, functions, coroutines and generators."""

from __future__ import annotations

import asyncio
import inspect
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import _span
from hypertrace.timers import Timer, timed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def fail_after(clock: Clock, seconds: float) -> None:
    """Raise a `KeyError` when some time has passed."""
    clock.move(seconds)
    raise KeyError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let timers read a clock that the test moves."""
    moved = Clock()
    monkeypatch.setattr(_span, "clock", moved)
    return moved


def test_a_block_is_measured(clock: Clock) -> None:
    """A context manager reports the seconds of its block, each time."""
    seen: list[float] = []
    timer = Timer(seen.append)
    with timer:
        clock.move(2.0)
    with timer:
        clock.move(3.0)
    assert seen == [2.0, 3.0]


def test_a_block_that_raises_is_measured(clock: Clock) -> None:
    """The exception of the block goes on, after the seconds are reported."""
    seen: list[float] = []
    with pytest.raises(KeyError), Timer(seen.append):
        fail_after(clock, 1.0)
    assert seen == [1.0]


def test_each_call_of_a_function_is_measured(clock: Clock) -> None:
    """A decorated function returns what it returns, and reports each call."""
    seen: list[float] = []

    @Timer(seen.append)
    def pay(amount: float, *, tip: float = 0) -> float:
        """Pay."""
        clock.move(amount)
        return amount + tip

    assert pay(1.0, tip=0.5) == 1.5
    assert pay(2.0) == 2.0
    assert seen == [1.0, 2.0]
    assert (pay.__name__, pay.__doc__) == ("pay", "Pay.")
    assert inspect.signature(pay).parameters.keys() == {"amount", "tip"}


def test_a_call_that_raises_is_measured(clock: Clock) -> None:
    """The exception of the function goes on."""
    seen: list[float] = []

    @Timer(seen.append)
    def fail() -> None:
        clock.move(1.0)
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [1.0]


def test_methods_are_measured(clock: Clock) -> None:
    """A decorated method gets its object, and a recursive one reports every call."""
    seen: list[float] = []

    class Shop:
        @Timer(seen.append)
        def count(self, depth: int) -> int:
            clock.move(1.0)
            return self.count(depth - 1) + 1 if depth else 0

    assert Shop().count(2) == 2
    assert seen == [1.0, 2.0, 3.0]


def test_other_callables_are_measured(clock: Clock) -> None:
    """A partial of a function, and an object with `__call__`, are called as before."""
    seen: list[float] = []
    moved = timed(partial(clock.move, 2.0), seen.append)
    moved()
    assert seen == [2.0]
    assert isinstance(moved, partial)


def test_a_coroutine_is_measured_to_its_end(clock: Clock) -> None:
    """A coroutine function stays one, and its time is not that of making the coroutine."""
    seen: list[float] = []

    @Timer(seen.append)
    async def fetch(seconds: float) -> str:
        clock.move(seconds)
        await asyncio.sleep(0)
        clock.move(seconds)
        return "done"

    async def main() -> list[str]:
        return [await fetch(1.0), *await asyncio.gather(fetch(2.0), fetch(4.0))]

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(main()) == ["done"] * 3
    assert seen == [2.0, 8.0, 10.0]  # the two waited for each other


def test_a_generator_is_measured_from_its_first_step(clock: Clock) -> None:
    """A generator function stays one; what it is sent, and what it returns, gets through."""
    seen: list[float] = []

    @Timer(seen.append)
    def count(limit: int) -> Generator[int, Any, int]:
        total = 0
        for number in range(limit):
            clock.move(1.0)
            total += (yield number) or 0
        return total

    assert inspect.isgeneratorfunction(count)
    generator: Any = count(2)
    clock.move(100.0)
    assert not seen
    next(generator)
    clock.move(10.0)
    assert generator.send(5) == 1
    with pytest.raises(StopIteration) as stopped:
        generator.send(6)
    assert stopped.value.value == 11
    assert seen == [12.0]


def test_a_generator_that_is_closed_is_measured(clock: Clock) -> None:
    """Closing ends the time; a generator that never ran has none."""
    seen: list[float] = []

    @Timer(seen.append)
    def endless() -> Iterator[int]:
        while True:
            clock.move(1.0)
            yield 1

    unused: Any = endless()
    unused.close()
    assert seen == []
    running: Any = endless()
    next(running)
    running.close()
    assert seen == [1.0]


def test_an_asynchronous_generator_is_measured(clock: Clock) -> None:
    """It is measured from its first step to its end."""
    seen: list[float] = []

    @Timer(seen.append)
    async def pages(count: int) -> AsyncIterator[int]:
        for page in range(count):
            clock.move(1.0)
            yield page

    async def main() -> list[int]:
        return [page async for page in pages(3)]

    assert inspect.isasyncgenfunction(pages)
    assert asyncio.run(main()) == [0, 1, 2]
    assert seen == [3.0]


def test_many_threads_may_call_a_timed_function() -> None:
    """No call gets the time of another."""
    seen: list[float] = []
    barrier = threading.Barrier(8)

    @Timer(seen.append)
    def meet() -> None:
        barrier.wait()

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(seconds >= 0 for seconds in seen)


def test_what_cannot_be_called_is_refused() -> None:
    """The error names it."""
    with pytest.raises(TypeError, match="cannot time 3: it is not callable"):
        Timer(print)(3)  # type: ignore[type-var]
