"""The metrics server: the metrics of a registry over HTTP, from a daemon thread."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from .endpoint import (
    Request,
    make_wsgi_app,
    read_only,
    respond,
    text_answer,
    wsgi_app,
)
from .page import index_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

_WORKERS = 16
# Seconds a client gets to send its request, and again to take the answer.
_PATIENCE = 4.0
# Seconds that the requests under way get when the server stops.
_GRACE = 1.0

_MAX_PORT = 65535
# Where a server that listens everywhere is reached from this machine.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here
_ADVICE = {
    errno.EADDRINUSE: "the port is in use; stop the program that has it, or pass another port"
    " (0 picks a free one)",
    errno.EACCES: "the port is reserved for privileged programs; pass one above 1023"
    " (0 picks a free one)",
    errno.EADDRNOTAVAIL: "this machine has no such address; pass 127.0.0.1 for this machine"
    " only, or the address of one of its interfaces",
}

_logger = logging.getLogger("hypertrace_prometheus")


class MetricsServer:
    """Serves `/metrics`, `/` and `/-/healthy` until it is stopped.

    The constructor binds the port and starts one daemon thread, and at most 16 more
    while they answer requests; none of them keeps a finished program alive.

    Args:
        registry: what `/metrics` shows; its collectors run in the threads of the server.
        host: an address of this machine or a name of one. The default lets nobody in
            from other machines.
        port: 0 to 65535; 0 picks a free one.

    Raises:
        OSError: the port is busy or reserved, or the host is not one of this machine.
            The message names both and says what to do; `errno` is the system's.
        ValueError: the port is out of range, or the host is empty.
        TypeError: the port is no `int`, or the host is no `str`.
    """

    def __init__(
        self, registry: CollectorRegistry, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        _check_address(host, port)
        with _listen(host, port) as listener:
            self.host = host
            self.port: int = listener.getsockname()[1]
            app = _route(
                {
                    "/": wsgi_app(read_only(lambda _: index_page(self._target))),
                    "/metrics": make_wsgi_app(registry),
                    "/-/healthy": wsgi_app(read_only(lambda _: text_answer(HTTPStatus.OK, "ok"))),
                }
            )
            self._http = _HTTPServer(listener, app)
        self._thread = threading.Thread(
            target=self._http.serve_forever, name="hypertrace-metrics", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # the system has no thread left
            self._http.server_close()
            raise

    @property
    def url(self) -> str:
        """Where the metrics are, as seen from this machine."""
        return f"http://{self._target}/metrics"

    @property
    def _target(self) -> str:
        return _join(_REACHED_AT.get(self.host, self.host), self.port)

    def stop(self) -> None:
        """Free the port and end every thread of the server.

        May be called from any thread, while requests run, and more than once. Requests
        under way get a second to finish; a collector that hangs longer is left behind
        in its daemon thread.
        """
        # A forked child has the server but not its thread, and shares the sockets with
        # its parent: it may close its own copies and nothing more.
        if self._thread.is_alive():
            self._http.stop()
            self._thread.join()
        self._http.server_close()


class _Handler(WSGIRequestHandler):
    """One connection: one request, one answer, nothing on stderr."""

    # Written by werkzeug, on the class it is given: never give it its own.
    protocol_version: str
    server: _HTTPServer

    def version_string(self) -> str:
        return "hypertrace"

    def run_wsgi(self) -> None:
        # The time that the collectors take is not the client's.
        self.server.give(self.connection, inf)
        try:
            super().run_wsgi()
        except ValueError:  # the target of the request is no URL
            self.send_error(HTTPStatus.BAD_REQUEST)

    def send_response(self, code: int, message: str | None = None) -> None:
        self.server.give(self.connection, _PATIENCE)
        super().send_response(code, message)

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
        refusal = text_answer(status, f"{status.phrase}.\n")
        answer = respond(lambda _: refusal, Request(self.command or "", "", "", ""))
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing."""


class _HTTPServer(ThreadedWSGIServer):
    """Werkzeug's server with a bound on its threads and on the patience with clients.

    A client that is past its deadline is hung up on; its thread, which waits for it in
    a read or a write, wakes and ends.
    """

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        # Reentrant, because a signal handler may stop the server while it is stopping.
        self._lock = threading.RLock()
        self._deadlines: dict[Any, float] = {}
        self._workers: list[threading.Thread] = []
        self._slots = threading.BoundedSemaphore(_WORKERS)
        host, port = listener.getsockname()[:2]
        # Without a socket of ours werkzeug would print, and exit, when the port is busy.
        super().__init__(host, port, app, _Handler, passthrough_errors=True, fd=listener.fileno())

    def give(self, request: socket.socket, seconds: float) -> None:
        """Set the deadline of a connection to `seconds` from now."""
        with self._lock:
            self._deadlines[request] = monotonic() + seconds

    def stop(self) -> None:
        """Stop accepting, let the requests under way finish, then cut them off."""
        with suppress(OSError):  # on Linux this wakes the loop at once
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._hang_up(inf, how)
            self._join_workers(_GRACE)

    def get_request(self) -> tuple[socket.socket, Any]:
        # A full house leaves the connection in the backlog for another turn of the loop,
        # which looks after the deadlines meanwhile.
        if not self._slots.acquire(timeout=0.1):
            raise BlockingIOError(errno.EAGAIN, "every worker is busy")
        try:
            return super().get_request()
        except OSError:
            self._slots.release()
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        self.give(request, _PATIENCE)
        worker = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="hypertrace-metrics-worker",
            daemon=True,
        )
        worker.start()
        self._workers = [*filter(threading.Thread.is_alive, self._workers), worker]

    def shutdown_request(self, request: Any) -> None:
        # Forgotten before it is closed: its descriptor may be another's right after.
        with self._lock:
            self._deadlines.pop(request, None)
        try:
            super().shutdown_request(request)
        finally:
            self._slots.release()

    def service_actions(self) -> None:
        self._hang_up(monotonic(), socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # Called from an exception handler of socketserver's.
        _logger.debug("The connection from %s failed", client_address, exc_info=True)  # noqa: LOG014

    def _hang_up(self, now: float, how: int) -> None:
        with self._lock:
            for request, deadline in self._deadlines.items():
                if deadline <= now:
                    with suppress(OSError):  # the client was faster
                        request.shutdown(how)

    def _join_workers(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join(max(0.0, deadline - monotonic()))


def _route(routes: Mapping[str, WSGIApplication]) -> WSGIApplication:
    """Return an application that picks one of `routes` by its exact path."""
    paths = " ".join(routes)
    missing = wsgi_app(lambda _: text_answer(HTTPStatus.NOT_FOUND, f"Not here. Try: {paths}\n"))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return routes.get(environ["PATH_INFO"], missing)(environ, start_response)

    return app


def _check_address(host: object, port: object) -> None:
    if not isinstance(host, str):
        raise TypeError(f"host must be a str such as '127.0.0.1', not {host!r}")
    if not host:
        raise ValueError("host must not be empty; pass '0.0.0.0' to listen on every interface")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be an int from 0 to {_MAX_PORT}, not {port!r}")
    if not 0 <= port <= _MAX_PORT:
        raise ValueError(f"port must be from 0 to {_MAX_PORT} (0 picks a free one), not {port}")


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; only this process holds it."""
    family, address = _resolve(host, port)
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=128, dualstack_ipv6=dual)
    except OSError as error:
        code = error.errno or errno.EIO
        reason = _ADVICE.get(code, os.strerror(code))
        msg = f"cannot serve metrics on {_join(host, port)}: {reason}"
        raise OSError(code, msg) from error


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:  # ValueError: no name can look like this
        code = error.errno if isinstance(error, OSError) else None
        msg = f"cannot serve metrics on {_join(host, port)}: the host is unknown; check its name"
        raise OSError(code or socket.EAI_NONAME, msg) from error
    family, _, _, _, address = found[0]
    return family, address


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
