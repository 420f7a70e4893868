"""Shutdown of the interpreter: code that traces then ends without an error and without output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hypertrace

from .conftest import needs_fork

TRACING = """
import builtins, atexit, sys, threading, logging, gc
import hypertrace, hypertrace.testing, hypertrace._span, hypertrace._tracer, hypertrace._guard
import hypertrace._callsite, hypertrace._failures, hypertrace._dispatch, hypertrace._targets
import hypertrace.decorators, hypertrace._calls, hypertrace._stepping
from hypertrace import Cell, PropsRecorder, Tracer, set_trace_function, traced

class Plain:
    def __call__(self, event):
        event.caller.line + 1

class Failing:
    def __call__(self, event):
        raise LookupError

class Bindable(Plain):
    def __init__(self):
        self.cell = Cell()
        self.known = {}
    def share_key(self, object, parent):
        return object.class_name
    def bind(self, event):
        return self.cell.increment
    def bind_props(self, event):
        return PropsRecorder(("a",), self.known, self.make).record
    def make(self, values, props):
        self.known[values] = self.cell.increment
        return 7 if values == (1,) else self.cell.increment

class Python(Bindable):
    def bind(self, event):
        return lambda: len([])
    def bind_props(self, event):
        return lambda props: len(props)

function = FUNCTION()
set_trace_function(function)

@traced
def helper():
    return 1

@traced(prop_from={"got": "result"})
def described():
    return 1

@traced
def numbers():
    yield 1
    yield 2

@traced
async def answer():
    return 1

@traced
async def anumbers():
    yield 1

class Swarm:
    def __init__(self):
        self.tracer = Tracer(self, {"topic": "a"})
        self.span = self.tracer.span("open")
        self.span.__enter__()
        self.numbers = numbers()
        next(self.numbers)
        self.make, self.helper, self.described, self.numbers_of = Tracer, helper, described, numbers
        self.answer, self.anumbers = answer, anumbers
    def go(self):
        self.tracer.trace()
        self.tracer.trace("id")
        self.tracer.trace(a="b")
        self.tracer.trace(a=1)
        self.tracer.trace({"a": "b"})
        self.tracer.trace(None, 7)
        with self.tracer.span() as span:
            span.set(a=1)
            span.set(7)
            span.fail()
        with self.tracer.span("id", a=1):
            pass
        self.work()
        self.helper()
        self.described()
        for _ in self.numbers_of():
            pass
        try:
            self.answer().send(None)
        except StopIteration:
            pass
        try:
            self.anumbers().asend(None).send(None)
        except StopIteration:
            pass
        self.make(self).trace()
        self.make(self, {"a": 1}, parent=self.tracer).trace()
    @traced
    def work(self):
        return 1
    def __del__(self):
        self.go()
        self.span.__exit__(None, None, None)
        self.numbers.close()

logging.getLogger("hypertrace").disabled = True
swarm = Swarm()
for _ in range(30):
    swarm.go()
"""

SHAPES = {
    "in a global of the main module": "",
    "in a cycle": "swarm.me = swarm; del swarm; gc.disable()",
    "in sys": "sys.swarm = swarm; del swarm",
    "in builtins": "builtins.swarm = swarm; del swarm",
    "in a module that goes before ours": """
import types
module = types.ModuleType("swarms")
module.swarm = swarm
others = dict(sys.modules)
sys.modules.clear()
sys.modules["swarms"] = module
sys.modules.update(others)
del swarm, module, others
""",
    "in a module that goes after ours": """
import time
time.swarm = swarm
swarm.modules = [module for name, module in sys.modules.items() if "hypertrace" in name]
del swarm
""",
    "in atexit": "atexit.register(swarm.go); del swarm",
    "in a daemon thread": """
def work():
    while True:
        swarm.go()
threading.Thread(target=work, daemon=True).start()
""",
    "after it was cleared": "hypertrace.clear_trace_function(); sys.swarm = swarm; del swarm",
}

NAMES_ARE_GONE = """
import os
hypertrace._failures.is_finalizing = lambda: True
Tracer._is_finalizing = staticmethod(lambda: True)
for name, module in sorted(sys.modules.items()):
    if not name.startswith("hypertrace"):
        continue
    pid = os.fork()
    if pid == 0:
        for key in vars(module):
            if key != "__builtins__":
                setattr(module, key, None)
        swarm.go()
        del swarm
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, name
del Swarm.__del__
"""


def _ends_in_silence(program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_interpreter_goes_down_in_silence(shape: str) -> None:
    """Objects that trace while they die, and functions called at exit, raise and print nothing."""
    program = TRACING.replace("FUNCTION", "Failing")
    if shape not in {
        "in atexit",
        "in a daemon thread",
    }:  # in these errors are printed
        program += 'logging.getLogger("hypertrace").disabled = False\n'
        program += "hypertrace._failures._kinds.clear()\n"
    _ends_in_silence(program + SHAPES[shape])


@needs_fork
@pytest.mark.parametrize("function", ["Plain", "Failing", "Bindable", "Python"])
def test_names_that_are_gone_are_not_missed(function: str) -> None:
    """Whichever of our modules has lost its names already, tracing raises and prints nothing."""
    program = TRACING.replace("FUNCTION", function)
    _ends_in_silence(program + NAMES_ARE_GONE)


def test_a_library_that_traces_starts_no_thread() -> None:
    """Tracing alone starts no thread, so that a fork of the application warns of none."""
    threads = """
with_tracing = threading.active_count()
tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
assert (with_tracing, tasks) == (1, 1), (with_tracing, tasks)
import warnings
warnings.simplefilter("error")
if hasattr(os, "fork"):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    _ends_in_silence(TRACING.replace("FUNCTION", "Bindable") + "import os\n" + threads)
