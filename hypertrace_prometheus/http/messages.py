"""HTTP as bytes: the head of a request goes in, the whole answer comes out.

Nothing here touches a connection, so that no client can make it wait.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler

from ..endpoint import ASKED, text_answer, wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

HEAD_END = re.compile(rb"\n\r?\n")


class Responder:
    """Answers the head of a request with the whole answer of a WSGI application.

    Any thread may call it. What is no request gets a 4xx answer that repeats nothing of it.

    Args:
        app: what answers. It gets the request's head only: no body is read.
        address: host and port it is served at.
        ssl_context: that of the connections, None without TLS.
    """

    # With these names werkzeug's handler asks its server.
    multithread = True
    multiprocess = False

    def __init__(self, app: WSGIApplication, address: tuple[str, int], ssl_context: Any) -> None:
        self.app = app
        self.server_address = address
        self.ssl_context = ssl_context

    def __call__(self, head: bytes, client: str, asked: float) -> bytes:
        """Return the answer.

        Args:
            head: the head of the request, which may end before its time.
            client: whose it is.
            asked: when it was all there, as `time.monotonic()` has it.
        """
        handler = _Handler((head, asked), (client, 0), self)  # type: ignore[arg-type]
        return handler.wfile.getvalue()


class _Handler(WSGIRequestHandler):
    """One request and its answer, in memory; nothing on stderr."""

    # Written by werkzeug's servers, on the class they are given: never give them its own.
    protocol_version = "HTTP/1.1"
    wfile: BytesIO
    connection: Any = None

    @property
    def server_version(self) -> str:  # type: ignore[override]  # as werkzeug's
        return "hypertrace"

    def version_string(self) -> str:
        return self.server_version

    def setup(self) -> None:
        self._head, self._asked = self.request
        self.rfile = BytesIO(self._head)
        self.wfile = BytesIO()
        self.command = ""

    def finish(self) -> None:
        """Leave the answer to be fetched."""

    def handle(self) -> None:
        """Answer once, however many requests there are."""
        if HEAD_END.search(self._head):
            self.handle_one_request()
            if not self.wfile.tell():  # nothing but empty lines
                self.send_error(HTTPStatus.BAD_REQUEST)
        elif b"\n" in self._head:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/0.9":  # its answers have no headers
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        return True

    def handle_expect_100(self) -> bool:
        """Send no interim answer: the body that it would ask for is never read."""
        return True

    def run_wsgi(self) -> None:
        """Answer. Werkzeug's own would go on to read until the client is silent."""
        try:
            environ = self.make_environ()
        except ValueError:  # the target of the request is no URL
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        environ[ASKED] = self._asked
        self.wfile.writelines(self.server.app(environ, self._start_response))

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002  it repeats what the client sent
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Answer what could not be read as a request, without repeating any of it."""
        # http.server answers an unknown version of HTTP with 505, but it is the
        # client's mistake; and after one it would leave the headers out.
        status = HTTPStatus(code if code < HTTPStatus.INTERNAL_SERVER_ERROR else 400)
        self.request_version = self.protocol_version
        refuse = wsgi_app(lambda _: text_answer(status, f"{status.phrase}.\n"))
        self.wfile.writelines(refuse({"REQUEST_METHOD": self.command}, self._start_response))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing."""

    def _start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: object = None,  # noqa: ARG002  WSGI has it; our applications answer at once
    ) -> Callable[[bytes], object]:
        code, _, phrase = status.partition(" ")
        self.send_response(int(code), phrase)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        return self.wfile.write
