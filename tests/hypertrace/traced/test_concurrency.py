"""Concurrency: threads, forks, greenlets, interpreters and the collector leave no call open."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import random
import sys
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import (
    clear_trace_function,
    dropped_events,
    instrument,
    set_trace_function,
    swallowed_errors,
)
from hypertrace.metrics import Metrics

from ...running import in_threads
from ..conftest import needs_fork
from .programs import DECORATED, PLAIN, function_counts_of, names_of, open_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace import SpanEvent
    from hypertrace.metrics import Reading

    from .programs import Program

    Python = Callable[..., str]

HOT = """
import contextlib, types

@types.coroutine
def pause():
    yield

class Job:
    @traced
    def method(self, number):
        return function(number) + 1
    @property
    @traced
    def size(self):
        return 1

@traced
def function(number):
    return number + 1

@traced
def fails(number):
    raise LookupError(number)

@traced
def steps(number):
    for one in range(number):
        yield one

@traced
def guarded(number):
    try:
        yield from steps(number)
    finally:
        len("")

@traced
async def waits(number):
    await pause()
    return number

@traced
def recursive(number):
    return recursive(number - 1) if number else 0

def work(number):
    job = Job()
    assert job.method(number) == number + 2
    assert job.size == 1
    with contextlib.suppress(LookupError):
        fails(number)
    assert list(guarded(3)) == [0, 1, 2]
    running = guarded(3)
    next(running)
    running.close()
    running = steps(2)
    next(running)
    del running
    coroutine = waits(number)
    coroutine.send(None)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        assert stop.value == number
    assert recursive(5) == 0
"""
ROUND = {
    "method": 1,
    "function": 1,
    "size": 1,
    "fails": 1,
    "steps": 3,
    "guarded": 2,
    "waits": 1,
    "recursive": 6,
}
"""Spans of one `work()`, by function."""


def _in_progress(reading: Reading) -> set[object]:
    return {point.value for point in reading.family("function_in_progress").points}


def test_hot_threads_are_counted_exactly(program: Program) -> None:
    """Threads that call the same functions have each of their calls counted."""
    metrics = Metrics()
    set_trace_function(metrics)
    shop = program.load(HOT, DECORATED)
    in_threads(*[lambda: [shop.work(number) for number in range(300)]] * 3)
    reading = metrics.read()
    assert function_counts_of(reading) == {name: 900 * number for name, number in ROUND.items()}
    assert _in_progress(reading) <= {0}
    assert (open_calls(), swallowed_errors()) == (0, 0)


@pytest.mark.parametrize("switch", ["trace function", "instrument"])
def test_200_switches_against_hot_threads(switch: str, program: Program) -> None:
    """Switching on and off while threads call changes no result, and leaves nothing open."""
    metrics = Metrics()
    shop = program.load(HOT, DECORATED if switch == "trace function" else PLAIN)
    names = ["function", "guarded", "waits"]
    done = threading.Event()
    rounds = Counter[int]()

    def work(index: int) -> None:
        while not done.is_set():
            shop.work(rounds[index])
            rounds[index] += 1

    def turn() -> None:
        try:
            for number in range(200):
                if switch == "trace function":
                    set_trace_function(metrics)
                    shop.work(number)
                    clear_trace_function()
                else:
                    handles = [instrument(f"shop:{name}") for name in names]
                    shop.work(number)
                    for handle in handles:
                        handle.undo()
        finally:
            done.set()

    if switch == "instrument":
        set_trace_function(metrics)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    try:
        in_threads(turn, *[partial(work, index) for index in range(3)])
    finally:
        sys.setswitchinterval(interval)
    counts, reading = function_counts_of(metrics.read()), metrics.read()
    assert _in_progress(reading) <= {0}
    switched = ROUND if switch == "trace function" else {name: ROUND[name] for name in names}
    for name, number in switched.items():
        # Those of the thread that switches, at least; of the others, those that were on.
        assert 200 * number <= counts[name] <= (200 + sum(rounds.values())) * number
    assert (open_calls(), swallowed_errors()) == (0, 0)
    before = counts["function"]
    clear_trace_function()
    shop.work(1)
    assert function_counts_of(metrics.read())["function"] == before


def test_functions_that_threads_make_and_drop(program: Program) -> None:
    """Threads that make functions of one code object, trace them, call and drop them."""
    source = """
def make():
    @traced
    def inner(number):
        yield number
        yield number
    @traced
    def outer(number):
        return list(inner(number))
    return outer
"""
    metrics = Metrics()
    set_trace_function(metrics)
    shop = program.load(source, DECORATED)

    def work() -> None:
        for number in range(200):
            assert shop.make()(number) == [number, number]

    in_threads(*[work] * 3)
    gc.collect()
    counts = function_counts_of(metrics.read())
    assert sum(counts.values()) == 2 * 3 * 200
    assert open_calls() == 0


def test_generators_that_other_threads_close_and_drop(program: Program) -> None:
    """Generators and coroutines that are closed, dropped or thrown into by another thread."""
    metrics = Metrics()
    set_trace_function(metrics)
    shop = program.load(HOT, DECORATED)
    made: list[Any] = []
    for _ in range(100):
        made += shop.steps(3), shop.guarded(3), shop.waits(1)
        for running in range(-3, 0):
            made[running].send(None)
    third = len(made) // 3

    def close(part: list[Any]) -> None:
        while part:
            part.pop().close()

    def throw(part: list[Any]) -> None:
        while part:
            with pytest.raises(LookupError):
                part.pop().throw(LookupError())

    parts = made[:third], made[third : 2 * third], made[2 * third :]
    made.clear()
    in_threads(lambda: close(parts[0]), lambda: throw(parts[1]), parts[2].clear)
    reading = metrics.read()
    assert function_counts_of(reading) == {"steps": 200, "guarded": 100, "waits": 100}
    assert _in_progress(reading) <= {0}
    assert open_calls() == 0


def test_generators_that_the_collector_closes(program: Program, events: list[SpanEvent]) -> None:
    """Generators in cycles end when the collector finds them, whatever runs at that moment.

    What a finalizer traces while the trace function runs is dropped, and counted as such.
    """
    source = (
        HOT
        + """
class Cycle:
    def __init__(self, running):
        self.me, self.running = self, running
    def __del__(self):
        function(1)
        list(steps(2))
"""
    )
    shop = program.load(source, DECORATED)
    gc.collect()
    threshold = gc.get_threshold()
    numbers = random.Random(1)
    try:
        for number in range(400):
            gc.set_threshold(numbers.randrange(1, 60), 20, 50)
            running = (shop.steps, shop.guarded, shop.waits)[number % 3](3)
            running.send(None)
            shop.Cycle(running)
            del running
            shop.function(number)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    gc.collect()
    counts, dropped = names_of(events), dropped_events()
    expected = {"steps": 134 + 133 + 400, "guarded": 133, "waits": 133, "function": 800}
    assert counts.total() + dropped == sum(expected.values())
    assert counts["guarded"] == counts["waits"] == 133
    assert counts["function"] >= 400
    assert open_calls() == 0


@needs_fork
def test_forks_during_calls(python: Python) -> None:
    """A child that is forked inside calls ends them, counts its own, and nothing is left open."""
    code = """
import os, threading
from hypertrace import swallowed_errors, traced
from hypertrace.testing import capture_events

def open_calls():
    from hypertrace import _compiled
    count = getattr(_compiled.speedups, "open_calls", lambda: 0)
    return count()

@traced
def outer(depth):
    if depth:
        return outer(depth - 1)
    return list(steps())

@traced
def steps():
    yield 1
    pid = os.fork()
    yield pid
    return 3

@traced
def blocked(event, started):
    started.set()
    event.wait(30)

@traced
def suspended():
    yield 1
    yield 2

import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of threads and forks
event, started = threading.Event(), threading.Event()
with capture_events() as events:
    other = suspended()
    next(other)
    thread = threading.Thread(target=blocked, args=(event, started), daemon=True)
    thread.start()
    started.wait(30)
    one, pid = outer(3)
    names = [e.caller.function_name for e in events]
    assert names == ["steps"] + ["outer"] * 4, names
    if pid == 0:
        list(other)
        outer_names = [e.caller.function_name for e in events[5:]]
        assert outer_names == ["suspended"], outer_names
        assert open_calls() == 0, open_calls()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    event.set()
    thread.join(30)
    list(other)
    assert [e.caller.function_name for e in events[5:]] == ["blocked", "suspended"]
assert (open_calls(), swallowed_errors()) == (0, 0)
print("forked")
"""
    assert python(code) == "forked\n"


@pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="needs gevent: pip install gevent"
)
@pytest.mark.parametrize("sleeps", ["in the functions", "in the trace function"])
def test_greenlets_that_switch_inside_of_calls(sleeps: str, python: Python) -> None:
    """Greenlets that take turns inside traced calls and generators are counted exactly."""
    code = """
import gevent
from collections import Counter
from functools import partial
from hypertrace import SpanEvent, set_trace_function, swallowed_errors, traced

def open_calls():
    from hypertrace import _compiled
    return getattr(_compiled.speedups, "open_calls", lambda: 0)()

def sleep(where):
    if where == WHERE:
        gevent.sleep(0)

counts = Counter()
def count(event):
    sleep("in the trace function")
    counts[event.caller.function_name, event.result] += 1
set_trace_function(count)

class Job:
    @traced
    def method(self, depth):
        sleep("in the functions")
        return self.method(depth - 1) if depth else list(steps())

@traced
def steps():
    for number in range(3):
        sleep("in the functions")
        yield number

@traced
def fails():
    sleep("in the functions")
    raise LookupError

def work(index):
    for number in range(10):
        assert Job().method(3) == [0, 1, 2]
        try:
            fails()
        except LookupError:
            pass
        running = steps()
        next(running)
        gevent.sleep(0)
        running.close()

greenlets = [gevent.spawn(work, index) for index in range(20)]
gevent.joinall(greenlets, timeout=40, raise_error=True)
killed = gevent.spawn(lambda: Job().method(3))
expected = {("method", "ok"): 800, ("fails", "error"): 200, ("steps", "ok"): 400}
assert counts == expected, counts
assert (open_calls(), swallowed_errors()) == (0, 0)
print("exact")
"""
    assert python(code.replace("WHERE", repr(sleeps))) == "exact\n"


INTERPRETER = """
try:
    import _interpreters as interpreters
except ModuleNotFoundError:
    try:
        import _xxsubinterpreters as interpreters
    except ModuleNotFoundError:
        print("none")
        sys.exit()
from hypertrace import set_trace_function, traced
events = []
set_trace_function(events.append)

code = '''
from hypertrace import set_trace_function, traced
events = []
set_trace_function(events.append)

@traced
def function(number):
    return number + 1

@traced
def steps():
    yield 1
    yield 2

for number in range(50):
    assert function(number) == number + 1
    assert list(steps()) == [1, 2]
running = steps()
next(running)
assert len(events) == 100, len(events)
'''

@traced
def function():
    return 1

@traced
def inside():
    for _ in range(3):
        other = interpreters.create()
        failed = interpreters.run_string(other, code)
        if failed:
            print(failed)
        interpreters.destroy(other)
        function()

inside()
function()
assert [e.caller.function_name for e in events] == ["function"] * 3 + ["inside", "function"]
print("done")
"""


def test_subinterpreters(python: Python) -> None:
    """Another interpreter traces with closures or not at all, and the first one goes on."""
    assert python(INTERPRETER, "-W", "ignore") in {"done\n", "none\n"}


def test_tasks_that_are_cancelled_and_time_out(program: Program, events: list[SpanEvent]) -> None:
    """Hundreds of tasks that end in each way are counted by their result."""
    source = """
import asyncio

@traced
async def sleeps(number):
    await asyncio.sleep(0)
    if number % 4 == 0:
        await asyncio.sleep(60)
    if number % 4 == 1:
        raise LookupError(number)
    async with asyncio.timeout(0.001 if number % 4 == 2 else 60):
        await inner(number)

@traced
async def inner(number):
    await asyncio.sleep(60 if number % 4 == 2 else 0)
    async for _ in ticks():
        pass

@traced
async def ticks():
    for _ in range(2):
        yield
        await asyncio.sleep(0)

async def main():
    tasks = [asyncio.ensure_future(sleeps(number)) for number in range(200)]
    await asyncio.sleep(0.01)
    for task in tasks[::4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(result).__name__ for result in results]
"""
    shop = program.load(source, DECORATED)
    results = asyncio.run(shop.main())
    kinds = {"CancelledError": 50, "LookupError": 50, "TimeoutError": 50, "NoneType": 50}
    assert Counter(results) == kinds
    counts = Counter((event.caller.function_name, event.result) for event in events)
    assert counts == {
        ("sleeps", "cancelled"): 50,
        ("sleeps", "error"): 100,
        ("sleeps", "ok"): 50,
        ("inner", "cancelled"): 50,
        ("inner", "ok"): 50,
        ("ticks", "ok"): 50,
    }
    assert open_calls() == 0


def test_a_thread_that_never_ends_is_open_once(program: Program) -> None:
    """A call that runs is the only one that is open, and is none once it has ended."""
    source = """
import threading
event, started = threading.Event(), threading.Event()

@traced
def blocked():
    started.set()
    event.wait(60)
"""
    metrics = Metrics()
    set_trace_function(metrics)
    shop = program.load(source, DECORATED)
    thread = threading.Thread(target=shop.blocked)
    thread.start()
    shop.started.wait(60)
    assert _in_progress(metrics.read()) == {1}
    shop.event.set()
    thread.join(60)
    assert _in_progress(metrics.read()) <= {0}
    assert open_calls() == 0
