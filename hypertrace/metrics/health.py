"""Health: the metrics of the counting itself, which every exporter shows."""

from __future__ import annotations

import platform
from collections import Counter
from threading import local
from typing import TYPE_CHECKING

import hypertrace
from hypertrace import Caller, tallies

from .declarations import (
    BUILD,
    DROPPED,
    INVALID,
    OVERFLOWED,
    SERIES,
    SERIES_LIMIT,
    SILENT,
    SWALLOWED,
    UNQUEUED,
    WORKERS,
)
from .reading import Family
from .series import Series
from .series_kinds import COUNT_SERIES
from .tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypertrace import Cell
    from hypertrace.tallies import Tally

    from .declarations import Declaration
    from .storage import Storage, View
    from .tables import Usage

_PROCESS = Series(((), ()))
_NOWHERE = Caller("", "", None, 0, 0)
"""For the warning about a limit that these tables do not reach."""
_MOST_METRICS = 10_000
_BUILD = Series(
    (
        (hypertrace.__version__, platform.python_version(), platform.python_implementation()),
        (),
    )
)

_STATES = [Series((("live",), ())), Series((("folded",), ()))]


class Health:
    """Reads how the counting itself does: its series, limits, errors and version."""

    def __init__(self, text: Callable[[object], str], storage: Storage) -> None:
        """Start without series.

        Args:
            text: returns a value as the text of a label.
            storage: where the errors of all workers are counted.
        """
        self._text = text
        self._known: dict[str, Series] = {}
        self._swallowed = _Errors(SWALLOWED, tallies.swallowed, storage)
        self._dropped = _Errors(DROPPED, tallies.dropped, storage)
        self._unqueued = _Errors(UNQUEUED, tallies.unqueued, storage)
        self._invalid = storage.table(INVALID, _MOST_METRICS, (INVALID.labels, ()), COUNT_SERIES)

    def count_invalid(self, metric: str) -> None:
        """Count a value of a declared metric that is no number."""
        self._invalid.get(self._series(metric).key, _NOWHERE).cell.increment()

    def close(self) -> None:
        """Count the errors of this process no more."""
        self._swallowed.close()
        self._dropped.close()
        self._unqueued.close()

    def read(self, usages: Sequence[Usage], view: View) -> list[Family]:
        """Return the families of this moment.

        Args:
            usages: how much room each metric takes.
            view: the numbers of this moment.
        """
        series = [self._series(usage.metric) for usage in usages]
        silent: Counter[str] = Counter()  # names that are cut may be equal
        for name, count in hypertrace.silent_tracers().items():
            silent[self._text(name)] += count
        return [
            Family(SERIES, SERIES.labels, series, [usage.held for usage in usages]),
            Family(SERIES_LIMIT, SERIES_LIMIT.labels, series, [usage.limit for usage in usages]),
            Family(OVERFLOWED, OVERFLOWED.labels, series, [one.overflowed for one in usages]),
            self._swallowed.read(view),
            read_table(self._invalid, view)[0],
            self._dropped.read(view),
            self._unqueued.read(view),
            Family(SILENT, SILENT.labels, [*map(self._series, silent)], [*silent.values()]),
            *_workers(view),
            Family(BUILD, BUILD.labels, [_BUILD], [1]),
        ]

    def _series(self, label: str) -> Series:
        # The same one in each reading. Names of metrics and of classes are few.
        return self._known.get(label) or self._known.setdefault(label, Series(((label,), ())))


def _workers(view: View) -> list[Family]:
    """Return how many workers there are, where they share their counts."""
    snapshot = view.snapshot
    if snapshot is None:
        return []
    values = [len(snapshot.living), snapshot.ended]
    return [Family(WORKERS, WORKERS.labels, _STATES, values)]


class _Making(local):
    """The making of a series in one thread."""

    errors = 0
    """How many errors it is to count; 0 while it is not made."""


class _Errors:
    """The errors of one kind, counted in a storage that all workers share, or by the process."""

    def __init__(self, declaration: Declaration, tally: Tally, storage: Storage) -> None:
        self._tally = tally
        self._table = storage.table(declaration, 1, ((), ()), COUNT_SERIES)
        self._is_shared = storage.is_shared
        if self._is_shared:
            self._cell: Cell | None = None
            self._making = _Making()
            tally.follow(self._count)

    def read(self, view: View) -> Family:
        value = self._tally.value
        if self._is_shared:
            value = sum(view.counts(self._table.all()))
        return Family(self._table.declaration, (), [_PROCESS], [value])

    def close(self) -> None:
        self._tally.unfollow(self._count)

    def _count(self) -> None:
        # The series is made when the first error comes: a process that only reads is no worker.
        if self._cell is None:
            self._make_cell()
        else:
            self._cell.increment()

    def _make_cell(self) -> None:
        """Count the first error, and those that making the series causes in this thread.

        To make it calls the standard library, whose functions an application may trace: their
        events are dropped, which is counted here.
        """
        making = self._making
        if making.errors:
            making.errors += 1
            return
        making.errors = 1
        try:
            cell = self._cell = self._table.get(_PROCESS.key, _NOWHERE).cell
        finally:
            errors, making.errors = making.errors, 0
        for _ in range(errors):
            cell.increment()
