"""ASGI adapter: a view as an ASGI application."""

from __future__ import annotations

from asyncio import get_running_loop, to_thread
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from .views import Request, respond

if TYPE_CHECKING:
    from .views import Response, View

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


def asgi_app(view: View) -> ASGIApp:
    """Return a view as an ASGI application.

    Under asyncio the view runs in a worker thread, so that it does not block the event loop; under
    other event loops it runs in place. A lifespan is acknowledged, a websocket is closed.

    Raises:
        ValueError: the application is called with a scope of another type.
    """

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


async def _serve_http(view: View, scope: Message, send: Send) -> None:
    work = partial(respond, view, _request(scope))
    status, headers, body = await _run_off_the_loop(work)
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def _serve_lifespan(receive: Receive, send: Send) -> None:
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


def _request(scope: Message) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers") or ():
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope.get("path") or "",
        query=(scope.get("query_string") or b"").decode("latin-1"),
        headers=headers,
        client=str(client[0]) if client else "",
    )


async def _run_off_the_loop(work: Callable[[], Response]) -> Response:
    try:
        get_running_loop()
    except RuntimeError:  # another event loop, such as trio's
        return work()
    return await to_thread(work)
