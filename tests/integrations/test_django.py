"""Django sites: routes, errors and answers, with handlers of WSGI and ASGI."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace._operations import current_entry
from hypertrace.integrations import install, uninstall
from hypertrace.integrations.asgi import trace_asgi
from hypertrace.integrations.wsgi import trace_wsgi
from hypertrace.tallies import swallowed

from .serving import Server, environ_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

# Django leaves the body of a request whose client goes away to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")

DURATIONS = "http_server_request_duration_seconds"
SITE = "measured_site"
SEEN: list[str] = []


class OwnError(Exception):
    """What views raise."""


def _site(http: Any, urls: Any, core: Any) -> ModuleType:
    """Return a module with the views, the patterns and the middleware of a site."""

    def item(request: Any, **_: Any) -> Any:
        SEEN.append(current_entry())
        return http.HttpResponse(request.path)

    async def async_item(request: Any, **_: Any) -> Any:
        SEEN.append(current_entry())
        return http.HttpResponse(request.path)

    def boom(request: Any) -> Any:
        raise OwnError

    async def async_boom(request: Any) -> Any:
        raise OwnError

    def missing(request: Any) -> Any:
        raise http.Http404

    def denied(request: Any) -> Any:
        raise core.PermissionDenied

    def stream(request: Any, fails: int) -> Any:
        def parts() -> Iterator[str]:
            yield "one"
            SEEN.append(current_entry())
            if fails:
                raise OwnError
            yield "two"

        return http.StreamingHttpResponse(parts())

    async def async_stream(request: Any) -> Any:
        async def parts() -> AsyncIterator[str]:
            yield "one"
            SEEN.append(current_entry())
            yield "two"

        return http.StreamingHttpResponse(parts())

    def file(request: Any) -> Any:
        return http.FileResponse(io.BytesIO(b"bytes"))

    class Middleware:
        def __init__(self, get_response: Callable[[Any], Any]) -> None:
            self.get_response = get_response

        def __call__(self, request: Any) -> Any:
            mode = request.GET.get("mode")
            if mode == "before":
                raise OwnError
            if mode == "early":
                return http.HttpResponse("later", status=429)
            answer = self.get_response(request)
            if mode == "after":
                raise OwnError
            return answer

    shop = [
        urls.path("<slug:name>/", item),
        urls.re_path(r"^old/(?P<year>[0-9]{4})/$", item),
    ]
    module = ModuleType(SITE)
    module.__dict__.update(
        Middleware=Middleware,
        urlpatterns=[
            urls.path("", item),
            urls.path("items/<int:id>/", item),
            urls.path("async/<int:id>/", async_item),
            urls.path("boom/", boom),
            urls.path("async-boom/", async_boom),
            urls.path("missing/", missing),
            urls.path("denied/", denied),
            urls.path("stream/<int:fails>/", stream),
            urls.path("async-stream/", async_stream),
            urls.path("file/", file),
            urls.path("metrics", item),
            urls.path("shop/", urls.include((shop, "shop"))),
            urls.re_path(r"^v(?P<version>[12])/", urls.include((shop, "api"))),
        ],
    )
    return module


@pytest.fixture
def settings(
    library: Callable[[str], Any], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Set a site up and measure it; see to it that no error was swallowed."""
    library("django")
    from django import http, urls
    from django.conf import settings as found
    from django.core import exceptions
    from django.test import override_settings

    if not found.configured:
        found.configure(SECRET_KEY="of a test")
    monkeypatch.setitem(sys.modules, SITE, _site(http, urls, exceptions))
    SEEN.clear()
    install("django")
    with override_settings(
        ROOT_URLCONF=SITE,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{SITE}.Middleware"],
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        DEBUG_PROPAGATE_EXCEPTIONS=False,
        LOGGING_CONFIG=None,
    ):
        urls.clear_url_caches()
        yield found
    urls.clear_url_caches()
    assert swallowed.value == 0


def _wsgi(path: str, method: str = "GET", application: Any = None) -> Server:
    from django.core.handlers.wsgi import WSGIHandler

    path, _, query = path.partition("?")
    environ = environ_of(method, path, QUERY_STRING=query)
    return Server().run(application or WSGIHandler(), environ)


class Asgi:
    """A server of ASGI, for one request."""

    def __init__(self) -> None:
        self.status = ""
        self.body = b""

    def run(self, path: str, method: str = "GET", application: Any = None) -> Asgi:
        """Answer a request."""
        from django.core.handlers.asgi import ASGIHandler

        asyncio.run(asyncio.wait_for(self._run(path, method, application or ASGIHandler()), 30))
        gc.collect()
        return self

    async def _run(self, path: str, method: str, application: Any) -> None:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": b""})

        async def send(message: dict[str, Any]) -> None:
            self.status = str(message.get("status", self.status))
            self.body += message.get("body", b"")
            if self.body == b"one" and "disconnect" in query:
                messages.put_nowait({"type": "http.disconnect"})
                await asyncio.sleep(30)  # until it is cancelled

        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
        }
        await application(scope, messages.get, send)


def _asgi(path: str, method: str = "GET", application: Any = None) -> Asgi:
    return Asgi().run(path, method, application)


SERVERS = pytest.mark.parametrize("ask", [_wsgi, _asgi], ids=["wsgi", "asgi"])

ENDS = [
    ("/", ("/", "200", "")),
    ("/items/1/", ("/items/<int:id>/", "200", "")),
    ("/async/1/", ("/async/<int:id>/", "200", "")),
    ("/shop/tea/", ("/shop/<slug:name>/", "200", "")),
    ("/shop/old/2026/", ("/shop/old/(?P<year>[0-9]{4})/$", "200", "")),
    ("/v2/tea/", ("/v(?P<version>[12])/<slug:name>/", "200", "")),
    ("/boom/", ("/boom/", "500", "OwnError")),
    ("/async-boom/", ("/async-boom/", "500", "OwnError")),
    ("/missing/", ("/missing/", "404", "")),
    ("/denied/", ("/denied/", "403", "")),
    ("/file/", ("/file/", "200", "")),
    ("/no/", ("<unmatched>", "404", "")),
    ("/items/1", ("<unmatched>", "301", "")),
    ("/items/1/?mode=before", ("<unmatched>", "500", "OwnError")),
    ("/items/1/?mode=early", ("<unmatched>", "429", "")),
    ("/items/1/?mode=after", ("/items/<int:id>/", "500", "OwnError")),
    ("/boom/?mode=after", ("/boom/", "500", "OwnError")),
]


@SERVERS
@pytest.mark.parametrize(("path", "labels"), ENDS, ids=[path for path, _ in ENDS])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_every_end_is_counted_once(
    settings: Any,
    points: Points,
    ask: Callable[..., Server | Asgi],
    path: str,
    labels: tuple[str, ...],
) -> None:
    """Each way to answer has its route, its status and its type of error."""
    assert ask(path).status[:3] == labels[1]
    assert points(DURATIONS) == {("GET", *labels): 1}
    assert points("http_server_active_requests") == {("GET",): 0}
    assert set(SEEN) <= {f"GET {labels[0]}"}


@SERVERS
def test_methods_stay_themselves(
    settings: Any, points: Points, ask: Callable[..., Server | Asgi]
) -> None:
    """`HEAD` and `OPTIONS` are no `GET`."""
    for method in ("HEAD", "OPTIONS", "BREW"):
        ask("/", method)
    assert points(DURATIONS) == {
        ("HEAD", "/", "200", ""): 1,
        ("OPTIONS", "/", "200", ""): 1,
        ("_OTHER", "/", "200", ""): 1,
    }


def test_a_stream_lasts_until_its_last_part(settings: Any, points: Points) -> None:
    """Parts run inside of the request; one that raises ends it with the status that was sent."""
    route = "/stream/<int:fails>/"
    assert _wsgi("/stream/0/").body == b"onetwo"
    with pytest.raises(OwnError):
        _wsgi("/stream/1/")
    assert [f"GET {route}"] * 2 == SEEN
    assert points(DURATIONS) == {("GET", route, "200", ""): 1, ("GET", route, "200", "OwnError"): 1}


def test_an_async_stream_lasts_until_its_last_part(settings: Any, points: Points) -> None:
    """So does one of an async view; a client that goes away cancels it."""
    assert _asgi("/async-stream/").body == b"onetwo"
    _asgi("/async-stream/?disconnect")
    assert SEEN == ["GET /async-stream/"]
    assert points(DURATIONS) == {
        ("GET", "/async-stream/", "200", ""): 1,
        ("GET", "/async-stream/", "200", "cancelled"): 1,
    }


def test_a_body_is_still_the_response(settings: Any) -> None:
    """Middleware of WSGI gets what Django returns."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse

    body: Any = WSGIHandler()(environ_of(path="/"), Server().start_response)
    assert isinstance(body, HttpResponse)
    assert body.content == b"/"
    assert bytes(body).endswith(b"\r\n\r\n/")
    body.close()
    assert body.closed


@pytest.mark.parametrize("ask", [_wsgi, _asgi], ids=["wsgi", "asgi"])
def test_an_exception_that_passes_is_status_500(
    settings: Any, points: Points, ask: Callable[..., Server | Asgi]
) -> None:
    """With `DEBUG_PROPAGATE_EXCEPTIONS`, it reaches the server as it is."""
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    with pytest.raises(OwnError):
        ask("/boom/")
    assert points(DURATIONS) == {("GET", "/boom/", "500", "OwnError"): 1}


def test_excluded_paths_are_not_measured(settings: Any, points: Points) -> None:
    """The page of the metrics is one of them."""
    assert _wsgi("/metrics").body == _asgi("/metrics").body == b"/metrics"
    assert points(DURATIONS) == {}


def test_middleware_around_the_site_counts_once(settings: Any, points: Points) -> None:
    """It measures, and the integration adds the route."""
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    _wsgi("/boom/", application=trace_wsgi(WSGIHandler()))
    _asgi("/boom/", application=trace_asgi(ASGIHandler()))
    _wsgi("/no/", application=trace_wsgi(WSGIHandler()))
    assert points(DURATIONS) == {
        ("GET", "/boom/", "500", "OwnError"): 2,
        ("GET", "<unmatched>", "404", ""): 1,
    }


def test_the_root_of_the_site_is_part_of_the_route(settings: Any, points: Points) -> None:
    """As for two sites that a server mounts at two paths."""
    from django.core.handlers.wsgi import WSGIHandler

    Server().run(WSGIHandler(), environ_of(path="/items/1/", SCRIPT_NAME="/north"))
    assert points(DURATIONS) == {("GET", "/north/items/<int:id>/", "200", ""): 1}


def test_a_flood_of_paths_is_one_series(settings: Any, points: Points) -> None:
    """Paths that fit no pattern are no labels: 10 000 of them are one series."""
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()
    for number in range(10_000):
        Server().run(handler, environ_of(path=f"/no/{number}/"))
    assert points(DURATIONS) == {("GET", "<unmatched>", "404", ""): 10_000}


def test_uninstalling_leaves_the_library_as_it_was(settings: Any) -> None:
    """Its classes and signals are identical, and nothing is measured."""
    from django.core import signals
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.base import BaseHandler
    from django.core.handlers.wsgi import WSGIHandler

    def state() -> list[Any]:
        classes = [dict(vars(one)) for one in (BaseHandler, WSGIHandler, ASGIHandler)]
        return [*classes, [key for key, *_ in signals.got_request_exception.receivers]]

    measured = state()
    uninstall("django")
    bare = state()
    assert all(one != other for one, other in zip(measured, bare, strict=True))
    install("django")
    uninstall("django")
    assert state() == bare
