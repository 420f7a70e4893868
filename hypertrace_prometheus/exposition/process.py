"""Process metrics: the default collectors of `prometheus_client`, and one for threads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .registries import held_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from prometheus_client.core import Metric

THREADS = "process_threads"
"""The name that Prometheus' guide for client libraries gives it."""

_TASKS = "/proc/self/task"


class ThreadsCollector(Collector):
    """Counts the threads of this process; on systems other than Linux, those of Python only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with a registry, as the collectors of `prometheus_client` do."""
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Return the current number."""
        yield GaugeMetricFamily(THREADS, "Threads of the process.", value=_count())


def _count() -> int:
    try:
        return len(os.listdir(_TASKS))  # noqa: PTH208 -- names are enough
    except OSError:
        return threading.active_count()


DEFAULTS = {
    "process_virtual_memory_bytes": ProcessCollector,
    THREADS: ThreadsCollector,
    "python_info": PlatformCollector,
    "python_gc_objects_collected": GCCollector,
}
"""The collectors of the default metrics, each by the name of one of its metrics."""


def missing_defaults(
    registry: CollectorRegistry, others: AbstractSet[str] = frozenset()
) -> list[Collector]:
    """Return collectors of the default metrics that a registry does not have.

    Args:
        registry: has some of them already, or none.
        others: names of metrics that are not missing.
    """
    present = present_defaults(registry) | others
    # Each registers itself at once, so it gets a registry that is dropped.
    aside = CollectorRegistry()
    return [kind(registry=aside) for name, kind in DEFAULTS.items() if name not in present]


def present_defaults(registry: CollectorRegistry) -> set[str]:
    """Return the names of all metrics that the registry declares or its default collectors give.

    Nothing is collected from any other collector: one that hangs must not block the start.
    """
    held = held_by(registry) or {}
    present = {name for names in held.values() for name in names}
    for collector in held:
        # By identity: the metaclass of a collector may compare as it likes.
        if any(type(collector) is kind for kind in DEFAULTS.values()):
            # Those of `prometheus_client` declare no names.
            present |= {family.name for family in collector.collect()}
    return present
