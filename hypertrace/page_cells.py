"""Page cells: counts of buckets that belong together, which many threads add to without a lock.

The compiled core has the same class. Here, what is on one line is one step: other threads, signal
handlers and finalizers run at calls and at the ends of loops only.
"""

from __future__ import annotations

from _thread import allocate_lock

from ._compiled import gil_enabled, speedups
from .number_cells import OwnMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .number_cells import Numbers

_CELL = 8


class OneStepPage:
    """Counts of buckets. Any thread may use it.

    With slots there are as many counts for each, and a stamp before them: what the counts belong
    to, such as a time. A slot is emptied when something with another stamp is counted in it.
    """

    __slots__ = ("_index", "_memory", "_size", "_slots", "_zeros")

    def __init__(
        self, size: int, slots: int = 0, memory: Numbers | None = None, index: int = 0
    ) -> None:
        """Start empty.

        Args:
            size: how many counts there are, of each slot.
            slots: how many slots there are; 0 for counts alone.
            memory: has the cells; None for memory of its own.
            index: of the first cell.
        """
        self._size = size
        self._slots = slots
        self._memory: Numbers = memory or OwnMemory(size_of_page(size, slots))
        self._index = index
        self._zeros = memoryview(bytes(_CELL * size)).cast("Q")

    def add(self, place: int) -> None:
        """Add one to a count, if there are no slots.

        Args:
            place: of the count, from 0 on.
        """
        counts, at = self._memory.counts, self._index + place
        counts[at] += 1

    def add_in_slot(self, place: int, slot: int, stamp: int) -> None:
        """Add one to a count of a slot.

        Args:
            place: of the count, from 0 on.
            slot: number of the slot, from 0 on.
            stamp: what it belongs to, above 0; with another one than before, the slot is emptied.
        """
        counts, first = self._memory.counts, self._index + slot * (self._size + 1)
        if counts[first] != stamp:
            self._empty(counts, first, stamp)
        at = first + 1 + place
        counts[at] += 1

    def _empty(self, counts: memoryview[int], first: int, stamp: int) -> None:
        """Empty the slot at an index, if it has another stamp."""
        rest, zeros = slice(first + 1, first + 1 + self._size), self._zeros
        # With the stamp 0 it is empty to every reader: counts are never those of another time, also
        # in the file of a process that was killed in between.
        if counts[first] != stamp: counts[first] = 0; counts[rest] = zeros; counts[first] = stamp  # noqa: E701, E702  # fmt: skip

    def reset(self) -> None:
        """Start again, if these cells are in memory, in a forked child that has one thread."""
        if isinstance(self._memory, OwnMemory):
            self._memory.reset()

    @property
    def data(self) -> bytes:
        """All cells, in this process."""
        first = self._index
        return bytes(self._memory.counts[first : first + size_of_page(self._size, self._slots)])


_lock = allocate_lock()
"""For builds without a GIL, in which no line is one step."""


class LockedPage(OneStepPage):
    """The same for builds without a GIL."""

    __slots__ = ()

    def add(self, place: int) -> None:
        """Add one to a count, if there are no slots; see `OneStepPage`."""
        with _lock:
            super().add(place)

    def add_in_slot(self, place: int, slot: int, stamp: int) -> None:
        """Add one to a count of a slot; see `OneStepPage`."""
        with _lock:
            super().add_in_slot(place, slot, stamp)


def size_of_page(size: int, slots: int) -> int:
    """Return how many cells a page has.

    Args:
        size: how many counts there are, of each slot.
        slots: how many slots there are; 0 for counts alone.
    """
    return slots * (size + 1) or size


if TYPE_CHECKING:
    PageCell = OneStepPage
elif speedups:
    PageCell = speedups.PageCell
else:
    PageCell = OneStepPage if gil_enabled() else LockedPage
