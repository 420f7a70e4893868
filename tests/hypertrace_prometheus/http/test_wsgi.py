"""WSGI adapter: what a view gets of an environ, and what a server gets of a response."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from hypertrace_prometheus.http.views import Request, Response
from hypertrace_prometheus.http.wsgi import wsgi_app


class Recorder:
    """A view that keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(HTTPStatus.IM_A_TEAPOT, [("Content-Type", "text/plain")], b"tea")


def test_a_view_gets_the_request() -> None:
    """Method, path, query, headers and client are those of the environ."""
    view = Recorder()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/x y",
        "QUERY_STRING": "a=%20",
        "REMOTE_ADDR": "192.0.2.7",
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT_ENCODING": "gzip",
        "wsgi.version": (1, 0),
    }
    wsgi_app(view)(environ, lambda *_: print)
    headers = {"host": "localhost", "accept-encoding": "gzip"}
    assert view.requests == [Request("GET", "/x y", "a=%20", headers, "192.0.2.7")]


def test_a_server_gets_the_response() -> None:
    """Status, headers and body are those of the response, in the form that the standard wants."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        started.append((status, dict(headers)))

    result = validator(wsgi_app(Recorder()))(environ, start_response)
    assert b"".join(result) == b"tea"
    result.close()  # type: ignore[attr-defined]
    [(status, headers)] = started
    assert status == "418 I'm a Teapot"
    assert (headers["Content-Type"], headers["Content-Length"]) == ("text/plain", "3")


@pytest.mark.parametrize("value", [None, ""])
def test_a_server_may_leave_out_what_is_empty(value: Any) -> None:
    """What a server leaves out of the environ, or gives as None, counts as empty."""
    view = Recorder()
    names = ("REQUEST_METHOD", "QUERY_STRING", "HTTP_ACCEPT", "PATH_INFO", "REMOTE_ADDR")
    for environ in ({}, dict.fromkeys(names, value)):
        assert wsgi_app(view)(environ, lambda *_: print)
    assert view.requests == [Request("", ""), Request("", "", headers={"accept": ""})]
