"""Native histograms: durations in classic buckets, and in exponential ones, too."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, cast

from .aggregations import Calls, Histogram, Spans
from .exponential import SMALLEST, scale_of_schema
from .exponential_series import DEFAULT_SCHEMA
from .reading import ExponentialReading

if TYPE_CHECKING:
    from .reading import HistogramReading

_SCALE = scale_of_schema(DEFAULT_SCHEMA)


class NativeHistogram(Histogram):
    """Durations in classic buckets and in exponential ones, which agree at every moment.

    The exponential ones take 2 KiB for durations over one decade, and at most 70 KiB.
    """

    __slots__ = ()

    def _no_counts(self) -> list[int]:
        return _Counts(super()._no_counts(), {})

    def _added(self, counts: list[int], durations: list[float]) -> list[int]:
        before = cast("_Counts", counts)
        return _Counts(super()._added(before, durations), _with(before.exponential, durations))

    def _reading(self, counts: list[int], total: float) -> HistogramReading:
        reading = super()._reading(counts, total)
        reading.exponential = _reading(cast("_Counts", counts).exponential, total)
        return reading


class _Counts(list[int]):
    """The counts of the classic buckets, with those of the exponential ones: one object for both.

    So `Histogram.fold` replaces both in one step.
    """

    __slots__ = ("exponential",)

    def __init__(self, counts: list[int], exponential: dict[int, int]) -> None:
        """Hold both.

        Args:
            counts: of the classic buckets.
            exponential: counts of the exponential ones that are not empty, by their keys.
        """
        super().__init__(counts)
        self.exponential: dict[int, int] = exponential


class NativeSpans(Spans):
    """Spans whose durations are in native histograms."""

    __slots__ = ()

    def _histogram(self, result: str) -> Histogram:
        return NativeHistogram(self._key_of(result), self._bounds)


class NativeCalls(Calls):
    """Calls whose spans have native histograms."""

    __slots__ = ()

    def _new_spans(self, bounds: tuple[float, ...]) -> Spans:
        return NativeSpans(self.key, bounds)


def _with(counts: dict[int, int], durations: list[float]) -> dict[int, int]:
    """Return counts of buckets, by their keys, with some durations, in ascending order, added."""
    counts = counts.copy()
    below = 0
    while below < len(durations):
        key = _SCALE.key(durations[below])
        limit = _SCALE.limit(_SCALE.index_of(key)) if key else SMALLEST
        up_to = bisect_right(durations, limit, below + 1)
        counts[key] = counts.get(key, 0) + up_to - below
        below = up_to
    return counts


def _reading(counts: dict[int, int], total: float) -> ExponentialReading:
    positive = {_SCALE.index_of(key): count for key, count in counts.items() if key}
    zeros = counts.get(0, 0)
    return ExponentialReading(DEFAULT_SCHEMA, SMALLEST, zeros, positive, {}, total, {})
