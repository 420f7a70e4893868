"""Cells: counters that many threads increment without a lock."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from itertools import count, repeat
from operator import call, mul, truediv

from ._compiled import gil_enabled, speedups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from .protocols import Durations

    Scaled = tuple[Durations | Callable[[float], object], float, float]

    class MappedMemory(Protocol):
        """What a `MappedCell` counts in."""

        counts: memoryview[int]

    _Count = count[int]
else:
    _Count = count  # generic for type checkers only


class CountCell(_Count):
    """A count that starts at 0 and goes up by one, also when it is called.

    `increment` is the iterator's `__next__`, which runs in C without releasing the GIL: it is exact
    with threads, signal handlers and `__del__`, cannot deadlock, and works after a fork.
    """

    __slots__ = ("_before",)

    _before: int

    if TYPE_CHECKING:

        def __call__(self) -> int:
            """Add one."""

    else:
        # Slower than `increment`, which takes another 48 bytes to keep.
        __call__ = count.__next__

    @property
    def increment(self) -> Callable[[], object]:
        """A callable without parameters that adds one; its result means nothing."""
        return self.__next__

    @property
    def value(self) -> int:
        """Number of calls of `increment` since the last reset. Reading takes no lock."""
        # The slot is empty until the first reset: a cell is made without a Python call.
        return self._total() - getattr(self, "_before", 0)

    def reset(self) -> None:
        """Start again at 0. An increment by another thread meanwhile counts before or after it."""
        self._before = self._total()

    def _total(self) -> int:
        # Only the repr of an `itertools.count` reads it without advancing it.
        return int(count.__repr__(self)[len("CountCell(") : -1])


class LockedCell:
    """The same for builds without a GIL, in which no increment is atomic without a lock."""

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
        """Number of calls of `increment` since the last reset."""
        return self._value

    def reset(self) -> None:
        """Start again at 0."""
        with self._lock:
            self._value = 0


class MappedCell:
    """A count in memory that other processes see, for builds with a GIL.

    It has the members of the others. What can interrupt `increment` runs before or after its only
    statement, so it is as exact as `CountCell`.
    """

    __slots__ = ("_index", "_memory")

    def __init__(self, memory: MappedMemory, index: int) -> None:
        """Count in a cell of some memory, whose attribute `counts` may change at a fork."""
        self._memory = memory
        self._index = index

    def increment(self) -> None:
        """Add one."""
        self._memory.counts[self._index] += 1

    __call__ = increment

    @property
    def value(self) -> int:
        """What this process counted."""
        return self._memory.counts[self._index]

    def reset(self) -> None:
        """Start at 0 again."""
        self._memory.counts[self._index] = 0


if TYPE_CHECKING:
    Cell = LockedCell  # all three have these members
else:
    Cell = speedups.Cell if speedups else CountCell if gil_enabled() else LockedCell

_run_all: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend


class PythonCellGroup:
    """Cells, and lists of durations, that are counted in together.

    Calling it adds one to each cell. A span's end adds one to each, and appends its duration. Where
    all of them are counted by C functions, that is one step for other threads and for signals.
    """

    __slots__ = ("_appends", "_increments", "_lists", "_per", "_times")

    def __init__(self, cells: tuple[Cell, ...], durations: tuple[Scaled, ...] = ()) -> None:
        """Count in some cells.

        Args:
            cells: what is incremented.
            durations: what durations are appended to, or a function that takes them, each with
                what they are multiplied with, and then divided by. A function must be one in C
                that runs no Python code, if the core is compiled.
        """
        self._increments = tuple(cell.increment for cell in cells)
        self._lists = tuple(one for one, _, _ in durations if not callable(one))
        self._appends = tuple(one if callable(one) else one.append for one, _, _ in durations)
        self._times = tuple(times for _, times, _ in durations)
        self._per = tuple(per for _, _, per in durations)

    def increment(self) -> None:
        """Add one to each cell."""
        _run_all(map(call, self._increments))

    __call__ = increment

    def append(self, seconds: float) -> None:
        """Add one to each cell, and a duration where durations go."""
        scaled = map(truediv, map(mul, repeat(seconds), self._times), self._per)
        # Pyright does not know that `call` passes more arguments on.
        _run_all(map(call, self._appends, scaled))  # pyright: ignore[reportArgumentType]
        _run_all(map(call, self._increments))

    def __len__(self) -> int:
        """Return how many durations wait in the longest list."""
        return max(map(len, self._lists), default=0)


if TYPE_CHECKING:
    CellGroup = PythonCellGroup
else:
    CellGroup = speedups.CellGroup if speedups else PythonCellGroup
