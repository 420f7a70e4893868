"""aiohttp.web: the route of every request, how it ended, and WebSockets, over real connections."""

from __future__ import annotations

import asyncio
import importlib
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.integrations import install, uninstall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

DURATIONS = "http_server_request_duration_seconds"
ACTIVE = "http_server_active_requests"
MESSAGES = "websocket_server_messages_total"
MESSAGE_DURATIONS = "websocket_server_message_duration_seconds"
CONNECTIONS = "websocket_server_active_connections"


@pytest.fixture
def web(library: Callable[[str], Any]) -> Any:
    """Give the module `aiohttp.web`, whose errors are not printed."""
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    return library("aiohttp.web")


@pytest.fixture
def apps(web: Any) -> Any:
    """Give the module with the applications."""
    return importlib.import_module("..aiohttp_apps", __name__)


async def _with_client(app: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Serve an application, and do something with a client of it."""
    utilities = importlib.import_module("aiohttp.test_utils")
    async with utilities.TestClient(utilities.TestServer(app)) as client:
        return await work(client)


def _ask(app: Any, path: str, method: str = "GET") -> int:
    """Ask for a path, and return the status of the answer."""

    async def ask(client: Any) -> int:
        async with client.request(method, path) as response:
            try:
                await response.read()
            except OSError:  # the answer ends in the middle
                pass
            except importlib.import_module("aiohttp").ClientError:
                pass
            status: int = response.status
            return status

    status: int = asyncio.run(_with_client(app, ask))
    return status


@pytest.mark.parametrize(
    ("path", "method", "route", "status", "kind"),
    [
        ("/", "GET", "/", 200, ""),
        ("/", "HEAD", "/", 200, ""),
        ("/items/1", "GET", "/items/{id}", 200, ""),
        ("/items/one", "GET", "<unmatched>", 404, ""),
        ("/items/1", "POST", "/items/{id}", 405, ""),
        ("/api/branch/leaf/1", "POST", "/api/branch/leaf/{id}", 405, ""),
        ("/static/page.txt", "POST", "/static", 405, ""),
        ("/nowhere", "GET", "<unmatched>", 404, ""),
        ("/api/branch/leaf/1", "GET", "/api/branch/leaf/{id}", 200, ""),
        ("/api/branch/nowhere", "GET", "<unmatched>", 404, ""),
        ("/static/page.txt", "GET", "/static", 200, ""),
        ("/static/nowhere.txt", "GET", "/static", 404, ""),
        ("/raises", "GET", "/raises", 500, "ZeroDivisionError"),
        ("/late", "GET", "/late", 504, "TimeoutError"),
        ("/refuses", "GET", "/refuses", 403, ""),
        ("/unavailable", "GET", "/unavailable", 503, "503"),
        ("/returns_nothing", "GET", "/returns_nothing", 500, "500"),
        ("/streams", "GET", "/streams", 203, ""),
        ("/streams_and_raises", "GET", "/streams_and_raises", 200, "ZeroDivisionError"),
        ("/raises_after_end", "GET", "/raises_after_end", 200, ""),
    ],
)
def test_a_request_ends_once(
    path: str,
    method: str,
    route: str,
    status: int,
    kind: str,
    apps: Any,
    tmp_path: Path,
    points: Points,
) -> None:
    """Whatever a request is, it is one duration with the route of its resource, as an entry."""
    install("aiohttp_server")
    assert _ask(apps.application(tmp_path), path, method) == status
    assert points(DURATIONS) == {(method, route, str(status), kind): 1}
    result = "error" if kind else "ok"
    assert points("entry_duration_seconds") == {("http", f"{method} {route}", result): 1}
    assert points(ACTIVE) == {(method,): 0}
    assert swallowed_errors() == 0


@pytest.mark.parametrize(
    ("path", "method", "sent", "answered"),
    [
        ("/echo", "POST", b"12345", 5),
        ("/echo", "PUT", [b"123", b"456"], 6),
        ("/streams", "GET", None, 12),
        ("/streams_and_raises", "GET", None, 4),
        ("/static/page.txt", "GET", None, 4),
        ("/static/page.txt", "HEAD", None, 0),
        ("/items/one", "GET", None, len("404: Not Found")),
    ],
)
def test_bytes_are_counted_as_they_pass(
    path: str, method: str, sent: Any, answered: int, apps: Any, tmp_path: Path, metrics: Metrics
) -> None:
    """Those of bodies with and without a known length, and of files that the system sends."""

    async def parts() -> Any:
        for part in sent:
            yield part

    async def ask(client: Any) -> None:
        data = parts() if isinstance(sent, list) else sent
        async with client.request(method, path, data=data) as response:
            with suppress(OSError, importlib.import_module("aiohttp").ClientError):
                await response.read()

    install("aiohttp_server", body_sizes=True)
    asyncio.run(_with_client(apps.application(tmp_path), ask))
    reading = metrics.read()
    received: Sequence[Any] = reading.family("http_server_request_body_size_bytes").values
    assert [value.sum for value in received] == [
        len(b"".join(sent)) if isinstance(sent, list) else len(sent or b"")
    ]
    answers: Sequence[Any] = reading.family("http_server_response_body_size_bytes").values
    assert [value.sum for value in answers] == [answered]
    assert swallowed_errors() == 0


def test_the_duration_ends_with_the_last_byte(web: Any, metrics: Metrics) -> None:
    """What a handler does after it has ended the answer does not count."""
    done = asyncio.Event()
    seconds = 0.2

    async def handler(request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write_eof(b"all")
        await asyncio.sleep(seconds)
        done.set()
        return response

    async def ask(client: Any) -> None:
        async with client.get("/") as response:
            await response.read()
        await done.wait()

    app = web.Application()
    app.router.add_get("/", handler)
    install("aiohttp_server")
    asyncio.run(_with_client(app, ask))
    values: Sequence[Any] = metrics.read().family(DURATIONS).values
    assert [histogram.sum < seconds for histogram in values] == [True]


@pytest.mark.parametrize("handler_cancellation", [False, True])
def test_a_client_that_is_gone(handler_cancellation: bool, apps: Any, points: Points) -> None:
    """A request is cancelled whose client closes the connection, whatever the handler sees."""

    async def serve_and_leave() -> None:
        web, ended = apps.web, asyncio.Event()
        app = web.Application()
        app.router.add_get("/endless", apps.endless(ended))
        runner = web.AppRunner(app, handler_cancellation=handler_cancellation)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET /endless HTTP/1.1\r\nHost: shop\r\n\r\n")
        await reader.readexactly(1_000)
        writer.close()
        await ended.wait()
        await runner.cleanup()

    install("aiohttp_server")
    asyncio.run(serve_and_leave())
    assert points(DURATIONS) == {("GET", "/endless", "200", "cancelled"): 1}


def test_bad_requests_are_requests(web: Any, points: Points) -> None:
    """What is no HTTP is answered with status 400, and counts as an unknown method."""

    async def ask(client: Any) -> None:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"BAD\r\n\r\n")
        await reader.read()
        writer.close()

    install("aiohttp_server")
    asyncio.run(_with_client(web.Application(), ask))
    assert points(DURATIONS) == {("_OTHER", "<unmatched>", "400", ""): 1}


def test_a_low_level_server_has_no_routes(web: Any, points: Points) -> None:
    """Requests of a server without an application are measured, too."""
    utilities = importlib.import_module("aiohttp.test_utils")

    async def handler(request: Any) -> Any:
        return web.Response(text="hello")

    async def ask() -> None:
        server = utilities.RawTestServer(handler)
        async with utilities.TestClient(server) as client, client.get("/any") as response:
            assert await response.text() == "hello"

    install("aiohttp_server")
    asyncio.run(ask())
    assert points(DURATIONS) == {("GET", "<unmatched>", "200", ""): 1}


def test_excluded_paths_are_not_measured(apps: Any, tmp_path: Path, points: Points) -> None:
    """Paths that are excluded are answered, also a WebSocket, and not measured."""
    install("aiohttp_server", exclude=["/", "/live/*"])
    app = apps.application(tmp_path)

    async def work(client: Any) -> None:
        async with client.get("/") as response:
            assert await response.text() == ""
        async with client.ws_connect("/live/tea") as socket:
            await socket.send_str("red")
            assert (await socket.receive()).data == ""

    asyncio.run(_with_client(app, work))
    assert points(DURATIONS) == {}
    assert points(MESSAGES) == {}


@pytest.mark.parametrize(
    ("message", "kind", "out"),
    [
        ("red", "", 1),
        ("json", "", 1),
        ("pushes", "", 2),
        ("silent", "", 0),
        ("close", "", 0),
        ("raise", "ZeroDivisionError", 0),
    ],
)
def test_a_message_of_a_websocket_is_a_duration(
    message: str, kind: str, out: int, apps: Any, tmp_path: Path, points: Points
) -> None:
    """However a message ends, it is one duration by route and event, and the handshake another."""
    install("aiohttp_server", event_of=lambda data: data)

    async def work(client: Any) -> None:
        async with client.ws_connect("/live/tea") as socket:
            await socket.send_str(message)
            if message == "red":
                assert (await socket.receive()).data == "/live/{room} red"
            if message == "raise":
                await socket.receive()
            await socket.close()

    asyncio.run(_with_client(apps.application(tmp_path), work))
    route = "/live/{room}"
    assert points(MESSAGE_DURATIONS) == {(route, message, kind): 1}
    sent = {(route, "transmit"): float(out)} if out else {}
    assert points(MESSAGES) == {(route, "receive"): 1, **sent}
    assert points(CONNECTIONS) == {(route,): 0}
    assert points(DURATIONS) == {("GET", route, "101", ""): 1}
    assert swallowed_errors() == 0


def test_connections_are_open_until_they_are_closed(
    apps: Any, tmp_path: Path, points: Points
) -> None:
    """Several connections at once are all counted while they are open."""
    install("aiohttp_server")

    async def work(client: Any) -> None:
        sockets = [await client.ws_connect("/live/tea") for _ in range(3)]
        for socket in sockets:
            await socket.send_str("red")
            await socket.receive()
        assert points(CONNECTIONS) == {("/live/{room}",): 3}
        for socket in sockets:
            await socket.close()

    asyncio.run(_with_client(apps.application(tmp_path), work))
    assert points(CONNECTIONS) == {("/live/{room}",): 0}
    assert points(MESSAGES) == {("/live/{room}", "receive"): 3, ("/live/{room}", "transmit"): 3}


def test_uninstalling_leaves_the_classes_as_they_were(
    apps: Any, tmp_path: Path, points: Points
) -> None:
    """The classes are identical to those before, and nothing is measured."""
    web = apps.web
    classes = (web.RequestHandler, web.UrlDispatcher, web.StreamResponse, web.WebSocketResponse)
    before = [dict(vars(each)) for each in classes]
    install("aiohttp_server")
    uninstall("aiohttp_server")
    assert [dict(vars(each)) for each in classes] == before
    assert _ask(apps.application(tmp_path), "/") == 200
    assert points(DURATIONS) == {}
