"""WSGI application with the metrics at /metrics."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, cast

from counted import exporter, work

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer; a header has the pid of the worker."""
    worker = ("X-Worker", str(os.getpid()))

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        return start_response(status, [*headers, worker], *error)

    path = environ["PATH_INFO"]
    if path == "/metrics":
        return exporter.wsgi_app(environ, cast("StartResponse", start))
    if path == "/work":
        work.do()
        time.sleep(0.005)  # so that other workers answer, too
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"url": exporter.url}).encode()]
