"""Queue of events: a bounded queue, and the thread that calls a handler with what is in it."""

from __future__ import annotations

import atexit
from _thread import allocate_lock, get_ident, get_native_id, start_new_thread
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from ._failures import logger
from ._guard import suppress_tracing
from .events import plain_event
from .forks import ChildEnd, around_fork, wait_for_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from .events import TraceEvent

THREAD_NAME = "hypertrace-handler"

EXIT_TIMEOUT = 2.0
"""Seconds that a process waits at its end for all queues, and `close()` for its queue."""
FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for handlers that just run."""


class EventQueue:
    """A bounded queue of events, with a daemon thread that calls a function with each.

    The thread starts with the first event, also in a forked child, whose queue is empty at first.
    It ends before the process forks, and starts again with what is in the queue.

    Any thread may add events, also a signal handler or a finalizer that interrupts any of this: no
    lock is waited for. A full queue takes no event; some more than its limit may be in it if
    several threads add at the same moment.
    """

    def __init__(self, call: Callable[[TraceEvent], object], limit: int) -> None:
        """Start empty.

        Args:
            call: called in the thread with each event, as plain data; it raises nothing.
            limit: number of events that may wait.
        """
        self._call = call
        self._limit = limit
        self._is_closed = False
        self._begin()
        _open.add(self)
        _child_end.watch()

    @property
    def waiting(self) -> int:
        """How many events wait, without the one that the function is called with."""
        return self._items.qsize()

    def add(self, event: TraceEvent) -> bool:
        """Add an event, unless the queue is full. Called while tracing is suppressed.

        Returns:
            Whether there was room.
        """
        if self._items.qsize() >= self._limit:
            return False
        self._items.put(plain_event(event))
        self._wake()
        return True

    def close(self) -> bool:
        """Let the thread end after what waits; wait for that, for 2 seconds at the most.

        Returns:
            Whether all was done in time. The thread goes on if not.
        """
        self._is_closed = True
        is_done = _drain([self], EXIT_TIMEOUT)
        _open.discard(self)
        return is_done

    def is_idle(self) -> bool:
        """Whether nothing waits, and there is no thread."""
        return self._items.empty() and not self._running.locked()

    def mark(self) -> _Mark:
        """Add a mark, which is reached after all events that wait."""
        mark = _Mark()
        self._items.put(mark)
        self._wake()
        return mark

    def is_current(self) -> bool:
        """Whether this is called in the thread itself."""
        return self._consumer is not None and self._consumer.is_current()

    def pause(self) -> None:
        """Let the thread end after the event that it is at."""
        self._is_paused = True
        if self._running.locked():
            self._items.put(_Mark())

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended that was paused."""
        if self._consumer is not None and not self.is_current():
            self._consumer.join(timeout)

    def resume(self) -> None:
        """Start the thread again if something waits."""
        self._is_paused = False
        self._wake()

    def restart(self) -> None:
        """Forget what waits, in a forked child: the parent has it, too."""
        self._begin()

    def _begin(self) -> None:
        self._items: _Items = SimpleQueue()
        self._running = allocate_lock()  # held while there is a thread
        self._consumer: _Consumer | None = None
        self._is_paused = False

    def _wake(self) -> None:
        if self._items.empty() or self._is_paused or not self._running.acquire(blocking=False):
            return
        items, running = self._items, self._running
        self._consumer = _Consumer(lambda: self._consume(items, running), running.release)

    def _consume(self, items: _Items, running: _Lock) -> None:
        try:
            # The function may fork: the child has other items.
            while items is self._items and not self._is_paused:
                item = items.get(block=not self._is_closed)
                if isinstance(item, _Mark):
                    item.reach()
                else:
                    self._call(item)
        except Empty:  # it is closed
            pass
        finally:
            running.release()
        if items is self._items:
            self._wake()  # something may have come before the lock was free


class _Consumer:
    """A thread, and another one that starts it.

    `Thread.start()` waits for locks, which the code that a signal handler or a finalizer has
    interrupted may hold. Where it starts no thread any more, as in a program that has just ended,
    the other one does the work.
    """

    def __init__(self, run: Callable[[], object], fail: Callable[[], object]) -> None:
        """Start the thread, or call `fail` if there can be no more threads."""
        self._thread = Thread(target=self._work, name=THREAD_NAME, daemon=True)
        self._run = run
        self._is_done = _Mark()
        self._ident = 0
        self._native_ids: list[int] = []
        try:
            start_new_thread(self._start, ())
        except RuntimeError:  # the system has no thread left, or the interpreter ends
            self._is_done.reach()
            fail()

    def is_current(self) -> bool:
        """Whether this is called in the thread that works."""
        return self._ident == get_ident()

    def join(self, timeout: float) -> None:
        """Wait until both threads have ended."""
        if self._is_done.wait(timeout):
            for native_id in self._native_ids:
                wait_for_system(native_id)

    def _start(self) -> None:
        self._native_ids.append(get_native_id())
        try:
            self._thread.start()
        except RuntimeError:  # as above
            self._work()

    def _work(self) -> None:
        self._ident = get_ident()
        if (native_id := get_native_id()) not in self._native_ids:
            self._native_ids.append(native_id)
        try:
            self._run()
        finally:
            self._ident = 0
            self._is_done.reach()


class _Mark:
    """A place in a queue that a thread waits for."""

    def __init__(self) -> None:
        self._unreached = allocate_lock()
        self._unreached.acquire()

    def reach(self) -> None:
        self._unreached.release()

    def wait(self, timeout: float) -> bool:
        is_reached = self._unreached.acquire(timeout=max(0.0, timeout))
        if is_reached:
            self._unreached.release()  # for other threads that wait
        return is_reached


if TYPE_CHECKING:
    from _thread import LockType as _Lock

    _Items: TypeAlias = SimpleQueue[TraceEvent | _Mark]

_open: set[EventQueue] = set()
"""The queues that are not closed."""


def _drain(queues: Iterable[EventQueue], timeout: float) -> bool:
    """Wait until all that waits in some queues is done; return whether it is."""
    deadline = monotonic() + timeout
    marks = [one.mark() for one in queues if not (one.is_idle() or one.is_current())]
    return all(mark.wait(deadline - monotonic()) for mark in marks)


def _at_exit() -> None:
    queues = list(_open)
    if not _drain(queues, EXIT_TIMEOUT):
        with suppress(Exception):  # a broken log handler must not reach the application
            suppress_tracing(
                logger().warning,
                "handlers did not take all events within %g seconds: %d are lost",
                EXIT_TIMEOUT,
                sum(queue.waiting for queue in queues),
            )


def _before_fork() -> None:
    _child_end.watch()
    deadline = monotonic() + FORK_TIMEOUT
    queues = list(_open)
    for queue in queues:
        queue.pause()
    for queue in queues:
        queue.join(deadline - monotonic())


def _after_fork_in_parent() -> None:
    for queue in list(_open):
        queue.resume()


def _after_fork_in_child() -> None:
    for queue in list(_open):
        queue.restart()


_child_end = ChildEnd(_at_exit)
atexit.register(_at_exit)
around_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
