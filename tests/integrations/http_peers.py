"""Peers of HTTP clients: a server that counts what it answers, and addresses that do not answer."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server(ThreadingHTTPServer):
    """A server on a free port of this machine.

    Attributes:
        answered: number of requests by method and status.
        connections: number of connections.
        arrived: is released once for each request to `/wait`.
        delay: seconds before each answer.
        released: set to let requests of `/wait` and `/half` go on.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.connections = 0
        self.delay = 0.0
        self.released = threading.Event()
        self.arrived = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), _Handler)
        self._scheme = "http"
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"

    @property
    def port(self) -> str:
        return str(self.server_port)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def verify_request(self, *_: object) -> bool:
        self.connections += 1
        return True

    def handle_error(self, *_: object) -> None:
        """Be quiet: clients go away."""

    def by_labels(self, address: str = "127.0.0.1") -> dict[tuple[str, ...], float]:
        """Return what it answered, as the metric of clients should have it."""
        return {
            (address, self.port, method, str(status), str(status) if status >= 400 else ""): count
            for (method, status), count in self.answered.items()
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        _, kind, *rest = urlsplit(self.path).path.split("/")
        getattr(self, f"_{kind or 'ok'}")(*rest)

    do_POST = do_PUT = do_HEAD = do_BREW = do_GET  # noqa: N815 -- as its base calls them

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        time.sleep(self.server.delay)
        self.server.answered[self.command, status] += 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _ok(self) -> None:
        self._answer(200, b"hello")

    def _status(self, code: str) -> None:
        self._answer(int(code), b"a text")

    def _redirect(self, left: str) -> None:
        path = f"/redirect/{int(left) - 1}" if int(left) > 1 else "/ok"
        self._answer(302, b"there", Location=path)

    def _elsewhere(self) -> None:
        self._answer(302, Location=self.server.url("/ok", "localhost"))

    def _loop(self) -> None:
        self._answer(302, Location="/loop")

    def _flaky(self) -> None:
        failed = self.server.answered[self.command, 503]
        self._answer(200 if failed else 503, b"hello")

    def _large(self) -> None:
        self._answer(200, b"x" * 4_000_000)

    def _chunks(self) -> None:
        self.server.answered[self.command, 200] += 1
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"5\r\nhello\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _wait(self) -> None:
        self.server.arrived.release()
        self.server.released.wait(30)
        self.close_connection = True

    def _half(self) -> None:
        """Send half of a body, and no more."""
        self._begin_half()
        self.server.released.wait(30)
        self.close_connection = True

    def _torn(self) -> None:
        """Send half of a body, and close the connection."""
        self._begin_half()
        self.close_connection = True

    def _begin_half(self) -> None:
        self.server.answered[self.command, 200] += 1
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"hello")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server."""
    server = Server(context)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def self_signed() -> ssl.SSLContext:
    """Return the context of a server whose certificate no client knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@contextmanager
def refusing() -> Iterator[int]:
    """Give a port on which no server listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """Give a port whose queue of connections is full: to connect takes for ever."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
