"""Fixtures for the tests of declared metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics import Metrics
from hypertrace.metrics.shared import directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Metrics]


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
