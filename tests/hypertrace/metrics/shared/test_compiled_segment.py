"""Segments of the compiled core: cells in a mapped file, forks, full disks, merging."""

from __future__ import annotations

import errno
import math
import os
import random
import shutil
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace._compiled import speedups
from hypertrace.metrics.aggregations import Histogram

from ....hostile_values import HostileStr
from ....running import growth, in_threads
from .segment_files import cells_in, file_of, is_locked, names_in, open_files, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not hasattr(speedups, "Segment"), reason="segments are not compiled here"
)
core: Any = speedups

HEAD = 4096
CHUNK = 16_384
BOUNDS = (0.01, 0.1, 1.0)
SIZE = 3 + len(BOUNDS) + 1
"""Cells of a histogram."""
FORKS = {"of Python": "fork = os.fork", "of C": "fork = ctypes.PyDLL(None).fork"}
START = """
import ctypes, errno, os, shutil, signal, struct, sys, threading, traceback
from hypertrace._speedups import Segment, forks
{fork}
segment = Segment(sys.argv[1])

def in_child(work):
    child = fork()
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


class Program:
    """A running program that has a segment; it prints a line, and waits for one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take a process that was started."""
        self.process = process

    def words(self) -> list[str]:
        """Return the words of the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go_on(self) -> None:
        """Let it go on after a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Wait until it has ended well."""
        assert self.process.wait(60) == 0


@contextmanager
def started(
    program: str, *arguments: object, fork: str = "", before: Any = ()
) -> Iterator[Program]:
    """Run a program that begins with START."""
    code = START.format(fork=fork) + program
    with running(code, *arguments, before=before) as process:
        yield Program(process)


def run(program: str, *arguments: object, fork: str = "", before: Any = ()) -> None:
    """Run a program that asserts by itself."""
    with started(program, *arguments, fork=fork, before=before) as one:
        one.end()


# --- the file ---------------------------------------------------------------------------


def test_a_file_has_a_head_and_cells(tmp_path: Path) -> None:
    """The file is named by its process, and begins with magic, version, pid, start and worker."""
    segment = core.Segment(str(tmp_path))
    file = file_of(os.getpid(), tmp_path)
    assert file.name == segment.name
    assert len(segment.name.rpartition("-")[2]) == 16
    assert names_in(tmp_path) == [segment.name]
    assert file.stat().st_mode & 0o777 == 0o600
    magic, version, pid, start, worker = struct.unpack_from("8s4Q", file.read_bytes())
    assert (magic, version, pid, worker) == (b"HTWORKR1", 1, os.getpid(), 0)
    if sys.platform == "linux":
        stat = Path("/proc/self/stat").read_text()
        assert start == int(stat.rpartition(")")[2].split()[19])
    assert is_locked(file)
    assert segment.data() == file.read_bytes()
    assert segment.is_linked


def test_what_is_written_into_the_head_is_read_back(tmp_path: Path) -> None:
    """The number of the worker, which another process writes, is in the data."""
    segment = core.Segment(str(tmp_path))
    with (tmp_path / segment.name).open("r+b") as file:
        os.pwrite(file.fileno(), struct.pack("Q", 7), 32)
    assert struct.unpack_from("Q", segment.data(), 32) == (7,)


def test_cells_keep_their_places_while_a_segment_grows(tmp_path: Path) -> None:
    """Growing keeps what was counted; growing to what is there changes nothing."""
    segment = core.Segment(str(tmp_path))
    cells = segment.cells
    assert cells == (CHUNK - HEAD) // 8
    first, last = segment.cell(0), segment.cell(cells - 1)
    first.increment()
    segment.grow(cells)
    assert segment.cells == cells
    segment.grow(cells + 1)
    assert segment.cells == cells + CHUNK // 8
    last()
    added = segment.cell(segment.cells - 1)
    added.increment()
    segment.grow(1)
    counts = cells_in(tmp_path / segment.name)
    assert len(counts) == segment.cells
    assert (counts[0], counts[cells - 1], counts[-1], sum(counts)) == (1, 1, 1, 3)
    assert (first.value, last.value, added.value) == (1, 1, 1)
    first.reset()
    assert (first.value, cells_in(tmp_path / segment.name)[0]) == (0, 0)


def test_threads_may_grow_a_segment_at_once(tmp_path: Path) -> None:
    """Each thread can use what it asked for, and nothing that others counted is lost."""
    segment = core.Segment(str(tmp_path))

    def work(first: int) -> None:
        for index in range(first, 40_000, 4):
            segment.grow(index + 1)
            segment.cell(index).increment()

    in_threads(*[lambda first=first: work(first) for first in range(4)])
    assert cells_in(tmp_path / segment.name)[:40_000] == (1,) * 40_000


@pytest.mark.parametrize("index", [-1, 1536, 1 << 40, 1 << 80])
def test_cells_that_were_not_grown_are_refused(index: int, tmp_path: Path) -> None:
    """What is outside of the cells is an IndexError."""
    segment = core.Segment(str(tmp_path))
    for make in (segment.cell, segment.sum, segment.number, segment.gauge):
        with pytest.raises(IndexError):
            make(index)
    if index < 1 << 64:
        with pytest.raises(IndexError):
            segment.histogram(index, BOUNDS)
    with pytest.raises(IndexError, match="the segment has 1536"):
        segment.histogram(1536 - SIZE + 1, BOUNDS)
    assert segment.histogram(1536 - SIZE, BOUNDS).value == ((0, 0, 0, 0), 0.0)
    with pytest.raises(IndexError, match="the segment has 1536"):
        segment.values(1536 - SIZE + 1, BOUNDS)
    with pytest.raises(IndexError, match="the segment has 1536"):
        segment.gauge(1536 - 5)
    assert segment.gauge(1536 - 6).value is None


def test_a_reservation_that_is_full_is_an_error(tmp_path: Path) -> None:
    """Growing beyond what was reserved is ENOMEM, and changes nothing."""
    segment = core.Segment(str(tmp_path), reserve=2 * CHUNK)
    with pytest.raises(OSError, match=r".") as caught:
        segment.grow(5_000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOMEM, str(tmp_path))
    segment.grow(3_500)
    assert segment.cells == (2 * CHUNK - HEAD) // 8


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(("absent",), FileNotFoundError), (("file",), NotADirectoryError), (("a\0b",), ValueError),
     ((1,), TypeError), ((".", 0), ValueError), ((".", -1), ValueError), ((), TypeError)],
)  # fmt: skip
def test_a_segment_that_cannot_be_made_is_an_error(
    arguments: tuple[Any, ...], error: type[Exception], tmp_path: Path, monkeypatch: Any
) -> None:
    """The error names the directory; nothing stays open."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    before = open_files()
    with pytest.raises(error) as caught:
        core.Segment(*arguments)
    assert getattr(caught.value, "filename", None) in (None, *arguments)
    assert open_files() <= before


def test_counts_are_exact_while_others_read(tmp_path: Path) -> None:
    """Another process sees counts rise; after `kill -9` the file has all of them."""
    program = """
cells = [segment.cell(index) for index in range(4)]
def count():
    for _ in range(100_000):
        for cell in cells:
            cell.increment()
threads = [threading.Thread(target=count) for _ in cells]
ready(os.getpid())
for thread in threads: thread.start()
for thread in threads: thread.join()
ready()
"""
    with started(program, tmp_path) as counting:
        (pid,) = counting.words()
        file = file_of(pid, tmp_path)
        counting.go_on()
        before: tuple[int, ...] = (0,) * 4
        while before != (400_000,) * 4:
            counts = cells_in(file)[:4]
            assert all(one <= other for one, other in zip(before, counts, strict=True))
            before = counts
        counting.process.kill()
        counting.process.wait()
        assert not is_locked(file)
        assert cells_in(file)[:4] == (400_000,) * 4


def test_histograms_are_consistent_while_others_read(tmp_path: Path) -> None:
    """A block that was read twice alike has the sum of the durations in its buckets."""
    program = """
histograms = [segment.histogram(index * 7, (0.01, 0.1, 1.0)) for index in range(4)]
def add(histogram):
    while True:
        for seconds in (0.0078125, 0.0625, 0.5, 4.0):
            histogram.add(seconds)
for histogram in histograms:
    threading.Thread(target=add, args=(histogram,), daemon=True).start()
sys.setswitchinterval(1e-5)
ready(os.getpid())
"""
    with started(program, tmp_path) as adding:
        (pid,) = adding.words()
        file = os.open(file_of(pid, tmp_path), os.O_RDONLY)
        checked = 0
        while checked < 150_000:
            for index in range(4):
                # One reading may be torn: the system copies in any order, and may be interrupted.
                block, again = [os.pread(file, SIZE * 8, HEAD + index * SIZE * 8) for _ in "12"]
                _, *rest = struct.unpack("Q2d4Q", block)
                sums, buckets = rest[:2], rest[2:]
                if block == again:
                    times = zip((0.0078125, 0.0625, 0.5, 4.0), buckets, strict=True)
                    assert sums[sum(buckets) & 1] == sum(s * n for s, n in times)
                    checked += 1
        os.close(file)


# --- numbers ----------------------------------------------------------------------------


def test_a_float_is_set_and_added_to(tmp_path: Path) -> None:
    """It is one cell; what is no number is a TypeError."""
    segment = core.Segment(str(tmp_path))
    total = segment.sum(3)
    total.set(7)
    total.add(-8.25)
    assert total.value == -1.25
    assert struct.unpack_from("d", segment.data(), HEAD + 24) == (-1.25,)
    with pytest.raises(TypeError):
        total.set("1")
    assert total.value == -1.25


VALUES = [
    0, 0.01, 0.010000001, 0.1, 1.0, 1.5, -0.0, -1, 1e15, 1.1e15, math.inf, -math.inf, math.nan,
    True, 10**400, "0.5", b"0.5", "x", None, [], HostileStr("1"),
]  # fmt: skip


def test_durations_are_counted_as_by_a_histogram_in_memory(tmp_path: Path) -> None:
    """Any value, also one that is no plausible duration, goes where `Histogram` counts it."""
    shared = core.Segment(str(tmp_path)).histogram(0, BOUNDS)
    for value in VALUES:
        memory = Histogram(((), ()), BOUNDS)
        memory.add(value)
        before, seconds = shared.value
        shared.add(value)
        counts, total = shared.value
        added = tuple(a - b for a, b in zip(counts, before, strict=True))
        assert added == memory.value.counts, value
        assert total - seconds == pytest.approx(memory.value.sum, abs=1e-3), value
    assert len(shared) == 0


def test_an_interrupt_in_a_duration_goes_on(tmp_path: Path) -> None:
    """Only exceptions that are errors are swallowed."""

    class Interrupted:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    shared = core.Segment(str(tmp_path)).histogram(0, BOUNDS)
    with pytest.raises(KeyboardInterrupt):
        shared.add(Interrupted())
    assert shared.value == ((0, 0, 0, 0), 0.0)


def test_histograms_may_share_bounds_or_not(tmp_path: Path) -> None:
    """Equal bounds are kept once; others are others."""
    segment = core.Segment(str(tmp_path))
    histograms = [
        segment.histogram(index * 20, bounds)
        for index, bounds in enumerate((BOUNDS, (*BOUNDS, 0.5)[:3], (0.05,), ()))
    ]
    for histogram in histograms:
        histogram.add(0.07)
    assert [histogram.value[0] for histogram in histograms] == [
        (0, 1, 0, 0), (0, 1, 0, 0), (0, 1), (1,),
    ]  # fmt: skip
    for wrong in ([0.1], ("x",), None):
        with pytest.raises(TypeError):
            segment.histogram(0, wrong)


def test_equal_places_are_one_number(tmp_path: Path) -> None:
    """Two objects of one place count into the same."""
    segment = core.Segment(str(tmp_path))
    segment.cell(0).increment()
    segment.cell(0).increment()
    segment.histogram(1, BOUNDS).add(0.05)
    segment.histogram(1, BOUNDS).add(0.5)
    assert segment.cell(0).value == 2
    assert segment.histogram(1, BOUNDS).value == ((0, 1, 1, 0), 0.55)
    assert cells_in(tmp_path / segment.name)[1] == 2


class Recorder:
    """A recorder of spans that records nothing but durations in a shared histogram."""

    edge = None

    def __init__(self, durations: Any, started: Any) -> None:
        self.durations = durations
        self.start = started
        self.ends = self.folds = 0

    def end(self, event: object) -> None:
        """Count an end that was not only a duration."""
        self.ends += 1

    def fold(self) -> None:
        """Count a fold."""
        self.folds += 1


class Binding:
    """A trace function that binds everything to the same recorders."""

    def __init__(self, calls: Any, spans: Recorder) -> None:
        self.calls = calls
        self.spans = spans

    def __call__(self, event: object) -> None:
        """Never used."""

    def share_key(self, *_: object) -> object:
        """Let all share."""
        return ()

    def bind(self, event: object) -> Any:
        """Return the recorder of calls."""
        return self.calls

    def bind_props(self, event: object) -> Any:
        """Return one that takes props."""
        return lambda props: self.calls()

    def bind_span(self, event: object) -> Any:
        """Return the recorder of spans."""
        return self.spans

    def bind_span_props(self, event: object) -> Any:
        """Return one that takes props."""
        return lambda props: self.spans


def test_calls_and_spans_count_in_a_segment(tmp_path: Path) -> None:
    """A `trace()` and the end of a span write to the file; an error goes to the recorder."""
    segment = core.Segment(str(tmp_path))
    spans = Recorder(segment.histogram(10, BOUNDS), segment.cell(1).increment)
    set_trace_function(Binding(segment.cell(0).increment, spans))
    tracer = Tracer("Swarm")
    for _ in range(300):
        tracer.trace()
        with tracer.span():
            pass
    with pytest.raises(ZeroDivisionError), tracer.span():
        raise ZeroDivisionError
    counts = cells_in(tmp_path / segment.name)
    assert counts[:2] == (300, 301)
    assert (counts[10], sum(counts[13:17])) == (300, 300)
    assert spans.durations.value[1] > 0
    assert (spans.ends, spans.folds) == (1, 0)


# --- forks ------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_a_forked_child_counts_from_zero_in_its_file(fork: str, tmp_path: Path) -> None:
    """The same cells count in another file, from zero; the parent's stay as they are."""
    program = """
segment.grow(3_000)
cell, histogram = segment.cell(2_500), segment.histogram(0, (1.0,))
gauge, name = segment.gauge(9), segment.name
page = segment.page(20, 3, 1)
cell.increment(), histogram.add(2.0), gauge.set(3.0), page.add_in_slot(1, 0, 7)

def check():
    assert forks() == 1
    assert not segment.is_lost and segment.is_linked and segment.error == 0
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
    assert (forks(), cell.value, segment.cell(4_999).value) == (2, 0, 0)
    segment.grow(6_000)
    segment.cell(5_999).increment()
    cell.increment()

in_child(check)
assert (forks(), segment.name, segment.cells) == (0, name, 3_584)
assert (cell.value, histogram.value, gauge.value) == (1, ((0, 1), 2.0), 3.0)
"""
    run(program, tmp_path, fork=fork)
    files = list(tmp_path.iterdir())
    assert sorted(cells_in(file)[2_500] for file in files) == [1, 1, 2]
    assert sorted(len(cells_in(file)) for file in files) == [3_584, 5_632, 7_680]
    assert all(file.name.startswith("w-") and not is_locked(file) for file in files)


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_a_child_does_not_hold_the_lock_of_its_parent(fork: str, tmp_path: Path) -> None:
    """When the parent is killed its file is free, while the child's is held."""
    program = """
reading, writing = os.pipe()
child = fork()
if child == 0:
    os.write(writing, b"1")
    sys.stdin.readline()
    os._exit(0)
os.read(reading, 1)
ready(child)
"""
    with started(program, tmp_path, fork=fork) as parent:
        (child,) = parent.words()
        own, inherited = file_of(parent.process.pid, tmp_path), file_of(child, tmp_path)
        assert is_locked(own)
        assert is_locked(inherited)
        parent.process.kill()
        parent.process.wait()
        assert not is_locked(own)
        assert is_locked(inherited)


def test_a_program_that_is_started_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Descriptors are closed in programs that a process starts."""
    program = """
import subprocess
other = subprocess.Popen(["sleep", "60"], close_fds=False)
ready(other.pid)
"""
    with started(program, tmp_path) as parent:
        (other,) = parent.words()
        file = file_of(parent.process.pid, tmp_path)
        assert is_locked(file)
        parent.process.kill()
        parent.process.wait()
        try:
            assert not is_locked(file)
        finally:
            os.kill(int(other), 9)


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_many_forks_lose_nothing(fork: str, tmp_path: Path) -> None:
    """Each of 200 children has a file with its count; descriptors and mappings do not add up."""
    program = """
cell = segment.cell(0)
def state():
    return len(os.listdir("/dev/fd"))
before = state()
for _ in range(200):
    in_child(cell.increment)
assert state() == before
assert cell.value == 0
"""
    run(program, tmp_path, fork=fork)
    counts = [cells_in(file)[0] for file in tmp_path.glob("w-*")]
    assert (len(counts), sum(counts)) == (201, 200)
    assert not list(tmp_path.glob(".*"))


def test_forks_while_threads_make_cells_do_not_hang(tmp_path: Path) -> None:
    """Children of a process whose threads grow the segment count, and grow it, too."""
    program = """
at = iter(range(10**9))
def make():
    while True:
        index = next(at) % 1_000_000
        segment.grow(index + 1)
        segment.cell(index).increment()
for _ in range(3):
    threading.Thread(target=make, daemon=True).start()
def check():
    segment.grow(segment.cells + 1)
    assert segment.cell(segment.cells - 1).value == 0
    segment.cell(1).increment()
    assert segment.cell(1).value == 1
sys.setswitchinterval(1e-5)
for _ in range(100):
    in_child(check)
"""
    run(program, tmp_path, fork=FORKS["of Python"])


def test_a_detached_segment_stays_so_in_children(tmp_path: Path) -> None:
    """Without a file in the parent, the child makes none; it counts from zero in memory."""
    program = """
cell = segment.cell(0)
cell.increment()
segment.detach()
def check():
    assert (cell.value, segment.name, segment.is_lost) == (0, "", False)
    cell.increment()
    assert cell.value == 1
in_child(check)
assert cell.value == 1
"""
    run(program, tmp_path, fork=FORKS["of Python"])
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_can_make_no_file_counts_in_memory(tmp_path: Path) -> None:
    """It never counts in its parent's file; it may have a file later, as may its children."""
    program = """
cell = segment.cell(0)
cell.increment()
before = segment.data()
def check():
    assert (segment.is_lost, segment.error, segment.name) == (True, errno.ENOENT, "")
    assert cell.value == 0
    cell.increment()
    segment.grow(5_000)
    segment.cell(4_999).increment()
    assert segment.data()[:8] == b"HTWORKR1"
    os.mkdir(sys.argv[1])
    segment.move(sys.argv[1])
    assert (segment.is_lost, segment.error, cell.value) == (False, 0, 1)
    in_child(grandchild)
def grandchild():
    assert (segment.is_lost, cell.value) == (False, 0)
shutil.rmtree(sys.argv[1])
in_child(check)
assert (cell.value, segment.is_linked) == (1, False)
assert segment.data() == before
"""
    folder = tmp_path / "run"
    folder.mkdir()
    run(program, folder, fork=FORKS["of Python"])
    assert sorted(cells_in(file)[0] for file in folder.iterdir()) == [0, 1]


def test_several_segments_are_forked_together(tmp_path: Path) -> None:
    """A child has a file for each segment that exists, none for those that are gone."""
    program = """
others = [Segment(sys.argv[1]) for _ in range(3)]
del others[1]
cells = [each.cell(0) for each in (segment, *others)]
def check():
    for number, cell in enumerate(cells, 1):
        assert cell.value == 0
        for _ in range(number): cell.increment()
in_child(check)
"""
    run(program, tmp_path, fork=FORKS["of Python"])
    counts = [cells_in(file)[0] for file in tmp_path.iterdir()]
    assert sorted(counts) == [0, 0, 0, 0, 1, 2, 3]


# --- descriptors of the application -----------------------------------------------------


def test_a_program_that_closes_all_descriptors_keeps_its_file(tmp_path: Path) -> None:
    """A daemon that closes what it did not open stays alive for others, grows and forks."""
    program = """
cell = segment.cell(0)
os.closerange(3, 200)
cell.increment()
ready()
segment.grow(5_000)
segment.cell(4_999).increment()
assert segment.is_linked
in_child(cell.increment)
os.closerange(3, 200)
in_child(cell.increment)
assert segment.data()[4096] == 1
"""
    with started(program, tmp_path, fork=FORKS["of C"]) as daemon:
        assert daemon.words() == []
        file = file_of(daemon.process.pid, tmp_path)
        assert is_locked(file)
        daemon.go_on()
        daemon.end()
    assert sum(cells_in(each)[0] for each in tmp_path.iterdir()) == 3
    assert (len(list(tmp_path.iterdir())), sum(cells_in(file))) == (3, 2)


def test_descriptors_that_the_application_uses_again_are_its_own(tmp_path: Path) -> None:
    """Files that have the numbers of a segment's descriptors are neither closed nor written."""
    program = """
os.closerange(3, 200)
others = [os.open("/dev/zero", os.O_RDWR) for _ in range(20)]
where = [os.open(sys.argv[2], os.O_RDONLY) for _ in range(20)]
cell = segment.cell(0)
def intact():
    for other in others: assert os.read(other, 1) == b"\\0"
    for each in where: assert not os.listdir(each)
def check():
    cell.increment()
    intact()
in_child(check)
segment.grow(5_000)
segment.data()
segment.move(sys.argv[1])
segment.unlink()
segment.detach()
intact()
del cell, segment
intact()
"""
    (tmp_path / "run").mkdir()
    (tmp_path / "other").mkdir()
    run(program, tmp_path / "run", tmp_path / "other", fork=FORKS["of Python"])
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_the_numbers_of_the_standard_streams_stay_free(tmp_path: Path) -> None:
    """A program without standard input opens its next file as 0."""
    program = """
os.close(0)
other = Segment(sys.argv[1])
def check():
    assert os.open("/dev/null", os.O_RDONLY) == 0
in_child(check)
other.move(sys.argv[1])
check()
"""
    run(program, tmp_path, fork=FORKS["of Python"])


# --- full disks -------------------------------------------------------------------------

FULL = """
cell = segment.cell(segment.cells - 1)
cell.increment()
cells, before = segment.cells, os.listdir(sys.argv[1])
def refuses(work):
    try:
        work()
    except OSError as error:
        assert (error.errno, error.filename) == (errno.{error}, sys.argv[1]), error
    else:
        raise AssertionError
for _ in range(3):
    refuses(lambda: segment.grow(100_000))
    assert segment.cells == cells
    cell.increment()
"""


def test_a_full_disk_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """Growing, making and forking on a full tmpfs fail with ENOSPC and leave nothing."""
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$@"'
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*before, "true"], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    program = (
        FULL.format(error="ENOSPC")
        + """
segment.grow(4_000)
def check():
    assert (segment.is_lost, segment.error, cell.value) == (True, errno.ENOSPC, 0)
    segment.grow(100_000)
    segment.cell(99_999).increment()
in_child(check)
refuses(lambda: Segment(sys.argv[1]).grow(4_000))
refuses(lambda: (Segment(sys.argv[1]), Segment(sys.argv[1]), Segment(sys.argv[1])))
refuses(lambda: segment.move(sys.argv[1]))
assert not [name for name in os.listdir(sys.argv[1]) if name.startswith(".")]
assert segment.name in os.listdir(sys.argv[1])
assert cell.value == 4
"""
    )
    run(program, tmp_path, fork=FORKS["of Python"], before=before)


def test_a_limit_on_files_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """Growing beyond RLIMIT_FSIZE fails with EFBIG also where SIGXFSZ would end the process."""
    program = (
        """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
"""
        + FULL.format(error="EFBIG")
        + """
resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, 8_192))
refuses(lambda: Segment(sys.argv[1]))
refuses(lambda: segment.move(sys.argv[1]))
def check():
    assert (segment.is_lost, segment.error, cell.value) == (True, errno.EFBIG, 0)
in_child(check)
assert os.listdir(sys.argv[1]) == before
assert cell.value == 4
"""
    )
    run(program, tmp_path, fork=FORKS["of Python"])


def test_a_child_without_descriptors_left_counts_in_memory(tmp_path: Path) -> None:
    """A limit that the parent reached leaves the child without a file, and alive."""
    program = """
import resource
cell = segment.cell(0)
def check():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 64))
    in_child(grandchild)
def grandchild():
    assert (segment.is_lost, segment.error, cell.value) == (True, errno.EMFILE, 0)
    cell.increment()
in_child(check)
"""
    run(program, tmp_path, fork=FORKS["of C"])


def test_a_small_address_space_is_enough(tmp_path: Path) -> None:
    """Where 256 MiB cannot be reserved, less is."""
    program = """
import resource
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), used + (48 << 20)))
small = Segment(sys.argv[1])
small.grow((30 << 20) // 8)
try:
    small.grow((33 << 20) // 8)
except OSError as error:
    assert error.errno == errno.ENOMEM
else:
    raise AssertionError
"""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    run(program, tmp_path)


# --- moving, leaving --------------------------------------------------------------------


def test_cells_move_to_another_directory(tmp_path: Path) -> None:
    """After its directory was removed a segment goes on in another one, with its counts."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    segment = core.Segment(str(old))
    segment.grow(5_000)
    cell, histogram = segment.cell(4_999), segment.histogram(0, BOUNDS)
    cell.increment()
    histogram.add(0.5)
    shutil.rmtree(old)
    assert not segment.is_linked
    cell.increment()
    segment.move(str(new))
    assert segment.is_linked
    assert names_in(new) == [segment.name]
    cell.increment()
    assert (cell.value, histogram.value) == (3, ((0, 0, 1, 0), 0.5))
    assert cells_in(new / segment.name)[4_999] == 3
    assert is_locked(new / segment.name)
    segment.grow(9_000)
    segment.cell(8_999).increment()
    assert cells_in(new / segment.name)[8_999] == 1


def test_a_move_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The error names the other directory; the cells count on where they were."""
    segment = core.Segment(str(tmp_path))
    cell, before = segment.cell(0), open_files()
    with pytest.raises(FileNotFoundError) as caught:
        segment.move(str(tmp_path / "absent"))
    assert caught.value.filename == str(tmp_path / "absent")
    cell.increment()
    assert cells_in(tmp_path / segment.name)[0] == 1
    assert (open_files(), segment.is_linked) == (before, True)


def test_no_count_is_lost_by_moves(tmp_path: Path) -> None:
    """Threads count while a segment moves; all is in the last file, and the others are gone."""
    segment = core.Segment(str(tmp_path))
    cell, moved = segment.cell(0), []

    def count() -> None:
        for _ in range(100_000):
            cell.increment()

    def move() -> None:
        for _ in range(200):
            segment.move(str(tmp_path))
            moved.append(segment.name)

    before = open_files()
    in_threads(count, count, count, move)
    assert len(set(moved)) == 200
    assert names_in(tmp_path) == [segment.name]
    assert cells_in(tmp_path / segment.name)[0] == cell.value == 300_000
    assert open_files() <= before


def test_a_segment_without_its_file_goes_on_in_memory(tmp_path: Path) -> None:
    """Detaching keeps the values, removes the file, closes it, and can be taken back."""
    segment = core.Segment(str(tmp_path))
    cell, before = segment.cell(0), open_files()
    cell.increment()
    segment.detach()
    assert list(tmp_path.iterdir()) == []
    assert (segment.name, segment.is_lost, segment.is_linked) == ("", False, False)
    assert open_files() == before - 2
    segment.detach()
    segment.grow(5_000)
    cell.increment()
    assert cell.value == 2
    assert struct.unpack_from("Q", segment.data(), HEAD) == (2,)
    segment.move(str(tmp_path))
    assert cells_in(tmp_path / segment.name)[0] == 2


def test_the_file_can_be_removed_before_its_process_ends(tmp_path: Path) -> None:
    """Unlinking leaves nothing behind; cells go on; a second time nothing happens."""
    segment = core.Segment(str(tmp_path))
    cell = segment.cell(0)
    segment.unlink()
    segment.unlink()
    cell.increment()
    assert list(tmp_path.iterdir()) == []
    assert (cell.value, segment.is_linked) == (1, False)


def test_a_truncated_file_can_be_moved_away_from(tmp_path: Path) -> None:
    """What a move copies of a file that was truncated is zero, and no signal."""
    run(
        """
cell = segment.cell(0)
cell.increment()
os.truncate(os.path.join(sys.argv[1], segment.name), 0)
assert segment.data() == bytes(16_384)
segment.move(sys.argv[1])
assert cell.value == 0
cell.increment()
assert cell.value == 1
""",
        tmp_path,
    )


def test_a_segment_lives_as_long_as_what_counts_in_it(tmp_path: Path) -> None:
    """Each kind of cell holds the segment; with the last its lock is released."""
    segment = core.Segment(str(tmp_path))
    before = open_files()
    held: list[Any] = [segment.cell(0), segment.sum(1), segment.histogram(2, BOUNDS)]
    increment = held[0].increment
    file = tmp_path / segment.name
    del segment
    for _ in range(3):
        held.pop()
        assert is_locked(file)
    increment()
    del increment
    assert not is_locked(file)
    assert open_files() == before - 2
    assert cells_in(file)[0] == 1


def test_nothing_leaks(tmp_path: Path) -> None:
    """Objects that come and go leave no reference, descriptor or mapping behind."""
    types = [
        core.Cell, core.Segment, core.SharedHistogram, core.Float, core.NumberCell, core.GaugeCell,
        core.HistogramCell,
    ]  # fmt: skip

    def use() -> None:
        segment = core.Segment(tmp_path)
        segment.grow(5_000)
        for index in range(20):
            segment.cell(index).increment()
            segment.sum(index).add(1)
            segment.number(index).add(1)
            segment.gauge(index).set(1)
            segment.histogram(index, BOUNDS).add(0.5)
            segment.values(index, BOUNDS).add(0.5)
            for make in (core.NumberCell, core.GaugeCell, lambda: core.HistogramCell(BOUNDS)):
                cell = make()
                cell.convert = [cell].index
                cell.add(1)
            assert segment.histogram(index, (0.1, float(index))).value
        with pytest.raises(IndexError):
            segment.cell(10**6)
        with pytest.raises(FileNotFoundError):
            core.Segment(tmp_path / "absent")
        segment.move(str(tmp_path))
        segment.data()
        segment.unlink()

    def state() -> list[int]:
        return [open_files(), *map(sys.getrefcount, types), sys.getrefcount(BOUNDS)]

    def mappings() -> int:
        if sys.platform != "linux":
            return 0
        return len(Path("/proc/self/maps").read_text().splitlines())

    segment = core.Segment(tmp_path)
    assert growth(lambda _: segment.histogram(0, BOUNDS).value) < 10_000
    use()
    before, mapped = state(), mappings()
    for _ in range(200):
        use()
    assert state() == before
    assert mappings() < mapped + 20


# --- merging ----------------------------------------------------------------------------


def _merged(total: list[Any], data: list[Any], layout: str) -> list[Any]:
    """Return what `merge` makes of cells that are whole; the specification in Python."""
    total = total.copy()
    for index, code in enumerate(layout):
        if code in "cfb":
            total[index] += data[index]
        elif code == "n":
            end = index + 3
            while end < len(layout) and layout[end] == "b":
                end += 1
            count = sum(data[index + 3 : end])
            total[index] += count
            if count:
                total[index + 1] += data[index + 1 + count % 2]
                total[index + 2] = total[index + 1]
    return total


def _packed(cells: list[Any], layout: str) -> bytes:
    return struct.pack("".join("d" if code in "sfg" else "Q" for code in layout), *cells)


@pytest.mark.parametrize("seed", range(20))
def test_cells_are_merged_by_their_codes(seed: int) -> None:
    """Counts, sums and histograms of several workers are added; gauges are not."""
    rng = random.Random(seed)
    kinds = ("c", "f", "g", "nssb", "nssbb", "nss" + 15 * "b")
    layout = "".join(rng.choices(kinds, k=40))
    total: list[Any] = [0.0 if code in "sfg" else 0 for code in layout]
    merged = bytearray(_packed(total, layout))
    for _ in range(5):
        data = [
            rng.randrange(1000) / 8 if code in "sfg" else rng.randrange(1000) for code in layout
        ]
        total = _merged(total, data, layout)
        core.merge(merged, _packed(data, layout), layout.encode())
    assert bytes(merged) == _packed(total, layout)


def test_a_histogram_that_was_interrupted_is_merged_whole() -> None:
    """The sum of the buckets says which sum is valid, also where the count lags behind."""
    total = bytearray(6 * 8)
    data = struct.pack("Q2d3Q", 2, 1.0, 1.5, 1, 1, 1)  # of three durations, killed before the count
    core.merge(total, data, b"nssbbb")
    core.merge(total, data, b"nssbbb")
    assert struct.unpack("Q2d3Q", total) == (6, 3.0, 3.0, 2, 2, 2)


def test_only_the_common_part_is_merged() -> None:
    """Data and a layout that are shorter than the total are no error."""
    for cells, codes in ((2, b"cccc"), (4, b"cc"), (2, b"cc")):
        total = bytearray(4 * 8)
        core.merge(total, struct.pack(f"{cells}Q", *[5] * cells), codes)
        assert struct.unpack("4Q", total) == (5, 5, 0, 0)
    for codes in (b"n", b"ns", b"nss", b"nssb"):
        for cells in range(5):
            total = bytearray(4 * 8)
            core.merge(total, struct.pack("Q2dQ", 1, 0.5, 1.5, 1)[: cells * 8], codes)
            is_whole = cells == len(codes) == 4
            assert struct.unpack("Q2dQ", total) == ((1, 1.5, 1.5, 1) if is_whole else (0, 0, 0, 0))
    odd = memoryview(bytearray(17))[1:]
    core.merge(odd, struct.pack("2Q", 1, 2), b"cc")
    assert struct.unpack("2Q", odd) == (1, 2)
    with pytest.raises(TypeError):
        core.merge(bytes(8), bytes(8), b"c")
