"""Threads that trace while the trace function is set, cleared and replaced."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from hypertrace import (
    Tracer,
    _targets,
    clear_trace_function,
    set_trace_function,
    swallowed_errors,
)

Counts = Callable[..., Counter[Any]]

THREADS = 8
TRACES = 20_000
CHANGES = 200


class Swarm:
    def __init__(self, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, parent=parent)

    def go(self) -> None:
        self.tracer.trace()

    def go_with(self, peer: int) -> None:
        self.tracer.trace("id", peer=peer)


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def _in_threads(number: int, work: Callable[[], None]) -> None:
    """Run something in several threads at once; what one of them raises fails the test."""
    errors: list[BaseException] = []
    start = threading.Barrier(number)

    def run() -> None:
        try:
            start.wait(timeout=60)
            work()
        except BaseException as error:  # noqa: BLE001 -- reported by the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def _trace(shared: Swarm, times: int) -> None:
    """Trace through a tracer that all threads use, and through fresh ones: six calls in a round."""
    for i in range(times // 10):
        for _ in range(4):
            shared.go()
        shared.go_with(i % 3)
        fresh = Swarm()
        for _ in range(4):
            fresh.go()
        fresh.go_with(i % 3)


def test_no_count_is_lost(counts: Counts) -> None:
    """Calls from many threads are all counted, through shared tracers and fresh ones."""
    shared = Swarm()
    _in_threads(THREADS, lambda: _trace(shared, TRACES // 10))
    total = THREADS * TRACES // 10
    assert counts("caller.function_name") == {"go": total * 8 // 10, "go_with": total // 5}
    assert swallowed_errors() == 0


def test_counts_are_exact_after_the_last_change(make_counting: type[Any]) -> None:
    """While threads trace, a change takes effect at once: then all goes to the last, nothing else.

    The traces of each thread come in two parts: during the changes, and after the last one.
    """
    functions = [make_counting() for _ in range(3)]
    set_trace_function(functions[0])
    shared = Swarm()
    changed = threading.Barrier(THREADS + 1)
    counted = threading.Barrier(THREADS + 1)

    def work() -> None:
        _trace(shared, TRACES // 2)
        changed.wait(timeout=60)
        counted.wait(timeout=60)
        _trace(shared, TRACES // 2)

    def change() -> None:
        for i in range(CHANGES):
            if i % 4 == 3:
                clear_trace_function()
            else:
                set_trace_function(functions[i % 4])
        set_trace_function(functions[1])

    def totals() -> list[int]:
        return [function.counts("id").total() for function in functions]

    before: list[int] = []

    def control() -> None:
        change()
        changed.wait(timeout=60)
        before.extend(totals())
        counted.wait(timeout=60)

    roles = iter([control, *[work] * THREADS])
    lock = threading.Lock()

    def take_role() -> None:
        with lock:
            role = next(roles)
        role()

    _in_threads(THREADS + 1, take_role)
    after = [late - early for early, late in zip(before, totals(), strict=True)]
    assert after == [0, THREADS * TRACES // 2, 0]
    assert swallowed_errors() == 0


def test_counts_are_exact_while_recorders_are_dropped(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches that overflow all the time, in all threads, lose nothing."""
    monkeypatch.setattr(_targets, "MAX_RECORDERS", 5)
    shared = Swarm()
    _in_threads(THREADS, lambda: _trace(shared, TRACES // 40))
    assert counts("id").total() == THREADS * TRACES // 40


def test_set_parent_among_threads(counts: Counts) -> None:
    """After a parent was set while other threads traced, all events carry it."""
    shared, parents = Swarm(), [Tracer("odd"), Tracer("even")]
    turns = count()

    def work() -> None:
        if next(turns) == 0:
            for i in range(300):
                shared.tracer.set_parent(parents[i % 2])
            return
        for _ in range(1000):
            shared.go()

    _in_threads(4, work)
    before = counts("parent_object.class_name")
    for _ in range(10):
        shared.go()
    assert counts("parent_object.class_name") - before == {"even": 10}


def test_objects_made_by_threads_have_their_own_numbers(counts: Counts) -> None:
    """No two objects of a class have the same number."""
    numbers: list[int | None] = []
    _in_threads(THREADS, lambda: numbers.extend([Swarm().tracer.object_id for _ in range(500)]))
    assert len(set(numbers)) == THREADS * 500
