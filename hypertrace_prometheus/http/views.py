"""Views: functions from a request to a response, independent of sockets, WSGI and ASGI."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_logger = logging.getLogger("hypertrace_prometheus")


class Request(NamedTuple):
    """The parts of a request that a view may use.

    Attributes:
        method: as it was sent, such as `GET`.
        path: with its escapes decoded, without the query.
        query: as it was sent, without the question mark.
        headers: by lower-case name; a header that was sent several times has its values joined by
            commas.
        client: what the client is identified by, empty if that is not known.
        asked: when the request arrived, by `time.monotonic()`; infinity if that is not known.
    """

    method: str
    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = _NO_HEADERS
    client: str = ""
    asked: float = inf


class Response(NamedTuple):
    """The status, the headers and the whole body."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


View: TypeAlias = Callable[[Request], Response]
Guard: TypeAlias = Callable[[Request], Response | None]
"""Returns the response to a request that is refused, None for one that is accepted."""


def respond(view: View, request: Request) -> Response:
    """Return the response of a view as it is to be sent.

    When the view raises, the client gets status 500 with one line of text, and the traceback is
    logged (logger `hypertrace_prometheus`).
    """
    try:
        response = view(request)
    except Exception:
        _logger.exception("The page could not be made; the client got status 500")
        response = text_response(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "The page could not be made. The log of the application says why.\n",
        )
    return complete(response, request.method)


def complete(response: Response, method: str) -> Response:
    """Return a response with the headers that every response has, and without body for HEAD."""
    headers = [
        *response.headers,
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Response(response.status, headers, b"" if method == "HEAD" else response.body)


def text_response(status: HTTPStatus, text: str) -> Response:
    """Return a response of plain text in UTF-8."""
    return Response(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())


def read_only(view: View) -> View:
    """Return a view for GET and HEAD that responds to any other method with status 405."""

    def checked(request: Request) -> Response:
        if request.method in {"GET", "HEAD"}:
            return view(request)
        response = text_response(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD work here.\n")
        response.headers.append(("Allow", "GET, HEAD"))
        return response

    return checked


def routed(routes: Mapping[str, View]) -> View:
    """Return a view that passes a request to the one of its exact path.

    Args:
        routes: the views by path. Any other path gets status 404, with these paths in the text.
    """
    missing = text_response(HTTPStatus.NOT_FOUND, f"Not here. Try: {' '.join(routes)}\n")

    def view(request: Request) -> Response:
        found = routes.get(request.path)
        return missing if found is None else found(request)

    return view


def guarded(view: View, guards: Iterable[Guard]) -> View:
    """Return a view for the requests that every guard accepts; the guards are asked in order."""
    guards = tuple(guards)

    def checked(request: Request) -> Response:
        for guard in guards:
            refused = guard(request)
            if refused is not None:
                return refused
        return view(request)

    return checked
