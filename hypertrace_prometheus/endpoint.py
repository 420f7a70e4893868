"""Metrics endpoint: the metrics of a registry as a view, a WSGI application or an ASGI one."""

from __future__ import annotations

import gzip
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from .exposition.render import expose
from .exposition.single_flight import SingleFlight
from .http.views import Response, read_only, text_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from prometheus_client import CollectorRegistry

    from .http.asgi import ASGIApp
    from .http.views import Request, View

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_LONGEST_QUERY = 65_536
"""Characters; no scrape needs more."""
_LONGEST_HEADER = 4_096
"""Characters of a header that are read."""
_GZIP_FROM_BYTES = 1024
"""Up to this size a body fits into one packet, compressed or not."""
_GZIP_LEVEL = 5
"""Takes half the time of level 9 for 15 % more bytes, on a page of 10 000 series."""
_GZIP_MAGIC = b"\x1f\x8b"
_RECENT = re.compile(r"[1-9][0-9]*(\.[0-9]+)*")
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")

_flights: WeakKeyDictionary[CollectorRegistry, SingleFlight[_Page, bytes]] = WeakKeyDictionary()
"""Of each registry, for all endpoints that show it."""

_compressions = SingleFlight[bytes, bytes]()
"""Of pages of some names, one at a time: many such requests keep one core busy, not all."""


def make_wsgi_app(registry: CollectorRegistry) -> WSGIApplication:
    """Return a WSGI application that shows the metrics of a registry at every path.

    Safe to call from many threads at once; it starts none. What a collector does not give, because
    it raises, is left out, counted and logged; one that hangs blocks the thread that called it, and
    other requests for some seconds at most. When the exporter itself fails, the client gets status
    500 with one line of text, and the traceback is logged (logger `hypertrace_prometheus`).
    """
    from .http.wsgi import wsgi_app  # noqa: PLC0415 -- loaded only when it is used

    return wsgi_app(metrics_view(registry))


def make_asgi_app(registry: CollectorRegistry) -> ASGIApp:
    """Return an ASGI application that shows the metrics of a registry at every path.

    Under asyncio the page is made in a worker thread, so that it does not block the event loop;
    under other event loops it is made in place. A lifespan is acknowledged, a websocket is closed.
    Failing collectors: as in `make_wsgi_app`.
    """
    from .http.asgi import asgi_app  # noqa: PLC0415 -- loads asyncio

    return asgi_app(metrics_view(registry))


def metrics_view(registry: CollectorRegistry, *, bounded: bool = False) -> View:
    """Return the view of a registry: negotiated, restricted by `name[]`, compressed.

    All views of a registry collect one at a time, for one of the two formats. Requests that arrive
    meanwhile share the result, whatever names they ask for, if the collection began less than a
    second ago; so do requests that arrived before it began. Any other request starts a collection.

    Args:
        registry: what to collect from.
        bounded: run the collectors of the application in separate threads, and go on without those
            that have not returned within 4 seconds.
    """
    flight = _flight_of(registry)

    def view(request: Request) -> Response:
        if len(request.query) > _LONGEST_QUERY:
            return text_response(HTTPStatus(414), "The query is too long.\n")
        openmetrics = _wants_openmetrics(_header(request, "accept"))
        names = frozenset(parse_qs(request.query).get("name[]", ()))
        compress = _accepts_gzip(_header(request, "accept-encoding"))
        start = partial(_start, registry, openmetrics=openmetrics, bounded=bounded)
        # The format alone is the key: a client can make up any number of names.
        body = flight.get(
            openmetrics, _Page(names, compress and not names), start, asked=request.asked
        )
        if compress and names:
            body = _compressions.get("gzip", body, lambda: _compressed)
        return _response(body, openmetrics=openmetrics)

    return read_only(view)


class _Page(NamedTuple):
    """What a request wants of a collection."""

    names: frozenset[str]
    compressed: bool


def _start(
    registry: CollectorRegistry, *, openmetrics: bool, bounded: bool
) -> Callable[[_Page], bytes]:
    """Collect, and return the function that makes the pages."""
    exposition = expose(registry, openmetrics=openmetrics, bounded=bounded)

    def make(page: _Page) -> bytes:
        text = exposition.text(page.names)
        return _compressed(text) if page.compressed else text

    return make


def _compressed(text: bytes) -> bytes:
    """Return a text compressed, or unchanged if it is short."""
    return gzip.compress(text, _GZIP_LEVEL, mtime=0) if len(text) > _GZIP_FROM_BYTES else text


def _response(body: bytes, *, openmetrics: bool) -> Response:
    headers = [
        ("Content-Type", OPENMETRICS_TYPE if openmetrics else TEXT_TYPE),
        ("Vary", "Accept, Accept-Encoding"),
    ]
    if body.startswith(_GZIP_MAGIC):  # no text begins with it
        headers.append(("Content-Encoding", "gzip"))
    return Response(HTTPStatus.OK, headers, body)


def _flight_of(registry: CollectorRegistry) -> SingleFlight[_Page, bytes]:
    try:
        return _flights.setdefault(registry, SingleFlight())
    except TypeError:  # a registry of another kind that cannot be a weak key
        return SingleFlight()


def _header(request: Request, name: str) -> str:
    return request.headers.get(name, "")[:_LONGEST_HEADER]


def _wants_openmetrics(accept: str) -> bool:
    """Whether a client that accepts OpenMetrics 1.0 or later names it before other text."""
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
