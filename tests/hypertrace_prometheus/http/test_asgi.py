"""ASGI adapter: what a view gets of a scope, and what a server gets of a response."""

from __future__ import annotations

import asyncio
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace_prometheus.http.asgi import asgi_app
from hypertrace_prometheus.http.views import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace_prometheus.http.asgi import ASGIApp, Message

HTTP = {"type": "http", "method": "GET"}


class Recorder:
    """A view that keeps the requests, and calls a function for each."""

    def __init__(self, function: Callable[[], object] = lambda: None) -> None:
        self.requests: list[Request] = []
        self._function = function

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        self._function()
        return Response(HTTPStatus.IM_A_TEAPOT, [("Content-Type", "text/plain")], b"tea")


def drive(app: ASGIApp, scope: Message, *events: Message) -> list[Message]:
    """Run the application under asyncio and return what it sent."""
    sent: list[Message] = []
    waiting = list(events)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        await app(scope, receive, send)

    asyncio.run(main())
    assert not waiting, "the application left events unread"
    return sent


def test_a_view_gets_the_request() -> None:
    """Method, path, query, headers and client are those of the scope."""
    view = Recorder()
    scope = {
        **HTTP,
        "path": "/x y",
        "query_string": b"a=%20",
        "headers": [(b"Host", b"localhost"), (b"accept", b"a"), (b"accept", b"\xe9")],
        "client": ("192.0.2.7", 1234),
    }
    drive(asgi_app(view), scope)
    headers = {"host": "localhost", "accept": "a,\xe9"}
    assert view.requests == [Request("GET", "/x y", "a=%20", headers, "192.0.2.7")]


def test_a_server_gets_the_response() -> None:
    """Status, headers and body are those of the response, the names in lower case."""
    start, body = drive(asgi_app(Recorder()), HTTP)
    assert (start["type"], start["status"]) == ("http.response.start", 418)
    assert (b"content-type", b"text/plain") in start["headers"]
    assert (b"content-length", b"3") in start["headers"]
    assert body == {"type": "http.response.body", "body": b"tea"}


@pytest.mark.parametrize("empty", [{}, {"query_string": None, "headers": None, "client": None}])
def test_a_server_may_leave_out_what_is_empty(empty: Message) -> None:
    """What a server leaves out of the scope, or gives as None, counts as empty."""
    view = Recorder()
    drive(asgi_app(view), {**HTTP, **empty})
    assert view.requests == [Request("GET", "")]


def test_a_request_does_not_hold_up_the_event_loop() -> None:
    """While the view runs, other coroutines of the loop run."""
    proceed = threading.Event()
    seen: list[bool] = []

    async def main() -> None:
        loop, running = asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(running.set)
            seen.append(proceed.wait(10))

        async def let_it_proceed() -> None:
            await running.wait()
            proceed.set()

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            pass

        await asyncio.gather(asgi_app(Recorder(wait))(HTTP, receive, send), let_it_proceed())

    asyncio.run(main())
    assert seen == [True]


def test_outside_asyncio_the_view_runs_in_place() -> None:
    """Under an event loop that is not asyncio's, nothing of asyncio is used."""
    threads: list[threading.Thread] = []
    view = Recorder(lambda: threads.append(threading.current_thread()))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    steps = asgi_app(view)(HTTP, receive, send).__await__()
    with pytest.raises(StopIteration):
        next(steps)
    assert sent[0]["status"] == 418
    assert threads == [threading.current_thread()]


def test_a_lifespan_is_acknowledged() -> None:
    """The application says that it has started and that it has stopped."""
    sent = drive(
        asgi_app(Recorder()),
        {"type": "lifespan"},
        {"type": "lifespan.startup"},
        {"type": "lifespan.shutdown"},
    )
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_websocket_is_refused() -> None:
    """A websocket is closed before it is accepted."""
    [sent] = drive(asgi_app(Recorder()), {"type": "websocket"}, {"type": "websocket.connect"})
    assert sent["type"] == "websocket.close"


def test_an_unknown_scope_is_an_error() -> None:
    """A protocol that the application does not know is an error for the server to see."""
    with pytest.raises(ValueError, match="gopher"):
        drive(asgi_app(Recorder()), {"type": "gopher"})


def test_a_scope_of_odd_bytes_is_a_request() -> None:
    """Bytes that are no text reach the view as Latin-1."""
    view = Recorder()
    scope: dict[str, Any] = {**HTTP, "query_string": b"\xff\0%", "headers": []}
    drive(asgi_app(view), scope)
    assert view.requests[0].query == "\xff\0%"
