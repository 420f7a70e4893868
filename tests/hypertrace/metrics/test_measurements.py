"""Measurements in memory: sums, gauges, histograms, and the families of their tables."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Caller
from hypertrace.metrics import Declaration
from hypertrace.metrics.measurements import MERGED, Gauge, GaugeReading, Number, ValueHistogram
from hypertrace.metrics.reading import HistogramReading
from hypertrace.metrics.series_kinds import gauge_series, histogram_series, number_series
from hypertrace.metrics.storage import MemoryStorage
from hypertrace.metrics.tables import read_table

from ...running import in_child

if TYPE_CHECKING:
    from hypertrace.metrics.reading import Family
    from hypertrace.metrics.series import Key, SeriesKind, SeriesTable

BYTES = Declaration("counter", "bytes_total", description="Bytes.", unit="bytes")
DEPTH = Declaration("gauge", "depth", description="Depth.")
SIZES = Declaration("histogram", "sizes", description="Sizes.")
NAMES = ("class",), ("queue",)
KEY = ("Queue",), ("a",)
OTHER = ("Queue",), ("b",)
THIRD = ("Queue",), ("c",)
BOUNDS = (-1.0, 0.0, 10.0)
NOWHERE = Caller("", "", None, 0, 0)


def table_of(declaration: Any, kind: SeriesKind[Any], limit: int = 10) -> SeriesTable[Any]:
    """Return a table in memory."""
    return MemoryStorage().table(declaration, limit, NAMES, kind)


def get(table: SeriesTable[Any], key: Key = KEY) -> Any:
    """Return a series."""
    return table.get(key, NOWHERE)


def family_of(table: SeriesTable[Any]) -> Family:
    """Return the family of a table in memory."""
    return read_table(table, MemoryStorage().view(None))[0]


def values_of(family: Family) -> dict[tuple[str, ...], Any]:
    """Return values by labels."""
    return {point.labels: point.value for point in family.points}


def test_a_number_adds_up() -> None:
    """What is added through a callable that was kept is in it."""
    number = Number(KEY)
    add = number.add
    add(2.5)
    add()
    assert number.value == 3.5
    assert number.read() == (3.5, 2)
    number.reset()
    assert number.read() == (0.0, 0)


def test_a_gauge_is_set_or_added_to() -> None:
    """It has no value before."""
    gauge = Gauge(KEY)
    assert (gauge.value, gauge.read()) == (None, (0, []))
    put, add = gauge.set, gauge.add
    put(7)
    add(-2.5)
    assert gauge.value == 4.5
    updates, ((worker, value, time),) = gauge.read()
    assert (updates, worker, value) == (2, 0, 4.5)
    assert time > 0
    gauge.reset()
    assert gauge.value is None


def test_a_histogram_has_any_finite_values() -> None:
    """Also those below zero, and bounds that are."""
    histogram = ValueHistogram(KEY, BOUNDS)
    for value in (-5, -1, -0.5, 0, 1e15, 1e18):
        histogram.add(value)
    reading = histogram.value
    assert reading == HistogramReading(BOUNDS, (2, 2, 0, 2), reading.sum, {})
    assert reading.sum == pytest.approx(1.001e18)
    histogram.reset()
    assert histogram.value.count == 0


def test_a_sum_is_shown_once_it_was_added_to() -> None:
    """Also if that was 0; a reading since another one has what was added."""
    table = table_of(BYTES, number_series())
    get(table).add(0)
    get(table, OTHER)
    before = family_of(table)
    assert values_of(before) == {("Queue", "a"): 0.0}
    get(table).add(1.5)
    get(table, THIRD).add(2)
    since = family_of(table).since(before)
    assert values_of(since) == {("Queue", "a"): 1.5, ("Queue", "c"): 2.0}
    assert values_of(family_of(table).since(family_of(table))) == {}


@pytest.mark.parametrize("mode", MERGED)
def test_a_gauge_in_memory_is_the_same_in_each_mode(mode: Any) -> None:
    """There is one process; a reading since another one has the value."""
    table = table_of(DEPTH, gauge_series(mode))
    get(table, OTHER)
    get(table).set(-3)
    before = family_of(table)
    assert values_of(before) == {("Queue", "a"): -3.0}
    assert values_of(family_of(table).since(before)) == {("Queue", "a"): -3.0}


def test_each_gauge_has_the_label_of_its_worker() -> None:
    """In memory it is the worker 0; the series is the same object in each reading."""
    table = table_of(DEPTH, gauge_series("each"))
    get(table).set(3)
    family = family_of(table)
    assert family.label_names == ("class", "queue", "worker")
    assert values_of(family) == {("Queue", "a", "0"): 3.0}
    assert family_of(table).series[0] is family.series[0]


def test_gauges_of_workers_become_one() -> None:
    """By the mode."""
    readings = [GaugeReading(1, 5.0, 10.0), GaugeReading(2, -2.0, 30.0), GaugeReading(None, 3.0, 2)]
    found = {mode: merge(readings) for mode, merge in MERGED.items()}
    assert found == {"sum": 6.0, "max": 5.0, "min": -2.0, "mean": 2.0, "latest": -2.0}


def test_values_are_shown_once_there_are_any() -> None:
    """A reading since another one has what came in."""
    table = table_of(SIZES, histogram_series(BOUNDS))
    get(table, OTHER)
    get(table).add(-1)
    before = family_of(table)
    assert values_of(before) == {("Queue", "a"): HistogramReading(BOUNDS, (1, 0, 0, 0), -1.0, {})}
    get(table).add(20)
    since = values_of(family_of(table).since(before))
    assert since == {("Queue", "a"): HistogramReading(BOUNDS, (0, 0, 0, 1), 20.0, {})}


@pytest.mark.parametrize(
    ("declaration", "kind"),
    [
        (BYTES, number_series()),
        (DEPTH, gauge_series("sum")),
        (DEPTH, gauge_series("each")),
        (SIZES, histogram_series(BOUNDS)),
    ],
)
def test_updates_past_the_limit_are_counted(declaration: Any, kind: SeriesKind[Any]) -> None:
    """They are in the overflow series, and the usage says how many there were."""
    table = table_of(declaration, kind, limit=1)
    for key in (KEY, OTHER, OTHER, THIRD):
        get(table, key).add(2)
    family, usage = read_table(table, MemoryStorage().view(None))
    assert usage == (declaration.name, 1, 1, 3)
    assert [series.labels[:2] for series in family.series] == [("Queue", "a"), ("<overflow>", "")]


def test_cells_convert_what_is_no_number_as_their_kind_says() -> None:
    """Kinds that differ only there are equal: workers share their tables."""
    kind = number_series(lambda value: 4.0 if value == "four" else None)
    number = get(table_of(BYTES, kind))
    number.add("four")
    number.add("five")
    assert number.value == 4.0
    assert kind == number_series()
    assert gauge_series("max") != gauge_series("min")
    assert histogram_series((1.0,)) == histogram_series((1.0,)) != histogram_series((2.0,))


def test_a_table_that_is_dropped_is_freed() -> None:
    """Its storage does not keep it."""
    storage = MemoryStorage()
    table = weakref.ref(storage.table(BYTES, 5, NAMES, number_series()))
    gc.collect()
    assert table() is None


def test_a_forked_child_starts_from_nothing() -> None:
    """And its parent goes on."""
    storage = MemoryStorage()
    kinds = (
        (BYTES, number_series()),
        (DEPTH, gauge_series("sum")),
        (SIZES, histogram_series(BOUNDS)),
    )
    tables = [storage.table(declaration, 5, NAMES, kind) for declaration, kind in kinds]
    series = [get(table) for table in tables]
    for one in series:
        one.add(1)

    def work() -> None:
        assert [values_of(family_of(table)) for table in tables] == [{}, {}, {}]
        for one in series:
            one.add(3)
        assert [one.value for one in series[:2]] == [3.0, 3.0]
        assert series[2].value.counts == (0, 0, 1, 0)

    in_child(work)
    assert [one.value for one in series[:2]] == [1.0, 1.0]
    assert series[2].value.sum == 1.0
