"""Shared native histograms: durations whose classic and exponential buckets are cells.

Each result of a series has a histogram and an exponential series. A duration is counted in an
exponential bucket, and then in a classic one. With the compiled core that is one step for other
threads, signal handlers and finalizers, but not for other processes. A reader may find durations
that are just being added in one of the two kinds; that of a worker which is killed in between stays
in the exponential ones alone. Each kind is consistent in itself at every moment: its count is the
sum of its buckets, none of which ever falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypertrace.cells import CellGroup
from hypertrace.metrics.aggregations import duration
from hypertrace.metrics.exponential import scale_of_schema
from hypertrace.metrics.exponential_series import DEFAULT_SCHEMA, TOTAL_BOUNDS
from hypertrace.metrics.native_histograms import NativeCalls, NativeHistogram, NativeSpans
from hypertrace.metrics.series_kinds import exponential_series

from .aggregations import NOWHERE, SPANS, SharedCalls, SharedHistogram, SharedSpans
from .exponential import SharedExponential
from .layouts import histogram_layout, page_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics.reading import HistogramReading
    from hypertrace.metrics.series import Key, SeriesKind

    from .aggregations import Places, Room

_SCALE = scale_of_schema(DEFAULT_SCHEMA)
_OF = "/"
"""Between a result and the number of a page of its durations, in the name of a part."""


class SharedNativeCalls(SharedCalls, NativeCalls):
    """The calls of one series, in cells; spans have native histograms.

    The exponential series of a result has the total behind the cells of its histogram. Each of its
    pages is a part of these calls.
    """

    __slots__ = ()

    def part_at(self, part: str) -> int:
        """Return where the spans, a histogram or a page is; below 0 without cells."""
        result, _, page = part.partition(_OF)
        if not page:
            return super().part_at(part)
        series = self._exponential(result)
        return NOWHERE if series is None else series.part_at(page)

    def part_layout(self, part: str, settings: Sequence[float]) -> bytes:
        """Return the codes of the cells of the spans, a histogram with its total, or a page."""
        _, _, page = part.partition(_OF)
        if page:
            return page_layout(_SCALE.page_size, 0)
        layout = super().part_layout(part, settings)
        return layout if part == SPANS else layout + histogram_layout(TOTAL_BOUNDS)

    def adopt_part(self, part: str, settings: Sequence[float], at: int) -> None:
        """Hold the spans, a histogram or a page that the journal has."""
        result, _, page = part.partition(_OF)
        if not page:
            super().adopt_part(part, settings, at)
        elif (series := self._exponential(result)) is not None:
            series.adopt_part(page, settings, at)

    def _exponential(self, result: str) -> SharedExponential | None:
        histogram = None if self.spans is None else self.spans.results.get(result)
        return histogram.exponential if isinstance(histogram, SharedNativeHistogram) else None

    def _spans_at(self, at: int) -> SharedSpans:
        return SharedNativeSpans(self, at, self._room)

    def _histogram_at(self, at: int, result: str, bounds: tuple[float, ...]) -> SharedHistogram:
        common, others = self.key
        histogram = SharedNativeHistogram((common, (*others, result)), bounds, at)
        total_at = at + len(histogram_layout(bounds))
        room = _PageRoom(self._room, result)
        histogram.exponential = SharedExponential(self.key, total_at, room)
        return histogram


class SharedNativeSpans(SharedSpans, NativeSpans):
    """The spans of one series, in cells, whose durations are in native histograms."""

    __slots__ = ()


class SharedNativeHistogram(SharedHistogram, NativeHistogram):
    """Durations in classic and in exponential buckets, which are cells; see the module.

    Without room for the cells both are in memory, where they agree at every moment.

    Attributes:
        exponential: counts the same durations.
    """

    __slots__ = ("_classic", "exponential")

    exponential: SharedExponential

    def _buffer_of(self, mapped: Any, room: Room) -> CellGroup:  # noqa: ARG002
        self.exponential.open(self.exponential.room)
        self.exponential.sample(None)  # those of the classic buckets are enough
        self._classic = mapped
        return CellGroup((), ((self.exponential.add, 1.0, 1.0), (mapped, 1.0, 1.0)))

    @property
    def mapped(self) -> Any:
        """The cells of the classic buckets."""
        return self._classic

    @property
    def value(self) -> HistogramReading:
        """What this process counted."""
        if self.is_in_memory or self.buffer is None:
            return super().value
        counts, total = self._classic.value
        return self.reading(counts, total, self.exponential.value)


class _PageRoom:
    """Places the pages of the durations of one result.

    Attributes:
        kind: of the exponential series.
        places: gives cells.
    """

    kind: SeriesKind[Any] = exponential_series(convert=duration)

    def __init__(self, room: Room, result: str) -> None:
        """Place pages among the parts of calls.

        Args:
            room: of the table of the calls.
            result: what the durations belong to.
        """
        self.places: Places = room.places
        self._room = room
        self._result = result

    def place_part(self, key: Key, part: str) -> None:
        """Give a page cells, unless it has some or there is no room."""
        self._room.place_part(key, f"{self._result}{_OF}{part}")
