"""aiohttp: each request that a client session sends, with its redirects.

The metrics are those of `http_clients`; connections and name look-ups are measured, too. A request
begins when the session asks its connector for a connection, the wait for a free one included, and
ends when its body has been received, or it is closed or released; one that is dropped ends with its
connection. A request that aiohttp sends again over a new connection counts again. The handshake of
a WebSocket is a request of status 101. What a middleware answers itself is none.

Options: `group_redirects`, `max_hosts` as of `HttpClient`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_clients import HttpClient, current_request
from .http_connections import connecting_async, was_raised_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from .http_clients import ClientRequest, Target
    from .patches import Patches

_REQUEST = "_hypertrace_request"
"""Attribute of aiohttp's requests and responses."""
_READING = "aiohttp.client_reqrep", "aiohttp.streams", "aiohttp.helpers"
"""Modules that read bodies, and make time-outs of cancellations."""


class Integration(HttpClient):
    """The integration of aiohttp's client."""

    def patch(self, patches: Patches) -> None:
        """Measure what client sessions send.

        Args:
            patches: replaces functions of sessions, connectors, requests and responses.
        """
        from aiohttp import ClientResponse, ClientSession
        from aiohttp.client_reqrep import ClientRequest as Sent
        from aiohttp.connector import BaseConnector, TCPConnector, UnixConnector

        patches.replace(BaseConnector, "connect", self._connect)
        patches.replace(TCPConnector, "_create_connection", connecting_async)
        patches.replace(UnixConnector, "_create_connection", connecting_async)
        patches.replace(TCPConnector, "_resolve_host", _resolve_host)
        patches.replace(Sent, "send", _send)
        patches.replace(ClientResponse, "start", _start)
        patches.replace(ClientResponse, "close", _end)
        patches.replace(ClientResponse, "release", _end)
        if self.group_redirects:
            patches.replace(ClientSession, "_request", self._grouped)

    def _connect(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        from asyncio import CancelledError

        async def measured(connector: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
            with self.start(_target, req) as started:
                _attach(req, started)
                try:
                    return await connect(connector, req, *args, **kwargs)
                except CancelledError as error:
                    started.finish(_timeout_of(req) or error)
                    raise

        return measured

    def _grouped(self, request: Callable[..., Any]) -> Callable[..., Any]:
        async def grouped(*args: Any, **kwargs: Any) -> Any:
            with self.redirects():
                return await request(*args, **kwargs)

        return grouped


def _target(req: Any) -> Target:
    return req.method, req.url.raw_host, req.url.port


def _attach(part: Any, request: ClientRequest) -> None:
    """Let a request or response of aiohttp refer to what is measured of it."""
    try:
        setattr(part, _REQUEST, request)
    except Exception as error:  # noqa: BLE001 -- it may be of a class of the application
        swallow(error, _attach)
        request.finish()


def _timeout_of(part: Any) -> BaseException | None:
    """Return a time-out if the timer of a request or response is what cancelled its task."""
    return TimeoutError() if getattr(part._timer, "_cancelled", False) else None


def _send(send: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = getattr(self, _REQUEST, None)
        if request is None:
            return await send(self, *args, **kwargs)
        try:
            response = await send(self, *args, **kwargs)
        except BaseException as error:
            request.finish(_timeout_of(self) or error)
            raise
        _attach(response, request)
        return response

    return measured


def _start(start: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = getattr(self, _REQUEST, None)
        if request is None:
            return await start(self, *args, **kwargs)
        try:
            response = await start(self, *args, **kwargs)
        except BaseException as error:
            request.finish(_timeout_of(self) or error)
            raise
        try:
            request.answered(self.status)
            self.content.on_eof(request.finish)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, _start)
        return response

    return measured


def _end(end: Callable[..., Any]) -> Callable[..., Any]:
    def measured(self: Any) -> Any:
        request = getattr(self, _REQUEST, None)
        if request is not None and not request.has_ended and request.status:
            request.finish(_error_of(self))
        return end(self)

    return measured


def _error_of(response: Any) -> BaseException | None:
    """Return the exception because of which a response is closed before its end."""
    try:
        failed: BaseException | None = response.content.exception()

        def is_reader(one: object) -> bool:
            return one is response or one is response.content

        error = sys.exc_info()[1]
        return failed or (error if was_raised_by(error, _READING, is_reader) else None)
    except Exception as failure:  # noqa: BLE001 -- the application must see nothing
        swallow(failure, _end)
        return None


def _resolve_host(resolve_host: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(self: Any, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None or not _looks_up(self, host, port):
            return await resolve_host(self, host, port, *args, **kwargs)
        with request.looking_up():
            return await resolve_host(self, host, port, *args, **kwargs)

    return measured


def _looks_up(connector: Any, host: str, port: int) -> bool:
    """Whether a connector does not know the address of a host yet."""
    try:
        from aiohttp.helpers import is_ip_address

        known = connector._cached_hosts
        key = host, port
        is_known = connector.use_dns_cache and key in known and not known.expired(key)
        return not is_known and not is_ip_address(host)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _resolve_host)
        return False
