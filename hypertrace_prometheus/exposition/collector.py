"""Collector: what an exporter shows to a registry of `prometheus_client`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from .failures import FAILED, Failures
from .families import FamilyMetric
from .text import TextCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from hypertrace.metrics import Family, Metrics


class ExporterCollector(Collector):
    """Gives the families of a `Metrics`, and the failures of the other collectors.

    Attributes:
        failures: of the other collectors of the registry it is on.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Show these metrics."""
        self.failures = Failures(metrics.storage)
        self._metrics = metrics
        self._texts = TextCache()

    def collect(self) -> Iterator[Metric]:
        """Return all metrics of one reading."""
        reading = self._metrics.read()
        for family in reading.families:
            yield FamilyMetric(family.declaration, partial(_itself, family), self._texts)
        # Read when it is written, so that it includes the failures of this very collection.
        yield FamilyMetric(FAILED, self.failures.read, self._texts)

    def describe(self) -> Iterable[Metric]:
        """Return all metrics, for their names."""
        return self.collect()


def _itself(family: Family) -> Family:
    return family
