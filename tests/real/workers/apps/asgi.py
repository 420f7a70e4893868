"""ASGI application with the metrics at /metrics."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from counted import exporter, work


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer; a header has the pid of the worker."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def send_with_worker(message: Any) -> None:
        if message["type"] == "http.response.start":
            worker = (b"x-worker", str(os.getpid()).encode())
            message = {**message, "headers": [*message["headers"], worker]}
        await send(message)

    if scope["path"] == "/metrics":
        await exporter.asgi_app(scope, receive, send_with_worker)
        return
    if scope["path"] == "/work":
        work.do()
        time.sleep(0.005)  # noqa: ASYNC251 -- so that other workers answer, too
    headers = [(b"content-type", b"application/json")]
    await send_with_worker({"type": "http.response.start", "status": 200, "headers": headers})
    body = json.dumps({"url": exporter.url}).encode()
    await send_with_worker({"type": "http.response.body", "body": body})
