"""Everything is bounded: series, caches and the lives of objects."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]


def test_distinct_values_of_a_prop(run: Run, scale: Scale, figure: Note) -> None:
    """Past the limit all goes to the overflow, memory is bounded, and one line reports it."""
    values, most = scale(20_000, 1_000_000), scale(500, 2_000)
    found = run("memory.distinct_values", 300, values=values, limit=most)
    figure("held for 1 000 000 values with a limit of 2 000 series", found["held"], "MB", "≤ 2 MB")
    assert (found["series"], found["rest"]) == (most, most)
    assert found["overflow"] == values - most
    assert found["held"] <= 2
    (line,) = found["lines"]
    for part in ("function_counter_total", "caller_props_peer", "stress/programs/tools.py:"):
        assert part in line


def test_objects_that_come_and_go(run: Run, scale: Scale, figure: Note) -> None:
    """A process that makes, traces and drops objects does not grow."""
    number = scale(20_000, 1_000_000)
    found = run("memory.objects", 300, number=number)
    figure("growth over 1 000 000 objects", found["growth"], "MB", "≤ 2 MB")
    assert (found["series"], found["total"]) == (3, 3 * number)
    assert found["growth"] <= 2


def test_series_of_objects_that_come_and_go(run: Run, scale: Scale, figure: Note) -> None:
    """With their numbers as labels, objects that are gone have no series at the next scrape."""
    found = run("memory.objects_by_number", 600, number=scale(5_000, 1_000_000))
    figure("growth over 1 000 000 with separate series", found["growth"], "MB", "≤ 2 MB")
    figure("series of objects that are gone", found["dead"], "", "= 0")
    assert (found["living"], found["dead"]) == (100, 0)
    assert found["growth"] <= 2


# The caches of call sites and recorders fill up first: so the quick form is bounded by their size.
@pytest.mark.parametrize("what", ["code", "classes"])
def test_what_is_made_at_run_time(run: Run, scale: Scale, figure: Note, what: str) -> None:
    """Classes and code made at run time can be collected, and fill no cache for ever."""
    number = scale(2_000, 100_000)
    found = run(f"memory.dynamic_{what}", 300, number=number)
    figure(f"growth over 100 000 {what} made at run time", found["growth"], "MB", "≤ 40 MB")
    assert found["total"] == 2 * number
    assert found["growth"] <= 40
    assert found["living"] <= scale(number, 20_000)


def test_ever_new_ids(run: Run, scale: Scale, figure: Note) -> None:
    """Ids that never come again fill no cache for ever."""
    number = scale(5_000, 100_000)
    found = run("memory.trace_ids", 300, number=number)
    figure("growth over 100 000 trace ids", found["growth"], "MB", "≤ 40 MB")
    assert found["total"] == 2 * number
    assert found["growth"] <= 40


def test_objects_die_without_the_collector(run: Run, scale: Scale, figure: Note) -> None:
    """A traced object goes with its last reference, and tracing makes no cycles."""
    number = scale(1_000, 10_000)
    found = run("memory.collector_off", 300, number=number)
    figure("objects that outlive their last reference", found["living"], "", "= 0")
    figure("objects of ours that only the collector frees", len(found["ours"]), "", "= 0")
    assert (found["living"], found["ours"], found["errors"]) == (0, [], 4 * number)
