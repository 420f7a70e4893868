"""Frames and warnings: code that reads its callers finds those that it has without tracing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .programs import in_place

if TYPE_CHECKING:
    from collections.abc import Callable

    Same = Callable[..., Any]

pytestmark = in_place

FACTORY = """
import pickle, sys

@traced
def record(name, fields):
    made = type(name, (tuple,), {field: property(lambda self, i=i: self[i])
                                 for i, field in enumerate(fields)})
    made.__module__ = sys._getframe(1).f_globals["__name__"]
    return made

@traced
class Maker:
    def make(self, name):
        return record(name, ["a"])

@traced
def both():
    return record("Two", ["a"]), Maker().make("Three")

One = record("One", ["a", "b"])
Two, Three = both()

def main():
    loaded = [pickle.loads(pickle.dumps(it((1, 2)))).a for it in (One, Two, Three)]
    record("Four", ["a"])
    both()
    return loaded, [it.__module__ for it in (One, Two, Three)]
"""


def test_a_class_that_a_traced_factory_makes_is_pickled(same: Same) -> None:
    """A factory that reads the name of its caller's module gives it to its classes."""
    source = FACTORY.replace("@traced\nclass Maker:\n", "class Maker:\n    @traced\n")
    assert same(source, {"record": 3, "both": 1, "make": 1}) == ([1, 1, 1], ["shop"] * 3)


def test_a_module_that_changes_its_caller_s_globals_changes_them(same: Same) -> None:
    """A function that installs names in the module that calls it finds this module."""
    source = """
import sys

@traced
def install(*names):
    into = sys._getframe(1).f_globals
    into["__loaded__"] = [into["__name__"], *names]
    sys._getframe(1).f_locals  # reading it has no effect

@traced
def lazily():
    return sys.modules[sys._getframe(1).f_globals["__name__"]].__name__

def main():
    install("a", "b")
    return __loaded__, lazily()
"""
    assert same(source, {"install": 1, "lazily": 1}) == (["shop", "a", "b"], "shop")


STACKS = """
import asyncio, inspect, sys, traceback

def names():
    # What stands between the frames of this program counts, too.
    found, frame = [], sys._getframe(1)
    while frame.f_code.co_name != "main":
        found.append((frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back
    return found

class Job:
    @traced
    def method(self):
        return names(), [(f.function, f.lineno) for f in inspect.stack()[:2]]

    @traced
    @classmethod
    def of_class(cls):
        return names()

    @traced
    @staticmethod
    def static():
        return names()

    @traced
    @property
    def size(self):
        return names()

    @traced
    def __init__(self):
        self.made = names()

    @traced
    def __call__(self):
        return inspect.currentframe().f_back.f_lineno, names()

    @traced
    def steps(self):
        yield names()
        yield names()

    @traced
    async def waits(self):
        await asyncio.sleep(0)
        return names()

    @traced
    async def asteps(self):
        yield names()
        await asyncio.sleep(0)
        yield names()

@traced
def function():
    job = Job()
    return job.method(), job.of_class(), Job.static(), job.made, job(), list(job.steps())

@traced
def delegating():
    yield from Job().steps()
    yield from (names() for _ in range(2))

async def amain():
    job = Job()
    found = [await job.waits()]
    async for one in job.asteps():
        found.append(one)
    return found

def run(coroutine):
    # The frames of an event loop are none of this program.
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value

def main():
    asyncio.sleep
    return function(), list(delegating()), run(amain()), Job().size
"""


def test_every_stack_is_the_same(same: Same) -> None:
    """Stacks by frame, `inspect.stack` and `traceback` have the same functions and lines."""
    source = (
        STACKS.replace("@traced\n    @classmethod", "@classmethod\n    @traced")
        .replace("@traced\n    @staticmethod", "@staticmethod\n    @traced")
        .replace("@traced\n    @property", "@property\n    @traced")
    )
    one = dict.fromkeys(("method", "of_class", "static", "size", "__call__"), 1)
    counts = {**one, "__init__": 4, "steps": 2, "waits": 1, "asteps": 1}
    same(source, {**counts, "function": 1, "delegating": 1})


def test_every_traceback_is_the_same(same: Same) -> None:
    """Tracebacks have the same text, from functions to asynchronous generators."""
    source = """
import asyncio, traceback

@traced
def fails(depth):
    if depth:
        return fails(depth - 1)
    raise LookupError("here")

@traced
def wraps():
    try:
        fails(2)
    except LookupError as error:
        raise ValueError("there") from error
    finally:
        len("")

@traced
def steps():
    yield 1
    yield from again()

@traced
def again():
    try:
        yield 2
    finally:
        fails(0)

@traced
async def waits():
    await asyncio.sleep(0)
    fails(1)

@traced
async def asteps():
    yield 1
    await waits()

async def consume():
    async for _ in asteps():
        pass

class Job:
    @property
    @traced
    def size(self):
        return fails(0)

    @traced
    def __init__(self, fail=False):
        if fail:
            fails(0)

@traced
async def group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(waits())
        tasks.create_task(waits())

def text(run):
    try:
        run()
    except BaseException as error:
        return traceback.format_exception(error)

def main():
    asyncio.run(asyncio.sleep(0))
    running = steps()
    next(running)
    return [
        text(wraps),
        text(lambda: list(steps())),
        text(lambda: running.throw(KeyError("thrown"))),
        text(lambda: asyncio.run(waits())),
        text(lambda: asyncio.run(consume())),
        text(lambda: asyncio.run(group())),
        text(lambda: Job().size),
        text(lambda: Job(True)),
        text(lambda: fails()),
        text(lambda: fails(1, 2, x=3)),
    ]
"""
    counts = {"fails": 3 + 1 + 2 * 4 + 2, "wraps": 1, "steps": 2, "again": 1, "waits": 4}
    same(source, {**counts, "asteps": 1, "group": 1, "size": 1, "__init__": 2})


def test_a_running_generator_and_task_look_the_same(same: Same) -> None:
    """Frames, states and awaited objects of generators, and stacks of tasks, are the function's."""
    source = """
import asyncio, inspect, types

@traced
def steps(a):
    b = a
    yield b
    yield from inner()

@traced
def inner():
    yield "inner"

@types.coroutine
def pause():
    yield

@traced
async def waits(a):
    await pause()
    await deeper()

@traced
async def deeper():
    await pause()
    await pause()

@traced
async def asteps():
    yield 1
    await pause()
    yield 2

def look(it, kind):
    frame = getattr(it, kind + "_frame")
    below = getattr(it, {"gi": "gi_yieldfrom", "cr": "cr_await", "ag": "ag_await"}[kind])
    code = getattr(it, kind + "_code")
    return (
        frame and (frame.f_code.co_name, frame.f_lineno, sorted(frame.f_locals)),
        getattr(below, "__qualname__", None), code.co_name, code.co_flags, it.__qualname__,
        getattr(it, kind + "_running"),
    )

async def stacks():
    task = asyncio.ensure_future(sleeping())
    await asyncio.sleep(0)
    found = [(f.f_code.co_name, f.f_lineno) for f in task.get_stack()], task.get_coro().__qualname__
    task.cancel()
    return found, await asyncio.gather(task, return_exceptions=True) != []

@traced
async def sleeping():
    await asyncio.sleep(60)

def main():
    found = []
    it = steps(1)
    for _ in range(3):
        found += [look(it, "gi"), inspect.getgeneratorstate(it)]
        found.append(dict(inspect.getgeneratorlocals(it)))
        next(it, None)
    found += [look(it, "gi"), inspect.getgeneratorstate(it)]
    it = waits(1)
    for _ in range(4):
        found += [look(it, "cr"), inspect.getcoroutinestate(it)]
        found.append(dict(inspect.getcoroutinelocals(it)))
        try:
            it.send(None)
        except StopIteration:
            pass
    it = asteps()
    found.append(look(it, "ag"))
    for _ in range(2):
        step = it.asend(None)
        try:
            step.send(None)
            found.append(look(it, "ag"))
            step.send(None)
        except StopIteration as stop:
            found.append(stop.value)
    return found, asyncio.run(stacks())
"""
    counts = {"steps": 1, "inner": 1, "waits": 1, "deeper": 1, "asteps": 1, "sleeping": 1}
    same(source, counts)


def test_logging_finds_the_caller(same: Same) -> None:
    """`stacklevel` of a log record counts the frames that there are without tracing."""
    source = """
import logging

found = []
class Handler(logging.Handler):
    @traced
    def emit(self, record):
        found.append((record.funcName, record.lineno, record.module))

logger = logging.Logger("shop")
logger.addHandler(Handler())

@traced
def log(level):
    logger.warning("text", stacklevel=level)

@traced
def above(level):
    log(level)

def main():
    for level in (1, 2, 3):
        above(level)
    logging.Logger.info(logger, "text")
    return found
"""
    result = same(source, {"log": 3, "above": 3, "emit": 4})
    assert [name for name, _, _ in result] == ["log", "above", "main", "main"]


def test_a_warning_is_of_the_line_that_caused_it(same: Same) -> None:
    """`stacklevel` blames the caller, each line once, whatever is traced in between."""
    source = """
import sys, warnings

@traced
def old():
    warnings.warn("old() is old", DeprecationWarning, stacklevel=2)

@traced
class _: pass

@traced
def older():
    old()

@traced
def steps():
    warnings.warn("in a step", UserWarning, stacklevel=2)
    yield

def main():
    globals().pop("__warningregistry__", None)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("default")
        shown = []
        warnings.showwarning = lambda *args: shown.append([str(args[0]), *args[2:4]])
        for _ in range(3):
            old()
            older()
        old(); old()
        list(steps())
        registry = sorted(str(key) for key in globals()["__warningregistry__"])
        warnings.simplefilter("error")
        try:
            old()
        except DeprecationWarning as error:
            shown.append(error.__traceback__.tb_next.tb_lineno)
        return shown, registry
"""
    source = source.replace("@traced\nclass _: pass\n", "")
    shown, _ = same(source, {"old": 9, "older": 3, "steps": 1})
    assert [one[0] for one in shown[:-1]] == ["old() is old"] * 3 + ["in a step"]


def test_a_warning_of_another_module_is_shown_by_the_default_filters(same: Same) -> None:
    """A deprecation that blames `__main__` is shown, and one that blames a library is not."""
    source = """
import types, warnings

@traced
def old():
    warnings.warn("old() is old", DeprecationWarning, stacklevel=2)

def main():
    shown = []
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
        warnings.showwarning = lambda *args: shown.append(args[2:4])
        for name in ("__main__", "library"):
            code = compile("def call():\\n    old()", name + ".py", "exec")
            namespace = {"__name__": name, "old": old}
            exec(code, namespace)
            namespace["call"]()
    return shown
"""
    assert same(source, {"old": 2}) == [("__main__.py", 2)]


def test_a_function_reads_its_own_frame_and_locals(same: Same) -> None:
    """`locals`, `super`, `exec`, cells and the frame of a call are as without tracing."""
    source = """
import sys

class Base:
    @traced
    def name(self):
        return "base"

class Child(Base):
    @traced
    def name(self, *rest, key=None, **more):
        here = __class__.__name__
        return super().name() + here, sorted(locals()), sorted(sys._getframe().f_locals)

@traced
def cells(a, /, b=2, *c, d=4, **e):
    def inner():
        nonlocal b
        b += 1
        return a, b
    inner()
    exec("f = 1")
    return inner(), sorted(locals()), sys._getframe().f_code.co_name, eval("a")

def main():
    return Child().name(1, 2, key=3, x=4), cells(1, 2, 3, d=5, z=6)
"""
    same(source, {"name": 2, "cells": 1})
