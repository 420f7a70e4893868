"""Starlette and FastAPI: the route of every request, and how it ended."""

from __future__ import annotations

import asyncio
import importlib
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.integrations import install, installed, uninstall

from ..real.workers.programs import run_until
from .asgi_calls import DISCONNECT, REQUEST, call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hypertrace.metrics import Metrics

    from ..running import Clock

    Points = Callable[[str], dict[tuple[str, ...], float]]

DURATIONS = "http_server_request_duration_seconds"
ACTIVE = "http_server_active_requests"
UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.fixture
def apps(library: Callable[[str], Any]) -> Any:
    """Give the module with the applications."""
    library("fastapi")
    return importlib.import_module("..starlette_apps", __name__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a file."""
    (tmp_path / "page.txt").write_text("page")
    return tmp_path


def get(application: Any, path: str, **scope: Any) -> int:
    """Ask for a path, and return the status of the answer."""
    sent = asyncio.run(call(application, path=path, **scope))
    status: int = next(each["status"] for each in sent if "status" in each)
    return status


@pytest.mark.parametrize(
    ("path", "scope", "route", "status"),
    [
        ("/", {}, "/", 200),
        ("/items/1", {}, "/items/{id:int}", 200),
        ("/names/ada", {}, "/names/{name}", 200),
        ("/files/a/b/c", {}, "/files/{path:path}", 200),
        (f"/class/{UUID}", {}, "/class/{key:uuid}", 200),
        (f"/class/{UUID}", {"method": "DELETE"}, "/class/{key:uuid}", 405),
        ("/items/1", {"method": "HEAD"}, "/items/{id:int}", 200),
        ("/post", {}, "/post", 405),
        ("/post", {"method": "OPTIONS"}, "/post", 405),
        ("/slash", {}, "<unmatched>", 307),
        ("/nowhere", {}, "<unmatched>", 404),
        ("/items/one", {}, "<unmatched>", 404),
        ("/handled", {}, "/handled", 409),
        ("/streams", {}, "/streams", 200),
        ("/file", {}, "/file", 200),
        ("/nested/a/leaf/b", {}, "/nested/{area}/leaf/{name}", 200),
        ("/nested/a/deeper/1/leaf", {}, "/nested/{area}/deeper/{key:int}/leaf", 200),
        ("/nested/a/deeper/1/", {}, "/nested/{area}/deeper/{key:int}/", 200),
        ("/nested/a/nowhere", {}, "<unmatched>", 404),
        ("/inner/page/1", {}, "/inner/page/{id:int}", 200),
        ("/inner/nowhere", {}, "<unmatched>", 404),
        ("/wrapped/page/1", {}, "/wrapped/page/{id:int}", 200),
        ("/wrapped/nowhere", {}, "/wrapped/{path:path}", 404),
        ("/static/page.txt", {}, "/static/{path:path}", 200),
        ("/static/nowhere.txt", {}, "/static/{path:path}", 404),
        ("/basket/1", {"headers": [(b"host", b"tea.example.org")]}, "/basket/{id:int}", 200),
        ("/grouped/1", {}, "/grouped/{id}", 200),
        ("/proxy/items/1", {"root_path": "/proxy"}, "/items/{id:int}", 200),
    ],
)
def test_the_route_of_starlette_is_the_template(
    path: str,
    scope: dict[str, Any],
    route: str,
    status: int,
    apps: Any,
    folder: Path,
    points: Points,
) -> None:
    """The route is as it stands in the code, below mounts, whatever the answer is."""
    install("starlette")
    assert get(apps.starlette_app(folder), path, **scope) == status
    method = scope.get("method", "GET")
    assert points(DURATIONS) == {(method, route, str(status), ""): 1}
    assert points("entry_duration_seconds") == {("http", f"{method} {route}", "ok"): 1}
    assert points(ACTIVE) == {(method,): 0}
    assert swallowed_errors() == 0


@pytest.mark.parametrize(
    ("path", "scope", "route", "status"),
    [
        ("/items/1", {}, "/items/{id}", 200),
        ("/items/one", {}, "/items/{id}", 422),
        ("/items/1", {"method": "POST"}, "/items/{id}", 405),
        ("/items/1/", {}, "<unmatched>", 307),
        ("/refused", {}, "/refused", 403),
        ("/api/branch/a", {}, "/api/branch/{name}", 200),
        ("/api/branch/a/leaf/1", {}, "/api/branch/{name}/leaf/{id:int}", 200),
        ("/again/leaf/1", {}, "/again/leaf/{id:int}", 200),
        ("/again/leaf/1", {"method": "PUT"}, "/again/leaf/{id:int}", 405),
        ("/mounted/t/branch/a/leaf/1", {}, "/mounted/{tenant}/branch/{name}/leaf/{id:int}", 200),
        ("/mounted/t/nowhere", {}, "<unmatched>", 404),
        ("/openapi.json", {}, "/openapi.json", 200),
        ("/nowhere", {}, "<unmatched>", 404),
    ],
)
def test_the_route_of_fastapi_is_the_template(
    path: str, scope: dict[str, Any], route: str, status: int, apps: Any, points: Points
) -> None:
    """The route has the prefixes of the routers that include it, also if several do."""
    install("fastapi")
    assert get(apps.fastapi_app(), path, **scope) == status
    assert points(DURATIONS) == {(scope.get("method", "GET"), route, str(status), ""): 1}
    assert swallowed_errors() == 0


def test_a_folder_with_a_frontend_is_a_route(apps: Any, folder: Path, points: Points) -> None:
    """The files of a frontend, which newer releases of FastAPI serve, are one route."""
    app, router = apps.FastAPI(), apps.APIRouter(prefix="/shop")
    if not hasattr(app, "frontend"):
        pytest.skip("this FastAPI serves no frontend")
    router.frontend("/ui", directory=folder)
    app.include_router(router, prefix="/v1")
    install("fastapi")
    assert get(app, "/v1/shop/ui/page.txt") == 200
    assert points(DURATIONS) == {("GET", "/v1/shop/ui/{path:path}", "200", ""): 1}


def test_ten_thousand_unknown_paths_are_one_series(apps: Any, folder: Path, points: Points) -> None:
    """Paths without a route, and parameters of one, make no more series."""
    install("starlette")
    app = apps.starlette_app(folder)

    async def flood() -> None:
        for number in range(5_000):
            await call(app, path=f"/unknown/{number}")
            await call(app, path=f"/items/{number}")

    asyncio.run(flood())
    assert points(DURATIONS) == {
        ("GET", "<unmatched>", "404", ""): 5_000,
        ("GET", "/items/{id:int}", "200", ""): 5_000,
    }


@pytest.mark.parametrize("handler", [False, True], ids=["page", "handler"])
@pytest.mark.parametrize("middleware", [False, True], ids=["plain", "middleware"])
def test_an_exception_is_named_once(
    handler: bool, middleware: bool, apps: Any, folder: Path, points: Points
) -> None:
    """An exception is status 500 with its name, whichever page answers it."""
    app = apps.starlette_app(folder)
    if handler:
        app.add_exception_handler(500, apps.answers_all)
    if middleware:
        apps.add_middleware(app)
    install("starlette")
    assert get(app, "/raises") == 500
    assert get(app, "/inner/raises") == 500
    assert points(DURATIONS) == {
        ("GET", "/raises", "500", "ZeroDivisionError"): 1,
        ("GET", "/inner/raises", "500", "ZeroDivisionError"): 1,
    }
    assert points("entry_duration_seconds") == {
        ("http", "GET /raises", "error"): 1,
        ("http", "GET /inner/raises", "error"): 1,
    }


def test_middleware_answers_and_raises(apps: Any, folder: Path, points: Points) -> None:
    """What a middleware answers has no route; what it raises is an error as another."""
    app = apps.starlette_app(folder)
    apps.add_middleware(app)
    install("starlette")
    assert get(app, "/items/1", headers=[(b"x-refuse", b"1")]) == 401
    assert get(app, "/items/1", headers=[(b"x-raise", b"1")]) == 500
    assert points(DURATIONS) == {
        ("GET", "<unmatched>", "401", ""): 1,
        ("GET", "<unmatched>", "500", "ZeroDivisionError"): 1,
    }


def test_an_exception_in_the_middle_of_an_answer(apps: Any, folder: Path, points: Points) -> None:
    """The status is the one that was sent, and the exception is the type of error."""
    install("starlette")
    assert get(apps.starlette_app(folder), "/streams-and-raises") == 200
    assert points(DURATIONS) == {("GET", "/streams-and-raises", "200", "ZeroDivisionError"): 1}


@pytest.mark.parametrize("middleware", [False, True], ids=["plain", "middleware"])
def test_background_tasks_do_not_count(
    middleware: bool, apps: Any, metrics: Metrics, span_clock: Clock
) -> None:
    """The duration ends with the answer, and what a task does and raises after it is no part."""

    async def work() -> None:
        span_clock.now += 100
        raise ZeroDivisionError

    app = apps.Starlette(routes=[apps.Route("/job", apps.with_background(work))])
    if middleware:
        apps.add_middleware(app)
    install("starlette")
    assert get(app, "/job") == 200
    family = metrics.read().family(DURATIONS)
    values: Sequence[Any] = family.values
    assert [point.labels for point in family.points] == [("GET", "/job", "200", "")]
    assert [histogram.sum for histogram in values] == [0]
    assert swallowed_errors() == 0


def test_a_client_that_is_gone_cancels_a_stream(apps: Any, points: Points) -> None:
    """Starlette ends the stream when it receives that the client is gone."""
    app = apps.Starlette(routes=[apps.Route("/endless", apps.endless)])
    install("starlette")
    asyncio.run(call(app, [REQUEST, DISCONNECT], path="/endless"))
    assert points(DURATIONS) == {("GET", "/endless", "200", "cancelled"): 1}
    assert points(ACTIVE) == {("GET",): 0}


def test_a_cancelled_request(apps: Any, folder: Path, points: Points) -> None:
    """A request whose task is cancelled, as by a server that ends, is cancelled."""
    app = apps.Starlette(routes=[apps.Route("/endless", apps.endless)])
    install("starlette")

    async def cancelled() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(call(app, path="/endless", sending=lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert points(DURATIONS) == {("GET", "/endless", "200", "cancelled"): 1}


def test_routes_of_other_classes(apps: Any, points: Points) -> None:
    """A class of routes of the application has the route that its `path` says."""
    routing = importlib.import_module("starlette.routing")

    class Own(routing.Route):  # type: ignore[misc, name-defined]
        async def handle(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    app = apps.Starlette(routes=[apps.Mount("/own/{a}", routes=[Own("/{b}", apps.hello)])])
    install("starlette")
    assert get(app, "/own/1/2") == 200
    assert points(DURATIONS) == {("GET", "/own/{a}/{b}", "200", ""): 1}


def test_websockets_have_routes(apps: Any, folder: Path, points: Points) -> None:
    """Connections and messages have the template of their route, one that is included too."""
    install("fastapi", event_of=lambda data: data)
    messages: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "red"},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    starlette, fastapi = apps.starlette_app(folder), apps.fastapi_app()
    with suppress(Exception):  # FastAPI's handler ends with the disconnect
        asyncio.run(call(starlette, messages, type="websocket", path="/echo/tea"))
    with suppress(Exception):
        asyncio.run(call(fastapi, messages, type="websocket", path="/api/branch/a/leaf/live"))
    asyncio.run(call(starlette, messages, type="websocket", path="/nowhere"))
    included = "/api/branch/{name}/leaf/live"
    assert points("websocket_server_message_duration_seconds") == {
        ("/echo/{room}", "red", ""): 1,
        (included, "red", ""): 1,
    }
    assert points("websocket_server_active_connections") == {("/echo/{room}",): 0, (included,): 0}
    assert points(DURATIONS) == {
        ("GET", "/echo/{room}", "101", ""): 1,
        ("GET", included, "101", ""): 1,
        ("GET", "<unmatched>", "403", ""): 1,
    }


def test_applications_made_before_and_after_are_measured(apps: Any, points: Points) -> None:
    """Installing measures all applications; uninstalling leaves the classes as they were."""
    routing = importlib.import_module("fastapi.routing")
    classes = [apps.Starlette, apps.Route, apps.WebSocketRoute, apps.Mount, apps.Host]
    frontends = vars(routing).get("_FrontendRouteGroup", apps.FastAPI)
    classes += [routing.APIRoute, frontends]
    before = [dict(vars(each)) for each in classes]
    app = apps.fastapi_app()
    get(app, "/items/1")
    install("fastapi")
    install("starlette")
    assert installed() == {"starlette": True}
    get(app, "/items/1")
    get(apps.fastapi_app(), "/api/branch/a")
    uninstall("fastapi")
    assert [dict(vars(each)) for each in classes] == before
    get(app, "/items/1")
    assert points(DURATIONS) == {
        ("GET", "/items/{id}", "200", ""): 1,
        ("GET", "/api/branch/{name}", "200", ""): 1,
    }


@contextmanager
def _served(application: Any) -> Iterator[tuple[str, int]]:
    """Serve an application with uvicorn in a thread, and give its address."""
    uvicorn = importlib.import_module("uvicorn")
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        run_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join()


def _ask(address: tuple[str, int], path: str, *, most: int = -1) -> bytes:
    """Ask for a path over a new connection, and close it after some bytes, or at the end."""
    with socket.create_connection(address) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while (most < 0 or len(answer) < most) and (part := connection.recv(4_096)):
            answer += part
        return answer


def test_real_connections(
    apps: Any, folder: Path, library: Callable[[str], Any], points: Points
) -> None:
    """Over sockets: a page, a file, events, an error, and a client that closes its connection."""
    library("uvicorn")
    app = apps.starlette_app(folder)
    app.router.routes.insert(0, apps.Route("/endless", apps.endless))
    install("starlette")
    with _served(app) as address:
        assert _ask(address, "/items/1").endswith(b"hello")
        assert _ask(address, "/static/page.txt").endswith(b"page")
        assert b"data: 2" in _ask(address, "/streams")
        assert b"500 Internal" in _ask(address, "/raises")
        assert len(_ask(address, "/endless", most=10_000)) >= 10_000
        run_until(lambda: points(ACTIVE) == {("GET",): 0})
    assert points(DURATIONS) == {
        ("GET", "/items/{id:int}", "200", ""): 1,
        ("GET", "/static/{path:path}", "200", ""): 1,
        ("GET", "/streams", "200", ""): 1,
        ("GET", "/raises", "500", "ZeroDivisionError"): 1,
        ("GET", "/endless", "200", "cancelled"): 1,
    }
    assert swallowed_errors() == 0


FILES = (
    *("applications", "authentication", "background", "endpoints", "exceptions", "requests"),
    *("responses", "routing", "staticfiles", "websockets"),
)


def test_the_tests_of_the_library_pass(
    library: Callable[[str], Any], sources: Callable[[str], Path], run_suite: Callable[..., int]
) -> None:
    """Those of its source distribution that call applications, with the integration installed."""
    library("starlette")
    measured = run_suite(
        sources("starlette"),
        "'starlette', body_sizes=True, native=True, event_of=str",
        "http_server_request_duration_seconds",
        *("-k", "not trio and not dir_permissions"),  # the superuser may read all
        *("tests/middleware", *(f"tests/test_{name}.py" for name in FILES)),
    )
    assert measured > 200
