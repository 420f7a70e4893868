"""Pushing: what an update costs the thread of the application, and what a push costs beside it."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from datadog.dogstatsd.base import DogStatsd
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from statsd import StatsClient

from hypertrace import Tracer
from hypertrace.exporters.influx import InfluxExporter
from hypertrace.exporters.statsd import StatsdExporter

from .bound import LABEL_VALUES
from .measure import OURS, Row, compared
from .ours import App, Swarm, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from hypertrace.exporters.push import PushExporter

    from .measure import Effort

COUNT = "a count that is pushed later"
VALUE = "a duration that is pushed later"
TIME = "a timed block that is pushed later"

STATSD = "statsd, `incr`"
DATADOG_BUFFERED = "datadog, `increment`, buffered"
DATADOG_AGGREGATED = "datadog, `increment`, aggregated"
OTEL = "OpenTelemetry, `counter.add`"

DURATION = 0.25
"""Seconds."""
NEVER = 86_400.0
TOPICS = 2_500
"""Of each there is a series of calls, and one of calls, durations and open spans of spans."""
PUSHES, QUICK_PUSHES = 15, 4
"""Each takes a second: datagrams are sent with pauses, which are no time of the processor."""
UPDATES = 10_000
DRAINED = 50
"""Updates of a peer after which its datagrams are read, so that none is dropped."""


class Work:
    """An object whose calls are counted, and whose spans are timed, by topic and kind."""

    def __init__(self) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self)

    def all_topics(self) -> None:
        """Trace and time once for each topic."""
        for number in range(TOPICS):
            self.tracer.trace("work", topic=f"topic {number}")
            with self.tracer.span("work", kind=f"topic {number}"):
                pass


class Sink:
    """A socket that adds up the bytes that came.

    Attributes:
        port: on loopback.
    """

    def __init__(self) -> None:
        """Open it."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0)
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def read(self) -> int:
        """Return how many bytes came."""
        size = 0
        while True:
            try:
                size += len(self._socket.recv(65_536))
            except BlockingIOError:
                return size


def rows(effort: Effort) -> Iterator[Row]:
    """Measure updates beside those of other clients, bytes, and pushes of many series."""
    for what, times in updates(effort).items():
        yield from compared(what, times, dict.fromkeys(times, (0.5, 1 / 20)))
    yield from _pushes(QUICK_PUSHES if effort.quick else PUSHES)
    if not effort.quick:
        yield from _bytes()


def updates(effort: Effort) -> dict[str, dict[str, float]]:
    """Return what updates with six labels cost the thread that does them, by what they are."""
    with (
        closing(Sink()) as sink,
        _counting(_statsd(sink, "dogstatsd")) as exporter,
        closing(Clients(sink)) as clients,
    ):
        swarm = Swarm(App())
        values = exporter.forwards_to.distribution("bound_seconds", list(LABEL_VALUES))
        observe = partial(values.labels(**LABEL_VALUES).observe, DURATION)
        return {
            COUNT: effort.nanoseconds({OURS: swarm.connect, **clients.updates}),
            VALUE: effort.nanoseconds({OURS: observe, **clients.durations}),
            TIME: effort.nanoseconds({OURS: swarm.span, **clients.timers}),
        }


def _pushes(times: int) -> Iterator[Row]:
    """Measure the processor's time of a push in which all of 10 000 series have changed.

    The least of some: another program that has the processor meanwhile makes each one slower.
    Reading, encoding and sending are part of it: 5 000 counters, 2 500 histograms of durations and
    as many gauges.
    """
    for name, make in _EXPORTERS.items():
        with closing(Sink()) as sink, _counting(make(sink)) as exporter:
            milliseconds = min(_push(exporter, sink) for _ in range(times))
        what = f"a push of {4 * TOPICS:_} series to {name}".replace("_", " ")
        yield Row(what, milliseconds, "ms of CPU", promise=100, goal=50)


def _push(exporter: PushExporter, sink: Sink) -> float:
    Work().all_topics()
    before = process_time()
    if not exporter.flush(60):
        raise RuntimeError(f"the push to {exporter!r} failed")
    seconds = process_time() - before
    sink.read()
    return 1e3 * seconds


def _bytes() -> Iterator[Row]:
    """Count the bytes of 10 000 updates of one series, those that are sent at the end included."""
    sizes: dict[str, float] = {}
    with closing(Sink()) as sink, _counting(_statsd(sink, "dogstatsd")) as exporter:
        swarm = Swarm(App())
        for _ in range(UPDATES):
            swarm.connect()
        exporter.flush(60)
        sizes[OURS] = sink.read()
    for name in (STATSD, DATADOG_BUFFERED, DATADOG_AGGREGATED, OTEL):
        with closing(Sink()) as sink, closing(Clients(sink)) as clients:
            update, size = clients.updates[name], 0
            for number in range(UPDATES):
                update()
                if number % DRAINED == 0:
                    size += sink.read()
            clients.flush()
            sizes[name] = clients.exported() if name == OTEL else size + sink.read()
    yield from compared("10 000 updates of one series, on the wire", sizes, unit="bytes")


@contextmanager
def _counting(exporter: PushExporter) -> Iterator[PushExporter]:
    """Count for an exporter for a while."""
    with exporter, tracing(exporter):
        yield exporter


def _statsd(sink: Sink, tags: Any) -> StatsdExporter:
    address = f"udp://127.0.0.1:{sink.port}"
    return StatsdExporter(address, tags=tags, **_SETTINGS)


def _influx(sink: Sink) -> InfluxExporter:
    return InfluxExporter(f"udp://127.0.0.1:{sink.port}", **_SETTINGS)


_SETTINGS: Any = {
    "interval": NEVER,
    "allowed_props": ["topic", "kind"],
    "workers": False,
    "exemplar": None,
}
_EXPORTERS: Mapping[str, Callable[[Sink], PushExporter]] = {
    "StatsD": lambda sink: _statsd(sink, "none"),
    "DogStatsD": lambda sink: _statsd(sink, "dogstatsd"),
    "InfluxDB": _influx,
}


class Clients:
    """Clients of others, which send to a socket, or keep what came in memory.

    Attributes:
        updates: one count of a series with labels, by what it is called.
        durations: one duration of such a series that was measured before.
        timers: one timed block that is empty, of such a series.
    """

    def __init__(self, sink: Sink) -> None:
        """Make them."""
        self._statsd = StatsClient("127.0.0.1", sink.port)
        settings: Any = {"host": "127.0.0.1", "port": sink.port, "disable_telemetry": True}
        buffered = DogStatsd(disable_buffering=False, **settings)
        settings |= {"disable_aggregation": False, "max_metric_samples_per_context": 100}
        aggregated = DogStatsd(disable_buffering=False, **settings)
        self._datadog = buffered, aggregated
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader])
        meter = self._provider.get_meter("benchmarks")
        counter = meter.create_counter("function_counter")
        name = ".".join(("function_counter", *LABEL_VALUES.values())).replace("/", "_")
        tags = [f"{label}:{value}" for label, value in LABEL_VALUES.items()]
        self.updates: dict[str, Callable[[], object]] = {
            STATSD: partial(self._statsd.incr, name),
            DATADOG_BUFFERED: partial(buffered.increment, "function_counter", tags=tags),
            DATADOG_AGGREGATED: partial(aggregated.increment, "function_counter", tags=tags),
            OTEL: partial(counter.add, 1, LABEL_VALUES),
        }

        def timed(make: Callable[[], Any]) -> None:
            with make():
                pass

        def recorded() -> None:
            began = perf_counter()
            record(perf_counter() - began, LABEL_VALUES)

        record = meter.create_histogram("function_duration").record
        of_datadog: Any = {"metric": "function_duration", "tags": tags}
        milliseconds = 1_000 * DURATION
        self.durations: dict[str, Callable[[], object]] = {
            "statsd, `timing`": partial(self._statsd.timing, name, milliseconds),
            "datadog, `distribution`, buffered": partial(
                buffered.distribution, value=milliseconds, **of_datadog
            ),
            "datadog, `distribution`, aggregated": partial(
                aggregated.distribution, value=milliseconds, **of_datadog
            ),
            "OpenTelemetry, `histogram.record`": partial(record, DURATION, LABEL_VALUES),
        }
        self.timers: dict[str, Callable[[], object]] = {
            "statsd, `timer`": partial(timed, partial(self._statsd.timer, name)),
            "datadog, `distributed`, buffered": partial(
                timed, partial(buffered.distributed, **of_datadog)
            ),
            "datadog, `distributed`, aggregated": partial(
                timed, partial(aggregated.distributed, **of_datadog)
            ),
            "OpenTelemetry, `histogram.record`, timed": recorded,
        }

    def flush(self) -> None:
        """Send what those of Datadog hold back."""
        for client in self._datadog:
            client.flush_aggregated_metrics()
            client.flush_buffered_metrics()

    def exported(self) -> int:
        """Return how many bytes OpenTelemetry would send, without compression."""
        found = self._reader.get_metrics_data()
        return 0 if found is None else len(encode_metrics(found).SerializeToString())

    def close(self) -> None:
        """Close them."""
        for client in self._datadog:
            client.stop()
        self._provider.shutdown()
        self._statsd.close()
