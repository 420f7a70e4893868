"""gunicorn: one sum on the page of every worker."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .programs import Counts, gauges_of, get, several

if TYPE_CHECKING:
    from .conftest import Serve
    from .programs import Site

GUNICORN = (
    sys.executable,
    Path(sys.executable).with_name("gunicorn"),  # with -m an upgrade finds other modules
    "--workers=3",
    "--bind=127.0.0.1:PORT",
)
APPLICATION = "wsgi:application"


@pytest.fixture(autouse=True)
def _gunicorn(need: Any) -> None:
    need("gunicorn")


def _replace_one(site: Site) -> int:
    """Kill an idle worker, and wait until another has taken its place."""
    killed = min(before := site.work(enough=several))
    site.kill(killed)
    site.work(enough=lambda workers: workers - before)
    return killed


@pytest.mark.parametrize(
    "options",
    [
        ["--worker-class=sync"],
        ["--worker-class=gthread", "--threads=4"],
        ["--worker-class=gevent"],
        ["--preload"],
    ],
    ids=["sync", "gthread", "gevent", "preload"],
)
def test_every_worker_shows_the_sum(serve: Serve, options: list[str]) -> None:
    """Each worker shows what all have counted, those that were killed among them."""
    site = serve(*GUNICORN, *options, APPLICATION)
    killed = _replace_one(site)
    assert killed not in site.check(several)


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["default", "preload"])
def test_gauges_are_those_of_living_workers(serve: Serve, options: list[str]) -> None:
    """Gauges that are set, added to or read show the living by their modes, on every page."""
    site = serve(*GUNICORN, "--workers=4", *options, APPLICATION)
    killed = min(before := site.work(enough=lambda workers: len(workers) == 4))
    site.kill(killed)
    site.work(enough=lambda workers: workers >= before - {killed} and workers - before)
    last = get(f"{site.url}/work").worker
    calls = {pid: n for pid, n in site.program.tally.workers.items() if pid != killed}
    numbers = sorted(calls.values())
    assert len(numbers) == 4
    by_mode = {
        "sum": [sum(numbers)],
        "max": [numbers[-1]],
        "min": [numbers[0]],
        "mean": [sum(numbers) / 4],
        "latest": [calls[last or 0]],
        "each": numbers,
    }
    expected = {f"{mode}_calls": values for mode, values in by_mode.items()}
    expected |= {"work_added": by_mode["sum"], "direct_added": by_mode["sum"]}
    del by_mode["latest"]
    expected |= {f"{mode}_pulled": values for mode, values in by_mode.items()}

    def are_shown() -> bool:  # no assertion: to put each failed one into words may take minutes
        pages = site.pages(lambda workers: len(workers) == 4)
        return all(gauges_of(page.text) == expected for page in pages)

    site.program.wait(are_shown)  # workers read their pull gauges for others every 5 seconds


def test_what_the_master_counted_is_counted_once(serve: Serve) -> None:
    """Calls in a preloading master are in the sum, once, and no worker repeats them."""
    site = serve(*GUNICORN, "--preload", APPLICATION, WORK_AT_IMPORT="7")
    site.check(several)
    _replace_one(site)
    site.check(several)


def test_workers_that_end_after_some_requests(serve: Serve) -> None:
    """Counts of workers that `--max-requests` has ended stay in the sum."""
    site = serve(*GUNICORN, "--max-requests=10", APPLICATION)
    assert len(site.work(100)) > 4
    site.check(several)


def test_a_daemon(serve: Serve, tmp_path: Path) -> None:
    """A gunicorn that left its terminal and session shares as another does."""
    site = serve(*GUNICORN, "--daemon", f"--pid={tmp_path / 'pid'}", APPLICATION)
    assert site.program.process.wait(10) == 0
    _replace_one(site)
    site.check(several)


def test_a_reload(serve: Serve) -> None:
    """Workers that took over at a reload by HUP show what those before them counted."""
    site = serve(*GUNICORN, APPLICATION)
    before = site.program.pids() - {site.program.process.pid}
    site.work(enough=several)
    os.kill(site.program.process.pid, signal.SIGHUP)
    site.program.wait(lambda: not before & site.program.pids())
    site.work()
    assert not site.check(several) & before


def test_an_upgrade(serve: Serve) -> None:
    """Old and new workers share while an upgrade by USR2 goes on, and the new ones after it."""
    site = serve(*GUNICORN, APPLICATION)
    old = site.program.process.pid
    before = site.program.pids()
    site.work(enough=several)
    os.kill(old, signal.SIGUSR2)
    site.program.wait(lambda: len(site.program.pids()) == 2 * len(before))

    def of_both(workers: set[int]) -> bool:
        return bool(workers & before and workers - before)

    site.work(enough=of_both)
    site.check(of_both)
    os.kill(old, signal.SIGTERM)
    site.program.process.wait(30)
    site.program.wait(lambda: not before & site.program.pids())
    site.work()
    assert not site.check(several) & before
    site.kill(min(site.work(enough=several)))
    site.work()
    site.check(several)


def test_workers_killed_at_work(serve: Serve) -> None:
    """The sum is within what was under way when workers were killed, and the same on all pages."""
    site = serve(*GUNICORN, APPLICATION)

    tally = site.program.tally

    def kill_one(calls: int) -> bool:
        site.program.wait(lambda: tally.done >= calls)
        site.kill(max(tally.workers.keys() & site.program.pids()))
        return True

    site.load(lambda: [kill_one(calls) for calls in range(30, 180, 30)])
    sums = {Counts.of(page.text).traced for page in site.pages(several)}
    assert len(sums) == 1
    assert tally.done <= sums.pop() <= tally.begun


def test_a_preloading_master_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    """A gunicorn whose master has an exporter removes its files when it ends as usual."""
    site = serve(*GUNICORN, "--preload", APPLICATION, XDG_RUNTIME_DIR=str(tmp_path))
    _replace_one(site)
    assert _run_directories(tmp_path)
    site.program.stop()
    assert _run_directories(tmp_path) == []


def test_what_a_master_without_exporter_leaves_is_removed(serve: Serve, tmp_path: Path) -> None:
    """What workers leave, as others may follow them, goes when the next program starts."""
    for _ in range(3):
        site = serve(*GUNICORN, APPLICATION, XDG_RUNTIME_DIR=str(tmp_path))
        _replace_one(site)
        site.check(several)
        (directory,) = _run_directories(tmp_path)
        site.program.stop()
        if directory.exists():
            long_ago = time.time() - 1000
            os.utime(directory, (long_ago, long_ago))


def _run_directories(runtime: Path) -> list[Path]:
    return [path for path in runtime.glob("hypertrace-*/*") if path.is_dir()]
