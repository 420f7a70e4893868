"""Garbage collectors of workers: what each did is in the first cells of its file."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hypertrace import COMPILED

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("fcntl", reason="this system has no file locks")

SETTING = """
import gc, os, sys
from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
from hypertrace.metrics.shared import garbage
from hypertrace.metrics.shared.garbage import garbage_of, own_garbage

gc.disable()
metrics = Metrics(workers=sys.argv[1])
set_trace_function(metrics)
tracer = Tracer("garbage")


def workers(of=metrics):
    of.read()
    return {one.pid: garbage_of(one.cells) for one in of.storage.snapshot().living}


def mine(of=metrics):
    return workers(of).get(os.getpid())


def statistics():
    found = gc.get_stats()
    return tuple(
        tuple(one[name] for one in found) for name in ("collections", "collected", "uncollectable")
    )


def cycle():
    one = []
    one.append(one)


def in_child(work):
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(tmp_path: Path, program: str) -> None:
    subprocess.run(
        [sys.executable, "-c", SETTING + program, str(tmp_path / "counts")], check=True, timeout=100
    )


def test_they_are_those_of_gc(tmp_path: Path) -> None:
    """Collections, and objects collected, are what `gc` says, also those before the first count."""
    program = """
gc.collect()
tracer.trace()
assert mine() == statistics()
for generation in (0, 0, 1, 2):
    cycle()
    gc.collect(generation)
    assert mine() == statistics() == own_garbage()
assert mine().collected[2] >= 1
"""
    run(tmp_path, program)


def test_a_process_that_counts_nothing_is_no_worker(tmp_path: Path) -> None:
    """Collections alone make no file, and call no function of ours."""
    run(
        tmp_path,
        "before = list(gc.callbacks); gc.collect(); assert not workers()\n"
        "assert gc.callbacks == before",
    )


def test_a_forked_child_counts_from_zero(tmp_path: Path) -> None:
    """A child has what its own collector did, whether its parent has counted before or not."""
    program = """
def child():
    gc.collect(1)
    tracer.trace()
    gc.collect(2)
    found = mine()
    assert tuple(found.collections) == (0, 1, 1), found

gc.collect()
assert in_child(child) == 0
tracer.trace()
before = mine()
assert in_child(child) == 0
assert mine() == before == statistics()
"""
    run(tmp_path, program)


def test_those_of_a_killed_worker_vanish(tmp_path: Path) -> None:
    """A worker that is gone has no garbage any more, and none of it is added to another."""
    program = """
import signal
tracer.trace()
before = mine()
alive, held = os.pipe()
child = os.fork()
if not child:
    os.close(held)
    gc.collect()
    metrics.read()
    os.read(alive, 1)
    os._exit(0)
while child not in workers() or not workers()[child].collections[2]:
    pass
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
assert workers() == {os.getpid(): before}
assert metrics.storage.snapshot().ended == 1
"""
    run(tmp_path, program)


def test_nothing_is_called_once_the_metrics_are_closed(tmp_path: Path) -> None:
    """Each `Metrics` counts for itself, and stops when it is closed."""
    program = """
before = list(gc.callbacks)
other = Metrics(workers=sys.argv[1] + "-other")
tracer.trace()
set_trace_function(other)
Tracer("other").trace()
gc.collect()
assert mine() == mine(other) == statistics()
metrics.close()
metrics.close()
gc.collect()
assert mine(other) == statistics()
other.close()
assert gc.callbacks == before
"""
    run(tmp_path, program)


@pytest.mark.skipif(not COMPILED, reason="pure Python has no function in gc.callbacks")
def test_only_functions_of_c_are_called(tmp_path: Path) -> None:
    """What a signal handler raises in a function of Python would be lost to the application."""
    program = """
tracer.trace()
assert not [one for one in gc.callbacks if hasattr(one, "__code__")]
count, before = gc.callbacks[-1], gc.get_count()[0]
for _ in range(1_000):
    count("start", {})
    count("stop", {"generation": 0, "collected": 700, "uncollectable": 3})
assert gc.get_count()[0] - before < 10
(found,) = [garbage_of(one.cells) for one in metrics.storage.snapshot().living]
assert found.uncollectable[0] == 3_000
for odd in ((), ("stop",), ("stop", None), ("stop", {"generation": 9}), ("stop", {})):
    count(*odd)
"""
    run(tmp_path, program)


def test_cells_of_series_come_after(tmp_path: Path) -> None:
    """The first series counts in another cell."""
    program = """
for _ in range(5):
    tracer.trace()
assert mine() == statistics()
(point,) = metrics.read().family("function_counter_total").points
assert point.value == 5
"""
    run(tmp_path, program)
