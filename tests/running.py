"""Runners for tests: in threads, in a child, often enough that memory shows, by a set clock."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 120.0
"""Seconds that only a test that hangs takes."""


class Clock:
    """A clock that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def in_threads(*works: Callable[[], object]) -> None:
    """Run each in its own thread, all at once, and raise what one of them raises."""
    failed: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait(LONG)
            work()
        except BaseException as error:  # noqa: BLE001 -- raised below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def in_child(
    work: Callable[[], object], fork: Callable[[], int] | None = None, *, is_killed: bool = False
) -> None:
    """Run something in a forked child, and fail if it raises; the child runs no other code then."""
    child = (fork or os.fork)()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 -- shown, and reported by the exit code
            sys.excepthook(*sys.exc_info())
        finally:
            if is_killed and not status:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == (-signal.SIGKILL if is_killed else 0)


def growth(work: Callable[[int], object]) -> int:
    """Return by how many bytes 2 000 more calls of `work` grow the memory in use."""
    for number in range(3_000):
        work(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(3_000, 5_000):
            work(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
