"""Garbage collectors of workers: what each did is in the first cells of its file."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

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
    run(tmp_path, "gc.collect(); assert not workers() and garbage._count not in gc.callbacks")


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


def test_one_function_serves_all(tmp_path: Path) -> None:
    """It is there once for any number of `Metrics`, and goes with the last one that is closed."""
    program = """
other = Metrics(workers=sys.argv[1] + "-other")
tracer.trace()
set_trace_function(other)
Tracer("other").trace()
assert gc.callbacks.count(garbage._count) == 1
gc.collect()
assert mine() == mine(other) == statistics()
metrics.close()
metrics.close()
gc.collect()
assert mine(other) == statistics()
other.close()
assert garbage._count not in gc.callbacks
"""
    run(tmp_path, program)


def test_it_makes_nothing_that_is_collected(tmp_path: Path) -> None:
    """The function makes no object that counts towards the next collection."""
    program = """
tracer.trace()
info = {"generation": 0, "collected": 700, "uncollectable": 3}
garbage._count("start", info)
before = gc.get_count()[0]
for _ in range(1_000):
    garbage._count("stop", info)
assert gc.get_count()[0] - before < 10
assert mine().uncollectable[0] == 3_000
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
