"""Workers: processes that share counts, and are killed, stopped, forked and started again."""

from collections.abc import Callable
from typing import Any

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]


def test_counts_are_exact_while_workers_and_scrapers_are_killed(
    run: Run, scale: Scale, figure: Note
) -> None:
    """The sums are what the workers say, but for what was under way when they ended."""
    found = run("workers.kills", 600, workers=scale(3, 8), killed=scale(30, 300), scrapers=2)
    figure(
        "counts missing or too many after kill -9", found["missing"] + found["too_many"], "", "= 0"
    )
    assert found["counted"] > 1_000
    assert (found["missing"], found["too_many"], found["fell"]) == (0, 0, 0)
    assert found["spans"]
    assert all(found["sums"])
    assert found["files"] <= 3


def test_a_folder_is_killed_at_each_step(run: Run, scale: Scale, figure: Note) -> None:
    """Before and after it has renamed the sums, nothing is lost or counted twice."""
    found = run("workers.folders", 600, times=scale(3, 300))
    figure("wrong sums after a folder was killed", len(found["wrong"]), "", "= 0")
    assert found == {"wrong": [], "left": []}


def test_restarts_leave_nothing(run: Run, scale: Scale, figure: Note) -> None:
    """With scrapes, files, bytes and the time of a scrape stay the same."""
    found = run("workers.churn", 600, restarts=scale(60, 1_000), series=100, scraped=True)
    figure("files of workers left by restarts", found["left"], "", "≤ 3")
    figure("bytes of a run directory after restarts", found["bytes"] / 1024, "KiB", "≤ 64 KiB")
    assert found["missing"] == 0
    assert found["left"] <= 3
    assert found["most"] <= 10 + 3
    assert found["grew"] <= 8192
    assert found["bytes"] <= 64 * 1024
    assert found["slower"] < scale(10, 3)


def test_restarts_without_scrapes_are_bounded(run: Run, scale: Scale, figure: Note) -> None:
    """Forked workers fold by themselves what is gone."""
    found = run("workers.churn", 600, restarts=scale(60, 1_000), series=100, scraped=False)
    figure("most files of workers without a scrape", found["most"], "", "≤ 20")
    assert found["missing"] == 0
    assert found["most"] <= 20


def test_programs_that_start_again_without_scrapes_are_bounded(
    run: Run, scale: Scale, figure: Note
) -> None:
    """A program that is started again and again, and shares by a path, folds, too."""
    found = run("workers.programs", 600, restarts=scale(25, 200))
    figure("most files of restarted programs without a scrape", found["most"], "", "≤ 20")
    assert found["missing"] == 0
    assert found["most"] <= 20


def test_forks_while_threads_make_shared_series(run: Run, scale: Scale, figure: Note) -> None:
    """No child hangs, and all of them and their parent are in the sums."""
    found = run("workers.forks", 600, times=scale(15, 300), threads=4)
    figure("forked children that hung, with shared counts", found["hung"], "", "= 0")
    assert found == {"hung": 0, "failed": 0, "missing": 0, "spans": 0}


def test_no_reading_is_torn(run: Run, scale: Scale, figure: Note) -> None:
    """Count, buckets and sum of a histogram agree, and no count falls, while others write."""
    found = run("workers.torn", 600, readings=scale(300, 20_000), workers=2)
    figure("torn readings of histograms", len(found["wrong"]), "", "= 0")
    assert found == {"wrong": [], "fell": 0, "negative": []}


def test_the_limit_of_series_is_the_same_for_all(run: Run, scale: Scale, figure: Note) -> None:
    """Workers that want more hold the same ones; the overflow has the rest, and no call is lost."""
    found = run(
        "workers.limits",
        600,
        workers=scale(4, 8),
        wanted=scale(360, 3_600),
        limit=scale(100, 1_000),
    )
    limit = scale(100, 1_000)
    figure("series past the limit over all workers", found["held"] - limit, "", "= 0")
    assert set(found["ends"]) == {0}
    assert found["held"] == limit
    assert found["seen"] == [limit + 1]
    assert found["missing"] == 0
    assert found["overflow"] == found["least"]


def test_a_stopped_worker_is_read_and_not_folded(run: Run, scale: Scale, figure: Note) -> None:
    """SIGSTOP stops no scrape; what it counted is there, also when it goes on."""
    found = run("workers.stopped", 600, scrapes=scale(20, 200))
    figure("slowest scrape beside a stopped worker", found["slowest"], "s", "≤ 0.5 s")
    assert found["right"]
    assert found["after"]
    assert found["folded"] == 0
    assert found["slowest"] < scale(2, 0.5)


def test_series_that_get_no_file_take_no_descriptor(run: Run, scale: Scale) -> None:
    """Each new series tries to make the file again, and leaves nothing open."""
    found = run("workers.descriptors", 60, series=200)
    assert found == {"descriptors": 0, "missing": 0}
