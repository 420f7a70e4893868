"""Client libraries: the same calls by each of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
        options: `timeout` in seconds, `proxy`, an URL; `body`, a function that makes one.
    """
    return _FETCH[name](urls, method, **options)


def _httpx(
    urls: Iterable[str],
    method: str,
    timeout: float | None = 30,
    proxy: str | None = None,
    body: Callable[[], Any] | None = None,
) -> list[int]:
    import httpx

    with httpx.Client(timeout=timeout, proxy=proxy, follow_redirects=True, trust_env=False) as own:
        return [
            own.request(method, url, content=body() if body else None).status_code for url in urls
        ]


def _httpx_async(
    urls: Iterable[str],
    method: str,
    timeout: float | None = 30,
    proxy: str | None = None,
    body: Callable[[], Any] | None = None,
) -> list[int]:
    import httpx

    async def parts() -> Any:
        for part in body():  # type: ignore[misc]  # there is one
            yield part

    async def run() -> list[int]:
        async with httpx.AsyncClient(
            timeout=timeout, proxy=proxy, follow_redirects=True, trust_env=False
        ) as own:
            return [
                (await own.request(method, url, content=parts() if body else None)).status_code
                for url in urls
            ]

    return asyncio.run(run())


def _requests(
    urls: Iterable[str],
    method: str,
    timeout: float | None = 30,
    proxy: str | None = None,
    body: Callable[[], Any] | None = None,
) -> list[int]:
    import requests

    with requests.Session() as own:
        own.trust_env = False
        own.proxies = {"http": proxy} if proxy else {}
        return [
            own.request(
                method, url, timeout=timeout, data=body() if body else None, allow_redirects=True
            ).status_code
            for url in urls
        ]


def _urllib3(
    urls: Iterable[str],
    method: str,
    timeout: float | None = 30,
    proxy: str | None = None,
    body: Callable[[], Any] | None = None,
) -> list[int]:
    import urllib3

    kind = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
    retries = urllib3.Retry(connect=0, read=0, other=0, redirect=5)
    with kind as own:
        return [
            own.request(
                method, url, timeout=timeout, retries=retries, body=body() if body else None
            ).status
            for url in urls
        ]


def _urllib(
    urls: Iterable[str],
    method: str,
    timeout: float | None = 30,
    proxy: str | None = None,
    body: Callable[[], Any] | None = None,
) -> list[int]:
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, Request, build_opener

    own = build_opener(ProxyHandler({"http": proxy} if proxy else {}))
    found = []
    for url in urls:
        request = Request(url, body() if body else None, method=method)
        try:
            with own.open(request, timeout=timeout) as response:
                response.read()
        except HTTPError as error:
            with error:
                error.read()
            response = error
        found.append(response.status)
    return found


def _aiohttp(
    urls: Iterable[str],
    method: str,
    timeout: float | None = 30,
    proxy: str | None = None,
    body: Callable[[], Any] | None = None,
) -> list[int]:
    import aiohttp

    async def parts() -> Any:
        for part in body():  # type: ignore[misc]  # there is one
            yield part

    async def run() -> list[int]:
        found = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as own:
            for url in urls:
                data = parts() if body else None
                async with own.request(method, url, data=data, proxy=proxy) as response:
                    await response.read()
                    found.append(response.status)
        return found

    return asyncio.run(run())


_FETCH: dict[str, Callable[..., list[int]]] = {
    "httpx": _httpx,
    "httpx async": _httpx_async,
    "requests": _requests,
    "urllib3": _urllib3,
    "urllib": _urllib,
    "aiohttp_client": _aiohttp,
}
