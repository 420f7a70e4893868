"""Rate limit: how often lines of one kind may be logged."""

from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from .cells import Cell

LOG_INTERVAL = 60.0
"""Seconds between two log lines of the same kind."""


class RateLimit:
    """Allows one log line in each interval, and counts those it does not allow.

    Any thread may ask, also a signal handler; no thread waits for another.
    """

    __slots__ = ("_pause", "_reported", "_suppressed")

    def __init__(self) -> None:
        """Allow the first line at once."""
        self._suppressed = Cell()
        self._reported = 0
        self._pause = _Pause(float("-inf"))

    def allow(self) -> bool:
        """Return whether a line is due; if not, count it as suppressed."""
        now, pause = monotonic(), self._pause
        elapsed = now - pause.since
        # A clock that was set back ends the pause; one that gives no numbers keeps it.
        if elapsed >= LOG_INTERVAL or elapsed < 0:
            # In this order: an interrupt in between costs one line, not all that follow.
            self._pause = _Pause(now)
            if pause.turn.acquire(blocking=False):
                return True
        self._suppressed.increment()
        return False

    def take_suppressed(self) -> int:
        """Return how many lines were not allowed since the last call."""
        before, self._reported = self._reported, self._suppressed.value
        return self._reported - before


class _Pause:
    """The time after a line; the first thread to take the `turn` when it is over logs the next."""

    __slots__ = ("since", "turn")

    def __init__(self, since: float) -> None:
        self.since = since
        self.turn = allocate_lock()
