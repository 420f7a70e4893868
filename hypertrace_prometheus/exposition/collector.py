"""Collector: what an exporter shows to a registry of `prometheus_client`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from .failures import FAILED, Failures
from .families import FamilyMetric
from .label_texts import TextCache
from .workers import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from prometheus_client.core import Metric

    from hypertrace.metrics import Family, Metrics

    from .workers import WorkersMetrics


class ExporterCollector(Collector):
    """Gives the families of a `Metrics`, of its workers, and the failures of other collectors.

    Attributes:
        failures: of the other collectors of the registry it is on.
        instead: names of the metrics of one process that are shown of each worker.
    """

    def __init__(
        self,
        metrics: Metrics,
        workers: WorkersMetrics | None = None,
        others: AbstractSet[str] = frozenset(),
    ) -> None:
        """Show these metrics.

        Args:
            metrics: what is counted.
            workers: reads the processes of the workers; None shows none of them.
            others: names of metrics of one process that other collectors of the registry give.
        """
        self.failures = Failures(metrics.storage)
        self.instead = NAMES if workers else frozenset()
        self._metrics = metrics
        self._workers = workers
        self._others = others
        self._texts = TextCache()

    def collect(self) -> Iterator[Metric]:
        """Return all metrics of one reading, but for those that other collectors give, too."""
        return self._families(hidden=self._others)

    def page(self) -> Iterator[Metric]:
        """Return all metrics of one reading; those of one process are then shown of no other."""
        return self._families()

    def describe(self) -> Iterable[Metric]:
        """Return metrics for their names: those that no other collector has.

        Those of processes are left out: the registry would refuse one of the two.
        """
        return self._families(hidden=NAMES)

    def _families(self, hidden: AbstractSet[str] = frozenset()) -> Iterator[Metric]:
        view = self._metrics.view()
        failures = self.failures.after(view)
        for family in self._metrics.reading(view).families:
            yield FamilyMetric(family.declaration, partial(_itself, family), self._texts)
        if self._workers is not None and view.snapshot is not None:
            for family in self._workers.read(view.snapshot):
                if family.name.removesuffix("_total") not in hidden:
                    yield FamilyMetric(family.declaration, partial(_itself, family), self._texts)
        # Read when it is written, so that it includes the failures of this very collection.
        yield FamilyMetric(FAILED, failures, self._texts)


def _itself(family: Family) -> Family:
    return family
