"""Cells: numbers that many threads count up without a lock."""

from __future__ import annotations

from _thread import allocate_lock
from itertools import count

from ._compiled import gil_enabled, speedups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Count = count[int]
else:
    _Count = count  # generic for type checkers alone


class CountCell(_Count):
    """A count that starts at 0 and goes up by one, also when it is called.

    `increment` is the iterator's own `__next__`, which runs in C without giving up the GIL: it is
    exact under threads, signal handlers and `__del__`, cannot deadlock, and survives a fork.
    """

    __slots__ = ()

    __call__ = count.__next__  # which `increment` does quicker, and a cell in a third of the memory

    @property
    def increment(self) -> Callable[[], object]:
        """A callable without parameters that adds one; its result means nothing."""
        return self.__next__

    @property
    def value(self) -> int:
        """How often `increment` was called. Reading changes nothing and takes no lock."""
        # The text of a count is the one way to read it without advancing it.
        return int(count.__repr__(self)[len("CountCell(") : -1])


class LockedCell:
    """The same for builds without a GIL, where no increment is atomic by itself."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        """Start at 0."""
        self._lock = allocate_lock()
        self._value = 0

    def increment(self) -> None:
        """Add one."""
        with self._lock:
            self._value += 1

    __call__ = increment

    @property
    def value(self) -> int:
        """How often `increment` was called."""
        return self._value


if TYPE_CHECKING:
    Cell = LockedCell  # both have its members, and its types are plain
else:
    Cell = speedups.Cell if speedups else CountCell if gil_enabled() else LockedCell
