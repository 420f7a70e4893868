"""ASGI applications: requests and WebSockets, in all ways in which they can end."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import clear_trace_function, set_trace_function, swallowed_errors
from hypertrace._operations import current_entry
from hypertrace.integrations.asgi import trace_asgi

from .asgi_calls import DISCONNECT, REQUEST, body, call, scope_of, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hypertrace.metrics import Metrics

    from ..running import Clock

    Points = Callable[[str], dict[tuple[str, ...], float]]
    Application = Callable[[Any, Any, Any], Awaitable[None]]

DURATIONS = "http_server_request_duration_seconds"
ACTIVE = "http_server_active_requests"
MESSAGES = "websocket_server_messages_total"
MESSAGE_DURATIONS = "websocket_server_message_duration_seconds"
CONNECTIONS = "websocket_server_active_connections"

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 1000}
CONNECT = {"type": "websocket.connect"}
GONE = {"type": "websocket.disconnect", "code": 1006}


def active(points: Points, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a gauge, none before its first change."""
    try:
        return points(name)
    except KeyError:
        return {}


def text(data: str) -> dict[str, Any]:
    """Return a message that comes in."""
    return {"type": "websocket.receive", "text": data}


def answer(data: str = "done") -> dict[str, Any]:
    """Return a message that goes out."""
    return {"type": "websocket.send", "text": data}


def sum_of(metrics: Metrics) -> float:
    """Return the sum of the durations of requests that have one series."""
    values: Sequence[Any] = metrics.read().family(DURATIONS).values
    (histogram,) = values
    seconds: float = histogram.sum
    return seconds


async def _plain(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(start())
    await send(body(b"hello"))


async def _in_parts(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    for _ in range(3):
        await send(body(b"part", more_body=True))
    await send(body())


async def _raises(scope: Any, receive: Any, send: Any) -> None:
    raise ZeroDivisionError


async def _raises_after_start(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"part", more_body=True))
    raise ZeroDivisionError


async def _raises_after_end(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body())
    raise ZeroDivisionError


async def _answers_and_raises(scope: Any, receive: Any, send: Any) -> None:
    await send(start(500))
    await send(body(b"sorry"))
    raise ZeroDivisionError


async def _unavailable(scope: Any, receive: Any, send: Any) -> None:
    await send(start(503))
    await send(body())


async def _ends_early(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"part", more_body=True))


async def _says_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


async def _waits_for_disconnect(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"part", more_body=True))
    while (await receive())["type"] != "http.disconnect":
        pass
    await send(body())


async def _disconnected_before_start(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _disconnected_after_end(scope: Any, receive: Any, send: Any) -> None:
    await send(start(500))
    await send(body())
    while (await receive())["type"] != "http.disconnect":
        pass


async def _trailers(scope: Any, receive: Any, send: Any) -> None:
    await send(start(trailers=True))
    await send(body())
    await send({"type": "http.response.trailers", "headers": [], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": []})


async def _sends_path(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send({"type": "http.response.pathsend", "path": "/file"})


async def _cancelled(scope: Any, receive: Any, send: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("application", "received", "status", "kind", "result"),
    [
        pytest.param(_plain, [REQUEST], "200", "", "ok", id="plain"),
        pytest.param(_in_parts, [], "200", "", "ok", id="in-parts"),
        pytest.param(_raises, [], "500", "ZeroDivisionError", "error", id="raises"),
        pytest.param(
            _raises_after_start, [], "200", "ZeroDivisionError", "error", id="raises-after-start"
        ),
        pytest.param(_raises_after_end, [], "200", "", "ok", id="raises-after-end"),
        pytest.param(
            _answers_and_raises, [], "500", "ZeroDivisionError", "error", id="answers-and-raises"
        ),
        pytest.param(_unavailable, [], "503", "503", "error", id="unavailable"),
        pytest.param(_ends_early, [], "200", "RuntimeError", "error", id="ends-early"),
        pytest.param(_says_nothing, [], "500", "500", "error", id="says-nothing"),
        pytest.param(
            _waits_for_disconnect, [REQUEST, DISCONNECT], "200", "cancelled", "cancelled", id="gone"
        ),
        pytest.param(
            *(_disconnected_before_start, [DISCONNECT], "", "cancelled", "cancelled"),
            id="gone-before-start",
        ),
        pytest.param(
            _disconnected_after_end, [DISCONNECT], "500", "500", "error", id="gone-after-end"
        ),
        pytest.param(_trailers, [], "200", "", "ok", id="trailers"),
        pytest.param(_sends_path, [], "200", "", "ok", id="path"),
    ],
)
def test_a_request_ends_once(
    application: Application,
    received: list[Any],
    status: str,
    kind: str,
    result: str,
    points: Points,
) -> None:
    """However a request ends, it is one duration with its status, and active no longer."""
    traced = asyncio.run(call(trace_asgi(application), received))
    assert traced == asyncio.run(call(application, received))
    assert points(DURATIONS) == {("GET", "", status, kind): 1}
    assert points("entry_duration_seconds") == {("http", "GET", result): 1}
    assert active(points, ACTIVE) == {("GET",): 0}
    assert swallowed_errors() == 0


def test_a_cancelled_task_is_no_error(points: Points) -> None:
    """A request whose task is cancelled is cancelled, and the exception propagates."""
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call(trace_asgi(_cancelled)))
    assert points(DURATIONS) == {("GET", "", "", "cancelled"): 1}
    assert points("entry_duration_seconds") == {("http", "GET", "cancelled"): 1}


def test_a_client_that_is_gone_may_show_in_a_send(points: Points) -> None:
    """A send that raises `OSError` means that the client is gone; the application gets it."""

    def gone(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        asyncio.run(call(trace_asgi(_in_parts), sending=gone))
    assert points(DURATIONS) == {("GET", "", "200", "cancelled"): 1}


@pytest.mark.parametrize("application", [_plain, _answers_and_raises])
def test_the_duration_ends_with_the_last_part(
    application: Application, metrics: Metrics, span_clock: Clock
) -> None:
    """Each part takes a second; what the application does after the last does not count."""

    async def slow_end(scope: Any, receive: Any, send: Any) -> None:
        try:
            await application(scope, receive, send)
        finally:
            span_clock.now += 100

    def sending(_: object) -> None:
        span_clock.now += 1

    asyncio.run(call(trace_asgi(slow_end), sending=sending))
    assert sum_of(metrics) == 2


def test_the_duration_ends_when_the_client_is_gone(metrics: Metrics, span_clock: Clock) -> None:
    """What the application does after the client is gone does not count."""

    async def slow_end(scope: Any, receive: Any, send: Any) -> None:
        await _waits_for_disconnect(scope, receive, send)
        span_clock.now += 100

    asyncio.run(call(trace_asgi(slow_end), [REQUEST, DISCONNECT]))
    assert sum_of(metrics) == 0


def test_the_request_is_the_entry_until_its_last_part(points: Points) -> None:
    """While it answers, the application works for the request; afterwards, for none."""
    entries = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        entries.append(current_entry())
        await _plain(scope, receive, send)
        entries.append(current_entry())

    asyncio.run(call(trace_asgi(application)))
    assert entries == ["GET", ""]


def test_the_route_is_what_a_function_of_the_scope_returns(points: Points) -> None:
    """The function is called when the framework has put its route there; None is unmatched."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/nowhere":
            scope["template"] = "/items/{id}"
        await _plain(scope, receive, send)

    traced = trace_asgi(application, route_of=lambda scope: scope.get("template"))
    for path in ("/items/1", "/items/2", "/nowhere"):
        asyncio.run(call(traced, path=path))
    assert points(DURATIONS) == {
        ("GET", "/items/{id}", "200", ""): 2,
        ("GET", "<unmatched>", "200", ""): 1,
    }


def test_other_scopes_pass_untouched(points: Points) -> None:
    """The application gets a lifespan with the functions of the server, and is not measured."""
    seen: list[Any] = []

    async def application(*arguments: Any) -> None:
        seen.extend(arguments)

    async def receive() -> None:
        raise NotImplementedError

    scope = {"type": "lifespan"}
    asyncio.run(trace_asgi(application)(scope, receive, receive))  # type: ignore[arg-type]
    assert seen == [scope, receive, receive]
    assert scope == {"type": "lifespan"}
    assert active(points, ACTIVE) == {}


def test_excluded_paths_are_not_measured(points: Points) -> None:
    """The page of the metrics is excluded by default, also below a mount, and others by pattern."""
    for path in ("/metrics", "/metrics/"):
        asyncio.run(call(trace_asgi(_plain), path=path))
    asyncio.run(call(trace_asgi(_plain, exclude=["/health*"]), path="/health/live"))
    assert active(points, ACTIVE) == {}


def test_layers_measure_once(points: Points) -> None:
    """Of several layers, the outermost measures, also what it excludes and inner ones do not."""
    inner = trace_asgi(_plain)
    asyncio.run(call(trace_asgi(trace_asgi(inner))))
    asyncio.run(call(trace_asgi(inner, exclude=["/"])))
    assert points(DURATIONS) == {("GET", "", "200", ""): 1}


def test_a_scope_can_be_used_again(points: Points) -> None:
    """Nothing is left in a scope, so that it is measured each time it is used."""
    scope, traced = scope_of(), trace_asgi(_plain)

    async def server(_: Any, receive: Any, send: Any) -> None:
        await traced(scope, receive, send)

    for _ in range(2):
        asyncio.run(call(server))
    assert points(DURATIONS) == {("GET", "", "200", ""): 2}
    assert scope == scope_of()


def test_sizes_of_bodies(points: Points) -> None:
    """Bytes that the application receives and sends count, if asked for."""
    traced = trace_asgi(_plain, body_sizes=True)
    asyncio.run(call(traced, [{"type": "http.request", "body": b"abc"}]))
    asyncio.run(call(traced, method="HEAD"))
    labels = ("GET", "", "200", ""), ("HEAD", "", "200", "")
    assert points("http_server_request_body_size_bytes") == dict.fromkeys(labels, 1)
    assert points("http_server_response_body_size_bytes") == dict.fromkeys(labels, 1)


def test_the_traced_application_is_the_application() -> None:
    """It has the attributes and the class of the application, and its call is a coroutine."""

    class Framework:
        name = "shop"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await _plain(scope, receive, send)

    application = Framework()
    traced: Any = trace_asgi(application)
    traced.name = "warehouse"
    assert application.name == "warehouse"
    assert isinstance(traced, Framework)
    assert inspect.iscoroutinefunction(traced.__call__)
    assert inspect.iscoroutinefunction(trace_asgi(_plain))


def test_without_a_trace_function_it_does_nothing(metrics: Metrics, points: Points) -> None:
    """While tracing is off, requests are answered and not recorded."""
    clear_trace_function()
    assert asyncio.run(call(trace_asgi(_plain)))[-1] == body(b"hello")
    set_trace_function(metrics)
    assert points(DURATIONS) == {}


def test_messages_that_are_odd_reach_the_server(points: Points) -> None:
    """A message that only the server understands, or that is unknown, passes; nothing is raised."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": []})
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": None, "more_body": True})
        await send({"type": "http.response.body"})

    assert len(asyncio.run(call(trace_asgi(application)))) == 4
    assert points(DURATIONS) == {("GET", "", "200", ""): 1}


def test_an_application_can_be_called() -> None:
    """Anything else is an error where it is given, and not at the first request."""
    wrong: Any = "shop:application"
    with pytest.raises(TypeError, match="must be a function or callable object, not 'shop:app"):
        trace_asgi(wrong)


@pytest.mark.parametrize(
    ("option", "value"),
    [("route_of", "/items"), ("event_of", "click"), ("exclude", "/metrics"), ("color", "red")],
)
def test_wrong_options_are_errors(option: str, value: str) -> None:
    """A wrong option is an error where it is given."""
    with pytest.raises(TypeError, match=option):
        trace_asgi(_plain, **{option: value})


async def _socket(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and do what each message says."""
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        data = message.get("text") or message["bytes"].decode()
        if data == "raise":
            raise ZeroDivisionError
        if data == "close":
            await send(CLOSE)
            return
        if data != "silent":
            await send(answer())


def _event_of(data: str | bytes) -> str | None:
    if not isinstance(data, str):
        return "bytes"
    return None if data == "none" else data


def _connect(application: Application, *messages: Any, **options: Any) -> list[Any]:
    """Connect to an application, and send it messages."""
    sent = [text(each) if isinstance(each, str) else each for each in messages]
    traced = trace_asgi(application, event_of=_event_of, **options)
    return asyncio.run(call(traced, [CONNECT, *sent, GONE], type="websocket", path="/live"))


@pytest.mark.parametrize(
    ("message", "event", "kind", "result", "out"),
    [
        ("red", "red", "", "ok", 1),
        ("silent", "silent", "", "ok", 0),
        ("none", "", "", "ok", 1),
        ("raise", "raise", "ZeroDivisionError", "error", 0),
        ("close", "close", "", "ok", 0),
        ({"type": "websocket.receive", "bytes": b"x"}, "bytes", "", "ok", 1),
    ],
)
def test_a_message_is_a_duration_by_event(
    message: Any, event: str, kind: str, result: str, out: int, points: Points
) -> None:
    """However a message ends, it is one duration by its event, and one that came in."""
    _connect(_socket, message)
    assert points(MESSAGE_DURATIONS) == {("", event, kind): 1}
    assert points("entry_duration_seconds") == {
        ("http", "GET", "ok"): 1,
        ("websocket", event, result): 1,
    }
    counted = {("", "receive"): 1.0, ("", "transmit"): float(out)}
    assert points(MESSAGES) == {labels: count for labels, count in counted.items() if count}
    assert active(points, CONNECTIONS) == {("",): 0}
    assert points(DURATIONS) == {("GET", "", "101", ""): 1}
    assert swallowed_errors() == 0


def test_a_message_takes_until_the_next_send(metrics: Metrics, span_clock: Clock) -> None:
    """The time is that from the receipt to the send, or until the application waits again."""
    seconds = {"red": 1, "silent": 2, "blue": 4}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            span_clock.now += seconds[message["text"]]
            if message["text"] != "silent":
                await send(answer())
                span_clock.now += 100  # it does more
                await send(answer())

    def receiving() -> None:
        span_clock.now += 1_000  # the client takes its time

    traced = trace_asgi(application, event_of=_event_of)
    messages = [CONNECT, text("red"), text("silent"), text("blue"), GONE]
    asyncio.run(call(traced, messages, receiving=receiving, type="websocket"))
    family = metrics.read().family(MESSAGE_DURATIONS)
    values: Sequence[Any] = family.values
    sums = [histogram.sum for histogram in values]
    assert dict(zip((point.labels[1] for point in family.points), sums, strict=True)) == seconds


def test_a_connection_is_open_until_one_side_closes_it(points: Points) -> None:
    """A connection is active from its acceptance to its close, not while more is done after it."""
    found = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        found.append(active(points, CONNECTIONS))
        await send(ACCEPT)
        found.append(active(points, CONNECTIONS))
        await send(CLOSE)
        found.append(active(points, CONNECTIONS))

    _connect(application)
    assert found == [{}, {("",): 1}, {("",): 0}]


def test_the_application_works_for_the_message(points: Points) -> None:
    """While it handles a message, that is the entry; between messages there is none."""
    entries = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        entries.append(current_entry())
        await send(answer())
        entries.append(current_entry())

    _connect(application, "red", route_of=lambda _: "/live")
    assert entries == ["/live red", ""]


def _handshake(*messages: dict[str, Any]) -> Application:
    """Return an application that answers a handshake."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)

    return application


@pytest.mark.parametrize(
    ("application", "received", "status", "kind"),
    [
        pytest.param(_handshake(ACCEPT, CLOSE), [CONNECT], "101", "", id="accepted"),
        pytest.param(_handshake(CLOSE), [CONNECT], "403", "", id="closed"),
        pytest.param(
            _handshake(
                {"type": "websocket.http.response.start", "status": 401, "headers": []},
                {"type": "websocket.http.response.body", "body": b"no"},
            ),
            [CONNECT],
            "401",
            "",
            id="denied",
        ),
        pytest.param(_handshake(), [CONNECT], "500", "500", id="no-answer"),
        pytest.param(_handshake(), [GONE], "", "cancelled", id="gone"),
        pytest.param(_raises, [CONNECT], "500", "ZeroDivisionError", id="raises"),
    ],
)
def test_a_handshake_is_a_request(
    application: Application, received: list[Any], status: str, kind: str, points: Points
) -> None:
    """The handshake of a WebSocket is a request, and ends with its answer."""
    asyncio.run(call(trace_asgi(application), received, type="websocket"))
    assert points(DURATIONS) == {("GET", "", status, kind): 1}
    assert active(points, ACTIVE) == {("GET",): 0}
    assert sum(active(points, CONNECTIONS).values()) == 0


def test_a_send_to_a_client_that_is_gone_cancels_the_message(points: Points) -> None:
    """A message that cannot be answered, as the client is gone, is cancelled and no error."""

    def gone(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    traced = trace_asgi(_socket)
    with pytest.raises(ConnectionResetError):
        asyncio.run(call(traced, [CONNECT, text("red")], sending=gone, type="websocket"))
    assert points(MESSAGE_DURATIONS) == {("", "", "cancelled"): 1}
    assert active(points, CONNECTIONS) == {("",): 0}


def test_what_the_application_sends_on_its_own_is_counted(points: Points) -> None:
    """Messages that answer nothing are messages that went out, and no durations."""
    _connect(_handshake(ACCEPT, answer(), answer()))
    assert points(MESSAGES) == {("", "transmit"): 2}
    assert points(MESSAGE_DURATIONS) == {}


def test_names_of_events_are_bounded(points: Points) -> None:
    """A client that sends ever new names fills no metrics: what is beyond 100 is one event."""
    _connect(_socket, *(f"name {number}" for number in range(1_000)))
    found = points(MESSAGE_DURATIONS)
    assert len(found) == 101
    assert found["", "_OTHER", ""] == 900


def test_a_name_that_fails_is_none(points: Points) -> None:
    """What the function of the event raises is counted and logged, and the message is measured."""

    def fails(data: str | bytes) -> str:
        raise ValueError(data)

    traced = trace_asgi(_socket, event_of=fails)
    sent = asyncio.run(call(traced, [CONNECT, text("red"), GONE], type="websocket"))
    assert sent == [ACCEPT, answer()]
    assert points(MESSAGE_DURATIONS) == {("", "", ""): 1}
    assert swallowed_errors() == 1


def test_threads_with_event_loops_share_one_application(points: Points) -> None:
    """Requests of several event loops at once are all counted."""
    traced = trace_asgi(_plain)

    async def several() -> None:
        await asyncio.gather(*(call(traced) for _ in range(250)))

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert points(DURATIONS) == {("GET", "", "200", ""): 1_000}
    assert active(points, ACTIVE) == {("GET",): 0}
