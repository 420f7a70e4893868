"""RQ, which forks a process for each job: the sum of all jobs on one page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .programs import APPS, check_page, run_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Start


@pytest.fixture(autouse=True)
def _rq(need: Any) -> None:
    need("rq")


@pytest.fixture
def enqueue(redis: str) -> Callable[[str, int], object]:
    """Give a function that enqueues a function so many times."""
    return lambda function, number: subprocess.run(
        [sys.executable, APPS / "enqueue.py", redis, function, str(number)],
        env={**os.environ, "TALLY": "", "FOLDER": ""},
        check=True,
    )


def test_jobs_of_a_worker_that_knows_them(
    redis: str,
    enqueue: Callable[[str, int], object],
    start: Start,
    free_port: Callable[[], int],
) -> None:
    """A worker that imported its jobs serves a page with the sum of all, a killed one included."""
    port = free_port()
    program = start(sys.executable, APPS / "rq_worker.py", redis, EXPORTER_PORT=str(port))
    enqueue("jobs.do", 8)
    program.wait(lambda: program.tally.calls() == 8)
    assert len(program.tally.workers) == 8
    check_page(program, port)
    enqueue("jobs.hold", 1)
    program.wait(lambda: program.tally.calls() == 9)
    os.kill(max(program.pids()), signal.SIGKILL)
    enqueue("jobs.do", 2)
    program.wait(lambda: program.tally.calls() == 11)
    check_page(program, port)


def test_jobs_of_a_worker_that_does_not_know_them(
    redis: str,
    enqueue: Callable[[str, int], object],
    start: Start,
    free_port: Callable[[], int],
) -> None:
    """With `rq worker`, a job at work serves a page with the sum of all that were before it."""
    port = free_port()
    rq = Path(sys.executable).with_name("rq")
    program = start(sys.executable, rq, "worker", "--url", redis, EXPORTER_PORT=str(port))
    enqueue("jobs.do", 5)
    enqueue("jobs.hold", 1)
    program.wait(lambda: program.tally.calls() == 6)
    check_page(program, port)
    os.kill(max(program.pids()), signal.SIGKILL)
    enqueue("jobs.hold", 1)
    program.wait(lambda: program.tally.calls() == 7)
    check_page(program, port)
    (program.folder / "go").touch()
    run_until(lambda: len(program.pids()) == 1)
