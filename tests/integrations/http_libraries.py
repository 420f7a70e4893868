"""Client libraries: the same calls by each of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

NAMES = ("httpx", "httpx async", "requests", "urllib3", "urllib", "aiohttp_client")
"""Each begins with the name of the integration."""


def integration_of(name: str) -> str:
    """Return the name of the integration."""
    return name.split(maxsplit=1)[0]


def module_of(name: str) -> str:
    """Return the name of the library."""
    return {"aiohttp_client": "aiohttp", "urllib": "urllib.request"}.get(name, integration_of(name))


def fetch(name: str, *urls: str, method: str = "GET", **options: Any) -> list[int]:
    """Send requests one after the other by one client, read their bodies, and return the status.

    Args:
        name: of the library.
        urls: of the requests; redirects are followed.
        method: of all.
        options: those of `Calls`.
    """
    return _FETCH[name](Calls(urls, method, **options))


class Calls(NamedTuple):
    """Requests of one client."""

    urls: tuple[str, ...]
    method: str
    timeout: float | None = 30
    """In seconds."""
    proxy: str | None = None
    """An URL."""
    body: Callable[[], Iterable[bytes]] | None = None
    """Makes the parts of a body."""

    def content(self) -> Any:
        """Return the parts of a body, or None."""
        return self.body() if self.body else None

    def async_content(self) -> Any:
        """Return the same for a client of an event loop."""
        return _async(self.body()) if self.body else None


async def _async(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _httpx(calls: Calls) -> list[int]:
    import httpx

    with httpx.Client(**_httpx_options(calls)) as own:
        return [
            own.request(calls.method, url, content=calls.content()).status_code
            for url in calls.urls
        ]


async def _httpx_async(calls: Calls) -> list[int]:
    import httpx

    async with httpx.AsyncClient(**_httpx_options(calls)) as own:
        return [
            (await own.request(calls.method, url, content=calls.async_content())).status_code
            for url in calls.urls
        ]


def _httpx_options(calls: Calls) -> dict[str, Any]:
    options = {"follow_redirects": True, "trust_env": False}
    return {**options, "timeout": calls.timeout, "proxy": calls.proxy}


def _requests(calls: Calls) -> list[int]:
    import requests

    with requests.Session() as own:
        own.trust_env = False
        own.proxies = {"http": calls.proxy} if calls.proxy else {}
        return [
            own.request(
                *(calls.method, url),
                timeout=calls.timeout,
                data=calls.content(),
                allow_redirects=True,
            ).status_code
            for url in calls.urls
        ]


def _urllib3(calls: Calls) -> list[int]:
    import urllib3

    retries = urllib3.Retry(connect=0, read=0, other=0, redirect=5)
    options: dict[str, Any] = {"timeout": calls.timeout, "retries": retries}
    with urllib3.ProxyManager(calls.proxy) if calls.proxy else urllib3.PoolManager() as own:
        return [
            own.request(calls.method, url, body=calls.content(), **options).status
            for url in calls.urls
        ]


def _urllib(calls: Calls) -> list[int]:
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, Request, build_opener

    own = build_opener(ProxyHandler({"http": calls.proxy} if calls.proxy else {}))
    found = []
    for url in calls.urls:
        request = Request(url, calls.content(), method=calls.method)
        try:
            response = own.open(request, timeout=calls.timeout)
        except HTTPError as error:
            response = error
        with response:
            response.read()
        found.append(response.status)
    return found


async def _aiohttp(calls: Calls) -> list[int]:
    import aiohttp

    found = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=calls.timeout)) as own:
        for url in calls.urls:
            options = {"data": calls.async_content(), "proxy": calls.proxy}
            async with own.request(calls.method, url, **options) as response:
                await response.read()
                found.append(response.status)
    return found


def _in_loop(
    fetch_async: Callable[[Calls], Coroutine[Any, Any, list[int]]],
) -> Callable[[Calls], list[int]]:
    return lambda calls: asyncio.run(fetch_async(calls))


_FETCH: dict[str, Callable[[Calls], list[int]]] = {
    "httpx": _httpx,
    "httpx async": _in_loop(_httpx_async),
    "requests": _requests,
    "urllib3": _urllib3,
    "urllib": _urllib,
    "aiohttp_client": _in_loop(_aiohttp),
}
