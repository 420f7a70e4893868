"""aiohttp: each request that a client session sends, with its redirects.

The metrics are those of `http_clients`; connections and name look-ups are measured, too. A request
begins when the session asks its connector for a connection, the wait for a free one included, and
ends when its body has been received, or it is closed, released or dropped. A request that aiohttp
sends again over a new connection counts again. The handshake of a WebSocket is a request of status
101. What a middleware answers itself is none.

Options: `group_redirects`, `max_hosts` as of `HttpClient`.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_clients import ClientRequest, HttpClient, current_request
from .http_connections import connecting_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .http_clients import Target
    from .patches import Patches

_REQUEST = "_hypertrace_request"
"""Attribute of aiohttp's requests and responses."""


class Integration:
    """The integration of aiohttp's client."""

    def __init__(self, *, group_redirects: bool = False, max_hosts: int = 100) -> None:
        """Declare the metrics.

        Args:
            group_redirects: as of `HttpClient`.
            max_hosts: as there.

        Raises:
            TypeError: as there.
            ValueError: as there.
        """
        self._client = HttpClient(group_redirects=group_redirects, max_hosts=max_hosts)

    def patch(self, patches: Patches) -> None:
        """Measure what client sessions send.

        Args:
            patches: replaces functions of sessions, connectors, requests and responses.
        """
        from aiohttp import ClientResponse, ClientSession
        from aiohttp.client_reqrep import ClientRequest as Sent
        from aiohttp.connector import BaseConnector, TCPConnector, UnixConnector

        patches.replace(ClientSession, "_request", self._request)
        patches.replace(BaseConnector, "connect", self._connect)
        patches.replace(TCPConnector, "_create_connection", connecting_async)
        patches.replace(UnixConnector, "_create_connection", connecting_async)
        patches.replace(TCPConnector, "_resolve_host", _resolve_host)
        patches.replace(Sent, "send", _send)
        patches.replace(ClientResponse, "start", _start)
        patches.replace(ClientResponse, "close", _end)
        patches.replace(ClientResponse, "release", _end)

    def _request(self, request: Callable[..., Any]) -> Callable[..., Any]:
        client = self._client

        async def measured(*args: Any, **kwargs: Any) -> Any:
            with client.redirects() if client.group_redirects else nullcontext(), _Call():
                return await request(*args, **kwargs)

        return measured

    def _connect(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        async def measured(connector: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
            call = _call.get()
            if call is None:
                return await connect(connector, req, *args, **kwargs)
            started = call.start(self._client, req)
            try:
                return await connect(connector, req, *args, **kwargs)
            except Exception as error:
                started.finish(error)
                raise

        return measured


class _Call:
    """One call of a session, as a context manager, which may send several requests.

    What ends it ends the last one: only here a cancellation has become the time-out that it was.
    """

    __slots__ = ("_last", "_token")

    def __init__(self) -> None:
        self._last = ClientRequest()

    def start(self, client: HttpClient, req: Any) -> ClientRequest:
        """Start to measure the next request."""
        self._last.__exit__(None, None, None)
        self._last = started = client.start(_target, req)
        vars(req)[_REQUEST] = started
        return started.__enter__()

    def __enter__(self) -> None:
        self._last.__enter__()
        self._token = _call.set(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._last.__exit__(kind, error, traceback)
            if _call.get() is self:
                _call.reset(self._token)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)


_call: ContextVar[_Call | None] = ContextVar("hypertrace_aiohttp_call", default=None)


def _target(req: Any) -> Target:
    return req.method, req.url.raw_host, req.url.port


def _send(send: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = vars(self).get(_REQUEST)
        if request is None:
            return await send(self, *args, **kwargs)
        try:
            response = await send(self, *args, **kwargs)
        except Exception as error:
            request.finish(error)
            raise
        vars(response)[_REQUEST] = request
        return response

    return measured


def _start(start: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = vars(self).get(_REQUEST)
        if request is None:
            return await start(self, *args, **kwargs)
        try:
            response = await start(self, *args, **kwargs)
        except Exception as error:
            request.finish(error)
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
        request = vars(self).get(_REQUEST)
        if request is not None and not request.has_ended and request.status:
            request.finish(_error_of(self))
        return end(self)

    return measured


def _error_of(response: Any) -> BaseException | None:
    """Return the exception because of which a response is closed before its end."""
    try:
        import aiohttp

        error = response.content.exception() or sys.exc_info()[1]
        known = OSError, aiohttp.ClientError, CancelledError
    except Exception as failure:  # noqa: BLE001 -- the application must see nothing
        swallow(failure, _end)
        return None
    return error if isinstance(error, known) else None


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
