"""Producer: counts beside what the OpenTelemetry SDK of the application exports."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Counter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from hypertrace import suppress_tracing
from hypertrace.metrics import Metrics
from hypertrace.rate_limit import RateLimit

from .data import Frame, scope_metrics

if TYPE_CHECKING:
    from hypertrace.metrics import Reading

_logger = logging.getLogger("hypertrace.exporters")


def with_counts(exporter: MetricExporter, metrics: Metrics) -> MetricExporter:
    """Return an exporter of the SDK that adds counts of hypertrace to all that another one exports.

    It is given to a `PeriodicExportingMetricReader` in place of that one, and takes the part of the
    metric producers that the SDK for Python does not have. The counts come in the same requests,
    with the resource of the application's `MeterProvider`, and as totals or differences as the
    other exporter prefers for counters. They are those of this process, also where processes share
    theirs: each has its own `MeterProvider`.

    The SDK calls exporters, in its own thread, only once an instrument of the application has a
    value. If the counts cannot be read this is logged, once a minute at the most, and all else is
    exported.

    Args:
        exporter: of the SDK, such as `OTLPMetricExporter`.
        metrics: what to add.

    Raises:
        TypeError: one of them is none.
    """
    if not isinstance(exporter, MetricExporter):
        raise TypeError(
            "exporter must be one of OpenTelemetry's SDK, such as OTLPMetricExporter(), not "
            f"{exporter!r}"
        )
    if not isinstance(metrics, Metrics):
        raise TypeError(
            "metrics must be an instance of hypertrace.metrics.Metrics, or the forwards_to of an "
            f"exporter, not {metrics!r}"
        )
    return _WithCounts(exporter, metrics)


class _WithCounts(MetricExporter):
    """Exporter of the SDK, called in its thread."""

    _previous: Reading | None

    def __init__(self, exporter: MetricExporter, metrics: Metrics) -> None:
        # As the SDK's reader asks for them: there is no public name for them.
        temporality = exporter._preferred_temporality
        super().__init__(temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._metrics = metrics
        self._temporality = (temporality or {}).get(Counter, AggregationTemporality.CUMULATIVE)
        self._log_limit = RateLimit()
        self._begin()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Export both."""
        reading: Reading | None = None
        try:
            reading, metrics_data = suppress_tracing(self._with_counts, metrics_data)
        except Exception as error:  # noqa: BLE001 -- the application's are exported
            self._report(error)
        result = self._exporter.export(metrics_data, timeout_millis=timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS and reading is not None:
            self._previous = reading
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Let the other exporter send what it holds."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown(timeout_millis, **kwargs)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._started = time.time()
        self._previous = None

    def _with_counts(self, data: MetricsData) -> tuple[Reading, MetricsData]:
        if self._pid != os.getpid():  # a forked child counts from zero
            self._begin()
        selected = reading = self._metrics.read(worker="self")
        frame = Frame(self._started, None, self._temporality)
        if self._previous is not None:
            frame = replace(frame, previous=self._previous.time)
            if self._temporality is AggregationTemporality.DELTA:
                selected = reading.since(self._previous)
        added = scope_metrics(selected, frame)
        first, *others = data.resource_metrics
        first = replace(first, scope_metrics=[*first.scope_metrics, added])
        return reading, MetricsData([first, *others])

    def _report(self, error: Exception) -> None:
        if self._log_limit.allow():
            with suppress(Exception):  # a broken log handler must not end the SDK's thread
                suppress_tracing(
                    _logger.warning,
                    "%s exports without the counts of hypertrace: %s: %s",
                    type(self._exporter).__name__,
                    type(error).__name__,
                    error,
                )
