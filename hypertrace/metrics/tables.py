"""Tables as families: what a reading says of the series of one metric."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .aggregations import NO_SPANS, Calls, Count
from .declarations import DURATIONS, IN_PROGRESS
from .reading import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .reading import HistogramReading
    from .series import Series, SeriesTable
    from .storage import View

T = TypeVar("T")
V = TypeVar("V")


class Usage(NamedTuple):
    """How much of its room a metric takes."""

    metric: str
    held: int
    limit: int
    overflowed: int
    """Updates past the limit, which are in the overflow series."""


def calls_families(table: SeriesTable[Calls], view: View) -> tuple[list[Family], list[Usage]]:
    """Return the families of calls, durations and open spans, and how much room they take."""
    calls = table.all()
    counts = view.counts(calls)
    timed = [index for index, series in enumerate(calls) if series.spans is not None]
    durations: list[tuple[Series, HistogramReading]] = []
    opened: list[tuple[Series, int]] = []
    overflowed = 0
    for index in timed:
        reading = view.spans(calls[index])
        counts[index] += reading.finished
        durations += reading.durations
        if reading.started:
            opened.append((calls[index], reading.open))
        if table.is_overflow(calls[index]):
            overflowed = reading.finished
    # Without calls are the overflow, mostly, and series whose spans are open or ended with other
    # props, of which there may be as many as of those with calls.
    called, positive = [*compress(calls, counts)], [*filter(None, counts)]
    names = table.label_names
    held = [index for index in timed if not table.is_overflow(calls[index])]
    return [
        Family(table.declaration, names, called, positive),
        Family(DURATIONS, (*names, *DURATIONS.labels), *_columns(durations)),
        Family(IN_PROGRESS, names, *_columns(opened)),
    ], [
        _usage(table, calls, counts),
        Usage(DURATIONS.name, len(held), table.limit, overflowed),
    ]


def count_family(table: SeriesTable[Count], view: View) -> tuple[Family, Usage]:
    """Return the family of a table of counts, and how much room it takes."""
    series = table.all()
    counts = view.counts(series)
    positive = [*compress(series, counts)], [*filter(None, counts)]
    family = Family(table.declaration, table.label_names, *positive)
    return family, _usage(table, series, counts)


def _usage(table: SeriesTable[Any], series: Sequence[Count], counts: Sequence[int]) -> Usage:
    overflowed = counts[-1] if series and table.is_overflow(series[-1]) else 0
    return Usage(table.declaration.name, len(table), table.limit, overflowed)


def _columns(pairs: Sequence[tuple[T, V]]) -> tuple[list[T], list[V]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
