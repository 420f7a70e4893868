"""Metric data: readings as OpenTelemetry's SDK has them, which its exporters take.

Names, units and kinds follow OpenTelemetry's compatibility with Prometheus:
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

import hypertrace
from hypertrace.metrics import ExponentialReading, SummaryReading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hypertrace.metrics import Exemplar as OwnExemplar
    from hypertrace.metrics import Family, Reading

_NANOSECONDS = 1_000_000_000
_LARGEST = 2**63 - 1
"""OTLP has no greater integers."""

_UNITS = {
    "nanoseconds": "ns",
    "microseconds": "us",
    "milliseconds": "ms",
    "seconds": "s",
    "minutes": "min",
    "hours": "h",
    "days": "d",
    "bytes": "By",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "gibibytes": "GiBy",
    "kilobytes": "KBy",
    "megabytes": "MBy",
    "gigabytes": "GBy",
    "terabytes": "TBy",
    "meters": "m",
    "volts": "V",
    "amperes": "A",
    "joules": "J",
    "watts": "W",
    "grams": "g",
    "celsius": "Cel",
    "hertz": "Hz",
    "percent": "%",
    "ratio": "1",
}
"""As backends know them that put units into names."""

_RESOURCE = {
    "service": "service.name",
    "service_name": "service.name",
    "service_namespace": "service.namespace",
    "service_instance_id": "service.instance.id",
    "service_version": "service.version",
    "version": "service.version",
}
"""Labels of the process that OpenTelemetry calls something else."""

_TRACE_ID = re.compile("(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile("(?!0{16})[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Frame:
    """What all points of a reading have in common.

    Attributes:
        origin: when the counts began, in seconds since the epoch.
        previous: when the reading before was taken; None if there is none.
        temporality: whether the reading has totals, or what came in since the one before.
        exponential: whether histograms that have exponential buckets, too, are sent with these.
    """

    origin: float
    previous: float | None
    temporality: AggregationTemporality
    exponential: bool = False


def scope_metrics(reading: Reading, frame: Frame) -> ScopeMetrics:
    """Return all metrics of a reading."""
    points = _Points(reading.time, frame)
    metrics = [metric for family in reading.families for metric in points.metrics(family)]
    scope = InstrumentationScope("hypertrace", hypertrace.__version__)
    return ScopeMetrics(scope=scope, metrics=metrics, schema_url="")


def resource(labels: Mapping[str, str], instance: str) -> Resource:
    """Return what the process is.

    Args:
        labels: of the process.
        instance: 32 hexadecimal digits that other processes do not have.
    """
    attributes = {
        "service.name": "unknown_service",
        "service.instance.id": str(UUID(instance, version=4)),
    }
    return Resource({**attributes, **{_RESOURCE.get(name, name): labels[name] for name in labels}})


def unit_of(name: str, unit: str) -> str:
    """Return a unit as OpenTelemetry writes it.

    A backend adds units to names, unless the name has it, but no text in braces: so a unit that
    does not end the name is in braces, and the name stays what it is.

    Args:
        name: of the metric.
        unit: as it is declared; empty for counts.
    """
    if not unit:
        return ""
    is_named = f"_{name.removesuffix('_total')}".endswith(f"_{unit}")
    return _UNITS[unit] if is_named and unit in _UNITS else f"{{{unit}}}"


class _Points:
    """Makes the points of one reading."""

    def __init__(self, time: float, frame: Frame) -> None:
        origin = _nanoseconds(frame.origin)
        # The clock may have been set back.
        self._time = max(origin, _nanoseconds(time))
        self._origin = origin
        self._start = origin
        self._temporality = frame.temporality
        if frame.temporality is AggregationTemporality.DELTA and frame.previous is not None:
            self._start = min(self._time, _nanoseconds(frame.previous))
        self._after = 0.0 if frame.previous is None else frame.previous
        self._exponential = frame.exponential

    def metrics(self, family: Family) -> Iterator[Metric]:
        """Yield the metrics of a family: one, but for summaries."""
        if not family.series:
            return
        name, unit = family.name, unit_of(family.name, family.unit)
        if family.kind == "summary":
            yield from self._summary(family, unit)
        elif family.kind == "histogram":
            yield _metric(family, name, unit, self._histogram(family))
        elif family.kind == "gauge":
            yield _metric(family, name, unit, Gauge(self._numbers(family, 0)))
        elif family.kind == "info":
            # As the specification says: adding up counts what they describe.
            numbers = self._numbers(family, self._origin)
            yield _metric(
                family,
                name,
                unit,
                Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=False),
            )
        else:
            numbers = self._numbers(family, self._start)
            yield _metric(family, name, unit, Sum(numbers, self._temporality, is_monotonic=True))

    def _numbers(self, family: Family, start: int) -> list[NumberDataPoint]:
        return [
            NumberDataPoint(attributes, start, self._time, _number(value))
            for attributes, value in _rows(family)
        ]

    def _summary(self, family: Family, unit: str) -> Iterator[Metric]:
        """Yield the parts of summaries, which the library does not have, as Prometheus calls them.

        Count and sum are no monotonic sums: else backends would put `_total` behind their names.
        """
        rows = [(one, value) for one, value in _rows(family) if isinstance(value, SummaryReading)]
        quantiles = [
            NumberDataPoint({**attributes, "quantile": f"{quantile:g}"}, 0, self._time, value)
            for attributes, summary in rows
            for quantile, value in summary.quantiles.items()
            if not isnan(value)
        ]
        if quantiles:
            yield _metric(family, family.name, unit, Gauge(quantiles))
        counts = [(attributes, summary.count) for attributes, summary in rows]
        totals = [(attributes, float(summary.sum)) for attributes, summary in rows]
        for end, numbers, its_unit in (("_count", counts, ""), ("_sum", totals, unit)):
            points = [
                NumberDataPoint(attributes, self._start, self._time, _number(value))
                for attributes, value in numbers
            ]
            total = Sum(points, self._temporality, is_monotonic=False)
            yield _metric(family, f"{family.name}{end}", its_unit, total)

    def _histogram(self, family: Family) -> Histogram | ExponentialHistogram:
        rows = list(_rows(family))
        exponentials = [self._exponential_of(value) for _, value in rows]
        if all(exponentials):
            return ExponentialHistogram(
                [
                    self._exponential_point(attributes, one, value.exemplars)
                    for (attributes, value), one in zip(rows, exponentials, strict=True)
                    if one
                ],
                self._temporality,
            )
        return Histogram(
            [self._histogram_point(attributes, value) for attributes, value in rows],
            self._temporality,
        )

    def _exponential_of(self, value: Any) -> ExponentialReading | None:
        """Return the exponential buckets that a value is sent with."""
        if isinstance(value, ExponentialReading):
            return value
        return value.exponential if self._exponential else None

    def _histogram_point(self, attributes: Mapping[str, str], value: Any) -> HistogramDataPoint:
        reading = value.classic() if isinstance(value, ExponentialReading) else value
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._start,
            time_unix_nano=self._time,
            count=reading.count,
            sum=float(reading.sum),
            bucket_counts=reading.counts,
            explicit_bounds=reading.bounds,
            exemplars=self._exemplars(value.exemplars),
            **_UNKNOWN,
        )

    def _exponential_point(
        self,
        attributes: Mapping[str, str],
        value: ExponentialReading,
        exemplars: Mapping[int, OwnExemplar],
    ) -> ExponentialHistogramDataPoint:
        return ExponentialHistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._start,
            time_unix_nano=self._time,
            count=value.count,
            sum=float(value.sum),
            scale=value.schema,
            zero_count=value.zero_count,
            positive=_buckets(value.positive),
            negative=_buckets(value.negative),
            flags=0,
            exemplars=self._exemplars(exemplars),
            **_UNKNOWN,
        )

    def _exemplars(self, found: Mapping[int, OwnExemplar]) -> list[Exemplar]:
        """Return those that came in since the reading before."""
        return [_exemplar(one) for one in found.values() if one.timestamp > self._after]


_UNKNOWN: dict[str, Any] = {"min": None, "max": None}
"""What is not counted. The protocol does not need it; the types of the library do."""


def _metric(family: Family, name: str, unit: str, data: Any) -> Metric:
    return Metric(name=name, description=family.description, unit=unit, data=data)


def _rows(family: Family) -> Iterator[tuple[dict[str, str], Any]]:
    """Yield the labels that have a value, and the value, of each series."""
    names = family.label_names
    for series, value in zip(family.series, family.values, strict=True):
        pairs = zip(names, series.labels, strict=True)
        yield {name: text for name, text in pairs if text}, value


def _number(value: float) -> float:
    return float(value) if isinstance(value, int) and abs(value) > _LARGEST else value


def _buckets(counts: Mapping[int, int]) -> Buckets:
    """Return counts by index as a list of all between the first and the last one.

    OpenTelemetry numbers buckets by their lower limits, and Prometheus by the upper ones.
    """
    if not counts:
        return Buckets(0, [])
    first, last = min(counts), max(counts)
    return Buckets(first - 1, [counts.get(index, 0) for index in range(first, last + 1)])


def _exemplar(own: OwnExemplar) -> Exemplar:
    """Return an exemplar with the ids of its trace, if its labels are such ids."""
    labels = dict(own.labels)
    trace_id, span_id = labels.get("trace_id", ""), labels.get("span_id", "")
    time = _nanoseconds(own.timestamp)
    if not (_TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id)):
        return Exemplar(labels, float(own.value), time)
    del labels["trace_id"], labels["span_id"]
    return Exemplar(labels, float(own.value), time, int(span_id, 16), int(trace_id, 16))


def _nanoseconds(seconds: float) -> int:
    # Floats have no more than microseconds today.
    return round(seconds * 1_000_000) * (_NANOSECONDS // 1_000_000)
