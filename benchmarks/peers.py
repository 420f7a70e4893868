"""Other libraries for the same job, each operation in its own method.

All count one call of a method with the same labels: those that hypertrace finds out by itself.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from functools import lru_cache
from pathlib import Path

import blinker
import statsd
from goblinfish.metrics.trackers import ProcessTracker
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter, Histogram

from .bound import LABEL_VALUES

LABELS = "prometheus_client, `labels(…).inc()`"
OTEL = "OpenTelemetry, `counter.add`"
BOUND_VALUES = "prometheus_client, bound `observe()`"
LABELS_TIMER = "prometheus_client, `with labels(…).time():`"
GOBLINFISH = "goblinfish, `@tracker` (a line of JSON, thrown away)"
AUTOMETRICS = "autometrics, `@autometrics`"
NODE = "the JavaScript original on Node.js"

_HERE = Path(__file__).parent
AUTOMETRICS_PYTHON = _HERE.parent / ".ci" / ".bench-autometrics" / "bin" / "python"
"""Its own environment: autometrics pins an older `prometheus_client`."""


class LabelledCounter:
    """A counter whose labels are given at each call."""

    def __init__(self) -> None:
        """Make the counter."""
        self.counter = Counter(
            "labelled", "Calls", list(LABEL_VALUES), registry=CollectorRegistry()
        )

    def connect(self) -> None:
        """Count."""
        self.counter.labels(
            object_classname="Swarm",
            caller_functionname="connect",
            caller_filename="benchmarks/counting.py",
            parent_object_classname="App",
            object_props_topic="news",
            parent_object_props_topic="all",
        ).inc()


class OpenTelemetry:
    """A counter, a histogram and a tracer of OpenTelemetry's SDK."""

    def __init__(self) -> None:
        """Make them; the metrics are read by its exporter for Prometheus, spans go nowhere."""
        reader = PrometheusMetricReader(disable_target_info=True)
        self._meters = MeterProvider([reader])
        meter = self._meters.get_meter("benchmarks")
        self.counter = meter.create_counter("calls")
        self.histogram = meter.create_histogram("durations")
        self.tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmarks")

    def connect(self) -> None:
        """Count."""
        self.counter.add(
            1,
            {
                "object_classname": "Swarm",
                "caller_functionname": "connect",
                "caller_filename": "benchmarks/counting.py",
                "parent_object_classname": "App",
                "object_props_topic": "news",
                "parent_object_props_topic": "all",
            },
        )

    def record(self) -> None:
        """Record a duration."""
        self.histogram.record(
            0.001,
            {
                "object_classname": "Swarm",
                "caller_functionname": "connect",
                "caller_filename": "benchmarks/counting.py",
                "parent_object_classname": "App",
                "object_props_topic": "news",
                "parent_object_props_topic": "all",
            },
        )

    def span(self) -> None:
        """Open and end a span."""
        with self.tracer.start_as_current_span("connect"):
            pass


class StatsD:
    """A client that sends a datagram for each count, to a socket without a reader."""

    def __init__(self) -> None:
        """Open both sockets, on loopback."""
        self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.bind(("127.0.0.1", 0))
        self.client = statsd.StatsClient(*self._server.getsockname())

    def connect(self) -> None:
        """Count."""
        self.client.incr("Swarm.connect")


class Blinker:
    """A signal with one receiver that does nothing."""

    def __init__(self) -> None:
        """Connect the receiver."""
        self.signal = blinker.Signal()
        self._receiver = lambda _: None
        self.signal.connect(self._receiver)

    def connect(self) -> None:
        """Send."""
        self.signal.send(self)


class BoundValues:
    """A child of a histogram, which observes values that are known."""

    def __init__(self) -> None:
        """Take the child."""
        histogram = Histogram("bound", "Time", list(LABEL_VALUES), registry=CollectorRegistry())
        self.child = histogram.labels(**LABEL_VALUES)

    def observe(self) -> None:
        """Observe a value."""
        self.child.observe(0.25)


class LabelledTimer:
    """A histogram whose labels are given at each call."""

    def __init__(self) -> None:
        """Make the histogram."""
        self.histogram = Histogram(
            "labelled", "Time", list(LABEL_VALUES), registry=CollectorRegistry()
        )

    def connect(self) -> None:
        """Time an empty block."""
        with self.histogram.labels(
            object_classname="Swarm",
            caller_functionname="connect",
            caller_filename="benchmarks/counting.py",
            parent_object_classname="App",
            object_props_topic="news",
            parent_object_props_topic="all",
        ).time():
            pass


def _throw_away(_: str) -> None:
    pass


_tracker = ProcessTracker(_throw_away)


class Goblinfish:
    """An object with a method that does nothing, timed."""

    @_tracker  # type: ignore[untyped-decorator]
    def tracked(self) -> None:
        """Do nothing."""


def autometrics(bound_here: float) -> dict[str, float]:
    """Return what a call of an empty method under `@autometrics` costs, in ns.

    It runs in its own environment, with a bound `inc()` beside it: the ratio of the two
    carries over to a run in which that costs `bound_here`. Empty where the environment is missing.
    """
    if not AUTOMETRICS_PYTHON.exists():
        return {}
    script = _HERE / "autometrics_peer.py"
    printed = subprocess.check_output([AUTOMETRICS_PYTHON, script], text=True)
    times = json.loads(printed)
    return {AUTOMETRICS: times["autometrics"] / times["bound"] * bound_here}


@lru_cache(maxsize=1)
def node() -> dict[str, float]:
    """Return what the JavaScript original costs, in ns by operation; empty without Node.js."""
    folder = _HERE / "node"
    program = shutil.which("node")
    if program is None or not (folder / "node_modules").exists():
        return {}
    printed = subprocess.check_output([program, "bench.js"], cwd=folder, text=True)
    times: dict[str, float] = json.loads(printed)
    return times
