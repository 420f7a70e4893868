"""Applications of aiohttp.web, with resources of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hypertrace._operations import current_entry

if TYPE_CHECKING:
    from pathlib import Path


async def hello(request: web.Request) -> web.StreamResponse:
    """Answer with the name of the entry."""
    return web.Response(text=current_entry())


async def raises(request: web.Request) -> web.StreamResponse:
    """Raise."""
    raise ZeroDivisionError


async def late(request: web.Request) -> web.StreamResponse:
    """Raise as a time-out does."""
    raise TimeoutError


async def refuses(request: web.Request) -> web.StreamResponse:
    """Raise an answer."""
    raise web.HTTPForbidden


async def unavailable(request: web.Request) -> web.StreamResponse:
    """Raise an answer that is an error."""
    raise web.HTTPServiceUnavailable


async def returns_nothing(request: web.Request) -> web.StreamResponse:
    """Return no answer."""
    return None  # type: ignore[return-value]  # by mistake


async def streams(request: web.Request) -> web.StreamResponse:
    """Answer in parts."""
    response = web.StreamResponse(status=203)
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"part")
    return response


async def streams_and_raises(request: web.Request) -> web.StreamResponse:
    """Raise between parts."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"part")
    raise ZeroDivisionError


async def raises_after_end(request: web.Request) -> web.StreamResponse:
    """Raise after the last part."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write_eof(b"all")
    raise ZeroDivisionError


async def repeats(request: web.Request) -> web.StreamResponse:
    """Answer with what came in."""
    return web.Response(body=await request.read())


async def echo(request: web.Request) -> web.StreamResponse:
    """Do what each message says."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.data == "raise":
            raise ZeroDivisionError
        if message.data == "close":
            await socket.close()
        elif message.data == "json":
            await socket.send_json({})
        elif message.data == "pushes":
            await asyncio.create_task(socket.send_str("one"))
            await socket.send_bytes(b"two")
        elif message.data != "silent":
            await socket.send_str(current_entry())
    return socket


def endless(ended: asyncio.Event) -> Any:
    """Return a handler that answers until it cannot, and then sets an event."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"part" * 10_000)
                await asyncio.sleep(0)
        finally:
            ended.set()

    return handler


def application(folder: Path) -> web.Application:
    """Return an application below which there are two others."""
    leaf = web.Application()
    leaf.router.add_get("/leaf/{id}", hello)
    branch = web.Application()
    branch.add_subapp("/branch", leaf)
    app = web.Application()
    app.add_subapp("/api", branch)
    get = app.router.add_get
    get("/", hello)
    get(r"/items/{id:\d+}", hello)
    for handler in (raises, late, refuses, unavailable, returns_nothing):
        get(f"/{handler.__name__}", handler)
    for handler in (streams, streams_and_raises, raises_after_end):
        get(f"/{handler.__name__}", handler)
    get("/live/{room}", echo)
    app.router.add_route("*", "/echo", repeats)
    (folder / "page.txt").write_text("page")
    app.router.add_static("/static", folder)
    return app
