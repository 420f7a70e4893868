"""Failures of third-party collectors: counted by their class, and logged."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from hypertrace import Caller
from hypertrace.inspection import type_name
from hypertrace.metrics import Declaration, Family
from hypertrace.metrics.series_kinds import COUNT_SERIES
from hypertrace.metrics.storage import MemoryStorage
from hypertrace.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics.aggregations import Count
    from hypertrace.metrics.storage import Storage, View

Fail: TypeAlias = "Callable[[BaseException], None]"
"""What to call with an error that costs a part of what a collector gives."""

FAILED = Declaration(
    "counter",
    "hypertrace_failed_collections_total",
    description="Collections that failed, by the collector.",
    labels=("collector",),
)

_MOST_CLASSES = 100
_LONGEST_NAME = 256
_OTHER = "<other>"

_NOWHERE = Caller("", "", None, 0, 0)
"""For the warning about a limit that the table does not reach."""

_logger = logging.getLogger("hypertrace_prometheus")


class Failures:
    """How often collectors failed, by their class.

    Any thread may count and read, and no lock is taken. Past 100 classes, further ones are counted
    together as `<other>`.
    """

    def __init__(self, storage: Storage | None = None) -> None:
        """Start with none.

        Args:
            storage: where they are counted; None counts in memory.
        """
        self._storage: Storage = MemoryStorage() if storage is None else storage
        self._table = self._storage.table(
            FAILED, _MOST_CLASSES + 1, (FAILED.labels, ()), COUNT_SERIES
        )
        self._counts: dict[str, Count] = {}
        self._log_limits: dict[str, RateLimit] = {}

    def expect(self, collector: object) -> None:
        """Show the class of a collector before it fails, with 0: so its first failure is a rise."""
        self._expected(self._known_as(collector))

    def count(self, collector: object, error: BaseException) -> None:
        """Count one failure, and log it with its traceback. Never raises.

        A class of collectors is logged once a minute at the most, with the number of failures that
        were left out.
        """
        name = self._known_as(collector)
        self._expected(name)
        self._table.get(((name,), ()), _NOWHERE).cell.increment()
        with suppress(Exception):  # a broken log handler must not cost the page
            self._log(name, error)

    def read(self) -> Family:
        """Return the classes, each with the number of its failures."""
        return self.after(self._storage.view(None))()

    def after(self, view: View) -> Callable[[], Family]:
        """Return a function that returns the failures of a view, and those of this process since.

        So that a page needs one view.

        Args:
            view: one of the storage, just taken.
        """
        shown = self._shown()
        viewed = dict(zip(shown, view.counts(shown), strict=True))
        # After the view: what is counted in between is missing this time, and not there twice.
        before = self._own()

        def read() -> Family:
            since = {one: number - before.get(one, 0) for one, number in self._own().items()}
            shown = self._shown()
            numbers = [viewed.get(one, 0) + since.get(one, 0) for one in shown]
            return Family(FAILED, FAILED.labels, shown, numbers)

        return read

    def _shown(self) -> list[Count]:
        return [one for one in self._table.all() if not self._table.is_overflow(one)]

    def _expected(self, name: str) -> None:
        if name not in self._counts:
            self._counts[name] = self._table.expect(((name,), ()), _NOWHERE)

    def _own(self) -> dict[Count, int]:
        """Return what this process has counted, where it has."""
        return {one: one.cell.value for one in self._counts.copy().values() if one.cell is not None}

    def _known_as(self, collector: object) -> str:
        name = _name(type(collector))
        is_known = name in self._counts or len(self._counts) < _MOST_CLASSES
        return name if is_known else _OTHER

    def _log(self, name: str, error: BaseException) -> None:
        limit = self._log_limits.get(name) or self._log_limits.setdefault(name, RateLimit())
        if limit.allow():
            _logger.error(
                "The collector %s failed; the page goes out without what it did not give "
                "(%d more failures not logged)",
                name,
                limit.take_suppressed(),
                exc_info=error,
            )


def _name(collector: type) -> str:
    try:
        name = f"{collector.__module__}.{collector.__qualname__}"[:_LONGEST_NAME]
    except Exception:  # noqa: BLE001 -- a metaclass may raise anything
        name = type_name(collector)[:_LONGEST_NAME]
    # A class that was made at run time may have any name.
    return name.encode(errors="replace").decode()
