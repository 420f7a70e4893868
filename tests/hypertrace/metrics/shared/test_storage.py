"""Shared storage: the sums of workers, forks, limits, and memory where there is no room."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
from hypertrace.metrics.shared import directory
from hypertrace.metrics.shared.aggregations import SharedCalls
from hypertrace.metrics.shared.journal import Journal
from hypertrace.metrics.shared.segment import Segment
from hypertrace.metrics.shared.storage import SharedStorage, open_storage
from hypertrace.metrics.storage import MemoryStorage

from ....running import in_child, in_threads
from ..readings import CALLS, COUNT, OPEN, OVERFLOW, SUM, values, values_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARNINGS = "hypertrace.metrics"
DROPPED = "hypertrace_dropped_events_total"


class Swarm:
    """Counts in one series of calls, in one with a prop each, and in one of spans."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def connect(self, times: int = 1) -> None:
        for _ in range(times):
            self.tracer.trace()

    def meet(self, peer: object) -> None:
        self.tracer.trace(peer=str(peer))

    def join(self) -> None:
        with self.tracer.span():
            pass

    def fail(self) -> None:
        with self.tracer.span():
            raise ZeroDivisionError


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Give a run directory that no other test uses."""
    return str(tmp_path / "run")


@pytest.fixture
def make(folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Metrics]]:
    """Give a function that makes metrics in one run directory, each as a worker would."""
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    made: list[Metrics] = []

    def make(**options: Any) -> Metrics:
        directory._ordinals.pop((folder, ""), None)
        made.append(Metrics(workers=folder, allowed_props=["peer"], **options))
        return made[-1]

    yield make
    for metrics in made:
        metrics.close()


@pytest.fixture
def metrics(make: Callable[..., Metrics]) -> Metrics:
    """Give metrics that are the trace function."""
    made = make()
    set_trace_function(made)
    return made


def total(metrics: Metrics, worker: int | str | None = None) -> float:
    """Return how many calls were counted."""
    return sum(values_in(metrics.read(worker=worker), CALLS).values())


def names_in(path: str) -> list[str]:
    """Return the names of the files in a folder."""
    return [each.name for each in Path(path).iterdir()]


def storage_of(metrics: Metrics) -> SharedStorage:
    """Return the shared storage of metrics."""
    storage = metrics.storage
    assert isinstance(storage, SharedStorage)
    return storage


# --- sums ---------------------------------------------------------------------------------


def test_two_workers_show_the_same_sums(make: Callable[..., Metrics]) -> None:
    """Whichever is read, the series and numbers are those of both."""
    one, other = make(), make()
    for metrics, times in ((one, 3), (other, 4)):
        set_trace_function(metrics)
        swarm = Swarm()
        swarm.connect(times)
        for number in range(times):
            swarm.meet(number)
            swarm.join()
        with pytest.raises(ZeroDivisionError):
            swarm.fail()
    for name in (CALLS, COUNT, SUM, OPEN, "function_exceptions_total"):
        assert values(one, name, "caller_functionname", "caller_props_peer") == values(
            other, name, "caller_functionname", "caller_props_peer"
        )
    assert values(one, CALLS, "caller_functionname") == {
        ("connect",): 7, ("meet",): 7, ("join",): 7, ("fail",): 2,
    }  # fmt: skip
    assert values(one, COUNT, "result") == {("ok",): 7, ("error",): 2}
    assert values(other, OPEN, "caller_functionname") == {("join",): 0, ("fail",): 0}


def test_each_worker_can_be_read_alone(make: Callable[..., Metrics]) -> None:
    """By its number, or as `self`; another one is a LookupError that names those there are."""
    one, other = make(), make()
    set_trace_function(one)
    Swarm().connect(3)
    set_trace_function(other)
    Swarm().connect(4)
    assert (total(one), total(one, "self"), total(other, "self")) == (7, 3, 4)
    assert sorted(total(one, number) for number in (1, 2)) == [3, 4]
    with pytest.raises(LookupError, match=r"no worker 3; there are 1, 2"):
        one.read(worker=3)
    with pytest.raises(LookupError, match=r"no worker 'x'"):
        one.read(worker="x")


def test_a_process_that_only_reads_is_no_worker(make: Callable[..., Metrics], folder: str) -> None:
    """It makes no file of cells, also when it reads again and again."""
    metrics = make()
    assert total(metrics) == 0
    with pytest.raises(LookupError, match="there are none"):
        metrics.read(worker=1)
    assert sorted(names_in(folder)) == ["lock", "names"]
    assert total(metrics, "self") == 0


def test_spans_that_are_open_are_those_of_the_living(metrics: Metrics) -> None:
    """What a killed worker had open is open no more; what it had counted stays."""

    def work() -> None:
        swarm = Swarm()
        swarm.join()
        with swarm.tracer.span("long"):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        work()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    swarm = Swarm()
    swarm.join()
    with swarm.tracer.span("long"):
        assert values(metrics, OPEN, "id") == {(None,): 0, ("long",): 1}
        assert values(metrics, COUNT, "id") == {(None,): 2}
    assert values(metrics, COUNT, "id") == {(None,): 2, ("long",): 1}


def test_what_was_folded_is_read_later(make: Callable[..., Metrics], folder: str) -> None:
    """Counts of processes that ended are in the sums of one that comes later."""
    first = make()
    set_trace_function(first)
    for _ in range(3):
        in_child(lambda: Swarm().connect(5))
    assert total(first) == 15
    assert [name for name in names_in(folder) if name.startswith("w-")] == []
    later = make()
    assert total(later) == 15
    assert total(later, "self") == 0


def test_the_first_series_may_be_made_by_several_threads(metrics: Metrics) -> None:
    """They agree on one file and one place."""
    in_threads(*[lambda: Swarm().connect(100) for _ in range(8)])
    assert total(metrics) == 800
    assert len(list(Path(storage_of(metrics).directory.path).glob("w-*"))) == 1


def test_a_signal_between_two_tables_makes_none_twice(
    make: Callable[..., Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads the journal while a table is being added leaves one table."""
    other, metrics = make(upstream=True), make(upstream=True)
    set_trace_function(other)
    Swarm().connect()
    with pytest.raises(ZeroDivisionError):
        Swarm().fail()
    storage = storage_of(metrics)
    table_of = SharedStorage._table_of

    def interrupted(self: SharedStorage, record: Any) -> Any:
        found = table_of(self, record)
        monkeypatch.undo()
        self._journal.read()
        return found

    monkeypatch.setattr(SharedStorage, "_table_of", interrupted)
    set_trace_function(metrics)
    Swarm().connect()
    with pytest.raises(ZeroDivisionError):
        Swarm().fail()
    tables = list(storage._tables.values())
    assert [table.number for table in tables] == list(range(len(tables)))
    assert len({str(table.record) for table in tables}) == len(tables)
    assert (total(metrics), total(other)) == (4, 4)
    assert values(metrics, "function_exceptions_total") == {(): 2}


# --- forks --------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", ["of Python", "of C"])
def test_a_forked_child_counts_for_itself(metrics: Metrics, fork: str) -> None:
    """From zero; what the parent had counted stays the parent's; both are in the sums."""
    forking = os.fork if fork == "of Python" else ctypes.PyDLL(None).fork
    if fork == "of C" and not hypertrace.COMPILED:
        pytest.skip("the pure core notices a fork by C at the next series")
    swarm = Swarm()
    swarm.connect(5)
    swarm.join()

    def work() -> None:
        assert (total(metrics), total(metrics, "self")) == (6, 0)
        swarm.connect(2)
        swarm.join()
        Swarm().meet(1)
        assert (total(metrics), total(metrics, "self")) == (10, 4)
        in_child(grandchild, forking)
        assert (total(metrics), total(metrics, "self")) == (11, 4)

    def grandchild() -> None:
        assert total(metrics, "self") == 0
        swarm.connect()

    in_child(work, forking)
    assert (total(metrics), total(metrics, "self")) == (11, 6)
    assert values(metrics, OPEN) == {(): 0}


def test_a_fork_by_c_is_noticed_by_the_next_series_and_reading(metrics: Metrics) -> None:
    """In pure Python, too: from there on the child counts in its own file."""
    swarm = Swarm()
    swarm.connect(5)

    def work() -> None:
        Swarm().meet(1)
        assert total(metrics, "self") == 1
        swarm.connect()
        assert total(metrics, "self") == 2

    def reading() -> None:
        assert total(metrics, "self") == 0

    in_child(work, ctypes.PyDLL(None).fork)
    in_child(reading, ctypes.PyDLL(None).fork)
    assert (total(metrics), total(metrics, "self")) == (7, 5)


def test_a_child_of_closed_metrics_counts_for_itself(metrics: Metrics) -> None:
    """Closing does not let it count in the file of its parent."""
    swarm = Swarm()
    swarm.connect(5)
    metrics.close()

    def work() -> None:
        assert total(metrics, "self") == 0
        swarm.connect(2)
        assert total(metrics, "self") == 2

    in_child(work)
    assert total(metrics, "self") == 5


def test_a_program_that_closes_all_descriptors_goes_on(metrics: Metrics, tmp_path: Path) -> None:
    """A daemon counts, makes series and reads, and touches no file that it opened since."""
    swarm = Swarm()
    swarm.connect(5)

    def work() -> None:
        swarm.connect()
        os.closerange(3, 300)
        others = [os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT) for _ in range(30)]
        for number in range(5_000):
            swarm.meet(number)
        swarm.join()
        assert total(metrics, "self") == 5_002
        assert total(metrics) == 5_007
        in_child(lambda: swarm.connect(3))
        os.closerange(3, 300)
        others = [os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT) for _ in range(30)]
        metrics.close()
        gc.collect()
        assert all(os.fstat(other).st_size == 0 for other in others)

    in_child(work)
    assert total(metrics) == 5_010


# --- the limit ----------------------------------------------------------------------------


def test_the_limit_holds_for_all_workers_together(make: Callable[..., Metrics]) -> None:
    """Both hold the first ones, in the order in which they came; the rest is in the overflow."""
    one, other = make(max_series=10), make(max_series=10)
    set_trace_function(one)
    for peer in range(8):
        Swarm().meet(f"a{peer}")
    set_trace_function(other)
    for peer in range(8):
        Swarm().meet(f"b{peer}")
        Swarm().meet(f"a{peer}")
    for metrics in (one, other):
        found = values(metrics, CALLS, "object_classname", "caller_props_peer")
        assert found.pop((OVERFLOW, None)) == 6
        assert {peer for _, peer in found} == {*(f"a{number}" for number in range(8)), "b0", "b1"}
        assert total(metrics) == 24
        assert values(metrics, "hypertrace_series", "metric")[CALLS,] == 10


# --- no room ------------------------------------------------------------------------------

NO_ROOM = {
    "no journal": "hypertrace.metrics.shared.journal.Journal.append",
    "no cells": "hypertrace.metrics.shared.storage.SharedStorage._grown",
    "no segment": "hypertrace.metrics.shared.storage.make_segment",
}


def _full(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def no_space(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(NO_ROOM[where], nothing if where == "no cells" else no_space)


@pytest.mark.parametrize("when", ["at once", "later", "for spans"])
@pytest.mark.parametrize("where", NO_ROOM)
def test_without_room_the_process_shows_what_it_counted(
    metrics: Metrics, where: str, when: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Nothing is raised or lost; a forked child counts from zero; one warning says so."""
    swarm = Swarm()
    if when == "later":
        swarm.connect()
        swarm.join()
    elif when == "for spans":
        swarm.connect()
    _full(monkeypatch, where)

    def count() -> None:
        swarm.connect(2)
        for peer in range(3):
            swarm.meet(peer)
        swarm.join()
        with pytest.raises(ZeroDivisionError):
            swarm.fail()

    def check(times: int, before: int) -> None:
        found = values_in(metrics.read(worker="self"), CALLS, "caller_functionname")
        others = int(when == "later") * before
        assert found == {
            ("connect",): 2 * times + int(when != "at once") * before,
            ("meet",): 3 * times,
            ("join",): times + others,
            ("fail",): times,
        }
        assert values_in(metrics.read(worker="self"), COUNT, "result") == {
            ("ok",): times + others, ("error",): times,
        }  # fmt: skip
        assert values(metrics, OPEN, "caller_functionname") == {("join",): 0, ("fail",): 0}

    def work() -> None:
        assert total(metrics, "self") == 0
        assert values_in(metrics.read(worker="self"), SUM) in ({}, {(): 0})
        count()
        check(1, 0)

    count()
    count()
    check(2, 1)
    in_child(work)
    check(2, 1)
    warned = [record for record in caplog.records if record.name == WARNINGS]
    has_file = where == "no segment" and when != "at once"
    if where != "no cells" and not has_file:
        assert len(warned) == 1
        assert str(os.getpid()) in warned[0].getMessage()
        assert "HYPERTRACE_WORKERS" in warned[0].getMessage()


def test_what_gets_room_later_is_shared(
    metrics: Metrics, make: Callable[..., Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that this process counts in memory may be shared by others; both are shown."""
    with monkeypatch.context() as full:
        _full(full, "no journal")
        swarm = Swarm()
        swarm.connect(3)
    other = make()
    set_trace_function(other)
    swarm.connect(4)
    assert total(other) == 4
    assert total(metrics) == 7


def test_a_worker_whose_files_cannot_be_read_shows_itself(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """As where another user owns the files: one warning, and no exception."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    swarm = Swarm()
    swarm.connect(3)
    in_child(lambda: swarm.connect(2))
    monkeypatch.setattr("hypertrace.metrics.shared.storage.take", refused)
    assert total(metrics) == total(metrics) == 3
    (record,) = [record for record in caplog.records if record.name == WARNINGS]
    assert "one user" in record.getMessage()
    monkeypatch.undo()
    assert total(metrics) == 5


@pytest.mark.parametrize(
    "workers", ["/proc/1/no/such", "/dev/null/x"], ids=["no permission", "no directory"]
)
def test_without_a_directory_counts_are_in_memory(
    workers: str, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning names the place and the way out; forks count from zero there, too."""
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    with caplog.at_level(logging.WARNING, WARNINGS):
        metrics = Metrics(workers=workers)
    assert isinstance(metrics.storage, MemoryStorage)
    set_trace_function(metrics)
    swarm = Swarm()
    swarm.connect(3)

    def work() -> None:
        assert total(metrics) == 0
        swarm.connect()
        assert total(metrics) == 1

    in_child(work)
    assert total(metrics) == total(metrics, "self") == 3
    with pytest.raises(LookupError, match="memory of this process"):
        metrics.read(worker=1)
    messages = {record.getMessage() for record in caplog.records}
    assert len(messages) == 1
    assert workers.split("/")[1] in messages.pop()
    metrics.close()


ON_TMPFS = """
import logging, os, sys
records = []
class Handler(logging.Handler):
    def emit(self, record): records.append(record.getMessage())
logging.getLogger("hypertrace").addHandler(Handler())
from hypertrace import Tracer, set_trace_function, swallowed_errors
from hypertrace.metrics import Metrics
metrics = Metrics(workers=sys.argv[1], allowed_props=["peer"])
set_trace_function(metrics)
class Swarm:
    def __init__(self): self.tracer = Tracer(self)
    def meet(self, peer): self.tracer.trace(peer=peer)
    def join(self, name):
        with self.tracer.span(name): pass
def count():
    swarm = Swarm()
    for number in range(3_000):
        swarm.meet(f"{number:0100}")
    for number in range(50):
        swarm.join(f"{number}")
def total(worker=None):
    return sum(point.value for point in metrics.read(worker=worker).families[0].points)
"""


def _mounted(command: str) -> list[str]:
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", command + ' && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*before, "true"], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    return before


def _run_on(before: list[str], program: str, workers: Path | str) -> None:
    environment = {name: value for name, value in os.environ.items() if name[:5] != "HYPER"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    environment["HYPERTRACE_PURE_PYTHON"] = str(int(not hypertrace.COMPILED))
    command = [sys.executable, "-W", "ignore", "-c", ON_TMPFS + program, str(workers)]
    done = subprocess.run(
        [*before, *command], check=False, capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_tmpfs_loses_nothing_for_this_process(tmp_path: Path) -> None:
    """No signal, no exception; one warning a process; a child counts for itself from zero."""
    program = """
count(), count()
assert total("self") == 6_100, total("self")
assert total() == 6_100, total()
assert swallowed_errors() == 0
assert len(records) == 1, records
records.clear()
files = len(os.listdir("/dev/fd"))
for _ in range(3):
    child = os.fork()
    if child == 0:
        try:
            assert total("self") == 0, total("self")
            count()
            assert total("self") == 3_050, total("self")
            assert swallowed_errors() == 0
            assert len(records) <= 2, records
            assert len(os.listdir("/dev/fd")) <= files + 2
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert total("self") == 6_100
metrics.close()
"""
    _run_on(_mounted(f"mount -t tmpfs -o size=64k none {tmp_path}"), program, tmp_path)


def test_a_read_only_file_system_is_no_exception(tmp_path: Path) -> None:
    """Counts are in memory from the start, or from when it became read-only."""
    program = """
count(), count()
assert total() == total("self") == 6_100
assert len(records) == 1 and swallowed_errors() == 0, records
assert type(metrics.storage).__name__ == "MemoryStorage"
"""
    command = f"mount -t tmpfs none {tmp_path} && mount -o remount,ro {tmp_path}"
    _run_on(_mounted(command), program, tmp_path / "run")
    program = """
Swarm().meet("first")
os.system(f"mount -o remount,ro {sys.argv[1]} 2>/dev/null")  # mapped files may refuse it
count()
assert total("self") == 3_051
assert swallowed_errors() == 0
"""
    _run_on(_mounted(f"mount -t tmpfs none {tmp_path}"), program, tmp_path)


def test_without_any_place_for_files_counts_are_in_memory(tmp_path: Path) -> None:
    """No /dev/shm, no temporary directory, no runtime directory: one warning says so."""
    program = """
count()
assert total() == 3_050
assert len(records) == 1 and swallowed_errors() == 0, records
assert type(metrics.storage).__name__ == "MemoryStorage"
"""
    places = ["/dev/shm", "/tmp", "/var/tmp", "/usr/tmp"]
    mounts = [
        f"mkdir -p {place} && mount -t tmpfs -o ro,size=4k none {place}"
        for place in places
        if Path(place).is_dir()
    ]
    if str(tmp_path).startswith("/tmp") and hypertrace.__file__.startswith("/tmp"):
        pytest.skip("the package lies in the temporary directory")
    before = _mounted(" && ".join([*mounts, "cd /", "unset XDG_RUNTIME_DIR"]))
    _run_on(before, program, "auto")


# --- directories and users ----------------------------------------------------------------


def test_a_removed_directory_is_made_again(
    make: Callable[..., Metrics], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers go on in a new one with all that they counted, and with the sums of the dead."""
    one, other = make(), make()
    swarm = Swarm()
    for metrics in (one, other):
        set_trace_function(metrics)
        swarm = Swarm()
        swarm.connect(3)
        swarm.join()
    in_child(lambda: swarm.connect(2))
    assert total(one) == total(other) == 10
    shutil.rmtree(folder)
    for peer, metrics in enumerate((other, one)):
        set_trace_function(metrics)
        swarm.connect()
        swarm.meet(peer)
    assert total(one) == total(other) == 14
    in_child(lambda: swarm.connect(2))
    assert total(one) == total(other) == 16


PID_1 = """
assert os.getpid() == 1
count()
print(total("self"), flush=True)
sys.stdin.readline()
"""


def test_containers_with_equal_pids_share_a_directory(
    make: Callable[..., Metrics], folder: str
) -> None:
    """Names are random, and locks are of files: both count, and both are alive."""
    before = ["unshare", "--pid", "--fork", "--mount-proc", "--map-root-user", "--kill-child"]
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process namespace can be made here")
    environment = {name: value for name, value in os.environ.items() if name[:5] != "HYPER"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    environment["HYPERTRACE_PURE_PYTHON"] = str(int(not hypertrace.COMPILED))
    command = [*before, sys.executable, "-W", "ignore", "-c", ON_TMPFS + PID_1, folder]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    containers: list[Any] = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    try:
        for container in containers:
            assert container.stdout.readline() == "3050\n"
        metrics = make()
        assert total(metrics) == 6_100
        assert len(storage_of(metrics).snapshot().living) == 2
    finally:
        for container in containers:
            container.communicate("\n")
    assert total(metrics) == 6_100


def test_a_worker_that_became_another_user_counts(metrics: Metrics, caplog: Any) -> None:
    """The directory is root's: the worker shows itself and warns; root sees all."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can become another user")
    swarm = Swarm()
    swarm.connect(3)

    def work() -> None:
        os.setgid(65534)
        os.setuid(65534)
        swarm.connect(2)
        for peer in range(3_000):
            swarm.meet(peer)
        assert total(metrics) == total(metrics, "self") == 3_002
        assert hypertrace.swallowed_errors() == 0
        warned = [record for record in caplog.records if record.name == WARNINGS]
        assert len(warned) == 1
        assert "one user" in warned[0].getMessage()

    in_child(work)
    assert total(metrics) == 3_005


# --- closing ------------------------------------------------------------------------------


def test_closed_metrics_show_what_this_process_counted(
    metrics: Metrics, make: Callable[..., Metrics]
) -> None:
    """And count on in memory or in their file; closing twice is no error."""
    swarm = Swarm()
    swarm.connect(3)
    other = make()
    metrics.close()
    metrics.close()
    assert metrics.storage.locks is None
    assert total(metrics) == total(metrics, "self") == 3
    swarm.connect()
    for peer in range(3):
        swarm.meet(peer)
    swarm.join()
    assert total(metrics) == 8
    assert total(other) in {3, 4}
    assert metrics.storage.saved("mark") is None
    metrics.storage.save("mark", metrics.storage.view(None))
    assert metrics.storage.saved("mark") is None


def test_a_view_is_kept_for_the_process_that_exports_next(
    metrics: Metrics, make: Callable[..., Metrics]
) -> None:
    """Another worker reads what was exported last, and exports what came in since."""
    swarm = Swarm()
    swarm.connect(3)
    other = make()
    assert other.storage.saved("jsonl") is None
    metrics.storage.save("jsonl", metrics.storage.view(None))
    swarm.connect(2)
    saved = other.storage.saved("jsonl")
    assert saved is not None
    before = other.reading(saved)
    assert sum(values_in(before, CALLS).values()) == 3
    assert sum(values_in(other.read(since=before), CALLS).values()) == 2


def test_files_go_with_their_metrics(folder: str, make: Callable[..., Metrics]) -> None:
    """Metrics that are made and dropped leave no descriptor, and their counts in the sums."""
    reader = make()

    def use() -> int:
        directory._ordinals.pop((folder, ""), None)
        metrics = Metrics(workers=folder)
        set_trace_function(metrics)
        Swarm().connect()
        hypertrace.clear_trace_function()
        metrics.close()
        del metrics
        gc.collect()
        return len(names_in("/dev/fd"))

    use()
    before = use()
    assert {use() for _ in range(5)} == {before}
    assert total(reader) == 7


def test_the_last_process_of_a_program_removes_the_directory(tmp_path: Path) -> None:
    """With `auto` nothing is left behind after a normal end; with a path the sums stay."""
    program = """
import os, sys
from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
metrics = Metrics()
set_trace_function(metrics)
Tracer("Swarm").trace()
print(metrics.storage.directory.path)
assert os.listdir(metrics.storage.directory.path)
"""
    environment = {name: value for name, value in os.environ.items() if name[:5] != "HYPER"}
    environment |= {"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    path = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()
    assert path.startswith(str(tmp_path))
    assert not Path(path).exists()


# --- other settings -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["json:dumps", "json.encoder:JSONEncoder.iterencode"])
def test_the_application_may_trace_what_the_journal_calls(metrics: Metrics, path: str) -> None:
    """Its events count or are dropped; no error comes of it, and nothing is lost."""
    traced = hypertrace.instrument(path)
    try:
        swarm = Swarm()
        for peer in "abc":
            swarm.meet(peer)
    finally:
        traced.undo()
    assert hypertrace.swallowed_errors() == 0
    functions = values_in(metrics.read(), CALLS, "caller_functionname")
    assert functions[("meet",)] == 3
    dropped = values_in(metrics.read(), DROPPED)
    assert sum(dropped.values()) == hypertrace.dropped_events()
    assert bool(hypertrace.dropped_events()) is (path != "json:dumps")


def test_errors_of_tracing_are_counted_by_all(metrics: Metrics, make: Any) -> None:
    """Dropped events of a child are in the sums; those before a fork are not its own."""
    hypertrace.tallies.dropped.increment()

    def work() -> None:
        assert values_in(metrics.read(worker="self"), DROPPED) in ({}, {(): 0})
        hypertrace.tallies.dropped.increment()
        assert values_in(metrics.read(worker="self"), DROPPED) == {(): 1}

    in_child(work)
    assert values(metrics, DROPPED) == {(): 2}


def test_metrics_of_other_names_are_shown_beside(make: Callable[..., Metrics]) -> None:
    """A reader with the default names shows calls and spans of a worker under the names it has."""
    reader, counting = make(), make(prefix="shop_", names={"function_in_progress": "open_spans"})
    set_trace_function(counting)
    with Tracer("Cart").span():
        pass
    for metrics in (reader, counting):
        assert values(metrics, "shop_function_counter_total") == {(): 1}
        assert values(metrics, "shop_function_duration_seconds_count") == {(): 1}
        assert values(metrics, "open_spans") == {(): 0}
    assert values(reader, CALLS) == values(reader, OPEN) == {}


def test_a_path_is_opened_again_if_it_was_just_removed(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last process may remove a directory between its being found and its being used."""
    journal = "hypertrace.metrics.shared.storage.Journal"

    def removed(path: str, apply: Any, **options: Any) -> Journal:
        monkeypatch.undo()
        shutil.rmtree(path)
        return Journal(path, apply, **options)

    monkeypatch.setattr(journal, removed)
    storage = open_storage(folder, name="")
    assert sorted(names_in(folder)) == ["lock", "names"]
    storage.close()


def test_a_series_without_a_cell_has_no_value_before_it_is_opened(metrics: Metrics) -> None:
    """What another worker counts has no objects of this process."""
    in_child(lambda: Swarm().connect(2))
    assert total(metrics) == 2
    (table,) = [
        table for table in storage_of(metrics)._tables.values() if table.declaration.name == CALLS
    ]
    (series,) = table.all()
    assert isinstance(series, SharedCalls)
    assert series.cell is None
    Swarm().connect()
    assert (total(metrics), total(metrics, "self")) == (3, 1)


def test_the_segment_is_the_one_of_the_core(metrics: Metrics) -> None:
    """The compiled one where it is; the pure one otherwise."""
    Swarm().connect()
    assert isinstance(storage_of(metrics)._segment, Segment) is not hypertrace.COMPILED
