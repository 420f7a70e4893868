"""Exponential series: native histograms, and summaries with quantiles over a sliding window.

Adding a value appends it to a list, which is folded into the buckets when it is long or read. Any
thread may add, fold and read, also a signal handler or a finalizer that runs in the middle of a
call. There is no lock: no thread waits, and a forked child finds none taken.

Buckets are held in pages of some hundred bytes for a power of two or more, which are made when a
value is first in them. Values over three decades take about 2 KiB in a native histogram of schema
3, and 30 KiB in a summary; whatever the values are, at most 30 KiB and 640 KiB.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .exponential import SMALLEST, SUMMARY_DIVISIONS, scale_of, scale_of_schema
from .reading import Exemplar, ExponentialReading, SummaryReading
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .exponential import Pages
    from .series import Key

DEFAULT_SCHEMA = 3
"""Of native histograms: eight buckets for each power of two, each 9 % wider than the one before."""

SLOTS = 6
"""A window consists of so many slots of equal length; the oldest one expires as a whole."""

_MAX_BUFFERED = 128


class Exponential(Series):
    """A native histogram: exponential buckets of all values since the start."""

    __slots__ = ("_exemplars", "_pages", "_scale", "_sum", "buffer", "schema")

    schema: int
    buffer: list[float]

    def __init__(self, key: Key, schema: int = DEFAULT_SCHEMA) -> None:
        """Start empty.

        Args:
            key: the label values.
            schema: each power of two has `2 ** schema` buckets; from 0 to 8.
        """
        self.key = key
        self.schema = schema
        self._scale = scale_of_schema(schema)
        self.buffer = []
        self._pages: Pages = {}
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def add(self, value: float) -> None:
        """Add one finite value."""
        self.buffer.append(value)
        if len(self.buffer) > _MAX_BUFFERED:
            self.fold()

    def remember(self, value: float, labels: Mapping[str, str]) -> None:
        """Let a value above 0 that was added stand for those up to the same power of two."""
        key = self._scale.key(value)
        if key > 0:
            octave = (key - 1) // self._scale.divisions
            self._exemplars[octave] = Exemplar(labels, value, time.time())

    def fold(self) -> bool:
        """Move the values in the buffer into the buckets.

        Returns:
            False if another fold finished in between: that one has moved what it found.
        """
        before = self._pages
        taken = self.buffer.copy()
        if not taken:
            return True
        pages = self._scale.added(before, taken)
        total = self._sum + sum(taken)
        head = slice(len(taken))
        # One step, as in `Histogram.fold`: nothing is called and no object is made from here on.
        if self._pages is not before:
            return False
        del self.buffer[head]
        self._pages = pages
        self._sum = total
        return True

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        self.buffer.clear()
        self._pages = {}
        self._sum = 0.0
        self._exemplars.clear()

    @property
    def value(self) -> ExponentialReading:
        """All values that were added before."""
        # If the second fold also loses the race, the winner started after our first attempt.
        _ = self.fold() or self.fold()
        pages, total = self._pages, self._sum
        return self.reading(self._scale.counts(pages), total)

    def reading(self, counts: Mapping[int, int], total: float) -> ExponentialReading:
        """Return counts of buckets, by their keys, with the exemplars of this process."""
        index = self._scale.index_of
        exemplars = self._exemplars.copy().values()
        return ExponentialReading(
            self.schema,
            SMALLEST,
            counts.get(0, 0),
            {index(key): count for key, count in counts.items() if key > 0},
            {index(key): count for key, count in counts.items() if key < 0},
            total,
            {index(self._scale.key(one.value)): one for one in exemplars},
        )


class Quantiles(Series):
    """A summary: count and sum of all values since the start, and quantiles of the latest ones.

    The window is a ring of slots that begin at the same time in all processes. Values of the last
    five sixths of `max_age` are in it, and none that is older than `max_age`. A clock that jumps
    changes what is in the window, and never count and sum.
    """

    __slots__ = ("_clock", "_count", "_slots", "_sum", "_width", "buffer", "quantiles")

    quantiles: Sequence[float]
    buffer: list[tuple[float, float]]

    def __init__(
        self,
        key: Key,
        quantiles: Sequence[float],
        max_age: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start empty.

        Args:
            key: the label values.
            quantiles: to show, from 0 to 1.
            max_age: seconds that a value stays in the window at most.
            clock: returns seconds since the epoch.
        """
        self.key = key
        self.quantiles = quantiles
        self._width = max_age / SLOTS
        self._clock = clock
        self.buffer = []
        self._slots: Mapping[float, Pages] = {}
        self._count = 0
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Add one finite value."""
        self.buffer.append((self._clock() // self._width, value))
        if len(self.buffer) > _MAX_BUFFERED:
            self.fold()

    def fold(self) -> bool:
        """Move the values in the buffer into the slots that they belong to.

        Returns:
            False if another fold finished in between: that one has moved what it found.
        """
        before = self._slots
        taken = self.buffer.copy()
        if not taken:
            return True
        now = self._clock() // self._width
        slots = {slot: pages for slot, pages in before.items() if _is_kept(slot, now)}
        added: dict[float, list[float]] = {}
        for slot, value in taken:
            added.setdefault(slot, []).append(value)
        for slot, values in added.items():
            if _is_kept(slot, now):
                slots[slot] = scale_of(SUMMARY_DIVISIONS).added(slots.get(slot, {}), values)
        count = self._count + len(taken)
        total = self._sum + sum(value for _, value in taken)
        head = slice(len(taken))
        # One step, as in `Histogram.fold`: nothing is called and no object is made from here on.
        if self._slots is not before:
            return False
        del self.buffer[head]
        self._slots = slots
        self._count = count
        self._sum = total
        return True

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        self.buffer.clear()
        self._slots = {}
        self._count = 0
        self._sum = 0.0

    @property
    def value(self) -> SummaryReading:
        """All values that were added before, and the quantiles of this moment."""
        # If the second fold also loses the race, the winner started after our first attempt.
        _ = self.fold() or self.fold()
        slots, count, total = self._slots, self._count, self._sum
        now = self._clock() // self._width
        shown = [pages for slot, pages in slots.items() if is_in_window(slot, now)]
        window = scale_of(SUMMARY_DIVISIONS).counts(*shown)
        return SummaryReading.of(count, total, self.quantiles, window)


def is_in_window(slot: float, now: float) -> bool:
    """Return whether a slot has not expired, and is not of a time to come.

    Args:
        slot: number of the slot.
        now: number of the present one.
    """
    return now - SLOTS < slot <= now


def _is_kept(slot: float, now: float) -> bool:
    """Return whether a slot is, or may be, in the window: a clock that was set back catches up."""
    return now - SLOTS < slot <= now + 1
