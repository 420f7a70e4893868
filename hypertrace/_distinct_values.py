"""Distinct values: how many different ones came within a minute, in bounded memory."""

from __future__ import annotations

from hashlib import blake2b
from time import monotonic
from weakref import WeakSet

from .forks import after_fork_in_child

WINDOW = 60.0
"""Seconds in which values are counted as distinct."""

_MOST_VALUES = 1_024
"""Values that are held. Of more, a part is, from which their number is estimated."""
_HASHES = 1 << 64


class DistinctValues:
    """The distinct values of the last minute.

    Of each value a hash is held, with the time when it came last. Hashes above a limit are not
    held; the limit is halved when there are too many. Hashes are evenly spread, so the part that
    the limit is of all hashes is the part of the values that are held. Any thread may use it. A
    forked child starts without values.
    """

    def __init__(self) -> None:
        self._limit = _HASHES
        self._held: dict[int, float] = {}
        _all.add(self)

    def add(self, text: str) -> None:
        """Add a value.

        Args:
            text: of the value.
        """
        digest = blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).digest()
        value = int.from_bytes(digest, "big")
        if value < self._limit:
            self._held[value] = monotonic()
            if len(self._held) > _MOST_VALUES:
                self._make_room()

    def count(self) -> float:
        """Return how many values there are."""
        self._drop(self._limit)
        count = len(self._held)
        if not count:
            self._limit = _HASHES
        return round(count * _HASHES / self._limit)

    def clear(self) -> None:
        """Start without values."""
        self._held.clear()

    def _make_room(self) -> None:
        self._drop(self._limit)
        if len(self._held) > _MOST_VALUES // 2:
            self._limit //= 2
            self._drop(self._limit)

    def _drop(self, limit: int) -> None:
        """Drop what is too old, or not below a limit."""
        oldest = monotonic() - WINDOW
        for value, time in self._held.copy().items():
            if time < oldest or value >= limit:
                self._held.pop(value, None)


_all: WeakSet[DistinctValues] = WeakSet()


def _clear_all() -> None:
    for one in [*_all]:
        one.clear()


after_fork_in_child(_clear_all)
