"""Other tools: debuggers, profilers, coverage and tracing see and count what they do alone."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import instrument

from .programs import ENGINE, PLAIN, capture_spans, in_place, names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .programs import Program

pytestmark = in_place

has_monitoring = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sys.monitoring is of CPython 3.12"
)

SOURCE = """
import contextlib, types

@types.coroutine
def pause():
    yield

@traced
def function(a, b=2):
    if a:
        b = a
    for number in range(2):
        a = number
    return a + b

@traced
def fails(a):
    try:
        raise LookupError(a)
    except LookupError:
        raise ValueError(a) from None

@traced
def steps(a):
    yield a
    with contextlib.suppress(KeyError):
        yield from inner(a)
    return a

@traced
def inner(a):
    try:
        yield a + 1
        yield a + 2
    finally:
        a = 0

@traced
async def waits(a):
    await pause()
    await deeper(a)
    return a

@traced
async def deeper(a):
    await pause()

@traced
async def asteps(a):
    yield a
    await pause()
    yield a + 1

class Job:
    @traced
    def method(self, a):
        return [self.size for _ in range(a)]
    @property
    @traced
    def size(self):
        return 1
    @traced
    def __init__(self): self.a = 1
    @traced
    def __call__(self): return function(0)

@traced
def recursive(depth):
    return depth and recursive(depth - 1)

def drive(coroutine):
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return stop.value

async def consume():
    return [one async for one in asteps(1)]

def work():
    found = [function(0), function(1), list(steps(1)), drive(waits(1)), drive(consume())]
    try:
        fails(1)
    except ValueError:
        found.append("failed")
    job = Job()
    found += [job.method(2), job(), recursive(3)]
    running = steps(5)
    next(running)
    next(running)
    running.close()
    thrown = inner(1)
    next(thrown)
    try:
        thrown.throw(ValueError("thrown"))
    except ValueError:
        found.append("thrown")
    return found
"""
COUNTS = {
    "function": 3,
    "fails": 1,
    "steps": 2,
    "inner": 3,
    "waits": 1,
    "deeper": 1,
    "asteps": 1,
    "method": 1,
    "size": 2,
    "__init__": 1,
    "__call__": 1,
    "recursive": 4,
}


class Seen:
    """What a tool saw of the program: kinds of events, functions and lines."""

    def __init__(self) -> None:
        self.found: list[tuple[object, ...]] = []

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.endswith("shop.py"):
            kind = type(argument).__name__ if event in {"return", "exception"} else ""
            self.found.append((event, frame.f_code.co_name, frame.f_lineno, kind))
        elif "hypertrace" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename:
            self.found.append(("ours", frame.f_code.co_name))
        return self


@contextlib.contextmanager
def settrace(seen: Seen) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(seen)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def setprofile(seen: Seen) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextlib.contextmanager
def opcodes(seen: Seen) -> Iterator[None]:
    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.endswith("shop.py"):
            frame.f_trace_opcodes = frame.f_trace_lines = True
            if event != "opcode":
                seen(frame, event, argument)
        return trace

    with settrace(trace):  # type: ignore[arg-type]  # it is called alike
        yield


@contextlib.contextmanager
def debugger(seen: Seen) -> Iterator[None]:
    import bdb  # noqa: PLC0415

    class Debugger(bdb.Bdb):
        def user_line(self, frame: Any) -> None:
            seen(frame, "line", None)
            self.set_step()

        def user_return(self, frame: Any, return_value: Any) -> None:
            seen(frame, "return", return_value)
            self.set_step()

        def user_exception(self, frame: Any, exc_info: Any) -> None:
            seen(frame, "exception", exc_info)
            self.set_step()

    before = sys.gettrace()
    own = Debugger()
    own.reset()
    sys.settrace(own.trace_dispatch)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def other_tool(seen: Seen) -> Iterator[None]:
    """Take a tool id, as debuggers and profilers do, and all events of the program."""
    monitoring: Any = vars(sys)["monitoring"]
    events, tool = monitoring.events, 5
    while monitoring.get_tool(tool) is not None:
        tool -= 1
    monitoring.use_tool_id(tool, "other")
    names = ["PY_START", "PY_RETURN", "PY_YIELD", "PY_RESUME", "PY_THROW", "PY_UNWIND", "LINE"]
    names.append("RAISE")

    def callback(name: str) -> Callable[..., None]:
        def add(code: Any, *details: object) -> None:
            if code.co_filename.endswith("shop.py"):
                line = details[0] if name == "LINE" else 0
                seen.found.append((name, code.co_name, line))

        return add

    before = [
        monitoring.register_callback(tool, getattr(events, name), callback(name)) for name in names
    ]
    assert before == [None] * len(names)
    monitoring.set_events(tool, sum(getattr(events, name) for name in names))
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        for name in names:
            monitoring.register_callback(tool, getattr(events, name), None)
        monitoring.free_tool_id(tool)


TOOLS: dict[str, Callable[[Seen], Any]] = {
    "settrace": settrace,
    "setprofile": setprofile,
    "opcodes": opcodes,
    "debugger": debugger,
}
if sys.version_info >= (3, 12):
    TOOLS["other tool"] = other_tool


def run(program: Program, use: Callable[[Any], object], *, traced: bool) -> tuple[Any, list[Any]]:
    """Load the program, and use it with a tool, traced or not."""
    shop = program.load(SOURCE, PLAIN)
    names = dict.fromkeys(shop._names) if traced else ()
    handles = [instrument(f"shop:{name}") for name in names]
    try:
        with capture_spans() as events:
            result = use(shop)
    finally:
        for handle in handles:
            handle.undo()
    return result, list(events)


@pytest.mark.parametrize("order", ["tool first", "tracing first", "meanwhile"])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_sees_the_same(tool: str, order: str, program: Program) -> None:
    """A tool sees the same calls, lines and exceptions, and every call is counted once."""

    def use(shop: Any) -> tuple[Any, list[Any]]:
        seen = Seen()
        with TOOLS[tool](seen):
            result = shop.work()
        after = shop.work()
        return (result, after), seen.found

    if order == "tracing first":
        (expected, found), _ = run(program, use, traced=False)
        (result, traced), events = run(program, use, traced=True)
    elif order == "tool first":
        # The tool is there while functions become traced, and when that ends.
        shop = program.load(SOURCE, PLAIN)
        seen, expected = Seen(), (shop.work(), shop.work())
        with TOOLS[tool](seen):
            shop.work()
            shop.work()
            found, seen.found = seen.found, []
            handles = [instrument(f"shop:{name}") for name in dict.fromkeys(shop._names)]
            with capture_spans() as events:
                result = shop.work(), shop.work()
                traced = _without_ours(seen.found)
            for handle in handles:
                handle.undo()
            seen.found = []
            shop.work()
            shop.work()
            assert _without_ours(seen.found) == _without_ours(found)
    else:
        shop = program.load(SOURCE, PLAIN)
        expected, handles = (shop.work(), shop.work()), []
        seen = Seen()
        with TOOLS[tool](seen):
            shop.work()
        found, seen.found = seen.found, []
        handles = [instrument(f"shop:{name}") for name in dict.fromkeys(shop._names)]
        with capture_spans() as events:
            first = shop.work()
            with TOOLS[tool](seen):
                second = shop.work()
        traced, result = seen.found, (first, second)
        for handle in handles:
            handle.undo()
    assert result == expected
    assert _without_ours(traced) == _without_ours(found)
    assert names_of(events) == {name: 2 * number for name, number in COUNTS.items()}


def _without_ours(found: list[Any]) -> list[Any]:
    return [one for one in found if one[0] != "ours"]


@pytest.mark.parametrize("name", ["cProfile", "profile"])
def test_a_profiler_counts_the_same(name: str, program: Program) -> None:
    """A profiler counts every call and resumption of the program as it does alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of `profile`, on CPython 3.15
        profiler: Any = importlib.import_module(name)
    import pstats  # noqa: PLC0415

    def use(shop: Any) -> Counter[tuple[str, int]]:
        own = profiler.Profile()
        own.runcall(shop.work)
        stats: Any = vars(pstats.Stats(own))["stats"]
        counts = Counter[tuple[str, int]]()
        for (file, line, function), (_, calls, *_) in stats.items():
            if file.endswith("shop.py"):
                counts[function, line] += calls
        return counts

    expected, _ = run(program, use, traced=False)
    result, events = run(program, use, traced=True)
    assert result == expected
    assert names_of(events) == COUNTS


CORES = [
    "ctrace",
    "pytrace",
    pytest.param("sysmon", marks=has_monitoring),
]


@pytest.mark.skipif(importlib.util.find_spec("coverage") is None, reason="needs coverage")
@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
@pytest.mark.parametrize("core", CORES)
def test_coverage_finds_the_same(
    core: str, branch: bool, program: Program, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coverage of lines and branches is the same, with each of its cores."""
    import coverage  # noqa: PLC0415

    if core == "sysmon" and branch and sys.version_info < (3, 14):
        pytest.skip("this core has branches from CPython 3.14 on")
    if coverage.Coverage.current() is not None and core != "pytrace":
        pytest.skip("the tests are being measured")
    monkeypatch.setenv("COVERAGE_CORE", core)

    def use(shop: Any) -> tuple[object, ...]:
        cover = coverage.Coverage(
            data_file=None, include=[str(tmp_path / "*")], branch=branch, config_file=False
        )
        cover.start()
        try:
            shop.work()
        finally:
            cover.stop()
        data = cover.get_data()
        (file,) = [file for file in data.measured_files() if file.endswith("shop.py")]
        return sorted(data.lines(file) or ()), sorted(data.arcs(file) or ())

    before = sys.gettrace()
    sys.settrace(None)
    try:
        expected, _ = run(program, use, traced=False)
        result, events = run(program, use, traced=True)
    finally:
        sys.settrace(before)
    assert expected[0]
    assert result == expected
    assert names_of(events) == COUNTS


@has_monitoring
def test_no_tool_id_is_left(program: Program) -> None:
    """With all ids taken by other tools, functions are traced all the same."""
    code = """
import sys
monitoring = sys.monitoring
taken = [it for it in range(6) if monitoring.get_tool(it) is None]
for it in taken:
    monitoring.use_tool_id(it, "other")
from hypertrace import traced, set_trace_function
events = []
set_trace_function(events.append)
@traced
def function(): return 1
@traced
def steps(): yield 1
class Job:
    @traced
    @property
    def size(self): return 2
assert (function(), list(steps()), Job().size) == (1, [1], 2)
assert [event.caller.function_name for event in events] == ["function", "steps", "size"]
for it in taken:
    assert monitoring.get_tool(it) == "other"
    monitoring.free_tool_id(it)
@traced
def later(): return 3
assert (later(), function(), len(events)) == (3, 1, 5)
print("counted")
"""
    import subprocess  # noqa: PLC0415

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "counted\n", "")


@has_monitoring
@pytest.mark.skipif(ENGINE != "monitoring", reason="this engine is no tool")
def test_another_tool_may_end_monitoring_of_all(program: Program) -> None:
    """Tools that restart events keep ours, and take no id from us."""
    monitoring: Any = vars(sys)["monitoring"]

    def use(shop: Any) -> list[object]:
        taken = [monitoring.get_tool(it) for it in range(6)]
        found = [shop.work()]
        monitoring.restart_events()
        found.append(shop.work())
        assert taken.count("hypertrace") == 1
        return found

    shop = program.load(SOURCE, PLAIN)
    expected = [shop.work(), shop.work()]
    result, events = run(program, use, traced=True)
    assert result == expected
    assert names_of(events) == {name: 2 * number for name, number in COUNTS.items()}


def test_tracemalloc_and_faulthandler_name_the_function(how: str, program: Program) -> None:
    """Allocations and crash reports are of the lines of the function itself."""
    source = """
import faulthandler, tempfile, tracemalloc

@traced
def allocates():
    return bytearray(100_000)

@traced
def reports(file):
    faulthandler.dump_traceback(file, all_threads=False)

def main():
    tracemalloc.start(4)
    try:
        kept = allocates()
        trace = tracemalloc.get_object_traceback(kept)
    finally:
        tracemalloc.stop()
    with tempfile.TemporaryFile("w+") as file:
        reports(file)
        file.seek(0)
        report = file.read().splitlines()
    return [(frame.filename, frame.lineno) for frame in trace][-2:], report[:3]
"""
    plain = program.load(source).main()
    result, events = program.run(source, how)
    assert result == plain
    assert names_of(events) == {"allocates": 1, "reports": 1}


def test_disassembly_and_compilation_are_the_function_s(how: str, program: Program) -> None:
    """`dis`, `ast`, `co_positions` and `inspect.getsource` find the function's own source."""
    source = """
import inspect

@traced
def function(a):
    "Documented."
    try:
        return a + 1
    finally:
        a = 2

@traced
def steps(a):
    yield a
    yield (yield a)

def main():
    found = []
    for it in (function, steps):
        it(1) if it is function else list(it(1))
        lines = {line for _, _, line in it.__code__.co_lines() if line is not None}
        places = {place for place in it.__code__.co_positions() if None not in place}
        found += [inspect.getsource(it), sorted(lines), sorted(places), it.__code__.co_name]
    return found
"""
    plain = program.load(source).main()
    result, events = program.run(source, how)
    assert result == plain
    assert Counter(names_of(events)) == {"function": 1, "steps": 1}
