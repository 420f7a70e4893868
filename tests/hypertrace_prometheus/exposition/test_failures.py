"""Collectors that failed: counted by their class, and logged."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import rate_limit
from hypertrace.metrics import Metrics
from hypertrace_prometheus.exposition.failures import FAILED, Failures

from ..running import in_threads

if TYPE_CHECKING:
    from pathlib import Path

ERROR = RuntimeError("the pool is closed")


class Pool:
    pass


NAME = f"{Pool.__module__}.Pool"


def counts(failures: Failures) -> dict[str, int]:
    """Give the number of failures of each class."""
    family = failures.read()
    assert family.declaration is FAILED
    return {name: value for (name,), value in family.points}  # type: ignore[misc]


def test_failures_are_counted_by_class() -> None:
    """Each failure raises the number of the collector's class, whatever object it was."""
    counted = Failures()
    assert counts(counted) == {}
    collector: object
    for collector in (Pool(), Pool(), {}):
        counted.count(collector, ERROR)
    assert counts(counted) == {NAME: 2, "builtins.dict": 1}


def test_a_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the class, and shows where the collector raised."""

    def collect() -> None:
        raise ERROR

    with pytest.raises(RuntimeError) as caught:
        collect()
    Failures().count(Pool(), caught.value)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("hypertrace_prometheus", "ERROR")
    assert NAME in record.getMessage()
    assert "the pool is closed" in caplog.text
    assert ", in collect" in caplog.text


def test_a_class_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class is logged once a minute; the next line has the number of failures left out."""
    now = 1000.0
    monkeypatch.setattr(rate_limit, "monotonic", lambda: now)
    counted = Failures()
    for _ in range(5):
        counted.count(Pool(), ERROR)
    counted.count({}, ERROR)
    assert len(caplog.records) == 2
    now += 60.0
    counted.count(Pool(), ERROR)
    assert "(4 more failures not logged)" in caplog.messages[-1]
    assert counts(counted)[NAME] == 6


def test_threads_are_reported_exactly(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of failures in threads at once one is logged, and the next line counts all the others."""
    now = 1000.0
    monkeypatch.setattr(rate_limit, "monotonic", lambda: now)
    counted, together = Failures(), threading.Barrier(2)

    class Met(dict[str, Any]):
        """Lets two threads find no limit at the same time."""

        def get(self, key: str, default: Any = None) -> Any:
            found = super().get(key, default)
            if not caplog.records:
                together.wait(10)
            return found

    counted._log_limits = Met()
    in_threads(*[partial(counted.count, Pool(), ERROR)] * 2)
    assert len(caplog.records) == 1
    for _ in range(3):
        counted.count(Pool(), ERROR)
    now += 60.0
    counted.count(Pool(), ERROR)
    left_out = [int(message.rpartition("(")[2].split()[0]) for message in caplog.messages]
    assert sum(left_out) + len(left_out) == counts(counted)[NAME] == 6
    assert min(left_out) >= 0


def test_a_class_is_shown_before_it_fails() -> None:
    """A collector that may fail is shown with 0, and keeps its count when it is expected again."""
    counted = Failures()
    counted.expect(Pool())
    assert counts(counted) == {NAME: 0}
    counted.count(Pool(), ERROR)
    counted.expect(Pool())
    assert counts(counted) == {NAME: 1}


def test_classes_without_end_share_a_name(caplog: pytest.LogCaptureFixture) -> None:
    """Past a hundred classes, such as those made at run time, the rest is counted together."""
    counted = Failures()
    for number in range(150):
        counted.count(type(f"Made{number}", (), {})(), ERROR)
    assert len(counts(counted)) == 101
    assert counts(counted)["<other>"] == 50
    assert len(caplog.records) == 101


@pytest.mark.parametrize("name", ["\ud800", "x" * 10_000], ids=["no Unicode", "long"])
def test_any_name_is_fit_for_a_label(name: str) -> None:
    """The names of a class and its module are cut, and made text."""
    counted = Failures()
    counted.count(type("Made", (), {"__module__": name})(), ERROR)
    ((shown, _),) = counts(counted).items()
    assert len(shown.encode()) <= 256


@pytest.mark.parametrize("attribute", ["__module__", "__qualname__"])
def test_a_class_that_cannot_be_named_is_counted(attribute: str) -> None:
    """A class whose metaclass raises for its name is counted under the one that Python knows."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            if name == attribute:
                raise RuntimeError("no name")
            return super().__getattribute__(name)

    class Nameless(metaclass=Meta):
        pass

    counted = Failures()
    counted.count(Nameless(), ERROR)
    assert counts(counted) == {"Nameless": 1}


def test_a_broken_log_handler_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the log handler costs neither the count nor the page."""

    def fail(record: logging.LogRecord) -> None:
        raise OSError("the disk is full")

    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", fail)
    logger = logging.getLogger("hypertrace_prometheus")
    logger.addHandler(handler)
    counted = Failures()
    try:
        counted.count(Pool(), ERROR)
    finally:
        logger.removeHandler(handler)
    assert counts(counted) == {NAME: 1}


@pytest.mark.parametrize("workers", [False, True], ids=["in memory", "shared"])
def test_failures_are_those_of_a_view_and_of_this_process_since(
    tmp_path: Path, workers: bool
) -> None:
    """A page that is made from one view has the failures of that collection, each once."""
    metrics = Metrics(workers=str(tmp_path / "counts") if workers else False)
    counted = Failures(metrics.storage)
    counted.count(Pool(), ERROR)
    read = counted.after(metrics.storage.view(None))
    assert dict(read().points) == {(NAME,): 1}
    counted.count(Pool(), ERROR)
    counted.count({}, ERROR)
    assert dict(read().points) == {(NAME,): 2, ("builtins.dict",): 1}
    assert counts(counted) == {NAME: 2, "builtins.dict": 1}
