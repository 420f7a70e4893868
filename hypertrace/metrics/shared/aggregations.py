"""Shared aggregations: those whose numbers are cells that other processes read.

A reader knows the series of all workers; those in which this process counts are opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hypertrace import Cell
from hypertrace.metrics.aggregations import Calls, Count, Histogram, Spans
from hypertrace.metrics.reading import HistogramReading
from hypertrace.metrics.samples import new_samples

from . import layouts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics.reading import ExponentialReading
    from hypertrace.metrics.series import Key
    from hypertrace.sample_cells import SampleCell

    from .journal import Record

NOWHERE = -1
"""Index of what has no cell, and is in memory."""

SPANS = "spans"
"""The part of a series of calls that has the cells `started`, `left` and `arrived`. The others are
called like the result whose durations they hold."""


class Places(Protocol):
    """What gives cells: a `SharedStorage`.

    Attributes:
        in_memory: what this process counts in memory, because there was no room.
    """

    in_memory: set[object]

    def place(self, record: Record) -> bool:
        """Append a record and apply all up to it; False if that is not possible."""

    def cell(self, at: int) -> Any:
        """Return the count at an index; None if there is no room."""

    def number(self, at: int) -> Any:
        """Return the sum at an index; None if there is no room."""

    def gauge(self, at: int) -> Any:
        """Return the gauge at an index; None if there is no room."""

    def histogram(self, at: int, bounds: tuple[float, ...]) -> Any:
        """Return what durations are appended to, at an index; None if there is no room."""

    def values(self, at: int, bounds: tuple[float, ...]) -> Any:
        """Return what values are added to, at an index; None if there is no room."""

    def page(self, at: int, size: int, slots: int) -> Any:
        """Return the page of buckets at an index; None if there is no room."""


class HasParts(Protocol):
    """A series that has parts, which get cells when they are needed."""

    def part_at(self, part: str) -> int:
        """Return where a part has its cells; below 0 if it has none."""

    def part_layout(self, part: str, settings: Sequence[Any]) -> bytes:
        """Return the codes of the cells of a part."""

    def adopt_part(self, part: str, settings: Sequence[Any], at: int) -> None:
        """Hold a part that the journal has. Twice has no effect."""


class Room(Protocol):
    """What places the series of one metric: a `SharedTable`."""

    places: Places

    def place_part(self, key: Key, part: str) -> None:
        """Give a part of a series cells, unless it has some or there is no room."""

    def place_spans(self, calls: SharedCalls) -> SharedSpans | None:
        """Return the spans of a series, which get cells if they have none."""

    def place_result(
        self, spans: SharedSpans, result: str, bounds: tuple[float, ...]
    ) -> SharedHistogram | None:
        """Return the histogram of a result, which gets cells if it has none."""


def _cell(counted: object, at: int, places: Places) -> Cell:
    """Return a count at an index, or one in memory if there is no room."""
    mapped: Cell | None = None if at < 0 else places.cell(at)
    if mapped is None:
        places.in_memory.add(counted)
        return Cell()
    return mapped


class SharedCount(Count):
    """A count in a cell.

    Attributes:
        at: index of the cell.
    """

    __slots__ = ("at",)

    at: int
    cell: Cell

    def __init__(self, key: Key, at: int) -> None:
        """Know the cell, and make no object for it."""
        self.key = key
        self.at = at
        self.cell = None  # type: ignore[assignment]  # until it is opened

    def open(self, room: Room) -> None:
        """Make what this process counts with."""
        if self.cell is None:
            self.cell = _cell(self, self.at, room.places)


class SharedCalls(Calls):
    """The calls of one series, in cells.

    Attributes:
        at: index of the cell of `trace()`.
    """

    __slots__ = ("_room", "at")

    at: int
    cell: Cell
    spans: Spans | None

    def __init__(self, key: Key, at: int, room: Room) -> None:
        """Know the cell, and make no object for it."""
        self.key = key
        self.at = at
        self.cell = None  # type: ignore[assignment]  # until it is opened
        self.spans = None
        self._room = room

    def open(self, room: Room) -> None:
        """Make what this process counts with."""
        if self.cell is None:
            self.cell = _cell(self, self.at, room.places)

    def spans_in(self, bounds: tuple[float, ...]) -> Spans:
        """Return the spans, which get cells if they have none."""
        placed = self.spans if self.at < 0 else self._room.place_spans(self)
        if not isinstance(placed, SharedSpans):
            spans = super().spans_in(bounds)
            self._room.places.in_memory.add(spans)
            return spans
        placed.open(bounds)
        return placed

    def part_at(self, part: str) -> int:
        """Return where the spans, or a histogram of theirs, are; below 0 without cells."""
        spans = self.spans
        if spans is None or part == SPANS:
            return getattr(spans, "at", NOWHERE)
        return getattr(spans.results.get(part), "at", NOWHERE)

    def part_layout(self, part: str, settings: Sequence[float]) -> bytes:
        """Return the codes of the cells of the spans, or of a histogram with some bounds."""
        return layouts.SPANS if part == SPANS else layouts.histogram_layout(settings)

    def adopt_part(self, part: str, settings: Sequence[float], at: int) -> None:
        """Hold the spans, or a histogram of theirs, that the journal has."""
        if part == SPANS:
            if self.spans is None:
                self.spans = self._spans_at(at)
        elif self.spans is not None:
            histogram = self._histogram_at(at, part, tuple(settings))
            self.spans.results.setdefault(part, histogram)

    def _spans_at(self, at: int) -> SharedSpans:
        return SharedSpans(self, at, self._room)

    def _histogram_at(self, at: int, result: str, bounds: tuple[float, ...]) -> SharedHistogram:
        common, others = self.key
        return SharedHistogram((common, (*others, result)), bounds, at)


class SharedSpans(Spans):
    """The spans of one series, in cells.

    Attributes:
        at: index of the first of three cells: started, left, arrived.
    """

    __slots__ = ("_room", "at", "calls")

    at: int
    calls: SharedCalls
    results: dict[str, Histogram]
    started: Cell

    def __init__(self, calls: SharedCalls, at: int, room: Room) -> None:
        """Know the cells, and make no objects for them."""
        self._key = calls.key
        self._bounds = ()
        self._room = room
        self.at = at
        self.calls = calls
        self.results = {}
        self.started = None  # type: ignore[assignment]  # until it is opened

    def open(self, bounds: tuple[float, ...]) -> None:
        """Make what this process counts with."""
        if self.started is None:
            self._bounds = bounds
            self.result("ok")
            self._left = _cell(self, self.at + 1, self._room.places)
            self._arrived = _cell(self, self.at + 2, self._room.places)
            # Last: it says that all of it is there.
            self.started = _cell(self, self.at, self._room.places)

    def result(self, result: str) -> Histogram:
        """Return the histogram of a result, opened."""
        histogram = self.results.get(result)
        if histogram is None:
            placed = self._room.place_result(self, result, self._bounds)
            histogram = placed or self.results.setdefault(result, self._histogram(result))
            if placed is None:
                self._room.places.in_memory.add(histogram)
        if isinstance(histogram, SharedHistogram):
            histogram.open(self._room)
        return histogram

    def end(self, result: str, seconds: float) -> None:
        """Record the end of a span."""
        self.result(result).add(seconds)

    def reset(self) -> None:
        """Start without spans again, in a forked child that has one thread."""
        if self.started is not None:
            super().reset()


class SharedHistogram(Histogram):
    """Durations in buckets that are cells.

    Nothing is buffered: a process that is killed loses none.

    Attributes:
        at: index of the first cell.
    """

    __slots__ = ("at",)

    at: int
    buffer: list[float]
    samples: SampleCell | None

    def __init__(self, key: Key, bounds: tuple[float, ...], at: int) -> None:
        """Know the cells, and make no object for them."""
        self.key = key
        self.bounds = bounds
        self.at = at
        self.buffer = None  # type: ignore[assignment]  # until it is opened
        self.samples = None
        self._exemplars = {}

    def open(self, room: Room) -> None:
        """Make what this process counts with."""
        if self.buffer is None:
            mapped = room.places.histogram(self.at, self.bounds)
            if mapped is None:
                self._counts = self._no_counts()
                self._sum = 0.0
                room.places.in_memory.add(self)
            self.buffer = [] if mapped is None else self._buffer_of(mapped, room)
            self.sample(new_samples())

    def sample(self, samples: SampleCell | None) -> None:
        """Add each duration of this process from now on to some samples, too; see `Histogram`."""
        super().sample(samples)
        if self.buffer is not None and not self.is_in_memory:
            self.mapped.samples = samples

    @property
    def mapped(self) -> Any:
        """The cells, if this process counts in some."""
        return self.buffer

    def _buffer_of(self, mapped: Any, room: Room) -> Any:  # noqa: ARG002
        """Return what durations are appended to, if there are cells."""
        return mapped

    @property
    def is_in_memory(self) -> bool:
        """Whether this process counts in memory, because there was no room."""
        return type(self.buffer) is list

    def add(self, seconds: float) -> None:
        """Add one duration."""
        if self.is_in_memory:
            super().add(seconds)
        else:
            self.buffer.append(seconds)

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread; its cells are empty."""
        if self.is_in_memory:
            super().reset()

    def fold(self) -> bool:
        """Move what is in memory into buckets."""
        return super().fold() if self.is_in_memory else True

    @property
    def value(self) -> HistogramReading:
        """What this process counted."""
        nothing = (0,) * (len(self.bounds) + 1), 0.0
        if self.is_in_memory or self.buffer is None:
            return self.reading(*nothing)
        return self.reading(*self.mapped.value)

    def reading(
        self,
        counts: tuple[int, ...],
        total: float,
        exponential: ExponentialReading | None = None,
    ) -> HistogramReading:
        """Return numbers that were read from files, with what this process has in memory.

        Args:
            counts: of the buckets.
            total: the sum.
            exponential: the same durations in exponential buckets.
        """
        exemplars = self._exemplars.copy()
        read = HistogramReading(self.bounds, counts, total, exemplars, exponential)
        return read.plus(super().value) if self.is_in_memory else read
