"""Applications of Starlette and FastAPI, with routes of every kind."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False
# FastAPI reads the annotations of handlers, so they are no texts here.

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles


class HandledError(Exception):
    """What a handler of exceptions answers."""


async def hello(request: Request) -> Response:
    """Answer."""
    return PlainTextResponse("hello")


def in_thread(request: Request) -> Response:
    """Answer from a thread."""
    return PlainTextResponse("hello")


class Endpoint(HTTPEndpoint):
    """Answer by method."""

    async def get(self, request: Request) -> Response:
        """Answer."""
        return PlainTextResponse("hello")


async def raises(request: Request) -> Response:
    """Raise."""
    raise ZeroDivisionError


async def handled(request: Request) -> Response:
    """Raise what a handler answers."""
    raise HandledError


async def streams(request: Request) -> Response:
    """Answer in parts."""

    async def parts() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"data: {number}\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def streams_and_raises(request: Request) -> Response:
    """Raise between parts."""

    async def parts() -> AsyncIterator[str]:
        yield "part"
        raise ZeroDivisionError

    return StreamingResponse(parts())


async def endless(request: Request) -> Response:
    """Answer until the client is gone."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"data" * 1_000
            await asyncio.sleep(0.001)

    return StreamingResponse(parts())


def with_background(work: Any) -> Any:
    """Return an endpoint that does something after its answer."""

    async def endpoint(request: Request) -> Response:
        return JSONResponse({}, background=BackgroundTask(work))

    return endpoint


async def answers_handled(request: Request, error: Exception) -> Response:
    """Answer an exception."""
    return PlainTextResponse("handled", status_code=409)


async def answers_all(request: Request, error: Exception) -> Response:
    """Answer every other exception."""
    return PlainTextResponse("sorry", status_code=500)


def add_middleware(app: Starlette) -> None:
    """Add a middleware of the kind that runs the application in another task."""
    app.add_middleware(BaseHTTPMiddleware, dispatch=_before)


async def _before(request: Request, call_next: Any) -> Response:
    """Do nothing before and after a request, but for one."""
    if request.headers.get("x-raise"):
        raise ZeroDivisionError
    if request.headers.get("x-refuse"):
        return PlainTextResponse("no", status_code=401)
    response: Response = await call_next(request)
    return response


class Echo(WebSocketEndpoint):
    """Answer each message with itself."""

    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: str) -> None:
        """Answer."""
        await websocket.send_text(data)


def starlette_app(folder: Path, **options: Any) -> Starlette:
    """Return an application with mounts, hosts, routers and files."""
    nested = Router(
        routes=[
            Route("/leaf/{name}", hello),
            Mount("/deeper/{key:int}", routes=[Route("/leaf", hello), Route("/", hello)]),
        ]
    )
    inner = Starlette(routes=[Route("/page/{id:int}", hello), Route("/raises", raises)])
    return Starlette(
        routes=[
            Route("/", hello),
            Route("/items/{id:int}", hello),
            Route("/names/{name}", in_thread),
            Route("/files/{path:path}", hello),
            Route("/class/{key:uuid}", Endpoint),
            Route("/post", hello, methods=["POST"]),
            Route("/slash/", hello),
            Route("/raises", raises),
            Route("/handled", handled),
            Route("/streams", streams),
            Route("/streams-and-raises", streams_and_raises),
            Route("/file", lambda request: FileResponse(folder / "page.txt")),
            WebSocketRoute("/echo/{room}", Echo),
            Mount("/nested/{area}", app=nested),
            Mount("/inner", app=inner),
            Mount("/wrapped", app=GZipMiddleware(inner)),
            Mount("/static", app=StaticFiles(directory=folder)),
            Host("{shop}.example.org", app=Router(routes=[Route("/basket/{id:int}", hello)])),
            Mount(
                "/grouped", routes=[Route("/{id}", hello)], middleware=[Middleware(GZipMiddleware)]
            ),
        ],
        exception_handlers={HandledError: answers_handled},
        **options,
    )


def fastapi_app() -> FastAPI:
    """Return an application with routers that are included, also twice, and mounts."""
    leaf = APIRouter(prefix="/leaf")

    @leaf.get("/{id:int}")
    async def read_leaf(id: int) -> int:
        return id

    @leaf.websocket("/live")
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        async for data in websocket.iter_text():
            await websocket.send_text(data)

    branch = APIRouter(prefix="/branch/{name}")
    branch.include_router(leaf)

    @branch.get("")
    def read_branch(name: str) -> str:
        return name

    async def refuses() -> None:
        raise HTTPException(403)

    app = FastAPI()
    app.include_router(branch, prefix="/api")
    app.include_router(leaf, prefix="/again")

    @app.get("/items/{id}")
    async def read_item(id: int) -> dict[str, int]:
        return {"id": id}

    @app.get("/refused", dependencies=[Depends(refuses)])
    async def refused() -> None:
        raise NotImplementedError

    @app.get("/raises")
    def raises_in_thread() -> None:
        raise ZeroDivisionError

    inner = FastAPI()
    inner.include_router(branch)
    app.mount("/mounted/{tenant}", inner)
    return app
