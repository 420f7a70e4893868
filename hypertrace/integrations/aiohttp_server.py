"""aiohttp.web: requests by route, and WebSockets, of every application and server.

The metrics are those of `http_server` and `websockets`. A request starts when its task does, and
ends with the last byte of the answer, where the handler, or aiohttp after it, ends the body. It is
`cancelled` when the connection is lost before that, or the task is cancelled. An exception that
aiohttp answers with status 500, or 504 for time-outs, is the type of error; exceptions that are
answers (`HTTPException`) are their status. The route is the canonical path of the resource, with
those of the applications around it: `/api/items/{id}`; a folder of static files is its prefix.
A request with another method (405) has the route. Requests without a resource are `<unmatched>`:
those with status 404, bad requests, and all of a low-level `web.Server`.

Sizes of bodies: of a request, what had come in by the end of the answer; of an answer, what the
handler gave.

A WebSocket is a request with status 101 until it is prepared.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hypertrace._failures import swallow
from hypertrace._span import is_collecting

from .http_server import EXCLUDED, UNMATCHED, HttpServer
from .websockets import WebSocketServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import TypeAlias

    from .http_server import Request
    from .patches import Patches
    from .websockets import Connection, EventOf

    AnyCall: TypeAlias = "Callable[..., Awaitable[Any]]"

_NOT_ALLOWED = 405
_SERVER_ERROR = 500


class Integration(HttpServer):
    """What is measured of aiohttp.web."""

    def __init__(
        self,
        *,
        exclude: Iterable[str] = EXCLUDED,
        body_sizes: bool = False,
        native: bool = False,
        event_of: EventOf | None = None,
    ) -> None:
        """Declare the metrics.

        Args:
            exclude: as of `HttpServer`.
            body_sizes: as there.
            native: as there.
            event_of: as of `WebSocketServer`.

        Raises:
            TypeError: an option is wrong.
        """
        super().__init__(exclude=exclude, body_sizes=body_sizes, native=native)
        self._websockets = WebSocketServer(event_of)
        self._connections: WeakKeyDictionary[Any, Connection] = WeakKeyDictionary()

    def patch(self, patches: Patches) -> None:
        """Measure what servers do with requests, and what handlers do with WebSockets.

        Args:
            patches: replaces it.
        """
        from aiohttp import web

        patches.replace(web.RequestHandler, "_handle_request", self._measuring)
        patches.replace(web.UrlDispatcher, "resolve", _noting_route)
        patches.replace(web.StreamResponse, "prepare", _noting_status)
        patches.replace(web.StreamResponse, "write_eof", _noting_end)
        patches.replace(web.WebSocketResponse, "prepare", self._opening)
        patches.replace(web.WebSocketResponse, "receive", self._receiving)
        for name in ("send_str", "send_bytes", "send_frame"):
            patches.replace(web.WebSocketResponse, name, self._sending)
        patches.replace(web.WebSocketResponse, "close", self._closing)

    def _measuring(self, original: AnyCall) -> AnyCall:
        """Return what handles requests as `original` does, and measures them."""

        async def handle(protocol: Any, request: Any, *args: Any, **named: Any) -> Any:
            exchange = self._started(request)
            if exchange is None:
                return await original(protocol, request, *args, **named)
            token = _current.set(exchange)
            try:
                noting = [exchange.noting(one) if callable(one) else one for one in args]
                response, is_reset = result = await original(protocol, request, *noting, **named)
            except BaseException as error:
                exchange.fail(error, is_lost=protocol.transport is None)
                raise
            finally:
                # A finalizer that ends a coroutine must not change the context.
                if _current.get() is exchange and not is_collecting():
                    _current.reset(token)
            exchange.end(response, is_reset=is_reset)
            return result

        return handle

    def _started(self, request: Any) -> _Exchange | None:
        try:
            measured = self.start(request.method, request.path)
            if measured is None:
                return None
            measured.route = UNMATCHED
            return _Exchange(measured, request.content if self.body_sizes else None)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            return None

    def _opening(self, original: AnyCall) -> AnyCall:
        """Return what prepares a WebSocket, and ends the request that is the handshake."""

        async def prepare(response: Any, request: Any) -> Any:
            writer = await original(response, request)
            exchange = _current.get()
            if exchange is not None and exchange.connection is None:
                exchange.complete()
                exchange.connection = self._websockets.open(exchange.request.route)
                self._connections[response] = exchange.connection
            return writer

        return prepare

    def _receiving(self, original: AnyCall) -> AnyCall:
        from aiohttp import WSMsgType

        data = (WSMsgType.TEXT, WSMsgType.BINARY)

        async def receive(response: Any, *args: Any, **named: Any) -> Any:
            connection = self._connections.get(response)
            if connection is None:
                return await original(response, *args, **named)
            connection.waits()
            message = await original(response, *args, **named)
            if message.type in data:
                connection.received(message.data)
            return message

        return receive

    def _sending(self, original: AnyCall) -> AnyCall:
        async def send(response: Any, *args: Any, **named: Any) -> Any:
            connection = self._connections.get(response)
            try:
                result = await original(response, *args, **named)
            except ConnectionError:
                if connection is not None:
                    connection.cancel()
                raise
            if connection is not None:
                connection.sent()
            return result

        return send

    def _closing(self, original: AnyCall) -> AnyCall:
        async def close(response: Any, *args: Any, **named: Any) -> Any:
            connection = self._connections.get(response)
            if connection is not None:
                connection.close()
            return await original(response, *args, **named)

        return close


class _Exchange:
    """One request and its answer, in the context of its task."""

    __slots__ = ("_content", "_error", "_response", "connection", "request")

    def __init__(self, request: Request, content: Any) -> None:
        self._content = content  # of the request, if sizes are measured
        self._response: Any = None  # likewise
        self._error: BaseException | None = None
        self.connection: Connection | None = None
        self.request = request

    def noting(self, handler: AnyCall) -> AnyCall:
        """Return a handler that notes the exception for which aiohttp answers with status 500."""
        from aiohttp.web import HTTPException

        async def noted(request: Any) -> Any:
            try:
                return await handler(request)
            except HTTPException:
                raise
            except BaseException as error:
                self._error = error
                raise

        return noted

    def prepared(self, response: Any, writer: Any) -> None:
        """Note the status of an answer, and count its bytes if sizes are measured."""
        self.request.status = response.status
        if self._content is not None and writer is not None:
            self._response = response
            writer._on_chunk_sent = self._count

    async def _count(self, part: Any) -> None:
        self.request.sent += getattr(part, "nbytes", len(part))

    def complete(self) -> None:
        """End the request after the last byte."""
        response = self._response
        if response is not None and not self.request.sent and hasattr(response, "_sendfile"):
            self.request.sent = response.content_length or 0  # the system sent it
        is_failed = self.request.status >= _SERVER_ERROR
        self._finish(self._error if is_failed else None)

    def _finish(self, error: BaseException | None) -> None:
        self._note_received()
        self.request.finish(error)

    def _note_received(self) -> None:
        content, self._content, self._response = self._content, None, None
        if content is not None:
            self.request.received = content.total_bytes

    def end(self, response: Any, *, is_reset: bool) -> None:
        """End when the request is handled.

        Args:
            response: what was sent.
            is_reset: whether the connection was lost while it was.
        """
        if is_reset:
            self._cancel()
        elif self.connection is not None:
            self.connection.close(self._error)
        else:
            self.request.status = response.status
            self.complete()
        self._error = None

    def fail(self, error: BaseException, *, is_lost: bool) -> None:
        """End with an exception.

        Args:
            error: by which aiohttp ends the connection, or which cancelled the task.
            is_lost: whether there is no connection.
        """
        cause = self._error or error
        if is_lost and isinstance(cause, ConnectionError):
            self._cancel()
        else:
            self._finish(cause)
            if self.connection is not None:
                self.connection.close(cause)
        self._error = None

    def _cancel(self) -> None:
        self._note_received()
        self.request.cancel()
        if self.connection is not None:
            self.connection.cancel()


_current: ContextVar[_Exchange | None] = ContextVar("hypertrace_aiohttp_exchange", default=None)
"""The request that this task works for."""


def _noting_route(original: AnyCall) -> AnyCall:
    async def resolve(router: Any, request: Any) -> Any:
        match = await original(router, request)
        try:
            exchange, route = _current.get(), match.route
            if exchange is None:
                return match
            resource = route.resource
            # An application below this one may have noted its own resource.
            if resource is None and exchange.request.route == UNMATCHED:
                resource = await _resource_of(router, request, route.status)
            if resource is not None:
                exchange.request.route = resource.canonical
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, router)
        return match

    return resolve


async def _resource_of(router: Any, request: Any, status: int) -> Any:
    """Return the resource that has the path of a request but not its method, if that is wrong."""
    for resource in router.resources() if status == _NOT_ALLOWED else ():
        if "app" not in resource.get_info() and (await resource.resolve(request))[1]:
            return resource
    return None


def _noting_status(original: AnyCall) -> AnyCall:
    async def prepare(response: Any, request: Any) -> Any:
        writer = await original(response, request)
        exchange = _current.get()
        if exchange is not None:
            exchange.prepared(response, writer)
        return writer

    return prepare


def _noting_end(original: AnyCall) -> AnyCall:
    async def write_eof(response: Any, *args: Any, **named: Any) -> Any:
        result = await original(response, *args, **named)
        exchange = _current.get()
        if exchange is not None:
            exchange.complete()
        return result

    return write_eof
