"""Exponential series: native histograms, and summaries with quantiles over a sliding window.

Buckets are held in pages, which are made when a value is first in one of their buckets. Any thread
may add and read, also a signal handler or a finalizer that runs in the middle of a call. There is
no lock: no thread waits, and a forked child finds none taken. A value is counted in its bucket
before it is in the sum; a reader in between finds it in one of them.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from hypertrace.bucket_cells import Buckets, Shape, stamps_at
from hypertrace.number_cells import HistogramCell

from .exponential import OCTAVES, SMALLEST, SUMMARY_DIVISIONS, scale_of, scale_of_schema
from .reading import Exemplar, ExponentialReading, SummaryReading
from .samples import SampledCell, new_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypertrace.bucket_cells import PageCell

    from .exponential import Scale
    from .series import Key

    Pages = Sequence[tuple[int, memoryview[int]]]
    """Numbers of pages and all cells of each; a page may be there in several parts."""

DEFAULT_SCHEMA = 3
"""Of native histograms: eight buckets for each power of two, each 9 % wider than the one before."""

SLOTS = 6
"""A window consists of so many slots of equal length; the oldest one expires as a whole."""

TOTAL_BOUNDS = ()
"""Of `Paged.cell`, which has one bucket."""


class Paged(SampledCell):
    """Values in pages of buckets; see `hypertrace.bucket_cells`.

    Attributes:
        cell: counts all values, and adds them up.
        buckets: counts the values in pages.
        scale: knows the buckets.
    """

    __slots__ = ("buckets", "cell", "scale")

    cell: HistogramCell
    buckets: Buckets
    scale: Scale

    def __init__(self, key: Key, scale: Scale) -> None:
        """Start empty.

        Args:
            key: the label values.
            scale: knows the buckets.
        """
        self.key = key
        self.scale = scale
        self.cell = HistogramCell(TOTAL_BOUNDS)
        self.buckets = self.make_buckets(self.cell)

    def make_buckets(
        self, total: HistogramCell, make: Callable[[int], PageCell] | None = None
    ) -> Buckets:
        """Return what counts values in pages.

        Args:
            total: counts all values, and adds them up.
            make: returns the page with a number; None for one in memory.
        """
        raise NotImplementedError

    @property
    def add(self) -> Callable[[float], object]:
        """A callable that adds a value; it can be kept, and runs in C.

        It raises a `ValueError` if the value is not finite, and `cell.convert` is None.
        """
        return self.buckets.add

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        self.cell.reset()
        self.buckets.reset()

    def cells(self) -> Pages:
        """Return what this process counted in all pages."""
        pages = self.buckets.pages.items()
        return [(number, memoryview(page.data).cast("Q")) for number, page in pages]

    def _counts(self, pages: Pages) -> dict[int, int]:
        """Return how many values each bucket has, by its key, without empty ones.

        Args:
            pages: the counts of the buckets of each.
        """
        size, order = self.scale.page_size, sys.byteorder
        # As one large number, which is some ten times quicker. No count can overflow.
        sums: dict[int, int] = {}
        for number, counts in pages:
            sums[number] = sums.get(number, 0) + int.from_bytes(counts, order)
        found = {}
        for number in sorted(sums):
            first = number * size
            counts = memoryview(sums[number].to_bytes(8 * size, order)).cast("Q")
            found.update({first + at: count for at, count in enumerate(counts) if count})
        return found


class Exponential(Paged):
    """A native histogram: exponential buckets of all values since the start.

    Values over three decades take 2.2 KiB in memory, and 7 KiB in pure Python; whatever the values
    are, 21 and 100 KiB at most. In files there are 256 bytes in each worker for each four powers of
    two that values are in.
    """

    __slots__ = ("_exemplars", "schema")

    schema: int

    def __init__(self, key: Key, schema: int = DEFAULT_SCHEMA) -> None:
        """Start empty.

        Args:
            key: the label values.
            schema: each power of two has `2 ** schema` buckets; from 0 to 8.
        """
        self.schema = schema
        super().__init__(key, scale_of_schema(schema))
        self._exemplars: dict[int, Exemplar] = {}
        self.sample(new_samples())

    def make_buckets(
        self, total: HistogramCell, make: Callable[[int], PageCell] | None = None
    ) -> Buckets:
        """Return what counts values in pages; see `Paged`."""
        return Buckets(total, Shape(self.scale.limits, OCTAVES, self.scale.page_size), make)

    def remember(self, value: float, labels: Mapping[str, str]) -> None:
        """Let a value above 0 that was added stand for those up to the same power of two."""
        key = self.scale.key(value)
        if key > 0:
            octave = (key - 1) // self.scale.divisions
            self._exemplars[octave] = Exemplar(labels, value, time.time())

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        super().reset()
        self._exemplars.clear()

    @property
    def value(self) -> ExponentialReading:
        """All values that were added in this process."""
        _, total = self.cell.value
        return self.reading(self.cells(), total)

    def reading(self, pages: Pages, total: float) -> ExponentialReading:
        """Return what some pages hold, with the exemplars of this process.

        Args:
            pages: all cells of each.
            total: the sum of all values.
        """
        counts = self._counts(pages)
        index = self.scale.index_of
        exemplars = self._exemplars.copy().values()
        return ExponentialReading(
            self.schema,
            SMALLEST,
            counts.get(0, 0),
            {index(key): count for key, count in counts.items() if key > 0},
            {index(key): count for key, count in counts.items() if key < 0},
            total,
            {index(self.scale.key(one.value)): one for one in exemplars},
        )


class Quantiles(Paged):
    """A summary: count and sum of all values since the start, and quantiles of the latest ones.

    The window is a ring of slots that begin at the same time in all processes. Values of the last
    five sixths of `max_age` are in it, and none that is older than `max_age`. A clock that jumps
    changes what is in the window, and never count and sum.

    Values over three decades take 20 KiB in memory, and 31 KiB in pure Python; whatever the values
    are, 450 and 770 KiB at most. In files there are 1.7 KiB in each worker for each power of two
    that values are in.
    """

    __slots__ = ("_clock", "_max_age", "quantiles")

    quantiles: Sequence[float]

    def __init__(
        self,
        key: Key,
        quantiles: Sequence[float],
        max_age: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Start empty.

        Args:
            key: the label values.
            quantiles: to show, from 0 to 1.
            max_age: seconds that a value stays in the window at most.
            clock: returns seconds since the epoch; None for the system's.
        """
        self.quantiles = quantiles
        self._max_age = max_age
        self._clock = clock
        super().__init__(key, scale_of(SUMMARY_DIVISIONS))

    def make_buckets(
        self, total: HistogramCell, make: Callable[[int], PageCell] | None = None
    ) -> Buckets:
        """Return what counts values in pages; see `Paged`."""
        size, width = self.scale.page_size, self._max_age / SLOTS
        shape = Shape(self.scale.limits, OCTAVES, size, SLOTS, width)
        return Buckets(total, shape, make, self._clock)

    @property
    def value(self) -> SummaryReading:
        """All values that were added in this process, and the quantiles of this moment."""
        (count,), total = self.cell.value
        return self.reading(self.cells(), count, total)

    def reading(self, pages: Pages, count: int, total: float) -> SummaryReading:
        """Return what some pages hold.

        Args:
            pages: all cells of each.
            count: of all values.
            total: their sum.
        """
        stamps = stamps_at((self._clock or time.time)(), SLOTS, self._max_age / SLOTS)
        length = self.scale.page_size + 1
        starts = range(0, SLOTS * length, length)
        window = [
            (number, cells[at + 1 : at + length])
            for number, cells in pages
            for at in starts
            if cells[at] in stamps
        ]
        return SummaryReading.of(count, total, self.quantiles, self._counts(window))
