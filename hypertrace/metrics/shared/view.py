"""Shared view: the numbers of a snapshot, by series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hypertrace.bucket_cells import size_of_page
from hypertrace.metrics.aggregations import NO_SPANS, SpansReading
from hypertrace.metrics.measurements import GaugeReading, GaugesReading, NumberReading
from hypertrace.metrics.reading import HistogramReading

from .aggregations import SharedHistogram, SharedSpans
from .layouts import GAUGE
from .native_histograms import SharedNativeHistogram
from .snapshot import added

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hypertrace.metrics.aggregations import Calls, Count, Histogram
    from hypertrace.metrics.exponential_series import Exponential, Pages, Quantiles
    from hypertrace.metrics.measurements import Gauge, Number, ValueHistogram
    from hypertrace.metrics.reading import ExponentialReading, SummaryReading

    from .exponential import SharedExponential, SharedPaged, SharedQuantiles
    from .snapshot import Snapshot

_CELL = 8


class Laid(Protocol):
    """What knows the cells: a `SharedStorage`."""

    @property
    def layout(self) -> bytearray:
        """A code for each cell."""

    @property
    def in_memory(self) -> Collection[object]:
        """What this process counts in memory."""

    def number_in(self, snapshot: Snapshot) -> int | None:
        """Return the number of this process as a worker; 0 if it is none, None as yet."""


class Elsewhere:
    """The cells of another worker: nothing of it is in the memory of this process."""

    in_memory: Collection[object] = ()

    def __init__(self, layout: bytearray) -> None:
        """Know the cells."""
        self.layout = layout

    def number_in(self, snapshot: Snapshot) -> int | None:  # noqa: ARG002
        """Return 0: there is nothing that needs it."""
        return 0


class SharedView:
    """The numbers of some workers at one moment, and of the dead.

    Attributes:
        total: cells of the living and the dead.
        snapshot: all workers at that moment, whichever of them are shown.
    """

    def __init__(
        self,
        total: bytes | bytearray,
        workers: Sequence[tuple[int | None, bytes]],
        living: bytes | bytearray,
        laid: Laid,
        snapshot: Snapshot,
    ) -> None:
        """Show sums of cells.

        Args:
            total: of the living and the dead.
            workers: the living: number and cells of each.
            living: sums of the living.
            laid: knows what is counted in memory.
            snapshot: all workers at that moment.
        """
        self.snapshot = snapshot
        self.total = total
        self._in_memory = laid.in_memory
        view = memoryview(total)
        self._counts, self._numbers = view.cast("Q"), view.cast("d")
        self._of_living = memoryview(living).cast("Q")
        self._workers = workers
        self._own_number = laid.number_in(snapshot)

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        laid: Laid,
        own: bytes | None,
        all_workers: Snapshot,
    ) -> SharedView:
        """Add the files of a snapshot up.

        Args:
            snapshot: the files to add up.
            laid: knows the layout.
            own: cells of this process that are in none of the files.
            all_workers: all files of that moment.
        """
        layout = bytes(laid.layout)
        workers = [(worker.number or None, worker.cells) for worker in snapshot.living]
        if own is not None:
            workers.append((laid.number_in(all_workers), own))
        living = added([cells for _, cells in workers], layout)
        gone = [worker.cells for worker in snapshot.workers if not worker.is_alive]
        if not (snapshot.dead.cells or gone):
            return cls(living, workers, living, laid, all_workers)
        total = added([snapshot.dead.cells, *gone, bytes(living)], layout)
        return cls(total, workers, living, laid, all_workers)

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

    def numbers(self, series: Sequence[Number]) -> list[NumberReading]:
        """Return the sum of each series."""
        return [self._number(one) for one in series]

    def _number(self, number: Number) -> NumberReading:
        at = number.at  # type: ignore[attr-defined]
        value, updates = 0.0, 0
        if 0 <= at < len(self._counts) - 1:
            value, updates = self._numbers[at], self._counts[at + 1]
        if number in self._in_memory:
            own = number.read()
            return NumberReading(value + own.value, updates + own.updates)
        return NumberReading(value, updates)

    def gauges(self, series: Sequence[Gauge]) -> list[GaugesReading]:
        """Return the gauges of each series: those of living workers that have a value.

        What a worker that is gone has set does not count, in any mode: a gauge says how it is, and
        no process would ever correct that value.
        """
        workers = [(number, *_cast(cells)) for number, cells in self._workers]
        return [self._gauges(one, workers) for one in series]

    def _gauges(
        self,
        gauge: Gauge,
        workers: Sequence[tuple[int | None, memoryview[int], memoryview[float]]],
    ) -> GaugesReading:
        at = gauge.at  # type: ignore[attr-defined]
        updates = self._counts[at] if 0 <= at < len(self._counts) else 0
        living = []
        if updates:
            for number, counts, numbers in workers:
                own = counts[at] if at + len(GAUGE) <= len(counts) else 0
                if own:
                    pair = at + 1 + 2 * (own & 1)
                    living.append(GaugeReading(number, numbers[pair], numbers[pair + 1]))
        if gauge in self._in_memory:
            read = gauge.read()
            updates += read.updates
            living += [one._replace(worker=self._own_number) for one in read.living]
        return GaugesReading(updates, living)

    def histograms(self, series: Sequence[ValueHistogram]) -> list[HistogramReading]:
        """Return the values of each series."""
        return [self._values(one) for one in series]

    def _values(self, histogram: ValueHistogram) -> HistogramReading:
        at, buckets = histogram.at, len(histogram.bounds) + 1  # type: ignore[attr-defined]
        reading = HistogramReading(histogram.bounds, (0,) * buckets, 0.0, {})
        if 0 <= at <= len(self._counts) - 3 - buckets:
            reading.counts = tuple(self._counts[at + 3 : at + 3 + buckets])
            reading.sum = self._numbers[at + 1] if any(reading.counts) else 0.0
        return reading.plus(histogram.value) if histogram in self._in_memory else reading

    def exponentials(self, series: Sequence[Exponential]) -> list[ExponentialReading]:
        """Return the values of each series."""
        return [self._exponential(one) for one in series]  # type: ignore[arg-type]

    def _exponential(self, histogram: SharedExponential) -> ExponentialReading:
        _, total = self._total(histogram)
        reading = histogram.reading(self._pages(histogram), total)
        return reading.plus(histogram.value) if histogram in self._in_memory else reading

    def summaries(self, series: Sequence[Quantiles]) -> list[SummaryReading]:
        """Return the values of each series, and their quantiles at this moment."""
        return [self._summary(one) for one in series]  # type: ignore[arg-type]

    def _summary(self, summary: SharedQuantiles) -> SummaryReading:
        reading = summary.reading(self._pages(summary), *self._total(summary))
        return reading.plus(summary.value) if summary in self._in_memory else reading

    def _pages(self, series: SharedPaged) -> Pages:
        length, cells = size_of_page(series.scale.page_size, series.slots), self._counts
        pages = series.page_at.copy().items()
        found: Pages = [
            (number, cells[at : at + length]) for number, at in pages if at + length <= len(cells)
        ]
        spare = series.spare.copy().items()
        return [
            *found,
            *[(n, _cast(page.data)[0]) for n, page in spare if page in self._in_memory],
        ]

    def _total(self, series: SharedPaged) -> tuple[int, float]:
        """Return the count of all values, and their sum."""
        at, cells = series.at, self._counts
        count = cells[at + 3] if 0 <= at < len(cells) - 3 else 0
        return count, self._numbers[at + 1] if count else 0.0

    def spans(self, calls: Calls) -> SpansReading:
        """Return the spans of a series."""
        spans = calls.spans
        if not isinstance(spans, SharedSpans):
            return NO_SPANS if spans is None else spans.read()
        durations: list[tuple[Histogram, HistogramReading]] = []
        finished = 0
        for one in list(spans.results.values()):
            reading = self._histogram(one)
            count = reading.count
            if count:
                durations.append((one, reading))
                finished += count
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
        exponential = None
        if isinstance(histogram, SharedNativeHistogram):
            exponential = self._exponential(histogram.exponential)
        if at + 3 + buckets > len(self._counts):
            return histogram.reading((0,) * buckets, 0.0, exponential)
        counts = tuple(self._counts[at + 3 : at + 3 + buckets])
        total = self._numbers[at + 1] if any(counts) else 0.0
        return histogram.reading(counts, total, exponential)


def _cast(cells: bytes) -> tuple[memoryview[int], memoryview[float]]:
    """Return the cells of a file, which someone may have cut off, as integers and as floats."""
    whole = memoryview(cells)[: len(cells) // _CELL * _CELL]
    return whole.cast("Q"), whole.cast("d")
