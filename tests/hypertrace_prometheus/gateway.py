"""Gateway: a server that keeps requests, and answers as a test says."""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from email.message import Message


class Request(NamedTuple):
    """What a gateway got."""

    method: str
    path: str
    headers: Message
    body: str


class Gateway:
    """Answers as a Pushgateway does, or as the test says.

    Attributes:
        requests: those it got.
        answers: the next ones, with status and text; 200 if there is none.
        on_request: called before each answer.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: deque[tuple[int, str]] = deque()
        self.on_request: Callable[[], object] = lambda: None
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway.requests.append(Request(self.command, self.path, self.headers, body))
                gateway.on_request()
                status, text = gateway.answers.popleft() if gateway.answers else (200, "")
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{gateway.url}/elsewhere")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET = do_PUT  # noqa: N815 -- what the base class calls

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        if tls is not None:
            self.url = self.url.replace("http:", "https:")
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        return self._http.server_port

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
