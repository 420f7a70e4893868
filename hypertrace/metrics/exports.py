"""Exports: the exporters that push the counts of a `Metrics`, and how each of them fares."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from hypertrace import Caller

from .declarations import (
    EXPORTS_BYTES,
    EXPORTS_DROPPED,
    EXPORTS_FAILED,
    EXPORTS_LAST_SUCCESS,
    EXPORTS_SECONDS,
    EXPORTS_SENT,
)
from .flushing import flush_all
from .reading import Family
from .series import Series
from .series_kinds import COUNT_SERIES, gauge_series, number_series
from .storage import MemoryStorage
from .tables import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace import Cell

    from .aggregations import Count
    from .declarations import Declaration
    from .flushing import Flushable
    from .measurements import Gauge, Number
    from .reading import Value
    from .series import Key, SeriesKind, SeriesTable
    from .storage import Storage, View

S = TypeVar("S", bound=Series)

_MOST_EXPORTERS = 1_000
_NOWHERE = Caller("", "", None, 0, 0)
"""For the warning about a limit."""


class Exports:
    """The exporters that push what a `Metrics` counts. Any thread may use it.

    How they fare is counted where the other numbers are: where workers share these, the numbers of
    those that have exported add up.
    """

    def __init__(self, storage: Storage) -> None:
        """Start without exporters.

        Args:
            storage: where the numbers are kept.
        """
        self._storage = storage
        self._tables = _Tables(storage)
        self._observer: _Tables | None = None
        self._kinds: Counter[str] = Counter()
        self._flushables: dict[Flushable, None] = {}

    def add(self, kind: str) -> ExportCounts:
        """Return what counts how one more exporter fares.

        Args:
            kind: of exporter, as `StatsdExporter`, for the label; the second one of a kind is
                `StatsdExporter-2`.
        """
        self._kinds[kind] += 1
        number = self._kinds[kind]
        name = kind if number == 1 else f"{kind}-{number}"
        tables = self._tables
        if self._storage.is_observer:
            # It is no worker, and so has no numbers among those of the workers.
            name += "-observer"
            tables = self._observer = self._observer or _Tables(MemoryStorage())
        return ExportCounts(tables, name)

    def attach(self, exporter: Flushable) -> None:
        """Flush an exporter from now on, and hold it."""
        self._flushables[exporter] = None

    def detach(self, exporter: Flushable) -> None:
        """Flush an exporter no more."""
        self._flushables.pop(exporter, None)

    def flush(self, timeout: float) -> bool:
        """Flush all exporters that are attached at the same time; see `Metrics.flush`."""
        return flush_all(list(self._flushables), timeout)

    def read(self, view: View) -> list[Family]:
        """Return the families of a moment; none where there was no exporter.

        Args:
            view: the numbers of that moment.
        """
        families = self._tables.read(view)
        if self._observer is None:
            return families
        own = self._observer.read(MemoryStorage().view(None))
        return [_joined(*pair) for pair in zip(families, own, strict=True)] if families else own


class ExportCounts:
    """How one exporter fares. Any thread may count; a forked child starts from zero.

    Attributes:
        name: the value of the label `exporter`.
    """

    def __init__(self, tables: _Tables, name: str) -> None:
        """Show the exporter with zeros.

        Args:
            tables: where it is counted.
            name: of the exporter.
        """
        self.name: str = name
        self._tables = tables
        self._key: Key = ((name,), ())
        for table in tables.counters:
            table.expect(self._key, _NOWHERE)

    @property
    def sent(self) -> int:
        """How many readings this process has sent."""
        return self._count(self._tables.sent)

    @property
    def failed(self) -> int:
        """How many attempts of this process have failed."""
        return self._count(self._tables.failed)

    @property
    def dropped(self) -> int:
        """How many lines, points and events this process has given up."""
        return self._count(self._tables.dropped)

    def count_attempt(self) -> None:
        """Show when the first attempt began, until one succeeds."""
        gauge = self._tables.last_success.get(self._key, _NOWHERE)
        if gauge.cell.value is None:
            self._set_last_success()

    def count_sent(self) -> None:
        """Count a reading, which was sent now."""
        self._tables.sent.get(self._key, _NOWHERE).cell.increment()
        self._set_last_success()

    def count_failed(self) -> None:
        """Count an attempt that failed."""
        self._tables.failed.get(self._key, _NOWHERE).cell.increment()

    def count_dropped(self, number: int) -> None:
        """Count lines, points or events that are given up."""
        increment = self._tables.dropped.get(self._key, _NOWHERE).cell.increment
        for _ in range(number):
            increment()

    def count_bytes(self, number: int) -> None:
        """Count what was sent."""
        self._tables.bytes.get(self._key, _NOWHERE).add(float(number))

    def count_seconds(self, seconds: float) -> None:
        """Count the time that was spent to encode and to send."""
        self._tables.seconds.get(self._key, _NOWHERE).add(max(0.0, seconds))

    def end(self) -> None:
        """Show no last success any more: the exporter was stopped."""
        self._tables.last_success.get(self._key, _NOWHERE).cell.clear()

    def _set_last_success(self) -> None:
        self._tables.last_success.get(self._key, _NOWHERE).set(time.time())

    def _count(self, table: SeriesTable[Count]) -> int:
        # In shared counts there is none before the first one is counted.
        cell: Cell | None = table.expect(self._key, _NOWHERE).cell
        return 0 if cell is None else cell.value


class _Tables:
    """The tables of all exporters, in one storage."""

    def __init__(self, storage: Storage) -> None:
        def table(declaration: Declaration, kind: SeriesKind[S]) -> SeriesTable[S]:
            return storage.table(declaration, _MOST_EXPORTERS, (declaration.labels, ()), kind)

        self.sent: SeriesTable[Count] = table(EXPORTS_SENT, COUNT_SERIES)
        self.failed: SeriesTable[Count] = table(EXPORTS_FAILED, COUNT_SERIES)
        self.dropped: SeriesTable[Count] = table(EXPORTS_DROPPED, COUNT_SERIES)
        self.bytes: SeriesTable[Number] = table(EXPORTS_BYTES, number_series())
        self.seconds: SeriesTable[Number] = table(EXPORTS_SECONDS, number_series())
        self.last_success: SeriesTable[Gauge] = table(EXPORTS_LAST_SUCCESS, gauge_series("max"))
        self._counts = (self.sent, self.failed, self.dropped)
        self._numbers = (self.bytes, self.seconds)
        self.counters: Sequence[SeriesTable[Any]] = (*self._counts, *self._numbers)

    def read(self, view: View) -> list[Family]:
        """Return the families of a moment; none without an exporter."""
        if not len(self.sent):
            return []
        families = []
        for count_table in self._counts:
            counts = count_table.all()
            families.append(_family(count_table, counts, view.counts(counts)))
        for number_table in self._numbers:
            numbers = number_table.all()
            sums = [reading.value for reading in view.numbers(numbers)]
            families.append(_family(number_table, numbers, sums))
        return [*families, read_table(self.last_success, view)[0]]


def _family(table: SeriesTable[S], series: Sequence[S], values: Sequence[float]) -> Family:
    """Return a family with zeros, since a rate needs the number before the first one counts."""
    shown: list[tuple[S, Value]] = [
        (one, value)
        for one, value in zip(series, values, strict=True)
        if value or not table.is_overflow(one)
    ]
    return Family(
        table.declaration,
        table.label_names,
        [one for one, _ in shown],
        [value for _, value in shown],
    )


def _joined(one: Family, other: Family) -> Family:
    series = [*one.series, *other.series]
    return Family(one.declaration, one.label_names, series, [*one.values, *other.values])
