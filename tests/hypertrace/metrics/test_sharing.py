"""Sharing: when counts are in files, when in memory, and what is said about it."""

from __future__ import annotations

import builtins
import logging
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics import Metrics, sharing
from hypertrace.metrics.shared.storage import SharedStorage
from hypertrace.metrics.storage import MemoryStorage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    sharing._report.cache_clear()
    caplog.set_level(logging.WARNING, "hypertrace.metrics")


def test_counts_are_shared_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory of this program; False and the variable keep them in memory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    metrics = Metrics()
    assert isinstance(metrics.storage, SharedStorage)
    assert metrics.storage.directory.path.startswith(str(tmp_path))
    metrics.close()
    assert isinstance(Metrics(workers=False).storage, MemoryStorage)
    monkeypatch.setenv("HYPERTRACE_WORKERS", "0")
    assert isinstance(Metrics(workers=str(tmp_path)).storage, MemoryStorage)


@pytest.mark.parametrize("workers", [True, "/srv/counts"])
def test_series_of_objects_are_not_shared(workers: Any) -> None:
    """Asking for both is an error that says what to do; `auto` gives way without a word."""
    with pytest.raises(ValueError, match=r"object_ids=True excludes .*pass workers=False"):
        Metrics(workers=workers, object_ids=True)


def test_series_of_objects_are_in_memory(caplog: Any) -> None:
    """Nothing is said where nothing was asked for."""
    assert isinstance(Metrics(object_ids=True).storage, MemoryStorage)
    assert caplog.records == []


def test_without_a_gil_pure_python_does_not_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """An increment would not be one step: counts are in memory, and a warning says so once."""
    monkeypatch.setattr(sharing, "CAN_SHARE", False)
    for _ in range(3):
        assert isinstance(Metrics(workers=str(tmp_path)).storage, MemoryStorage)
    (record,) = caplog.records
    assert "compiled core" in record.getMessage()
    assert Metrics(workers=str(tmp_path)).storage.problem == record.getMessage()
    assert Metrics(workers=False).storage.problem == ""
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_file_locks_does_not_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """As on Windows: a warning says so once."""
    imported = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "shared.storage":
            raise ImportError("No module named 'fcntl'")
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    for _ in range(2):
        assert isinstance(Metrics(workers=str(tmp_path)).storage, MemoryStorage)
    (record,) = caplog.records
    assert "no file locks" in record.getMessage()


def test_a_broken_log_handler_does_not_end_the_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it raises is swallowed; the counts are in memory."""

    class Broken(logging.Handler):
        def emit(self, record: object) -> None:
            raise RuntimeError

    handler = Broken()
    logger = logging.getLogger("hypertrace.metrics")
    logger.addHandler(handler)
    try:
        assert isinstance(Metrics(workers="/dev/null/x").storage, MemoryStorage)
    finally:
        logger.removeHandler(handler)
