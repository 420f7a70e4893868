"""WSGI adapter: a view as a WSGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .views import Request, respond

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from .views import View

_PREFIX = "HTTP_"


def wsgi_app(view: View) -> WSGIApplication:
    """Return a view as a WSGI application."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = respond(view, _request(environ))
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    return app


def _request(environ: WSGIEnvironment) -> Request:
    # A server may leave out what is empty, or give None.
    headers = {
        key.removeprefix(_PREFIX).replace("_", "-").lower(): value or ""
        for key, value in environ.items()
        if key.startswith(_PREFIX)
    }
    return Request(
        method=environ.get("REQUEST_METHOD") or "",
        path=environ.get("PATH_INFO") or "",
        query=environ.get("QUERY_STRING") or "",
        headers=headers,
        client=environ.get("REMOTE_ADDR") or "",
    )
