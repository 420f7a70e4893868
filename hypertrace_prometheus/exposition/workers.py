"""Worker metrics: process and garbage collector of each worker that shares its counts.

They have the names of the metrics that `prometheus_client` has of one process, and the label
`worker`. The system is asked here, and not by its collectors, since one read of /proc/PID/stat says
which process it is of, too.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from hypertrace.metrics import Declaration, Family
from hypertrace.metrics.labels import WORKER
from hypertrace.metrics.series import Series
from hypertrace.metrics.shared.garbage import garbage_of, own_garbage
from hypertrace.metrics.shared.program import ProcessId, this_process

from .process import THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics.shared.garbage import Garbage
    from hypertrace.metrics.shared.snapshot import Snapshot

GENERATION = "generation"

_LABELS = (WORKER,)
_PROCESS = (
    Declaration(
        "gauge",
        "process_virtual_memory_bytes",
        description="Virtual memory size in bytes.",
        labels=_LABELS,
    ),
    Declaration(
        "gauge",
        "process_resident_memory_bytes",
        description="Resident memory size in bytes.",
        labels=_LABELS,
    ),
    Declaration(
        "gauge",
        "process_start_time_seconds",
        description="Start time of the process since unix epoch in seconds.",
        labels=_LABELS,
    ),
    Declaration(
        "counter",
        "process_cpu_seconds_total",
        description="Total user and system CPU time spent in seconds.",
        labels=_LABELS,
    ),
    Declaration(
        "gauge",
        "process_open_fds",
        description="Number of open file descriptors.",
        labels=_LABELS,
    ),
    Declaration(
        "gauge",
        "process_max_fds",
        description="Maximum number of open file descriptors.",
        labels=_LABELS,
    ),
    Declaration("gauge", THREADS, description="Threads of the process.", labels=_LABELS),
)
_GARBAGE = (
    Declaration(
        "counter",
        "python_gc_collections_total",
        description="Number of times this generation was collected",
        labels=(WORKER, GENERATION),
    ),
    Declaration(
        "counter",
        "python_gc_objects_collected_total",
        description="Objects collected during gc",
        labels=(WORKER, GENERATION),
    ),
    Declaration(
        "counter",
        "python_gc_objects_uncollectable_total",
        description="Uncollectable objects found during GC",
        labels=(WORKER, GENERATION),
    ),
)
_MOST = 4096
"""Bytes of /proc/PID/stat."""

NAMES = frozenset(one.name.removesuffix("_total") for one in (*_PROCESS, *_GARBAGE))
"""Of the metrics that stand for those of one process, as `prometheus_client` names families."""


class _Numbers(NamedTuple):
    """What the system says of a process, in the order of `_PROCESS`; None where it says nothing."""

    virtual: float | None = None
    resident: float | None = None
    started: float | None = None
    cpu: float | None = None
    open_files: float | None = None
    most_files: float | None = None
    threads: float | None = None


class WorkersMetrics:
    """Reads the processes and garbage collectors of the workers that a snapshot found alive.

    A worker without a number is left out: it gets one with the next reading. Left out of the
    process metrics is a worker whose process is not visible here, as in another container.
    """

    def __init__(self, *, shows_itself: bool = True) -> None:
        """Start without series.

        Args:
            shows_itself: as long as there is no worker, show the process that answers, as the
                worker 0.
        """
        self._shows_itself = shows_itself
        self._series: dict[int, Series] = {}
        self._generations: dict[int, list[Series]] = {}

    def read(self, snapshot: Snapshot) -> list[Family]:
        """Return the families that have series.

        Args:
            snapshot: all workers of this moment.
        """
        processes: list[tuple[int, _Numbers]] = []
        garbage: list[tuple[int, Garbage]] = []
        for worker in snapshot.living:
            if worker.number:
                garbage.append((worker.number, garbage_of(worker.cells)))
                numbers = _numbers(ProcessId(worker.pid, worker.started))
                if numbers is not None:
                    processes.append((worker.number, numbers))
        if not snapshot.living and self._shows_itself:
            garbage.append((0, own_garbage()))
            processes.append((0, _numbers(this_process()) or _Numbers()))
        return [*self._of_processes(processes), *self._of_garbage(garbage)]

    def _of_processes(self, processes: Sequence[tuple[int, _Numbers]]) -> list[Family]:
        families = []
        for index, declaration in enumerate(_PROCESS):
            series, values = [], []
            for number, numbers in processes:
                value = numbers[index]
                if value is not None:
                    series.append(self._series_of(number))
                    values.append(value)
            if series:
                families.append(Family(declaration, declaration.labels, series, values))
        return families

    def _of_garbage(self, garbage: Sequence[tuple[int, Garbage]]) -> list[Family]:
        series = [one for number, _ in garbage for one in self._generations_of(number)]
        if not series:
            return []
        values = [[n for _, one in garbage for n in one[i]] for i in range(len(_GARBAGE))]
        return [
            Family(declaration, declaration.labels, series, column)
            for declaration, column in zip(_GARBAGE, values, strict=True)
        ]

    # The same objects in each reading, so that their texts are kept. Numbers of workers are few.

    def _series_of(self, number: int) -> Series:
        made = self._series.get(number)
        return made or self._series.setdefault(number, Series(((), (str(number),))))

    def _generations_of(self, number: int) -> list[Series]:
        made = self._generations.get(number)
        return made or self._generations.setdefault(
            number, [Series(((), (str(number), str(generation)))) for generation in range(3)]
        )


def _numbers(process: ProcessId) -> _Numbers | None:
    """Return what the system says of a process; None if it is not to be seen here."""
    fields = _fields_of_stat(process.pid)
    if fields is None or int(fields[19]) != process.started:
        if process.pid == os.getpid() and not process.started:  # on systems without /proc
            return _Numbers(threads=threading.active_count())
        return None
    boot, ticks, page = _system()
    return _Numbers(
        virtual=int(fields[20]),
        resident=int(fields[21]) * page,
        started=boot + int(fields[19]) / ticks,
        cpu=(int(fields[11]) + int(fields[12])) / ticks,
        open_files=_open_files(process.pid),
        most_files=_most_files(process.pid),
        threads=int(fields[17]),
    )


def _fields_of_stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat behind the name, which may have spaces; None without."""
    try:
        # By the descriptor, which takes a third of the time of a file object.
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, _MOST).rpartition(b")")[2].split()
        finally:
            os.close(file)
    except OSError:
        return None


def _open_files(pid: int) -> float | None:
    folder = f"/proc/{pid}/fd"
    try:
        # The size is their number since Linux 6.2, and 0 before.
        return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 -- quick
    except OSError:  # a process of another user
        return None


def _most_files(pid: int) -> float | None:
    with suppress(ImportError, AttributeError, OSError, ValueError):
        import resource  # noqa: PLC0415 -- not on Windows

        limit, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return float("inf") if limit == resource.RLIM_INFINITY else limit
    # A process of another user, whose limits only this file shows.
    path = f"/proc/{pid}/limits"
    with suppress(OSError, IndexError, ValueError), open(path, "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"Max open files"):
                return float(line.split()[3].replace(b"unlimited", b"inf"))
    return None


@cache
def _system() -> tuple[float, float, int]:
    """Return when it was started, in seconds since the epoch, its ticks a second, bytes a page."""
    boot = 0.0
    with suppress(OSError, IndexError, ValueError), open("/proc/stat", "rb") as file:  # noqa: PTH123
        boot = next(float(line.split()[1]) for line in file if line.startswith(b"btime "))
    return boot, os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
