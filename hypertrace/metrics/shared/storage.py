"""Shared storage: the numbers of all workers of an application, in files of a run directory."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from hypertrace import suppress_tracing
from hypertrace.forks import after_fork_in_child
from hypertrace.metrics.declarations import DURATIONS, IN_PROGRESS, Declaration
from hypertrace.metrics.series import Series
from hypertrace.metrics.series_kinds import CALL_SERIES, NATIVE_CALL_SERIES
from hypertrace.metrics.storage import Origin

from .directory import NotShared, again, find, keep_linked, remove_if_last
from .garbage import LAYOUT, GarbageCounter
from .journal import Journal, Place
from .kinds import KINDS
from .layouts import COUNT, GAUGE, NUMBER, histogram_layout, page_layout
from .locks import Locks
from .origin import settled_origin
from .segment import HEAD_SIZE, Segment, make_segment
from .snapshot import NOTHING, Snapshot, fold, take, write_dead
from .table import SharedTable
from .view import Elsewhere, SharedView

if TYPE_CHECKING:
    from hypertrace.metrics.labels import Values
    from hypertrace.metrics.series import SeriesKind
    from hypertrace.metrics.storage import View

    from .directory import RunDirectory
    from .journal import Record
    from .view import Laid

S = TypeVar("S", bound=Series)

_MANY = 16
"""Files of workers in a run directory from which on a new process folds those that are gone."""
_ATTEMPTS = 3
_CELL = 8

_logger = logging.getLogger("hypertrace.metrics")


def open_storage(workers: bool | str, *, name: str) -> SharedStorage:  # noqa: FBT001 -- as users write it
    """Return the storage in the run directory of this program.

    Args:
        workers: as `checked_workers` returns it, and not False.
        name: of the `Metrics`, among those of its process.

    Raises:
        OSError: no run directory can be used, or none can be known.
    """
    directory = find(workers, name=name)
    if directory is None:
        raise NotShared(f"workers={workers!r}")
    for _ in range(_ATTEMPTS):
        try:
            return SharedStorage(directory)
        except FileNotFoundError:  # the last process before this one has just removed it
            directory = again(directory)
    return SharedStorage(directory)


class SharedStorage:
    """Keeps numbers in a file of this process, and reads those of all workers.

    The file is made when this process counts for the first time: a process that only reads is no
    worker. A forked child has another file, and so starts from zero. What there is no room for
    is counted in memory, which only this process sees; a warning says so once.

    Attributes:
        directory: the run directory.
        in_memory: what there was no room for.
        layout: a code for each cell, see `snapshot.merge`.
        is_observer: this process is none of the workers: it exports what they share whether or not
            it leads, beside what they export themselves. To be set before exporters are made.
        problem: the last warning about what is not shared; empty without one.
    """

    is_shared = True

    def __init__(self, directory: RunDirectory) -> None:
        """Open a run directory.

        Raises:
            OSError: its files cannot be opened or made.
        """
        self.directory: RunDirectory = directory
        self.layout: bytearray = bytearray(LAYOUT)
        self.in_memory: set[object] = set()
        self._tables: dict[int, SharedTable[Any]] = {}
        self._own: list[SharedTable[Any]] = []
        self._segment: Segment | None = None
        # Of several threads that make a segment at once, all take the one that is here first.
        self._segments: dict[int, Segment] = {}
        self._garbage: GarbageCounter | None = None
        self._not_counting = threading.Lock()
        self._pid = os.getpid()
        self._warned: set[str] = set()
        self._dead = NOTHING
        self._origin: Origin | None = None
        self._moving = threading.Lock()
        self._journal = Journal(directory.path, self._apply, reserved=len(LAYOUT))
        self._locks = Locks(directory.path)
        self._fold_locks = self._locks
        self._is_closed = False
        self.is_observer: bool = False
        self.problem: str = ""
        _all.add(self)

    @property
    def is_worker(self) -> bool:
        """Whether this process has a file, since it has counted."""
        return self._segment is not None

    @property
    def locks(self) -> Locks | None:
        """Of the run directory; None for an observer, and once this storage is closed."""
        return None if self._is_closed or self.is_observer else self._locks

    def table(
        self,
        declaration: Declaration,
        limit: int,
        names: tuple[Values, Values],
        kind: SeriesKind[S],
    ) -> SharedTable[S]:
        """Return the table of a metric; see `hypertrace.metrics.storage.Storage`.

        One that was known already, of other workers or by another call, is the same table.
        """
        made = SharedTable(declaration, limit, names, kind, self)
        # First: a thread that reads the journal from here on takes it.
        self._own.append(made)
        for table in self._tables.copy().values():
            if table is not made and table.record == made.record:
                table.take_over(declaration, kind)
                self._own.remove(made)
                self._own.append(table)
                return table
        return made

    @property
    def origin(self) -> Origin:
        """Where and when these counts began: as the first process wrote that was asked.

        Where it cannot be written, each process has its own.
        """
        if self._origin is None:
            self._origin = settled_origin(self.directory.path, Origin.new())
        return self._origin

    @property
    def foreign_tables(self) -> list[SharedTable[Any]]:
        """The tables that other workers have, and this process does not."""
        return [table for table in self._tables.copy().values() if table not in self._own]

    def place(self, record: Record) -> bool:
        """Append a record and apply all up to it.

        Returns:
            False if that is not possible: then this process counts in memory.
        """
        if self._is_closed:
            return False
        self._notice_changes()
        try:
            self._journal.append(record)
        except OSError as error:
            self._warn_of_memory(error)
            return False
        return True

    def cell(self, at: int) -> Any:
        """Return the count at an index; None if there is no room."""
        segment = self._grown(at, COUNT)
        return None if segment is None else segment.cell(at)

    def number(self, at: int) -> Any:
        """Return the sum at an index; None if there is no room."""
        segment = self._grown(at, NUMBER)
        return None if segment is None else segment.number(at)

    def gauge(self, at: int) -> Any:
        """Return the gauge at an index; None if there is no room."""
        segment = self._grown(at, GAUGE)
        return None if segment is None else segment.gauge(at)

    def histogram(self, at: int, bounds: tuple[float, ...]) -> Any:
        """Return the histogram of durations at an index; None if there is no room."""
        segment = self._grown(at, histogram_layout(bounds))
        return None if segment is None else segment.histogram(at, bounds)

    def values(self, at: int, bounds: tuple[float, ...]) -> Any:
        """Return the histogram of any values at an index; None if there is no room."""
        segment = self._grown(at, histogram_layout(bounds))
        return None if segment is None else segment.values(at, bounds)

    def page(self, at: int, size: int, slots: int) -> Any:
        """Return the page of buckets at an index; None if there is no room."""
        segment = self._grown(at, page_layout(size, slots))
        return None if segment is None else segment.page(at, size, slots)

    def view(self, worker: int | str | None) -> View:
        """Return the numbers of this moment.

        Args:
            worker: the number of a worker, or `"self"`; None is the sum of all.

        Raises:
            LookupError: there is no such worker.
        """
        snapshot = Snapshot.nothing()
        if not self._is_closed:
            self._notice_changes()
            if self._garbage is not None:
                self._garbage.refresh()
            try:
                snapshot = self.snapshot()
            except OSError as error:
                self._warn_of_reading(error)
        own = self._own_cells(snapshot)
        if worker is None:
            return SharedView.of(snapshot, self, own, snapshot)
        if worker == "self":
            own = own or self._mapped_cells()
            return SharedView.of(Snapshot.nothing(), self, own, snapshot)
        for one in snapshot.living:
            if one.number == worker:
                alone = Snapshot.nothing()._replace(workers=[one])
                is_own = one.number == self.number_in(snapshot)
                laid: Laid = self if is_own else Elsewhere(self.layout)
                return SharedView.of(alone, laid, None, snapshot)
        numbers = ", ".join(str(one.number) for one in snapshot.living if one.number)
        raise LookupError(f"there is no worker {worker!r}; there are {numbers or 'none'}")

    def save(self, mark: str, view: View) -> None:
        """Keep a view for the process that exports next, as what was exported last.

        Args:
            mark: name of the exporter, in letters, digits and `-`.
            view: of this storage.

        Raises:
            OSError: it cannot be written.
        """
        if isinstance(view, SharedView) and not self._is_closed:
            path = self._path_of(mark)
            with open(f"{path}.new", "wb") as file:
                file.write(view.total)
            os.rename(f"{path}.new", path)

    def saved(self, mark: str) -> View | None:
        """Return the view that was kept last, by whichever process; None if there is none."""
        try:
            with open(self._path_of(mark), "rb") as file:
                data = file.read()
            self._journal.read()  # else series of other workers would look new
        except OSError:
            return None
        total = data[: len(data) // _CELL * _CELL]
        return SharedView(total, [], bytearray(), self, Snapshot.nothing())

    def _path_of(self, mark: str) -> str:
        kind = "observed" if self.is_observer else "sent"
        return f"{self.directory.path}/{kind}-{mark}"

    def snapshot(self) -> Snapshot:
        """Return the files of all workers; those that are gone are folded.

        Raises:
            OSError: they cannot be read.
        """
        snapshot = take(self.directory.path, self._layout_of_all)
        is_due = any(not (one.is_alive and one.number) for one in snapshot.workers)
        if (is_due or snapshot.has_folded_files) and self.fold():
            snapshot = take(self.directory.path, self._layout_of_all)
        self._dead = snapshot.dead
        return snapshot

    def fold(self) -> bool:
        """Fold the workers that are gone, unless another process or thread just does.

        Returns:
            Whether it was done.
        """
        with self._fold_locks.try_fold() as is_free:
            if is_free:
                try:
                    fold(self.directory.path, self._layout_of_all)
                except OSError as error:
                    self._warn_of_folding(error)
                    return False
            return is_free

    def close(self) -> None:
        """Free the files, at the end of the process or when nothing reads the counts any more.

        What this process has counted stays in the sums as long as another process of the
        application lives; the last one removes the run directory. Reading gives what this process
        counted; what is new is counted in memory. May be called more than once.
        """
        if not self._is_closed:
            self._is_closed = True
            if self._garbage is not None:
                self._garbage.stop()
            segment = self._segment
            is_gone = remove_if_last(self.directory, None if segment is None else segment.name)
            if is_gone and segment is not None:
                segment.detach()
            self._locks.close()
            self._fold_locks.close()
            self._journal.close()

    def renew(self) -> None:
        """Count from zero in a forked child."""
        self._pid = os.getpid()
        self._moving = threading.Lock()
        if isinstance(self._segment, Segment):  # the compiled one has a hook in C
            self._segment.renew()
        for one in self.in_memory:
            one.reset()  # type: ignore[attr-defined]
        if not self._is_closed:
            keep_linked(self.directory)
        self._fold_if_many()

    def _notice_changes(self) -> None:
        """Renew after a fork by C, of which Python does not know, and a removed directory."""
        if self._pid != os.getpid():
            self.renew()
        if self._journal.is_removed and self._moving.acquire(blocking=False):
            try:
                self._move()
            except OSError as error:
                self._warn_of_memory(error)
            finally:
                self._moving.release()
        segment = self._segment
        if isinstance(segment, Segment):
            with suppress(OSError):
                segment.keep_locked()
        if segment is not None and segment.is_lost:
            self._warn_of_memory(OSError("no file could be made after a fork"))

    def _move(self) -> None:
        """Go on in a directory that takes the place of one which was removed."""
        directory = again(self.directory)
        self._journal.move(directory.path)
        self.directory = directory
        write_dead(directory.path, self._dead)
        if self._origin is not None:
            self._origin = settled_origin(directory.path, self._origin)
        if self._segment is not None:
            self._segment.move(directory.path)
        # Who leads stays as it is for those that knew the old directory.
        self._fold_locks = Locks(directory.path)

    def _own_cells(self, snapshot: Snapshot) -> bytes | None:
        """Return the cells of this process if they are in no file that others see."""
        segment = self._segment
        if segment is None or any(worker.name == segment.name for worker in snapshot.workers):
            return None
        return self._mapped_cells()

    def number_in(self, snapshot: Snapshot) -> int | None:
        """Return the number of this process as a worker; 0 if it is none, None as yet."""
        name = None if self._segment is None else self._segment.name
        return next((one.number or None for one in snapshot.living if one.name == name), 0)

    def _mapped_cells(self) -> bytes:
        return b"" if self._segment is None else self._segment.data()[HEAD_SIZE:]

    def _grown(self, at: int, layout: bytes) -> Segment | None:
        """Return the segment with some cells from an index on; None if there is no room."""
        if at < 0:
            return None
        try:
            segment = self._segment
            if segment is None:
                made = make_segment(self.directory.path)
                segment = self._segment = self._segments.setdefault(0, made)
                if segment is not made:  # another thread was faster
                    made.unlink()
                self._fold_if_many()
            segment.grow(at + len(layout))
        except OSError as error:
            self._warn_of_memory(error)
            return None
        if not self._is_closed and self._not_counting.acquire(blocking=False):  # never released
            self._garbage = GarbageCounter(segment)
        return segment

    def _fold_if_many(self) -> None:
        """Bound the files also where no process reads."""
        with suppress(OSError):
            if not self._is_closed and len(os.listdir(self.directory.path)) > _MANY:
                self.fold()

    def _layout_of_all(self) -> bytes:
        self._journal.read()
        return bytes(self.layout)

    def _apply(self, place: Place, record: Record) -> Place:
        if record[0] == "table":
            return self._apply_table(place, record)
        number, common, others, *part = record
        table, key = self._tables[number], (tuple(common), tuple(others))
        held = table.find(key)
        if part:
            name, settings = part
            if held is None or _is_earlier(held.part_at(name), place):
                return place
            layout = held.part_layout(name, settings)
            self._lay_out(place, layout)
            held.adopt_part(name, settings, place.cells)
            return place._replace(cells=place.cells + len(layout))
        if held is not None and _is_earlier(held.at, place):
            return place
        is_overflow = key == table.overflow_key
        if not is_overflow and place.held[number] >= table.limit:
            return place
        layout = KINDS[table.kind.name].layout(*table.kind.settings)
        self._lay_out(place, layout)
        table.adopt(key, place.cells)
        counts = list(place.held)
        counts[number] += not is_overflow
        return Place(place.offset, place.cells + len(layout), tuple(counts))

    def _apply_table(self, place: Place, record: Record) -> Place:
        number = len(place.held)
        if any(self._tables[known].record == record for known in range(number)):
            return place
        # Of several threads that get here, all take the same.
        self._tables.setdefault(number, self._table_of(record)).number = number
        return place._replace(held=(*place.held, 0))

    def _table_of(self, record: Record) -> SharedTable[Any]:
        for table in self._own:
            if table.record == record and table.number is None:
                return table
        _, kind, name, common, others, limit, description, unit, *rest = record
        shared = KINDS[kind]
        is_calls = kind in {CALL_SERIES.name, NATIVE_CALL_SERIES.name}
        declaration = Declaration(shared.metric, name, description=description, unit=unit)
        names = tuple(common), tuple(others)
        made = shared.kind(*[] if is_calls else rest)
        table = SharedTable(declaration, limit, names, made, self)
        if is_calls:
            durations, in_progress = rest
            table.parts = replace(DURATIONS, name=durations), replace(IN_PROGRESS, name=in_progress)
        return table

    def _lay_out(self, place: Place, codes: bytes) -> None:
        self.layout[place.cells : place.cells + len(codes)] = codes

    def _warn_of_memory(self, error: OSError) -> None:
        self._warn(
            "What is new is counted in the memory of process %d from here on, and not shared with "
            "the other workers: %s. Look for room and permissions in %s, or let HYPERTRACE_WORKERS "
            "name another directory",
            error,
        )

    def _warn_of_folding(self, error: OSError) -> None:
        self._warn(
            "Process %d keeps the files of workers that have ended, because their counts cannot be "
            "added up: %s. No count is lost. Free some room in %s",
            error,
        )

    def _warn_of_reading(self, error: OSError) -> None:
        self._warn(
            "Process %d shows only what it has counted itself, because the files of the other "
            "workers cannot be read: %s. Let all workers run as one user who owns %s, or let "
            "HYPERTRACE_WORKERS name a directory that all of them can read and write",
            error,
        )

    def _warn(self, text: str, error: OSError) -> None:
        """Log once for each text."""
        if text not in self._warned:
            self._warned.add(text)
            self.problem = text % (os.getpid(), error, self.directory.path)
            with suppress(Exception):  # a broken log handler must not cost a count
                suppress_tracing(_logger.warning, "%s", self.problem)


def _is_earlier(at: int, place: Place) -> bool:
    """Whether something got its cells by an earlier record: then this one has no effect."""
    return 0 <= at < place.cells


_all: WeakSet[SharedStorage] = WeakSet()


def _renew_all() -> None:
    for storage in tuple(_all):
        storage.renew()


def close_all() -> None:
    """Close all storages, at the end of the process."""
    for storage in tuple(_all):
        storage.close()


after_fork_in_child(_renew_all)
