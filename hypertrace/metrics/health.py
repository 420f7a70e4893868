"""Health: the metrics of the counting itself, which every exporter shows."""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING

import hypertrace

from .declarations import (
    BUILD,
    DROPPED,
    OVERFLOWED,
    SERIES,
    SERIES_LIMIT,
    SILENT,
    SWALLOWED,
)
from .reading import Family
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .declarations import Declaration
    from .tables import Usage

_PROCESS = Series(((), ()))
_BUILD = Series(
    (
        (hypertrace.__version__, platform.python_version(), platform.python_implementation()),
        (),
    )
)


class Health:
    """Reads how the counting itself does: its series, limits, errors and version."""

    def __init__(self, text: Callable[[object], str]) -> None:
        """Start without series.

        Args:
            text: returns a value as the text of a label.
        """
        self._text = text
        self._known: dict[str, Series] = {}

    def read(self, usages: Sequence[Usage]) -> list[Family]:
        """Return the families of this moment.

        Args:
            usages: how much room each metric takes.
        """
        series = [self._series(usage.metric) for usage in usages]
        silent: Counter[str] = Counter()  # names that are cut may be equal
        for name, count in hypertrace.silent_tracers().items():
            silent[self._text(name)] += count
        return [
            Family(SERIES, SERIES.labels, series, [usage.held for usage in usages]),
            Family(SERIES_LIMIT, SERIES_LIMIT.labels, series, [usage.limit for usage in usages]),
            Family(OVERFLOWED, OVERFLOWED.labels, series, [one.overflowed for one in usages]),
            _of_process(SWALLOWED, hypertrace.swallowed_errors()),
            _of_process(DROPPED, hypertrace.dropped_events()),
            Family(SILENT, SILENT.labels, [*map(self._series, silent)], [*silent.values()]),
            Family(BUILD, BUILD.labels, [_BUILD], [1]),
        ]

    def _series(self, label: str) -> Series:
        # The same one in each reading. Names of metrics and of classes are few.
        return self._known.get(label) or self._known.setdefault(label, Series(((label,), ())))


def _of_process(declaration: Declaration, value: int) -> Family:
    return Family(declaration, (), [_PROCESS], [value])
