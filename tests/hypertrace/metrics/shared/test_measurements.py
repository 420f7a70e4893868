"""Shared measurements: sums, gauges and histograms of workers, of which some are killed."""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Caller
from hypertrace.metrics import Declaration, HistogramReading
from hypertrace.metrics.measurements import MERGED
from hypertrace.metrics.series_kinds import gauge_series, histogram_series, number_series
from hypertrace.metrics.shared import directory
from hypertrace.metrics.shared.segment import HEAD_SIZE
from hypertrace.metrics.shared.storage import SharedStorage, open_storage
from hypertrace.metrics.tables import read_table, with_others

from ....running import in_child, in_threads
from .segment_files import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics.reading import Family
    from hypertrace.metrics.storage import View

BOUNDS = (-1.0, 0.0, 10.0)
MODES = (*MERGED, "each")
NOWHERE = Caller("", "", None, 0, 0)
NAMES = ("class",), ("queue",)


class Worker:
    """A storage with a table of each kind, as one process of an application has it."""

    def __init__(self, folder: str, limit: int = 10, description: str = "") -> None:
        """Open a run directory, as the first `Metrics` of a process."""
        directory._ordinals.pop((folder, ""), None)
        storage = open_storage(folder, name="")
        assert isinstance(storage, SharedStorage)
        self.storage = storage
        kinds: list[tuple[Any, Any]] = [
            (Declaration("counter", "bytes", description=description), number_series()),
            (Declaration("histogram", "sizes", description=description), histogram_series(BOUNDS)),
            *[
                (Declaration("gauge", mode, description=description), gauge_series(mode))  # type: ignore[arg-type]
                for mode in MODES
            ],
        ]
        self.tables = {
            declaration.name: storage.table(declaration, limit, NAMES, kind)
            for declaration, kind in kinds
        }

    def get(self, name: str, queue: str = "a") -> Any:
        """Return a series."""
        return self.tables[name].get((("Queue",), (queue,)), NOWHERE)

    def put(self, value: float, queue: str = "a") -> None:
        """Add to the sum and to the histogram, and set the gauges."""
        self.get("bytes", queue).add(abs(value))
        self.get("sizes", queue).add(value)
        for mode in MODES:
            self.get(mode, queue).set(value)

    def read(self, worker: int | str | None = None, view: View | None = None) -> dict[str, Any]:
        """Return the values of all families: by labels from the queue on."""
        view = view or self.storage.view(worker)
        return {name: values_of(read_table(table, view)[0]) for name, table in self.tables.items()}


def values_of(family: Family) -> dict[Any, Any]:
    """Return values by the labels from the queue on; of a histogram, its counts and its sum."""
    return {
        labels[1] if len(labels) == 2 else labels[1:]: (value.counts, value.sum)
        if isinstance(value, HistogramReading)
        else value
        for labels, value in family.points
    }


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Give a run directory that no other test uses."""
    return str(tmp_path / "run")


@pytest.fixture
def make(folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """Give a function that makes a worker of one run directory."""
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    made: list[Worker] = []

    def make(**options: Any) -> Worker:
        made.append(Worker(folder, **options))
        return made[-1]

    yield make
    for worker in made:
        worker.storage.close()


class Children:
    """Processes that have put a value, and wait."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.pids: list[int] = []

    def start(self, *values: float) -> int:
        """Start one, and wait until it has put the values."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                worker = Worker(self.folder)
                for value in values:
                    worker.put(value)
                os.write(writing, b"1")
                signal.pause()
            except BaseException:  # noqa: BLE001 -- shown: the parent reads nothing
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(1)
        os.close(writing)
        assert os.read(reading, 1) == b"1"
        os.close(reading)
        self.pids.append(child)
        return child

    def kill(self, child: int) -> None:
        """Kill one."""
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.pids.remove(child)


@pytest.fixture
def children(folder: str) -> Iterator[Children]:
    """Give a starter of workers in other processes."""
    made = Children(folder)
    yield made
    for child in list(made.pids):
        made.kill(child)


# --- workers ------------------------------------------------------------------------------


def test_three_workers_of_which_one_is_killed(
    make: Callable[..., Worker], children: Children
) -> None:
    """Sums and histograms keep what it counted; gauges are those of the living, in each mode."""
    reader = make()
    first = children.start(7.0, -4.0)
    second = children.start(5.0)
    third = children.start(6.0)
    reader.read()  # gives numbers to the workers
    found = reader.read()
    numbers = {worker.pid: worker.number for worker in reader.storage.snapshot().living}
    assert sorted(numbers.values()) == [1, 2, 3]
    assert found["bytes"] == {"a": 22.0}
    assert found["sizes"] == {"a": ((1, 0, 3, 0), 14.0)}
    assert {mode: found[mode] for mode in MERGED} == {
        "sum": {"a": 7.0},
        "max": {"a": 6.0},
        "min": {"a": -4.0},
        "mean": {"a": pytest.approx(7 / 3)},
        "latest": {"a": 6.0},
    }
    assert found["each"] == {
        ("a", str(numbers[pid])): value
        for pid, value in ((first, -4.0), (second, 5.0), (third, 6.0))
    }
    children.kill(third)
    for _ in range(2):  # it is folded in between
        found = reader.read()
        assert found["bytes"] == {"a": 22.0}
        assert found["sizes"] == {"a": ((1, 0, 3, 0), 14.0)}
        assert {mode: found[mode] for mode in MERGED} == {
            "sum": {"a": 1.0},
            "max": {"a": 5.0},
            "min": {"a": -4.0},
            "mean": {"a": 0.5},
            "latest": {"a": 5.0},
        }
        assert len(found["each"]) == 2
    assert reader.storage.snapshot().dead.folded == 1
    for child in (first, second):
        children.kill(child)
    found = reader.read()
    assert found["bytes"] == {"a": 22.0}
    assert found["sizes"] == {"a": ((1, 0, 3, 0), 14.0)}
    assert [found[mode] for mode in MODES] == [{}] * len(MODES)
    assert Path(children.folder, "dead").exists()


def test_gauges_of_a_worker_that_is_not_folded_yet_do_not_count(
    make: Callable[..., Worker], children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is there as long as another process folds, and its sums are in it."""
    reader = make()
    child = children.start(7.0)
    children.start(5.0)
    reader.read()
    children.kill(child)
    monkeypatch.setattr(SharedStorage, "fold", lambda _: False)
    found = reader.read()
    assert (found["bytes"], found["sum"], found["latest"]) == ({"a": 12.0}, {"a": 5.0}, {"a": 5.0})
    assert list(found["each"].values()) == [5.0]


def test_each_worker_can_be_read_alone(make: Callable[..., Worker], children: Children) -> None:
    """By its number or as `self`, with what it counts in memory and not with that of others."""
    own = make()
    child = children.start(-3.0)
    own.put(2.0)
    own.read()
    numbers = {worker.pid: worker.number for worker in own.storage.snapshot().living}
    for name in ("self", numbers[os.getpid()]):
        found = own.read(name)
        assert (found["bytes"], found["sizes"]) == ({"a": 2.0}, {"a": ((0, 0, 1, 0), 2.0)})
        assert [found[mode] for mode in MERGED] == [{"a": 2.0}] * len(MERGED)
        assert found["each"] == {("a", str(numbers[os.getpid()])): 2.0}
    found = own.read(numbers[child])
    assert (found["bytes"], found["sizes"]) == ({"a": 3.0}, {"a": ((1, 0, 0, 0), -3.0)})
    assert found["mean"] == {"a": -3.0}
    assert found["each"] == {("a", str(numbers[child])): -3.0}


def test_a_number_is_given_again(make: Callable[..., Worker], children: Children) -> None:
    """The gauges of a worker that is gone do not come back with its number."""
    reader = make()
    children.kill(children.start(1.0))
    reader.read()
    child = children.start(2.0)
    reader.read()
    assert reader.read()["each"] == {("a", "1"): 2.0}
    children.kill(child)


def test_a_worker_without_a_number_counts_but_is_not_shown_alone(
    make: Callable[..., Worker], children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets one with the next reading that can write."""
    reader = make()
    children.start(1.0)
    children.start(2.0)
    with monkeypatch.context() as busy:
        busy.setattr(SharedStorage, "fold", lambda _: False)
        found = reader.read()
    assert (found["sum"], found["each"]) == ({"a": 3.0}, {})
    assert reader.read()["each"] == {("a", "1"): 1.0, ("a", "2"): 2.0}


def test_a_forked_child_starts_from_nothing(make: Callable[..., Worker]) -> None:
    """It counts in its file, and its gauges have no value; those of its parent stay."""
    worker = make()
    worker.put(3.0)

    def work() -> None:
        found = worker.read("self")
        assert found == {name: {} for name in found}
        worker.get("sum").add(5)
        worker.get("bytes").add(1)
        worker.get("sizes").add(0)
        found = worker.read("self")
        assert (found["sum"], found["bytes"]) == ({"a": 5.0}, {"a": 1.0})
        assert worker.read()["sum"] == {"a": 8.0}

    in_child(work)
    found = worker.read()
    assert (found["sum"], found["bytes"]) == ({"a": 3.0}, {"a": 4.0})
    assert found["sizes"] == {"a": ((0, 1, 1, 0), 3.0)}


def test_threads_lose_nothing_while_others_read(make: Callable[..., Worker]) -> None:
    """Also where the series are opened by several threads at once."""
    worker, reader = make(), make()
    readings: list[HistogramReading] = []
    running = [True] * 3

    def work(thread: int) -> None:
        for number in range(3_000):
            for name in ("bytes", "sizes", "sum"):
                worker.get(name, str(number % 3)).add(0.5)
        running[thread] = False

    def read() -> None:
        while any(running):
            family = read_table(reader.tables["sizes"], reader.storage.view(None))[0]
            readings.extend(family.values)  # type: ignore[arg-type]

    in_threads(read, *[lambda thread=thread: work(thread) for thread in range(3)])
    found = reader.read()
    assert found["bytes"] == found["sum"] == dict.fromkeys("012", 1_500.0)
    assert found["sizes"] == dict.fromkeys("012", ((0, 0, 3_000, 0), 1_500.0))
    assert all(reading.sum == 0.5 * reading.count for reading in readings)


def test_the_cells_of_a_gauge(make: Callable[..., Worker], folder: str) -> None:
    """Its pairs of value and time take turns, so that the valid one is not touched."""
    worker = make()
    gauge = worker.get("sum")
    (file,) = Path(folder).glob("w-*")

    def cells() -> tuple[float, ...]:
        offset = HEAD_SIZE + 8 * gauge.at
        return struct.unpack("=Q4dQ", file.read_bytes()[offset : offset + 48])

    assert cells() == (0,) * 6
    gauge.set(1.5)
    updates, value0, time0, value1, time1, begun = cells()
    assert (updates, value0, time0, value1, begun) == (1, 0.0, 0.0, 1.5, 1)
    gauge.add(1)
    updates, value0, time0, *rest, begun = cells()
    assert (updates, value0, *rest, begun) == (2, 2.5, 1.5, time1, 2)
    assert time0 >= time1 > 0
    gauge.set(4)
    assert cells()[:2] == (3, 2.5)
    assert cells()[3:6:2] == (4.0, 3)


# --- killed in the middle -----------------------------------------------------------------

BUSY = """
import sys
from hypertrace import Caller
from hypertrace.metrics import Declaration
from hypertrace.metrics.series_kinds import gauge_series, histogram_series, number_series
from hypertrace.metrics.shared.storage import open_storage
storage = open_storage(sys.argv[1], name="")
nowhere = Caller("", "", None, 0, 0)
adds = []
for declaration, kind in (
    (Declaration("counter", "bytes", description=""), number_series()),
    (Declaration("histogram", "sizes", description=""), histogram_series((-1.0, 0.0, 10.0))),
    (Declaration("gauge", "sum", description=""), gauge_series("sum")),
):
    table = storage.table(declaration, 10, (("class",), ("queue",)), kind)
    adds.append(table.get((("Queue",), ("a",)), nowhere).add)
print("ready", flush=True)
number, size, gauge = adds
while True:
    number(0.25); size(-0.25); size(4.25); gauge(0.5)
"""


def test_what_is_killed_in_the_middle_is_whole(make: Callable[..., Worker], folder: str) -> None:
    """Of processes killed at any moment, sums and counts agree, read before and after the end."""
    reader = make()
    total = 0.0
    for _ in range(6):
        with running(BUSY, folder) as busy:
            assert busy.stdout.readline() == "ready\n"
            while (found := reader.read())["sizes"].get("a", ((), 0.0))[1] <= total + 100:
                pass
            assert found["sum"]["a"] > 0
            check(found)
            busy.kill()
            busy.wait()
        found = reader.read()
        check(found)
        assert found["sum"] == {}
        total = found["sizes"]["a"][1]
    assert reader.storage.snapshot().dead.folded == 6


def check(found: dict[str, Any]) -> None:
    """Check that the sum of a histogram is that of the values in its buckets."""
    (below, low, high, above), total = found["sizes"]["a"]
    assert total == high * 4.25 - low * 0.25
    assert below == above == 0
    assert found["bytes"]["a"] >= 0.25 * high


# --- limits, room, exporters, other settings ----------------------------------------------


def test_a_signal_while_a_series_is_added_counts_for_all(make: Callable[..., Worker]) -> None:
    """A handler that counts in a series at the moment when it is held counts in the file, too."""
    worker, other = make(), make()

    class Interrupted(dict[Any, Any]):
        """Series, each of which a handler uses as soon as it is there."""

        def setdefault(self, key: Any, default: Any = None) -> Any:
            found = super().setdefault(key, default)
            worker.get("bytes").add(1)
            return found

    table = worker.tables["bytes"]
    table._held = Interrupted()
    worker.get("bytes").add(2)
    assert worker.read()["bytes"] == other.read()["bytes"] == {"a": 3}
    assert not worker.storage.in_memory


def test_the_limit_holds_for_all_workers(make: Callable[..., Worker]) -> None:
    """What is past it is in the overflow, and the usage says how often that was."""
    one, other = make(limit=2), make(limit=2)
    for queue in "abc":
        one.put(1.0, queue)
        other.put(1.0, queue)
    view = one.storage.view(None)
    for table in one.tables.values():
        family, usage = read_table(table, view)
        assert (usage.held, usage.limit, usage.overflowed) == (2, 2, 2)
        assert {series.labels[0] for series in family.series} == {"Queue", "<overflow>"}
    assert one.read()["bytes"] == {"a": 2.0, "b": 2.0, "": 2.0}


def test_updates_of_workers_that_are_gone_stay_in_the_usage(
    make: Callable[..., Worker], children: Children
) -> None:
    """A counter does not go back, also of gauges, whose values go with their worker."""
    reader = make(limit=0)
    child = os.fork()
    if child == 0:
        worker = Worker(children.folder, limit=0)
        worker.put(1.0)
        worker.put(2.0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    for _ in range(2):
        view = reader.storage.view(None)
        usages = [read_table(table, view)[1].overflowed for table in reader.tables.values()]
        assert usages == [2] * len(usages)


NO_ROOM = {
    "no journal": "hypertrace.metrics.shared.journal.os.write",
    "no cells": "hypertrace.metrics.shared.storage.SharedStorage._grown",
    "no segment": "hypertrace.metrics.shared.storage.make_segment",
}


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("where", NO_ROOM)
def test_without_room_the_process_shows_what_it_counted(
    make: Callable[..., Worker], where: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised or lost, and a forked child starts from nothing."""
    worker = make()
    is_mapped = (where, when) == ("no segment", "later")
    if when == "later":
        worker.put(1.0, "before")

    def no_space(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(NO_ROOM[where], (lambda *_: None) if where == "no cells" else no_space)
    worker.put(1.0)
    worker.put(2.0)
    for name in (None, "self"):
        found = worker.read(name)
        assert found["bytes"]["a"] == 3.0
        assert found["sizes"]["a"] == ((0, 0, 2, 0), 3.0)
        assert [found[mode]["a"] for mode in MERGED] == [2.0] * len(MERGED)
        assert len(found["each"]) == (2 if when == "later" else 1)
        assert ("before" in found["bytes"]) == (when == "later")

    def work() -> None:
        found = worker.read("self")
        assert found == {name: {} for name in found}
        worker.put(5.0)
        assert worker.read("self")["latest"] == {"a": 5.0}

    in_child(work)
    assert worker.read()["bytes"]["a"] == (8.0 if is_mapped else 3.0)


def test_what_gets_room_later_is_shared(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that this process counts in memory may be shared by others; both are shown."""
    worker = make()
    with monkeypatch.context() as full:
        full.setattr(SharedStorage, "place", lambda *_: False)
        worker.put(3.0)
    other = make()
    other.put(4.0)
    found = worker.read()
    assert (found["bytes"], found["sum"]) == ({"a": 7.0}, {"a": 7.0})
    assert found["sizes"] == {"a": ((0, 0, 2, 0), 7.0)}
    assert other.read()["sum"] == {"a": 4.0}
    (number,) = [one.number for one in other.storage.snapshot().living]
    assert worker.read(number)["sum"] == {"a": 4.0}


def test_a_view_is_kept_for_the_process_that_exports_next(make: Callable[..., Worker]) -> None:
    """Another worker exports what came in since, and gauges as they are."""
    worker = make()
    worker.put(3.0)
    worker.storage.save("statsd", worker.storage.view(None))
    worker.put(4.0)
    other = make()
    saved, view = other.storage.saved("statsd"), other.storage.view(None)
    assert saved is not None
    since = {
        name: values_of(read_table(table, view)[0].since(read_table(table, saved)[0]))
        for name, table in other.tables.items()
    }
    assert since["bytes"] == {"a": 4.0}
    assert since["sizes"] == {"a": ((0, 0, 1, 0), 4.0)}
    assert since["latest"] == {"a": 4.0}


def test_tables_that_only_others_have_are_shown(make: Callable[..., Worker], folder: str) -> None:
    """With the kind and the mode that the journal has."""
    one, other = make(), make()
    one.put(2.0)
    other.put(5.0)
    directory._ordinals.pop((folder, ""), None)
    stranger = open_storage(folder, name="")
    stranger.view(None)
    view = stranger.view(None)
    found = {family.name: family for family in with_others([], stranger.foreign_tables, view)}
    expected = one.read()
    assert {name: values_of(family) for name, family in found.items()} == expected
    assert expected["mean"] == {"a": 3.5}
    assert [found[name].kind for name in ("bytes", "sizes", "mean")] == [
        "counter", "histogram", "gauge",
    ]  # fmt: skip
    stranger.close()


def test_tables_of_other_settings_are_joined(make: Callable[..., Worker]) -> None:
    """Equal labels are one series: sums add up; the mean and latest gauge are of one table only."""
    one, other = make(), make(description="Of another version.")
    one.put(2.0)
    other.put(5.0)
    one.read()
    view = one.storage.view(None)
    families = [read_table(table, view)[0] for table in one.tables.values()]
    joined = with_others(families, one.storage.foreign_tables, view)
    found = {family.name: values_of(family) for family in joined}
    assert found["bytes"] == {"a": 7.0}
    assert found["sizes"] == {"a": ((0, 0, 2, 0), 7.0)}
    assert {mode: found[mode]["a"] for mode in MERGED} == {
        "sum": 7.0, "max": 5.0, "min": 2.0, "mean": 2.0, "latest": 2.0,
    }  # fmt: skip
    assert sorted(found["each"].values()) == [2.0, 5.0]


def test_a_table_may_be_made_after_others_have_counted(
    make: Callable[..., Worker], folder: str
) -> None:
    """It is the one that was foreign before; made twice, it is the same table."""
    one = make()
    one.put(2.0)
    directory._ordinals.pop((folder, ""), None)
    late = open_storage(folder, name="")
    late.view(None)
    assert len(late.foreign_tables) == 2 + len(MODES)
    declaration = Declaration("counter", "bytes", description="", labels=("queue",))
    tables = [late.table(declaration, 10, NAMES, number_series(lambda _: 8.0)) for _ in range(2)]
    assert tables[0] is tables[1]
    assert len(late.foreign_tables) == 1 + len(MODES)
    tables[0].get((("Queue",), ("a",)), NOWHERE).add("eight")
    family = read_table(tables[0], late.view(None))[0]
    assert family.declaration is declaration
    assert values_of(family) == {"a": 10.0}
    assert one.read()["bytes"] == {"a": 10.0}
    again = late.table(declaration, 10, NAMES, number_series(lambda _: 1.0))
    again.get((("Queue",), ("a",)), NOWHERE).add("one")
    assert one.read()["bytes"] == {"a": 11.0}
    late.close()


def test_closed_storage_shows_what_this_process_counted(make: Callable[..., Worker]) -> None:
    """What is new is counted in memory."""
    worker = make()
    worker.put(3.0)
    worker.storage.close()
    worker.put(4.0)
    worker.put(1.0, "new")
    found = worker.read()
    assert found["bytes"] == {"a": 7.0, "new": 1.0}
    assert found["latest"] == {"a": 4.0, "new": 1.0}
