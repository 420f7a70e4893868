"""Every event is counted exactly once: threads, races, finalizers, signals, tasks, odd clocks."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]


def test_threads_that_switch_all_the_time(run: Run, scale: Scale, figure: Note) -> None:
    """Sixteen threads lose no count, and no scrape meanwhile shows less than the one before."""
    calls = scale(8_000, 1_000_000)
    found = run("counting.threads", 600, number=16, calls=calls)
    figure("calls of 16 threads that are missing", 16 * calls - found["total"], "", "= 0")
    figure("scrapes meanwhile in which a series went down", len(found["went down"]), "", "= 0")
    figure("histograms whose buckets did not add up", len(found["unequal"]), "", "= 0")
    assert found["series"] == [4 * calls] * 4
    assert (found["went down"], found["unequal"]) == ([], [])
    assert found["pages"] >= scale(2, 50)


def test_threads_that_race_for_series(run: Run, scale: Scale, figure: Note) -> None:
    """Threads that make the same series at once get one each, and the limit is exact."""
    series, limit = scale(2_000, 200_000), scale(200, 2_000)
    found = run("counting.races", 600, number=16, series=series, limit=limit)
    figure("series past the limit, made by 16 threads at once", found["series"] - limit, "", "= 0")
    assert found == {"series": limit, "each": [16], "overflow": 16 * (series - limit)}


@pytest.mark.parametrize("upstream", [False, True], ids=["counting", "with upstream"])
def test_finalizers_and_signal_handlers(
    run: Run, scale: Scale, figure: Note, *, upstream: bool
) -> None:
    """What traces in the middle of tracing hangs nothing and is counted."""
    seconds = scale(1.5, 10.0)
    found = run("counting.finalizers_and_signals", 120, seconds=seconds, upstream=upstream)
    figure("missing calls, of finalizers and signal handlers, too", found["missing"], "", "= 0")
    assert (found["missing"], found["dropped"]) == (0, 0)
    assert min(found["calls"].values()) > 100
    assert found["pages"] > 2


def test_tasks_that_wait(run: Run, scale: Scale, figure: Note) -> None:
    """Tasks lose no count, and leave no span open."""
    tasks, calls = scale(200, 1_000), scale(100, 1_000)
    found = run("counting.tasks", 300, number=tasks, calls=calls)
    figure("calls of 1 000 tasks that are missing", tasks * calls - found["total"], "", "= 0")
    assert (found["total"], found["open"]) == (tasks * calls, 0)


@pytest.mark.parametrize("program", ["patched.greenlets", "counting.greenlets_patched_after"])
def test_greenlets(run: Run, scale: Scale, figure: Note, program: str) -> None:
    """Greenlets lose no count, whether gevent patched before hypertrace was imported or after."""
    pytest.importorskip("gevent")
    number, calls = scale(50, 1_000), scale(100, 500)
    found = run(program, 300, number=number, calls=calls)
    figure("calls of greenlets that are missing", 2 * number * calls - found["total"], "", "= 0")
    assert (found["total"], found["down"]) == (2 * number * calls, False)


def test_odd_durations_poison_no_series(run: Run, scale: Scale, figure: Note) -> None:
    """Durations that are none are counted as none, and leave sums and buckets as they were."""
    spans = scale(5_000, 500_000)
    found = run("counting.odd_durations", 120, spans=spans, seed=3)
    figure("sums of durations that are off", found["sum is off by"], "s", "= 0 s")
    assert found["sum is off by"] < 1e-6
    assert (found["negative"], found["not finite"], found["unequal"]) == ([], [], [])
    assert found["total"] == spans
    assert found["swallowed"] == 0


def test_the_wall_clock_may_jump(run: Run, scale: Scale, figure: Note) -> None:
    """Setting the system's clock does nothing to durations."""
    spans = scale(1_000, 100_000)
    found = run("counting.clock_that_jumps", spans=spans)
    figure("longest sum of empty spans while the clock jumps", found["seconds"], "s", "≤ 10 s")
    assert found["total"] == spans
    assert 0 <= found["seconds"] < 10
