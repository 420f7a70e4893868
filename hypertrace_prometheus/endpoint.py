"""A `prometheus_client` registry as an HTTP endpoint, to be mounted anywhere.

A *view* turns a `Request` into an `Answer` and knows nothing of WSGI or ASGI.
`respond` adds what holds for every answer; the two adapters only carry it over.
"""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import parse_qs

from prometheus_client.exposition import choose_encoder

from .exposition import render

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Below this a body travels in one packet either way.
_GZIP_FROM_BYTES = 1024
# Half the time of level 9 for 15 % more bytes, on a page of 10 000 series.
_GZIP_LEVEL = 5
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")

_logger = logging.getLogger("hypertrace_prometheus")


class Request(NamedTuple):
    """What a view may look at; a header that was not sent is the empty string."""

    method: str
    query: str
    accept: str
    accept_encoding: str


class Answer(NamedTuple):
    """What goes back: the headers that are the view's own, and the whole body."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


View: TypeAlias = Callable[[Request], Answer]


def make_wsgi_app(registry: CollectorRegistry) -> WSGIApplication:
    """Return a WSGI application that answers every path with the metrics of `registry`.

    Safe to call from many threads at once. When a collector raises, the client gets
    status 500 with one line of text, and the traceback goes to the logger
    "hypertrace_prometheus".
    """
    return wsgi_app(metrics_view(registry))


def make_asgi_app(registry: CollectorRegistry) -> ASGIApp:
    """Return an ASGI application that answers every path with the metrics of `registry`.

    Under asyncio the page is rendered in a worker thread, so that a large one does not
    hold up the event loop; under other loops it is rendered in place. A lifespan is
    acknowledged, a websocket is refused. Failing collectors: as in `make_wsgi_app`.
    """
    view = metrics_view(registry)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await _serve_http(view, scope, send)
            case "lifespan":
                await _serve_lifespan(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case unknown:
                raise ValueError(f"the metrics endpoint cannot serve the ASGI scope {unknown!r}")

    return app


def metrics_view(registry: CollectorRegistry) -> View:
    """Return the view of `registry`: negotiated, restricted by `name[]`, compressed."""
    return read_only(partial(_metrics, registry))


def wsgi_app(view: View) -> WSGIApplication:
    """Return `view` as a WSGI application."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(
            method=environ["REQUEST_METHOD"],
            query=environ.get("QUERY_STRING", ""),
            accept=environ.get("HTTP_ACCEPT", ""),
            accept_encoding=environ.get("HTTP_ACCEPT_ENCODING", ""),
        )
        status, headers, body = respond(view, request)
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return app


def respond(view: View, request: Request) -> Answer:
    """Return the answer of `view` as it goes over the wire.

    Adds the headers that every answer carries and drops the body of a HEAD. When the
    view raises, the traceback is logged and the client is told no more than that.
    """
    try:
        answer = view(request)
    except Exception:
        _logger.exception("The metrics could not be collected; the scrape got status 500")
        answer = text_answer(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "The metrics could not be collected. The log of the application says why.\n",
        )
    headers = [
        *answer.headers,
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Answer(answer.status, headers, b"" if request.method == "HEAD" else answer.body)


def read_only(view: View) -> View:
    """Return `view` for GET and HEAD, and status 405 for any other method."""

    def checked(request: Request) -> Answer:
        if request.method in {"GET", "HEAD"}:
            return view(request)
        refusal = text_answer(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD work here.\n")
        refusal.headers.append(("Allow", "GET, HEAD"))
        return refusal

    return checked


def text_answer(status: HTTPStatus, text: str) -> Answer:
    """Return `text` as a plain UTF-8 answer."""
    return Answer(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())


def _metrics(registry: CollectorRegistry, request: Request) -> Answer:
    names = parse_qs(request.query).get("name[]")
    source = registry.restricted_registry(names) if names else registry
    openmetrics = _wants_openmetrics(request.accept)
    body = render(source, openmetrics=openmetrics)
    headers = [
        ("Content-Type", OPENMETRICS_TYPE if openmetrics else TEXT_TYPE),
        ("Vary", "Accept, Accept-Encoding"),
    ]
    if len(body) > _GZIP_FROM_BYTES and _accepts_gzip(request.accept_encoding):
        headers.append(("Content-Encoding", "gzip"))
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    return Answer(HTTPStatus.OK, headers, body)


def _wants_openmetrics(accept: str) -> bool:
    """Tell which of the two formats `prometheus_client` would choose.

    Only the format is taken from it: its content type repeats the version and the
    escaping that the client asked for.
    """
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # it compares a version such as "abc" with numbers
        return False
    return content_type.startswith("application/openmetrics-text")


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        if coding == "gzip":
            return not any(map(_REFUSED.fullmatch, parameters))
    return False


async def _serve_http(view: View, scope: Message, send: Send) -> None:
    request = Request(
        method=scope["method"],
        query=scope["query_string"].decode("latin-1"),
        accept=_header(scope, b"accept"),
        accept_encoding=_header(scope, b"accept-encoding"),
    )
    status, headers, body = await _off_the_loop(partial(respond, view, request))
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def _serve_lifespan(receive: Receive, send: Send) -> None:
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


def _header(scope: Message, name: bytes) -> str:
    return b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1")


async def _off_the_loop(work: Callable[[], Answer]) -> Answer:
    from asyncio import get_running_loop, to_thread  # noqa: PLC0415  a WSGI user never pays it

    try:
        get_running_loop()
    except RuntimeError:  # another event loop, such as trio's
        return work()
    return await to_thread(work)
