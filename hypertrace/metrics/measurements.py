"""Measurements: what holds the numbers of a series of a declared metric.

Counts are in `hypertrace.metrics.aggregations`. Here are sums, gauges, and values in buckets. Each
has a cell, which any thread may write without waiting.
"""

from __future__ import annotations

from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from hypertrace.number_cells import GaugeCell, HistogramCell, NumberCell

from .reading import HistogramReading
from .samples import SampledCell, new_samples
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .series import Key

Workers: TypeAlias = Literal["sum", "max", "min", "mean", "latest", "each"]
"""How the gauges of several workers become one value, or that each has one."""


class NumberReading(NamedTuple):
    """A sum at one moment."""

    value: float
    updates: int
    """How many amounts are in it."""


class Number(Series):
    """A sum of amounts that only rises. Any thread may use it.

    Attributes:
        cell: what is added to.
    """

    __slots__ = ("cell",)

    def __init__(self, key: Key) -> None:
        """Start at 0."""
        self.key = key
        self.cell: NumberCell = NumberCell()

    @property
    def add(self) -> Callable[..., object]:
        """A callable that adds an amount, or one; it can be kept, and runs in C.

        It raises a `ValueError` if the amount is not finite or below 0, and `cell.convert` is None.
        """
        return self.cell.add

    @property
    def value(self) -> float:
        """The sum of all amounts."""
        return self.cell.value

    def read(self) -> NumberReading:
        """Return the sum of this moment."""
        return NumberReading(self.cell.value, self.cell.updates)

    def reset(self) -> None:
        """Start at 0 again, in a forked child that has one thread."""
        self.cell.reset()


class GaugeReading(NamedTuple):
    """The gauge of one worker at one moment."""

    worker: int | None
    """Number of the worker; 0 in memory, None for a worker that has none yet."""
    value: float
    time: float
    """When it was set or added to last, by the clock `time.monotonic` of the machine."""


class GaugesReading(NamedTuple):
    """The gauges of one series at one moment."""

    updates: int
    """How often they were set or added to, those of workers that are gone included."""
    living: Sequence[GaugeReading]
    """Those that have a value, of workers that are not gone."""


class Gauge(Series):
    """A value that is set or added to, and that there is none of before. Any thread may use it.

    Attributes:
        cell: what is set or added to.
    """

    __slots__ = ("_workers", "cell")

    def __init__(self, key: Key) -> None:
        """Start without a value."""
        self.key = key
        self.cell: GaugeCell = GaugeCell()
        self._workers: dict[int, Series] = {}

    @property
    def set(self) -> Callable[[float], object]:
        """A callable that sets the value; it can be kept, and runs in C.

        It raises a `ValueError` if the value is not finite, and `cell.convert` is None.
        """
        return self.cell.set

    @property
    def add(self) -> Callable[..., object]:
        """A callable that adds an amount, or one, to the value, or to 0; as `set`."""
        return self.cell.add

    @property
    def value(self) -> float | None:
        """The value; None if there is none."""
        return self.cell.value

    def read(self) -> GaugesReading:
        """Return the gauge of this process, if it has a value."""
        updates, value, time = self.cell.read()
        return GaugesReading(updates, [GaugeReading(0, value, time)] if updates else [])

    def of_worker(self, number: int) -> Series:
        """Return the series of one worker, the same one each time. Numbers of workers are few."""
        common, others = self.key
        made = self._workers.get(number)
        return made or self._workers.setdefault(number, Series((common, (*others, str(number)))))

    def reset(self) -> None:
        """Start without a value again, in a forked child that has one thread."""
        self.cell.reset()


class ValueHistogram(SampledCell):
    """Finite values in buckets. Any thread may use it.

    Attributes:
        bounds: upper bounds of the buckets, ascending, without infinity; of either sign.
        cell: what is added to.
    """

    __slots__ = ("bounds", "cell")

    def __init__(self, key: Key, bounds: Sequence[float]) -> None:
        """Start empty."""
        self.key = key
        self.bounds: tuple[float, ...] = tuple(bounds)
        self.cell: HistogramCell = HistogramCell(self.bounds)
        self.sample(new_samples())

    @property
    def add(self) -> Callable[[float], object]:
        """A callable that adds a value; it can be kept, and runs in C.

        It raises a `ValueError` if the value is not finite, and `cell.convert` is None.
        """
        return self.cell.add

    @property
    def value(self) -> HistogramReading:
        """All values, in buckets that are consistent."""
        return HistogramReading(self.bounds, *self.cell.value, {})

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        self.cell.reset()


def _of(merge: Callable[[list[float]], float]) -> Callable[[Sequence[GaugeReading]], float]:
    return lambda readings: merge([reading.value for reading in readings])


def _latest(readings: Sequence[GaugeReading]) -> float:
    return max(readings, key=attrgetter("time")).value


MERGED: Final[dict[str, Callable[[Sequence[GaugeReading]], float]]] = {
    "sum": _of(sum),
    "max": _of(max),
    "min": _of(min),
    "mean": _of(fmean),
    "latest": _latest,
}
"""How the gauges of several workers, one at least, become one value, by mode. `each` is none."""
