"""Shared measurements: sums, gauges and histograms whose numbers are cells that others read.

A reader knows the series of all workers; those which this process writes are opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hypertrace.metrics.measurements import Gauge, Number, ValueHistogram
from hypertrace.metrics.samples import new_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics.series import Key, Series, SeriesKind
    from hypertrace.number_cells import GaugeCell, HistogramCell, NumberCell

    from .aggregations import Places


class Room(Protocol):
    """What places the series of one metric: a `SharedTable`."""

    kind: SeriesKind[Any]
    places: Places


def _open(series: Series, room: Room, made: Any) -> None:
    """Give a series its cell: one in the segment, or the one of a series in memory.

    Args:
        series: has no cell yet.
        room: of its table.
        made: its cell in the segment; None if there is no room.
    """
    cell = room.kind.make(series.key).cell if made is None else made
    cell.convert = room.kind.convert
    # One step: of several threads that get here, all take the same.
    if series.cell is None: series.cell = cell  # type: ignore[attr-defined]  # noqa: E701  # fmt: skip
    if made is None and series.cell is cell:  # type: ignore[attr-defined]
        room.places.in_memory.add(series)


class SharedNumber(Number):
    """A sum in cells.

    Attributes:
        at: index of the first cell.
    """

    __slots__ = ("at",)

    at: int
    cell: NumberCell

    def __init__(self, key: Key, at: int) -> None:
        """Know the cells, and make no object for them."""
        self.key = key
        self.at = at
        self.cell = None  # type: ignore[assignment]  # until it is opened

    def open(self, room: Room) -> None:
        """Make what this process adds to."""
        if self.cell is None:
            _open(self, room, room.places.number(self.at))


class SharedGauge(Gauge):
    """A gauge in cells.

    Attributes:
        at: index of the first cell.
    """

    __slots__ = ("at",)

    at: int
    cell: GaugeCell

    def __init__(self, key: Key, at: int) -> None:
        """Know the cells, and make no object for them."""
        self.key = key
        self.at = at
        self.cell = None  # type: ignore[assignment]  # until it is opened
        self._workers = {}

    def open(self, room: Room) -> None:
        """Make what this process sets."""
        if self.cell is None:
            _open(self, room, room.places.gauge(self.at))


class SharedValueHistogram(ValueHistogram):
    """Values in buckets that are cells.

    Attributes:
        at: index of the first cell.
    """

    __slots__ = ("at",)

    at: int
    cell: HistogramCell

    def __init__(self, key: Key, at: int, bounds: Sequence[float]) -> None:
        """Know the cells, and make no object for them."""
        self.key = key
        self.at = at
        self.bounds: tuple[float, ...] = tuple(bounds)
        self.cell = None  # type: ignore[assignment]  # until it is opened

    def open(self, room: Room) -> None:
        """Make what this process adds to."""
        if self.cell is None:
            _open(self, room, room.places.values(self.at, self.bounds))
            self.sample(new_samples())
