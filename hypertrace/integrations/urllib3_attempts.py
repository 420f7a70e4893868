"""Attempts of urllib3: each request that it sends, with every retry and redirect.

urllib3 sends for the application, and for requests. What requests sends is measured for it if its
integration is installed, else for urllib3 if that one is; so no attempt counts twice.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

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

    if client is not None:
        _for_application.append(client)
        patches.then(_for_application.clear)
    patches.share(HTTPConnectionPool, "urlopen", _urlopen)
    patches.share(HTTPConnectionPool, "_make_request", _make_request)
    patches.share(HTTPConnectionPool, "_prepare_proxy", _prepare_proxy)
    patches.share(HTTPConnection, "connect", connecting)
    patches.share(HTTPSConnection, "connect", connecting)
    patch_lookups(patches)
    patch_bodies(patches)


def _client() -> HttpClient | None:
    return for_library.get() or (_for_application[0] if _for_application else None)


def _urlopen(urlopen: Callable[..., Any]) -> Callable[..., Any]:
    # It calls itself for each retry, and each redirect that it follows.
    def measured(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        client = _client()
        if client is None:
            with ClientRequest():  # hides one in which this runs
                return urlopen(self, method, url, *args, **kwargs)
        if not client.group_redirects:
            with client.start(_target, self, method, url):
                return urlopen(self, method, url, *args, **kwargs)
        with client.redirects(), client.start(_target, self, method, url):
            return urlopen(self, method, url, *args, **kwargs)

    return measured


def _target(pool: Any, method: str, url: str) -> Target:
    if url.startswith("/"):
        return method, pool.host, pool.port or PORTS.get(pool.scheme)
    return target_of_url(method, url)  # a proxy gets the whole of it


def _make_request(make_request: Callable[..., Any]) -> Callable[..., Any]:
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None:
            return make_request(self, *args, **kwargs)
        try:
            response = make_request(self, *args, **kwargs)
        except BaseException as error:
            request.finish(error)  # urllib3 may try again
            raise
        if getattr(response, "_original_response", None) is None:  # not by `http.client`
            request.answered(response.status)
            request.finish()
        return response

    return measured


def _prepare_proxy(prepare_proxy: Callable[..., Any]) -> Callable[..., Any]:
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = current_request()
        try:
            return prepare_proxy(self, *args, **kwargs)
        except BaseException as error:
            if request is not None:
                request.finish(error)  # as above
            raise

    return measured
