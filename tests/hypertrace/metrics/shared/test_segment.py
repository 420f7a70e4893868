"""Segments in pure Python: cells in a mapped file, forks, full disks, closed descriptors."""

from __future__ import annotations

import dis
import errno
import fcntl
import gc
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hypertrace.bucket_cells import OneStepPage
from hypertrace.cells import MappedCell
from hypertrace.metrics.aggregations import Histogram
from hypertrace.metrics.shared import segment as module
from hypertrace.metrics.shared.segment import (
    HEAD_SIZE,
    MappedFloat,
    MappedHistogram,
    Segment,
    make_segment,
)
from hypertrace.number_cells import OneStepGauge, OneStepHistogram, OneStepNumber
from hypertrace.segments import CompiledSegment

from ....hostile_values import HostileStr
from ....running import in_threads
from .segment_files import cells_in, file_of, is_locked, names_in, open_files, running

CHUNK_CELLS = 16_384 // 8
BOUNDS = (0.01, 0.1, 1.0)
START = """
import errno, fcntl, os, shutil, signal, struct, sys, threading, traceback
from hypertrace.metrics.shared.segment import Segment
segment = Segment(sys.argv[1])
segment.grow(1)
segments = [segment]
os.register_at_fork(after_in_child=lambda: [each.renew() for each in segments])

def in_child(work):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

def ready(*words):
    print(*words, flush=True)
    sys.stdin.readline()
"""


def run(program: str, *arguments: object, before: Any = ()) -> None:
    """Run a program that asserts by itself."""
    with running(START + program, *arguments, before=before) as process:
        assert process.wait(60) == 0


# --- the file and its cells ---------------------------------------------------------------


def test_a_file_has_a_head_and_cells(tmp_path: Path) -> None:
    """The file is named by its process, and begins with magic, version, pid, start and worker."""
    segment = Segment(str(tmp_path))
    file = file_of(os.getpid(), tmp_path)
    assert file.name == segment.name
    assert names_in(tmp_path) == [segment.name]
    assert file.stat().st_mode & 0o777 == 0o600
    magic, version, pid, start, worker = struct.unpack_from("8s4Q", file.read_bytes())
    assert (magic, version, pid, worker) == (b"HTWORKR1", 1, os.getpid(), 0)
    if sys.platform == "linux":
        stat = Path("/proc/self/stat").read_text()
        assert start == int(stat.rpartition(")")[2].split()[19])
    assert is_locked(file)
    assert segment.data() == file.read_bytes()
    assert segment.cells == 0


def test_a_compiled_segment_is_preferred(tmp_path: Path) -> None:
    """A new segment is compiled where it can be; an error names the directory."""
    assert type(make_segment(str(tmp_path))) is (CompiledSegment or Segment)
    with pytest.raises(FileNotFoundError, match="absent"):
        make_segment(str(tmp_path / "absent"))


def test_cells_keep_their_places_while_a_segment_grows(tmp_path: Path) -> None:
    """Growing keeps what was counted; growing to what is there changes nothing."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    assert segment.cells == CHUNK_CELLS
    first, last = segment.cell(0), segment.cell(segment.cells - 1)
    first.increment()
    segment.grow(segment.cells)
    segment.grow(CHUNK_CELLS + 1)
    assert segment.cells == 2 * CHUNK_CELLS
    last()
    segment.cell(segment.cells - 1).increment()
    segment.grow(1)
    counts = cells_in(tmp_path / segment.name)
    assert (counts[0], counts[CHUNK_CELLS - 1], counts[-1], sum(counts)) == (1, 1, 1, 3)
    assert (first.value, last.value) == (1, 1)
    first.reset()
    assert (first.value, cells_in(tmp_path / segment.name)[0]) == (0, 0)


def test_threads_may_grow_a_segment_at_once(tmp_path: Path) -> None:
    """Each thread can use what it asked for, and nothing that others counted is lost."""
    segment = Segment(str(tmp_path))

    def work(first: int) -> None:
        for index in range(first, 20_000, 4):
            segment.grow(index + 1)
            segment.cell(index).increment()

    in_threads(*[lambda first=first: work(first) for first in range(4)])
    assert cells_in(tmp_path / segment.name)[:20_000] == (1,) * 20_000


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_thread_that_maps_less_takes_nothing_back(
    tmp_path: Path, is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that grow at once, the larger mapping stays, whichever comes last."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    if is_lost:
        segment.detach()
    segment.cell(0).increment()

    def interrupted(*arguments: Any) -> int:
        monkeypatch.undo()
        segment.grow(3 * CHUNK_CELLS)
        segment.cell(0).increment()
        return len(*arguments)

    # `len` of the new mapping is the last call before the mapping is used.
    monkeypatch.setattr(module, "len", interrupted, raising=False)
    segment.grow(CHUNK_CELLS + 1)
    assert segment.cells == 3 * CHUNK_CELLS
    assert segment.cell(0).value == 2


def test_a_segment_frees_its_old_mapping_last(tmp_path: Path) -> None:
    """Another thread that grows while the old mapping is freed takes nothing back, either."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    grown = []

    class Freed:
        """What releases the GIL when it is freed, as a mapping does."""

        def __del__(self) -> None:
            segment.grow(2 * CHUNK_CELLS)
            grown.append(segment.cells)

    segment.numbers = Freed()  # type: ignore[assignment]
    segment.grow(3 * CHUNK_CELLS)
    assert grown == [3 * CHUNK_CELLS]
    assert len(segment.counts) == len(segment.numbers) == segment.cells == 3 * CHUNK_CELLS


@pytest.mark.parametrize("index", [-1, CHUNK_CELLS, 1 << 40, 1 << 80])
def test_cells_that_were_not_grown_are_refused(index: int, tmp_path: Path) -> None:
    """What is outside of the cells is an IndexError."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    for make in (segment.cell, segment.sum, segment.number, segment.gauge):
        with pytest.raises(IndexError, match="of a segment with 2048"):
            make(index)
    with pytest.raises(IndexError):
        segment.histogram(CHUNK_CELLS - 6, BOUNDS)
    assert segment.histogram(CHUNK_CELLS - 7, BOUNDS).value == ((0, 0, 0, 0), 0.0)
    with pytest.raises(IndexError):
        segment.values(CHUNK_CELLS - 6, BOUNDS)
    with pytest.raises(IndexError):
        segment.gauge(CHUNK_CELLS - 5)
    assert segment.gauge(CHUNK_CELLS - 6).value is None
    with pytest.raises(IndexError):
        segment.page(CHUNK_CELLS - 7, 3, 2)
    assert segment.page(CHUNK_CELLS - 8, 3, 2).data == bytes(64)


def test_a_float_is_set_and_added_to(tmp_path: Path) -> None:
    """It is one cell; what is no number is a TypeError."""
    segment = Segment(str(tmp_path))
    segment.grow(5)
    total = segment.sum(3)
    total.set(7)
    total.add(-8.25)
    assert total.value == -1.25
    assert struct.unpack_from("d", segment.data(), HEAD_SIZE + 24) == (-1.25,)
    with pytest.raises(TypeError):
        total.add(None)  # type: ignore[arg-type]
    assert total.value == -1.25


VALUES = [
    0, 0.01, 0.010000001, 0.1, 1.0, 1.5, -0.0, -1, 1e15, 1.1e15, float("inf"), float("nan"),
    True, 10**400, "0.5", b"0.5", "x", None, [], HostileStr("1"),
]  # fmt: skip


def test_durations_are_counted_as_by_a_histogram_in_memory(tmp_path: Path) -> None:
    """Any value, also one that is no plausible duration, goes where `Histogram` counts it."""
    segment = Segment(str(tmp_path))
    segment.grow(8)
    shared = segment.histogram(0, BOUNDS)
    for value in VALUES:
        memory = Histogram(((), ()), BOUNDS)
        memory.add(value)
        before, seconds = shared.value
        shared.append(value)
        counts, total = shared.value
        added = tuple(a - b for a, b in zip(counts, before, strict=True))
        assert added == memory.value.counts, value
        assert total - seconds == pytest.approx(memory.value.sum, abs=1e-3), value
    assert len(shared) == 0
    n, *sums, one, two, three, four = struct.unpack_from("Q2d4Q", segment.data(), HEAD_SIZE)
    assert n == one + two + three + four == len(VALUES)
    assert sums[n & 1] == shared.value[1]


@pytest.mark.parametrize("kind", [Segment, CompiledSegment])
def test_a_page_is_in_its_cells(kind: Any, tmp_path: Path) -> None:
    """Other processes read what is counted, with slots and without."""
    if kind is None:
        pytest.skip("segments are not compiled here")
    segment = kind(str(tmp_path))
    segment.grow(20)
    page, ring = segment.page(2, 3, 0), segment.page(5, 2, 2)
    page.add(2)
    ring.add_in_slot(0, 0, 7)
    ring.add_in_slot(1, 1, 8)
    ring.add_in_slot(1, 0, 9)
    assert cells_in(tmp_path / segment.name)[:12] == (0, 0, 0, 0, 1, 9, 0, 1, 8, 0, 1, 0)
    ring.reset()
    assert struct.unpack("6Q", ring.data) == (9, 0, 1, 8, 0, 1)


def test_a_file_stays_locked_when_the_application_opens_and_closes_it(tmp_path: Path) -> None:
    """A POSIX lock would be gone, and the process would look dead."""
    segment = make_segment(str(tmp_path))
    pure = Segment(str(tmp_path))
    for name in (segment.name, pure.name):
        (tmp_path / name).read_bytes()
        done = subprocess.run(
            [sys.executable, "-c", LOCK, str(tmp_path / name)], check=False, capture_output=True
        )
        assert done.stdout == b"locked"


LOCK = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH | fcntl.LOCK_NB)
except BlockingIOError:
    print("locked", end="")
"""


# --- one step -----------------------------------------------------------------------------

STEPS = {
    MappedCell.increment: 1,
    MappedFloat.add: 1,
    MappedHistogram.add: 3,
    OneStepNumber.add: 2,
    OneStepGauge.set: 4,
    OneStepGauge.add: 4,
    OneStepHistogram.add: 3,
    OneStepPage.add: 1,
    OneStepPage.add_in_slot: 1,
    OneStepPage._empty: 3,
}
"""What writes cells, and how many stores to them it has."""


@pytest.mark.parametrize("method", STEPS, ids=lambda method: method.__qualname__)
def test_a_cell_is_written_on_one_line_without_a_call(method: Any) -> None:
    """Trace functions of `sys.settrace` run between lines; other threads at calls and in loops."""
    lines, line = [], 0
    for each in dis.get_instructions(method):
        line = (
            each.starts_line
            if type(each.starts_line) is int
            else getattr(each, "line_number", line)
        )
        lines.append((line or 0, each.opname))
    stores = [number for number, name in lines if name == "STORE_SUBSCR"]
    assert len(stores) == STEPS[method]
    assert len(set(stores)) == 1
    names = {name for number, name in lines if number == stores[0]}
    assert not [name for name in names if "CALL" in name or "BACKWARD" in name]


def test_threads_lose_nothing_under_a_trace_function(tmp_path: Path) -> None:
    """With a debugger or coverage, which let threads switch at each line, all is counted."""
    segment = Segment(str(tmp_path))
    segment.grow(20)
    cell, total, histogram = segment.cell(0), segment.sum(1), segment.histogram(2, (1.0,))
    page = segment.page(10, 2, 1)
    pause = iter(int, 1)

    def trace(*_: object) -> Any:
        next(pause)
        return trace

    def work() -> None:
        sys.settrace(trace)
        try:
            for _ in range(3_000):
                cell.increment()
                total.add(0.5)
                histogram.add(0.25)
                page.add_in_slot(1, 0, 7)
        finally:
            sys.settrace(None)

    interval, before = sys.getswitchinterval(), sys.gettrace()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(work, work, work, work)
    finally:
        sys.setswitchinterval(interval)
        sys.settrace(before)
    assert cell.value == 12_000
    assert total.value == 6_000
    assert histogram.value == ((12_000, 0), 3_000.0)
    assert struct.unpack("3Q", page.data) == (7, 0, 12_000)


# --- forks --------------------------------------------------------------------------------


def test_a_forked_child_counts_from_zero_in_its_file(tmp_path: Path) -> None:
    """The same cells count in another file, from zero; the parent's stay as they are."""
    program = """
segment.grow(3_000)
cell, histogram = segment.cell(2_500), segment.histogram(0, (1.0,))
gauge, name = segment.gauge(9), segment.name
page = segment.page(20, 3, 1)
cell.increment(), histogram.add(2.0), gauge.set(3.0), page.add_in_slot(1, 0, 7)
segment.renew()

def check():
    assert not segment.is_lost
    assert segment.name.startswith(f"w-{os.getpid()}-"), segment.name
    assert (cell.value, histogram.value, gauge.value) == (0, ((0, 0), 0.0), None)
    assert page.data == bytes(32)
    page.add_in_slot(2, 0, 7)
    assert page.data == struct.pack("4Q", 7, 0, 0, 1)
    cell.increment(), cell.increment(), histogram.add(0.5)
    segment.grow(5_000)
    segment.cell(4_999).increment()
    in_child(grandchild)
    assert cell.value == 2

def grandchild():
    assert (cell.value, segment.cell(4_999).value) == (0, 0)
    cell.increment()

in_child(check)
assert segment.name == name
assert (cell.value, histogram.value, gauge.value) == (1, ((0, 1), 2.0), 3.0)
"""
    run(program, tmp_path)
    files = list(tmp_path.iterdir())
    assert sorted(cells_in(file)[2_500] for file in files) == [1, 1, 2]
    assert all(file.name.startswith("w-") and not is_locked(file) for file in files)


def test_a_child_does_not_hold_the_lock_of_its_parent(tmp_path: Path) -> None:
    """When the parent is killed its file is free, also if threads of it used the mapping."""
    program = """
def use():
    counts, numbers = segment.counts, segment.numbers  # as a recorder at work does
    started.set()
    threading.Event().wait()
started = threading.Event()
threading.Thread(target=use, daemon=True).start()
started.wait()
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, b"1")
    sys.stdin.readline()
    os._exit(0)
os.read(reading, 1)
ready(child)
"""
    with running(START + program, tmp_path) as parent:
        child = parent.stdout.readline().strip()
        own, inherited = file_of(parent.pid, tmp_path), file_of(child, tmp_path)
        assert is_locked(own)
        assert is_locked(inherited)
        parent.kill()
        parent.wait()
        assert not is_locked(own)
        assert is_locked(inherited)


def test_a_program_that_is_started_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Descriptors are closed in programs that a process starts."""
    program = """
import subprocess
other = subprocess.Popen(["sleep", "60"], close_fds=False)
ready(other.pid)
"""
    with running(START + program, tmp_path) as parent:
        other = int(parent.stdout.readline())
        file = file_of(parent.pid, tmp_path)
        assert is_locked(file)
        parent.kill()
        parent.wait()
        try:
            assert not is_locked(file)
        finally:
            os.kill(other, 9)


def test_many_forks_lose_nothing(tmp_path: Path) -> None:
    """Each of 50 children has a file with its count; descriptors do not add up."""
    program = """
cell = segment.cell(0)
before = len(os.listdir("/dev/fd"))
def check():
    cell.increment()
    assert len(os.listdir("/dev/fd")) == before
for _ in range(50):
    in_child(check)
assert len(os.listdir("/dev/fd")) == before
assert cell.value == 0
"""
    run(program, tmp_path)
    counts = [cells_in(file)[0] for file in tmp_path.glob("w-*")]
    assert (len(counts), sum(counts)) == (51, 50)
    assert not list(tmp_path.glob(".*"))


def test_a_child_that_can_make_no_file_counts_in_memory(tmp_path: Path) -> None:
    """It never counts in its parent's file, nor do its children; it can have a file later."""
    program = """
cell = segment.cell(0)
cell.increment()
before = segment.data()
def check():
    assert (segment.is_lost, segment.name, cell.value) == (True, "", 0)
    cell.increment()
    segment.grow(5_000)
    segment.cell(4_999).increment()
    assert cell.value == 1
    in_child(grandchild)
    os.mkdir(sys.argv[1])
    segment.move(sys.argv[1])
    assert (segment.is_lost, cell.value, segment.cell(4_999).value) == (False, 1, 1)
def grandchild():
    assert (segment.is_lost, segment.name, cell.value) == (True, "", 0)
    cell.increment()
shutil.rmtree(sys.argv[1])
in_child(check)
assert cell.value == 1
assert segment.data() == before
"""
    folder = tmp_path / "run"
    folder.mkdir()
    run(program, folder)
    assert [cells_in(file)[0] for file in folder.iterdir()] == [1]


# --- descriptors of the application -------------------------------------------------------


def test_a_program_that_closes_all_descriptors_keeps_its_file(tmp_path: Path) -> None:
    """It locks its file again at the next occasion, and its children count for themselves."""
    program = """
cell = segment.cell(0)
os.closerange(3, 200)
cell.increment()
segment.keep_locked()
ready()
segment.grow(5_000)
segment.cell(4_999).increment()
os.closerange(3, 200)
in_child(cell.increment)
assert cell.value == 1
"""
    with running(START + program, tmp_path) as daemon:
        assert daemon.stdout.readline() == "\n"
        file = file_of(daemon.pid, tmp_path)
        assert is_locked(file)
        daemon.stdin.write("\n")
        daemon.stdin.flush()
        assert daemon.wait(60) == 0
    assert sorted(cells_in(each)[0] for each in tmp_path.iterdir()) == [1, 1]
    assert sum(cells_in(file)) == 2


def test_descriptors_that_the_application_uses_again_are_its_own(tmp_path: Path) -> None:
    """Files that have the numbers of a segment's descriptors are neither closed nor written."""
    program = """
os.closerange(3, 200)
others = [os.open(sys.argv[2], os.O_RDWR) for _ in range(20)]
cell = segment.cell(0)
def intact():
    for other in others: assert os.read(other, 1) == b"" and os.fstat(other).st_size == 0
def check():
    cell.increment()
    intact()
in_child(check)
segment.grow(5_000)
segment.keep_locked()
segment.move(sys.argv[1])
segment.detach()
intact()
segments.clear()
del cell, segment
intact()
"""
    (tmp_path / "run").mkdir()
    (tmp_path / "other").touch()
    run(program, tmp_path / "run", tmp_path / "other")


def test_a_process_that_was_taken_for_dead_goes_on_in_a_new_file(tmp_path: Path) -> None:
    """Its counts are in the sums of the dead: it goes on from zero."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    cell = segment.cell(0)
    cell.increment()
    os.close(segment._lock._number)
    (tmp_path / segment.name).unlink()
    segment.keep_locked()
    assert cell.value == 0
    cell.increment()
    assert cells_in(tmp_path / segment.name)[0] == 1
    assert is_locked(tmp_path / segment.name)


def test_a_file_that_another_process_looks_at_is_locked_later(tmp_path: Path) -> None:
    """A reader holds the lock for a moment: the process tries again."""
    segment = Segment(str(tmp_path))
    segment.keep_locked()
    os.close(segment._lock._number)
    with (tmp_path / segment.name).open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        segment.keep_locked()
    assert not is_locked(tmp_path / segment.name)
    segment.keep_locked()
    assert is_locked(tmp_path / segment.name)


# --- full disks ---------------------------------------------------------------------------


def test_a_full_disk_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """Growing, making and forking on a full tmpfs fail with ENOSPC and leave nothing."""
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$@"'
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*before, "true"], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    program = """
def refuses(work):
    try:
        work()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    else:
        raise AssertionError
segment.grow(4_000)
cell, cells = segment.cell(3_999), segment.cells
cell.increment()
for _ in range(3):
    refuses(lambda: segment.grow(100_000))
    assert segment.cells == cells
    cell.increment()
files = len(os.listdir("/dev/fd"))
for _ in range(3):
    refuses(lambda: [Segment(sys.argv[1]) for _ in range(20)])
    refuses(lambda: segment.move(sys.argv[1]))
assert len(os.listdir("/dev/fd")) == files
def check():
    assert (segment.is_lost, cell.value) == (True, 0)
    cell.increment()
    segment.grow(100_000)
    segment.cell(99_999).increment()
others = []
try:
    while True:
        others.append(Segment(sys.argv[1]))
except OSError:
    in_child(check)
assert not [name for name in os.listdir(sys.argv[1]) if name.startswith(".")]
assert segment.name in os.listdir(sys.argv[1])
assert cell.value == 4
"""
    run(program, tmp_path, before=before)


def test_a_file_that_cannot_be_made_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that tries again for each new series does not use its descriptors up."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("posix_fallocate", "pwrite", "rename"):
        before = open_files()
        monkeypatch.setattr(os, name, full)
        for _ in range(5):
            with pytest.raises(OSError, match="No space"):
                Segment(str(tmp_path))
        monkeypatch.undo()
        assert (open_files(), names_in(tmp_path)) == (before, []), name


# --- moving, leaving ----------------------------------------------------------------------


def test_cells_move_to_another_directory(tmp_path: Path) -> None:
    """After its directory was removed a segment goes on in another one, with its counts."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    segment = Segment(str(old))
    segment.grow(5_000)
    cell, histogram = segment.cell(4_999), segment.histogram(0, BOUNDS)
    cell.increment()
    histogram.add(0.5)
    shutil.rmtree(old)
    cell.increment()
    before = open_files()
    segment.move(str(new))
    assert open_files() == before
    cell.increment()
    assert (cell.value, histogram.value) == (3, ((0, 0, 1, 0), 0.5))
    assert cells_in(new / segment.name)[4_999] == 3
    assert is_locked(new / segment.name)


def test_no_count_is_lost_by_moves(tmp_path: Path) -> None:
    """Threads count while a segment moves; all is in the last file."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    cell = segment.cell(0)

    def count() -> None:
        for _ in range(30_000):
            cell.increment()

    def move() -> None:
        for number in range(50):
            folder = tmp_path / str(number)
            folder.mkdir()
            segment.move(str(folder))

    in_threads(count, count, count, move)
    assert cells_in(tmp_path / "49" / segment.name)[0] == cell.value == 90_000


def test_a_segment_without_its_file_goes_on_in_memory(tmp_path: Path) -> None:
    """Detaching keeps the values and frees the file; the directory can be removed."""
    segment = Segment(str(tmp_path))
    segment.grow(1)
    cell = segment.cell(0)
    cell.increment()
    file = tmp_path / segment.name
    segment.unlink()
    segment.detach()
    segment.detach()
    cell.increment()
    assert cell.value == 2
    assert not file.exists()
    assert struct.unpack_from("Q", segment.data(), HEAD_SIZE) == (2,)


def test_a_segment_lives_as_long_as_what_counts_in_it(tmp_path: Path) -> None:
    """Each kind of cell holds the segment; with the last its lock is released."""
    before = open_files()
    segment = Segment(str(tmp_path))
    segment.grow(10)
    held: list[Any] = [segment.cell(0).increment, segment.sum(1), segment.histogram(2, BOUNDS)]
    file = tmp_path / segment.name
    del segment
    while held:
        gc.collect()
        assert is_locked(file)
        held.pop()
    gc.collect()
    assert not is_locked(file)
    assert open_files() == before
