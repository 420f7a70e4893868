"""Health: the metrics of the counting itself, which every exporter shows."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import hypertrace

from .declarations import BUILD, DROPPED, OVERFLOWED, SERIES, SERIES_LIMIT, SWALLOWED
from .reading import Family
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .declarations import Declaration
    from .functions import Usage

_PROCESS = Series(((), ()))
_BUILD = Series(
    (
        (hypertrace.__version__, platform.python_version(), platform.python_implementation()),
        (),
    )
)


class Health:
    """Reads how the counting itself does: its series, limits, errors and version."""

    def __init__(self) -> None:
        """Start without series, which are the same ones in each reading."""
        self._of_metrics: dict[str, Series] = {}

    def read(self, usages: Sequence[Usage]) -> list[Family]:
        """Return the families of this moment.

        Args:
            usages: how much room each metric takes.
        """
        series = [self._of_metric(usage.metric) for usage in usages]
        return [
            Family(SERIES, SERIES.labels, series, [usage.held for usage in usages]),
            Family(SERIES_LIMIT, SERIES_LIMIT.labels, series, [usage.limit for usage in usages]),
            Family(OVERFLOWED, OVERFLOWED.labels, series, [one.overflowed for one in usages]),
            _of_process(SWALLOWED, hypertrace.swallowed_errors()),
            _of_process(DROPPED, hypertrace.dropped_events()),
            Family(BUILD, BUILD.labels, [_BUILD], [1]),
        ]

    def _of_metric(self, name: str) -> Series:
        return self._of_metrics.setdefault(name, Series(((name,), ())))


def _of_process(declaration: Declaration, value: int) -> Family:
    return Family(declaration, (), [_PROCESS], [value])
