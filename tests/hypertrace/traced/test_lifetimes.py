"""Lifetimes: nothing lives longer because its function is traced."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

from hypertrace import instrument, set_trace_function
from hypertrace.metrics import Metrics

from ...running import growth
from .programs import capture_spans, in_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from .programs import Program

    Same = Callable[..., Any]


@in_place
def test_an_argument_dies_when_the_function_drops_it(same: Same) -> None:
    """Arguments of each kind of function are dead as soon as the function deletes them."""
    source = """
import weakref

class Big: pass
found = []

def died(reference):
    found.append(reference() is None)

@traced
def function(a):
    reference = weakref.ref(a)
    del a
    died(reference)

@traced
def rest(*args, **kwargs):
    reference, other = weakref.ref(args[0]), weakref.ref(kwargs["b"])
    del args
    died(reference)
    kwargs.clear()
    died(other)

class Job:
    @traced
    def method(self, a, *, b):
        reference, other = weakref.ref(a), weakref.ref(b)
        a = b = None
        died(reference)
        died(other)

    @traced
    def drops_itself(self):
        reference = weakref.ref(self)
        del self
        died(reference)

    @traced
    def steps(self, a):
        reference = weakref.ref(a)
        del a
        died(reference)
        yield reference

    @traced
    async def waits(self, a):
        reference = weakref.ref(a)
        del a
        died(reference)

    @traced
    async def asteps(self, a):
        reference = weakref.ref(a)
        del a
        died(reference)
        yield

@traced
def returns():
    return Big()

@traced
def yields():
    yield Big()
    died(seen)
    yield None

def finish(step):
    try:
        step.send(None)
    except (StopIteration, StopAsyncIteration):
        pass

def main():
    global seen
    found.clear()
    for _ in range(3):
        function(Big())
        rest(Big(), b=Big())
        Job().method(Big(), b=Big())
        Job.drops_itself(Job())
        list(Job().steps(Big()))
        finish(Job().waits(Big()))
        finish(Job().asteps(Big()).asend(None))
        died(weakref.ref(returns()))
        running = yields()
        seen = weakref.ref(next(running))
        next(running)
        del running
    return found
"""
    counts = {"function": 3, "rest": 3, "method": 3, "drops_itself": 3, "steps": 3, "waits": 3}
    assert set(same(source, {**counts, "asteps": 3, "returns": 3, "yields": 3})) == {True}


def test_a_result_dies_with_its_last_reference(same: Same) -> None:
    """What a call returns, yields or raises is dead when the caller drops it."""
    source = """
import gc, weakref

class Big: pass
class Wrong(Exception): pass

@traced
def returns(): return Big()
@traced
def yields():
    yield Big()
@traced
def fails(it): raise Wrong
@traced
async def waits(it): return it
@traced
def steps(it):
    yield 1
    yield it

def main():
    gc.disable()
    try:
        found = []
        for _ in range(3):
            reference = weakref.ref(returns())
            found.append(reference() is None)
            reference = weakref.ref(next(yields()))
            found.append(reference() is None)
            big = Big()
            reference = weakref.ref(big)
            try:
                fails(big)
            except Wrong as error:
                wrong = weakref.ref(error)
            del big
            found += [reference() is None, wrong() is None]
            big = Big()
            reference = weakref.ref(big)
            try:
                waits(big).send(None)
            except StopIteration:
                pass
            del big
            found.append(reference() is None)
            running = steps(Big())
            reference = weakref.ref(running)
            next(running)
            del running
            found.append(reference() is None)
        return found
    finally:
        gc.enable()
"""
    counts = {"returns": 3, "yields": 3, "fails": 3, "waits": 3, "steps": 3}
    found = same(source, counts)
    assert set(found) == {True}


def test_a_traced_function_dies_with_its_last_reference(how: str, program: Program) -> None:
    """Functions and classes that are made, traced by decorator, called and dropped are dead."""
    source = """
import gc, weakref

def made():
    @traced
    def inner(): return 1
    @traced
    def steps(): yield 1
    class Job:
        @traced
        def run(self): return 2
    assert (inner(), next(steps()), Job().run()) == (1, 1, 2)
    return [weakref.ref(it) for it in (inner, steps, Job, Job.run)]

def main():
    references = [reference for _ in range(20) for reference in made()]
    gc.collect()
    return [reference() is None for reference in references]
"""
    if how == "traced":
        result, events = program.run(source, how)
        assert (set(result), len(events)) == ({True}, 60)


def test_a_module_that_was_traced_and_dropped_is_dead(program: Program) -> None:
    """After `undo` nothing holds a module, its classes and its functions."""
    source = """
class Job:
    @traced
    def run(self): yield 1

@traced
def function(): return Job()
"""
    references: list[weakref.ref[Any]] = []

    def trace_and_drop() -> None:
        shop = program.load(source)
        handles = [instrument("shop:Job.run"), instrument("shop:function")]
        with capture_spans() as events:
            assert list(shop.function().run()) == [1]
        assert len(events) == 2
        for handle in handles:
            handle.undo()
        references.extend(weakref.ref(it) for it in (shop.Job, shop.function, shop.Job.run))

    for _ in range(5):
        trace_and_drop()
    program.load("")
    gc.collect()
    assert [reference() is None for reference in references] == [True] * 15


def test_calls_of_every_kind_keep_the_memory(program: Program) -> None:
    """Thousands of calls, failures, generators that are dropped, and coroutines grow nothing."""
    source = """
@traced
def returns(a, *rest, **more): return a
@traced
def fails(a): raise LookupError
@traced
def steps(a):
    yield a
    yield a
@traced
async def waits(a): return a

def calls(number):
    returns(number, 1, b=2)
    try:
        fails(number)
    except LookupError:
        pass
    for _ in steps(number): pass
    for _ in steps(number): break
    next(steps(number))
    steps(number)
    for kind in (steps, waits):
        running = kind(number)
        running.close()
    try:
        waits(number).send(None)
    except StopIteration:
        pass
"""
    from .programs import DECORATED  # noqa: PLC0415

    set_trace_function(Metrics())
    assert growth(program.load(source, DECORATED).calls) < 30_000
