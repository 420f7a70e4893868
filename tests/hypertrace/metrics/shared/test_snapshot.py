"""Snapshot: sums of living and dead workers, folding, and what is read while it changes."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import time
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics.shared import snapshot
from hypertrace.metrics.shared.segment import HEAD, HEAD_SIZE, MAGIC, Segment
from hypertrace.metrics.shared.snapshot import Dead, added, fold, merge, places, take, write_dead
from hypertrace.segments import merge_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAYOUT = b"cfgnssbbc"
KINDS = (*"cfg", "fc", "vggggg", "nssb", "nssbb", "nss" + 15 * "b", "wx", "wxxx")
TO_COME = 1 << 62
"""A stamp, in microseconds since the epoch."""
STAMPS = (0, 5, 6, 6, 7, TO_COME)


def _layout() -> bytes:
    return LAYOUT


def _cells(*values: float, layout: bytes = LAYOUT) -> bytes:
    return struct.pack("".join("d" if code in b"sfg" else "Q" for code in layout), *values)


def _values(cells: bytes, layout: bytes = LAYOUT) -> tuple[float, ...]:
    codes = "".join("d" if code in b"sfg" else "Q" for code in layout)
    return struct.unpack_from(codes, cells)


ONE = _cells(1, 0.5, 9.0, 1, 0.0, 2.0, 0, 1, 7)
"""Of one worker: its histogram has one value, 2.0."""


class Files:
    """A run directory with files of workers; those that were made with a lock are alive."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.locks: dict[str, int] = {}

    def add(self, name: str, cells: bytes = ONE, *, is_alive: bool = False, pid: int = 1) -> None:
        """Make a file."""
        head = HEAD.pack(MAGIC, 1, pid, 2, 0).ljust(HEAD_SIZE, b"\0")
        Path(self.path, name).write_bytes(head + cells)
        if is_alive:
            self.locks[name] = os.open(f"{self.path}/{name}", os.O_RDONLY)
            fcntl.flock(self.locks[name], fcntl.LOCK_EX)

    def end(self, name: str) -> None:
        """Let a worker end."""
        os.close(self.locks.pop(name))

    def names(self) -> list[str]:
        """Return the names of all files."""
        return sorted(path.name for path in Path(self.path).iterdir())

    def total(self, layout: Callable[[], bytes] = _layout) -> tuple[float, ...]:
        """Return the sum of all cells."""
        found = take(self.path, layout)
        return _values(bytes(added([found.dead.cells, *(w.cells for w in found.workers)], LAYOUT)))

    def counts(self) -> tuple[int, int]:
        """Return the first and the last count of the sum."""
        total = self.total()
        return int(total[0]), int(total[-1])


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """Give a run directory."""
    made = Files(tmp_path)
    yield made
    for name in list(made.locks):
        made.end(name)


# --- merging ------------------------------------------------------------------------------


def _random_files(seed: int) -> tuple[bytes, bytes, list[bytes]]:
    """Return a layout, a total and files of it, some of which are longer or shorter."""
    rng = random.Random(seed)
    layout = "".join(rng.choices(KINDS, k=rng.randrange(1, 40))).encode()
    files = []
    for _ in range(rng.randrange(6)):
        values = [
            rng.choice(STAMPS)
            if code in b"w"
            else rng.randrange(1000) / 8
            if code in b"sfg"
            else rng.randrange(10 ** rng.randrange(1, 15))
            for code in layout
        ]
        cells = _cells(*values, layout=layout)
        shorter, longer = cells[: rng.randrange(len(layout)) * 8], cells + os.urandom(16)
        files.append(rng.choice([cells, cells, shorter, longer]))
    return layout, bytes(len(layout) * 8), files


@pytest.mark.parametrize("seed", range(60))
def test_files_are_merged_in_python_as_in_c(seed: int) -> None:
    """The specification in Python and the compiled function agree to the last bit."""
    if merge_cells is None:
        pytest.skip("merging is not compiled here")
    layout, start, files = _random_files(seed)
    files = [cells[: len(start)] for cells in files]
    files = [cells.ljust(len(start), b"\0") for cells in files]
    once, twice, compiled = bytearray(start), bytearray(start), bytearray(start)
    merge(once, files, layout)
    for cells in files:
        merge(twice, [cells], layout)
        merge_cells(compiled, cells, layout)
    assert once == twice == compiled


@pytest.mark.parametrize("seed", range(60))
def test_files_of_any_length_are_merged(seed: int) -> None:
    """What a file has not is zero; what the layout has not is ignored."""
    layout, start, files = _random_files(seed)
    whole = [cells[: len(start)].ljust(len(start), b"\0") for cells in files]
    expected = bytearray(start)
    merge(expected, whole, layout)
    merged = bytearray(start)
    merge(merged, files, layout)
    assert merged == expected
    assert added(whole, layout) == added(files, layout) == expected


@pytest.mark.parametrize("seed", range(20))
def test_a_sum_can_be_merged_again(seed: int) -> None:
    """Sums are cells like those of a worker: the order of folding makes no difference."""
    layout, start, files = _random_files(seed)
    whole = [cells[: len(start)].ljust(len(start), b"\0") for cells in files]
    for cut in range(len(whole) + 1):
        first = bytes(added(whole[:cut], layout))
        assert added([first, *whole[cut:]], layout) == added(whole, layout)


def test_a_histogram_that_was_interrupted_is_merged_whole() -> None:
    """The sum of the buckets says which sum is valid, also where the count lags behind."""
    killed = struct.pack("Q2d2Q", 2, 1.0, 1.5, 1, 2)  # after the bucket, before the count
    total = added([killed, killed], b"nssbb")
    assert struct.unpack("Q2d2Q", total) == (6, 3.0, 3.0, 2, 4)
    python = bytearray(40)
    merge(python, [killed, killed], b"nssbb")
    assert python == total


@pytest.mark.parametrize("merging", ["as chosen", "in Python"])
def test_slots_of_the_latest_stamp_are_added(merging: str) -> None:
    """Older ones are left out, and those without a stamp, and those of a time to come."""
    slots = [(5, 1, 2), (7, 10, 0), (7, 20, 5), (6, 3, 3), (0, 9, 9), (TO_COME, 8, 8)]
    for order in permutations(slots):
        files = [struct.pack("3Q", *slot) for slot in order]
        total = bytearray(24)
        if merging == "in Python":
            merge(total, files, b"wxx")
        else:
            total = added(files, b"wxx")
        assert struct.unpack("3Q", total) == (7, 30, 5)


def test_counts_do_not_overflow_into_their_neighbours() -> None:
    """Counts near the end of their range are added for themselves."""
    large = 1 << 62
    total = bytearray(24)
    merge(total, [struct.pack("3Q", large, large, large)] * 3, b"ccc")
    assert struct.unpack("3Q", total) == (3 * large,) * 3


def test_places_of_a_layout() -> None:
    """Histograms reach up to their last bucket; sums are one cell."""
    assert places(b"cnssbbfnssbnssf", ord("n")) == [(1, 5), (7, 4), (11, 3)]
    assert places(b"cnssbbfnssbnssf", ord("f")) == [(6, 1), (14, 1)]
    assert places(b"wxxwxcwbw", ord("w")) == [(0, 3), (3, 2), (6, 1), (8, 1)]
    assert places(b"", ord("n")) == []
    assert places(b"gvgggggvgggggc", ord("v")) == [(1, 6), (7, 6)]


# --- taking and folding -------------------------------------------------------------------


def test_living_and_dead_are_added_up(files: Files) -> None:
    """Gauges are not; a histogram has the sum of its values twice."""
    files.add("w-1-a", is_alive=True)
    files.add("w-2-b")
    files.add(".w-3-c", is_alive=True)
    files.add("other")
    found = take(files.path, _layout)
    assert [(one.name, one.is_alive) for one in found.workers] == [
        ("w-1-a", True),
        ("w-2-b", False),
    ]
    assert [one.name for one in found.living] == ["w-1-a"]
    assert files.total() == (2, 1.0, 0.0, 2, 4.0, 4.0, 0, 2, 14)


def test_folding_keeps_the_sums(files: Files) -> None:
    """The dead are in one file, with how many they are; the living have numbers."""
    for number in range(5):
        files.add(f"w-{number}-x", is_alive=number < 2)
    before = files.total()
    fold(files.path, _layout)
    assert files.names() == ["dead", "w-0-x", "w-1-x"]
    assert files.total() == before
    found = take(files.path, _layout)
    assert (found.dead.folded, [one.number for one in found.workers]) == (3, [1, 2])
    files.end("w-0-x")
    files.add("w-9-x", is_alive=True)
    fold(files.path, _layout)
    found = take(files.path, _layout)
    assert found.dead.folded == 4
    # A number is free when its worker was folded: it may have one more reading.
    assert sorted((one.name, one.number) for one in found.workers) == [("w-1-x", 2), ("w-9-x", 1)]
    assert files.counts() == (6, 42)


def test_nothing_is_written_where_nothing_is_gone(files: Files) -> None:
    """Folding makes no file of the dead before there is one."""
    files.add("w-1-a", is_alive=True)
    fold(files.path, _layout)
    fold(files.path, _layout)
    assert files.names() == ["w-1-a"]


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_folder_that_was_killed_after_the_renaming_counts_nothing_twice(
    files: Files, removed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are folded and still there are ignored, and removed by the next folder."""
    files.add("w-1-a", is_alive=True)
    files.add("w-2-b")
    files.add("w-3-c")
    before = files.total()
    unlink, left = os.unlink, iter([True] * removed + [False] * 9)

    def killed(path: str) -> None:
        if not next(left):
            raise KeyboardInterrupt
        unlink(path)

    monkeypatch.setattr(os, "unlink", killed)
    with suppress(KeyboardInterrupt):
        fold(files.path, _layout)
    monkeypatch.undo()
    assert len(files.names()) == 4 - removed
    assert files.total() == before
    fold(files.path, _layout)
    assert files.names() == ["dead", "w-1-a"]
    assert files.total() == before
    files.add("w-4-d")
    fold(files.path, _layout)
    assert take(files.path, _layout).dead.names == {"w-4-d"}
    assert files.counts() == (4, 28)


def test_a_folder_that_was_killed_before_the_renaming_leaves_the_files(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has written is written over by the next one."""
    files.add("w-2-b")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", killed)
    with suppress(KeyboardInterrupt):
        fold(files.path, _layout)
    monkeypatch.undo()
    assert files.names() == ["dead.new", "w-2-b"]
    assert files.counts() == (1, 7)
    fold(files.path, _layout)
    assert files.names() == ["dead"]
    assert files.counts() == (1, 7)


def test_a_worker_that_is_folded_while_a_reader_looks_is_counted_once(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any step of the reader, also when inode and time of the sums stay the same."""
    steps = {"listdir": os.listdir, "open": os.open, "pread": os.pread, "fstat": os.fstat}
    for name, step in steps.items():
        for call in range(12):
            for path in Path(files.path).iterdir():
                path.unlink()
            for number in range(4):
                files.add(f"w-{number}-x")
            fold(files.path, _layout)
            files.add("w-5-x")
            files.add("w-6-x")
            calls = iter(range(100))

            def folding(
                *arguments: Any, step: Any = step, call: int = call, calls: Any = calls
            ) -> Any:
                if next(calls) == call:
                    monkeypatch.undo()
                    path = Path(files.path, "dead")
                    status = path.stat()
                    fold(files.path, _layout)
                    # As a file system does that uses inodes again, within one tick of its clock.
                    content = path.read_bytes()
                    path.write_bytes(content)
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
                return step(*arguments)

            monkeypatch.setattr(os, name, folding)
            assert files.counts() == (6, 42), (name, call)
            monkeypatch.undo()


def test_sums_that_change_in_place_are_noticed(files: Files) -> None:
    """How many workers were folded says whether the sums are the same, and no time or inode."""
    write_dead(files.path, Dead(1, frozenset(), ONE))
    first = snapshot._folded(files.path)
    path = Path(files.path, "dead")
    status, content = path.stat(), bytearray(path.read_bytes())
    content[8] = 2
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (first, snapshot._folded(files.path)) == (1, 2)


def test_a_directory_that_always_changes_is_an_error(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader gives up in the end."""
    numbers = iter(range(10**6))
    monkeypatch.setattr(snapshot, "_folded", lambda _: next(numbers) + 1)
    with pytest.raises(OSError, match="faster than they can be read"):
        take(files.path, _layout)


def test_a_histogram_that_changes_all_the_time_is_read_whole(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a busy process, no two readings are equal; one is taken in which nothing came between."""
    torn = _cells(1, 0.5, 9.0, 1, 2.0, 2.0, 1, 1, 7)  # of the second value, but for its sum
    files.add("w-1-a", torn, is_alive=True)
    pread = os.pread
    readings = iter(
        [
            _cells(1, 0.5, 9.0, 1, 0.0, 2.0, 0, 2, 7),
            *(_cells(1, 0.5, 9.0, n, 2.0 * n, 2.0 * n, 0, n + 1, 7) for n in range(2, 20)),
            _cells(1, 0.5, 9.0, 20, 40.0, 38.0, 1, 19, 7),
        ]
    )

    def changed(file: int, size: int, offset: int) -> bytes:
        data = pread(file, size, offset)
        if data.startswith(b"HTDEAD"):
            return data
        cells = next(readings)
        return (data[:HEAD_SIZE] + cells) if offset == 0 else cells[offset - HEAD_SIZE :][:size]

    monkeypatch.setattr(os, "pread", changed)
    found = take(files.path, _layout)
    assert _values(found.workers[0].cells)[3:8] == (20, 40.0, 38.0, 1, 19)


GAUGE = b"vggggg"


def _gauge(updates: int, first: float, second: float, begun: int) -> bytes:
    """Return a gauge whose times are its values."""
    return struct.pack("Q4dQ", updates, first, first, second, second, begun)


def test_a_gauge_that_changes_all_the_time_is_read_whole(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is taken in which the pair that is valid was not touched until it was read."""
    files.add("w-1-a", _gauge(4, 4.0, 3.0, 4), is_alive=True)
    pread = os.pread
    readings = iter(
        [
            _gauge(4, 4.0, 3.0, 4),
            *(_gauge(n, 0.5, 0.5, n + 2) for n in range(5, 20)),
            _gauge(20, 20.0, 0.5, 21),  # the other pair is being written
        ]
    )

    def changed(file: int, size: int, offset: int) -> bytes:
        data = pread(file, size, offset)
        if data.startswith(b"HTDEAD"):
            return data
        cells = next(readings)
        return (data[:HEAD_SIZE] + cells) if offset == 0 else cells[offset - HEAD_SIZE :][:size]

    monkeypatch.setattr(os, "pread", changed)
    found = take(files.path, lambda: GAUGE)
    assert found.workers[0].cells == _gauge(20, 20.0, 0.5, 21)


def test_a_gauge_that_was_stopped_in_the_middle_is_taken_as_it_is(files: Files) -> None:
    """Its valid pair is not the one that was being written."""
    stopped = _gauge(4, 4.0, 0.5, 5)
    files.add("w-1-a", stopped, is_alive=True)
    assert take(files.path, lambda: GAUGE).workers[0].cells == stopped


def test_sums_are_written_only_where_there_are_none(files: Files) -> None:
    """For a directory that takes the place of another one."""
    write_dead(files.path, Dead(3, frozenset(), ONE))
    write_dead(files.path, Dead(4, frozenset(), ONE))
    assert take(files.path, _layout).dead.folded == 3
    assert files.counts() == (1, 7)


def test_a_full_disk_leaves_no_part_of_the_sums(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised, and the files are as they were."""
    files.add("w-2-b")
    monkeypatch.setattr(os, "rename", _no_space)
    with pytest.raises(OSError, match="No space"):
        fold(files.path, _layout)
    assert files.names() == ["w-2-b"]


def test_what_is_no_file_of_a_worker_is_ignored(files: Files) -> None:
    """Files without the magic or too short, and unfinished ones of living processes."""
    files.add("w-1-a", is_alive=True)
    Path(files.path, "w-2-b").write_bytes(b"x" * 10_000)
    Path(files.path, "w-3-c").write_bytes(b"HTWORKR1")
    Path(files.path, "w-4-d").touch()
    assert [one.name for one in take(files.path, _layout).workers] == ["w-1-a"]


@pytest.mark.parametrize("size", [0, 1, 20])
def test_sums_that_were_lost_with_the_power_do_not_end_reading(files: Files, size: int) -> None:
    """A file of the dead without its head counts as none."""
    files.add("w-1-a")
    Path(files.path, "dead").write_bytes(b"HTDEAD01".ljust(size, b"\0")[:size])
    assert files.counts() == (1, 7)
    fold(files.path, _layout)
    assert files.names() == ["dead"]
    assert files.counts() == (1, 7)


def test_unfinished_files_of_killed_processes_are_removed(files: Files) -> None:
    """Those that a process holds, and young ones, stay."""
    old = time.time() - 60
    files.add(".w-1-held", is_alive=True)
    files.add(".w-2-young")
    files.add(".w-3-old")
    for name in (".w-1-held", ".w-3-old"):
        os.utime(f"{files.path}/{name}", (old, old))
    fold(files.path, _layout)
    assert files.names() == [".w-1-held", ".w-2-young"]


def test_a_worker_between_making_and_showing_its_file_is_not_taken_for_dead(files: Files) -> None:
    """The file of a living segment gets its name with its lock; nothing is folded."""
    segment = Segment(files.path)
    fold(files.path, _layout)
    assert files.names() == [segment.name]
    assert take(files.path, _layout).living[0].pid == os.getpid()


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")
