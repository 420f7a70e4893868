"""Shared view: the numbers of a snapshot, by series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hypertrace.metrics.aggregations import NO_SPANS, SpansReading

from .aggregations import SharedHistogram, SharedSpans
from .snapshot import added

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics.aggregations import Calls, Count, Histogram
    from hypertrace.metrics.reading import HistogramReading

    from .snapshot import Snapshot


class Laid(Protocol):
    """What knows the cells: a `SharedStorage`."""

    layout: bytearray
    in_memory: set[object]


class SharedView:
    """The numbers of some workers at one moment, and of the dead.

    Attributes:
        total: cells of the living and the dead.
        snapshot: all workers at that moment, whichever of them are shown.
    """

    def __init__(
        self,
        total: bytes | bytearray,
        living: bytes | bytearray,
        laid: Laid,
        snapshot: Snapshot,
    ) -> None:
        """Show sums of cells.

        Args:
            total: of the living and the dead.
            living: of the living.
            laid: knows what is counted in memory.
            snapshot: all workers at that moment.
        """
        self.snapshot = snapshot
        self.total = total
        self._in_memory = laid.in_memory
        view = memoryview(total)
        self._counts, self._numbers = view.cast("Q"), view.cast("d")
        self._of_living = memoryview(living).cast("Q")

    @classmethod
    def of(
        cls, snapshot: Snapshot, laid: Laid, own: bytes | None, all_workers: Snapshot
    ) -> SharedView:
        """Add the files of a snapshot up.

        Args:
            snapshot: the files to add up.
            laid: knows the layout.
            own: cells of this process that are in none of the files.
            all_workers: all files of that moment.
        """
        layout = bytes(laid.layout)
        cells = [worker.cells for worker in snapshot.living]
        living = added(cells if own is None else [*cells, own], layout)
        gone = [worker.cells for worker in snapshot.workers if not worker.is_alive]
        if not (snapshot.dead.cells or gone):
            return cls(living, living, laid, all_workers)
        total = added([snapshot.dead.cells, *gone, bytes(living)], layout)
        return cls(total, living, laid, all_workers)

    def counts(self, series: Sequence[Count]) -> list[int]:
        """Return the number of each series."""
        cells, size = self._counts, len(self._counts)
        ats = [one.at for one in series]  # type: ignore[attr-defined]
        numbers = [cells[at] if 0 <= at < size else 0 for at in ats]
        if self._in_memory:
            for index, one in enumerate(series):
                if one in self._in_memory:
                    numbers[index] += one.cell.value
        return numbers

    def spans(self, calls: Calls) -> SpansReading:
        """Return the spans of a series."""
        spans = calls.spans
        if not isinstance(spans, SharedSpans):
            return NO_SPANS if spans is None else spans.read()
        readings = [(one, self._histogram(one)) for one in list(spans.results.values())]
        finished = sum(reading.count for _, reading in readings)
        durations = [pair for pair in readings if pair[1].count]
        started, _, _ = self._three(self._counts, spans)
        # Those of workers that are gone are not open any more.
        begun, left, arrived = self._three(self._of_living, spans)
        ended = sum(self._ended(one) for one in spans.results.values()) - arrived + left
        return SpansReading(durations, started, finished, max(0, begun - ended))

    def _three(self, cells: memoryview, spans: SharedSpans) -> tuple[int, int, int]:
        at = spans.at
        found = tuple(cells[at : at + 3]) or (0, 0, 0)
        if spans in self._in_memory:
            own = spans.started.value, spans._left.value, spans._arrived.value
            found = tuple(map(sum, zip(found, own, strict=True)))
        return found  # type: ignore[return-value]

    def _ended(self, histogram: Histogram) -> int:
        if not isinstance(histogram, SharedHistogram):
            return histogram.value.count
        in_memory = histogram.value.count if histogram.is_in_memory else 0
        at = histogram.at
        return in_memory + (self._of_living[at] if at < len(self._of_living) else 0)

    def _histogram(self, histogram: Histogram) -> HistogramReading:
        if not isinstance(histogram, SharedHistogram):
            return histogram.value
        at, buckets = histogram.at, len(histogram.bounds) + 1
        if at + 3 + buckets > len(self._counts):
            return histogram.reading((0,) * buckets, 0.0)
        counts = tuple(self._counts[at + 3 : at + 3 + buckets])
        return histogram.reading(counts, self._numbers[at + 1] if any(counts) else 0.0)
