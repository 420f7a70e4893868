"""Shared exponential series: native histograms and summaries whose numbers others read.

Each page of buckets is a part of its series, and gets cells when a worker first counts in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hypertrace.bucket_cells import PageCell
from hypertrace.metrics.exponential import SUMMARY_DIVISIONS, scale_of, scale_of_schema
from hypertrace.metrics.exponential_series import (
    SLOTS,
    TOTAL_BOUNDS,
    Exponential,
    Paged,
    Quantiles,
)
from hypertrace.metrics.samples import new_samples
from hypertrace.number_cells import HistogramCell

from .aggregations import NOWHERE
from .layouts import page_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.bucket_cells import Buckets
    from hypertrace.metrics.exponential import Scale
    from hypertrace.metrics.series import Key, SeriesKind

    from .aggregations import Places


class Room(Protocol):
    """What places the series of one metric: a `SharedTable`."""

    kind: SeriesKind[Any]
    places: Places

    def place_part(self, key: Key, part: str) -> None:
        """Give a part of a series cells, unless it has some or there is no room."""


class SharedPaged(Paged):
    """Values in pages whose buckets are cells.

    Attributes:
        at: index of the first cell of the total.
        page_at: index of the first cell of each page, by its number.
        room: places the pages.
        slots: how many slots each page has; 0 for none.
        spare: pages in memory, for which there was no room, by their numbers.
    """

    __slots__ = ()

    at: int
    buckets: Buckets
    cell: HistogramCell
    key: Key
    page_at: dict[int, int]
    room: Room
    slots: int
    spare: dict[int, PageCell]

    def place(self, key: Key, at: int, room: Room, slots: int = 0) -> None:
        """Know the cells, and make no object for them."""
        self.key = key
        # Slots of the subclasses: two classes with slots cannot both be bases.
        self.at, self.room, self.slots = at, room, slots  # type: ignore[misc]
        self.page_at, self.spare = {}, {}  # type: ignore[misc]
        self.cell = None  # type: ignore[assignment]  # until it is opened

    def open(self, room: Room) -> None:
        """Make what this process counts with."""
        if self.cell is None:
            made = room.places.values(self.at, TOTAL_BOUNDS)
            if made is None:
                room.places.in_memory.add(self)
            total = HistogramCell(TOTAL_BOUNDS) if made is None else made
            total.convert = room.kind.convert
            buckets = self.make_buckets(total, None if made is None else self._page)
            # One step: of several threads that get here, all take the same.
            if self.cell is None: self.buckets = buckets; self.cell = total  # noqa: E701, E702  # fmt: skip

    def part_at(self, part: str) -> int:
        """Return where a page has its cells; below 0 if it has none."""
        return self.page_at.get(int(part), NOWHERE)

    def part_layout(self, part: str, settings: Sequence[Any]) -> bytes:  # noqa: ARG002
        """Return the codes of the cells of a page."""
        return page_layout(self.scale.page_size, self.slots)

    def adopt_part(self, part: str, settings: Sequence[Any], at: int) -> None:  # noqa: ARG002
        """Hold a page that the journal has. Twice has no effect."""
        self.page_at.setdefault(int(part), at)

    def _page(self, number: int) -> PageCell:
        """Return a page, in the segment if there is room."""
        if number not in self.page_at:
            self.room.place_part(self.key, str(number))
        places, size = self.room.places, self.scale.page_size
        page: PageCell | None = places.page(self.page_at.get(number, NOWHERE), size, self.slots)
        if page is None:
            # Of several threads that get here, all take the same.
            page = self.spare.setdefault(number, PageCell(size, self.slots))
            places.in_memory.add(page)
        return page


_ADDED = ("at", "page_at", "room", "slots", "spare")


class SharedExponential(SharedPaged, Exponential):
    """A native histogram in cells; see `SharedPaged`."""

    __slots__ = _ADDED

    scale: Scale
    schema: int

    def __init__(self, key: Key, at: int, room: Room) -> None:
        """Know the cells, and make no object for them."""
        (self.schema,) = room.kind.settings
        self.scale = scale_of_schema(self.schema)
        self._exemplars = {}
        self.place(key, at, room)

    def open(self, room: Room) -> None:
        """Make what this process counts with."""
        if self.cell is None:
            super().open(room)
            self.sample(new_samples())


class SharedQuantiles(SharedPaged, Quantiles):
    """A summary in cells; see `SharedPaged`."""

    __slots__ = _ADDED

    quantiles: Sequence[float]
    scale: Scale

    def __init__(self, key: Key, at: int, room: Room) -> None:
        """Know the cells, and make no object for them."""
        self._max_age, *self.quantiles = room.kind.settings
        self._clock = None
        self.scale = scale_of(SUMMARY_DIVISIONS)
        self.place(key, at, room, SLOTS)
