"""Series texts: what an exporter writes of each series, made once for all readings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from hypertrace.metrics import Family
    from hypertrace.metrics.series import Series

T = TypeVar("T")

_MOST = 20_000
"""Series of a metric that are remembered, or twice as many as there are."""


class SeriesTexts(Generic[T]):
    """The texts of the series of one `Metrics`. One thread at a time may use it."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[str, dict[Series, T]] = {}

    def of(self, family: Family) -> dict[Series, T]:
        """Return the texts that are known of a metric, by series, to be read and added to.

        Args:
            family: has the same object for a series in each reading.
        """
        known = self._known.setdefault(family.name, {})
        if len(known) > max(_MOST, 2 * len(family.series)):
            known.clear()
        return known
