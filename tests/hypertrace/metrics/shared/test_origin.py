"""Origin: where and when counts began, as all workers that share them know it."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
from hypertrace.metrics.shared.origin import settled_origin
from hypertrace.metrics.storage import Origin

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_one_settles_it(tmp_path: Path) -> None:
    """Whatever others propose, at whichever time."""
    first = settled_origin(str(tmp_path), Origin("a" * 32, 1.5))
    assert first == Origin("a" * 32, 1.5)
    assert settled_origin(str(tmp_path), Origin("b" * 32, 2.5)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["origin"]


def test_processes_that_settle_it_at_once_agree(tmp_path: Path) -> None:
    """One of them is the first."""
    with ThreadPoolExecutor(8) as pool:
        proposed = [Origin.new() for _ in range(64)]
        found = set(pool.map(lambda one: settled_origin(str(tmp_path), one), proposed))
    assert len(found) == 1
    assert found <= set(proposed)


def test_where_it_cannot_be_kept_each_has_its_own(tmp_path: Path) -> None:
    """It is no reason to fail: the folder may be full, or gone."""
    proposed = Origin.new()
    assert settled_origin(str(tmp_path / "gone"), proposed) == proposed
    (tmp_path / "origin").write_text("no origin")
    assert settled_origin(str(tmp_path), proposed) == proposed


def test_metrics_that_share_their_counts_have_one_origin(tmp_path: Path) -> None:
    """Those in memory have their own, as each begins with it."""
    before = time.time()
    one, two = (Metrics(workers=str(tmp_path)) for _ in range(2))
    alone, other = Metrics(workers=False), Metrics(workers=False)
    origins = [metrics.storage.origin for metrics in (one, two, alone, other)]
    assert len(set(origins)) == 4  # the second of a process has another folder
    assert all(before <= origin.time <= time.time() for origin in origins)
    assert one.storage.origin == origins[0]


def test_the_origin_goes_along_with_the_counts(tmp_path: Path) -> None:
    """To the folder that takes the place of one that was removed."""
    metrics = Metrics(workers=str(tmp_path / "run"))
    set_trace_function(metrics)
    Tracer("shop").trace()
    origin = metrics.storage.origin
    shutil.rmtree(tmp_path / "run")
    metrics.read()
    assert metrics.storage.origin == origin
    assert (tmp_path / "run" / "origin").read_text().split()[0] == origin.id
    assert pytest.approx(float((tmp_path / "run" / "origin").read_text().split()[1])) == origin.time
