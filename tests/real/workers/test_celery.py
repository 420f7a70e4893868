"""Celery: the sum of all prefork processes on one page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .programs import APPS, check_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Start

CELERY = (sys.executable, "-m", "celery", "--app=tasks", "worker", "--pool=prefork")
OPTIONS = ("--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat")


@pytest.fixture(autouse=True)
def _celery(need: Any) -> None:
    need("celery")


@pytest.fixture
def send(redis: str) -> Callable[[int], object]:
    """Give a function that sends so many tasks."""
    return lambda number: subprocess.run(
        [sys.executable, APPS / "broker.py", str(number)],
        env={**os.environ, "BROKER": redis},
        check=True,
    )


@pytest.mark.parametrize("option", [[], ["--max-tasks-per-child=5"]], ids=["for ever", "renewed"])
def test_the_page_has_the_sum(
    start: Start,
    send: Callable[[int], object],
    free_port: Callable[[], int],
    redis: str,
    option: list[str],
) -> None:
    """The page shows what all processes have counted, those that ended or were killed included."""
    port = free_port()
    program = start(*CELERY, *OPTIONS, *option, EXPORTER_PORT=str(port), BROKER=redis)
    tally = program.tally
    send(40)
    program.wait(lambda: tally.calls() == 40)
    assert len(tally.workers) > (6 if option else 1), program.log
    check_page(program, port)
    before = program.pids()
    os.kill(max(before), signal.SIGKILL)
    program.wait(lambda: len(now := program.pids()) == len(before) and now != before)
    send(20)
    program.wait(lambda: tally.calls() == 60)
    check_page(program, port)
