"""Number cells: sums, gauges and histograms that many threads write without a lock.

Each is some cells of 8 bytes, in memory or in a segment. The compiled core has the same
classes. Here, what is on one line is one step: other threads, signal handlers and finalizers run at
calls and at the ends of loops only. Methods that count check their argument themselves, since a
call costs as much as the rest.
"""

from __future__ import annotations

import math
import sys
from _thread import allocate_lock
from bisect import bisect_left
from time import monotonic

from ._compiled import gil_enabled, speedups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeAlias

    from .sample_cells import SampleCell

    Convert: TypeAlias = "Callable[[object], float | None] | None"
    """Returns the float that a value stands for, if it is no `float` or `int`; None for none."""

    class Numbers(Protocol):
        """Cells, as integers and as floats; both attributes may change at a fork."""

        counts: memoryview[int]
        numbers: memoryview[float]


_LARGEST = sys.float_info.max


class OwnMemory:
    """Cells that no other process sees.

    Attributes:
        counts: all cells as unsigned integers.
        numbers: all cells as floats.
    """

    __slots__ = ("counts", "numbers")

    counts: memoryview[int]
    numbers: memoryview[float]

    def __init__(self, size: int) -> None:
        """Make so many cells that are zero."""
        cells = memoryview(bytearray(8 * size))
        self.counts, self.numbers = cells.cast("Q"), cells.cast("d")

    def reset(self) -> None:
        """Set all cells to zero."""
        for index in range(len(self.counts)):
            self.counts[index] = 0


class _Cells:
    """What the classes have in common.

    Attributes:
        convert: returns the number of a value that is no `float` or `int`, or is not accepted; None
            if it is none: then nothing is written. Without it such a value is a `ValueError`.
    """

    __slots__ = ("_index", "_memory", "convert")

    def __init__(self, memory: Numbers, index: int) -> None:
        self._memory: Numbers = memory
        self._index = index
        self.convert: Convert = None

    def reset(self) -> None:
        """Start again, if these cells are in memory, in a forked child that has one thread."""
        if isinstance(self._memory, OwnMemory):
            self._memory.reset()


def accepted(value: object, convert: Convert, least: float = -math.inf) -> float | None:
    """Return the number that a value is; None if it is none.

    Args:
        value: what was measured.
        convert: as in the cells.
        least: the number must not be below.

    Raises:
        ValueError: it is none, and there is no `convert`.
    """
    number = _finite(value)
    if number is not None and number >= least:
        return number
    if convert is None:
        rule = "" if least < 0 else " from 0 up"
        raise ValueError(f"{value!r} is no finite number{rule}")
    number = _finite(convert(value))
    return None if number is None or number < least else number


def _finite(value: object) -> float | None:
    """Return an exact `float` or `int` as a float, if it is finite; else None."""
    if type(value) is float or type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            return None
        if math.isfinite(number):
            return number
    return None


class OneStepNumber(_Cells):
    """A sum of floats that only rises: `[sum, updates]`. Any thread may use it."""

    __slots__ = ()

    SIZE = 2
    """How many cells it has."""

    def __init__(self, memory: Numbers | None = None, index: int = 0) -> None:
        """Start at 0.

        Args:
            memory: has the cells; None makes some that no other process sees.
            index: of the first cell.
        """
        super().__init__(memory or OwnMemory(self.SIZE), index)

    def add(self, amount: float = 1.0) -> None:
        """Add an amount, which is finite and not below 0.

        Raises:
            ValueError: it is another value, and there is no `convert`.
        """
        if type(amount) is not float or not 0 <= amount <= _LARGEST:
            number = accepted(amount, self.convert, 0)
            if number is None:
                return
            amount = number
        memory, n = self._memory, self._index
        c, d = memory.counts, memory.numbers
        d[n] += amount; c[n + 1] += 1  # noqa: E702  # fmt: skip

    @property
    def value(self) -> float:
        """The sum, in this process."""
        return self._memory.numbers[self._index]

    @property
    def updates(self) -> int:
        """How many amounts were added, in this process."""
        return self._memory.counts[self._index + 1]


class OneStepGauge(_Cells):
    """A value that is set or added to. Any thread may use it.

    Its cells are `[updates, value0, time0, value1, time1, begun]`. The pair of the number of
    updates is valid; the other one is written next. Before that `begun` rises, after it `updates`:
    a reader that reads forwards, and finds that no more than one update began, has a value and its
    time. So it is also in the file of a process that was stopped in between.
    """

    __slots__ = ()

    SIZE = 6
    """How many cells it has."""

    def __init__(self, memory: Numbers | None = None, index: int = 0) -> None:
        """Start without a value; the arguments are those of the other classes."""
        super().__init__(memory or OwnMemory(self.SIZE), index)

    def set(self, value: float) -> None:
        """Set the value, which is finite.

        Raises:
            ValueError: it is another value, and there is no `convert`.
        """
        if type(value) is not float or not -_LARGEST <= value <= _LARGEST:
            number = accepted(value, self.convert)
            if number is None:
                return
            value = number
        now = monotonic()
        memory, n = self._memory, self._index
        c, d = memory.counts, memory.numbers
        c[n + 5] = c[n] + 1; d[n + 1 + 2 * (c[n] + 1 & 1)] = value; d[n + 2 + 2 * (c[n] + 1 & 1)] = now; c[n] += 1  # noqa: E501, E702  # fmt: skip

    def add(self, amount: float = 1.0) -> None:
        """Add an amount, which is finite, to the value; to 0 if there is none.

        Raises:
            ValueError: it is another value, and there is no `convert`.
        """
        if type(amount) is not float or not -_LARGEST <= amount <= _LARGEST:
            number = accepted(amount, self.convert)
            if number is None:
                return
            amount = number
        now = monotonic()
        memory, n = self._memory, self._index
        c, d = memory.counts, memory.numbers
        c[n + 5] = c[n] + 1; d[n + 1 + 2 * (c[n] + 1 & 1)] = (d[n + 1 + 2 * (c[n] & 1)] if c[n] else 0.0) + amount; d[n + 2 + 2 * (c[n] + 1 & 1)] = now; c[n] += 1  # noqa: E501, E702  # fmt: skip

    def clear(self) -> None:
        """Be without a value again, until it is set or added to."""
        memory, n = self._memory, self._index
        c = memory.counts
        c[n] = 0; c[n + 5] = 0  # noqa: E702  # fmt: skip

    def read(self) -> tuple[int, float, float]:
        """Return how often it was set or added to in this process, its value, and when that was.

        The time is of the clock `time.monotonic`, which all processes of a machine share.
        """
        memory, n = self._memory, self._index
        c, d = memory.counts, memory.numbers
        updates = c[n]; value = d[n + 1 + 2 * (updates & 1)]; time = d[n + 2 + 2 * (updates & 1)]  # noqa: E702  # fmt: skip
        return updates, value, time

    @property
    def value(self) -> float | None:
        """The value, in this process; None if there is none."""
        updates, value, _ = self.read()
        return value if updates else None


class OneStepHistogram(_Cells):
    """Values in buckets: `[n, sum0, sum1, buckets...]`. Any thread may use it.

    The sum that belongs to `n` values is `sums[n & 1]`. The other one is written first, then the
    bucket, then `n`. So a reader that takes the sum of the buckets for `n` finds the right sum,
    whenever it reads.

    Attributes:
        bounds: upper bounds of the buckets, without infinity.
        samples: gets each value, too; None if single values are not wanted.
    """

    __slots__ = ("bounds", "samples")

    SIZE = 3
    """How many cells it has besides the buckets."""

    def __init__(
        self, bounds: tuple[float, ...], memory: Numbers | None = None, index: int = 0
    ) -> None:
        """Start empty.

        Args:
            bounds: upper bounds of the buckets, ascending, without infinity.
            memory: has the cells; None makes some that no other process sees.
            index: of the first cell.
        """
        super().__init__(memory or OwnMemory(self.SIZE + len(bounds) + 1), index)
        self.bounds: tuple[float, ...] = bounds
        self.samples: SampleCell | None = None

    def add(self, value: float) -> None:
        """Add a value, which is finite.

        Raises:
            ValueError: it is another value, and there is no `convert`.
        """
        if type(value) is not float or not -_LARGEST <= value <= _LARGEST:
            number = accepted(value, self.convert)
            if number is None:
                return
            value = number
        memory, n = self._memory, self._index
        bucket = n + 3 + bisect_left(self.bounds, value)
        c, d = memory.counts, memory.numbers
        d[n + 1 + (c[n] + 1 & 1)] = d[n + 1 + (c[n] & 1)] + value; c[bucket] += 1; c[n] += 1  # noqa: E702  # fmt: skip
        samples = self.samples
        if samples is not None:
            samples.add(value)

    @property
    def value(self) -> tuple[tuple[int, ...], float]:
        """The counts of the buckets, and the sum, of this process."""
        # A copy of all cells in one call: the numbers agree.
        cells = slice(self._index, self._index + self.SIZE + len(self.bounds) + 1)
        copied = memoryview(bytes(self._memory.counts[cells]))
        counts, numbers = copied.cast("Q"), copied.cast("d")
        return tuple(counts[self.SIZE :]), numbers[1 + (counts[0] & 1)]


_lock = allocate_lock()
"""For builds without a GIL, in which no line is one step."""


class LockedNumber(OneStepNumber):
    """The same for builds without a GIL."""

    __slots__ = ()

    def add(self, amount: float = 1.0) -> None:
        """Add an amount."""
        # Converted before, so that the lock is not held while other code runs.
        number = accepted(amount, self.convert, 0)
        if number is not None:
            with _lock:
                super().add(number)


class LockedGauge(OneStepGauge):
    """The same for builds without a GIL."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Set the value."""
        number = accepted(value, self.convert)
        if number is not None:
            with _lock:
                super().set(number)

    def add(self, amount: float = 1.0) -> None:
        """Add an amount."""
        number = accepted(amount, self.convert)
        if number is not None:
            with _lock:
                super().add(number)

    def clear(self) -> None:
        """Be without a value again."""
        with _lock:
            super().clear()

    def read(self) -> tuple[int, float, float]:
        """Return updates, value and time."""
        with _lock:
            return super().read()


class LockedHistogram(OneStepHistogram):
    """The same for builds without a GIL."""

    __slots__ = ()

    def add(self, value: float) -> None:
        """Add a value."""
        number = accepted(value, self.convert)
        if number is not None:
            with _lock:
                super().add(number)

    @property
    def value(self) -> tuple[tuple[int, ...], float]:
        """The counts of the buckets, and the sum."""
        with _lock:
            return super().value


if TYPE_CHECKING:
    NumberCell = OneStepNumber
    GaugeCell = OneStepGauge
    HistogramCell = OneStepHistogram
elif speedups:
    NumberCell = speedups.NumberCell
    GaugeCell = speedups.GaugeCell
    HistogramCell = speedups.HistogramCell
elif gil_enabled():
    NumberCell, GaugeCell, HistogramCell = OneStepNumber, OneStepGauge, OneStepHistogram
else:
    NumberCell, GaugeCell, HistogramCell = LockedNumber, LockedGauge, LockedHistogram
