"""Storage: where aggregations keep their numbers, and how they are read.

There are two: the memory of this process, and files that the workers of an application share
(`hypertrace.metrics.shared.storage`).
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child

from .series import SeriesTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .aggregations import Calls, Count, SpansReading
    from .declarations import Declaration
    from .exponential_series import Exponential, Quantiles
    from .labels import Values
    from .measurements import Gauge, GaugesReading, Number, NumberReading, ValueHistogram
    from .reading import ExponentialReading, HistogramReading, SummaryReading
    from .series import Series, SeriesKind
    from .shared.locks import Locks
    from .shared.snapshot import Snapshot

S = TypeVar("S", bound="Series")


class Origin(NamedTuple):
    """Where and when counts began, for backends that are sent totals."""

    id: str
    """32 hexadecimal digits: the same in all workers that share the counts, and no others."""
    time: float
    """When they began, in seconds since the epoch."""

    @classmethod
    def new(cls) -> Origin:
        """Return that of counts that begin now."""
        return cls(os.urandom(16).hex(), time.time())


class View(Protocol):
    """All numbers of one moment."""

    @property
    def snapshot(self) -> Snapshot | None:
        """All workers at that moment; None in memory."""

    def counts(self, series: Sequence[Count]) -> list[int]:
        """Return the number of each series."""

    def spans(self, calls: Calls) -> SpansReading:
        """Return the spans of a series."""

    def numbers(self, series: Sequence[Number]) -> list[NumberReading]:
        """Return the sum of each series."""

    def gauges(self, series: Sequence[Gauge]) -> list[GaugesReading]:
        """Return the gauges of each series: those of living workers that have a value."""

    def histograms(self, series: Sequence[ValueHistogram]) -> list[HistogramReading]:
        """Return the values of each series."""

    def exponentials(self, series: Sequence[Exponential]) -> list[ExponentialReading]:
        """Return the values of each series."""

    def summaries(self, series: Sequence[Quantiles]) -> list[SummaryReading]:
        """Return the values of each series, and their quantiles at this moment."""


class Storage(Protocol):
    """Makes the tables of a `Metrics`, and reads them."""

    is_shared: bool
    """Whether other workers can read the numbers."""
    is_observer: bool
    """Whether this process exports what workers share, and is none of them."""
    problem: str
    """Why some counts are not shared that were to be, and what to do; empty if all are."""

    @property
    def is_worker(self) -> bool:
        """Whether this process counts where other workers can read it."""

    @property
    def locks(self) -> Locks | None:
        """By which workers agree on one that exports for all; None for one that exports alone."""

    @property
    def origin(self) -> Origin:
        """Where and when these counts began; another one in a forked child that counts alone."""

    @property
    def foreign_tables(self) -> Sequence[SeriesTable[Any]]:
        """The tables that other workers have, and this process does not."""

    def table(
        self,
        declaration: Declaration,
        limit: int,
        names: tuple[Values, Values],
        kind: SeriesKind[S],
    ) -> SeriesTable[S]:
        """Return the table of a metric.

        At any time, also after others have counted. In shared storage, equal arguments give the
        same table.

        Args:
            declaration: what the metric is.
            limit: how many series are held at the most.
            names: of the labels, as in `SeriesTable`.
            kind: what the series hold.
        """

    def view(self, worker: int | str | None) -> View:
        """Return the numbers of this moment, for `Metrics.read`."""

    def save(self, mark: str, view: View) -> None:
        """Keep a view for the process that exports next, as what was exported last."""

    def saved(self, mark: str) -> View | None:
        """Return the view that was kept last; None if there is none."""

    def close(self) -> None:
        """Free the files. What is counted later is in memory. May be called more than once."""


class MemoryStorage:
    """Keeps numbers in the memory of this process. A forked child starts from zero."""

    is_shared = False
    is_worker = False
    is_observer = False
    locks = None
    foreign_tables: Sequence[SeriesTable[Any]] = ()

    def __init__(self, problem: str = "") -> None:
        """Start without tables.

        Args:
            problem: as in `Storage`.
        """
        self.problem: str = problem
        self.origin: Origin = Origin.new()
        self._tables: WeakSet[SeriesTable[Any]] = WeakSet()
        _all.add(self)

    def table(
        self,
        declaration: Declaration,
        limit: int,
        names: tuple[Values, Values],
        kind: SeriesKind[S],
    ) -> SeriesTable[S]:
        """Return the table of a new metric; see `Storage`."""
        table = SeriesTable(declaration, limit, names, kind)
        self._tables.add(table)
        return table

    def view(self, worker: int | str | None) -> View:
        """Return the numbers of this process, which is the only worker.

        Raises:
            LookupError: there is no other worker.
        """
        if worker not in {None, "self"}:
            raise LookupError(
                f"there is no worker {worker!r}: counts are in the memory of this process"
            )
        return _MEMORY

    def save(self, mark: str, view: View) -> None:
        """Do nothing: no other process exports what this one counts."""

    def saved(self, mark: str) -> View | None:  # noqa: ARG002
        """Return None."""
        return None

    def close(self) -> None:
        """Do nothing: there are no files."""

    def reset(self) -> None:
        """Start from zero, in a forked child that has one thread."""
        self.origin = Origin.new()
        for table in tuple(self._tables):
            for series in table.all():
                series.reset()


class _MemoryView:
    """What the objects of this process hold."""

    snapshot = None

    def counts(self, series: Sequence[Count]) -> list[int]:
        return [one.cell.value for one in series]

    def spans(self, calls: Calls) -> SpansReading:
        return calls.read_spans()

    def numbers(self, series: Sequence[Number]) -> list[NumberReading]:
        return [one.read() for one in series]

    def gauges(self, series: Sequence[Gauge]) -> list[GaugesReading]:
        return [one.read() for one in series]

    def histograms(self, series: Sequence[ValueHistogram]) -> list[HistogramReading]:
        return [one.value for one in series]

    def exponentials(self, series: Sequence[Exponential]) -> list[ExponentialReading]:
        return [one.value for one in series]

    def summaries(self, series: Sequence[Quantiles]) -> list[SummaryReading]:
        return [one.value for one in series]


def _close_all() -> None:
    """Close the files of this process at its end, when its exporters have sent the rest."""
    if shared := sys.modules.get(f"{__package__}.shared.storage"):
        shared.close_all()


_MEMORY = _MemoryView()
_all: WeakSet[MemoryStorage] = WeakSet()


def _reset_all() -> None:
    for storage in tuple(_all):
        storage.reset()


after_fork_in_child(_reset_all)
# Registered before the functions of exporters, which import this: so it runs after them.
atexit.register(_close_all)
