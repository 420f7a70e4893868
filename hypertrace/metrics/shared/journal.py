"""Journal: the file of a run directory that gives each series its cells, the same in each worker.

A record is a line: a CRC and a JSON list. Each is appended with one `write()`, and all workers read
all of them in the order in which they stand in the file. So they agree on everything that follows
from the order, without a lock: the cells of a series, and which series the limit leaves out.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Record: TypeAlias = "list[Any]"

# Not `json.dumps` and `json.loads`, which an application may trace.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode

FILE = "names"

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND
_ATTEMPTS = 5
"""A record that was torn by the end of another process takes the next one along."""
_MOST_AT_ONCE = 1 << 20
"""Bytes."""


class Place(NamedTuple):
    """How far a journal was read, and what follows from the records up to there."""

    offset: int = 0
    """In bytes."""
    cells: int = 0
    """How many cells are given away."""
    held: tuple[int, ...] = ()
    """How many series each table has, by the number of the table."""


class Journal:
    """Appends records, and reads those of all workers.

    Any thread may use it, also a signal handler or a finalizer in the middle of a call: reading the
    same record twice has no effect, so there is no lock.
    """

    def __init__(
        self, directory: str, apply: Callable[[Place, Record], Place], *, reserved: int = 0
    ) -> None:
        """Open the file, which is made if there is none.

        Args:
            directory: the run directory.
            apply: receives each record and what follows from those before it; returns what follows
                with it. It may receive a record more than once.
            reserved: how many cells are no series: the first ones.

        Raises:
            OSError: the file cannot be opened or made.
        """
        self.path: str = f"{directory}/{FILE}"
        self._file = OpenFile(self.path, _FLAGS)
        self._apply = apply
        self.place: Place = Place(cells=reserved)

    def append(self, record: Record) -> None:
        """Write a record, and read up to it.

        Raises:
            OSError: there is no room for it.
        """
        text = _text(record)
        line = _line(text)
        # From here on: another thread may read past the record before this one does.
        before = self.place
        for _ in range(_ATTEMPTS):
            written = os.write(self._file.number, line)
            if written < len(line):  # the others see that it is torn
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            if self._read(before, until=text):
                return
        raise OSError(errno.EIO, "records cannot be read back", self.path)

    def read(self) -> None:
        """Apply the records that were appended since the last time.

        Raises:
            OSError: the file cannot be read.
        """
        self._read(self.place)

    def _read(self, place: Place, until: bytes | None = None) -> bool:
        """Apply the records from a place on, and return whether a text was among them."""
        found = False
        while (size := os.fstat(self._file.number).st_size - place.offset) > 0:
            data = os.pread(self._file.number, min(size, _MOST_AT_ONCE), place.offset)
            end = data.rfind(b"\n") + 1
            if not end and len(data) < size:  # a record that is longer
                data = os.pread(self._file.number, size, place.offset)
                end = data.rfind(b"\n") + 1
            if not end:  # a record that is being written, or was torn
                break
            for text in _texts(data[:end]):
                found = found or text == until
                place = self._apply(place, _decode(text.decode()))
            place = place._replace(offset=place.offset + end)
            if place.offset > self.place.offset:
                self.place = place
        return found

    def move(self, directory: str) -> None:
        """Go on in another directory, to which this process or another one copies the records.

        Raises:
            OSError: the file cannot be made, or it has other records.
        """
        records = os.pread(self._file.number, self.place.offset, 0)
        path = f"{directory}/{FILE}"
        copy = f"{directory}/.{FILE}-{os.getpid()}-{threading.get_ident()}"
        file = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if os.write(file, records) < len(records):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            with suppress(FileExistsError):  # another process was faster
                os.link(copy, path)
        finally:
            os.close(file)
            os.unlink(copy)
        moved = OpenFile(path, _FLAGS)
        if os.pread(moved.number, len(records), 0) != records:
            moved.close()
            raise OSError(errno.EEXIST, "other processes have begun to count there", path)
        old, self._file, self.path = self._file, moved, path
        old.close()

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed."""
        try:
            return os.fstat(self._file.number).st_nlink == 0
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Close the file. What is read or appended later raises an `OSError`."""
        self._file.close()


def _text(record: Record) -> bytes:
    return _encode(record).encode()


def _line(text: bytes) -> bytes:
    """Return a record as it is written: a separate line, whatever stands before it."""
    return b"\n%08x%b\n" % (zlib.crc32(text), text)


def _texts(data: bytes) -> Iterator[bytes]:
    for line in data.split(b"\n"):
        text = line[8:]
        if text and line[:8] == b"%08x" % zlib.crc32(text):
            yield text
