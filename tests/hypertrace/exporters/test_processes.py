"""Processes with push exporters that fork and end, in whatever way: what is sent, and by whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hypertrace
from hypertrace.exporters import processes
from hypertrace.metrics import Metrics
from hypertrace.periodic import PeriodicThread

from ..conftest import needs_fork
from .recording import SOON, Recording, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Lines: TypeAlias = list[dict[str, Any]]
    Run: TypeAlias = Callable[..., Lines]

forks_with_warnings = pytest.mark.skipif(
    sys.version_info[:2] == (3, 13) or sys.version_info[:3] == (3, 14, 0),
    reason="Python warns of threads that are started after the fork (python/cpython#137109)",
)

SETTING = """
import os, sys, threading, time, warnings
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics

metrics = Metrics(workers=False)  # each process exports for itself
set_trace_function(metrics)
interval = 3600
path = sys.argv[1]
# Of forks with threads: of others, or that Python counts wrongly.
warnings.simplefilter("ignore", DeprecationWarning)


def trace(id, times=1):
    tracer = Tracer("object")
    for _ in range(times):
        tracer.trace(id)


def wait_for(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a function that runs a program, and gives the lines that its exporters wrote."""

    def run(code: str, status: int = 0, before: str = "") -> Lines:
        program, path = tmp_path / "program.py", tmp_path / "lines"
        program.write_text(before + SETTING + code)
        # Not measured by coverage, whose own lock may be held at a fork.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        where = str(Path(hypertrace.__file__).parent.parent)
        done = subprocess.run(
            [sys.executable, program, path],
            env={**environment, "PYTHONPATH": where},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (status, "")
        # Some are empty: a process that finds the line of another one half written ends it.
        return [json.loads(line) for line in path.read_text().splitlines() if line]

    return run


def calls(lines: Lines) -> Counter[str]:
    """Add up the calls in some lines by their trace id."""
    found: Counter[str] = Counter()
    for line in lines:
        for point in line["metrics"]:
            if point["name"] == "function_counter_total":
                found[point["labels"]["id"]] += point["value"]
    return found


def by_process(lines: Lines) -> list[Counter[str]]:
    """Give the calls of each process, in the order in which they wrote first."""
    pids = dict.fromkeys(line["pid"] for line in lines)
    return [calls([line for line in lines if line["pid"] == pid]) for pid in pids]


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "1 / 0"])
def test_the_rest_is_sent_when_a_program_ends(run: Run, end: str) -> None:
    """What came in since the last line is written when the interpreter exits, however it does."""
    program = f"""
JsonLinesExporter(path, metrics=metrics, interval=interval)
trace("main")
import logging
try:
    {end or "pass"}
except ZeroDivisionError:
    os.close(2)  # the traceback is not looked at
    raise
"""
    status = {"": 0, "sys.exit(3)": 3, "1 / 0": 1}[end]
    assert calls(run(program, status)) == {"main": 1}


def test_threads_that_outlive_the_main_thread_are_counted(run: Run) -> None:
    """The interpreter waits for threads before the rest is sent."""
    program = """
JsonLinesExporter(path, metrics=metrics, interval=interval)


def work():
    threading.main_thread().join()
    trace("thread", 5)


threading.Thread(target=work).start()
"""
    assert calls(run(program)) == {"thread": 5}


def test_one_that_hangs_costs_the_others_nothing_at_exit(run: Run) -> None:
    """All exporters send at the same time at exit, and the program ends though some hang."""
    program = """
import logging

logging.disable()  # each that hangs is logged


def hang(_):
    threading.Event().wait()


for _ in range(30):  # one after the other would take a minute
    JsonLinesExporter(hang, metrics=metrics, interval=interval)
JsonLinesExporter(path, metrics=metrics, interval=interval)
trace("main")
"""
    assert calls(run(program)) == {"main": 1}


def test_daemon_threads_may_trace_while_the_interpreter_ends(run: Run) -> None:
    """Threads that trace and flush until the end make no noise and change no exit status."""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=0.001)


def work():
    while True:
        trace("daemon")
        exporter.flush()


for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
until(lambda: exporter.sent > 5)
"""
    assert calls(run(program))["daemon"] > 0


def test_an_exporter_that_is_made_at_exit_does_no_harm(run: Run) -> None:
    """An exit function may make an exporter, flush and stop one."""
    program = """
import atexit


@atexit.register
def at_exit():
    exporter.flush()
    exporter.stop()
    try:
        JsonLinesExporter(path, metrics=metrics, interval=interval).stop()
    except RuntimeError:
        pass  # Python 3.12 and later start no thread any more


exporter = JsonLinesExporter(path, metrics=metrics, interval=interval)
trace("main")
"""
    assert calls(run(program))["main"] >= 1


@needs_fork
def test_each_process_sends_what_it_counts(run: Run) -> None:
    """A forked child sends its own counts, the parent its own, also in the child's child."""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=interval)
trace("parent", 2)
trace("both", 10)
if (child := os.fork()) == 0:
    trace("child", 3)
    trace("both", 20)
    if (grandchild := os.fork()) == 0:
        trace("grandchild", 4)
        sys.exit()
    sys.exit(wait_for(grandchild))
assert wait_for(child) == 0
trace("both", 40)
"""
    assert by_process(run(program)) == [
        {"grandchild": 4},
        {"child": 3, "both": 20},
        {"parent": 2, "both": 50},
    ]


@needs_fork
def test_lines_of_a_child_have_their_own_numbers(run: Run) -> None:
    """The first line of a child is its first, and says when the child started."""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=interval)
assert exporter.flush() and exporter.flush()
if (child := os.fork()) == 0:
    assert exporter.flush()
    sys.exit()
assert wait_for(child) == 0
"""
    lines = run(program)
    assert [line["sequence"] for line in lines] == [1, 2, 1, 2, 3]
    assert len({line["pid"] for line in lines}) == len({line["started"] for line in lines}) == 2


@needs_fork
def test_parent_and_child_go_on_at_the_interval(run: Run) -> None:
    """After a fork both processes write lines without being asked for them."""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=0.001)
if (child := os.fork()) == 0:
    trace("child")
    sent = exporter.sent
    until(lambda: exporter.sent > sent + 5)
    os._exit(0)
trace("parent")
sent = exporter.sent
until(lambda: exporter.sent > sent + 5)
assert wait_for(child) == 0
exporter.stop()
"""
    assert calls(run(program)) == {"child": 1, "parent": 1}


@needs_fork
def test_a_process_that_forks_all_the_time_still_sends(run: Run) -> None:
    """However often a process forks, it sends at its interval."""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=0.2)
trace("parent")


def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    return wait_for(child) or exporter.sent


until(fork)
os._exit(0)
"""
    assert calls(run(program)) == {"parent": 1}


@needs_fork
def test_no_thread_of_an_exporter_is_there_at_a_fork(run: Run) -> None:
    """The threads end before a process forks, and start again after it."""
    # Hooks that are registered before the package is imported run after its own.
    before = """
import os, threading
alive = []
os.register_at_fork(before=lambda: alive.append(threading.active_count()))
"""
    program = """
exporters = [JsonLinesExporter(path, metrics=metrics, interval=interval) for _ in range(3)]
for _ in range(20):
    if (child := os.fork()) == 0:
        os._exit(threading.active_count() != 4)
    assert wait_for(child) == 0
    assert threading.active_count() == 4
assert alive == [1] * 20, alive
"""
    run(program, before=before)


@needs_fork
@forks_with_warnings
def test_a_fork_warns_of_no_thread(run: Run) -> None:
    """Python's warning of forks with threads does not come for exporters."""
    program = """
from hypertrace.exporters import processes
warnings.simplefilter("always")
processes.FORK_TIMEOUT = 30  # however loaded the machine is
for _ in range(3):
    JsonLinesExporter(path, metrics=metrics, interval=interval)
for _ in range(100):
    if (child := os.fork()) == 0:
        os._exit(0)
    assert wait_for(child) == 0
"""
    run(program)


@needs_fork
def test_a_fork_does_not_wait_for_a_thread_that_hangs(run: Run) -> None:
    """While an exporter hangs in sending, the process forks, and the child sends its own."""
    program = """
inside, released = threading.Event(), threading.Event()


def write(line):
    if os.getpid() == parent:
        inside.set()
        released.wait()
    with open(path, "a") as file:
        file.write(line + "\\n")


parent = os.getpid()
exporter = JsonLinesExporter(write, metrics=metrics, interval=interval)
trace("parent")
exporter.flush(0)
assert inside.wait(30)
if (child := os.fork()) == 0:
    trace("child")
    assert exporter.flush(30)
    os._exit(0)
assert wait_for(child) == 0
trace("parent")
released.set()
until(lambda: exporter.flush(30))
"""
    assert by_process(run(program)) == [{"child": 1}, {"parent": 2}]


@needs_fork
def test_a_fork_in_the_thread_of_an_exporter(run: Run) -> None:
    """A function that is given the lines may itself fork."""
    program = """
def write(line):
    if (child := os.fork()) == 0:
        with open(path, "a") as file:
            file.write(line + "\\n")
        os._exit(0)
    assert wait_for(child) == 0


exporter = JsonLinesExporter(write, metrics=metrics, interval=interval)
for _ in range(3):
    trace("parent")
    until(lambda: exporter.flush(30))
exporter.stop()
"""
    assert calls(run(program)) == {"parent": 3}


@needs_fork
def test_threads_may_fork_trace_and_flush_at_the_same_time(run: Run) -> None:
    """Where threads fork at the same time, each count is written once, by who counted it."""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=0.001)


def work():
    for _ in range(10):
        trace("parent")
        if (child := os.fork()) == 0:
            trace("child")
            exporter.flush(30)
            os._exit(0)
        assert wait_for(child) == 0
        exporter.flush(0)


threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
exporter.stop()
until(lambda: threading.active_count() == 1)
"""
    assert calls(run(program)) == {"parent": 30, "child": 30}


@pytest.mark.parametrize("where", ["before", "inside"])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_of_multiprocessing_send_the_rest(run: Run, method: str, where: str) -> None:
    """A process of `multiprocessing` sends what it counted at its end, however it was started."""
    program = f"""
import multiprocessing
exporter = None


def start_to_export():
    global exporter
    exporter = JsonLinesExporter(path, metrics=metrics, interval=interval)


if {where == "before"}:
    start_to_export()


def work():
    if exporter is None:
        start_to_export()
    trace("child", 3)


if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    for _ in range(2):
        child = context.Process(target=work)
        child.start()
        child.join()
        assert child.exitcode == 0
    trace("main")
"""
    main = 1 if where == "before" else 0
    assert calls(run(program)) == Counter(child=6, main=main) - Counter()


def test_signal_handlers_may_flush_and_stop(run: Run) -> None:
    """A handler that comes in the middle of a flush flushes, too, and both end."""
    program = """
import json, signal
exporter = JsonLinesExporter(path, metrics=metrics, interval=0.001)
handled = 0


def handle(*_):
    global handled
    handled += 1
    trace("handler")
    exporter.flush()


signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while handled < 100:
    trace("main")
    exporter.flush()
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, lambda *_: exporter.stop())
signal.raise_signal(signal.SIGALRM)
exporter.stop()
assert threading.active_count() == 1
lines = map(json.loads, open(path))
points = [point for line in lines for point in line["metrics"]]
written = sum(p["value"] for p in points if p["name"] == "function_counter_total")
assert written == sum(metrics.read().family("function_counter_total").values)
"""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no timer that sends signals")
    found = calls(run(program))
    assert found["main"] > 0
    assert found["handler"] >= 100


@needs_fork
def test_an_exporter_in_a_process_of_greenlets(run: Run) -> None:
    """Where gevent makes greenlets of threads, each process writes its lines."""
    pytest.importorskip("gevent")
    before = """
from gevent import monkey
monkey.patch_all()
"""
    program = """
exporter = JsonLinesExporter(path, metrics=metrics, interval=0.001)
trace("parent")
until(lambda: exporter.sent > 3)
if (child := os.fork()) == 0:
    trace("child")
    assert exporter.flush(30)
    sys.exit()
assert wait_for(child) == 0
trace("parent")
exporter.stop()
"""
    assert calls(run(program, before=before)) == {"parent": 2, "child": 1}


OTHER = """
import sys
from hypertrace.exporters.json_lines import JsonLinesExporter

exporter = JsonLinesExporter(print, workers=sys.argv[1], interval=3600)
assert exporter.flush(30)
assert exporter.sent == 1
"""


def test_workers_may_have_different_exporters(tmp_path: Path) -> None:
    """One that sends to a backend is not in the way of another that sends to another backend."""
    metrics = Metrics(workers=str(tmp_path / "run"))
    hypertrace.set_trace_function(metrics)
    hypertrace.Tracer("object").trace()
    exporter = Recording(metrics)
    assert exporter.flush(SOON)
    done = subprocess.run(
        [sys.executable, "-c", OTHER, tmp_path / "run"], check=True, capture_output=True
    )
    exporter.stop()
    metrics.close()
    points = json.loads(done.stdout.splitlines()[0])["metrics"]
    counted = [point["value"] for point in points if point["name"] == "function_counter_total"]
    assert (counted, exporter.calls()[0]) == ([1], 1)


def test_an_exporter_that_stops_during_a_fork_has_no_thread_after_it() -> None:
    """A thread may stop an exporter while another one forks: no thread of it starts again."""
    exporter = Recording()
    processes._before_fork()
    exporter.stop()
    processes._after_fork_in_parent()
    assert exporter_threads() == []


def test_an_exporter_that_stops_during_a_fork_sends_the_rest() -> None:
    """So does one of a process that ends meanwhile; the fork has ended the thread already."""
    exporter = Recording()
    hypertrace.set_trace_function(exporter)
    hypertrace.Tracer("object").trace()
    processes._before_fork()
    exporter.stop()
    processes._after_fork_in_parent()
    assert exporter.calls() == [1]


def test_an_exporter_that_stops_as_its_thread_starts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same where it stops just before the thread is started after the fork."""
    exporter = Recording()
    start = PeriodicThread.start

    def stop_and_start(thread: PeriodicThread) -> None:
        exporter.stop()
        start(thread)

    processes._before_fork()
    monkeypatch.setattr(PeriodicThread, "start", stop_and_start)
    processes._after_fork_in_parent()
    until(lambda: not exporter_threads())


def test_a_system_without_threads_left_after_a_fork(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no thread can be started after a fork, the log says so; the next fork tries again."""
    exporter = Recording()

    def refuse(_: PeriodicThread) -> None:
        raise RuntimeError("can't start new thread")

    processes._before_fork()
    with monkeypatch.context() as patched:
        patched.setattr(PeriodicThread, "start", refuse)
        processes._after_fork_in_parent()
    assert "can't start new thread" in caplog.text
    assert exporter.failures == 1
    processes._before_fork()
    processes._after_fork_in_parent()
    assert exporter.flush(SOON)
    exporter.stop()


def test_a_subclass_that_fails_in_a_child_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What `begin` raises in a child is counted and logged."""
    exporter = Recording()

    def fail() -> None:
        raise OSError("no connection")

    processes._before_fork()
    monkeypatch.setattr(exporter, "begin", fail)
    processes._after_fork_in_child()
    assert "no connection" in caplog.text
    assert exporter.failures == 1
    assert exporter.flush(SOON)
    exporter.stop()
