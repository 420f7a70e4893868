"""Rewritten bytecode: to all that looks at it the same function, with operators in between."""

import asyncio
import ctypes
import dis
import importlib.util
import json
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from .rewriting import (
    Counts,
    codes_in,
    functions_rewritten,
    logging_record,
    operators_in,
    places_of,
    speedups,
)

pytestmark = pytest.mark.skipif(
    not hasattr(speedups, "rewrite"), reason="rewrites the bytecode of CPython 3.11, in C"
)

PROGRAMS = Path(__file__).with_name("rewritten_programs.py")
STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
PACKAGES = ("asyncio", "concurrent/futures", "importlib", "json", "unittest")


@cache
def _program_code() -> CodeType:
    return compile(PROGRAMS.read_text(), str(PROGRAMS), "exec", dont_inherit=True)


def _programs(record: object = None) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "rewritten_programs"}
    code = _program_code()
    exec(code if record is None else functions_rewritten(code, record), names)
    return names


NAMES = [] if not hasattr(speedups, "rewrite") else [f.__name__ for f in _programs()["PROGRAMS"]]


def _rewritten(function: Callable[..., Any]) -> tuple[Any, list[str]]:
    log: list[str] = []
    function.__code__ = speedups.rewrite(function.__code__, logging_record(log))
    return function, log


@pytest.mark.parametrize("name", NAMES)
def test_a_rewritten_program_does_the_same(name: str) -> None:
    """Results, exceptions, and the lines and columns of tracebacks are those of the program."""
    assert _programs(logging_record([]))[name]() == _programs()[name]()


@pytest.mark.parametrize("name", NAMES)
def test_each_call_of_a_program_starts_and_ends_once(name: str) -> None:
    """Calls start as often as they end, and steps in and out alternate."""
    counts = Counts()
    _programs(counts.record)[name]()
    seen = counts.values()
    assert seen["start"] == seen["end"] + seen["fail"]
    assert seen["start"] > 0
    assert seen["in"] + seen["thrown"] <= seen["out"]


@pytest.mark.parametrize("name", NAMES)
def test_trace_functions_see_the_same_events(name: str) -> None:
    """A debugger sees the same calls, lines, returns and exceptions, in the same order."""
    expected = _traced(_programs()[name])
    assert len(expected) > 3
    assert _traced(_programs(logging_record([]))[name]) == expected


def _is_of_a_program(frame: FrameType) -> bool:
    """Whether it is not in the function that looks at the bytecode, which differs."""
    code = frame.f_code
    return code.co_filename == str(PROGRAMS) and not code.co_qualname.startswith("positions")


def _traced(program: Callable[[], object]) -> list[Any]:
    events: list[Any] = []

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if _is_of_a_program(frame):
            kind = repr(arg[1]) if event == "exception" else type(arg).__name__
            events.append((event, frame.f_code.co_name, frame.f_lineno, kind))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        program()
    finally:
        sys.settrace(before)
    return events


@pytest.mark.parametrize("name", NAMES)
def test_profilers_see_the_same_events(name: str) -> None:
    """A profiler sees the same calls and returns, of functions in C too."""
    expected = _profiled(_programs()[name])
    assert len(expected) > 3
    assert _profiled(_programs(logging_record([]))[name]) == expected


def _profiled(program: Callable[[], object]) -> list[Any]:
    events: list[Any] = []

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if _is_of_a_program(frame):
            of = arg.__qualname__ if event.startswith("c_") else None
            events.append((event, frame.f_code.co_name, frame.f_lineno, of))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        program()
    finally:
        sys.setprofile(before)
    return events


def _check(code: CodeType) -> None:
    """Check that only operators on the record were added, each at its place."""
    record = object()
    new = speedups.rewrite(code, record)
    assert places_of(new, record) == places_of(code), code.co_qualname
    names = [instruction.opname for instruction in dis.get_instructions(code)]
    found = operators_in(new, record)
    before_returns = [o for o in found if o[1:] == ("COPY-DELETE_SUBSCR", "RETURN_VALUE")]
    assert len(before_returns) == names.count("RETURN_VALUE")
    before_yields = [o for o in found if o[1] == "UNARY_NEGATIVE-POP_TOP"]
    assert len(before_yields) == names.count("YIELD_VALUE")
    assert {o[2] for o in before_yields} <= {"YIELD_VALUE", "JUMP_FORWARD"}
    after_yields = [o for o in found if o[:2] == ("RESUME", "UNARY_INVERT-POP_TOP")]
    assert len(after_yields) == names.count("YIELD_VALUE")
    assert [o[0] for o in found if o[1] == "UNARY_POSITIVE-POP_TOP"] == ["RESUME"]
    assert [o[0] for o in found if o[1] == "CONTAINS_OP-POP_TOP"] == ["COPY"]
    _check_covered(new)
    facts = [name for name in dir(code) if name.startswith("co_")]
    changed = {name for name in facts if getattr(code, name) != getattr(new, name)}
    may_change = {"co_code", "co_consts", "co_linetable", "co_lnotab", "co_exceptiontable"}
    assert changed - may_change <= {"co_stacksize", "co_positions", "co_lines"}


def _check_covered(code: CodeType) -> None:
    """Check that from the start on, each instruction but the last handler has one."""
    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    last = max(entry.target for entry in entries)
    place = next(i.offset + 2 for i in dis.get_instructions(code) if i.opname == "RESUME")
    for entry in entries:
        assert entry.start == place
        place = entry.end
    assert place == last


@pytest.mark.parametrize("package", PACKAGES)
def test_code_of_the_standard_library_is_rewritten(package: str) -> None:
    """Of real code, all instructions, jumps, positions and handlers are kept, in order."""
    checked = 0
    for path in sorted((STANDARD_LIBRARY / package).glob("*.py")):
        module = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        for code in codes_in(module):
            _check(code)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("lines", [5, 14, 15, 16, 17, 18, 60, 5_000])
def test_long_jumps_reach_their_targets(lines: int) -> None:
    """Jumps over more than 255 and 65 535 instructions have the prefixes that they need."""
    body = "\n".join(f"        if stop == {i}: break\n        x += {i % 7}" for i in range(lines))
    source = f"""
def long(stop, n=2):
    x = 0
    try:
        for _ in range(n):
{body.replace("        ", "            ")}
        else:
            x = -x
        return x / (0 if stop == "fail" else 1)
    except ZeroDivisionError:
        return "failed", x
"""
    names: dict[str, Any] = {}
    exec(source, names)
    calls = [(0,), (lines - 1,), ("never",), ("fail",)]
    expected = [names["long"](*call) for call in calls]
    _check(names["long"].__code__)
    long, log = _rewritten(names["long"])
    assert [long(*call) for call in calls] == expected
    assert log == ["start", "end"] * len(calls)


@pytest.mark.parametrize("constants", [10, 250, 254, 255, 256, 300, 65_600])
def test_many_constants_leave_room_for_one(constants: int) -> None:
    """The record is loaded whatever its number among the constants is, by generators too."""

    def many(inner: Iterator[object]) -> Any:
        yield from inner
        yield "after"

    code = many.__code__
    many.__code__ = code.replace(
        co_consts=code.co_consts + (None,) * (constants - len(code.co_consts))
    )
    _check(many.__code__)
    many, log = _rewritten(many)

    def inner() -> Iterator[int]:
        try:
            yield 1
        except ValueError:
            return

    made = many(inner())
    assert (next(made), made.throw(ValueError), list(made)) == (1, "after", [])
    assert log == ["start", "out", "in", "out", "in", "end"]


def test_operators_say_how_a_call_ends() -> None:
    """A call starts after its arguments are there, and ends with its result or its exception."""
    log: list[object] = []

    class Record:
        def __pos__(self) -> None:
            frame = sys._getframe(1)
            log.append((frame.f_code.co_name, dict(frame.f_locals)))

        def __delitem__(self, result: object) -> None:
            log.append(("end", result))

        def __contains__(self, error: object) -> bool:
            log.append(("fail", repr(error)))
            return False

    def divide(a: int, *args: int, b: int = 2, **kwargs: int) -> object:
        return [a, args, kwargs] and next(a / b for _ in "1")

    divide.__code__ = speedups.rewrite(divide.__code__, Record())
    assert divide(1, 3, c=4) == 0.5
    with pytest.raises(ZeroDivisionError):
        divide(1, b=0)
    assert log == [
        ("divide", {"a": 1, "b": 2, "args": (3,), "kwargs": {"c": 4}}),
        ("end", 0.5),
        ("divide", {"a": 1, "b": 0, "args": (), "kwargs": {}}),
        ("fail", "ZeroDivisionError('division by zero')"),
    ]


def _steps(inner: Any, log: list[str]) -> Iterator[Any]:
    try:
        yield 1
        yield from inner
    except ValueError:
        log.append("handled")
        yield 2
    finally:
        log.append("finally")


@pytest.mark.parametrize(
    ("drive", "expected"),
    [
        (list, "start out in out in out in finally end"),
        (
            lambda g: (next(g), g.throw(ValueError)),
            "start out thrown handled out thrown finally fail",
        ),
        (lambda g: (next(g), g.close()), "start out thrown finally fail"),
        (
            lambda g: (next(g), next(g), g.throw(ValueError), next(g, None)),
            "start out in out thrown handled out in finally end",
        ),
        (lambda g: (next(g), next(g), g.throw(KeyError, "x", None)), None),
        (lambda g: g.close(), ""),
    ],
)
def test_a_generator_steps_in_and_out(drive: Callable[[Any], object], expected: str) -> None:
    """What is thrown into a generator steps in before its handlers run, and out at each yield."""
    names = dict(globals())
    steps, log = _rewritten(FunctionType(_steps.__code__, names, "steps"))
    made = steps(iter([5, 6]), log)
    try:
        drive(made)
    except KeyError:
        expected = "start out in out thrown finally fail"
    del made
    assert " ".join(log) == expected


def test_an_inner_generator_that_returns_in_throw_steps_in() -> None:
    """A generator that continues as the inner one returned in `throw()` steps in."""

    def inner() -> Iterator[int]:
        try:
            yield 1
        except ValueError:
            return

    def outer(log: list[str]) -> Any:
        yield from inner()
        log.append("continued")
        yield "after"

    outer, log = _rewritten(outer)
    made = outer(log)
    assert (next(made), made.throw(ValueError), list(made)) == (1, "after", [])
    assert log == ["start", "out", "in", "continued", "out", "in", "end"]


def test_a_coroutine_steps_out_while_it_waits() -> None:
    """A coroutine that waits is out, and in again when it continues or is cancelled."""

    async def waiting(log: list[str], event: asyncio.Event) -> None:
        try:
            await event.wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            await asyncio.sleep(0)
            raise

    waiting, log = _rewritten(waiting)

    async def main() -> None:
        task = asyncio.create_task(waiting(log, asyncio.Event()))
        await asyncio.sleep(0)
        log.append("elsewhere")
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert log == ["start", "out", "elsewhere", "thrown", "cancelled", "out", "in", "fail"]


def test_other_threads_and_signals_do_not_come_in_between() -> None:
    """An asynchronous exception arrives at a call's own instructions: each call ends once."""
    counts = Counts()
    stop = threading.Event()

    def busy() -> int:
        return 1

    busy.__code__ = speedups.rewrite(busy.__code__, counts.record)

    def run() -> None:
        while not stop.is_set():
            try:
                while not stop.is_set():
                    busy()
            except KeyboardInterrupt:
                pass

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(300):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
        )
        stop.wait(0.001)
    stop.set()
    thread.join()
    seen = counts.values()
    assert seen["start"] == seen["end"] + seen["fail"]


@pytest.mark.parametrize("in_try", [False, True])
def test_recursion_is_as_deep(in_try: bool) -> None:
    """Operators in C take no level of recursion, at the limit of a generator neither."""

    def depth(n: int) -> int:
        try:
            return depth(n + 1)
        except RecursionError:
            return n

    def steps(n: int) -> Iterator[int]:
        try:
            yield from steps(n + 1)
        except RecursionError:
            yield n

    measure = partial(depth, 0) if in_try else lambda: list(steps(0))
    expected = measure()
    hooks = speedups.Hooks()
    depth.__code__ = speedups.rewrite(depth.__code__, hooks)
    steps.__code__ = speedups.rewrite(steps.__code__, hooks)
    assert measure() == expected


def test_a_debugger_can_jump() -> None:
    """A debugger that sets the line of a frame jumps within rewritten code as without."""

    def jumping(log: list[object]) -> None:
        log.append(1)
        for i in range(2):
            log += [i]
        log.append(2)

    jumping, _ = _rewritten(jumping)
    first = jumping.__code__.co_firstlineno

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is jumping.__code__ and event == "line" and frame.f_lineno == first + 2:
            frame.f_lineno = first + 4  # type: ignore[misc]
        return trace

    log: list[object] = []
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        jumping(log)
    finally:
        sys.settrace(before)
    assert log == [1, 2]


def test_rewritten_code_is_rewritten_again() -> None:
    """Code that was rewritten can be rewritten for another record: both see each call."""
    log: list[str] = []

    def twice() -> Iterator[int]:
        yield 1

    twice, first = _rewritten(twice)
    twice, log = _rewritten(twice)
    assert list(twice()) == [1]
    assert first == log == ["start", "out", "in", "end"]


CPYTHON_TESTS = ["generators", "coroutines", "asyncgen", "sys_settrace", "contextlib", "exceptions"]


def test_tests_of_cpython_pass() -> None:
    """With all functions of the standard library and of its tests rewritten, its tests pass."""
    modules = [f"test.test_{name}" for name in CPYTHON_TESTS]
    if any(importlib.util.find_spec(module) is None for module in modules[:1]):
        pytest.skip("this Python has no tests")
    plain, rewritten = (_run_tests(how, modules) for how in ("plain", "rewritten"))
    assert rewritten["run"] == plain["run"] > 500
    assert rewritten["failed"] == plain["failed"]
    seen = rewritten["seen"]
    assert seen["start"] == seen["end"] + seen["fail"] > 100_000


def _run_tests(how: str, modules: list[str]) -> Any:
    program = Path(__file__).with_name("rewritten_standard_library.py")
    command = [sys.executable, "-Wignore", str(program), how, *modules]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_what_is_no_function_is_refused() -> None:
    """Arguments of other types, and bytecode that no compiler made, raise an error."""

    def function() -> None:
        pass

    code = function.__code__
    with pytest.raises(TypeError, match="takes a code object"):
        speedups.rewrite(function, None)
    jump = bytes([dis.opmap["RESUME"], 0, dis.opmap["JUMP_FORWARD"], 200])
    for broken, reason in [
        (code.replace(co_code=code.co_code[2:]), "beginning"),
        (code.replace(co_code=code.co_code + b"\x90\x01"), "within an instruction"),
        (code.replace(co_code=jump), "leaves itself"),
        (code.replace(co_exceptiontable=b"\x81\x01\x7f\x7f\x3f\x00"), "exception table"),
        (code.replace(co_exceptiontable=b"\x81\x01"), "exception table"),
        (code.replace(co_linetable=b"\xf0"), "lines"),
    ]:
        with pytest.raises(ValueError, match=reason):
            speedups.rewrite(broken, None)
