"""OpenTelemetry exporter: the counts of each interval over OTLP, as totals or as differences."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData, ResourceMetrics

from hypertrace.exporters.answers import RefusalLog, RefusedError
from hypertrace.exporters.push import PushExporter
from hypertrace.metrics.flushing import LONGEST_TIMEOUT, checked_timeout

from .data import Frame, resource, scope_metrics
from .sender import Sender

if TYPE_CHECKING:
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, Metrics, Reading

Temporality: TypeAlias = Literal["cumulative", "delta"]

_PATH = "/v1/metrics"
_DEFAULT = "http://localhost:4318"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_PROTOCOLS = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"

_TIMEOUTS = "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"
_DEFAULT_TIMEOUT = 10.0

_logger = logging.getLogger("hypertrace.exporters")


class OpenTelemetryExporter(PushExporter):
    """Sends what was counted over OTLP with HTTP: to a collector, or to a backend that takes it.

    Counters are monotonic sums, gauges gauges, and durations and distributions histograms, or
    exponential ones where they are native. A summary is a gauge with the attribute `quantile`, and
    sums with the ends `_count` and `_sum`. Names are as Prometheus shows them.
    `docs/opentelemetry.md` has all of it.

    The labels of the process are the resource: `service` is its `service.name`. Processes that
    share their counts are one instance (`service.instance.id`), and each other process is another.

    The library of OpenTelemetry sends, and takes headers, compression, time limit and certificates
    from the variables `OTEL_EXPORTER_OTLP_…`. It makes one attempt for a reading: attempts that
    fail get rarer as in `PushExporter`. Totals are in the next reading again, and differences that
    could not be sent are part of it. What the receiver refuses as wrong (400, 413 and most of 4xx,
    or a part of a request) is logged with its reason, counted in `dropped`, and not sent again.

    The thread, forks and the end of the program are as in `PushExporter`.

    Attributes:
        endpoint: where it sends to.
        temporality: `cumulative` or `delta`.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        temporality: Temporality | None = None,
        interval: float = 10.0,
        timeout: float | None = None,
        metrics: Metrics | None = None,
        **counting: Unpack[CountingOptions],
    ) -> None:
        """Start to send.

        Args:
            endpoint: `http://HOST:PORT/PATH` or `https://…`; the path is `/v1/metrics` if there is
                none. None takes it from `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`, or from
                `OTEL_EXPORTER_OTLP_ENDPOINT`, to which `/v1/metrics` is added; without them it is
                port 4318 of this machine.
            temporality: `cumulative` sends totals since the start, `delta` what came in since the
                reading before. None takes it from
                `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`; without it, it is cumulative.
            interval: seconds between two readings.
            timeout: seconds to wait for the receiver. None takes it from
                `OTEL_EXPORTER_OTLP_METRICS_TIMEOUT` or `OTEL_EXPORTER_OTLP_TIMEOUT`; without them
                it is 10.
            metrics: what to read; None makes one.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            TypeError: an argument has the wrong type, or as in `PushExporter`.
            ValueError: an argument, or a variable in its place, is wrong; the message says which,
                and what to do; or as in `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        self.endpoint: str = _endpoint(endpoint)
        self.temporality: Temporality = _checked_temporality(temporality)
        self._timeout = _timeout(timeout)
        self._exponential = os.environ.get(_AGGREGATION, "").strip().lower().startswith("base2")
        self._refusals = RefusalLog(_logger, type(self).__name__)
        super().__init__(metrics, counting, interval=interval)

    def begin(self) -> None:
        """Make what a forked child must not share, and know where the counts began."""
        self._sender = Sender(self.endpoint, self._timeout)
        self._origin = self.forwards_to.storage.origin  # before the first reading is taken

    def changes(self, reading: Reading, previous: Reading | None) -> Reading:
        """Return all of a reading, or with `delta` what came in since the one before."""
        self._previous_time = None if previous is None else previous.time
        return super().changes(reading, previous) if self.temporality == "delta" else reading

    def encode(self, reading: Reading) -> MetricsData:
        """Return a reading as the library takes it."""
        frame = Frame(
            self._origin.time,
            self._previous_time,
            AggregationTemporality[self.temporality.upper()],
            self._exponential,
        )
        process = resource(reading.labels, self._origin.id)
        scope = scope_metrics(reading, frame)
        return MetricsData([ResourceMetrics(process, [scope], schema_url="")])

    def send(self, encoded: MetricsData) -> None:
        """Send it, in one attempt."""
        try:
            self.count_bytes(self._sender.send(encoded))
        except RefusedError as refused:
            points = refused.up_to(_points(encoded))
            self.count_dropped(points)
            self._refusals.add(points, refused)


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for of_resource in data.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
    )


def _endpoint(given: str | None) -> str:
    """Return the whole URL.

    Raises:
        TypeError: it is no `str`.
        ValueError: it, or the variable in its place, is no URL that can be sent to.
    """
    if given is not None:
        if not isinstance(given, str):
            raise TypeError(
                f"endpoint must be a str, as 'http://127.0.0.1:4318', not {type(given)}"
            )
        return _checked_url("endpoint", given)
    protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "")
    if protocol.strip().lower() == "grpc":
        raise ValueError(
            "the environment asks for OTLP over gRPC, and this exporter sends over HTTP: give it "
            "endpoint='http://HOST:4318', or set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL to "
            f"http/protobuf and {_METRICS_ENDPOINT} to such an address"
        )
    if whole := os.environ.get(_METRICS_ENDPOINT):
        return _checked_url(_METRICS_ENDPOINT, whole)
    base = os.environ.get(_ENDPOINT) or _DEFAULT
    return _checked_url(_ENDPOINT, f"{base.removesuffix('/')}{_PATH}")


def _checked_url(where: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"{where} is no URL: {error}") from None
    if "@" in parts.netloc:
        # The message does not show it.
        raise ValueError(
            f"{where} has credentials in it: set OTEL_EXPORTER_OTLP_HEADERS in the environment, as "
            "'Authorization=Basic%20…'"
        )
    is_http = parts.scheme in {"http", "https"} and parts.hostname and has_port
    if not is_http or parts.fragment or not url.isprintable() or " " in url:
        raise ValueError(f"{where} must be 'http://HOST:PORT/PATH' or 'https://…', not {url!r}")
    return url if parts.path not in {"", "/"} or parts.query else url.removesuffix("/") + _PATH


def _checked_temporality(given: str | None) -> Temporality:
    if given is None:
        # An unknown one is logged by the library, which takes it for cumulative, too.
        preference = os.environ.get(_TEMPORALITY, "").strip().lower()
        return "delta" if preference in {"delta", "lowmemory"} else "cumulative"
    for known in get_args(Temporality):
        if given == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(
        f"temporality must be one of {', '.join(get_args(Temporality))}, not {given!r}"
    )


def _timeout(given: float | None) -> float:
    """Return the seconds that are given, or that the environment has.

    Raises:
        TypeError: they are no number.
        ValueError: they are out of range, or the text of the environment is no number.
    """
    if given is not None:
        return checked_timeout(given)
    for name in _TIMEOUTS:
        if text := os.environ.get(name):
            try:
                return checked_timeout(float(text))
            except ValueError:
                raise ValueError(
                    f"{name} must be a number of seconds above 0, up to {LONGEST_TIMEOUT:.0f}, "
                    f"not {text!r}"
                ) from None
    return _DEFAULT_TIMEOUT
