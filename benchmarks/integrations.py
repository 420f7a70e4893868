"""Integrations: the time that they add to a request, a job or a call, beside third-party libraries.

All contestants run in one process: each application is of a class that keeps the library's own
functions, but for ours, which is of the library's class, as it is patched.
"""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

from hypertrace import COMPILED, set_trace_function
from hypertrace.integrations import install
from hypertrace.metrics import Metrics

from . import databases, http_clients
from .measure import OURS, Row, compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .measure import Effort, Operation, Promises

BARE = "bare"
MOST = 15_000.0
"""Nanoseconds that an integration may add."""
GOAL = 10_000.0
THIRD = (1 / 3, 1 / 4)
OF_FRAMES = (0.4, 1 / 3)
"""Of a request of Flask, whose peer does little: most of what is added is for entry and route."""
OF_SIGNALS = (0.6, 1 / 3)
"""Of a task of Celery: a part of what is added, for us and for the peer, is that of its signals."""
FLASK_EXPORTER = "prometheus-flask-exporter"
DJANGO_PROMETHEUS = "django-prometheus"
INSTRUMENTATOR = "prometheus-fastapi-instrumentator"
FASTAPI_TELEMETRY = "FastAPI's own telemetry"
OTEL = "OpenTelemetry"


def rows(effort: Effort) -> Iterator[Row]:
    """Return what each integration adds, beside each peer; promises are those of the compiled core.

    The figures themselves depend on the machine: a quick run has the ratios alone.
    """
    set_trace_function(Metrics(workers=False))
    for what, contestants, promises in _contests():
        operations, bounds = dict(contestants), promises if COMPILED else {}
        if effort.quick:
            operations = {name: operations[name] for name in (BARE, OURS, *promises)}
        figures = effort.nanoseconds(operations)
        bare = figures.pop(BARE)
        added = {name: figure - bare for name, figure in figures.items()}
        added_to = f"time added to {what}"
        if not effort.quick:
            most, goal = (MOST, GOAL) if COMPILED else (None, None)
            yield Row(added_to, added[OURS], promise=most, goal=goal)
        yield from compared(added_to, added, bounds)


def _contests() -> Iterator[tuple[str, Mapping[str, Operation], Promises]]:
    """Return each operation by contestant, and what is promised of ours beside whom."""
    yield "a request of Flask", _flask(), {FLASK_EXPORTER: OF_FRAMES}
    yield "a request of Django", _django(), {DJANGO_PROMETHEUS: THIRD}
    fastapi = {INSTRUMENTATOR: THIRD, FASTAPI_TELEMETRY: THIRD}
    yield "a request of FastAPI", _fastapi(), fastapi
    yield "a task of Celery", _celery(), {OTEL: OF_SIGNALS}
    for what, contestants in databases.operations().items():
        yield what, contestants, {databases.PEERS[what]: THIRD}
    for what, operations in http_clients.operations(_providers()):
        yield what, operations, {OTEL: THIRD}


def _wsgi(application: Any) -> Operation:
    """Return what asks an application for one page, as a server does."""
    environ: dict[str, Any] = {"PATH_INFO": "/items/1", "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)

    def start_response(*_: Any) -> Callable[[bytes], object]:
        return bytes

    def ask() -> None:
        body = application(environ.copy(), start_response)
        for _ in body:
            pass
        body.close()

    return ask


def _flask() -> dict[str, Operation]:
    from flask import Flask  # noqa: PLC0415 -- imported here, it is measured by no other benchmark
    from opentelemetry.instrumentation.flask import FlaskInstrumentor  # noqa: PLC0415
    from prometheus_client import CollectorRegistry  # noqa: PLC0415
    from prometheus_flask_exporter import PrometheusMetrics  # noqa: PLC0415

    class Bare(Flask):
        __call__ = Flask.__call__
        full_dispatch_request = Flask.full_dispatch_request

    def made(kind: type[Flask]) -> Flask:
        app = kind("benchmarks")
        app.add_url_rule("/items/<int:number>", view_func=lambda number: f"{number}", endpoint="a")
        return app

    peer, otel = made(Bare), made(Bare)
    PrometheusMetrics(peer, group_by="url_rule", registry=CollectorRegistry())
    FlaskInstrumentor().instrument_app(otel, **_providers())  # type: ignore[no-untyped-call]
    install("flask")
    return {
        BARE: _wsgi(made(Bare)),
        OURS: _wsgi(made(Flask)),
        FLASK_EXPORTER: _wsgi(peer),
        OTEL: _wsgi(otel),
    }


def _providers() -> dict[str, Any]:
    """Return OpenTelemetry's providers: metrics for its Prometheus exporter, spans go nowhere."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 -- as above
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.trace import NoOpTracerProvider  # noqa: PLC0415

    reader = PrometheusMetricReader(disable_target_info=True)
    return {
        "meter_provider": MeterProvider([reader]),
        "tracer_provider": NoOpTracerProvider(),
    }


def _django() -> dict[str, Operation]:
    from django.conf import settings  # noqa: PLC0415 -- as above
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415
    from django.http import HttpResponse  # noqa: PLC0415
    from django.urls import path  # noqa: PLC0415
    from opentelemetry.instrumentation.django import DjangoInstrumentor  # noqa: PLC0415

    class Urls:
        urlpatterns = (path("items/<int:number>", lambda _, number: HttpResponse(number)),)

    settings.configure(ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])

    class Bare(WSGIHandler):
        __call__ = WSGIHandler.__call__
        resolve_request = WSGIHandler.resolve_request

    bare = Bare()
    settings.MIDDLEWARE = [
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ]
    peer = Bare()
    settings.MIDDLEWARE = []
    DjangoInstrumentor().instrument(**_providers())
    otel = Bare()
    DjangoInstrumentor().uninstrument()
    settings.MIDDLEWARE = []
    install("django")
    return {
        BARE: _wsgi(bare),
        OURS: _wsgi(WSGIHandler()),
        DJANGO_PROMETHEUS: _wsgi(peer),
        OTEL: _wsgi(otel),
    }


def _asgi(application: Any) -> Operation:
    """Return what asks an application for one page, as a server does."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "server": ("shop", 80),
        "path": "/items/1",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"shop")],
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        pass

    def ask() -> None:
        coroutine = application(scope.copy(), receive, send)
        with suppress(StopIteration):  # it waits for nothing
            coroutine.send(None)
            raise RuntimeError("the application waits")

    return ask


def _fastapi() -> dict[str, Operation]:
    from fastapi import FastAPI  # noqa: PLC0415 -- as above
    from fastapi.routing import APIRoute  # noqa: PLC0415
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415
    from prometheus_client import CollectorRegistry  # noqa: PLC0415
    from prometheus_fastapi_instrumentator import Instrumentator  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415

    class Unpatched(Starlette):
        __call__ = Starlette.__call__

    class Bare(FastAPI, Unpatched):
        """Its `super().__call__` is that of `Unpatched`."""

    class BareRoute(APIRoute):
        handle = APIRoute.handle

    def made(kind: type[FastAPI], route: type[APIRoute], **options: Any) -> FastAPI:
        app = kind(**options)
        app.router.route_class = route

        @app.get("/items/{id}")
        async def item(id: int) -> dict[str, int]:
            return {"id": id}

        return app

    telemetry = {"meter_provider": _providers()["meter_provider"], "tracing": False, "logs": False}
    own = made(Bare, BareRoute, telemetry=telemetry)
    peer, otel = made(Bare, BareRoute), made(Bare, BareRoute)
    Instrumentator(registry=CollectorRegistry()).instrument(peer)
    FastAPIInstrumentor.instrument_app(otel, exclude_spans=["receive", "send"], **_providers())
    install("fastapi")
    return {
        BARE: _asgi(made(Bare, BareRoute)),
        OURS: _asgi(made(FastAPI, APIRoute)),
        INSTRUMENTATOR: _asgi(peer),
        OTEL: _asgi(otel),
        FASTAPI_TELEMETRY: _asgi(own),
    }


def _celery() -> dict[str, Operation]:
    """Return what runs a task as a worker does, each with the receivers of one contestant."""
    from celery import Celery, signals  # noqa: PLC0415 -- as above
    from celery.app.trace import build_tracer  # noqa: PLC0415
    from opentelemetry.instrumentation.celery import CeleryInstrumentor  # noqa: PLC0415

    def job() -> None:
        pass

    app = Celery("benchmarks", broker="memory://", set_as_current=False)
    app.conf.task_ignore_result = True
    app.task(job, name="job")
    lists = signals.task_prerun.receivers, signals.task_postrun.receivers

    def taken() -> list[list[object]]:
        """Return the receivers that are connected, and disconnect them."""
        receivers = [list(each) for each in lists]
        for each in lists:
            each.clear()
        return receivers

    others = taken()
    install("celery")
    ours = taken()
    instrumentor: Any = CeleryInstrumentor
    instrumentor().instrument(**_providers())
    otel = taken()
    for each, receivers in zip(lists, others, strict=True):
        each.extend(receivers)
    run = build_tracer("job", app.tasks["job"], app=app)
    request = {"id": "1", "delivery_info": {"exchange": "", "routing_key": "celery"}}

    def run_with(receivers: list[list[object]]) -> Operation:
        def run_task() -> None:
            for each, mine in zip(lists, receivers, strict=True):
                each[:] = mine
            run("1", (), {}, {**request, "hypertrace_sent": 1.5})

        return run_task

    return {BARE: run_with([[], []]), OURS: run_with(ours), OTEL: run_with(otel)}
