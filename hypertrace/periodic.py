"""Periodic thread: calls a function at an interval, and at once when asked."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from .forks import wait_for_system

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_BACK_OFF = 300.0
"""Seconds between two calls while they fail, unless the interval is longer."""
_MOST_DOUBLINGS = 16
_MOST_WAITING = 100
"""Requests that may wait for a call that takes long; further ones fail at once."""


class PeriodicThread:
    """A daemon thread that calls a function at an interval, and at once when asked.

    While calls fail they get rarer, up to five minutes apart. The thread can be ended and started
    again; the time of the next call stays, also when that happens all the time.

    Any thread may use it, also a signal handler or a finalizer that interrupts a call of it: there
    is no lock that both could want.
    """

    def __init__(self, run: Callable[[], bool], interval: float, name: str) -> None:
        """Prepare the thread; `start()` starts it.

        Args:
            run: what to call; returns whether it succeeded, and raises nothing.
            interval: seconds between two calls.
            name: of the thread.
        """
        self._run = run
        self._name = name
        self._interval = interval
        self._failed_in_a_row = 0
        self._schedule()
        self._requests: _Requests = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs.

        Raises:
            RuntimeError: the system has no thread left, or the interpreter ends.
        """
        if self._thread is not None:
            return
        # With its own queue: the thread before this one ends by the None that is left in its.
        requests: _Requests = SimpleQueue()
        thread = threading.Thread(target=self._loop, args=(requests,), name=self._name, daemon=True)
        before, self._requests = self._requests, requests
        thread.start()
        self._thread = thread
        _move(before, requests)

    def is_current(self) -> bool:
        """Whether this is called in the thread itself."""
        return threading.current_thread() in {self._thread, self._ended}

    def request(self) -> Request | None:
        """Ask for a call at once.

        Returns:
            What to wait for; None if too many requests are waiting.
        """
        if self._requests.qsize() >= _MOST_WAITING:
            return None
        request = Request()
        self._requests.put(request)
        return request

    def end(self) -> None:
        """Let the thread end after the call that runs and those that were asked for."""
        if self._thread is not None:
            self._ended, self._thread = self._thread, None
        self._requests.put(None)

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended that was let end.

        Args:
            timeout: seconds to wait at the most. Called in the thread itself, it does not wait.

        Returns:
            Whether it has ended.
        """
        thread = self._ended
        if thread is None:
            return True
        if thread is threading.current_thread():
            return False
        thread.join(max(0.0, timeout))
        if thread.is_alive():
            return False
        wait_for_system(thread.native_id)
        return True

    def _loop(self, requests: _Requests) -> None:
        is_last = False
        while not is_last:
            # Bounded, as the clock may have been set back.
            asked = _take(requests, min(self._due - monotonic(), self._delay))
            is_last = None in asked
            if not is_last or any(asked):
                self._call(asked)

    def _call(self, asked: list[Request | None]) -> None:
        succeeded = self._run()
        self._failed_in_a_row = 0 if succeeded else self._failed_in_a_row + 1
        self._schedule()
        for request in filter(None, asked):
            request.answer(succeeded)

    def _schedule(self) -> None:
        self._delay = self._next_delay()
        self._due = monotonic() + self._delay

    def _next_delay(self) -> float:
        """Return seconds until the next call: the interval, and more after failures."""
        if not self._failed_in_a_row:
            return self._interval
        doubled = self._interval * 2 ** min(self._failed_in_a_row, _MOST_DOUBLINGS)
        back_off = min(doubled, max(self._interval, _LONGEST_BACK_OFF))
        # With jitter: else all processes would come back to a receiver at the same moment.
        return uniform(self._interval, back_off)  # noqa: S311 -- no secret


class Request:
    """A call that was asked for; each is waited for by one thread."""

    def __init__(self) -> None:
        self._answered = threading.Event()
        self._succeeded = False

    def answer(self, succeeded: bool) -> None:  # noqa: FBT001 -- the answer itself
        """Say whether the call succeeded."""
        self._succeeded = succeeded
        self._answered.set()

    @property
    def is_answered(self) -> bool:
        """Whether the call has returned."""
        return self._answered.is_set()

    def wait(self, timeout: float) -> bool:
        """Return whether the call succeeded within `timeout` seconds."""
        return self._answered.wait(max(0.0, timeout)) and self._succeeded


_Requests: TypeAlias = "SimpleQueue[Request | None]"
"""None asks the thread to end."""


def _take(requests: _Requests, timeout: float) -> list[Request | None]:
    """Return all requests that wait, the first of which may come within `timeout` seconds."""
    taken = []
    with suppress(Empty):
        taken.append(requests.get(timeout=max(0.0, timeout)))
        while True:
            taken.append(requests.get_nowait())
    return taken


def _move(before: _Requests, requests: _Requests) -> None:
    """Move the requests that no thread took to another queue; leave one that ends the thread."""
    for request in filter(None, _take(before, 0)):
        requests.put(request)
    before.put(None)
