"""Recursion: as deep as without tracing, and no deeper than the interpreter can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import set_trace_function, swallowed_errors
from hypertrace.metrics import Metrics

from .programs import DECORATED, counts_of, in_place, names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .programs import Program

    Same = Callable[..., Any]
    Python = Callable[..., str]

pytestmark = in_place

DEPTHS = """
import asyncio, sys, threading

started = 0

@traced
def function():
    global started
    started += 1
    return function()

class Job:
    @traced
    def method(self):
        global started
        started += 1
        return self.method()

    @property
    @traced
    def size(self):
        global started
        started += 1
        return self.size

    @traced
    def __call__(self):
        global started
        started += 1
        return self()

@traced
def generator():
    global started
    started += 1
    yield from generator()

@traced
async def coroutine():
    global started
    started += 1
    await coroutine()

@traced
async def agenerator():
    global started
    started += 1
    async for one in agenerator():
        yield one

RUNS = {
    "function": lambda: function(),
    "method": lambda: Job().method(),
    "property": lambda: Job().size,
    "call": lambda: Job()(),
    "generator": lambda: list(generator()),
    "coroutine": lambda: coroutine().send(None),
    "async generator": lambda: agenerator().asend(None).send(None),
}

def calls_of(run):
    global started
    started = 0
    try:
        run()
    except RecursionError:
        return started

def main():
    found = []
    def work():
        found.extend((name, calls_of(run)) for name, run in RUNS.items() for _ in range(2))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    try:
        thread = threading.Thread(target=work)  # its stack begins at the same depth each time
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(before)
    return found
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # not awaited
def test_the_limit_is_reached_at_the_same_depth(how: str, program: Program) -> None:
    """Functions, properties, generators and coroutines recurse to the depth of untraced ones.

    A trace function in Python finds no room at the limit: what it cannot count is reported.
    """
    plain = program.load(DEPTHS).main()
    assert plain == program.load(DEPTHS).main()
    result, events = program.run(DEPTHS, how)
    assert result == plain
    assert min(number for _, number in result) > 100
    lost = sum(number for _, number in plain) - len(events)
    assert 0 <= lost <= swallowed_errors()
    assert {(event.result, event.exception) for event in events} == {("error", RecursionError)}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # not awaited
def test_metrics_count_to_the_limit(program: Program) -> None:
    """Metrics count each call that began, however deep it is."""
    metrics = Metrics()
    set_trace_function(metrics)
    module = program.load(DEPTHS, DECORATED)
    started = sum(number for _, number in module.main())
    assert counts_of(metrics.read()).total() == started
    assert swallowed_errors() == 0


DEEP = """
import sys
from hypertrace import set_trace_function, swallowed_errors, traced
from hypertrace.metrics import Metrics

@traced
def function(depth):
    return 0 if depth == DEPTH else 1 + function(depth + 1)

@traced
class Job:
    def method(self, depth):
        return 0 if depth == DEPTH else 1 + self.method(depth + 1)

sys.setrecursionlimit(10 * DEPTH)
metrics = Metrics()
set_trace_function(metrics)
assert (function(0), Job().method(0)) == (DEPTH, DEPTH)
durations = metrics.read().family("function_duration_seconds")
assert [point.value.count for point in durations.points] == [DEPTH + 1] * 2
assert swallowed_errors() == 0
print("deep")
"""


def test_30_000_calls_deep_with_a_high_limit(python: Python) -> None:
    """A program that raised the limit recurses without a crash, and every call is counted."""
    assert python(DEEP.replace("DEPTH", "30_000")) == "deep\n"


def test_400_generators_that_delegate(same: Same) -> None:
    """Generators and coroutines nested 400 deep give each value, and end."""
    source = """
@traced
def tree(depth):
    yield depth
    if depth:
        yield from tree(depth - 1)

@traced
async def waits(depth):
    return 1 + await waits(depth - 1) if depth else 0

def main():
    values = list(tree(400))
    try:
        waits(400).send(None)
    except StopIteration as stop:
        return values, stop.value
"""
    assert same(source, {"tree": 401, "waits": 401}) == (list(range(400, -1, -1)), 400)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # not awaited
def test_an_application_goes_on_after_it_reached_the_limit(how: str, program: Program) -> None:
    """After a RecursionError that the application caught, calls and spans are as before."""
    source = (
        DEPTHS.replace("def main():", "def at_the_limit():")
        + """
@traced
def guarded():
    try:
        function()
    except RecursionError:
        return leaf()

@traced
def leaf():
    return "after"

def main():
    return at_the_limit(), guarded(), leaf(), guarded()
"""
    )
    plain = program.load(source).main()
    result, events = program.run(source, how)
    assert result[1:] == plain[1:]
    counts = names_of(events)
    assert (counts["guarded"], counts["leaf"]) == (2, 3)
