"""Prometheus that scrapes programs of several processes: what it holds is what they did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from .programs import several

if TYPE_CHECKING:
    from .conftest import Serve


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in the conftest.py above."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


TRACED = 'function_counter_total{id="traced"}'


def test_the_increase_is_what_was_done(
    serve: Serve, need: Any, start_prometheus: Any, free_port: Any
) -> None:
    """The increase over a run with killed workers is the number of calls, to the last one."""
    need("gunicorn")
    command = (sys.executable, "-m", "gunicorn", "--workers=4", "--bind=127.0.0.1:PORT")
    site = serve(*command, "wsgi:application")
    site.work(10)
    before_it = site.program.tally.calls()
    prometheus: Prometheus = start_prometheus(int(site.url.rpartition(":")[2]))
    prometheus.wait_for_scrape("hypertrace")
    for _ in range(4):
        before = site.work(60, enough=several)
        site.kill(max(before))
        prometheus.wait_for_scrape("hypertrace")
    site.work(60, enough=several)
    prometheus.wait_for_scrape("hypertrace")
    calls = site.program.tally.calls()
    ((_, last),) = prometheus.query(TRACED)
    assert last == calls
    assert prometheus.query(f"resets({TRACED}[10m])")[0][1] == 0
    assert _increase(prometheus) == calls - before_it


def _increase(prometheus: Prometheus) -> int:
    """Ask for `increase` from the first scrape to the last, so that nothing is extrapolated."""
    ((_, first),) = prometheus.query(f"min_over_time(timestamp({TRACED})[10m:1s])")
    ((_, last),) = prometheus.query(f"timestamp({TRACED})")
    # The range ends at the last scrape; 2 ms more than it takes to hold the first one.
    milliseconds = round((last - first) * 1000) + 2
    ((_, increase),) = prometheus.query(f"increase({TRACED}[{milliseconds}ms] @ {last:.3f})")
    return round(increase)
