"""Counted `trace()`: with its caller and all labels it costs less than a bound `inc()`."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from hypertrace import fan_out
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace_prometheus import PrometheusExporter

from . import peers
from .bound import BOUND, BoundCounter
from .measure import OURS, compared
from .ours import App, Plain, Swarm, exporting, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort, Row

ONE_EXPORTER = "with one exporter"
PROMISES = {BOUND: (0.9, 0.6), peers.LABELS: (1 / 8, 1 / 12), peers.OTEL: (1 / 18, 1 / 25)}
SHARED = {ONE_EXPORTER: (1.05, 1.0)}
_TURNS = 10


class Request:
    """An object that is made, traces once, and goes."""

    def serve(self) -> None:
        """Make the object and trace."""
        Plain().connect()


class LabelledRequest:
    """The same with `prometheus_client`."""

    def __init__(self) -> None:
        """Make the counter."""
        self.counter = peers.LabelledCounter()

    def serve(self) -> None:
        """Make an object and count."""
        LabelledRequest.__new__(LabelledRequest)
        self.counter.connect()


def rows(effort: Effort) -> Iterator[Row]:
    """Measure `trace()` with the exporter, then with other settings and trace functions."""
    bound, labelled, otel = BoundCounter(), peers.LabelledCounter(), peers.OpenTelemetry()
    operations = {
        BOUND: bound.connect,
        peers.LABELS: labelled.connect,
        peers.OTEL: otel.connect,
    }
    if not effort.quick:
        operations["statsd, `incr()`"] = peers.StatsD().connect
    with exporting():
        times = effort.nanoseconds({OURS: Swarm(App()).connect, **operations})
        if not effort.quick:
            times |= peers.autometrics(times[BOUND]) | _node()
    yield from compared("`trace()`, counted", times, PROMISES)
    yield from _two_exporters(effort)
    if not effort.quick:
        yield from _other_settings(effort, bound, labelled)


def _two_exporters(effort: Effort) -> Iterator[Row]:
    """Measure one exporter and two of the same metrics by turns: only one can be set at a time."""
    turns = replace(effort, rounds=max(1, effort.rounds // _TURNS))
    best = {OURS: inf, ONE_EXPORTER: inf}
    for _ in range(_TURNS):
        with exporting():
            one = turns.nanoseconds({ONE_EXPORTER: Swarm(App()).connect})
        with exporting() as first, JsonLinesExporter(_ignore, metrics=first.forwards_to):
            two = turns.nanoseconds({OURS: Swarm(App()).connect})
        best = {name: min(best[name], time) for name, time in (one | two).items()}
    yield from compared("`trace()` with two exporters of one `Metrics`", best, SHARED)


def _ignore(line: str) -> None:
    """Take a line."""


def _other_settings(
    effort: Effort, bound: BoundCounter, labelled: peers.LabelledCounter
) -> Iterator[Row]:
    peer = {BOUND: bound.connect}
    with exporting(object_ids=True):
        times = effort.nanoseconds({OURS: Swarm(App()).connect, **peer})
    yield from compared("`trace()`, counted, with object ids", times)

    with exporting():
        request = {OURS: Request().serve, peers.LABELS: LabelledRequest().serve}
        times = effort.nanoseconds(request)
    yield from compared("an object made with a tracer, and its first `trace()`", times)

    with tracing(lambda _: None):
        times = effort.nanoseconds(
            {OURS: Swarm(App()).connect, "blinker, `send()`": peers.Blinker().connect}
        )
    yield from compared("`trace()` to a plain trace function", times)

    two = [PrometheusExporter(collect_defaults=False, workers=False) for _ in range(2)]
    with tracing(fan_out(*two)):
        times = effort.nanoseconds({OURS: Swarm(App()).connect, peers.LABELS: labelled.connect})
    yield from compared("`trace()` to two exporters through `fan_out`", times)


def _node() -> dict[str, float]:
    times = peers.node()
    return {peers.NODE: times["trace"]} if times else {}
