"""Celery: the sum of all prefork processes on one page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .programs import APPS, check_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def _pushed(path: Path) -> int:
    """Add up the calls in the lines of all processes."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    points = [point for line in lines for point in line["metrics"]]
    return sum(
        point["value"]
        for point in points
        if point["name"] == "function_counter_total" and point["labels"].get("id") == "traced"
    )


@pytest.mark.parametrize("workers", ["auto", "0"], ids=["shared", "each for itself"])
@pytest.mark.parametrize("option", [[], ["--max-tasks-per-child=5"]], ids=["for ever", "renewed"])
def test_the_last_counts_are_pushed(
    start: Start,
    send: Callable[[int], object],
    redis: str,
    tmp_path: Path,
    option: list[str],
    workers: str,
) -> None:
    """When the worker is ended by SIGTERM, an exporter has sent what all its processes counted."""
    path = tmp_path / "lines"
    command = [*CELERY[:3], "--app=pushed", *CELERY[4:], *OPTIONS, *option]
    program = start(
        *command, "--loglevel=INFO", HYPERTRACE_WORKERS=workers, LINES=str(path), BROKER=redis
    )
    send(40)
    program.wait(lambda: program.tally.calls() == 40)
    if workers == "auto":
        # Celery may wait for ever for the result of a task that was killed.
        program.wait(lambda: program.log.count(" succeeded in ") == 40)
        before = program.pids()
        os.kill(max(before), signal.SIGKILL)
        program.wait(lambda: len(now := program.pids()) == len(before) and now != before)
        send(10)
        program.wait(lambda: program.log.count(" succeeded in ") == 50)
    os.kill(program.process.pid, signal.SIGTERM)
    program.wait(lambda: program.process.poll() is not None or None)
    assert _pushed(path) == program.tally.calls(), program.log
