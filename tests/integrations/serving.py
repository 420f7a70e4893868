"""Servers for tests: what they do with an application, without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def environ_of(method: str = "GET", path: str = "/", **more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": ""}
    environ["QUERY_STRING"] = ""
    setup_testing_defaults(environ)
    return {**environ, "wsgi.file_wrapper": FileWrapper, **more}


class Server:
    """A server of WSGI, for one request: it sends headers with the first byte."""

    def __init__(self) -> None:
        self.status = ""
        self.body = b""
        self.starts = 0

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info is not None and self.body:
            raise exc_info[1]
        self.starts += 1
        self.status = status
        return self.write

    def write(self, data: bytes) -> None:
        self.body += data

    def run(self, application: Application, environ: dict[str, Any] | None = None) -> Server:
        body = application(environ or environ_of(), self.start_response)
        try:
            for part in body:
                self.write(part)
        finally:
            if hasattr(body, "close"):
                body.close()
        return self
