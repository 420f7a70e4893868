"""Fixtures for the tests of declared metrics."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics import Metrics
from hypertrace.metrics.shared import directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Metrics]
    InChild = Callable[[Callable[[], object]], None]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Give a function that makes metrics in one run directory, each as a worker would."""
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    folder = str(tmp_path / "run")
    made: list[Metrics] = []

    def make(**options: Any) -> Metrics:
        directory._ordinals.pop((folder, ""), None)
        made.append(Metrics(workers=folder, **options))
        return made[-1]

    yield make
    for metrics in made:
        metrics.close()


@pytest.fixture(params=["in memory", "shared"])
def metrics(request: pytest.FixtureRequest) -> Metrics:
    """Give metrics of each storage."""
    if request.param == "in memory":
        return Metrics(workers=False)
    made: Metrics = request.getfixturevalue("worker")()
    return made


@pytest.fixture
def in_child() -> InChild:
    """Give a function that runs something in a forked child, and fails if that raises."""

    def run(work: Callable[[], object]) -> None:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work()
                status = 0
            except BaseException:  # noqa: BLE001 -- shown, and reported by the exit code
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return run
