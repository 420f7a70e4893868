"""Series kinds: what the series of tables can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aggregations import Calls, Count
from .exponential_series import DEFAULT_SCHEMA, Exponential, Quantiles
from .measurements import Gauge, Number, ValueHistogram
from .native_histograms import NativeCalls
from .series import SeriesKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.number_cells import Convert

    from .measurements import Workers

COUNT_SERIES: SeriesKind[Count] = SeriesKind("count", Count)
CALL_SERIES: SeriesKind[Calls] = SeriesKind("calls", Calls)
NATIVE_CALL_SERIES: SeriesKind[Calls] = SeriesKind("native_calls", NativeCalls)


def number_series(convert: Convert = None) -> SeriesKind[Number]:
    """Return the kind of sums.

    Args:
        convert: returns the amount that a value stands for which is no finite `float` or `int` from
            0 up; None for none. Without it such a value raises a `ValueError`.
    """
    return SeriesKind("number", Number, convert=convert)


def gauge_series(mode: Workers, convert: Convert = None) -> SeriesKind[Gauge]:
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


def exponential_series(
    schema: int = DEFAULT_SCHEMA, convert: Convert = None
) -> SeriesKind[Exponential]:
    """Return the kind of native histograms.

    Args:
        schema: each power of two has `2 ** schema` buckets; from 0 to 8.
        convert: as of `gauge_series`.
    """
    return SeriesKind("exponential", lambda key: Exponential(key, schema), (schema,), convert)


def summary_series(
    quantiles: Sequence[float], max_age: float, convert: Convert = None
) -> SeriesKind[Quantiles]:
    """Return the kind of quantiles over a sliding window.

    Args:
        quantiles: to show, from 0 to 1.
        max_age: seconds that a value stays in the window at most.
        convert: as of `gauge_series`.
    """
    return SeriesKind(
        "summary",
        lambda key: Quantiles(key, quantiles, max_age),
        (float(max_age), *map(float, quantiles)),
        convert,
    )
