"""Exports: how exporters that push fare, as readings show it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace.metrics import Metrics, declarations, exports

from .readings import values, values_in

if TYPE_CHECKING:
    from hypertrace.metrics import Reading

NAMES = [one.name for one in declarations.EXPORTS]
SENT, FAILED, DROPPED, BYTES, SECONDS, LAST = NAMES


def by_exporter(reading: Reading, name: str) -> dict[str, float]:
    return {exporter: value for (exporter,), value in values_in(reading, name, "exporter").items()}


@pytest.fixture(params=[False, "auto"], ids=["memory", "shared"])
def metrics(request: pytest.FixtureRequest) -> Metrics:
    """Give metrics of each storage."""
    return Metrics(workers=request.param)


def test_without_an_exporter_there_are_no_families(metrics: Metrics) -> None:
    """Readings of a program that pushes nothing say nothing of it."""
    assert [family.name for family in metrics.read().families if family.name in NAMES] == []


def test_an_exporter_is_shown_with_zeros_at_first(metrics: Metrics) -> None:
    """A rate needs the number before the first one; of the last success there is none yet."""
    counts = metrics.exports.add("Sender")
    reading = metrics.read()
    for name in NAMES[:-1]:
        assert by_exporter(reading, name) == {"Sender": 0}
    assert by_exporter(reading, LAST) == {}
    assert (counts.sent, counts.failed, counts.dropped) == (0, 0, 0)
    assert not metrics.storage.is_worker


def test_what_it_does_is_counted(metrics: Metrics) -> None:
    """Each count is in the readings, and those that have an attribute are in that, too."""
    counts, before = metrics.exports.add("Sender"), time.time()
    counts.count_attempt()
    counts.count_sent()
    for _ in range(2):
        counts.count_failed()
    counts.count_dropped(3)
    counts.count_dropped(0)
    counts.count_bytes(400)
    counts.count_bytes(100)
    counts.count_seconds(0.25)
    counts.count_seconds(-1.0)  # a clock that was set back
    reading = metrics.read()
    found = [by_exporter(reading, name) for name in NAMES[:-1]]
    assert found == [{"Sender": number} for number in (1, 2, 3, 500, 0.25)]
    assert before <= by_exporter(reading, LAST)["Sender"] <= time.time()
    assert (counts.sent, counts.failed, counts.dropped) == (1, 2, 3)
    rest = metrics.read(since=reading)
    assert [by_exporter(rest, name) for name in NAMES[:-1]] == [{}] * 5


def test_until_a_success_the_first_attempt_is_shown(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that never succeeded ages like one that did, and one that was stopped does not."""
    counts, now = metrics.exports.add("Sender"), [100.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    for moment, count in (
        (100.0, counts.count_attempt),
        (200.0, counts.count_attempt),
        (300.0, counts.count_sent),
        (400.0, counts.count_attempt),
    ):
        now[0] = moment
        count()
        expected = {100.0: 100.0, 200.0: 100.0}.get(moment, 300.0)
        assert by_exporter(metrics.read(), LAST) == {"Sender": expected}
    counts.end()
    assert by_exporter(metrics.read(), LAST) == {}
    assert by_exporter(metrics.read(), SENT) == {"Sender": 1}


def test_several_of_a_kind_have_numbers(metrics: Metrics) -> None:
    """The second one is the second one of its kind, whatever else there is."""
    for kind in ("A", "B", "A", "A"):
        metrics.exports.add(kind).count_sent()
    expected = {"A": 1, "A-2": 1, "A-3": 1, "B": 1}
    assert by_exporter(metrics.read(), SENT) == expected


def test_threads_may_make_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two have one name, under which the next process that leads would mix them up."""

    class Kind(str):
        __slots__ = ()

        def __hash__(self) -> int:
            time.sleep(0.0001)  # another thread runs wherever the name is looked up
            return 1

    monkeypatch.setattr(exports, "ExportCounts", lambda _, name: name)
    all_exports, kind = Metrics(workers=False).exports, Kind("Sender")
    names: list[Any] = []
    threads = [
        threading.Thread(target=lambda: names.extend([all_exports.add(kind) for _ in range(20)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == len(names) == 80


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_counts_from_zero(metrics: Metrics) -> None:
    """Its attributes are those of the child; shared readings are sums."""
    counts = metrics.exports.add("Sender")
    counts.count_sent()
    if (child := os.fork()) == 0:
        counts.count_sent()
        counts.count_bytes(10)
        os._exit(counts.sent)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert counts.sent == 1
    shared = metrics.storage.is_shared
    assert by_exporter(metrics.read(), SENT) == {"Sender": 2 if shared else 1}
    assert by_exporter(metrics.read(), BYTES) == {"Sender": 10 if shared else 0}


WORKER = """
import sys
from hypertrace.metrics import Metrics

metrics = Metrics(workers=sys.argv[1])
metrics.exports.add("Sender").count_sent()
"""


def test_an_observer_counts_for_itself(tmp_path: Path) -> None:
    """A process that exports what others share is no worker, and stands beside their exporters."""
    subprocess.run(
        [sys.executable, "-P", "-c", WORKER, tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        check=True,
    )
    observer = Metrics(workers=tmp_path / "run")
    if not observer.storage.is_shared:
        pytest.skip("processes share no counts on this system")
    observer.storage.is_observer = True  # as `hypertrace serve` does
    counts = observer.exports.add("Sender")
    counts.count_sent()
    counts.count_sent()
    assert by_exporter(observer.read(), SENT) == {"Sender": 1, "Sender-observer": 2}
    assert not observer.storage.is_worker


def test_very_many_are_counted_together() -> None:
    """A program that makes exporters without end grows by nothing more."""
    metrics = Metrics(workers=False)
    for _ in range(1_010):
        metrics.exports.add("Sender").count_sent()
    found = values(metrics, SENT, "exporter")
    assert len(found) == 1_001
    assert found["<overflow>",] == 10
