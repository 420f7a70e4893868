"""HTTP clients: requests that each contestant measures, among them OpenTelemetry.

Nothing is sent, so that what is added is not lost in the network: the answer is there as soon as a
request is made. Only aiohttp has a server, in the same thread. All contestants run in one process:
each has classes that keep the library's own functions, but for ours, whose are the library's.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING, Any

from hypertrace.integrations import install

from .measure import OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .measure import Operation

BARE = "bare"
OTEL = "OpenTelemetry"
URL = "http://127.0.0.1:8080/items/1"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


def operations(providers: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Operation]]]:
    """Return a request of each library, by contestant.

    Args:
        providers: of OpenTelemetry.
    """
    yield "a request of httpx", _httpx(providers)
    yield "a request of requests", _requests(providers)
    yield "a request of urllib3", _urllib3(providers)
    yield "a request of aiohttp", _aiohttp(providers)


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

    send = httpx.Client._send_single_request  # noqa: SLF001 -- as it is before it is patched
    Bare = type("Bare", (httpx.Client,), {"_send_single_request": send})  # noqa: N806 -- a class

    def asking(kind: Callable[..., Any]) -> tuple[Any, Operation]:
        def answer(_: Any) -> Any:
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

    connect = {"connect": HTTPConnection.connect, "_new_conn": lambda _: _Socket()}
    connection = type("Connection", (HTTPConnection,), {**connect, "is_connected": True})
    functions = {"urlopen": vars(HTTPConnectionPool)["urlopen"], "ConnectionCls": connection}
    return type("Pool", (HTTPConnectionPool,), functions | replaced)


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
    from aiohttp import ClientRequest, ClientResponse, ClientSession, TCPConnector  # noqa: PLC0415
    from opentelemetry.instrumentation.aiohttp_client import create_trace_config  # noqa: PLC0415

    loop = asyncio.new_event_loop()
    url = f"http://127.0.0.1:{loop.run_until_complete(_serve(loop))}/items/1"

    def own(kind: Any, *names: str) -> Any:
        return type(kind.__name__, (kind,), {name: getattr(kind, name) for name in names})

    connector = own(TCPConnector, "connect", "_create_connection", "_resolve_host")
    classes = {
        "request_class": own(ClientRequest, "send"),
        "response_class": own(ClientResponse, "start", "close", "release"),
    }

    def asking(connector: Any, **options: Any) -> Operation:
        async def made() -> Any:
            return ClientSession(connector=connector(), **options)

        session = loop.run_until_complete(made())

        async def ask() -> None:
            async with session.get(url) as response:
                await response.read()

        return lambda: loop.run_until_complete(ask())

    config = create_trace_config(**providers)
    install("aiohttp_client")
    return {
        BARE: asking(connector, **classes),
        OURS: asking(TCPConnector),
        OTEL: asking(connector, **classes, trace_configs=[config]),
    }


async def _serve(loop: asyncio.AbstractEventLoop) -> int:
    """Answer requests in the same thread, and return the port."""

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, _: bytes) -> None:
            self.transport.write(_ANSWER)

    server = await loop.create_server(Answering, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port
