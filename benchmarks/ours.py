"""Classes that are traced in the benchmarks: a swarm in an application."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypertrace import Tracer, clear_trace_function, set_trace_function
from hypertrace_prometheus import PrometheusExporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hypertrace import TraceFunction


@contextmanager
def tracing(function: TraceFunction) -> Iterator[None]:
    """Send events to a trace function for a while."""
    set_trace_function(function)
    try:
        yield
    finally:
        clear_trace_function()


@contextmanager
def exporting(**settings: Any) -> Iterator[PrometheusExporter]:
    """Count for Prometheus for a while in memory, with the prop `topic` allowed."""
    defaults = {"allowed_props": ["topic"], "collect_defaults": False, "workers": False}
    settings = {**defaults, **settings}
    with PrometheusExporter(**settings) as exporter, tracing(exporter):
        yield exporter


class App:
    """What a swarm belongs to."""

    def __init__(self) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self, {"topic": "all"})


class Swarm:
    """An object with a prop and a parent; each method does one thing."""

    def __init__(self, app: App) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self, {"topic": "news"}, parent=app.tracer)

    def connect(self) -> None:
        """Trace."""
        self.tracer.trace()

    def connect_with_id(self) -> None:
        """Trace with an id."""
        self.tracer.trace("connect")

    def connect_with_prop(self) -> None:
        """Trace with a prop that is allowed."""
        self.tracer.trace(topic="sports")

    def connect_with_other_prop(self) -> None:
        """Trace with a prop that is not, or is the second that is allowed."""
        self.tracer.trace(peer="ann")

    def connect_with_two_props(self) -> None:
        """Trace with both."""
        self.tracer.trace(topic="sports", peer="ann")

    def connect_with_mapping(self) -> None:
        """Trace with props as a mapping."""
        self.tracer.trace({"topic": "sports"})

    def connect_with_id_and_prop(self) -> None:
        """Trace with an id and a prop."""
        self.tracer.trace("connect", topic="sports")

    def span(self) -> None:
        """Time an empty block."""
        with self.tracer.span():
            pass

    def span_with_id(self) -> None:
        """Time an empty block with an id."""
        with self.tracer.span("connect"):
            pass

    def span_with_prop(self) -> None:
        """Time an empty block with a prop."""
        with self.tracer.span(topic="sports"):
            pass


class Plain:
    """An object with neither."""

    def __init__(self) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self)

    def connect(self) -> None:
        """Trace."""
        self.tracer.trace()
