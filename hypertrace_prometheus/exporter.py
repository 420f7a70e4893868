"""The trace function that counts for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from . import labels as label
from .allowlist import label_names
from .collection import held_by
from .collector import ExporterCollector
from .endpoint import make_asgi_app, make_wsgi_app
from .exemplars import opentelemetry_exemplar
from .exposition import render
from .labels import Labeller
from .metrics import COUNTER, DURATION, EDGES, EXCEPTIONS, IN_PROGRESS, TraceMetrics
from .registries import watch
from .threads import THREADS, ThreadsCollector
from .timings import DEFAULT_BUCKETS, checked_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any, Self
    from wsgiref.types import WSGIApplication

    from prometheus_client.registry import Collector

    from .endpoint import ASGIApp
    from .exemplars import ExemplarFunction
    from .labels import Labels
    from .server import MetricsServer
    from .tls import File

_METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = (
    "hypertrace_",
    "process_",
    "python_",
    *(name.removesuffix("_total") for name in (DURATION, EXCEPTIONS, IN_PROGRESS, EDGES)),
)
_SUFFIXES = ("_bucket", "_count", "_created", "_info", "_sum")
"""Ends of the names that other types of metrics have on the page."""

_DEFAULTS = {
    "process_virtual_memory_bytes": ProcessCollector,
    THREADS: ThreadsCollector,
    "python_info": PlatformCollector,
    "python_gc_objects_collected": GCCollector,
}


class PrometheusExporter(TraceMetrics):
    """Counts every `trace()` and times every span for Prometheus, and serves the metrics.

    Give it to `hypertrace.set_trace_function`. Any thread may trace, scrape and stop it. After
    `stop()` its metrics are on no page any more; it may still be called.

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
        certfile: File | None = None,
        keyfile: File | None = None,
        client_ca: File | None = None,
        auth: str | None = None,
        registry: CollectorRegistry | None = None,
        collect_defaults: bool = True,
        allowed_props: Iterable[str] = (),
        unsafe_props: Iterable[str] = (),
        counter_name: str = COUNTER,
        object_ids: bool = False,
        max_series: int = 10_000,
        max_label_length: int = 256,
        buckets: Sequence[float] = DEFAULT_BUCKETS,
        buckets_for: Mapping[str, Sequence[float]] | None = None,
        exemplar: ExemplarFunction | None = opentelemetry_exemplar,
        upstream: bool = False,
    ) -> None:
        """Register the metrics, and start a metrics server if a port is given.

        Args:
            port: where the metrics server listens, 0 for a free port; None starts no server.
            host: address it listens on. Beyond loopback, everyone who reaches it reads the metrics,
                unless `auth` or `client_ca` is given. On loopback, requests that name another host
                are refused.
            certfile: PEM file with the server's certificate, for TLS 1.2 or later and never HTTP in
                the clear. This and the next two are paths; all files are read once.
            keyfile: PEM file with the key of the certificate, not encrypted.
            client_ca: PEM file with authorities; only clients with a certificate of one are served.
            auth: where the credentials are that a client must send one of, `"file:PATH"` or
                `"env:NAME"`: a line each, `name:password` or `Bearer TOKEN`.
            registry: where the metrics go; None makes a registry of the exporter's own.
            collect_defaults: add the metrics of the process, the platform and the garbage collector
                that `prometheus_client` brings, unless the registry has them.
            allowed_props: names of the props that become labels `object_props_X`,
                `parent_object_props_X` and `caller_props_X`; all others are ignored. Characters
                outside `[a-zA-Z0-9_]` become `_`. Names that look like secrets (`password`,
                `api-key`, `authToken`), or are called like labels of Prometheus (`le`, `quantile`,
                `job`, `instance`, `__x`), are refused.
            unsafe_props: those of the allowed props that are not refused for their name.
            counter_name: name of the counter, as Prometheus shows it.
            object_ids: add the labels `object_id` and `parent_object_id`: series of their own for
                each object, dropped once the object's tracer is gone.
            max_series: how many series the counter holds at the most. Past it, updates are counted
                in one series `{object_classname="<overflow>"}`, and a warning is logged once.
            max_label_length: longer label values are cut to so many characters.
            buckets: upper bounds, in seconds, of the buckets that durations are counted in.
            buckets_for: other buckets for some classes or trace ids, by their name; those of an id
                win over those of a class.
            exemplar: returns the labels of an exemplar for a span that ends, such as
                `{"trace_id": "4bf9"}`, or None; by default those of OpenTelemetry's current span
                if the application uses it. They show over OpenMetrics.
            upstream: count in `function_edges_total` which function's span started inside which.

        Raises:
            ValueError: a name that Prometheus refuses, a prop that looks like a secret, two props
                that would become the same label, a registry that has these metrics already, a
                number out of range, half of TLS, a file or variable that is not what it should be,
                or TLS or `auth` without a port.
            TypeError: an argument of the wrong type.
            OSError: the port is in use or cannot be bound; the message names it. Or a file cannot
                be read; `filename` names it.
        """
        check_counter_name(counter_name)
        _check_number("max_series", max_series, 1)
        _check_number("max_label_length", max_label_length, 16)
        security = {
            "certfile": certfile,
            "keyfile": keyfile,
            "client_ca": client_ca,
            "auth": auth,
        }
        if port is None:
            _check_absent(security)
        self.registry = _checked_registry(registry)
        super().__init__(
            Labeller(
                label_names(allowed_props, unsafe_props), max_label_length, object_ids=object_ids
            ),
            counter_name=counter_name,
            max_series=max_series,
            own_series=object_ids,
            bounds_of=_bounds_of(buckets, {} if buckets_for is None else buckets_for),
            exemplar=_checked_exemplar(exemplar),
            upstream=upstream,
        )
        self._collectors: list[Collector] = []
        self._server: MetricsServer | None = None
        self.wsgi_app: WSGIApplication = make_wsgi_app(self.registry)
        self.asgi_app: ASGIApp = make_asgi_app(self.registry)
        watch(self.registry)
        try:
            self._register(ExporterCollector(self))
            if collect_defaults:
                self._register_defaults()
            if port is not None:
                self._server = _serve(self.registry, host=host, port=port, **security)
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
            with suppress(KeyError):  # another thread, or the application, did it
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

    def _register(self, collector: Collector) -> None:
        self._collectors.append(collector)  # first: an interrupt must leave none that stays
        try:
            self.registry.register(collector)
        except ValueError as error:
            raise ValueError(
                f"the registry has metrics of these names already ({error}): stop() the exporter "
                "that is on it, or use another registry"
            ) from error

    def _register_defaults(self) -> None:
        present = _names_on(self.registry)
        for name, collector in _DEFAULTS.items():
            if name not in present:
                # Each registers itself somewhere; only _register() says what to do if it cannot.
                self._register(collector(registry=CollectorRegistry()))


def _checked_registry(registry: object) -> CollectorRegistry:
    if registry is None:
        return CollectorRegistry()
    if not isinstance(registry, CollectorRegistry):
        raise TypeError(
            f"registry must be a prometheus_client.CollectorRegistry or None, not {registry!r}"
        )
    return registry


def _names_on(registry: CollectorRegistry) -> set[str]:
    """Return the names that collectors of a registry told, and those of the default metrics.

    No other collector is asked for what it gives: one that hangs must not hold up the start.
    """
    held = held_by(registry) or {}
    defaults = [one for one in held if any(type(one) is kind for kind in _DEFAULTS.values())]
    told = {name for names in held.values() for name in names}
    return told | {family.name for one in defaults for family in one.collect()}


def _bounds_of(
    buckets: Sequence[float], buckets_for: Mapping[str, Sequence[float]]
) -> Callable[[Labels], tuple[float, ...]]:
    bounds = checked_bounds(buckets)
    if not isinstance(buckets_for, Mapping) or not all(isinstance(n, str) for n in buckets_for):
        raise TypeError(
            "buckets_for must map names of classes or trace ids to buckets, "
            f'as {{"Cart": [0.1, 1.0]}}, not {buckets_for!r}'
        )
    special = {
        name: checked_bounds(others, f"buckets_for[{name!r}]")
        for name, others in buckets_for.items()
    }

    def bounds_of(labels: Labels) -> tuple[float, ...]:
        by_class = special.get(labels.get(label.CLASS, ""), bounds)
        return special.get(labels.get(label.TRACE_ID, ""), by_class)

    return bounds_of


def _checked_exemplar(exemplar: ExemplarFunction | None) -> ExemplarFunction | None:
    if exemplar is not None and not callable(exemplar):
        raise TypeError(f"exemplar must be a function without arguments or None, not {exemplar!r}")
    return exemplar


def _check_absent(security: Mapping[str, object]) -> None:
    given = [name for name, value in security.items() if value is not None]
    if given:
        raise ValueError(
            f"{' and '.join(given)} without port: they secure the metrics server; pass a port, or "
            "secure the server that you mount the metrics in"
        )


def _serve(registry: CollectorRegistry, **arguments: Any) -> MetricsServer:
    # Here, so that werkzeug is loaded only by those who use the server.
    from .server import MetricsServer  # noqa: PLC0415

    return MetricsServer(registry, **arguments)


def check_counter_name(name: object) -> None:
    """Raise a ValueError or TypeError that tells why the counter cannot have this name."""
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
    if name.endswith(_SUFFIXES):
        raise ValueError(
            f"counter_name {name!r} ends like a part of a metric of another type "
            f"({', '.join(_SUFFIXES)}); let it end in '_total'"
        )


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")
