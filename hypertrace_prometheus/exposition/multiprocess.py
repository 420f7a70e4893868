"""Multiprocess metrics: those of an application that uses `prometheus_client` in that mode.

In it a metric of a registry holds the numbers of this process only; the collector reads all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Summary, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_KINDS = frozenset(map(id, (Counter, Gauge, Histogram, Summary)))


class MultiprocessMetrics(Collector):
    """Gives what `MultiProcessCollector` gives.

    It may be collected from before there is the directory, which is an error of that collection.
    """

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all processes.

        Raises:
            ValueError: there is no such directory.
            Exception: its files cannot be read.
        """
        collected: Iterable[Metric] = MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]
        return collected


_METRICS = MultiprocessMetrics()  # one: a collection that hangs is known by its collector


def with_all_processes(registry: object, collectors: Iterable[Collector]) -> Iterator[Collector]:
    """Return collectors, with one for the metrics of all processes in place of those of this one.

    It is added to the default registry, and to one that holds such metrics, unless it has one. As
    in `prometheus_client`, it shows the metrics of all registries.

    Args:
        registry: has the collectors.
        collectors: to collect from, in their order.
    """
    if not is_on():
        yield from collectors
        return
    others, is_wanted = [], registry is REGISTRY
    for one in collectors:
        if _is_metric(one):
            is_wanted = True
        else:
            others.append(one)
    yield from others
    if is_wanted and not any(type(one) is MultiProcessCollector for one in others):
        yield _METRICS


def is_on() -> bool:
    """Whether `prometheus_client` shares its metrics between processes."""
    return getattr(values.ValueClass, "_multiprocess", False) and any(
        variable in os.environ for variable in _VARIABLES
    )


def _is_metric(collector: Collector) -> bool:
    # By identity: the metaclass of a collector may compare as it likes.
    return any(id(base) in _KINDS for base in type.mro(type(collector)))
