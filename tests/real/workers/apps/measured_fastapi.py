"""FastAPI application whose requests and messages are measured, and counted by itself."""

# mypy: disallow-untyped-decorators=False
# FastAPI reads the annotations of handlers, so they are no texts here.

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from measured import OwnError, count, endless, exporter

app = FastAPI()
router = APIRouter(prefix="/items")


@app.get("/ready")
async def ready() -> str:
    """Answer when the site is up."""
    count("GET", "/ready", 200, "")
    return "ready"


@router.get("/{id:int}")
@router.head("/{id:int}")
def item(id: int, request: Request, tasks: BackgroundTasks) -> int:
    """Answer from a thread, and count after the answer."""
    tasks.add_task(count, request.method, "/shop/items/{id:int}", 200, "")
    return id


app.include_router(router, prefix="/shop")


@app.get("/boom")
async def boom() -> None:
    """Raise."""
    count("GET", "/boom", 500, "OwnError")
    raise OwnError


@app.get("/big")
async def big() -> StreamingResponse:
    """Answer with more than a client reads."""

    async def parts() -> AsyncIterator[bytes]:
        for part in endless("GET", "/big", 200):
            yield part
            await asyncio.sleep(0)  # another task receives that the client is gone

    return StreamingResponse(parts())


@app.exception_handler(404)
async def missing(request: Request, _: Exception) -> JSONResponse:
    """Answer what no route fits."""
    count(request.method, "<unmatched>", 404, "")
    return JSONResponse({}, status_code=404)


@app.websocket("/live/{room}")
async def live(websocket: WebSocket) -> None:
    """Answer each message with itself, but for some."""
    count("GET", "/live/{room}", 101, "")
    await websocket.accept()
    async for text in websocket.iter_text():
        count("message", "/live/{room}", text, "OwnError" if text == "boom" else "")
        if text == "boom":
            raise OwnError
        if text != "silent":
            await websocket.send_text(text)


app.mount("/metrics", exporter.asgi_app)
