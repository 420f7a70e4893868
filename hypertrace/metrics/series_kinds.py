"""Series kinds: what the series of tables can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aggregations import Calls, Count
from .measurements import Gauge, Number, ValueHistogram
from .series import SeriesKind

if TYPE_CHECKING:
    from hypertrace.number_cells import Convert

    from .measurements import Mode

COUNT_SERIES: SeriesKind[Count] = SeriesKind("count", Count)
CALL_SERIES: SeriesKind[Calls] = SeriesKind("calls", Calls)


def number_series(convert: Convert = None) -> SeriesKind[Number]:
    """Return the kind of sums.

    Args:
        convert: returns the amount that a value stands for which is no finite `float` or `int` from
            0 up; None for none. Without it such a value raises a `ValueError`.
    """
    return SeriesKind("number", Number, convert=convert)


def gauge_series(mode: Mode, convert: Convert = None) -> SeriesKind[Gauge]:
    """Return the kind of gauges.

    Args:
        mode: how those of several workers become one value.
        convert: as of `number_series`, for a value of either sign.
    """
    return SeriesKind("gauge", Gauge, (mode,), convert)


def histogram_series(
    bounds: tuple[float, ...], convert: Convert = None
) -> SeriesKind[ValueHistogram]:
    """Return the kind of values in buckets.

    Args:
        bounds: upper bounds of the buckets, ascending, finite, and of either sign.
        convert: as of `gauge_series`.
    """
    return SeriesKind(
        "histogram", lambda key: ValueHistogram(key, bounds), (*map(float, bounds),), convert
    )
