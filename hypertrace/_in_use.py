"""Metrics in use: those that get the events now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._fan_out import receivers
from .metrics import Metrics

if TYPE_CHECKING:
    from .protocols import TraceFunction


def metrics_of(function: TraceFunction | None) -> list[Metrics]:
    """Return the metrics that get the events of a trace function; none without one."""
    found = [] if function is None else receivers([function])
    return [one for one in found if isinstance(one, Metrics)]
