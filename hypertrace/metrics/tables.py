"""Tables as families: what a reading says of the series of one metric."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .labels import WORKER
from .measurements import MERGED
from .reading import ExponentialReading, Family, HistogramReading, SummaryReading
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .aggregations import Calls, Count
    from .exponential_series import Exponential, Quantiles
    from .measurements import Gauge, GaugesReading, Number, ValueHistogram
    from .reading import Value
    from .series import SeriesKind, SeriesTable
    from .storage import View

T = TypeVar("T")
V = TypeVar("V")
S = TypeVar("S", bound=Series)


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
    started: list[Series] = []
    opened: list[int] = []
    overflowed = 0
    for index in timed:
        reading = view.spans(calls[index])
        counts[index] += reading.finished
        durations += reading.durations
        if reading.started:
            started.append(calls[index])
            opened.append(reading.open)
        if table.is_overflow(calls[index]):
            overflowed = reading.finished
    # Without calls are the overflow, mostly, and series whose spans are open or ended with other
    # props, of which there may be as many as of those with calls.
    called, positive = [*compress(calls, counts)], [*filter(None, counts)]
    names = table.label_names
    duration, in_progress = table.parts
    held = [index for index in timed if not table.is_overflow(calls[index])]
    return [
        Family(table.declaration, names, called, positive),
        Family(duration, (*names, *duration.labels), *_columns(durations)),
        Family(in_progress, names, started, opened),
    ], [
        _usage(table, calls, counts),
        Usage(duration.name, len(held), table.limit, overflowed),
    ]


def read_table(table: SeriesTable[Any], view: View) -> tuple[Family, Usage]:
    """Return the family of a table of any kind but calls, and how much room it takes."""
    return _READ[table.kind.name](table, view)


def _count_family(table: SeriesTable[Count], view: View) -> tuple[Family, Usage]:
    series = table.all()
    counts = view.counts(series)
    return _family(table, series, counts, counts)


def _number_family(table: SeriesTable[Number], view: View) -> tuple[Family, Usage]:
    series = table.all()
    readings = view.numbers(series)
    updates = [reading.updates for reading in readings]
    return _family(table, series, [reading.value for reading in readings], updates)


def _gauge_family(table: SeriesTable[Gauge], view: View) -> tuple[Family, Usage]:
    series = table.all()
    readings = view.gauges(series)
    usage = _usage(table, series, [reading.updates for reading in readings])
    (mode,) = table.kind.settings
    merge = MERGED.get(mode)
    if merge is None:
        return _of_workers(table, series, readings), usage
    living = [reading.living for reading in readings]
    values = [*map(merge, filter(None, living))]
    return Family(table.declaration, table.label_names, [*compress(series, living)], values), usage


def _of_workers(
    table: SeriesTable[Gauge], series: Sequence[Gauge], readings: Sequence[GaugesReading]
) -> Family:
    pairs = [
        (one.of_worker(gauge.worker), gauge.value)
        for one, reading in zip(series, readings, strict=True)
        for gauge in reading.living
        if gauge.worker is not None  # it gets a number with the next reading
    ]
    return Family(table.declaration, (*table.label_names, WORKER), *_columns(pairs))


def _histogram_family(table: SeriesTable[ValueHistogram], view: View) -> tuple[Family, Usage]:
    series = table.all()
    readings = view.histograms(series)
    return _family(table, series, readings, [reading.count for reading in readings])


def _exponential_family(table: SeriesTable[Exponential], view: View) -> tuple[Family, Usage]:
    series = table.all()
    readings = view.exponentials(series)
    return _family(table, series, readings, [reading.count for reading in readings])


def _summary_family(table: SeriesTable[Quantiles], view: View) -> tuple[Family, Usage]:
    series = table.all()
    readings = view.summaries(series)
    return _family(table, series, readings, [reading.count for reading in readings])


_READ: dict[str, Callable[[SeriesTable[Any], View], tuple[Family, Usage]]] = {
    "count": _count_family,
    "number": _number_family,
    "gauge": _gauge_family,
    "histogram": _histogram_family,
    "exponential": _exponential_family,
    "summary": _summary_family,
}
"""How a table is read, by the name of its kind."""


def with_others(
    families: Sequence[Family], tables: Sequence[SeriesTable[Any]], view: View
) -> list[Family]:
    """Return families, and in them the series of tables that other workers have.

    Args:
        families: of this process.
        tables: of workers with other settings, such as other allowed props.
        view: the numbers of this moment.
    """
    found = {family.name: family for family in families}
    for table in tables:
        read = calls_families(table, view)[0] if table.parts else [read_table(table, view)[0]]
        for family in read:
            own = found.get(family.name)
            found[family.name] = family if own is None else _joined(own, family, table.kind)
    return list(found.values())


def _joined(one: Family, other: Family, kind: SeriesKind[Any]) -> Family:
    """Return a family with the series of two, whose labels may differ.

    Of equal labels, gauges become one as their mode says, if their values alone let them.
    """
    add = _JOINED.get(kind.settings[0], _first) if kind.name == "gauge" else _sum
    if not other.series:
        return one
    added = tuple(name for name in other.label_names if name not in one.label_names)
    names = one.label_names + added
    values: dict[tuple[str, ...], Value] = {}
    for family in (one, other):
        for point in family.points:
            labels = dict(zip(family.label_names, point.labels, strict=True))
            key = tuple(labels.get(name, "") for name in names)
            earlier = values.get(key)
            values[key] = point.value if earlier is None else add(earlier, point.value)
    series = [Series((key, ())) for key in values]
    return Family(one.declaration, names, series, list(values.values()))


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, HistogramReading) and isinstance(other, HistogramReading):
        return one.plus(other) if one.bounds == other.bounds else one
    if isinstance(one, ExponentialReading) and isinstance(other, ExponentialReading):
        return one.plus(other) if one.schema == other.schema else one
    if isinstance(one, SummaryReading) and isinstance(other, SummaryReading):
        return one.plus(other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return one  # a name of two kinds


def _first(one: Value, _: Value) -> Value:
    return one


_JOINED: dict[str, Callable[[Any, Any], Any]] = {"sum": _sum, "max": max, "min": min}
"""How the gauges of two tables become one, by the mode; of other modes, the first one stands."""


def _family(
    table: SeriesTable[S], series: Sequence[S], values: Sequence[Value], updates: Sequence[int]
) -> tuple[Family, Usage]:
    """Return a family of the series that have updates."""
    shown = [*compress(series, updates)], [*compress(values, updates)]
    return Family(table.declaration, table.label_names, *shown), _usage(table, series, updates)


def _usage(table: SeriesTable[Any], series: Sequence[Series], updates: Sequence[int]) -> Usage:
    overflowed = updates[-1] if series and table.is_overflow(series[-1]) else 0
    return Usage(table.declaration.name, len(table), table.limit, overflowed)


def _columns(pairs: Sequence[tuple[T, V]]) -> tuple[list[T], list[V]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
