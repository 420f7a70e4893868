"""The trace function that counts for Prometheus."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from . import labels as label
from .collector import ExporterCollector
from .endpoint import make_asgi_app, make_wsgi_app
from .exposition import render
from .labels import Labeller
from .recorders import props_recorder
from .series import CounterSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from types import TracebackType
    from typing import Self
    from wsgiref.types import WSGIApplication

    from prometheus_client.registry import Collector

    from hypertrace import Cell, TracedObject, TraceEvent

    from .endpoint import ASGIApp
    from .server import MetricsServer

_METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = ("hypertrace_", "process_", "python_")
_DEFAULTS = {
    "process_virtual_memory_bytes": ProcessCollector,
    "python_info": PlatformCollector,
    "python_gc_objects_collected": GCCollector,
}


class PrometheusExporter:
    """Counts every `trace()` in a Prometheus counter, and serves the counts.

    Give it to `hypertrace.set_trace_function`. Any thread may trace, scrape and stop it. What it
    counts stays readable after `stop()`, which only takes it off the registry and the network.

    Attributes:
        registry: the registry its metrics are on.
        wsgi_app: the metrics as a WSGI application, to be mounted in one's own server.
        asgi_app: the same for ASGI.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        port: int | None = None,
        *,
        host: str = "127.0.0.1",
        registry: CollectorRegistry | None = None,
        collect_defaults: bool = True,
        allowed_props: Iterable[str] = (),
        counter_name: str = "function_counter_total",
        object_ids: bool = False,
        max_series: int = 10_000,
        max_label_length: int = 256,
    ) -> None:
        """Register the metrics, and start a metrics server if a port is given.

        Args:
            port: where the metrics server listens, 0 for a free port; None starts no server.
            host: address it listens on. Beyond loopback, everyone who reaches it reads the metrics.
            registry: where the metrics go; None makes a registry of the exporter's own.
            collect_defaults: add the metrics of the process, the platform and the garbage collector
                that `prometheus_client` brings, unless the registry has them.
            allowed_props: names of the props that become labels `object_props_X`,
                `parent_object_props_X` and `caller_props_X`; all others are ignored. Characters
                outside `[a-zA-Z0-9_]` become `_`.
            counter_name: name of the counter, as Prometheus shows it.
            object_ids: add the labels `object_id` and `parent_object_id`: series of their own for
                each object, dropped once the object's tracer is gone.
            max_series: how many series the counter holds at the most. Past it, updates are counted
                in one series `{object_classname="<overflow>"}`, and a warning is logged once.
            max_label_length: longer label values are cut to so many characters.

        Raises:
            ValueError: a name that Prometheus refuses, two props that would become the same label,
                a registry that has these metrics already, or a number out of range.
            TypeError: an argument of the wrong type.
            OSError: the port is in use or cannot be bound; the message names it.
        """
        _check_name(counter_name)
        _check_number("max_series", max_series, 1)
        _check_number("max_label_length", max_label_length, 16)
        self.registry = CollectorRegistry() if registry is None else registry
        self._labeller = Labeller(allowed_props, max_label_length, object_ids=object_ids)
        self._object_ids = object_ids
        self._series = CounterSeries(counter_name, max_series)
        self._share_keys: set[Hashable] = set()
        self._collectors: list[Collector] = []
        self._server: MetricsServer | None = None
        self.wsgi_app: WSGIApplication = make_wsgi_app(self.registry)
        self.asgi_app: ASGIApp = make_asgi_app(self.registry)
        try:
            self._register(ExporterCollector(self._series))
            if collect_defaults:
                self._register_defaults()
            if port is not None:
                self._server = _serve(self.registry, host, port)
        except BaseException:
            self.stop()
            raise

    @property
    def port(self) -> int | None:
        """Port of the metrics server, None without one."""
        return None if self._server is None else self._server.port

    @property
    def url(self) -> str | None:
        """Where the metrics server shows the metrics, None without one."""
        return None if self._server is None else self._server.url

    def metrics(self) -> str:
        """Return all metrics of the registry in the text format 0.0.4."""
        return render(self.registry).decode()

    def stop(self) -> None:
        """Take the metrics off the registry and stop the server, if that is not done yet."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        collectors, self._collectors = self._collectors, []
        for collector in collectors:
            self.registry.unregister(collector)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __call__(self, event: TraceEvent) -> None:
        """Count one event."""
        labels = self._labeller.of_call(event)
        labels |= self._labeller.of_props(label.CALLER_PROPS, event.caller.props)
        self._series.cell(labels, event.caller, self._owner(event)).increment()

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        """Return the labels that the events of a tracer have in common.

        None where each object has series of its own, and where there is no room for further
        series: what is bound for such a tracer must not outlive it.
        """
        if self._object_ids:
            return None
        key = tuple(self._labeller.of_objects(traced, parent).items())
        if not self._series.is_full:
            self._share_keys.add(key)
        return key if key in self._share_keys else None

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        """Return what counts events like this one; it runs in C."""
        labels = self._labeller.of_call(event)
        return self._series.cell(labels, event.caller, self._owner(event)).increment

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        """Return what counts events like this one, each with props of its own."""
        labels, caller, owner = self._labeller.of_call(event), event.caller, self._owner(event)

        # Does not hold the event: a recorder that is shared must not keep an object's props.
        def cell_for(props: dict[str, object]) -> Cell:
            caller_props = self._labeller.of_props(label.CALLER_PROPS, props)
            return self._series.cell(labels | caller_props, caller, owner)

        names = tuple(self._labeller.allowed)
        return props_recorder(names, cell_for, self._series, self._labeller.text)

    def _owner(self, event: TraceEvent) -> TracedObject | None:
        return event.object if self._object_ids else None

    def _register(self, collector: Collector) -> None:
        try:
            self.registry.register(collector)
        except ValueError as error:
            raise ValueError(
                f"the registry has metrics of these names already ({error}): stop() the exporter "
                "that is on it, or use another registry"
            ) from error
        self._collectors.append(collector)

    def _register_defaults(self) -> None:
        present = {family.name for family in self.registry.collect()}
        for name, collector in _DEFAULTS.items():
            if name not in present:
                # Each registers itself somewhere; only _register() says what to do if it cannot.
                self._register(collector(registry=CollectorRegistry()))


def _serve(registry: CollectorRegistry, host: str, port: int) -> MetricsServer:
    # Here, so that werkzeug is loaded only by those who use the server.
    from .server import MetricsServer  # noqa: PLC0415

    return MetricsServer(registry, host=host, port=port)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"counter_name must be a str, not {name!r}")
    if not _METRIC_NAME.fullmatch(name.removesuffix("_total")):
        raise ValueError(
            f"counter_name {name!r} is no name of a metric: it takes letters, digits and '_', "
            "and no digit first"
        )
    if name.startswith(_RESERVED):
        raise ValueError(
            f"counter_name {name!r} begins like the metrics that the exporter has besides "
            f"({', '.join(_RESERVED)}); choose another"
        )


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")
