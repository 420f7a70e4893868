"""Bucket cells: exponential buckets that many threads add to without a lock, in pages.

The compiled core has the same classes. Here, what is on one line is one step: other threads, signal
handlers and finalizers run at calls and at the ends of loops only.
"""

from __future__ import annotations

import math
from _thread import allocate_lock
from bisect import bisect_left
from time import time
from typing import NamedTuple

from ._compiled import gil_enabled, speedups
from .number_cells import OwnMemory, accepted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .number_cells import HistogramCell, Numbers

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
            memory: has the cells; None makes some that no other process sees.
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


class Shape(NamedTuple):
    """Which buckets there are, and how they are kept."""

    limits: tuple[float, ...]
    """Lower limits of the buckets from 0.5 up to 1, ascending."""
    octaves: int
    """The buckets reach from `2**-octaves` to `2**octaves`."""
    size: int
    """How many buckets a page has."""
    slots: int = 0
    """How many slots a page has; 0 for none."""
    width: float = 0.0
    """Seconds of each slot."""


class PythonBuckets:
    """Values in exponential buckets. Any thread may use it.

    The bucket with the key `k` is at place `k % size` of page `k // size`. A value is counted in
    its bucket before it is in the total; a reader in between finds it in one of them.

    With slots the pages hold a window of time: each slot has the values of a part of it, and is
    emptied when the window begins again. All processes have the same slots at the same time.
    """

    __slots__ = (
        *("_clock", "_limits", "_make", "_octaves", "_pages", "_present", "_size", "_slots"),
        *("_total", "_width"),
    )

    def __init__(
        self,
        total: HistogramCell,
        shape: Shape,
        make: Callable[[int], OneStepPage] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Start empty.

        Args:
            total: counts all values, and adds them up; its `convert` is used.
            shape: of buckets and pages.
            make: returns the page with a number, which has so many slots; None for one in memory.
            clock: returns seconds since the epoch; None for the system's.
        """
        self._total = total
        self._limits, self._octaves, self._size, self._slots, self._width = shape
        self._make = make
        self._clock: Callable[[], float] = clock or time
        self._pages: dict[int, OneStepPage] = {}
        self._present = (0.0, 0.0, 0, 0)

    def add(self, value: float) -> None:
        """Add a value, which is finite.

        Raises:
            ValueError: it is not, and the total has no `convert`.
        """
        number = accepted(value, self._total.convert)
        if number is None:
            return
        at, place = divmod(key_of(number, self._limits, self._octaves), self._size)
        page = self._pages.get(at) or self._page(at)
        if self._slots:
            _, _, slot, stamp = self._slot()
            if stamp:
                page.add_in_slot(place, slot % self._slots, stamp)
        else:
            page.add(place)
        self._total.add(number)

    @property
    def pages(self) -> dict[int, OneStepPage]:
        """The pages that this process counts in, by their numbers."""
        return self._pages.copy()

    def reset(self) -> None:
        """Empty the pages in memory, in a forked child that has one thread."""
        for page in self._pages.values():
            page.reset()

    def _page(self, number: int) -> OneStepPage:
        made = self._make(number) if self._make else PageCell(self._size, self._slots)
        # Of several threads that get here, all take the same.
        return self._pages.setdefault(number, made)

    def _slot(self) -> tuple[float, float, int, int]:
        """Return the present slot: begin, end, number since the epoch, and stamp."""
        slot, now = self._present, self._clock()
        begin, end, _, _ = slot
        if begin <= now < end:
            return slot
        number, width = _slot_number(now, self._width), self._width
        self._present = slot = number * width, (number + 1) * width, number, _stamp(number, width)
        return slot


def key_of(value: float, limits: tuple[float, ...], octaves: int) -> int:
    """Return the key of the bucket that a finite value is in.

    Keys ascend with the values: 0 is that of values up to `2**-octaves` on either side of 0.
    Values outside of the buckets are in the outermost ones.

    Args:
        value: what is looked up.
        limits: as in `Shape`.
        octaves: as in `Shape`.
    """
    fraction, exponent = math.frexp(abs(value))
    divisions = len(limits)
    key = bisect_left(limits, fraction) + (exponent - 1 + octaves) * divisions
    key = min(max(key, 0), 2 * octaves * divisions) if value else 0
    return key if value > 0 else -key


def stamps_at(now: float, slots: int, width: float) -> frozenset[int]:
    """Return the stamps of the slots that are in a window.

    Args:
        now: seconds since the epoch.
        slots: as in `Shape`.
        width: as in `Shape`.
    """
    last = _slot_number(now, width)
    return frozenset(_stamp(last - before, width) for before in range(slots)) - {0}


def _slot_number(now: float, width: float) -> int:
    """Return the number of the slot at a time, since the epoch."""
    number = now // width
    # A patched clock may return anything.
    return int(number) if abs(number) < _NO_STAMP else 0


def _stamp(number: int, width: float) -> int:
    """Return when a slot begins, in microseconds since the epoch; 0 if it has no stamp."""
    stamp = int(number * width * 1e6)
    return stamp if 0 < stamp < _NO_STAMP else 0


_NO_STAMP = 1 << 62

if TYPE_CHECKING:
    PageCell = OneStepPage
    Buckets = PythonBuckets
elif speedups:
    PageCell = speedups.PageCell
    Buckets = speedups.Buckets
else:
    PageCell = OneStepPage if gil_enabled() else LockedPage
    Buckets = PythonBuckets
