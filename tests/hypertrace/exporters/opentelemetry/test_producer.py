"""Producer: counts beside what the SDK of the application exports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.opentelemetry import with_counts
from hypertrace.metrics import Metrics

from .receiver import CALLS, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELTA = AggregationTemporality.DELTA


class Keeping(MetricExporter):
    """Exporter of the SDK that keeps what it gets, and fails as the test says."""

    def __init__(self, temporality: dict[type, AggregationTemporality] | None = None) -> None:
        super().__init__(preferred_temporality=temporality)
        self.results: list[MetricExportResult] = []
        self.kept: list[dict[str, Any]] = []
        self.called: list[str] = []

    def export(
        self, metrics_data: Any, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        result = self.results.pop() if self.results else MetricExportResult.SUCCESS
        if result is MetricExportResult.SUCCESS:
            (of_resource,) = metrics_data.resource_metrics
            self.kept.append(
                {one.name: one for scope in of_resource.scope_metrics for one in scope.metrics}
            )
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        self.called.append("force_flush")
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        self.called.append("shutdown")

    def calls(self) -> list[float]:
        return [
            sum(point.value for point in metrics[CALLS].data.data_points) if CALLS in metrics else 0
            for metrics in self.kept
        ]


@pytest.fixture
def provide() -> Iterator[Callable[..., MeterProvider]]:
    """Give a function that makes a provider, with an instrument of the application."""
    made: list[MeterProvider] = []

    def make(exporter: MetricExporter, **settings: Any) -> MeterProvider:
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        made.append(MeterProvider([reader], shutdown_on_exit=False, **settings))
        made[-1].get_meter("shop").create_counter("orders").add(1)
        return made[-1]

    yield make
    for provider in made:
        provider.shutdown()


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics that are the trace function."""
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    return metrics


def test_counts_are_in_the_requests_of_the_application(
    receiver: Receiver, metrics: Metrics, provide: Callable[..., MeterProvider]
) -> None:
    """With its resource; what it measures itself is there, too."""
    otlp = OTLPMetricExporter(f"{receiver.url}/v1/metrics")
    provider = provide(with_counts(otlp, metrics), resource=Resource({"service.name": "shop"}))
    Tracer("shop").trace()
    provider.force_flush()
    Tracer("shop").trace()
    provider.force_flush()
    assert receiver.calls() == [1, 2]
    (one, two) = receiver.taken
    assert one.resource == {"service.name": "shop"}
    assert sum(two.numbers("orders").values()) == 1
    starts = {
        point.start_time_unix_nano for request in (one, two) for point in request.points(CALLS)
    }
    assert len(starts) == 1


def test_differences_where_the_other_exporter_prefers_them(
    metrics: Metrics, provide: Callable[..., MeterProvider]
) -> None:
    """What could not be exported is part of the next ones."""
    keeping = Keeping({Counter: DELTA, ObservableCounter: DELTA, Histogram: DELTA})
    provider = provide(with_counts(keeping, metrics))
    counter = provider.get_meter("shop").create_counter("visits")
    for result in ("SUCCESS", "FAILURE", "SUCCESS", "SUCCESS"):
        keeping.results.append(MetricExportResult[result])
        Tracer("shop").trace()
        counter.add(1)
        provider.force_flush()
    assert keeping.calls() == [1, 2, 1]
    assert all(one[CALLS].data.aggregation_temporality is DELTA for one in keeping.kept)


def test_the_application_exports_what_cannot_be_read_beside(
    metrics: Metrics,
    provide: Callable[..., MeterProvider],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its own metrics alone; a warning says so."""
    keeping = Keeping()
    provider = provide(with_counts(keeping, metrics))

    def fail(**_: object) -> None:
        raise OSError("no files")

    monkeypatch.setattr(metrics, "read", fail)
    provider.force_flush()
    assert list(keeping.kept[0]) == ["orders"]
    assert "exports without the counts of hypertrace: OSError: no files" in caplog.text


def test_the_other_exporter_is_flushed_and_shut_down(
    metrics: Metrics, provide: Callable[..., MeterProvider]
) -> None:
    """By the SDK, and the last reading is exported before."""
    keeping = Keeping()
    provider = provide(with_counts(keeping, metrics))
    provider.force_flush()
    Tracer("shop").trace()
    provider.shutdown()
    assert keeping.called == ["force_flush", "shutdown"]
    assert keeping.calls() == [0, 1]


def test_wrong_arguments_are_errors_that_name_them(metrics: Metrics) -> None:
    """With what to give instead."""
    with pytest.raises(TypeError, match="exporter must be one of OpenTelemetry's SDK"):
        with_counts(metrics, metrics)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="metrics must be an instance"):
        with_counts(Keeping(), Keeping())  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_counts_from_zero(receiver: Receiver) -> None:
    """With a later start, whether or not processes share their counts."""
    program = """
import os, sys, warnings
warnings.simplefilter("ignore")
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.opentelemetry import with_counts
from hypertrace.metrics import Metrics

metrics = Metrics(workers={"0": False}.get(sys.argv[2], sys.argv[2]))
set_trace_function(metrics)
exporter = with_counts(OTLPMetricExporter(sys.argv[1]), metrics)
reader = PeriodicExportingMetricReader(exporter, 3_600_000)
provider = MeterProvider([reader], shutdown_on_exit=False)
provider.get_meter("shop").create_counter("orders").add(1)
shop = Tracer("shop")
[shop.trace() for _ in range(3)]
provider.force_flush()
child = os.fork()
if child == 0:
    [shop.trace() for _ in range(5)]
    provider.force_flush()
    os._exit(0)
os.waitpid(child, 0)
shop.trace()
provider.force_flush()
os._exit(0)
"""
    for sharing in ("0", "auto"):
        receiver.taken.clear()
        subprocess.run(
            [sys.executable, "-c", program, f"{receiver.url}/v1/metrics", sharing],
            env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
            check=True,
            timeout=120,
        )
        assert receiver.calls() == [3, 5, 4]
        starts = [next(one.points(CALLS)).start_time_unix_nano for one in receiver.taken]
        assert starts[0] == starts[2] < starts[1]
