"""aiohttp: bodies, time-outs, tasks and connectors of its client sessions."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.integrations import install

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hypertrace.metrics import Metrics

    from .http_peers import Server

    Points = Callable[[str], dict[tuple[str, ...], float]]

REQUESTS = "http_client_request_duration_seconds"
ACTIVE = "http_client_active_requests"
HOST = "127.0.0.1"


@pytest.fixture
def aiohttp(library: Callable[[str], Any], metrics: Metrics) -> Any:
    """Give the library, whose integration is installed."""
    found = library("aiohttp")
    install("aiohttp_client")
    return found


def _with_session(
    aiohttp: Any, run: Callable[[Any], Coroutine[Any, Any, object]], **options: Any
) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession(**options) as session:
            await run(session)

    asyncio.run(main())
    assert swallowed_errors() == 0


def test_a_body_is_part_of_the_request(aiohttp: Any, server: Server, points: Points) -> None:
    """A request is under way until its body is received, released or closed."""
    labels = "GET", HOST, server.port

    async def run(session: Any) -> None:
        for end in ("read", "release", "close"):
            response = await session.get(server.url("/large"))
            assert points(ACTIVE) == {labels: 1}
            if end == "read":
                assert len(await response.read()) == 4_000_000
            else:
                getattr(response, end)()
            assert points(ACTIVE) == {labels: 0}

    _with_session(aiohttp, run)
    assert points(REQUESTS) == server.by_labels()


@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")  # as it should
def test_a_body_that_is_dropped_ends_with_the_connection(
    aiohttp: Any, server: Server, points: Points
) -> None:
    """A response that the application neither reads nor closes is held by its connection."""

    async def run(session: Any) -> None:
        await session.get(server.url("/large"))

    _with_session(aiohttp, run)
    gc.collect()
    assert points(REQUESTS) == server.by_labels()
    assert set(points(ACTIVE).values()) == {0}


def test_a_cancelled_task_is_cancelled(aiohttp: Any, server: Server, points: Points) -> None:
    """A request whose task is cancelled ends, before or after its answer has begun."""

    async def read(session: Any, path: str) -> None:
        async with session.get(server.url(path)) as response:
            server.arrived.release()
            await response.read()

    async def run(session: Any) -> None:
        for path in ("/wait", "/half"):
            task = asyncio.create_task(read(session, path))
            await asyncio.to_thread(server.arrived.acquire)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    _with_session(aiohttp, run)
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "", "CancelledError"): 1,
        (HOST, server.port, "GET", "200", "CancelledError"): 1,
    }
    assert set(points(ACTIVE).values()) == {0}


def test_the_error_of_another_request_is_none(aiohttp: Any, server: Server, points: Points) -> None:
    """A response that is closed while the error of another one is handled has no error."""

    async def run(session: Any) -> None:
        async with session.get(server.url("/large")), session.get(server.url("/torn")) as torn:
            await torn.read()

    with pytest.raises(aiohttp.ClientPayloadError):
        _with_session(aiohttp, run)
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "200", "ClientPayloadError"): 1,
        (HOST, server.port, "GET", "200", ""): 1,
    }


def test_each_timeout_is_one(aiohttp: Any, server: Server, points: Points) -> None:
    """The whole, the wait for bytes and that for a connection of the pool are time-outs."""

    async def run(session: Any) -> None:
        for path, options in (
            ("/wait", {"total": 0.05}),
            ("/half", {"total": 0.05}),
            ("/wait", {"sock_read": 0.05}),
            ("/half", {"sock_read": 0.05}),
        ):
            with pytest.raises(asyncio.TimeoutError):
                async with session.get(
                    server.url(path), timeout=aiohttp.ClientTimeout(**options)
                ) as response:
                    await response.read()

    async def wait(session: Any) -> None:
        async with session.get(server.url("/large")):
            with pytest.raises(asyncio.TimeoutError):
                await session.get(server.url(), timeout=aiohttp.ClientTimeout(connect=0.05))

    async def both(session: Any) -> None:
        await run(session)
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as narrow:
            await wait(narrow)

    _with_session(aiohttp, both)
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "", "timeout"): 3,
        (HOST, server.port, "GET", "200", "timeout"): 2,
        (HOST, server.port, "GET", "200", ""): 1,
    }
    assert set(points(ACTIVE).values()) == {0}


def test_concurrent_tasks_are_counted(aiohttp: Any, server: Server, points: Points) -> None:
    """Requests of tasks that share a session do not mix."""

    async def read(session: Any, path: str) -> None:
        async with session.get(server.url(path)) as response:
            await response.read()

    async def run(session: Any) -> None:
        paths = ["/ok", "/status/404", "/redirect/2"] * 10
        await asyncio.gather(*(read(session, path) for path in paths))

    _with_session(aiohttp, run)
    assert sum(server.answered.values()) == 50
    assert points(REQUESTS) == server.by_labels()


def test_a_status_may_be_raised(aiohttp: Any, server: Server, points: Points) -> None:
    """A response that the session makes an exception of counts with its status."""

    async def run(session: Any) -> None:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(server.url("/status/404"))

    _with_session(aiohttp, run, raise_for_status=True)
    assert points(REQUESTS) == server.by_labels()


def test_middlewares_are_the_applications(aiohttp: Any, server: Server, points: Points) -> None:
    """A request that a middleware sends twice counts twice; what it answers itself does not."""

    async def twice(request: Any, handler: Any) -> Any:
        response = await handler(request)
        response.release()
        return await handler(request)

    async def run(session: Any) -> None:
        async with session.get(server.url(), middlewares=(twice,)) as response:
            assert await response.read() == b"hello"

    _with_session(aiohttp, run)
    assert server.answered["GET", 200] == 2
    assert points(REQUESTS) == server.by_labels()


def test_tracing_of_the_application_goes_on(aiohttp: Any, server: Server, points: Points) -> None:
    """A `TraceConfig` gets its signals."""
    seen = []
    config = aiohttp.TraceConfig()

    async def start(session: Any, context: Any, params: Any) -> None:
        seen.append(params.method)

    config.on_request_start.append(start)

    async def run(session: Any) -> None:
        async with session.get(server.url()) as response:
            await response.read()

    _with_session(aiohttp, run, trace_configs=[config])
    assert seen == ["GET"]
    assert points(REQUESTS) == server.by_labels()


def test_classes_of_the_application_may_refuse_attributes(
    aiohttp: Any, server: Server, points: Points
) -> None:
    """A request to which nothing can be attached is sent, and counts without its answer."""

    class Strict(aiohttp.ClientRequest):  # type: ignore[misc]  # aiohttp loads late
        def __setattr__(self, name: str, value: object) -> None:
            if "hypertrace" in name:
                raise AttributeError(name)
            super().__setattr__(name, value)

    async def main() -> None:
        async with (
            aiohttp.ClientSession(request_class=Strict) as session,
            session.get(server.url()) as response,
        ):
            assert await response.read() == b"hello"

    asyncio.run(main())
    assert points(REQUESTS) == {(HOST, server.port, "GET", "", ""): 1}
    assert swallowed_errors() == 1


def test_the_handshake_of_a_websocket_is_a_request(aiohttp: Any, points: Points) -> None:
    """It ends with the answer to it, however long the socket is open."""
    from aiohttp import web

    async def echo(request: Any) -> Any:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def run(session: Any) -> None:
        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        port = runner.addresses[0][1]
        async with session.ws_connect(f"http://{HOST}:{port}/") as socket:
            assert points(REQUESTS) == {(HOST, str(port), "GET", "101", ""): 1}
            await socket.send_str("a")
            assert await socket.receive_str() == "a"
        await runner.cleanup()

    _with_session(aiohttp, run)
