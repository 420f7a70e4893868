"""httpx: bodies, transports, hooks, pools and tasks of its clients."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.integrations import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.metrics import Metrics

    from .http_peers import Server

    Points = Callable[[str], dict[tuple[str, ...], float]]

REQUESTS = "http_client_request_duration_seconds"
ACTIVE = "http_client_active_requests"
HOST = "127.0.0.1"


@pytest.fixture
def httpx(library: Callable[[str], Any], metrics: Metrics) -> Any:
    """Give the library, whose integration is installed."""
    found = library("httpx")
    install("httpx")
    return found


def test_a_streamed_body_is_part_of_the_request(httpx: Any, server: Server, points: Points) -> None:
    """A request is under way until its body is closed, read or not."""
    labels = "GET", HOST, server.port
    with httpx.Client() as client:
        for read in (True, False):
            with client.stream("GET", server.url("/chunks")) as response:
                assert points(ACTIVE) == {labels: 1}
                if read:
                    assert b"".join(response.iter_bytes()) == b"hello" * 3
            assert points(ACTIVE) == {labels: 0}
    assert points(REQUESTS) == server.by_labels()


def test_an_asynchronous_body_is_part_of_the_request(
    httpx: Any, server: Server, points: Points
) -> None:
    """The same holds for an asynchronous client."""
    labels = "GET", HOST, server.port

    async def run() -> None:
        async with httpx.AsyncClient() as client:
            for read in (True, False):
                async with client.stream("GET", server.url("/chunks")) as response:
                    assert points(ACTIVE) == {labels: 1}
                    if read:
                        assert await response.aread() == b"hello" * 3
                assert points(ACTIVE) == {labels: 0}

    asyncio.run(run())
    assert points(REQUESTS) == server.by_labels()


def test_a_body_that_is_dropped_ends_the_request(
    httpx: Any, server: Server, points: Points
) -> None:
    """A response that the application neither reads nor closes ends when it is gone."""
    with httpx.Client() as client:
        response = client.send(client.build_request("GET", server.url("/large")), stream=True)
        assert points(REQUESTS) == {}
        del response
        gc.collect()
        assert points(REQUESTS) == server.by_labels()
    assert set(points(ACTIVE).values()) == {0}


def test_a_client_may_be_closed_before_its_responses(
    httpx: Any, server: Server, points: Points
) -> None:
    """A response of a client that is closed ends when it is closed itself."""
    client = httpx.Client()
    response = client.send(client.build_request("GET", server.url("/large")), stream=True)
    client.close()
    response.close()
    assert points(REQUESTS) == server.by_labels()


def test_transports_for_tests_are_measured(httpx: Any, points: Points) -> None:
    """Requests that reach no network count by their host."""

    def answer(request: Any) -> Any:
        return httpx.Response(503, text="busy")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            assert (await client.get("http://in.process/")).status_code == 204

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert client.get("https://user:word@mock.test/a?b=c").text == "busy"
    asyncio.run(run())
    assert points(REQUESTS) == {
        ("mock.test", "443", "GET", "503", "503"): 1,
        ("in.process", "80", "GET", "204", ""): 1,
    }


def test_what_a_transport_raises_is_passed_on(httpx: Any, points: Points) -> None:
    """An exception is the application's, with its name in the metric."""
    failure = LookupError("of the application")

    def fail(request: Any) -> Any:
        raise failure

    with httpx.Client(transport=httpx.MockTransport(fail)) as client:
        with pytest.raises(LookupError) as caught:
            client.get("http://mock.test/")
        assert caught.value is failure
    assert points(REQUESTS) == {("mock.test", "80", "GET", "", "LookupError"): 1}


def test_hooks_may_raise(httpx: Any, server: Server, points: Points) -> None:
    """A request that was answered counts with its status, also if a hook raises then."""

    def check(response: Any) -> None:
        response.raise_for_status()

    with httpx.Client(event_hooks={"response": [check]}) as client:
        with pytest.raises(httpx.HTTPStatusError):
            client.get(server.url("/status/404"))
        assert points(REQUESTS) == server.by_labels()

    with httpx.Client(event_hooks={"request": [check]}) as client, pytest.raises(AttributeError):
        client.get(server.url())
    assert points(REQUESTS) == server.by_labels()
    assert set(points(ACTIVE).values()) == {0}


def test_a_hook_may_send_requests(metrics: Metrics, server: Server, points: Points) -> None:
    """A request inside another is one, also where redirects are grouped."""
    httpx = pytest.importorskip("httpx")
    install("httpx", group_redirects=True)

    def ask(request: Any) -> None:
        if request.url.path != "/status/201":
            httpx.get(server.url("/status/201"))

    with httpx.Client(event_hooks={"request": [ask]}, follow_redirects=True) as client:
        client.get(server.url("/redirect/1"))
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "201", ""): 2,
        (HOST, server.port, "GET", "200", ""): 1,
    }


def test_steps_of_authentication_are_requests(httpx: Any, server: Server, points: Points) -> None:
    """Each request that an authentication needs counts."""

    class Twice(httpx.Auth):  # type: ignore[misc]  # httpx loads late
        def auth_flow(self, request: Any) -> Iterator[Any]:
            yield request
            yield request

    httpx.get(server.url(), auth=Twice())
    assert server.answered["GET", 200] == 2
    assert points(REQUESTS) == server.by_labels()


def test_a_cancelled_task_is_cancelled(httpx: Any, server: Server, points: Points) -> None:
    """A request whose task is cancelled ends, and is no error of the server."""

    async def run() -> None:
        async with httpx.AsyncClient() as client:
            task = asyncio.create_task(client.get(server.url("/wait")))
            await asyncio.to_thread(server.arrived.acquire)
            assert points(ACTIVE) == {("GET", HOST, server.port): 1}
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert points(REQUESTS) == {(HOST, server.port, "GET", "", "CancelledError"): 1}
    assert set(points(ACTIVE).values()) == {0}
    assert swallowed_errors() == 0


def test_a_full_pool_is_a_timeout(httpx: Any, server: Server, points: Points) -> None:
    """A request that got no connection of the pool in time has reached no server."""
    limits = httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(30, pool=0.05)
    with (
        httpx.Client(limits=limits, timeout=timeout) as client,
        client.stream("GET", server.url("/large")),
        pytest.raises(httpx.PoolTimeout),
    ):
        client.get(server.url())
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "", "timeout"): 1,
        (HOST, server.port, "GET", "200", ""): 1,
    }


def test_concurrent_tasks_are_counted(httpx: Any, server: Server, points: Points) -> None:
    """Requests of tasks that share a client do not mix."""

    async def run() -> None:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            paths = ["/ok", "/status/404", "/redirect/2"] * 10
            await asyncio.gather(*(client.get(server.url(path)) for path in paths))

    asyncio.run(run())
    assert sum(server.answered.values()) == 50
    assert points(REQUESTS) == server.by_labels()


def test_a_response_can_be_pickled(httpx: Any, server: Server) -> None:
    """What is in a response is the application's alone."""
    assert pickle.loads(pickle.dumps(httpx.get(server.url()))).text == "hello"


def test_the_body_of_a_client_fits_it(httpx: Any, server: Server) -> None:
    """A body is of the class that the client needs, and fails when it is read twice."""
    with httpx.Client() as client:
        with client.stream("GET", server.url("/chunks")) as response:
            assert isinstance(response.stream, httpx.SyncByteStream)
            assert next(response.iter_raw()) == b"hello"
            with pytest.raises(httpx.StreamConsumed):
                response.read()
        assert response.elapsed.total_seconds() > 0


FILES = (
    *("client/test_async_client", "client/test_auth", "client/test_cookies"),
    *("client/test_redirects", "test_api", "test_asgi", "test_timeouts", "test_wsgi"),
)


def test_the_tests_of_the_library_pass(
    library: Callable[[str], Any], sources: Callable[[str], Path], run_suite: Callable[..., int]
) -> None:
    """Those of its source distribution that send requests, with the integration installed."""
    library("httpx")
    folder = sources("httpx")
    # It is for trio, too.
    (folder / "tests" / "concurrency.py").write_text("from asyncio import sleep\n")
    measured = run_suite(
        folder,
        "'httpx'",
        REQUESTS,
        *("-o", "filterwarnings=default"),
        # The others need extras of httpx.
        *("-k", "not trio and not asgi_headers and not server_extensions"),
        *("--deselect", "tests/client/test_async_client.py::test_get"),
        *(f"tests/{name}.py" for name in FILES),
    )
    assert measured > 100
