"""What an exporter shows to a registry of `prometheus_client`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

import hypertrace

from . import labels as label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .series import CounterSeries


class CounterFamily(Metric):
    """A counter whose samples are made only for those who ask for them.

    `text()` gives the same without making them. A counter whose name does not end in `_total` is
    no counter to OpenMetrics: there its type is unknown, so that the name stays the same.
    """

    def __init__(self, series: CounterSeries, documentation: str) -> None:
        """Show the series as they are when the samples or the text are asked for."""
        is_counter = series.name.endswith("_total")
        super().__init__(
            series.name.removesuffix("_total"),
            documentation,
            "counter" if is_counter else "unknown",
        )
        self._series = series

    @property
    def samples(self) -> list[Sample]:
        """One sample a series."""
        name = self._series.name
        return [Sample(name, label.parse(text), cell.value) for text, cell in self._series.items()]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        # The constructor of Metric starts with an empty list.
        pass

    def text(self, *, openmetrics: bool) -> str:
        """Return the family in the text format of Prometheus 0.0.4, or in that of OpenMetrics."""
        sample_name = self._series.name
        name, kind = (self.name, self.type) if openmetrics else (sample_name, "counter")
        head = f"# HELP {name} {self.documentation}\n# TYPE {name} {kind}\n"
        lines = [f"{sample_name}{{{text}}} {cell.value}\n" for text, cell in self._series.items()]
        return head + "".join(lines)


class ExporterCollector(Collector):
    """Gives the counts of an exporter, and how the exporter itself fares."""

    def __init__(self, series: CounterSeries) -> None:
        """Show these series."""
        self._series = series

    def collect(self) -> Iterator[Metric]:
        """Return all metrics with their samples."""
        yield CounterFamily(self._series, "How often a traced line ran.")
        yield from self._health()

    def describe(self) -> Iterable[Metric]:
        """Return all metrics, for their names."""
        return self.collect()

    def _health(self) -> Iterator[Metric]:
        series = self._series
        held = GaugeMetricFamily(
            "hypertrace_series", "Series held, of each metric.", labels=["metric"]
        )
        held.add_metric([series.name], len(series))
        yield held
        limit = GaugeMetricFamily(
            "hypertrace_series_limit", "Series held at the most, of each metric.", labels=["metric"]
        )
        limit.add_metric([series.name], series.limit)
        yield limit
        overflow = CounterMetricFamily(
            "hypertrace_overflowed_updates",
            "Updates past the limit, counted in the overflow series.",
            labels=["metric"],
        )
        overflow.add_metric([series.name], series.overflow.value)
        yield overflow
        yield CounterMetricFamily(
            "hypertrace_swallowed_errors",
            "Errors inside tracing that the application was spared.",
            value=hypertrace.swallowed_errors(),
        )
        yield InfoMetricFamily(
            "hypertrace_build",
            "Version of hypertrace, and of the Python that runs it.",
            value={
                "version": hypertrace.__version__,
                "python": platform.python_version(),
                "implementation": platform.python_implementation(),
            },
        )
