"""What an exporter shows to a registry of `prometheus_client`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import hypertrace

from . import labels as label
from .failures import Failures
from .families import SeriesFamily, histogram_rows
from .metrics import DURATION, EDGES, EXCEPTIONS, IN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from hypertrace import Cell

    from .families import Row
    from .metrics import TraceMetrics
    from .series import SeriesTable

SERIES = "hypertrace_series"
SERIES_LIMIT = "hypertrace_series_limit"
OVERFLOWED = "hypertrace_overflowed_updates_total"
SWALLOWED = "hypertrace_swallowed_errors_total"
DROPPED = "hypertrace_dropped_events_total"
SILENT = "hypertrace_silent_tracers"
FAILED = "hypertrace_failed_collections_total"
BUILD = "hypertrace_build_info"
METRIC = "metric"
"""Label of the exporter's own metrics: which metric they tell of."""
COLLECTOR = "collector"
"""Label of the exporter's own metrics: the class of the collector they tell of."""


class ExporterCollector(Collector):
    """Gives the metrics of what is traced, and how the exporter itself fares.

    Attributes:
        failures: of the other collectors of the registry it is on.
    """

    def __init__(self, metrics: TraceMetrics) -> None:
        """Show these metrics."""
        self.failures = Failures()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Return all metrics with their samples."""
        metrics = self._metrics
        name = metrics.calls.name
        yield SeriesFamily(name, "counter", "How often a traced line ran.", self._calls)
        yield SeriesFamily(
            DURATION,
            "histogram",
            "How long spans took, by how they ended.",
            lambda: histogram_rows(metrics.timings, DURATION),
        )
        yield SeriesFamily(
            EXCEPTIONS,
            "counter",
            "Exceptions that ended spans.",
            _counts(metrics.exceptions),
        )
        yield SeriesFamily(
            IN_PROGRESS, "gauge", "Spans that have not ended yet.", self._in_progress
        )
        if metrics.edges is not None:
            yield SeriesFamily(
                EDGES,
                "counter",
                "Spans in other spans: who calls whom.",
                _counts(metrics.edges),
            )
        yield from self._health()

    def describe(self) -> Iterable[Metric]:
        """Return all metrics, for their names."""
        return self.collect()

    def _calls(self) -> Iterator[Row]:
        name = self._metrics.calls.name
        for text, calls in self._metrics.calls.items():
            value = calls.cell.value if calls.timings is None else calls.value
            # None yet where spans only start, to end with other props.
            if value:
                yield name, text, value, None

    def _in_progress(self) -> Iterator[Row]:
        table = self._metrics.timings
        for text, timings in table.items():
            if timings.started.value:
                yield IN_PROGRESS, text, timings.open, None

    def _failed(self) -> Iterator[Row]:
        for name, value in self.failures.items():
            yield FAILED, label.render({COLLECTOR: name}), value, None

    def _silent(self) -> Iterator[Row]:
        counts: dict[str, int] = {}  # names that are cut may be equal
        for name, count in hypertrace.silent_tracers().items():
            text = label.render(self._metrics.of_class(name))
            counts[text] = counts.get(text, 0) + count
        for text, count in counts.items():
            yield SILENT, text, count, None

    def _health(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(SERIES, "Series held, of each metric.", labels=[METRIC])
        limit = GaugeMetricFamily(
            SERIES_LIMIT, "Series held at the most, of each metric.", labels=[METRIC]
        )
        overflow = CounterMetricFamily(
            OVERFLOWED,
            "Updates past the limit, counted in the overflow series.",
            labels=[METRIC],
        )
        for table, overflowed in self._tables():
            held.add_metric([table.name], len(table))
            limit.add_metric([table.name], table.limit)
            overflow.add_metric([table.name], overflowed)
        yield from (held, limit, overflow)
        yield CounterMetricFamily(
            SWALLOWED,
            "Errors inside tracing that the application was spared.",
            value=hypertrace.swallowed_errors(),
        )
        yield CounterMetricFamily(
            DROPPED,
            "Events that tracing itself would have caused, dropped.",
            value=hypertrace.dropped_events(),
        )
        yield SeriesFamily(
            SILENT,
            "gauge",
            "Tracers made before the trace function was set, and so disabled: set it earlier.",
            self._silent,
        )
        yield SeriesFamily(
            FAILED, "counter", "Collections that failed, by the collector.", self._failed
        )
        yield InfoMetricFamily(
            BUILD.removesuffix("_info"),
            "Version of hypertrace, and of the Python that runs it.",
            value={
                "version": hypertrace.__version__,
                "python": platform.python_version(),
                "implementation": platform.python_implementation(),
            },
        )

    def _tables(self) -> Iterator[tuple[SeriesTable[Any], int]]:
        """Return all tables of series, each with the updates that are in its overflow."""
        metrics = self._metrics
        yield metrics.calls, metrics.calls.overflow.value
        yield metrics.timings, metrics.timings.overflow.finished
        yield metrics.exceptions, metrics.exceptions.overflow.value
        if metrics.edges is not None:
            yield metrics.edges, metrics.edges.overflow.value


def _counts(table: SeriesTable[Cell]) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        for text, cell in table.items():
            if cell.value:
                yield table.name, text, cell.value, None

    return rows
