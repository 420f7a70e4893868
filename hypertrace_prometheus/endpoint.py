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
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from .exposition.render import expose
from .exposition.single_flight import Snapshots

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

ASKED = "hypertrace.asked"
"""Where a WSGI server may say, by `time.monotonic()`, when a request was there: one that
had to wait for a thread may be answered with what was collected meanwhile."""

# No scrape needs more of a query in characters, or of a header.
_LONGEST_QUERY = 65_536
_LONGEST_HEADER = 4_096
# Up to this a body travels in one packet either way.
_GZIP_FROM_BYTES = 1024
# Half the time of level 9 for 15 % more bytes, on a page of 10 000 series.
_GZIP_LEVEL = 5
_GZIP_MAGIC = b"\x1f\x8b"
_RECENT = re.compile(r"[1-9][0-9]*(\.[0-9]+)*")
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")

_logger = logging.getLogger("hypertrace_prometheus")

_snapshots: WeakKeyDictionary[CollectorRegistry, Snapshots[_Page, bytes]] = WeakKeyDictionary()
"""Of each registry, for all the endpoints it is served at."""

_compressions = Snapshots[bytes, bytes]()
"""Of pages of some names, one at a time: a client that asks for many has one core, not all."""


class Request(NamedTuple):
    """What a view may look at; a header that was not sent is the empty string.

    `asked` is when the request was there, by `time.monotonic()`; infinity if that is not
    known.
    """

    method: str
    query: str
    accept: str
    accept_encoding: str
    asked: float = inf


class Answer(NamedTuple):
    """What goes back: the headers that are the view's own, and the whole body."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


View: TypeAlias = Callable[[Request], Answer]


def make_wsgi_app(registry: CollectorRegistry) -> WSGIApplication:
    """Return a WSGI application that answers every path with the metrics of `registry`.

    Safe to call from many threads at once; it starts none. What a collector does not give,
    because it raises, is left out, counted and logged; one that hangs holds up the thread
    that called it, and others for some seconds at the most. When the exporter itself fails,
    the client gets status 500 with one line of text, and the traceback goes to the logger
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


def metrics_view(registry: CollectorRegistry, *, bounded: bool = False) -> View:
    """Return the view of `registry`: negotiated, restricted by `name[]`, compressed.

    All views of a registry collect one at a time, for one of the two formats. Requests that
    come meanwhile share what is collected, whatever names they ask for, if it was begun less
    than a second ago; so do requests that were there before it was begun. Any other request
    starts a collection.

    Args:
        registry: what to collect from.
        bounded: let the collectors of the application run in threads of their own, and
            go on without those that are not back within 4 seconds.
    """
    snapshots = _snapshots_of(registry)

    def view(request: Request) -> Answer:
        if len(request.query) > _LONGEST_QUERY:
            return text_answer(HTTPStatus(414), "The query is too long.\n")
        openmetrics = _wants_openmetrics(request.accept[:_LONGEST_HEADER])
        names = frozenset(parse_qs(request.query).get("name[]", ()))
        compress = _accepts_gzip(request.accept_encoding[:_LONGEST_HEADER])
        start = partial(_start, registry, openmetrics=openmetrics, bounded=bounded)
        # The format alone is the key: of names a client can make up any number.
        body = snapshots.get(
            openmetrics, _Page(names, compress and not names), start, asked=request.asked
        )
        if compress and names:
            body = _compressions.get("gzip", body, lambda: _compressed)
        return _answer(body, openmetrics=openmetrics)

    return read_only(view)


def wsgi_app(view: View) -> WSGIApplication:
    """Return `view` as a WSGI application."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(
            method=environ.get("REQUEST_METHOD") or "",
            query=environ.get("QUERY_STRING") or "",
            accept=environ.get("HTTP_ACCEPT") or "",
            accept_encoding=environ.get("HTTP_ACCEPT_ENCODING") or "",
            asked=environ.get(ASKED, inf),
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


class _Page(NamedTuple):
    """What a request wants of a collection."""

    names: frozenset[str]
    compressed: bool


def _start(
    registry: CollectorRegistry, *, openmetrics: bool, bounded: bool
) -> Callable[[_Page], bytes]:
    """Collect, and return what makes a page of it."""
    exposition = expose(registry, openmetrics=openmetrics, bounded=bounded)

    def make(page: _Page) -> bytes:
        text = exposition.text(page.names)
        return _compressed(text) if page.compressed else text

    return make


def _compressed(text: bytes) -> bytes:
    """Return a text as gzip makes it, or as it is if it is short."""
    return gzip.compress(text, _GZIP_LEVEL, mtime=0) if len(text) > _GZIP_FROM_BYTES else text


def _answer(body: bytes, *, openmetrics: bool) -> Answer:
    headers = [
        ("Content-Type", OPENMETRICS_TYPE if openmetrics else TEXT_TYPE),
        ("Vary", "Accept, Accept-Encoding"),
    ]
    if body.startswith(_GZIP_MAGIC):  # no text does
        headers.append(("Content-Encoding", "gzip"))
    return Answer(HTTPStatus.OK, headers, body)


def _snapshots_of(registry: CollectorRegistry) -> Snapshots[_Page, bytes]:
    try:
        return _snapshots.setdefault(registry, Snapshots())
    except TypeError:  # a registry of another kind that cannot be a weak key
        return Snapshots()


def _wants_openmetrics(accept: str) -> bool:
    """Tell whether a client that accepts OpenMetrics 1.0 or later names it before other text."""
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        versions = [piece[8:] for piece in parameters if piece.startswith("version=")]
        is_recent = any(map(_RECENT.fullmatch, versions))
        if kind == "application/openmetrics-text" and (is_recent or not versions):
            return True
        if kind == "text/plain" and is_recent:
            return False
    return False


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        if coding == "gzip":
            return not any(map(_REFUSED.fullmatch, parameters))
    return False


async def _serve_http(view: View, scope: Message, send: Send) -> None:
    request = Request(
        method=scope["method"],
        query=(scope.get("query_string") or b"").decode("latin-1"),
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
    values = (value for key, value in scope.get("headers", ()) if key == name)
    return b",".join(values).decode("latin-1")


async def _off_the_loop(work: Callable[[], Answer]) -> Answer:
    from asyncio import get_running_loop, to_thread  # noqa: PLC0415  a WSGI user never pays it

    try:
        get_running_loop()
    except RuntimeError:  # another event loop, such as trio's
        return work()
    return await to_thread(work)
