"""Snapshot: the files of all workers at one moment, added up; and the sums of those that are gone.

A worker is alive as long as it holds the lock of its file. The file `dead` has the sums of workers
that are gone and were folded into it, and the names of their files: one that could not be removed
yet is not counted twice.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from array import array
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hypertrace.segments import merge_cells

from .layouts import GAUGE
from .segment import HEAD, HEAD_SIZE, MAGIC, NUMBER_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    LayoutOf: TypeAlias = "Callable[[], bytes]"
    Groups: TypeAlias = "Sequence[tuple[Sequence[tuple[int, int]], Callable[[bytes], bool]]]"
    """Where groups of cells are, as `places` returns them, and whether one of them is whole."""

DEAD = "dead"
PREFIX = "w-"
"""Of the name of a worker's file. While it is made, its name begins with a dot."""

_CELL = 8
_DEAD_HEAD = struct.Struct("<8sQQQ")
"""Magic, how many workers were folded, bytes of the cells, bytes of the names."""
_DEAD_MAGIC = b"HTDEAD01"
_ATTEMPTS = 200
_YOUNG = 10.0
"""Seconds after which an unfinished file that no process holds is removed."""


class Worker(NamedTuple):
    """The file of one process."""

    name: str
    pid: int
    started: int
    """When the process was started, in clock ticks since the system was."""
    number: int
    """A small number that no other living worker has; 0 if it has none yet."""
    is_alive: bool
    cells: bytes


class Dead(NamedTuple):
    """The sums of workers that are gone."""

    folded: int
    """How many workers these are."""
    names: frozenset[str]
    """Of the files that may still be there."""
    cells: bytes


class Snapshot(NamedTuple):
    """The cells of all workers at one moment."""

    dead: Dead
    workers: Sequence[Worker]
    has_folded_files: bool = False
    """Whether the process that folded them was killed before it removed all files."""

    @classmethod
    def nothing(cls) -> Snapshot:
        """Return one without workers."""
        return cls(NOTHING, ())

    @property
    def living(self) -> list[Worker]:
        """The workers whose processes have not ended."""
        return [worker for worker in self.workers if worker.is_alive]

    @property
    def ended(self) -> int:
        """How many workers are gone, whether they are folded already or will be next."""
        return self.dead.folded + sum(not worker.is_alive for worker in self.workers)


NOTHING = Dead(0, frozenset(), b"")


def take(directory: str, layout_of: LayoutOf) -> Snapshot:
    """Return the files of a run directory as they are now.

    A worker that is folded meanwhile is found once: in its file or among the dead. Each histogram
    is consistent in itself.

    Args:
        directory: the run directory.
        layout_of: returns the layout of all cells there are; called after files were read.

    Raises:
        OSError: the directory cannot be read.
    """
    for _ in range(_ATTEMPTS):
        with ExitStack() as stack:
            dead = _read_dead(directory)
            files: dict[str, int] = {}
            names = _names(directory)
            for name in names:
                if name not in dead.names and (file := _opened(directory, name)) is not None:
                    stack.callback(os.close, file)
                    files[name] = file
            if _folded(directory) == dead.folded:
                workers = [_read(name, file) for name, file in files.items()]
                found = sorted(filter(None, workers), key=_order)
                groups = _groups(layout_of())
                settled = [_settled(one, files[one.name], groups) for one in found]
                return Snapshot(dead, settled, not dead.names.isdisjoint(names))
    raise OSError(f"the files of {directory} change faster than they can be read")


def fold(directory: str, layout_of: LayoutOf) -> None:
    """Add the workers that are gone to the dead, and give numbers to the living.

    Only while the lock of the folder is held. Whenever the process is killed in here, the sums
    stay right.

    Args:
        directory: the run directory.
        layout_of: returns the layout of all cells there are; called after files were read.

    Raises:
        OSError: a file cannot be read or written.
    """
    snapshot = take(directory, layout_of)
    gone = [worker for worker in snapshot.workers if not worker.is_alive]
    if gone:
        layout = layout_of()
        cells = added([snapshot.dead.cells, *(worker.cells for worker in gone)], layout)
        names = {worker.name for worker in gone} | snapshot.dead.names.intersection(
            _names(directory)
        )
        _write_dead(
            directory, Dead(snapshot.dead.folded + len(gone), frozenset(names), bytes(cells))
        )
        _remove(directory, names)
    elif snapshot.dead.names:
        _remove(directory, snapshot.dead.names)
    _number(directory, snapshot.living)
    _remove_unfinished(directory)


def added(files: Sequence[bytes], layout: bytes) -> bytearray:
    """Return the sum of the cells of several files.

    Args:
        files: the cells of each.
        layout: a code for each cell, see `merge`.
    """
    total = bytearray(len(layout) * _CELL)
    if merge_cells is None:
        merge(total, files, layout)
    else:
        for cells in files:
            merge_cells(total, cells, layout)
    return total


def merge(total: bytearray, files: Iterable[bytes], layout: bytes) -> None:
    """Add the cells of files to those of a total.

    The codes of a layout are those of `layouts`. In a total, both sums of a histogram are the same.

    Args:
        total: to be added to.
        files: the cells of each file; they may be more or fewer than those of the layout.
        layout: a code for each cell.
    """
    size = len(total)
    codes = {code: b"\xff" * _CELL if code in b"cbv" else bytes(_CELL) for code in set(layout)}
    # As one large number: some hundred times quicker than cell by cell. No cell can overflow.
    mask = int.from_bytes(b"".join(map(codes.__getitem__, layout)), "little")
    counts = int.from_bytes(total, "little") & mask
    floats = array("d", bytes(total))
    histograms, sums = places(layout, ord("n")), places(layout, ord("f"))
    slots, window = places(layout, ord("w")), memoryview(bytearray(total)).cast("Q")
    now = time.time_ns() // 1_000
    for content in files:
        cells = content[:size]
        counts += int.from_bytes(cells, "little") & mask
        if histograms or sums:
            _add_floats(floats, cells.ljust(size, b"\0"), histograms, sums)
        if slots:
            _add_slots(window, cells.ljust(size, b"\0"), slots, now)
    integers = memoryview(bytearray(counts.to_bytes(size, sys.byteorder))).cast("Q")
    target = memoryview(total)
    target[:] = integers.cast("B")
    numbers, counters = target.cast("d"), target.cast("Q")
    for index, length in histograms:
        counters[index] = sum(counters[index + 3 : index + length])
        numbers[index + 1] = numbers[index + 2] = floats[index + 1]
    for index, _ in sums:
        numbers[index] = floats[index]
    for index, length in slots:
        counters[index : index + length] = window[index : index + length]


_SIZES = {ord("n"): 3, ord("v"): len(GAUGE), ord("f"): 1, ord("w"): 1}
"""How many cells there are without the buckets, by the code that they begin with."""


def places(layout: bytes, code: int) -> list[tuple[int, int]]:
    """Return where a code stands in a layout, and how many cells belong together there.

    Args:
        layout: a code for each cell, see `merge`.
        code: `n` for histograms, `v` for gauges, `f` for sums, or `w` for slots.
    """
    places, index = [], layout.find(code)
    follows = ord("x" if code == ord("w") else "b")
    while index >= 0:
        end = index + _SIZES[code]
        while end < len(layout) and layout[end] == follows:
            end += 1
        places.append((index, end - index))
        index = layout.find(code, end)
    return places


def _add_floats(
    floats: array[float],
    cells: bytes,
    histograms: list[tuple[int, int]],
    sums: list[tuple[int, int]],
) -> None:
    view = memoryview(cells)
    counts, numbers = view.cast("Q"), view.cast("d")
    for index, length in histograms:
        count = sum(counts[index + 3 : index + length])
        if count:
            floats[index + 1] += numbers[index + 1 + (count & 1)]
    for index, _ in sums:
        floats[index] += numbers[index]


def _add_slots(
    window: memoryview[int], cells: bytes, slots: list[tuple[int, int]], now: int
) -> None:
    counts = memoryview(cells).cast("Q")
    for index, length in slots:
        stamp, held = counts[index], window[index]
        if held < stamp <= now:
            window[index : index + length] = counts[index : index + length]
        elif stamp == held > 0:
            for at in range(index + 1, index + length):
                window[at] += counts[at]


def _names(directory: str) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(PREFIX)]


def _opened(directory: str, name: str) -> int | None:
    try:
        return os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # it was folded meanwhile, and the dead have changed
        return None


def _read(name: str, file: int) -> Worker | None:
    # Before the content is read: that of a process that has ended is complete.
    is_alive = _is_locked(file)
    data = _content(file)
    if len(data) < HEAD_SIZE or not data.startswith(MAGIC):
        return None
    _, _, pid, started, number = HEAD.unpack_from(data)
    return Worker(name, pid, started, number, is_alive, data[HEAD_SIZE:])


def _groups(layout: bytes) -> Groups:
    """Return the groups of cells that are to be consistent in themselves."""
    groups = [(places(layout, ord("n")), _is_whole), (places(layout, ord("v")), _is_whole_gauge)]
    return [(found, is_whole) for found, is_whole in groups if found]


def _settled(worker: Worker, file: int, groups: Groups) -> Worker:
    """Return a worker without histograms and gauges that were written while they were read.

    As numbers only rise, those that are the same in two readings did not change in between. Those
    of a busy process always do: of them, a reading is taken in which nothing was recorded from the
    first cell to the last.
    """
    if not groups or not worker.is_alive:
        return worker
    first, again = worker.cells, _content(file)[HEAD_SIZE:]
    if first == again:
        return worker
    cells = bytearray(again)
    for found, is_whole in groups:
        for index, length in found:
            start, end = index * _CELL, (index + length) * _CELL
            one, other = first[start:end], again[start:end]
            for _ in range(_ATTEMPTS):
                if one == other or is_whole(other):
                    break
                one, other = other, os.pread(file, end - start, HEAD_SIZE + start)
            cells[start:end] = other
    return worker._replace(cells=bytes(cells))


def _is_whole(histogram: bytes) -> bool:
    """Return whether the buckets, which are read last, have as many values as the first cell.

    Then no value came in between, where the sum was read: the system copies forwards.
    """
    counts = memoryview(histogram).cast("Q")
    return counts[0] == sum(counts[3:])


def _is_whole_gauge(gauge: bytes) -> bool:
    """Return whether no more than one update began, which is of the pair that is not valid."""
    counts = memoryview(gauge).cast("Q")
    return counts[5] <= counts[0] + 1


def _content(file: int) -> bytes:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0)


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _order(worker: Worker) -> tuple[int, int, str]:
    return worker.number or sys.maxsize, worker.pid, worker.name


def _folded(directory: str) -> int:
    """Return how many workers were folded: it rises with each change of the sums."""
    return _read_head(_read_file(f"{directory}/{DEAD}", _DEAD_HEAD.size))[0]


def _read_dead(directory: str) -> Dead:
    data = _read_file(f"{directory}/{DEAD}")
    folded, cells, names = _read_head(data)
    start = _DEAD_HEAD.size
    listed = data[start + cells : start + cells + names].decode().split()
    return Dead(folded, frozenset(listed), data[start : start + cells])


def _read_head(data: bytes) -> tuple[int, int, int]:
    """Return how many workers were folded, the bytes of their cells, and those of their names."""
    if len(data) < _DEAD_HEAD.size:  # there is no file, or it was lost with the power
        return 0, 0, 0
    _, folded, cells, names = _DEAD_HEAD.unpack_from(data)
    return folded, cells, names


def _read_file(path: str, size: int | None = None) -> bytes:
    """Return a file, or its first bytes; nothing if there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return _content(file) if size is None else os.pread(file, size, 0)
    finally:
        os.close(file)


def write_dead(directory: str, dead: Dead) -> None:
    """Write the sums of the dead to a directory that has none yet.

    Raises:
        OSError: it cannot be written.
    """
    if not os.path.exists(f"{directory}/{DEAD}"):
        _write_dead(directory, dead)


def _write_dead(directory: str, dead: Dead) -> None:
    names = "\n".join(sorted(dead.names)).encode()
    head = _DEAD_HEAD.pack(_DEAD_MAGIC, dead.folded, len(dead.cells), len(names))
    path = f"{directory}/{DEAD}.new"
    try:
        with open(path, "wb") as file:
            file.write(head + dead.cells + names)
        os.rename(path, f"{directory}/{DEAD}")
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise


def _remove(directory: str, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(f"{directory}/{name}")


def _number(directory: str, living: Iterable[Worker]) -> None:
    """Give numbers to workers that have none; the smallest ones that are free."""
    living = list(living)
    taken = {worker.number for worker in living}
    free = (number for number in range(1, len(living) + len(taken) + 1) if number not in taken)
    for worker in living:
        if not worker.number:
            with suppress(OSError):
                file = os.open(f"{directory}/{worker.name}", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.pwrite(file, struct.pack("<Q", next(free)), NUMBER_OFFSET)
                finally:
                    os.close(file)


def _remove_unfinished(directory: str) -> None:
    """Remove files of processes that were killed while they made them."""
    for name in os.listdir(directory):
        if name.startswith(f".{PREFIX}"):
            with suppress(OSError):
                file = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    age = time.time() - os.fstat(file).st_mtime
                    if age > _YOUNG and not _is_locked(file):
                        os.unlink(f"{directory}/{name}")
                finally:
                    os.close(file)
