"""Shared kinds: how the series of each kind lie in the cells of a segment.

A further kind is one more entry of `KINDS`, and a method of `Places` and of `View`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hypertrace.metrics.exponential_series import TOTAL_BOUNDS
from hypertrace.metrics.series_kinds import (
    CALL_SERIES,
    COUNT_SERIES,
    NATIVE_CALL_SERIES,
    exponential_series,
    gauge_series,
    histogram_series,
    number_series,
    summary_series,
)

from .aggregations import SharedCalls, SharedCount
from .exponential import SharedExponential, SharedQuantiles
from .layouts import COUNT, GAUGE, NUMBER, histogram_layout
from .measurements import SharedGauge, SharedNumber, SharedValueHistogram
from .native_histograms import SharedNativeCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics.declarations import Kind
    from hypertrace.metrics.series import Key, Series, SeriesKind

    from .table import SharedTable


class SharedKind(NamedTuple):
    """How the series of one kind are made and read. All but `made` are called with its settings."""

    made: Callable[[Key, int, SharedTable[Any]], Series]
    """Makes a series at an index. One that has parts has the methods of `HasParts`."""
    layout: Callable[..., bytes]
    """Returns the codes of its cells, see `snapshot.merge`."""
    kind: Callable[..., SeriesKind[Any]]
    """Returns the kind, for tables that only other workers have."""
    metric: Kind
    """The kind of the metrics that it holds the numbers of, for the same."""


KINDS: dict[str, SharedKind] = {
    "count": SharedKind(
        lambda key, at, _: SharedCount(key, at),
        lambda: COUNT,
        lambda: COUNT_SERIES,
        "counter",
    ),
    "calls": SharedKind(
        SharedCalls,
        lambda: COUNT,
        lambda: CALL_SERIES,
        "counter",
    ),
    "native_calls": SharedKind(
        SharedNativeCalls,
        lambda: COUNT,
        lambda: NATIVE_CALL_SERIES,
        "counter",
    ),
    "number": SharedKind(
        lambda key, at, _: SharedNumber(key, at),
        lambda: NUMBER,
        number_series,
        "counter",
    ),
    "gauge": SharedKind(
        lambda key, at, _: SharedGauge(key, at),
        lambda _: GAUGE,
        gauge_series,
        "gauge",
    ),
    "exponential": SharedKind(
        SharedExponential,
        lambda _: histogram_layout(TOTAL_BOUNDS),
        exponential_series,
        "histogram",
    ),
    "summary": SharedKind(
        SharedQuantiles,
        lambda *_: histogram_layout(TOTAL_BOUNDS),
        lambda max_age, *quantiles: summary_series(quantiles, max_age),
        "summary",
    ),
    "histogram": SharedKind(
        lambda key, at, table: SharedValueHistogram(key, at, table.kind.settings),
        lambda *bounds: histogram_layout(bounds),
        lambda *bounds: histogram_series(bounds),
        "histogram",
    ),
}
"""By the name of the kind."""
