"""Attempts of urllib3: each request that it sends, with every retry and redirect.

urllib3 sends for the application, and for requests. What requests sends is measured for it if its
integration is installed, else for urllib3 if that one is; so no attempt counts twice.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_clients import PORTS, ClientRequest, current_request, target_of_url
from .http_connections import connecting, patch_bodies, patch_lookups

if TYPE_CHECKING:
    from collections.abc import Callable

    from .http_clients import HttpClient, Target
    from .patches import Patches

for_library: ContextVar[HttpClient | None] = ContextVar("hypertrace_urllib3_for", default=None)
"""The library that sends by urllib3 in this thread."""

_for_application: list[HttpClient] = []
"""The integration of urllib3, if it is installed."""


def patch_attempts(patches: Patches, client: HttpClient | None = None) -> None:
    """Measure attempts.

    Args:
        patches: of the integration.
        client: of urllib3 itself; None measures what is sent for a library alone.
    """
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.util.retry import Retry

    if client is not None:
        _for_application.append(client)
        patches.then(_for_application.clear)
    patches.share(HTTPConnectionPool, "urlopen", _urlopen)
    patches.share(Retry, "increment", _increment)
    patches.share(HTTPConnection, "connect", connecting)
    patches.share(HTTPSConnection, "connect", connecting)
    patch_lookups(patches)
    patch_bodies(patches)


def _urlopen(urlopen: Callable[..., Any]) -> Callable[..., Any]:
    def send(client: HttpClient, pool: Any, method: str, url: str, *args: Any, **named: Any) -> Any:
        with client.start(_target, pool, method, url) as request:
            response = urlopen(pool, method, url, *args, **named)
        if not request.status:
            _end_without_body(request, response)
        return response

    # It calls itself for each retry, and each redirect that it follows.
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        client = for_library.get() or (_for_application[0] if _for_application else None)
        if client is None:
            with ClientRequest():  # hides one in which this runs
                return urlopen(self, *args, **kwargs)
        if not client.group_redirects:
            return send(client, self, *args, **kwargs)
        with client.redirects():
            return send(client, self, *args, **kwargs)

    return measured


def _end_without_body(request: ClientRequest, response: Any) -> None:
    """End a request that was not sent by `http.client`, which would have set its status."""
    try:
        request.answered(response.status)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _end_without_body)
    request.finish()


def _target(pool: Any, method: str, url: str) -> Target:
    if url.startswith("/"):
        return method, pool.host, pool.port or PORTS.get(pool.scheme)
    return target_of_url(method, url)  # a proxy gets the whole of it


def _increment(increment: Callable[..., Any]) -> Callable[..., Any]:
    # It is called for each attempt that failed, before urllib3 waits for the next one.
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        error = kwargs.get("error")
        request = current_request()
        if request is not None and isinstance(error, BaseException):
            request.finish(error)
        return increment(self, *args, **kwargs)

    return measured
