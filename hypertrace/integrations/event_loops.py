"""Event loops: those of asyncio and uvloop that run, how late they are, and their tasks.

A thread sends each loop a callback once a second, by `call_soon_threadsafe`: the time until it is
called is the lag. A loop that has stopped gets none, and no loop is kept.
"""

from __future__ import annotations

import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

from hypertrace._failures import swallow
from hypertrace.forks import after_fork_in_child
from hypertrace.polling import poll

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.polling import Poll

    from .patches import Patches

EVERY = 1.0
"""Seconds between two callbacks of one loop."""

_MOST_WAITING = 60
"""Callbacks that a loop is sent while it runs none."""
_COUNT_SHARE = 1_000
"""By how much longer the pause after a count of tasks is than the count."""


class EventLoops:
    """The event loops that run in this process."""

    def __init__(self, report_lag: Callable[[str, float], object]) -> None:
        """Start without loops.

        Args:
            report_lag: is called in the thread of a loop, with the label of the thread and seconds.
        """
        self._report_lag = report_lag
        self._running: dict[int, _Run] = {}
        self._poll: Poll | None = None
        self._has_ended = False
        _all.add(self)

    def patch(self, patches: Patches) -> None:
        """Find the loops that start from now on, and one that runs in this thread.

        Args:
            patches: replaces what marks a loop as running, once it is imported.
        """
        patches.then(self._end)
        patches.when_imported("asyncio", lambda: self._patch_asyncio(patches))
        patches.when_imported("uvloop", lambda: self._patch_uvloop(patches))

    def number(self) -> dict[str, int]:
        """Return how many loops run, by the thread: `main`, or `other`."""
        found: dict[str, int] = {}
        for run in self._runs():
            found[run.thread] = found.get(run.thread, 0) + 1
        return found

    def tasks(self) -> dict[str, int]:
        """Return how many tasks are not done, by the thread, as counted last."""
        found: dict[str, int] = {}
        for run in self._runs():
            if run.tasks is not None:
                found[run.thread] = found.get(run.thread, 0) + run.tasks
        return found

    def forget(self) -> None:
        """Forget all loops, in a forked child: they do not run there."""
        for run in self._running.values():
            run.has_ended = True
        self._running.clear()

    def _patch_asyncio(self, patches: Patches) -> None:
        import asyncio

        def make(set_running_loop: Callable[[Any], object]) -> Callable[[Any], object]:
            def watched(loop: Any) -> None:
                set_running_loop(loop)
                self._mark(loop)

            return watched

        for module in (asyncio.events, asyncio):  # uvloop takes it from the second one
            patches.replace(module, "_set_running_loop", make)
        loop = asyncio._get_running_loop()
        if loop is not None:
            self._mark(loop)

    def _patch_uvloop(self, patches: Patches) -> None:
        # It may have been imported before, and then has the function that was there.
        def make(run_forever: Callable[[Any], object]) -> Callable[[Any], object]:
            def watched(loop: Any) -> Any:
                before = self._running.get(threading.get_ident())
                self._mark(loop)
                try:
                    return run_forever(loop)
                finally:
                    self._mark(None if before is None else before.loop())

            return watched

        patches.replace(sys.modules["uvloop"].Loop, "run_forever", make)

    def _mark(self, loop: Any) -> None:
        """Know that this thread runs a loop from now on, or none."""
        try:
            if self._has_ended:
                return
            ident = threading.get_ident()
            before = self._running.get(ident)
            if before is not None and before.loop() is not loop:
                before.has_ended = True
                self._running.pop(ident, None)
            if loop is not None and (before is None or before.has_ended):
                self._running[ident] = _Run(loop, self._report_lag)
                if self._poll is None or self._poll.is_stopped:
                    self._poll = poll(self._send, EVERY)
        except Exception as error:  # noqa: BLE001 -- the loop of the application goes on
            swallow(error, self)

    def _send(self) -> None:
        for run in self._runs():
            run.send()

    def _runs(self) -> list[_Run]:
        return [*self._running.copy().values()]

    def _end(self) -> None:
        self._has_ended = True
        self.forget()
        if self._poll is not None:
            self._poll.stop()


class _Run:
    """One run of a loop, from its start to its stop.

    Attributes:
        thread: `main`, or `other`.
        has_ended: whether the loop has stopped.
        tasks: how many are not done; None before they are counted.
    """

    def __init__(self, loop: Any, report_lag: Callable[[str, float], object]) -> None:
        self.loop: Callable[[], Any] = ref(loop)
        is_main = threading.get_ident() == threading.main_thread().ident
        self.thread: str = "main" if is_main else "other"
        self.has_ended: bool = False
        self.tasks: int | None = None
        self._report_lag = report_lag
        # Each is written by one thread.
        self._sent = self._called = 0
        self._next_count = 0.0

    def send(self) -> None:
        """Send the loop a callback, unless many wait; called in the thread of polls."""
        loop = self.loop()
        if loop is None or self.has_ended or self._sent - self._called >= _MOST_WAITING:
            return
        try:
            loop.call_soon_threadsafe(self._callback, perf_counter())
            self._sent += 1
        except RuntimeError:  # it has just been closed
            pass
        except Exception as error:  # noqa: BLE001 -- the other loops get theirs
            swallow(error, loop)

    def _callback(self, sent: float) -> None:
        """Take the time, in the thread of the loop."""
        now = perf_counter()
        self._called += 1
        if self.has_ended:  # the loop has stopped since, and runs again
            return
        try:
            self._report_lag(self.thread, now - sent)
            if now >= self._next_count:
                self._count(now)
        except Exception as error:  # noqa: BLE001 -- the loop of the application goes on
            swallow(error, self)

    def _count(self, now: float) -> None:
        # In the thread of the loop: in another one the last reference to a task could end.
        import asyncio

        self.tasks = len(asyncio.all_tasks(self.loop()))
        self._next_count = now + _COUNT_SHARE * (perf_counter() - now)


def _forget() -> None:
    for loops in [*_all]:
        loops.forget()


_all: WeakSet[EventLoops] = WeakSet()
after_fork_in_child(_forget)
