"""Exponential series: native histograms, and summaries with quantiles over a sliding window.

Buckets are held in pages, which are made when a value is first in one of their buckets. Any thread
may add and read, also a signal handler or a finalizer that runs in the middle of a call. There is
no lock: no thread waits, and a forked child finds none taken. A value is counted in its bucket
before it is in the sum; a reader in between finds it in one of them.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from hypertrace.number_cells import HistogramCell, finite
from hypertrace.page_cells import PageCell

from .exponential import SMALLEST, SUMMARY_DIVISIONS, scale_of, scale_of_schema
from .reading import Exemplar, ExponentialReading, SummaryReading
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .exponential import Scale
    from .series import Key

    Pages = Mapping[int, Sequence[int]]
    """All cells of each page, by its number."""

DEFAULT_SCHEMA = 3
"""Of native histograms: eight buckets for each power of two, each 9 % wider than the one before."""

SLOTS = 6
"""A window consists of so many slots of equal length; the oldest one expires as a whole."""

TOTAL_BOUNDS = ()
"""Of `Paged.cell`, which has one bucket."""


class Paged(Series):
    """Values in pages of buckets.

    The bucket with the key `k` is at place `k % page_size` of page `k // page_size`.

    Attributes:
        cell: counts all values, and adds them up.
        scale: knows the buckets.
        slots: how many slots each page has; 0 for none.
        pages: the pages that this process counts in, by their numbers.
    """

    __slots__ = ("cell", "pages", "scale", "slots")

    cell: HistogramCell
    pages: dict[int, PageCell]
    scale: Scale
    slots: int

    def __init__(self, key: Key, scale: Scale, slots: int = 0) -> None:
        """Start empty.

        Args:
            key: the label values.
            scale: knows the buckets.
            slots: how many slots each page has; 0 for none.
        """
        self.key = key
        self.scale = scale
        self.slots = slots
        self.cell = HistogramCell(TOTAL_BOUNDS)
        self.pages = {}

    def add(self, value: float) -> None:
        """Add a value, which is finite.

        Raises:
            ValueError: it is not, and `cell.convert` is None.
        """
        number = finite(value)
        if number is None:
            convert = self.cell.convert
            if convert is None:
                raise ValueError(f"{value!r} is no finite number")
            number = finite(convert(value))
            if number is None:
                return
        page, place = divmod(self.scale.key(number), self.scale.page_size)
        found = self.pages.get(page)
        self._count(found or self._page(page), place)
        self.cell.add(number)

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        self.cell.reset()
        for page in self.pages.values():
            page.reset()

    def cells(self) -> Pages:
        """Return what this process counted in all pages."""
        # A copy: a page may be made meanwhile.
        pages = self.pages.copy().items()
        return {number: memoryview(page.data).cast("Q") for number, page in pages}

    def _page(self, number: int) -> PageCell:
        """Return a page, which is made if there is none."""
        # Of several threads that get here, all take the same.
        return self.pages.setdefault(number, PageCell(self.scale.page_size, self.slots))

    def _count(self, page: PageCell, place: int) -> None:
        raise NotImplementedError

    def _counts(self, parts: Mapping[int, Sequence[Sequence[int]]]) -> dict[int, int]:
        """Return how many values each bucket has, by its key, without empty ones.

        Args:
            parts: counts of the buckets of each page, as often as wanted.
        """
        size = self.scale.page_size
        found: Counter[int] = Counter()
        for number, some in parts.items():
            first = number * size
            for counts in some:
                found.update({first + at: count for at, count in enumerate(counts) if count})
        return dict(found)


class Exponential(Paged):
    """A native histogram: exponential buckets of all values since the start.

    Values over three decades take about 4 KiB in memory, in pages of 256 bytes; whatever the values
    are, there are at most 66 pages of them.
    """

    __slots__ = ("_exemplars", "schema")

    schema: int

    def __init__(self, key: Key, schema: int = DEFAULT_SCHEMA) -> None:
        """Start empty.

        Args:
            key: the label values.
            schema: each power of two has `2 ** schema` buckets; from 0 to 8.
        """
        super().__init__(key, scale_of_schema(schema))
        self.schema = schema
        self._exemplars: dict[int, Exemplar] = {}

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
        counts = self._counts({number: [cells] for number, cells in pages.items()})
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

    def _count(self, page: PageCell, place: int) -> None:
        page.add(place)


class Quantiles(Paged):
    """A summary: count and sum of all values since the start, and quantiles of the latest ones.

    The window is a ring of slots that begin at the same time in all processes. Values of the last
    five sixths of `max_age` are in it, and none that is older than `max_age`. A clock that jumps
    changes what is in the window, and never count and sum.

    Values over three decades take about 20 KiB in memory, in pages of 1 728 bytes for each power of
    two; whatever the values are, there are at most 257 pages of them.
    """

    __slots__ = ("_clock", "_present", "_width", "quantiles")

    quantiles: Sequence[float]

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
        super().__init__(key, scale_of(SUMMARY_DIVISIONS), SLOTS)
        self.quantiles = quantiles
        self._width = max_age / SLOTS
        self._clock = clock
        self._present = Slot(0.0, 0.0, 0, 0)

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
        now = self._slot().number
        shown = {self._stamp(number) for number in range(now - SLOTS + 1, now + 1)} - {0}
        length = self.scale.page_size + 1
        starts = range(0, SLOTS * length, length)
        window = {
            number: [cells[at + 1 : at + length] for at in starts if cells[at] in shown]
            for number, cells in pages.items()
        }
        return SummaryReading.of(count, total, self.quantiles, self._counts(window))

    def _count(self, page: PageCell, place: int) -> None:
        slot = self._slot()
        if slot.stamp:
            page.add_in_slot(place, slot.number % SLOTS, slot.stamp)

    def _slot(self) -> Slot:
        """Return the present slot."""
        slot, now = self._present, self._clock()
        if slot.begin <= now < slot.end:
            return slot
        width = self._width
        try:
            number = int(now // width)
        except (OverflowError, ValueError):  # the clock is patched, and returns no finite number
            return Slot(0.0, 0.0, 0, 0)
        stamp = self._stamp(number)
        self._present = slot = Slot(number * width, (number + 1) * width, number, stamp)
        return slot

    def _stamp(self, number: int) -> int:
        """Return when a slot begins, in microseconds since the epoch; 0 if it has no stamp."""
        stamp = int(number * self._width * 1e6)
        return stamp if 0 < stamp < _NO_STAMP else 0


class Slot(NamedTuple):
    """A slot of a window."""

    begin: float
    end: float
    number: int
    """Of the slots since the epoch."""
    stamp: int
    """When it begins, in microseconds since the epoch; 0 if nothing is counted in it."""


_NO_STAMP = 1 << 63
