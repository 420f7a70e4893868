"""Spans: each gives more than a bound timer, and costs less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from . import peers
from .bound import BOUND_TIMER, BoundTimer
from .measure import OURS, compared
from .ours import App, Swarm, exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort, Row


def rows(effort: Effort) -> Iterator[Row]:
    """Measure a span around an empty block, with its duration, result, gauge and upstream."""
    peer = {BOUND_TIMER: BoundTimer().connect}
    operations = dict(peer)
    if not effort.quick:
        otel = peers.OpenTelemetry()
        operations |= {
            peers.LABELS_TIMER: peers.LabelledTimer().connect,
            "OpenTelemetry, `histogram.record`": otel.record,
            "OpenTelemetry, `start_as_current_span`": otel.span,
        }
    with exporting(exemplar=None):
        swarm = Swarm(App())
        times = effort.nanoseconds({OURS: swarm.span, **operations})
        yield from compared("a span", times, {BOUND_TIMER: (0.9, 0.6)})
        if effort.quick:
            return
        for what, operation in {
            'a span, `span("id")`': swarm.span_with_id,
            "a span, `span(prop=value)`, allowed": swarm.span_with_prop,
        }.items():
            yield from compared(what, effort.nanoseconds({OURS: operation, **peer}))
    # OpenTelemetry is asked for an exemplar at the end of each span once its traces are in use.
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    for what, settings in {
        "a span, with edges": {"upstream": True, "exemplar": None},
        "a span, asked for an exemplar": {},
    }.items():
        with exporting(**settings):
            times = effort.nanoseconds({OURS: Swarm(App()).span, **peer})
        yield from compared(what, times)
