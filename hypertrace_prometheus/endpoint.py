"""Metrics endpoint: the metrics of a registry as a view, a WSGI application or an ASGI one."""

from __future__ import annotations

import gzip
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from .exposition.render import Format, expose
from .exposition.single_flight import SingleFlight
from .http.views import Response, read_only, text_response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from wsgiref.types import WSGIApplication

    from prometheus_client import CollectorRegistry

    from .http.asgi import ASGIApp
    from .http.views import Request, View

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF_TYPE = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

_LONGEST_QUERY = 65_536
"""Characters; no scrape needs more."""
_LONGEST_HEADER = 4_096
"""Characters of a header that are read."""
_GZIP_FROM_BYTES = 1024
"""Up to this size a body fits into one packet, compressed or not."""
_GZIP_LEVEL = 5
"""Takes half the time of level 9 for 15 % more bytes, on a page of 10 000 series."""
_GZIP_MAGIC = b"\x1f\x8b"
_CONTENT_TYPES = {
    Format.TEXT: TEXT_TYPE,
    Format.OPENMETRICS: OPENMETRICS_TYPE,
    Format.PROTOBUF: PROTOBUF_TYPE,
}
_MESSAGES = {"proto=io.prometheus.client.MetricFamily", "encoding=delimited"}
"""Parameters of the only messages there are here."""
_RECENT = re.compile(r"[1-9][0-9]*(\.[0-9]+)*")
_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)")
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

    All views of a registry collect one at a time, for one of the three formats. Requests that
    arrive meanwhile share the result, whatever names they ask for, if the collection began less
    than a second ago; so do requests that arrived before it began. Any other request starts a
    collection.

    Args:
        registry: what to collect from.
        bounded: run the collectors of the application in separate threads, and go on without those
            that have not returned within 4 seconds.
    """
    flight = _flight_of(registry)

    def view(request: Request) -> Response:
        if len(request.query) > _LONGEST_QUERY:
            return text_response(HTTPStatus(414), "The query is too long.\n")
        format_ = _wanted(_header(request, "accept"))
        names = frozenset(parse_qs(request.query).get("name[]", ()))
        compress = _accepts_gzip(_header(request, "accept-encoding"))
        start = partial(_start, registry, format_, bounded=bounded)
        # The format alone is the key: a client can make up any number of names.
        body = flight.get(format_, _Page(names, compress and not names), start, asked=request.asked)
        if compress and names:
            body = _compressions.get("gzip", body, lambda: _compressed)
        return _response(body, format_)

    return read_only(view)


class _Page(NamedTuple):
    """What a request wants of a collection."""

    names: frozenset[str]
    compressed: bool


def _start(
    registry: CollectorRegistry, format_: Format, *, bounded: bool
) -> Callable[[_Page], bytes]:
    """Collect, and return the function that makes the pages."""
    exposition = expose(registry, format_, bounded=bounded)

    def make(page: _Page) -> bytes:
        body = exposition.page(page.names)
        return _compressed(body) if page.compressed else body

    return make


def _compressed(body: bytes) -> bytes:
    """Return a page compressed, or unchanged if it is short."""
    return gzip.compress(body, _GZIP_LEVEL, mtime=0) if len(body) > _GZIP_FROM_BYTES else body


def _response(body: bytes, format_: Format) -> Response:
    headers = [
        ("Content-Type", _CONTENT_TYPES[format_]),
        ("Vary", "Accept, Accept-Encoding"),
    ]
    # No text begins with it, and no message: after its length, its name has another tag.
    if body.startswith(_GZIP_MAGIC):
        headers.append(("Content-Encoding", "gzip"))
    return Response(HTTPStatus.OK, headers, body)


def _flight_of(registry: CollectorRegistry) -> SingleFlight[_Page, bytes]:
    try:
        return _flights.setdefault(registry, SingleFlight())
    except TypeError:  # a registry of another kind that cannot be a weak key
        return SingleFlight()


def _header(request: Request, name: str) -> str:
    return request.headers.get(name, "")[:_LONGEST_HEADER]


def _wanted(accept: str) -> Format:
    """Return the format that a client prefers; text if it names none that there is.

    Of formats that it prefers equally, that is the one it names first.
    """
    wanted, most = Format.TEXT, 0.0
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        format_, weight = _format_of(kind, parameters), _weight_of(parameters)
        if format_ is not None and weight > most:
            wanted, most = format_, weight
    return wanted


def _format_of(kind: str, parameters: Sequence[str]) -> Format | None:
    if kind == "application/vnd.google.protobuf":
        return Format.PROTOBUF if _MESSAGES.issubset(parameters) else None
    if kind == "application/openmetrics-text":
        versions = [piece[8:] for piece in parameters if piece.startswith("version=")]
        is_recent = any(map(_RECENT.fullmatch, versions))
        return Format.OPENMETRICS if is_recent or not versions else None
    return Format.TEXT if kind == "text/plain" else None


def _weight_of(parameters: Sequence[str]) -> float:
    weights = filter(None, map(_WEIGHT.fullmatch, parameters))
    return float(next((match[1] for match in weights), 1))


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        if coding == "gzip":
            return not any(map(_REFUSED.fullmatch, parameters))
    return False
