"""Distinct values: those that a set got in the last minute, and how many there are."""

from __future__ import annotations

import re
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .declarations import Declaration

DISTINCT = "_distinct"
"""End of the names of gauges that show how many values there are."""

WINDOW = 60.0
"""Seconds in which values are counted as distinct."""

_MOST_VALUES = 1_024
"""Values of one set that are held. Of more, a part is, from which their number is estimated."""
_HASHES = 1 << 64
_LONGEST = 64
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


class SetValues(NamedTuple):
    """The values of a set at one moment: those that this process holds."""

    metric: Declaration
    """The gauge that shows how many there are, as it is shown."""
    labels: tuple[str, ...]
    """Values of its labels."""
    values: Mapping[str, float]
    """As `DistinctValues.read` returns them."""


class DistinctValues:
    """The distinct values of the last minute.

    Of each value a hash is held, with the time when it came last, and its text if that is short.
    Hashes above a limit are not held; the limit is halved when there are too many. Hashes are
    evenly spread, so the part that the limit is of all hashes is the part of the values that are
    held. Any thread may use it.
    """

    def __init__(self) -> None:
        """Start without values."""
        self._limit = _HASHES
        self._held: dict[int, tuple[float, str]] = {}
        _all.add(self)

    def add(self, text: str) -> None:
        """Add a value."""
        digest = blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).digest()
        value = int.from_bytes(digest, "big")
        if value < self._limit:
            self._held[value] = monotonic(), text if len(text) <= _LONGEST else ""
            if len(self._held) > _MOST_VALUES:
                self._make_room()

    def count(self) -> float:
        """Return how many values there are."""
        self._drop(self._limit)
        count = len(self._held)
        if not count:
            self._limit = _HASHES
        return round(count * _HASHES / self._limit)

    def read(self) -> dict[str, float]:
        """Return the values that are held, each with the time of its last coming.

        A value is its text if that has up to 64 characters, all of them ASCII letters, digits, `_`,
        `-`, `.` or `/`; otherwise its hash, which is 16 hexadecimal digits.
        """
        return {
            text if _PLAIN.fullmatch(text) else f"{value:016x}": came
            for value, (came, text) in self._held.copy().items()
        }

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
        for value, (came, _) in self._held.copy().items():
            if came < oldest or value >= limit:
                self._held.pop(value, None)


_all: WeakSet[DistinctValues] = WeakSet()


def _clear() -> None:
    for one in [*_all]:
        one.clear()


after_fork_in_child(_clear)
