"""Ends of processes, and interrupts: traced code ends as untraced code does, wherever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import set_trace_function, swallowed_errors
from hypertrace.metrics import Metrics

from ..conftest import needs_fork
from .programs import DECORATED, capture_spans, function_counts_of, names_of, open_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from .programs import Program

OPEN = """
import atexit, asyncio, builtins, gc, os, sys, threading, types
from hypertrace import set_trace_function, traced
from hypertrace.metrics import Metrics

@types.coroutine
def pause():
    yield

@traced
def steps():
    yield 1
    yield 2

@traced
def guarded():
    try:
        yield 1
        yield 2
    finally:
        function(1)

@traced
async def waits():
    try:
        await pause()
        await pause()
    finally:
        function(2)

@traced
async def asteps():
    yield 1
    yield 2

@traced
def function(number):
    return number

class Job:
    def __init__(self):
        self.started = [steps(), guarded(), waits(), asteps().asend(None)]
        for one in self.started[:3]:
            one.send(None)
        try:
            self.started[3].send(None)
        except StopIteration:
            pass
    @traced
    def method(self):
        return function(3)
    def __del__(self, list=list, function=function, steps=steps):
        self.method()
        list(steps())
        function(4)

TRACE
job = Job()
job.method()
"""
TRACED_BY = {
    "metrics": "set_trace_function(Metrics())",
    "function": "events = []; set_trace_function(events.append)",
    "nothing": "",
}
LEFT = {
    "in a global": "",
    "in a cycle": "job.me = job; del job; gc.disable()",
    "in sys": "sys.job = job; del job",
    "in builtins": "builtins.job = job; del job",
    "at exit": "atexit.register(job.method); atexit.register(next, job.started[0]); del job",
    "in a frame": "def hold(job):\n    yield job\nheld = hold(job); next(held); del job",
    "in a daemon thread": """
def work():
    while True:
        Job().method()
threading.Thread(target=work, daemon=True).start()
""",
    "in a thread that waits": """
event = threading.Event()
@traced
def blocked():
    event.wait()
threading.Thread(target=blocked, daemon=True).start()
""",
    "at once": "os._exit(0)",
    "with an exit inside": """
@traced
def leaves():
    for _ in steps():
        sys.exit(0)
leaves()
""",
    "in a task": """
@traced
async def main():
    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    sys.task = task
async def waits():
    await asyncio.sleep(60)
waits = traced(waits)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("trace", TRACED_BY)
@pytest.mark.parametrize("left", LEFT)
def test_the_interpreter_ends_in_silence(left: str, trace: str) -> None:
    """Generators, coroutines and calls that are open at the end print nothing and raise nothing."""
    if trace != "metrics" and left not in {"in a global", "in a cycle", "in a daemon thread"}:
        pytest.skip("its end is alike")
    program = OPEN.replace("TRACE", TRACED_BY[trace]) + LEFT[left]
    ended = _run(program)
    assert (ended.returncode, ended.stderr) == (0, "")


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@needs_fork
def test_an_interrupt_ends_a_program_as_without() -> None:
    """A program that is interrupted in traced code ends with the traceback that it has without."""
    program = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
TRACE
@traced
def inner():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1_000_000): pass

@traced
def steps():
    yield inner()

list(steps())
"""
    plain = _run(program.replace("TRACE", "traced = lambda it: it"))
    tracing = (
        "from hypertrace import *; import hypertrace.metrics as m; set_trace_function(m.Metrics())"
    )
    done = _run(program.replace("TRACE", tracing))
    assert plain.returncode == -signal.SIGINT
    assert done.returncode == plain.returncode
    lines = [line.strip() for line in done.stderr.splitlines() if "hypertrace" not in line]
    functions = [line.partition(" in ")[2] for line in lines if " in " in line]
    assert functions[-2:] == ["steps", "inner"]
    assert lines[-1] == "KeyboardInterrupt"


INTERRUPTED = """
import types

@types.coroutine
def pause():
    yield

class Job:
    @traced
    def method(self):
        return function()
    @traced
    def steps(self):
        yield 1
        yield 2
    @traced
    def fails(self):
        raise LookupError

@traced
def function():
    return 1

@traced
async def waits():
    await pause()

def use():
    job = Job()
    job.method()
    for _ in job.steps():
        pass
    running = job.steps()
    next(running)
    running.close()
    try:
        job.fails()
    except LookupError:
        pass
    coroutine = waits()
    try:
        coroutine.send(None)
        coroutine.send(None)
    except StopIteration:
        pass
    finally:
        coroutine.close()
"""


class _Interrupts:
    """Raises at one of the lines of our package that run, as a signal handler may.

    The guard is left out: between the lines that restore its state no handler runs.
    """

    def __init__(self, place: int) -> None:
        self.left = place
        self.raised = False

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if not str(name).startswith("hypertrace") or name == "hypertrace._guard":
            return self
        if event == "line" and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise KeyboardInterrupt
        return self


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["events", "metrics"])
def test_an_interrupt_anywhere_in_tracing_passes_on(kind: str, program: Program) -> None:
    """Interrupted at each line of ours in turn, the application sees it, and nothing stays open."""
    before, place, seen = sys.gettrace(), 0, 0
    shop: Any = None
    while True:
        # Made each time, so that each time the first call goes the long way.
        shop = program.load(INTERRUPTED, DECORATED)
        function: Callable[[Any], object] = [].append
        set_trace_function(Metrics() if kind == "metrics" else function)
        interrupts = _Interrupts(place)
        sys.settrace(interrupts)
        try:
            shop.use()
        except KeyboardInterrupt:
            seen += 1
        finally:
            sys.settrace(before)
        assert (place, open_calls()) == (place, 0)
        if not interrupts.raised:
            break
        with capture_spans() as events:
            shop.use()
        expected = {"method": 1, "function": 1, "steps": 2, "fails": 1, "waits": 1}
        assert (place, names_of(events)) == (place, expected)
        place += 1 if place < 60 else 29
    assert place > 60
    assert seen > 0
    assert swallowed_errors() == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer here")
def test_signals_that_raise_while_calls_run(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt reaches the application each time, and no call stays open.

    Those in finalizers reach `sys.unraisablehook`, as without tracing. A second one may come while
    the program cleans up after the first.
    """
    metrics = Metrics()
    set_trace_function(metrics)
    shop = program.load(INTERRUPTED, DECORATED)
    sent, unseen, rounds = 0, 0, 0
    lost: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lost.append)

    def handler(_: int, frame: Any) -> None:
        nonlocal sent
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while frame is not None and frame.f_code is not shop.use.__code__:
            frame = frame.f_back
        if frame is not None:
            sent += 1
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while sent < 100:
            earlier = sent
            with suppress(KeyboardInterrupt):
                shop.use()
                rounds += 1
                unseen += sent - earlier
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert unseen <= len(lost)
    assert swallowed_errors() == 0
    assert open_calls() == 0
    reading = metrics.read()
    counts = function_counts_of(reading)
    assert rounds <= counts["method"] <= rounds + sent
