"""Views: routes, guards, methods, and what every response gets."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from hypertrace_prometheus.http.views import (
    Request,
    Response,
    guarded,
    read_only,
    respond,
    routed,
    text_response,
)


def greet(request: Request) -> Response:
    return text_response(HTTPStatus.OK, f"hello {request.path}")


def refuse(_: Request) -> Response | None:
    return text_response(HTTPStatus.FORBIDDEN, "no")


def accept(_: Request) -> Response | None:
    return None


def fail(_: Request) -> Response:
    raise RuntimeError("secret of the application")


def test_a_request_has_nothing_that_was_not_given() -> None:
    """A request of a method alone asks for the root, without headers that could be changed."""
    request = Request("GET")
    assert (request.path, request.query, request.client) == ("/", "", "")
    assert dict(request.headers) == {}
    with pytest.raises(TypeError):
        request.headers["host"] = "x"  # type: ignore[index]


def test_a_response_gets_the_headers_that_every_response_has() -> None:
    """The length is added, and that a client may neither store the body nor guess its type."""
    response = respond(greet, Request("GET", "/x"))
    assert (response.status, response.body) == (200, b"hello /x")
    assert response.headers == [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", "8"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]


def test_a_response_to_head_has_no_body() -> None:
    """HEAD gets the headers of GET, the length among them, and no body."""
    get, head = (respond(greet, Request(method)) for method in ("GET", "HEAD"))
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_a_view_that_raises_costs_its_response(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets status 500 with one line, and the log gets the traceback."""
    response = respond(fail, Request("GET"))
    assert response.status == 500
    assert dict(response.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert response.body.count(b"\n") == 1
    assert b"secret" not in response.body
    (record,) = caplog.records
    assert record.name == "hypertrace_prometheus"
    assert "secret of the application" in caplog.text


def test_a_path_has_its_view() -> None:
    """A request goes to the view of exactly its path, whatever its method and query."""
    view = routed({"/a": greet, "/b": fail})
    assert view(Request("POST", "/a", "b")).body == b"hello /a"
    with pytest.raises(RuntimeError):
        view(Request("GET", "/b"))


@pytest.mark.parametrize("path", ["", "/", "/c", "/a/", "/A", "*"])
def test_any_other_path_is_not_found(path: str) -> None:
    """A path without a view gets status 404, which names the paths and does not repeat it."""
    for _ in range(2):  # the response is the same object, and is not changed
        response = respond(routed({"/a": greet, "/b": greet}), Request("GET", path))
        assert (response.status, response.body) == (404, b"Not here. Try: /a /b\n")
        assert len(response.headers) == 4


def test_guards_are_asked_before_the_view() -> None:
    """A request reaches the view when every guard accepts it; the first refusal is the response."""
    request = Request("GET", "/x")
    assert guarded(greet, [])(request).body == b"hello /x"
    assert guarded(greet, [accept, accept])(request).body == b"hello /x"
    assert guarded(fail, [accept, refuse, fail])(request).body == b"no"


@pytest.mark.parametrize("method", ["POST", "get", "", "OPTIONS"])
def test_a_view_may_be_for_reading_only(method: str) -> None:
    """GET and HEAD reach the view; any other method gets status 405, which names those two."""
    view = read_only(greet)
    assert view(Request("GET")).status == view(Request("HEAD")).status == 200
    response = view(Request(method))
    assert response.status == 405
    assert ("Allow", "GET, HEAD") in response.headers
