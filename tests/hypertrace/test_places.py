"""Places of calls: modules, lines and columns, code without a file, and no Python code at all."""

import code
import functools
import operator
import re
import runpy
import signal
import threading
from _thread import allocate_lock, start_new_thread
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hypertrace import Tracer
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


def _run_module(text: str, folder: Path) -> str:
    path = folder / "traced_module.py"
    path.write_text(f"from hypertrace import Tracer\n{text}", encoding="utf-8")
    runpy.run_path(str(path), run_name="traced_module")
    return str(path)


def test_module_level_is_a_place(counts: Counts, tmp_path: Path) -> None:
    """Code at module level is `<module>` of its file."""
    path = _run_module("tracer = Tracer('startup')\ntracer.trace()\n", tmp_path)
    about = ("function_name", "filename", "module", "line", "column")
    assert counts(*(f"caller.{name}" for name in about)) == {
        ("<module>", path, "traced_module", 3, 1): 1
    }


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("t.trace(); t.trace()", [(3, 1), (3, 12)]),
        ("t.trace(), t.trace('a'), t.trace(a=1)", [(3, 1), (3, 12), (3, 26)]),
        ("if True:\n    t.trace()", [(4, 5)]),
        ("'äöü€😀', t.trace()", [(3, 18)]),
        ("t.trace(\n    'id',\n    a=1,\n)", [(3, 1)]),
        ("(\n    t\n    .trace()\n)", [(5, 6)]),
        ("trace = t.trace\n(\n\n  trace()\n)", [(6, 3)]),
        ("print(end=str(\n    t.trace() or ''))", [(4, 5)]),
    ],
    ids=range(8),
)
def test_line_and_column_of_the_call(
    text: str, places: list[tuple[int, int]], counts: Counts, tmp_path: Path
) -> None:
    """Line and column, from 1 and in UTF-8 bytes, are where the call starts."""
    _run_module(f"t = Tracer('t')\n{text}\n", tmp_path)
    assert counts("caller.line", "caller.column") == dict.fromkeys(places, 1)


def test_two_calls_on_one_line_are_two_places(counts: Counts) -> None:
    """Calls on one line differ by their columns, however often they run."""
    trace: Callable[[], object] = Tracer("line").trace
    for _ in range(100):
        trace(), trace()
    assert sorted(counts("caller.line", "caller.column").values()) == [100, 100]


def test_code_that_is_in_no_file(counts: Counts) -> None:
    """Code made by `exec` has the name it was compiled under, and no module where it has none."""
    names: dict[str, Any] = {"tracer": Tracer("executed")}
    exec("def f(): tracer.trace()\nf()\ntracer.trace()", names)
    exec(compile("tracer.trace()", "<made up>", "exec"), {**names, "__name__": 7})
    eval("tracer.trace()", {**names, "__name__": "evaluated"})
    assert counts("caller.filename", "caller.function_name", "caller.module", "caller.line") == {
        ("<string>", "f", None, 1): 1,
        ("<string>", "<module>", None, 3): 1,
        ("<made up>", "<module>", None, 1): 1,
        ("<string>", "<module>", "evaluated", 1): 1,
    }


PLUGIN = """
class Plugin:
    def __init__(self):
        self.tracer = Tracer(self, parent=Tracer("host"))
        self.tracer.trace("made")
    def run(self):
        self.tracer.trace()
        self.tracer.trace("id")
        self.tracer.trace(a=1)
named = Tracer("named")
def run():
    Plugin().run()
    named.trace("b")
    with Tracer("span").span():
        pass
def first():
    named.trace("a")
"""


def test_one_code_object_in_two_modules(counts: Counts) -> None:
    """Code that is compiled once and runs in two modules is counted under each of them."""
    compiled = compile(PLUGIN, "<plugin>", "exec")
    one, two = (dict[str, Any]({"Tracer": Tracer, "__name__": name}) for name in ("one", "two"))
    for names in (one, two):
        exec(compiled, names)
    for names in (one, two, one):
        if names is two:
            names["first"]()  # at another place first
        names["run"]()
    of_plugin = {"made": 1, None: 2, "id": 1}
    expected = {
        (module, "Plugin", id): times * count
        for module, times in (("one", 2), ("two", 1))
        for id, count in of_plugin.items()
    }
    expected |= {("one", "named", "b"): 2, ("two", "named", "a"): 1, ("two", "named", "b"): 1}
    expected |= {("one", "span", None): 2, ("two", "span", None): 1}
    assert counts("caller.module", "object.class_name", "id") == expected


def test_one_tracer_in_two_modules() -> None:
    """A plain trace function gets the module of each call, also for one tracer and code object."""
    compiled = compile("def run():\n tracer.trace()\n with tracer.span(): pass", "<x>", "exec")
    with capture_events() as events:
        tracer = Tracer("both")
        for _ in range(2):
            for name in ("one", "two", None):
                names: dict[str, Any] = {"tracer": tracer, "__name__": name}
                exec(compiled, names)
                names["run"]()
    assert [event.caller.module for event in events] == ["one", "one", "two", "two", None, None] * 2


def test_code_without_positions(counts: Counts) -> None:
    """Code without line numbers is reported with line and column 0."""
    bare = compile("tracer.trace()", "<bare>", "exec").replace(co_linetable=b"")
    exec(bare, {"tracer": Tracer("bare")})
    assert counts("caller.function_name", "caller.line", "caller.column") == {("<module>", 0, 0): 1}


def test_an_interactive_interpreter(counts: Counts) -> None:
    """Each line typed at a prompt is a different place in the console's file."""
    console = code.InteractiveConsole({"tracer": Tracer("typed")}, "<console>")
    for line in ("tracer.trace()", "tracer.trace()", "def f(): tracer.trace()", "", "f()", "f()"):
        console.push(line)
    assert counts("caller.filename", "caller.function_name") == {
        ("<console>", "<module>"): 2,
        ("<console>", "f"): 2,
    }


def test_the_repl(python: Callable[..., str]) -> None:
    """Lines read by an interactive Python are places in `<stdin>`, with a number or without."""
    typed = (
        "from hypertrace import *\n"
        "set_trace_function(lambda e: print(e.caller.function_name, e.caller.filename))\n"
        "Tracer('typed').trace()\n"
    )
    # 3.13 adds the number of the input, `<stdin>-2`, which 3.14 writes `<stdin-2>`.
    assert re.match(r"<module> <stdin(>|-\d+>|>-\d+)\n", python("", "-i", "-q", stdin=typed))


def test_without_debug_ranges(python: Callable[..., str]) -> None:
    """Columns are 0 if Python was started without them, and lines are right."""
    program = (
        "from hypertrace import *\n"
        "set_trace_function(lambda e: print(e.caller.line, e.caller.column))\n"
        "Tracer('here').trace()\n"
    )
    assert python(program, "-X", "no_debug_ranges") == "3 0\n"


def test_a_call_under_which_no_python_code_is(counts: Counts) -> None:
    """A tracer called only by C, as in a bare thread, reports an unknown place."""
    tracer = Tracer("bare thread")
    done = allocate_lock()
    done.acquire()
    calls: list[Callable[[], object]] = [
        tracer.trace,
        tracer.trace,
        functools.partial(tracer.trace, a=1),
        functools.partial(tracer.trace, "id"),
        done.release,
    ]
    calling: Iterator[object] = map(operator.call, calls)
    start_new_thread(deque, (calling, 0))
    assert done.acquire(timeout=30)
    about = ("function_name", "filename", "module", "line", "column")
    assert counts(*(f"caller.{name}" for name in about)) == {
        ("<unknown>", "<unknown>", None, 0, 0): 4
    }
    assert counts("id", "caller.props") == {
        (None, None): 2,
        (None, (("a", 1),)): 1,
        ("id", None): 1,
    }


def test_a_tracer_called_at_exit(python: Callable[..., str]) -> None:
    """A trace of the interpreter's exit is delivered, and says nothing on stderr."""
    program = (
        "import atexit\n"
        "from hypertrace import *\n"
        "set_trace_function(lambda e: print(e.caller.function_name, flush=True))\n"
        "tracer = Tracer('exit')\n"
        "atexit.register(tracer.trace)\n"
        "atexit.register(lambda: tracer.trace())\n"
    )
    assert python(program) == "<lambda>\n<unknown>\n"


def test_a_thread_that_only_traces(counts: Counts) -> None:
    """A tracer as target of a thread is called by the thread's own code."""
    tracer = Tracer("thread")
    threads = [threading.Thread(target=tracer.trace, args=("id",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts("id", "caller.function_name", "caller.module") == {
        ("id", "Thread.run", "threading"): 3
    }


def test_a_signal_handler_is_a_place(counts: Counts) -> None:
    """A handler that traces is reported like any function."""
    tracer = Tracer("signal")

    def handler(*_: object) -> None:
        tracer.trace()

    before = signal.signal(signal.SIGTERM, handler)
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    names = counts("caller.function_name")
    assert names == {"test_a_signal_handler_is_a_place.<locals>.handler": 1}
