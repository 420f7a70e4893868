"""Segment: the cells of this process in its file of a run directory.

The compiled core has a class of the same interface, whose cells are addresses. This one serves
where that is not to be had. It relies on the GIL: statements on one line are one step, since other
threads, signal handlers and finalizers run only at calls and at the ends of loops.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import struct
import sys
from bisect import bisect_left
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypertrace.bucket_cells import OneStepPage, size_of_page
from hypertrace.cells import MappedCell
from hypertrace.metrics.aggregations import LONGEST, duration
from hypertrace.number_cells import OneStepGauge, OneStepHistogram, OneStepNumber
from hypertrace.segments import CompiledSegment

from .open_file import OpenFile
from .program import this_process

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = b"HTWORKR1"
HEAD_SIZE = 4096
"""Bytes before the first cell."""
HEAD = struct.Struct("<8sQQQQ")
"""Magic, version, pid, start time of the process, number of the worker."""
NUMBER_OFFSET = 32
"""Of the worker's number, in the head."""

_VERSION = 1
_CELL = 8
_CHUNK = 16_384
"""Bytes by which a file grows."""

_TRACKS_NOTHING: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_kept: list[memoryview] = []


class MappedFloat:
    """A float in a file, which is set or added to. Any thread may use it."""

    __slots__ = ("_index", "_segment")

    def __init__(self, segment: Segment, index: int) -> None:
        """Keep the number in a cell of a segment."""
        self._segment = segment
        self._index = index

    def add(self, amount: float) -> None:
        """Add an amount."""
        amount = float(amount)
        self._segment.numbers[self._index] += amount

    def set(self, value: float) -> None:
        """Set the value."""
        self._segment.numbers[self._index] = value

    @property
    def value(self) -> float:
        """The number of this process."""
        return self._segment.numbers[self._index]


class MappedHistogram(OneStepHistogram):
    """Durations in buckets of a file. Any thread may use it."""

    __slots__ = ()

    def add(self, seconds: float) -> None:
        """Add one duration."""
        if type(seconds) is not float or not 0 <= seconds <= LONGEST:
            seconds = duration(seconds)
        memory, n = self._memory, self._index
        bucket = n + 3 + bisect_left(self.bounds, seconds)
        # One line, and so one step; the attributes are looked up before.
        c, d = memory.counts, memory.numbers
        d[n + 1 + (c[n] + 1 & 1)] = d[n + 1 + (c[n] & 1)] + seconds; c[bucket] += 1; c[n] += 1  # noqa: E702  # fmt: skip
        samples = self.samples
        if samples is not None:
            samples.add(seconds)

    append = add

    def __len__(self) -> int:
        return 0  # nothing is buffered


class Segment:
    """A file with the cells of this process, mapped.

    Attributes:
        counts: all cells as unsigned integers.
        numbers: all cells as floats.
        name: of the file in the run directory.
        pid: the process whose cells these are.
        cells: how many can be used.
        is_lost: a forked child could not make a file: it counts in memory that no other process
            sees.
    """

    counts: memoryview[int]
    numbers: memoryview[float]
    name: str
    pid: int
    cells: int
    is_lost: bool

    def __init__(self, directory: str) -> None:
        """Make a file without cells.

        Args:
            directory: the run directory.

        Raises:
            OSError: the file cannot be made.
        """
        self._directory = directory
        self.name = ""
        self.is_lost = False
        self.cells = 0
        self.counts = memoryview(b"").cast("Q")
        self.numbers = memoryview(b"").cast("d")
        self._make_file(0)

    def grow(self, cells: int) -> None:
        """Let at least so many cells be usable.

        Raises:
            OSError: there is no room for them.
        """
        if cells > self.cells:
            size = -(-cells * _CELL // _CHUNK) * _CHUNK
            if not self.is_lost:
                # A hole in a mapping would end the process when the file system is full.
                self._keep_mapping()
                _allocate(self._file.number, HEAD_SIZE + size)
            self._extend(size)

    def cell(self, index: int) -> MappedCell:
        """Return a count."""
        return MappedCell(self, self._checked(index))

    def sum(self, index: int) -> MappedFloat:
        """Return a float."""
        return MappedFloat(self, self._checked(index))

    def number(self, index: int) -> OneStepNumber:
        """Return a sum of amounts, whose cells begin at an index."""
        return OneStepNumber(self, self._checked(index, OneStepNumber.SIZE))

    def gauge(self, index: int) -> OneStepGauge:
        """Return a gauge, whose cells begin at an index."""
        return OneStepGauge(self, self._checked(index, OneStepGauge.SIZE))

    def histogram(self, index: int, bounds: tuple[float, ...]) -> MappedHistogram:
        """Return a histogram of durations, whose cells begin at an index."""
        size = MappedHistogram.SIZE + len(bounds) + 1
        return MappedHistogram(bounds, self, self._checked(index, size))

    def values(self, index: int, bounds: tuple[float, ...]) -> OneStepHistogram:
        """Return a histogram of any values, whose cells begin at an index."""
        size = OneStepHistogram.SIZE + len(bounds) + 1
        return OneStepHistogram(bounds, self, self._checked(index, size))

    def page(self, index: int, size: int, slots: int) -> OneStepPage:
        """Return a page of counts, whose cells begin at an index."""
        self._checked(index, size_of_page(size, slots))
        return OneStepPage(size, slots, self, index)

    def data(self) -> bytes:
        """Return head and cells of this process."""
        return self._head() + bytes(self.counts)

    def renew(self) -> None:
        """Count in a new file, from zero, in a forked child."""
        if self.pid == os.getpid():
            return
        if self.is_lost:
            self._map_private(bytes(len(self.counts) * _CELL))
            return
        size = len(self.counts) * _CELL
        self._close_files()  # else the parent's file would not look dead
        try:
            self._make_file(size)
        except OSError:
            self._lose(bytes(size))

    def keep_locked(self) -> None:
        """Lock the file again if the application closed the descriptor that held the lock.

        Others may have taken this process for dead meanwhile: then their sums have what it counted,
        and it goes on from zero in a new file.

        Raises:
            OSError: that is not possible.
        """
        if self.is_lost or self._lock.is_open:
            return
        try:
            fcntl.flock(self._lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            self._keep_mapping()
            self._make_file(len(self.counts) * _CELL)
        except BlockingIOError:  # another process just looks: the next call tries again
            os.close(self._lock.number)

    def move(self, directory: str) -> None:
        """Go on in a file of another directory, with the same counts.

        Raises:
            OSError: the file cannot be made; the old one is kept.
        """
        old = self._file, self._lock
        self._keep_mapping()
        self._directory = directory
        self._make_file(len(self.counts) * _CELL, copied=True)
        for file in old:
            file.close()

    def detach(self) -> None:
        """Go on in memory that no other process sees, with the same counts."""
        if not self.is_lost:
            self._close_files()
            self._lose(bytes(self.counts))

    def unlink(self) -> None:
        """Remove the file; the mapping stays."""
        os.unlink(f"{self._directory}/{self.name}")

    def __del__(self) -> None:
        """Close the files: what counted here is gone."""
        with suppress(AttributeError):  # they were never made
            self._close_files()

    def _close_files(self) -> None:
        self._keep_mapping()
        self._lock.close()
        self._file.close()

    def _keep_mapping(self) -> None:
        """Keep a mapping for ever if the application closed its descriptor; before each new one.

        Before Python 3.13, a mapping that is freed closes whatever has the number then.
        """
        if not _TRACKS_NOTHING and not self._file.is_open:
            _kept.append(self.counts)

    def _make_file(self, size: int, *, copied: bool = False) -> None:
        self.pid = os.getpid()
        name = f"w-{self.pid}-{secrets.token_hex(8)}"
        path, hidden = f"{self._directory}/{name}", f"{self._directory}/.{name}"
        file = OpenFile(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        lock = None
        try:
            # Not of the mapped descriptor: a mapping that a child inherits would keep the lock.
            lock = OpenFile(hidden, os.O_RDONLY)
            fcntl.flock(lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(file.number, HEAD_SIZE + size)
            os.pwrite(file.number, self._head(), 0)
            os.rename(hidden, path)
        except OSError:
            file.close()
            if lock is not None:
                lock.close()
            with suppress(OSError):
                os.unlink(hidden)
            raise
        file.path = lock.path = path
        self.name, self._file, self._lock = name, file, lock
        self._map(size, self.counts if copied else None)
        self.is_lost = False

    def _map(self, size: int, copied: memoryview | None) -> None:
        """Map so many bytes of cells of a new file, with the counts of other cells or with none."""
        counts, numbers = self._mapped(size)
        cells = len(counts)
        if copied is not None:
            length = slice(len(copied))
            counts[length] = copied; self.counts = counts; self.numbers = numbers  # noqa: E702  # fmt: skip
        else:
            self.counts, self.numbers = counts, numbers
        self.cells = cells

    def _extend(self, size: int) -> None:
        """Map so many bytes; threads that use the mapping from before reach the same cells."""
        if self.is_lost:
            cells = memoryview(bytearray(size))
            counts, numbers = cells.cast("Q"), cells.cast("d")
        else:
            counts, numbers = self._mapped(size)
        length, more, is_lost = slice(self.cells), len(counts), self.is_lost
        # No call from here on: no other thread comes in between, which may have mapped more. The
        # old mapping is kept until the end, since it releases the GIL when it is freed.
        kept = self.numbers
        if more > self.cells:
            if is_lost:
                counts[length] = self.counts
            self.counts = counts
            self.numbers = numbers
            self.cells = more
        del kept

    def _mapped(self, size: int) -> tuple[memoryview, memoryview[float]]:
        cells = memoryview(b"")
        if size:
            mapped = mmap.mmap(self._file.number, HEAD_SIZE + size, **_TRACKS_NOTHING)
            cells = memoryview(mapped)[HEAD_SIZE:]
        return cells.cast("Q"), cells.cast("d")

    def _map_private(self, data: bytes) -> None:
        cells = memoryview(bytearray(data))
        self.counts, self.numbers = cells.cast("Q"), cells.cast("d")
        self.cells = len(self.counts)

    def _lose(self, data: bytes) -> None:
        self.is_lost = True
        self.name = ""
        self._map_private(data)

    def _head(self) -> bytes:
        return HEAD.pack(MAGIC, _VERSION, *this_process(), 0).ljust(HEAD_SIZE, b"\0")

    def _checked(self, index: int, size: int = 1) -> int:
        if not 0 <= index <= self.cells - size:
            raise IndexError(f"{size} cells at {index} of a segment with {self.cells}")
        return index


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def make_segment(directory: str) -> Segment:
    """Return a segment with a new file, compiled if that can be had.

    Raises:
        OSError: the file cannot be made.
    """
    kind: Callable[[str], Segment] = CompiledSegment or Segment
    try:
        return kind(directory)
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno or errno.EIO, error.strerror, directory) from error
        raise
