"""Snapshot: the metrics of a registry as text, for what keeps them when the program has ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hypertrace.metrics.declarations import EXPORTS_LAST_SUCCESS

from .exposition.render import expose
from .exposition.workers import NAMES
from .runs import RunTimes, shown_names

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from hypertrace.metrics import Metrics

_DEFAULTS = frozenset({*NAMES, *(f"{name}_total" for name in NAMES), "python_info"})
"""Samples that `collect_defaults` adds."""
_OF_A_PROCESS = frozenset({EXPORTS_LAST_SUCCESS.name})
"""Samples by which an alert finds that a program that runs has stopped sending."""

# A value is no part of a label: that would have its quote after it.
_TIME = re.compile(rb"^([^#\n].* [-+.0-9A-Za-z]+) -?[0-9]+$", re.MULTILINE)


class Snapshot(NamedTuple):
    """What a registry shows at one moment."""

    metrics: bytes
    """In the text format 0.0.4, without times, which neither a Pushgateway nor node_exporter
    accepts; and without those of the runs, and those that only a program that runs has."""
    runs: RunTimes


def take_snapshot(
    registry: CollectorRegistry, metrics: Metrics, *, with_defaults: bool = True
) -> Snapshot:
    """Collect from a registry. A collector that hangs or fails costs its own metrics.

    Args:
        registry: what to collect from.
        metrics: those whose runs are shown.
        with_defaults: show the metrics of the process and of Python, too.

    Raises:
        Exception: the exporter itself failed.
    """
    exposition = expose(registry, bounded=True)
    of_runs = shown_names(metrics)
    left_out = of_runs | _OF_A_PROCESS | (frozenset() if with_defaults else _DEFAULTS)
    own = exposition.names(is_own=True) - left_out
    others = exposition.names(is_own=False) - left_out
    page = exposition.page(own)
    if others:
        page += _TIME.sub(rb"\1", exposition.page(others))
    runs = RunTimes.read(exposition.page(of_runs).decode() if of_runs else "", metrics)
    return Snapshot(page, runs)
