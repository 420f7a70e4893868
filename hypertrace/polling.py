"""Polls: functions that are called at an interval, such as measurements of the application."""

from __future__ import annotations

import sys
import threading
import traceback
from contextlib import suppress
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from queue import Empty, SimpleQueue
from random import uniform
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ._failures import count_and_log
from .cells import Cell
from .forks import around_fork, wait_for_system
from .inspection import type_name
from .periodic import PeriodicThread
from .weak_methods import weakly

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

EVERY = 10.0
"""Seconds between two calls, unless a poll says something else."""
PATIENCE = 5.0
"""Seconds after which a call is taken to hang, and the others wait for it no longer."""
JITTER = 0.1
"""By what part of itself an interval is longer or shorter."""
THREAD_NAME = "hypertrace-polls"
SCHEDULER_NAME = "hypertrace-polls-scheduler"

_LONGEST = 86_400.0
_FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for a call that runs."""


def poll(function: Callable[[], object], every: float = EVERY) -> Poll:
    """Call a function at an interval from now on, for measurements of the application's own.

    The first call is at once, and each later one when the interval has passed since the one before
    began; up to a tenth is added or taken at random, so that processes do not measure in step. All
    polls of the process are called one after another in one daemon thread. A second one waits for
    it: a call that has not returned within 5 seconds is counted as a failure, the other polls go on
    in another thread, and the slow one is called again at its next time after it has returned.

    What the function raises is counted in `hypertrace_swallowed_errors_total`, and logged once a
    minute at the most; it is called again. What it traces counts. Its result is ignored. The
    interpreter does not wait for it at exit. Before a fork the threads end, and after it they start
    again, in the parent and in the child, which calls it for itself.

    The object of a bound method is not kept: once it is gone, the poll ends. Other functions are
    kept until `stop()`.

    Args:
        function: is called without arguments.
        every: seconds, up to a day.

    Returns:
        The handle that ends it.

    Raises:
        TypeError: `function` cannot be called, or is a coroutine or generator function; or `every`
            is no number.
        ValueError: `every` is not above 0, or longer than a day.
        RuntimeError: the system has no thread left, or the interpreter ends.
    """
    _check(function)
    made = Poll(function, _checked(every))
    try:
        _polls.add(made)
    except RuntimeError:
        made.stop()
        raise
    return made


class Poll:
    """A function that is called at an interval; the handle that ends it.

    It ends by `stop()`, at the end of a `with` block, or when the object is gone whose bound method
    it calls. Any thread may use it.

    Attributes:
        every: seconds between two calls.
    """

    def __init__(self, function: Callable[[], object], every: float) -> None:
        """Know what to call; `poll` is what makes one."""
        self.every: float = every
        self.due: float = monotonic()
        self._name = getattr(function, "__qualname__", type_name(function))
        self._failures = Cell()
        self._is_stopped = False
        self._turn = threading.Lock()
        self._thread: int | None = None
        self._function = weakly(function, self._gone)

    def __repr__(self) -> str:
        """Show the function and the interval."""
        stopped = ", stopped" if self._is_stopped else ""
        return f"<Poll of {self._name} every {self.every:g} seconds{stopped}>"

    @property
    def failures(self) -> int:
        """How many calls of this process raised, or took too long."""
        return self._failures.value

    @property
    def is_stopped(self) -> bool:
        """Whether the function is called no more."""
        return self._is_stopped

    def stop(self) -> None:
        """Call the function no more; a call that runs goes on. May be called more than once."""
        # It may run in a finalizer: there is no lock, and nothing that waits.
        self._is_stopped = True
        _polls.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def begin(self) -> bool:
        """Return whether a call may begin now, and then let no other one begin."""
        if self._is_stopped or self.due > monotonic() or not self._turn.acquire(blocking=False):
            return False
        self.due = monotonic() + self.every * uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 -- no secret
        return True

    def is_called(self) -> bool:
        """Whether a call has begun, and has not returned."""
        return self._turn.locked()

    def call(self) -> None:
        """Call the function in this thread, after `begin()`."""
        self._thread = threading.get_ident()
        try:
            function = self._function()
            if function is not None:
                _call(function)
        except BaseException as error:  # noqa: BLE001 -- such as SystemExit; the thread must go on
            self.fail(error)
        finally:
            self.end()

    def end(self) -> None:
        """Let the next call begin when it is due."""
        self._thread = None
        self._turn.release()

    def fail(self, error: BaseException) -> None:
        """Count an error, and log it once a minute at the most."""
        self._failures.increment()
        with suppress(Exception):  # a broken log handler must not end the thread
            count_and_log(error, self._function() or self)

    def give_up(self) -> None:
        """Count a call that has not returned in time."""
        where = sys._current_frames().get(self._thread) if self._thread is not None else None
        stack = "".join(traceback.format_stack(where)).rstrip() if where else "its end"
        self.fail(
            TimeoutError(
                f"{self._name} has not returned within {PATIENCE:g} seconds, and is not called "
                f"until it has; it stands at\n{stack}"
            )
        )

    def restart(self) -> None:
        """Let a call begin at once, in a forked child."""
        self._turn = threading.Lock()
        self._failures = Cell()
        self.due = monotonic()

    def _gone(self, _: object) -> None:
        self.stop()


def _call(function: Callable[[], object]) -> None:
    result = function()
    if type(result) is CoroutineType:
        result.close()
        raise TypeError("a poll must measure when it is called, and this returned a coroutine")


class _Caller:
    """The daemon thread that calls functions, one after another."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Poll | None] = SimpleQueue()
        self._returned: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def call(self, one: Poll) -> bool:
        """Call a function, and return whether it has returned in time."""
        self._asked.put(one)
        try:
            self._returned.get(timeout=PATIENCE)
        except Empty:
            return False
        return True

    def end(self) -> None:
        """Let the thread end, after the call that runs."""
        self._asked.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if not self._thread.is_alive():
                wait_for_system(self._thread.native_id)

    def _loop(self) -> None:
        while (one := self._asked.get()) is not None:
            one.call()
            del one  # it may be the last reference
            self._returned.put(None)
        _polls.wake()  # after a call that was slow


class _Scheduler(PeriodicThread):
    """The daemon thread that lets the functions be called when they are due.

    It takes no call itself, and so can go on when one hangs.
    """

    def __init__(self, polls: _Polls) -> None:
        self._polls = polls
        self._caller: _Caller | None = None
        super().__init__(self._call_due, _LONGEST, SCHEDULER_NAME)

    def join(self, timeout: float) -> bool:
        """Wait until this thread has ended, and the one that calls; see `PeriodicThread.join`."""
        deadline = monotonic() + timeout
        has_ended = super().join(timeout)
        caller = self._caller
        if caller is not None:
            caller.join(max(0.0, deadline - monotonic()))
        return has_ended

    def _loop(self, requests: Any) -> None:
        try:
            super()._loop(requests)
        finally:
            if self._caller is not None:
                self._caller.end()

    def _call_due(self) -> bool:
        for one in self._polls.held():
            if one.begin():
                self._let_call(one)
        self._polls.end_without_polls(self)
        return True

    def _let_call(self, one: Poll) -> None:
        try:
            if self._caller is None:
                self._caller = _Caller()
        except RuntimeError as error:  # the system has no thread left, or the interpreter ends
            one.fail(error)
            one.end()
            return
        if not self._caller.call(one):
            self._caller.end()
            self._caller = None
            one.give_up()

    def _next_delay(self) -> float:
        """Return seconds until the next call is due."""
        due = [one.due for one in self._polls.held() if not one.is_called()]
        return max(0.0, min(due, default=_LONGEST) - monotonic())


class _Polls:
    """All polls of this process."""

    def __init__(self) -> None:
        self._all: dict[Poll, None] = {}
        self._scheduler: _Scheduler | None = None
        self._lock = threading.RLock()  # for changes of the scheduler

    def held(self) -> list[Poll]:
        # A copy first: a finalizer may stop a poll when a list is made of a dict.
        return [*self._all.copy()]

    def add(self, one: Poll) -> None:
        self._all[one] = None
        self._start()

    def remove(self, one: Poll) -> None:
        """Call a function no more. It may run in a finalizer."""
        self._all.pop(one, None)
        self.wake()

    def end_without_polls(self, scheduler: _Scheduler) -> None:
        """Let the thread that calls this end, if there are no polls."""
        with self._lock:
            if not self._all and self._scheduler is scheduler:
                self._scheduler = None
                scheduler.end()
                # Another thread may have just added one.
                self.after_fork_in_parent()

    def wake(self) -> None:
        """Look again which functions are due."""
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler.request()

    def before_fork(self) -> None:
        """End the threads."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.end()
            scheduler.join(_FORK_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Start the threads again, if there are polls."""
        if self._all:
            with suppress(RuntimeError):  # the system has no thread left
                self._start()

    def after_fork_in_child(self) -> None:
        """Start other threads: those of the parent are gone."""
        self._scheduler = None
        self._lock = threading.RLock()
        for one in self.held():
            one.restart()
        self.after_fork_in_parent()

    def stop(self) -> None:
        """Stop all of them."""
        for one in self.held():
            one.stop()

    def _start(self) -> None:
        with self._lock:
            if self._scheduler is None:
                scheduler = _Scheduler(self)
                scheduler.start()
                self._scheduler = scheduler
        self.wake()


def reset() -> None:
    """Stop all polls."""
    _polls.stop()


def _check(function: object) -> None:
    if not callable(function):
        raise TypeError(f"poll takes a function without arguments, not {function!r}")
    for one in (function, getattr(type(function), "__call__", None)):  # noqa: B004 -- of an object
        if iscoroutinefunction(one) or isasyncgenfunction(one) or isgeneratorfunction(one):
            raise TypeError(
                f"poll takes a plain function, as it is called in a thread without an event loop; "
                f"{function!r} is a coroutine or generator function: let a task of the event loop "
                "measure, with asyncio.sleep() between"
            )


def _checked(every: object) -> float:
    if isinstance(every, bool) or not isinstance(every, int | float):
        raise TypeError(f"every must be a number of seconds, not {every!r}")
    if not 0 < every <= _LONGEST:
        raise ValueError(f"every must be above 0 and up to {_LONGEST:.0f} seconds, not {every!r}")
    return float(every)


_polls = _Polls()
around_fork(
    before=_polls.before_fork,
    after_in_parent=_polls.after_fork_in_parent,
    after_in_child=_polls.after_fork_in_child,
)
