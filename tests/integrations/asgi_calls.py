"""Calls of ASGI applications as a server makes them, with messages that a test chooses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Application = Callable[..., Awaitable[object]]

DISCONNECT = {"type": "http.disconnect"}
REQUEST = {"type": "http.request", "body": b""}


async def call(
    application: Application,
    received: Iterable[dict[str, Any]] = (REQUEST,),
    *,
    receiving: Callable[[], object] = lambda: None,
    sending: Callable[[dict[str, Any]], object] = lambda _: None,
    **scope: Any,
) -> list[dict[str, Any]]:
    """Call an application for one request, and return what it sent.

    Args:
        application: of ASGI.
        received: what it receives, before it waits for ever.
        receiving: is called while it waits for a message.
        sending: is called with each message that it sends.
        scope: parts of the scope that differ from those of `GET /`.

    Returns:
        The messages that it sent, also if it raised `ZeroDivisionError`.
    """
    messages, sent = list(received), []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        receiving()
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sending(message)
        sent.append(message)

    with suppress(ZeroDivisionError):
        await application(scope_of(**scope), receive, send)
    return sent


def scope_of(**parts: Any) -> dict[str, Any]:
    """Return the scope of `GET /`, with other parts."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }
    scope.update(parts)
    if scope["type"] == "websocket":
        del scope["method"]
    return scope


def start(status: int = 200, **more: Any) -> dict[str, Any]:
    """Return the message that starts an answer."""
    return {"type": "http.response.start", "status": status, "headers": [], **more}


def body(part: bytes = b"", **more: Any) -> dict[str, Any]:
    """Return a part of the answer; the last one, unless it says `more_body`."""
    return {"type": "http.response.body", "body": part, **more}
