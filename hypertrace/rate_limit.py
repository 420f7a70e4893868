"""Rate limit of log lines of one kind."""

from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from .cells import Cell

LOG_INTERVAL = 60.0
"""Seconds between two log lines of the same kind."""


class RateLimit:
    """Allows one log line in each interval, and counts the others as suppressed.

    Any thread or signal handler may use it; no thread waits for another.
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
        # A clock that was set back ends the pause; one that returns NaN does not.
        if elapsed >= LOG_INTERVAL or elapsed < 0:
            # In this order, an interrupt between the two loses one line, not all later ones.
            self._pause = _Pause(now)
            if pause.turn.acquire(blocking=False):
                return True
        self._suppressed.increment()
        return False

    def take_suppressed(self) -> int:
        """Return how many lines were suppressed since the last call."""
        before, self._reported = self._reported, self._suppressed.value
        return self._reported - before


class _Pause:
    """The time after a line. The first thread that acquires `turn` after it logs the next line."""

    __slots__ = ("since", "turn")

    def __init__(self, since: float) -> None:
        self.since = since
        self.turn = allocate_lock()
