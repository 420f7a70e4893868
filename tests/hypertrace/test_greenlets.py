"""Tasks, greenlets and finalizers: counted exactly, and none disturbs another."""

import asyncio
import gc
import importlib.util
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hypertrace
from hypertrace import SpanEvent, Tracer, _span, swallowed_errors, traced
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


def test_a_thousand_tasks_are_counted_exactly(counts: Counts) -> None:
    """Calls of many tasks, with awaits between them, are all counted."""
    tracer = Tracer("shared")

    @traced
    async def step() -> None:
        await asyncio.sleep(0)

    async def work() -> None:
        for i in range(5):
            tracer.trace()
            await asyncio.sleep(0)
            tracer.trace("id", i=i % 2)
            await step()

    async def run() -> None:
        await asyncio.gather(*[work() for _ in range(1_000)])

    asyncio.run(run())
    assert counts("id") == {None: 10_000, "id": 5_000}


PROGRAM = """
import faulthandler, sys
faulthandler.dump_traceback_later(50, exit=True)
BEFORE
from hypertrace import Cell, PropsRecorder, Tracer, dropped_events, set_trace_function
from hypertrace import swallowed_errors, traced
AFTER
import gevent, gevent.lock, logging, threading, time

# Patched: each sleep lets another greenlet go on, here inside of a trace function.
class Counting:
    def __init__(self):
        self.cell, self.known = Cell(), {}
    def __call__(self, event):
        time.sleep(0)
        logging.getLogger("other").info("counted")
        inner.trace()
        self.cell.increment()
    def share_key(self, object, parent):
        time.sleep(0)
        return object.class_name
    def bind(self, event):
        time.sleep(0)
        return self.cell.increment
    def make(self, values, props):
        time.sleep(0)
        return self.known.setdefault(values, self.cell.increment)
    def bind_props(self, event):
        time.sleep(0)
        return PropsRecorder(("a",), self.known, self.make).record

def run(function, counting):
    global inner
    set_trace_function(function)
    inner = Tracer("inner")
    shared = Tracer("shared")

    @traced
    def step(number):
        time.sleep(0)

    def work(number):
        own = Tracer(f"own{number % 10}")
        for i in range(20):
            shared.trace()
            time.sleep(0)
            own.trace("id", a=str(i))
            time.sleep(0)
            with own.span():
                step(i)

    greenlets = [gevent.spawn(work, number) for number in range(100)]
    gevent.joinall(greenlets, timeout=40, raise_error=True)
    assert all(greenlet.successful() for greenlet in greenlets)
    # The spans of a function that is bound for trace() alone are given to it as events.
    return counting.cell.value

counting = Counting()
assert run(counting.__call__, counting) == 100 * 20 * 4, counting.cell.value
assert dropped_events() == 100 * 20 * 4
counting = Counting()
assert run(counting, counting) == 100 * 20 * 4, counting.cell.value
assert dropped_events() == 100 * 20 * 6
assert swallowed_errors() == 0
print("exact")
"""
PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="needs gevent: pip install gevent"
)
@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_greenlets_are_counted_exactly(when: str) -> None:
    """Greenlets that switch inside trace functions lose no event, with any order of patching."""
    program = PROGRAM.replace(when, PATCH, 1).replace("BEFORE", "").replace("AFTER", "", 1)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "exact\n", "")


FINALIZERS = """
import gc, random
from hypertrace import Tracer, set_trace_function

numbers = random.Random(1)
events = []
set_trace_function(events.append)
tracer = Tracer("a")

class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        with tracer.span():
            tracer.trace()

for _ in range(8_000):
    gc.set_threshold(numbers.randrange(1, 60), 20, 50)
    Cycle()
    events.clear()
    with tracer.span():
        with tracer.span():
            tracer.trace()
print("alive")
"""


def test_finalizers_come_in_anywhere() -> None:
    """The collector may run finalizers that open spans wherever memory is taken; all goes well."""
    ended = subprocess.run(
        [sys.executable, "-c", FINALIZERS],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "alive\n", "")


GENERATORS = """
import contextvars, gc
from hypertrace import Tracer, set_trace_function, swallowed_errors

set_trace_function(lambda _: None)
tracer = Tracer("a")
variables = [contextvars.ContextVar(str(number)) for number in range(30)]

def hold():
    def inside():
        with tracer.span():
            yield me
    me = inside()
    next(me)

gc.set_threshold(1)
for number in range(4_000):
    hold()
    variables[number % 30].set([number])
assert swallowed_errors() == 0
print("alive")
"""


def test_the_collector_may_end_a_span_anywhere() -> None:
    """A generator that is collected while a context variable is set ends its span, and no more."""
    ended = subprocess.run(
        [sys.executable, "-c", GENERATORS],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "alive\n", "")


@pytest.mark.skipif(hypertrace.COMPILED, reason="the compiled core has its own check")
def test_a_span_that_the_collector_ends_leaves_the_context_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A generator that is closed in a collection sets no context variable; later spans do."""

    def hold() -> Any:
        with tracer.span("held"):
            yield

    with capture_events() as events:
        tracer = Tracer("spans")
        held = hold()
        next(held)
        current = _span._current.get()
        with monkeypatch.context() as patch:
            patch.setattr(_span, "is_collecting", lambda: True)
            held.close()
        assert current is not None
        assert _span._current.get() is current
        with tracer.span("after"):
            pass
    held_event, after = events
    assert isinstance(after, SpanEvent)
    assert (held_event.id, after.id, after.upstream) == ("held", "after", None)


def test_the_collector_in_one_thread_leaves_the_spans_of_others_alone() -> None:
    """A span that starts while another thread is in a finalizer knows what it is inside of."""
    held, released = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            held.set()
            assert released.wait(10)

    with capture_events() as events:
        tracer = Tracer("spans")
        gc.collect()
        Slow()
        collecting = threading.Thread(target=gc.collect)
        collecting.start()
        assert held.wait(10)
        with tracer.span("outer"), tracer.span("inner"):
            pass
        released.set()
        collecting.join()
    inner, outer = events
    assert isinstance(inner, SpanEvent)
    assert inner.upstream is not None
    assert outer.id == "outer"


def test_a_collection_while_a_span_asks_for_it_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collection that runs while a span checks for one is not taken for one of its thread."""

    def collected_meanwhile(phases: dict[str, object]) -> Iterator[str]:
        found = reversed(phases)
        gc.collect()
        return found

    monkeypatch.setattr(_span, "reversed", collected_meanwhile, raising=False)

    @traced
    def numbers() -> Iterator[int]:
        yield 1

    with capture_events() as events, Tracer("outer").span():
        assert list(numbers()) == [1]
    inner, _ = events
    assert isinstance(inner, SpanEvent)
    assert inner.upstream is not None
    assert swallowed_errors() == 0


FIRST_COLLECTION = """
import gc, threading
gc.disable()
from hypertrace import Tracer, _span, set_trace_function, swallowed_errors, traced

held, released = threading.Event(), threading.Event()

class Slow:
    def __init__(self):
        self.me = self
    def __del__(self):
        held.set()
        released.wait(10)

def ended_meanwhile(phases):
    found = reversed(phases)
    released.set()
    collecting.join()
    return found

@traced
def numbers():
    yield 1

set_trace_function(lambda event: None)
Slow()
collecting = threading.Thread(target=gc.collect)
collecting.start()
held.wait(10)
_span.reversed = ended_meanwhile
with Tracer("outer").span():
    print(list(numbers()), swallowed_errors())
released.set()
"""


def test_the_first_collection_is_one_like_the_others() -> None:
    """A span that looks for a collection may do so while another thread ends its very first one."""
    ended = subprocess.run(
        [sys.executable, "-c", FIRST_COLLECTION],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[1] 0\n", "")
