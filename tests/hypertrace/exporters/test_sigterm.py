"""Processes that a signal ends: what exporters have sent by then, and what the parent sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace.exporters import flush_on_sigterm

from .recording import SOON, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system has no such signals")

SETTING = """
import os, signal, sys, threading, time
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters import flush_on_sigterm
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics

metrics = Metrics(workers=False)
set_trace_function(metrics)
path, ready = sys.argv[1:]


def export(to=path, interval=3600):
    return JsonLinesExporter(to, metrics=metrics, interval=interval)


def trace(id, times=1):
    for _ in range(times):
        Tracer("object").trace(id)


def is_ready():
    open(ready + ".new", "w").write(str(os.getpid()))
    os.rename(ready + ".new", ready)
"""


class Program:
    """A program that runs until a signal ends it.

    Attributes:
        errors: what it has written to stderr.
    """

    def __init__(self, code: str, folder: Path) -> None:
        """Start it, and wait until it says that it is ready."""
        program, self._path, ready = folder / "program.py", folder / "lines", folder / "ready"
        program.write_text(SETTING + code)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        where = str(Path(hypertrace.__file__).parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", program, self._path, ready],
            env={**environment, "PYTHONPATH": where},
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: ready.exists() or self.process.poll() is not None)
        self.errors = ""

    def end(self, *, again: bool = True) -> int:
        """Send SIGTERM, and return the status with which the program ends.

        Args:
            again: send it again and again, since a handler of Python does not run if the signal
                came just before the main thread began to wait.
        """
        deadline = time.monotonic() + SOON
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            assert time.monotonic() < deadline
            if again and self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
        _, self.errors = self.process.communicate(timeout=SOON)
        return self.process.returncode

    def calls(self) -> dict[str, int]:
        """Add up the calls that were written, by their id."""
        found: dict[str, int] = {}
        for line in self._path.read_text().splitlines():
            for point in json.loads(line)["metrics"] if line else ():
                if point["name"] == "function_counter_total":
                    name = point["labels"]["id"]
                    found[name] = found.get(name, 0) + point["value"]
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """Give a function that starts a program."""
    started: list[Program] = []

    def start(code: str) -> Program:
        started.append(Program(code, tmp_path))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate(timeout=SOON)


WAITS = {
    "sleep": "time.sleep(60)",
    "a lock": "lock = threading.Lock(); lock.acquire(); is_ready(); lock.acquire()",
    "an event": "threading.Event().wait()",
    "a queue": "import queue; queue.SimpleQueue().get()",
    "a pipe": "os.read(os.pipe()[0], 1)",
    "a socket": "import socket; pair = socket.socketpair(); pair[0].recv(1)",
    "select": "import select; select.select([], [], [])",
    "a subprocess": "import subprocess; subprocess.run(['sleep', '5'])",
    "a thread": "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start(); "
    "t.join()",
    "the end": "threading.Thread(target=time.sleep, args=(60,)).start()",
    "an event loop": "import asyncio; asyncio.run(asyncio.sleep(60))",
    "work": "while True: pass",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_the_rest_is_sent_and_the_signal_ends_the_process(
    start: Callable[[str], Program], wait: str
) -> None:
    """Wherever the main thread is in Python, and the exit status is that of the signal."""
    program = start(f"""
export()
assert flush_on_sigterm()
trace("main", 3)
is_ready()
{wait}
""")
    assert program.end(again=not hypertrace.COMPILED) == -signal.SIGTERM
    assert program.errors == ""
    assert program.calls() == {"main": 3}


@pytest.mark.skipif(not hypertrace.COMPILED, reason="the compiled core alone can do so")
def test_c_code_does_not_delay_the_end(start: Callable[[str], Program]) -> None:
    """Code that waits, and waits again after a signal, so that no handler of Python runs."""
    program = start("""
import ctypes

lock = ctypes.create_string_buffer(256)
library = ctypes.CDLL(None)
export()
assert flush_on_sigterm()
trace("main", 3)
library.pthread_mutex_lock(lock)
is_ready()
library.pthread_mutex_lock(lock)
""")
    before = time.monotonic()
    assert program.end(again=False) == -signal.SIGTERM
    assert time.monotonic() - before < 20
    assert program.calls() == {"main": 3}


def test_without_it_the_signal_ends_the_process_at_once(start: Callable[[str], Program]) -> None:
    """What came in since the last interval is lost, as the documentation says."""
    program = start("""
exporter = export()
trace("sent")
exporter.flush()
trace("lost")
is_ready()
time.sleep(60)
""")
    assert program.end() == -signal.SIGTERM
    assert program.calls() == {"sent": 1}


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_handler_of_the_application_wins(start: Callable[[str], Program], order: str) -> None:
    """One that is there is left alone, and one that is set later takes the place."""
    own = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))"
    program = start(f"""
export()
{own if order == "before" else ""}
assert flush_on_sigterm() == {order == "after"}
{own if order == "after" else ""}
trace("main")
is_ready()
time.sleep(60)
""")
    assert program.end() == 5
    assert program.calls() == {"main": 1}


def test_an_ignored_signal_stays_ignored(start: Callable[[str], Program]) -> None:
    """A program that ignores SIGTERM goes on ignoring it."""
    program = start("""
export()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
assert not flush_on_sigterm()
is_ready()
os.kill(os.getpid(), signal.SIGTERM)
trace("main")
sys.exit(3)
""")
    assert program.process.wait(SOON) == 3
    assert program.calls() == {"main": 1}


def test_a_receiver_that_hangs_delays_the_end_for_the_timeout(
    start: Callable[[str], Program],
) -> None:
    """The others have sent, the log says what is missing, and the signal ends the process."""
    program = start("""
export(lambda line: threading.Event().wait())
export()
flush_on_sigterm(timeout=0.5)
trace("main")
is_ready()
time.sleep(60)
""")
    before = time.monotonic()
    assert program.end(again=not hypertrace.COMPILED) == -signal.SIGTERM
    assert 0.5 <= time.monotonic() - before < 10
    assert program.calls() == {"main": 1}
    assert "Not all exporters have sent their last reading within 0.5 seconds" in program.errors


def test_a_second_signal_changes_nothing(start: Callable[[str], Program]) -> None:
    """Some programs signal a process and its group; the last reading gets out all the same."""
    program = start("""
def write(line):
    time.sleep(0.3)
    with open(path, "a") as file:
        file.write(line + "\\n")


export(write)
flush_on_sigterm()
trace("main")
is_ready()
time.sleep(60)
""")
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert program.end() == -signal.SIGTERM
    assert (program.calls(), program.errors) == ({"main": 1}, "")


def test_a_signal_while_the_program_ends(start: Callable[[str], Program]) -> None:
    """The last reading that the end of the program sends gets out all the same."""
    program = start("""
def write(line):
    is_ready()
    time.sleep(0.5)
    with open(path, "a") as file:
        file.write(line + "\\n")


export(write)
flush_on_sigterm()
trace("main")
""")
    assert program.end(again=False) in {0, -signal.SIGTERM}
    assert program.calls() == {"main": 1}


def test_a_log_handler_that_breaks_does_not_keep_the_process(
    start: Callable[[str], Program],
) -> None:
    """Nor does a flush that is interrupted by Ctrl-C."""
    program = start("""
import logging


class Broken(logging.Handler):
    def handle(self, record):
        raise OSError


logging.getLogger("hypertrace.exporters").addHandler(Broken())
export(lambda line: threading.Event().wait())
flush_on_sigterm(timeout=0.3)
is_ready()
time.sleep(60)
""")
    assert program.end() == -signal.SIGTERM
    assert program.errors == ""


def test_a_forked_child_does_the_same(start: Callable[[str], Program]) -> None:
    """A signal to the child ends the child, with what it counted; the parent goes on."""
    program = start("""
export()
flush_on_sigterm()
trace("parent")
inside, outside = os.pipe()
if (child := os.fork()) == 0:
    trace("child", 2)
    os.write(outside, b"x")
    time.sleep(60)
    os._exit(0)
os.read(inside, 1)
os.kill(child, signal.SIGTERM)
assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
trace("parent")
is_ready()
time.sleep(60)
""")
    assert program.end() == -signal.SIGTERM
    assert (program.calls(), program.errors) == ({"parent": 2, "child": 2}, "")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_of_multiprocessing_may_be_terminated(
    start: Callable[[str], Program], method: str
) -> None:
    """It sends what it counted, and its exit code says what ended it."""
    program = start(f"""
import multiprocessing


def work(began):
    export()
    flush_on_sigterm()
    trace("child", 2)
    began.set()
    time.sleep(60)


if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    began = context.Event()
    child = context.Process(target=work, args=[began])
    child.start()
    assert began.wait(30)
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGTERM
    is_ready()
""")
    assert program.process.wait(SOON) == 0
    assert program.calls() == {"child": 2}


def test_programs_that_are_executed_have_no_handler(start: Callable[[str], Program]) -> None:
    """A child program is ended by the signal at once, as it would be without tracing."""
    program = start("""
import subprocess

export()
flush_on_sigterm()
child = subprocess.Popen([sys.executable, "-c",
    "import signal; assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL; print(flush=True);"
    "import time; time.sleep(60)"], stdout=subprocess.PIPE)
child.stdout.readline()
child.terminate()
assert child.wait() == -signal.SIGTERM
is_ready()
""")
    assert program.process.wait(SOON) == 0


@pytest.mark.parametrize("end", ["os._exit(4)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_an_end_without_notice_loses_one_interval_at_most(
    start: Callable[[str], Program], end: str
) -> None:
    """What came in before the last interval was sent at its time."""
    program = start(f"""
exporter = export(interval=0.01)
trace("sent", 5)
before = exporter.sent
while exporter.sent < before + 2:
    time.sleep(0.001)
{end}
""")
    assert program.process.wait(SOON) in {4, -signal.SIGKILL}
    assert program.calls() == {"sent": 5}


@pytest.mark.parametrize("timeout", ["2", 0, None, 10**9])
def test_the_timeout_is_checked(timeout: Any) -> None:
    """Before anything is set."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        flush_on_sigterm(timeout)
    assert signal.getsignal(signal.SIGTERM) is before
