"""httpx: each request of a client, synchronous or not, with redirects and steps of authentication.

The metrics are those of `http_clients`; connections and name look-ups are measured, too, but for
look-ups on trio. A request begins when the client hands it to its transport, waits for a
connection included, and ends when its body has been read, closed or dropped: unless it is streamed,
before `get()` returns. Event hooks run in between. Requests to transports for tests, as
`httpx.MockTransport` and `httpx.ASGITransport`, count as well. What a transport tries again
(`retries=`) is one request.

Options: `group_redirects`, `max_hosts` as of `HttpClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_clients import PORTS, ClientRequest, HttpClient
from .http_connections import connecting, connecting_async, patch_lookups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from .http_clients import Target
    from .patches import Patches


class Integration(HttpClient):
    """The integration of httpx."""

    def patch(self, patches: Patches) -> None:
        """Measure what clients send.

        Args:
            patches: replaces their functions.
        """
        import httpx

        self._body = _body(httpx.SyncByteStream)
        self._async_body = _async_body(httpx.AsyncByteStream)
        patches.replace(httpx.Client, "_send_single_request", self._send)
        patches.replace(httpx.AsyncClient, "_send_single_request", self._send_async)
        if self.group_redirects:
            patches.replace(httpx.Client, "_send_handling_redirects", self._grouped)
            patches.replace(httpx.AsyncClient, "_send_handling_redirects", self._grouped_async)
        patch_lookups(patches)
        patches.when_imported("httpcore", lambda: _patch_connections(patches))

    def _send(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def measured(client: Any, request: Any) -> Any:
            with self.start(_target, request) as started:
                response = send(client, request)
            _follow(started, response, self._body)
            return response

        return measured

    def _send_async(self, send: Callable[..., Any]) -> Callable[..., Any]:
        async def measured(client: Any, request: Any) -> Any:
            with self.start(_target, request) as started:
                response = await send(client, request)
            _follow(started, response, self._async_body)
            return response

        return measured

    def _grouped(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def grouped(*args: Any, **kwargs: Any) -> Any:
            with self.redirects():
                return send(*args, **kwargs)

        return grouped

    def _grouped_async(self, send: Callable[..., Any]) -> Callable[..., Any]:
        async def grouped(*args: Any, **kwargs: Any) -> Any:
            with self.redirects():
                return await send(*args, **kwargs)

        return grouped


def _target(request: Any) -> Target:
    url = request.url
    return request.method, url.raw_host.decode("ascii"), url.port or PORTS.get(url.scheme)


def _follow(request: ClientRequest, response: Any, body: Callable[..., Any]) -> None:
    """Let a request end with the body of its response."""
    try:
        request.answered(response.status_code)
        if response.is_closed:
            request.finish()
        elif not request.has_ended:
            response.stream = body(response.stream, request)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _follow)
        request.finish()


def _body(base: type) -> Callable[..., Any]:
    """Return the class of bodies that end a request when they have been read or are closed."""

    class Body(base):  # type: ignore[misc]  # httpx loads late
        """Body of a response of `httpx.Client`."""

        def __init__(self, body: Any, request: ClientRequest) -> None:
            self._body = body
            self._request = request

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._body
            except GeneratorExit:
                raise  # left early: it may go on elsewhere, or be closed
            except BaseException as error:
                self._request.finish(error)
                raise

        def close(self) -> None:
            try:
                self._body.close()
            finally:
                self._request.finish()

    return Body


def _async_body(base: type) -> Callable[..., Any]:
    """Return the class of bodies that do as those of `_body`."""

    class AsyncBody(base):  # type: ignore[misc]  # as above
        """Body of a response of `httpx.AsyncClient`."""

        def __init__(self, body: Any, request: ClientRequest) -> None:
            self._body = body
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in self._body:
                    yield part
            except GeneratorExit:
                raise  # as above
            except BaseException as error:
                self._request.finish(error)
                raise

        async def aclose(self) -> None:
            try:
                await self._body.aclose()
            finally:
                self._request.finish()

    return AsyncBody


def _patch_connections(patches: Patches) -> None:
    from httpcore._async.connection import AsyncHTTPConnection
    from httpcore._sync.connection import HTTPConnection

    patches.replace(HTTPConnection, "_connect", connecting)
    patches.replace(AsyncHTTPConnection, "_connect", connecting_async)
