"""Single flight: work that is done once for all threads that ask for it at the same time."""

from __future__ import annotations

import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

W = TypeVar("W", bound="Hashable")
R = TypeVar("R")

SHARED_FOR = 1.0
"""Seconds from the start of a run in which other threads may still join it."""

_PATIENCE = 5.0
_SHORTEST_WAIT = 0.05
_MOST_WAITS = 3
"""Attempts, each of which ends when the run that a thread waits for hangs or fails."""


class SingleFlight(Generic[W, R]):
    """Work that any number of threads ask for, done by one thread at a time.

    A thread that finds the work in progress adds what it wants and waits for the result, unless the
    work began more than a second before. One that finds it done takes the result only if the work
    began less than a second ago, and after the thread asked. Any other thread does the work, so
    that its result is current, and waits for its turn behind those that asked before. One result is
    kept: the last one that was asked for with a time.

    No thread waits without limit: work that has been in progress for 5 seconds is taken to hang,
    and no longer keeps other threads from doing it. The wait for a turn does not count as a hang,
    however many turns come before. A forked child waits for no thread of its parent.
    """

    def __init__(self) -> None:
        """Start with no work in progress."""
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Drop all work in progress: in a forked child its threads are gone."""
        self._changed = threading.Condition(threading.RLock())
        self._waiting: dict[Hashable, _Run[W, R]] = {}
        self._current: _Run[W, R] | None = None
        self._last: _Run[W, R] | None = None

    def get(
        self, key: Hashable, want: W, start: Callable[[], Callable[[W], R]], *, asked: float = inf
    ) -> R:
        """Return what is wanted, made here or by another thread with the same key.

        Args:
            key: what the work depends on. There must be few keys, as each may have to wait for a
                turn of every other.
            want: what is wanted of the work; there may be any number of different ones.
            start: does the part of the work that is the same for all, and returns the function
                that makes each result. One thread at a time calls that function.
            asked: when it was asked for, by `time.monotonic()`, if that is known.

        Raises:
            BaseException: the work raised it in this thread. When it fails in another thread, it is
                done again here.
        """
        for _ in range(_MOST_WAITS):
            mine: _Run[W, R] = _Run(key, want)
            try:
                run = self._join(mine, asked)
                if run is mine:
                    self._do(mine, start)
                    if asked < inf:
                        self._last = mine.with_only(want)
            finally:  # also if an interrupt comes before it began
                self._end(mine)
            self._wait_for(run)
            if run.is_complete:
                return run.results[want]
        return start()(want)

    def _join(self, mine: _Run[W, R], asked: float) -> _Run[W, R]:
        """Return the run that makes what is wanted; if it is `mine`, it now waits for its turn."""
        with self._changed:
            last = self._last
            if last is not None and last.is_kept_for(mine, asked):
                return last
            for run in (self._current, self._waiting.get(mine.key)):
                if run is not None and run.is_open_to(mine):
                    run.wants += mine.wants
                    return run
            self._waiting.pop(mine.key, None)
            mine.wait_behind(len(self._waiting))
            self._waiting[mine.key] = mine
            return mine

    def _do(self, mine: _Run[W, R], start: Callable[[], Callable[[W], R]]) -> None:
        self._take_turn(mine)
        make = start()
        for want in self._wants_of(mine):
            if want not in mine.results:
                mine.results[want] = make(want)

    def _wants_of(self, mine: _Run[W, R]) -> Iterator[W]:
        """Return what is wanted of a run, also by threads that join meanwhile."""
        while True:
            with self._changed:
                if not mine.wants:
                    mine.is_complete = True
                    return
                want = mine.wants.pop()
            yield want

    def _take_turn(self, mine: _Run[W, R]) -> None:
        with self._changed:
            while not self._is_next(mine):
                self._changed.wait((self._current or mine).patience)
            self._forget(mine)
            self._current = mine
            mine.begin()

    def _is_next(self, mine: _Run[W, R]) -> bool:
        if self._current is not None and not self._current.is_overdue:
            return False
        first = next((run for run in self._waiting.values() if not run.is_overdue), mine)
        return first is mine or mine.is_overdue

    def _wait_for(self, run: _Run[W, R]) -> None:
        with self._changed:
            while not (run.has_ended or run.is_overdue):
                self._changed.wait(run.patience)

    def _end(self, mine: _Run[W, R]) -> None:
        with self._changed:
            self._forget(mine)
            if self._current is mine:
                self._current = None
            mine.has_ended = True
            self._changed.notify_all()

    def _forget(self, mine: _Run[W, R]) -> None:
        if self._waiting.get(mine.key) is mine:
            del self._waiting[mine.key]


class _Run(Generic[W, R]):
    """Work that waits for its turn, is in progress, or has ended.

    Attributes:
        key: what it depends on.
        wants: what is wanted of it and not made yet.
        results: what was made, by what was wanted.
        is_complete: all that was wanted is made, and no more will be.
        has_ended: it is complete, or has failed.
        began: when its turn came, by `time.monotonic()`.
        due: when its turn should have come, or, once it has begun, when it should have ended.
    """

    def __init__(self, key: Hashable, want: W) -> None:
        self.key = key
        self.wants = [want]
        self.results: dict[W, R] = {}
        self.is_complete = False
        self.has_ended = False
        self.began = -inf
        self.due = inf

    @property
    def is_overdue(self) -> bool:
        """Whether it hangs, or lost its thread while it waited."""
        return monotonic() > self.due

    @property
    def patience(self) -> float:
        """The seconds until it is overdue, or a short time."""
        return max(_SHORTEST_WAIT, self.due - monotonic())

    def is_open_to(self, other: _Run[W, R]) -> bool:
        """Whether another run may join: a thread adds what it wants."""
        is_new = self.began == -inf or monotonic() <= self.began + SHARED_FOR
        return self.key == other.key and is_new and not self.is_complete and not self.is_overdue

    def is_kept_for(self, other: _Run[W, R], asked: float) -> bool:
        """Whether it has what is wanted, and began after that was asked for."""
        is_new = asked <= self.began and monotonic() <= self.began + SHARED_FOR
        return self.key == other.key and is_new and all(w in self.results for w in other.wants)

    def wait_behind(self, others: int) -> None:
        """Start to wait for its turn, behind the work in progress and some other runs."""
        self.due = monotonic() + _PATIENCE * (others + 1)

    def begin(self) -> None:
        """Start the time in which the work is shared, and the time it may take."""
        self.began = monotonic()
        self.due = self.began + _PATIENCE

    def with_only(self, want: W) -> _Run[W, R]:
        """Return a complete copy with one result."""
        other = _Run[W, R](self.key, want)
        other.began, other.results = self.began, {want: self.results[want]}
        other.is_complete = other.has_ended = True
        return other


_all: WeakSet[SingleFlight[Any, Any]] = WeakSet()


def _renew() -> None:
    for flight in _all:
        flight.renew()


after_fork_in_child(_renew)
