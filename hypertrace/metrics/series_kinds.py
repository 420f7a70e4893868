"""Series kinds: what the series of a table hold, and with which settings each is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .aggregations import Calls, Count
from .measurements import Gauge, Number, ValueHistogram
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.number_cells import Convert

    from .measurements import Mode
    from .series import Key

S = TypeVar("S", bound=Series)


@dataclass(frozen=True)
class SeriesKind(Generic[S]):
    """What the series of a table hold.

    Attributes:
        name: as the journal of shared counts has it.
        made: makes a series in memory, of a key and what the settings say.
        settings: what JSON can hold; equal ones in all workers that share a table.
        convert: of the cells; see `hypertrace.number_cells`.
    """

    name: str
    made: Callable[[Key], S] = field(compare=False)
    settings: tuple[Any, ...] = ()
    convert: Convert = field(default=None, compare=False)

    def make(self, key: Key) -> S:
        """Return a new series in memory."""
        return self.prepared(self.made(key))

    def prepared(self, series: S) -> S:
        """Return a series whose cell exists, with what it needs in this process."""
        if self.convert is not None:
            series.cell.convert = self.convert  # type: ignore[attr-defined]
        return series


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
