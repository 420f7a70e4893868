"""ASGI applications: their requests, until the last byte of the answer, and their WebSockets.

`trace_asgi(application)` measures any application; the integration of Starlette and FastAPI knows
routes, too. The metrics and their labels are those of `http_server` and `websockets`.

A request starts when the server calls the application, and ends when the server has taken the last
part of the answer: work after it, such as background tasks, does not count. It ends before that,
as `cancelled`, when the client is gone: the application received `http.disconnect`, or a send
raised `OSError`. An exception in the application is status 500 as long as the answer has not begun,
and its class is the type of error, also if an error page answered the request before. An
application that ends without an answer is status 500, one that ends in the middle of it is a
`RuntimeError`. Lifespan events pass untouched.

The handshake of a WebSocket is a request with status 101 when it is accepted, and 403 when it is
closed before. A request that passes several layers with integrations is measured by the outermost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_server import EXCLUDED, KEY, UNKNOWN_SIZE, UNMATCHED, HttpServer
from .websockets import WebSocketServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from typing import TypeAlias

    from .http_server import Request
    from .websockets import Connection, EventOf

    Scope: TypeAlias = "MutableMapping[str, Any]"
    Message: TypeAlias = "MutableMapping[str, Any]"
    Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
    Send: TypeAlias = "Callable[[Message], Awaitable[None]]"
    Application: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]]"
    RouteOf: TypeAlias = "Callable[[Scope], str | None]"

_ACCEPTED = 101
_DENIED = 403
_SERVER_ERROR = 500
_FILES = ("http.response.pathsend", "http.response.zerocopysend")
"""Messages with which the server sends a file by itself."""


def trace_asgi(application: Application, **options: Any) -> Application:
    """Return an application that measures its requests; otherwise it is the one that is given.

    Args:
        application: of ASGI 3. A framework has its own integration, which knows routes.
        options: of `AsgiServer`.

    Raises:
        TypeError: an option is wrong, or the application cannot be called.
    """
    from .applications import TracedAsgi  # imports wrapt

    return TracedAsgi(application, AsgiServer(**options).measure)


class AsgiServer(HttpServer):
    """What is measured of applications of ASGI.

    Any thread may use it. Nothing is raised while requests are measured.
    """

    def __init__(
        self,
        *,
        exclude: Iterable[str] = EXCLUDED,
        body_sizes: bool = False,
        native: bool = False,
        event_of: EventOf | None = None,
        route_of: RouteOf | None = None,
    ) -> None:
        """Declare the metrics.

        Args:
            exclude: as of `HttpServer`.
            body_sizes: as there.
            native: as there.
            event_of: as of `WebSocketServer`.
            route_of: is called with the scope when the answer ends, and returns the template of the
                route; None if no route fits. Without it, routes are empty.

        Raises:
            TypeError: an option is wrong.
        """
        if route_of is not None and not callable(route_of):
            raise TypeError(f"route_of must be a function of a scope, not {route_of!r}")
        super().__init__(exclude=exclude, body_sizes=body_sizes, native=native)
        self._websockets = WebSocketServer(event_of)
        self._route_of = route_of

    async def measure(
        self, application: Application, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Call an application, and measure what it does, unless a layer outside of this one does.

        Args:
            application: is called with the scope; its exceptions propagate.
            scope: of the server; while the application runs, it has the `Request` under `KEY`.
            receive: of the server.
            send: of the server.
        """
        call = self.call(scope, receive, send)
        if call is None:
            await application(scope, receive, send)
            return
        try:
            await application(scope, call.receive, call.send)
        except BaseException as error:
            call.end(error)
            raise
        call.end(None)

    def call(self, scope: Scope, receive: Receive, send: Send) -> Call | None:
        """Start to measure a call; return None if there is nothing to measure.

        Args:
            scope: as of `measure`.
            receive: as there.
            send: as there.

        Returns:
            What the application receives from and sends to, and what is to be ended with it.
        """
        try:
            kind = scope["type"]
            if KEY in scope or kind not in _CALLS:
                return None
            scope[KEY] = None
            request = self.start(scope.get("method", "GET"), scope["path"])
            if request is None:
                return None
            scope[KEY] = request
            return _CALLS[kind](self, request, scope, receive, send)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            return None

    def name_route(self, request: Request, scope: Scope) -> None:
        """Give a request the route that `route_of` returns, if it has none."""
        if self._route_of is not None and not request.route:
            try:
                request.route = self._route_of(scope) or UNMATCHED
            except Exception as error:  # noqa: BLE001 -- it is the application's
                swallow(error, self._route_of)

    def open(self, route: str) -> Connection:
        """Start to measure a WebSocket."""
        return self._websockets.open(route)


class Call:
    """One call of an application: what it receives and sends."""

    __slots__ = ("_has_trailers", "_receive", "_request", "_scope", "_send", "_server")

    def __init__(
        self, server: AsgiServer, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._server = server
        self._request = request
        self._scope = scope
        self._receive = receive
        self._send = send
        self._has_trailers = False

    async def receive(self) -> Message:
        """Receive for the application."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Send for the application."""
        raise NotImplementedError

    def end(self, error: BaseException | None) -> None:
        """End when the application has ended.

        Args:
            error: the exception with which it did.
        """
        self._scope.pop(KEY, None)
        request = self._request
        if request.has_ended:
            return
        if error is None and not request.has_stopped:
            if request.status:  # in the middle of the answer
                error = RuntimeError()
            else:  # the server answers
                request.status = _SERVER_ERROR
        self._finish(error)

    def _finish(self, error: BaseException | None = None) -> None:
        """Finish the request."""
        request = self._request
        if not request.route:
            self._server.name_route(request, self._scope)
        request.finish(error)

    def _cancel(self) -> None:
        """Cancel the request, unless its last part was sent."""
        if not self._request.has_stopped:
            self._server.name_route(self._request, self._scope)
            self._request.cancel()


class _HttpCall(Call):
    """A request, and its answer."""

    __slots__ = ()

    async def receive(self) -> Message:
        message = await self._receive()
        try:
            kind = message["type"]
            if kind == "http.disconnect":
                self._cancel()
            elif self._server.body_sizes and kind == "http.request":
                received = max(self._request.received, 0)
                self._request.received = received + len(message.get("body", b""))
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
        return message

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self._cancel()
            raise
        try:
            kind = message["type"]
            if kind == "http.response.start":
                self._request.status = message["status"]
                self._has_trailers = message.get("trailers", False)
            elif kind == "http.response.body":
                if self._server.body_sizes:
                    self._request.sent += len(message.get("body", b""))
                if not (self._has_trailers or message.get("more_body", False)):
                    self._complete()
            else:
                self._note_other(kind, message)
        except Exception as error:  # noqa: BLE001 -- as above
            swallow(error, self)

    def _note_other(self, kind: str, message: Message) -> None:
        """Note what was sent by messages of extensions."""
        if kind == "http.response.trailers":
            if not message.get("more_trailers"):
                self._complete()
        elif kind in _FILES:
            self._request.sent = UNKNOWN_SIZE
            if not (message.get("more_body") or self._has_trailers):
                self._complete()

    def _complete(self) -> None:
        """End the time after the last part; what the error was, if any, is known later."""
        request = self._request
        if request.status >= _SERVER_ERROR:
            request.stop()
        elif request.route:
            request.finish()
        else:
            self._finish()


class _WebSocketCall(Call):
    """A WebSocket: the handshake, and the connection if that is accepted."""

    __slots__ = ("_connection",)

    def __init__(
        self, server: AsgiServer, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(server, request, scope, receive, send)
        self._connection: Connection | None = None

    async def receive(self) -> Message:
        if self._connection is not None:
            self._connection.waits()
        message = await self._receive()
        try:
            connection = self._connection
            kind = message["type"]
            if kind == "websocket.receive" and connection is not None:
                text = message.get("text")
                connection.received(message["bytes"] if text is None else text)
            elif kind == "websocket.disconnect":
                self._disconnect()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
        return message

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self._disconnect()
            raise
        try:
            self._note(message["type"], message)
        except Exception as error:  # noqa: BLE001 -- as above
            swallow(error, self)

    def _note(self, kind: str, message: Message) -> None:
        """Note what was sent."""
        connection, request = self._connection, self._request
        if connection is not None:
            if kind == "websocket.send":
                connection.sent()
            elif kind == "websocket.close":
                connection.close()
        elif kind == "websocket.accept":
            request.status = _ACCEPTED
            self._finish()
            self._connection = self._server.open(request.route)
        elif kind == "websocket.close":
            request.status = _DENIED
            self._finish()
        elif kind == "websocket.http.response.start":
            request.status = message["status"]
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            self._finish()

    def _disconnect(self) -> None:
        """End, as the client is gone."""
        if self._connection is not None:
            self._connection.cancel()
        else:
            self._cancel()

    def end(self, error: BaseException | None) -> None:
        if self._connection is not None:
            self._connection.close(error)
        super().end(error)


_CALLS: dict[str, type[Call]] = {"http": _HttpCall, "websocket": _WebSocketCall}
