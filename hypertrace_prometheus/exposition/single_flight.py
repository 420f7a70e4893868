"""Work that is done once for all who ask for it at the same time."""

from __future__ import annotations

import os
import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

SHARED_FOR = 1.0
"""Seconds from the start of some work in which those who come still share its result."""

_PATIENCE = 5.0
# Each time the work that was waited for hung, or broke off.
_MOST_WAITS = 3


class Snapshots(Generic[T]):
    """The results of work that any number of threads ask for, done one at a time.

    Who finds the work under way waits for its result, unless it began more than a second before.
    Who finds it done takes its result only if it began, less than a second ago, after he asked.
    Anyone else does it, so that the result is of now. One result is kept, the last.

    Nobody waits without limit: work that takes more than 5 seconds no longer keeps others from
    doing it, too. A forked child waits for nobody of its parent.
    """

    def __init__(self) -> None:
        """Start with no work under way."""
        self.renew()
        _all_snapshots.add(self)

    def get(self, key: Hashable, make: Callable[[], T], *, asked: float = inf) -> T:
        """Return what `make` returns, here or where it was called with the same key.

        Args:
            key: what the result depends on; results are shared among those who give an equal one.
            make: does the work.
            asked: when it was asked for, by `time.monotonic()`, if that is known.

        Raises:
            BaseException: what `make` raises here. Where another thread's raises, it is done anew.
        """
        for _ in range(_MOST_WAITS):
            mine: _Flight[T] = _Flight()
            flight = self._board(key, mine, asked)
            if flight is mine:
                return self._lead(key, mine, make)
            if flight.ended.wait(_PATIENCE) and flight.results:
                return flight.results[0]
        return make()

    def renew(self) -> None:
        """Forget all work under way: in a forked child its threads are gone."""
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}
        self._last: tuple[Hashable, _Flight[T]] | None = None

    def _board(self, key: Hashable, mine: _Flight[T], asked: float) -> _Flight[T]:
        with self._lock:
            if self._last is not None:
                last_key, last = self._last
                if last_key == key and last.is_open and last.began >= asked:
                    return last
            flight = self._flights.get(key)
            if flight is not None and flight.is_open:
                return flight
            self._flights[key] = mine
            return mine

    def _lead(self, key: Hashable, flight: _Flight[T], make: Callable[[], T]) -> T:
        turn = None
        try:
            turn = self._take_turn()
            flight.begin()
            result = make()
            flight.results.append(result)
            self._last = key, flight
            return result
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            if turn is not None:
                turn.release()
            flight.ended.set()

    def _take_turn(self) -> threading.Lock:
        turn = self._turn
        if not turn.acquire(timeout=_PATIENCE):
            # Who has it hangs, and may have it for ever.
            turn = self._turn = threading.Lock()
            turn.acquire()
        return turn


class _Flight(Generic[T]):
    """Work that waits for its turn, or is done, and those who wait for its result."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.results: list[T] = []
        # Waiting for its turn takes no longer, whatever happens to its thread.
        self._open_until = monotonic() + _PATIENCE
        self.began = -inf

    @property
    def is_open(self) -> bool:
        """Whether who comes now may share the result."""
        return monotonic() <= self._open_until

    def begin(self) -> None:
        """Start the time in which the result is shared."""
        self.began = monotonic()
        self._open_until = self.began + SHARED_FOR


_all_snapshots: WeakSet[Snapshots[Any]] = WeakSet()


def _renew() -> None:
    for snapshots in _all_snapshots:
        snapshots.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
