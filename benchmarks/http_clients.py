"""HTTP clients: the time that measuring adds to a request, beside OpenTelemetry's integrations.

Nothing is sent: the answer is there as soon as a request is made, so that what is added is not lost
in the network. All contestants run in one process: each has classes that keep the library's own
functions, but for ours, whose classes are the library's, which are patched.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING, Any

from hypertrace.integrations import install

from .measure import OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .measure import Operation

BARE = "bare"
OTEL = "OpenTelemetry"
URL = "http://127.0.0.1:8080/items/1"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


def operations(providers: Mapping[str, Any]) -> dict[str, dict[str, Operation]]:
    """Return a request without a network of each library, by contestant.

    Args:
        providers: of OpenTelemetry.
    """
    return {
        "a request of httpx": _httpx(providers),
        "a request of requests": _requests(providers),
        "a request of urllib3": _urllib3(providers),
        "a request of aiohttp": _aiohttp(providers),
    }


class _Socket:
    """A socket that has the answer already."""

    def sendall(self, data: bytes) -> None:
        pass

    def settimeout(self, seconds: float | None) -> None:
        pass

    def makefile(self, mode: str) -> BytesIO:  # noqa: ARG002 -- as a socket's
        return BytesIO(_ANSWER)

    def close(self) -> None:
        pass


def _httpx(providers: Mapping[str, Any]) -> dict[str, Operation]:
    import httpx  # noqa: PLC0415 -- imported here, it is measured by no other benchmark
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor  # noqa: PLC0415

    class Bare(httpx.Client):  # type: ignore[misc]  # without types
        _send_single_request = httpx.Client._send_single_request

    def asking(kind: Callable[..., Any]) -> tuple[Any, Operation]:
        def answer(request: Any) -> Any:
            return httpx.Response(200, stream=httpx.ByteStream(b"hello"))

        client = kind(transport=httpx.MockTransport(answer))
        return client, lambda: client.get(URL)

    _, bare = asking(Bare)
    instrumented, peer = asking(Bare)
    HTTPXClientInstrumentor.instrument_client(instrumented, **providers)
    install("httpx")
    _, ours = asking(httpx.Client)
    return {BARE: bare, OURS: ours, OTEL: peer}


def _own_pool(**replaced: Any) -> Any:
    """Return the class of pools of connections that have the functions of now, or others."""
    from urllib3 import HTTPConnectionPool  # noqa: PLC0415 -- as above
    from urllib3.connection import HTTPConnection  # noqa: PLC0415

    names = ("urlopen", "_make_request", "_prepare_proxy")
    functions = {name: vars(HTTPConnectionPool)[name] for name in names}
    connect = {"connect": HTTPConnection.connect, "_new_conn": lambda _: _Socket()}
    connection = type("Connection", (HTTPConnection,), {**connect, "is_connected": True})
    return type(
        "Pool", (HTTPConnectionPool,), {**functions, **replaced, "ConnectionCls": connection}
    )


def _requests(providers: Mapping[str, Any]) -> dict[str, Operation]:
    from opentelemetry.instrumentation.requests import RequestsInstrumentor  # noqa: PLC0415
    from requests import Session  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    pool = _own_pool()

    def asking(kind: Any, adapter: Any, pool: Any) -> Operation:
        session, sender = kind(), adapter()
        session.trust_env = False
        sender.poolmanager.pool_classes_by_scheme = {"http": pool}
        session.mount("http://", sender)
        return lambda: session.get(URL)

    bare = type("Bare", (Session,), {"send": Session.send})
    adapter = type("BareAdapter", (HTTPAdapter,), {"send": HTTPAdapter.send})
    RequestsInstrumentor().instrument(**providers)
    instrumented = type("Instrumented", (Session,), {"send": Session.send})
    RequestsInstrumentor().uninstrument()
    install("requests")
    return {
        BARE: asking(bare, adapter, pool),
        OURS: asking(Session, HTTPAdapter, _own_pool()),
        OTEL: asking(instrumented, adapter, pool),
    }


def _urllib3(providers: Mapping[str, Any]) -> dict[str, Operation]:
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor  # noqa: PLC0415
    from urllib3 import HTTPConnectionPool, PoolManager  # noqa: PLC0415

    from hypertrace.integrations import uninstall  # noqa: PLC0415

    uninstall("requests")

    def asking(pool: Any) -> Operation:
        manager = PoolManager()
        manager.pool_classes_by_scheme = {"http": pool}
        return lambda: manager.request("GET", URL)

    bare = _own_pool()
    URLLib3Instrumentor().instrument(**providers)
    instrumented = _own_pool(urlopen=vars(HTTPConnectionPool)["urlopen"])
    URLLib3Instrumentor().uninstrument()
    install("urllib3")
    return {BARE: asking(bare), OURS: asking(_own_pool()), OTEL: asking(instrumented)}


def _aiohttp(providers: Mapping[str, Any]) -> dict[str, Operation]:
    import warnings  # noqa: PLC0415

    from aiohttp import ClientSession  # noqa: PLC0415
    from opentelemetry.instrumentation.aiohttp_client import create_trace_config  # noqa: PLC0415

    loop = asyncio.new_event_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        bare = type("Bare", (ClientSession,), {"_request": ClientSession._request})

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(_ANSWER)

    async def serve() -> int:
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    url = f"http://127.0.0.1:{loop.run_until_complete(serve())}/items/1"

    def asking(kind: Any, **options: Any) -> Operation:
        async def made() -> Any:
            return kind(**options)

        session = loop.run_until_complete(made())

        async def ask() -> None:
            async with session.get(url) as response:
                await response.read()

        return lambda: loop.run_until_complete(ask())

    config = create_trace_config(**providers)
    install("aiohttp_client")
    return {
        BARE: asking(bare),
        OURS: asking(ClientSession),
        OTEL: asking(bare, trace_configs=[config]),
    }
