"""WSGI applications: every way to answer, measured until its last byte and left as it is."""

from __future__ import annotations

import gc
import io
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

from hypertrace import Tracer, swallowed_errors
from hypertrace._operations import current_entry
from hypertrace.integrations.http_server import HttpServer
from hypertrace.integrations.wsgi import trace_wsgi

from .serving import Server, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hypertrace.metrics import Metrics

    from ..running import Clock
    from .serving import Application

    Points = Callable[[str], dict[tuple[str, ...], float]]

DURATIONS = "http_server_request_duration_seconds"
HEADERS = [("Content-Type", "text/plain")]


def answers(status: str, *parts: bytes) -> Application:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, HEADERS)
        return list(parts)

    return application


def streams(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", HEADERS)  # not before the first part is asked for
    yield b"one "
    yield b"two"


def starts_twice(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    try:
        raise ValueError
    except ValueError as error:
        start_response("503 Busy", HEADERS, exc_info=(type(error), error, None))
    return [b"busy"]


def starts_too_late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", HEADERS)
    yield b"one"
    error = ValueError()
    start_response("500 Oops", HEADERS, (ValueError, error, None))  # raises the error
    yield b"never"


def writes(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    write = start_response("201 Created", HEADERS)
    write(b"one ")
    write(b"two ")
    return (b"three",)


def raises(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    raise ValueError


def raises_after_start(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", HEADERS)
    raise ValueError
    yield b"never"


def raises_after_a_part(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", HEADERS)
    yield b"one"
    raise ValueError


def raises_for_parts(environ: dict[str, Any], start_response: Any) -> Any:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            raise ValueError

    start_response("200 OK", HEADERS)
    return Body()


def exits(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    raise KeyboardInterrupt


def gives_a_file(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [*HEADERS, ("Content-Length", "5")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"bytes"))


ENDS = [
    (answers("200 OK", b"a", b"b"), b"ab", ("200", "")),
    (answers("200 OK"), b"", ("200", "")),
    (answers("204 No Content", b""), b"", ("204", "")),
    (answers("404 Not Found", b"no"), b"no", ("404", "")),
    (answers("599", b"no"), b"no", ("599", "599")),
    (streams, b"one two", ("200", "")),
    (starts_twice, b"busy", ("503", "503")),
    (starts_too_late, b"one", ("200", "ValueError")),
    (writes, b"one two three", ("201", "")),
    (raises, b"", ("500", "ValueError")),
    (raises_after_start, b"", ("500", "ValueError")),
    (raises_after_a_part, b"one", ("200", "ValueError")),
    (raises_for_parts, b"", ("500", "ValueError")),
    (exits, b"", ("500", "KeyboardInterrupt")),
    (gives_a_file, b"bytes", ("200", "")),
]


@pytest.mark.parametrize(("application", "body", "labels"), ENDS)
def test_every_end_is_counted_once(
    metrics: Metrics,
    points: Points,
    application: Application,
    body: bytes,
    labels: tuple[str, str],
) -> None:
    """Each way to answer ends with its status and type of error, and the answer is the same."""
    server, bare = Server(), Server()
    ends: list[type[BaseException] | None] = []
    for one, called in ((server, trace_wsgi(application)), (bare, application)):
        try:
            one.run(called)
            ends.append(None)
        except BaseException as error:  # noqa: BLE001 -- whatever the application raises
            ends.append(type(error))
    assert ends[0] is ends[1]
    assert server.__dict__ == bare.__dict__
    assert server.body == body
    assert points(DURATIONS) == {("GET", "", *labels): 1}
    assert points("http_server_active_requests") == {("GET",): 0}


@pytest.mark.parametrize("application", [answers("200 OK", b"a", b"b"), streams, writes])
def test_the_contract_of_wsgi_is_kept(metrics: Metrics, application: Application) -> None:
    """The validator of the standard library has no complaint, on either side."""
    checked = validator(trace_wsgi(validator(application)))
    environ = environ_of()
    del environ["wsgi.file_wrapper"]

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        return lambda data: None

    body = checked(environ, start_response)
    list(body)
    body.close()  # type: ignore[attr-defined]


def test_a_request_lasts_until_its_last_byte(metrics: Metrics, span_clock: Clock) -> None:
    """Time between the parts counts, time after the last does not."""

    def slow(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        for _ in range(3):
            span_clock.now += 1
            yield b"part"
        span_clock.now += 4

    body = trace_wsgi(slow)(environ_of(), Server().start_response)
    span_clock.now += 10
    list(body)
    span_clock.now += 100
    body.close()  # type: ignore[attr-defined]
    values: Sequence[Any] = metrics.read().family(DURATIONS).values
    (value,) = values
    assert value.sum == 17


def test_an_answer_that_is_closed_early_is_cancelled(metrics: Metrics, points: Points) -> None:
    """The client is gone; the application is closed as without measuring."""
    closed = []

    def endless(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        try:
            while True:
                yield b"part"
        finally:
            closed.append(True)

    body: Any = trace_wsgi(endless)(environ_of(), Server().start_response)
    next(iter(body))
    assert points(DURATIONS) == {}
    body.close()
    assert closed == [True]
    assert points(DURATIONS) == {("GET", "", "200", "cancelled"): 1}


def test_an_answer_that_is_not_asked_for_is_none(metrics: Metrics, points: Points) -> None:
    """A server may close a body without a look at it, as for `HEAD`."""
    body: Any = trace_wsgi(answers("200 OK", b"a"))(environ_of("HEAD"), Server().start_response)
    body.close()
    assert points(DURATIONS) == {("HEAD", "", "200", ""): 1}


@pytest.mark.parametrize(
    ("headers", "parts", "kind"),
    [([], 0, ""), ([], 1, "cancelled"), ([("Content-Length", "4")], 1, "")],
)
@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_an_answer_that_is_dropped_has_ended(
    metrics: Metrics, points: Points, headers: Any, parts: int, kind: str, in_a_cycle: bool
) -> None:
    """As by middleware that answers otherwise: nothing stays under way, also in a collection."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return iter([b"part", b""])

    body: Any = trace_wsgi(application)(environ_of(), Server().start_response)
    for _ in range(parts):
        next(body)
    if in_a_cycle:
        cycle = [body]
        cycle.append(cycle)
        del cycle
    assert points("http_server_active_requests") == {("GET",): 1}
    del body
    gc.collect()
    assert points(DURATIONS) == {("GET", "", "200", kind): 1}
    assert points("http_server_active_requests") == {("GET",): 0}
    with Tracer("shop").span("later"):
        assert current_entry() == ""
    assert swallowed_errors() == 0


def test_a_file_that_cannot_be_sent_is_cancelled(metrics: Metrics, points: Points) -> None:
    """The server closes it because it has raised."""
    body: Any = trace_wsgi(gives_a_file)(environ_of(), Server().start_response)
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        body.close()
    assert body.filelike.closed
    assert points(DURATIONS) == {("GET", "", "200", "cancelled"): 1}


def test_a_file_stays_the_one_that_the_server_made(metrics: Metrics) -> None:
    """A server recognizes its own class, and sends the file by other ways."""
    made = []

    class Wrapper(FileWrapper):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    environ = environ_of() | {"wsgi.file_wrapper": Wrapper}
    body = trace_wsgi(gives_a_file)(environ, Server().start_response)
    assert made == [body]
    assert body is made[0]
    made[0].close()


def test_a_file_of_a_server_in_c_ends_when_it_is_given(metrics: Metrics, points: Points) -> None:
    """The wrapper of uWSGI is a function that returns the file itself, and knows it again."""
    file = io.BytesIO(b"bytes")

    def gives_file(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return environ["wsgi.file_wrapper"](file)

    environ = environ_of() | {"wsgi.file_wrapper": lambda given: given}
    body: Any = trace_wsgi(gives_file)(environ, Server().start_response)
    assert body is file
    assert points(DURATIONS) == {("GET", "", "200", ""): 1}


def test_a_body_is_still_what_it_was(metrics: Metrics) -> None:
    """Its length, its attributes and its class are there, and nothing is read ahead."""

    class Page(list[bytes]):
        title = "Shop"

    pages: list[Any] = [Page([b"a"]), (part for part in [b"a"]), (b"a", b"b")]
    for page in pages:

        def application(environ: Any, start_response: Any, page: Any = page) -> Any:
            start_response("200 OK", HEADERS)
            return page

        body: Any = trace_wsgi(application)(environ_of(), Server().start_response)
        assert hasattr(body, "__len__") is hasattr(page, "__len__")
        assert hasattr(body, "__next__") is hasattr(page, "__next__")
        if type(page) is Page:
            assert (len(body), body[0], body.title, type(body).__name__) == (
                1,
                b"a",
                "Shop",
                "_SizedBody",
            )
            assert isinstance(body, Page)
        assert list(body) == ([b"a", b"b"] if type(page) is tuple else [b"a"])
        body.close()


def test_nothing_is_closed_that_cannot_be(metrics: Metrics, points: Points) -> None:
    """What the application's `close()` raises passes, and is no error of the request."""

    class Body(list[bytes]):
        def close(self) -> None:
            raise KeyError

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        return Body([b"a"])

    with pytest.raises(KeyError):
        Server().run(trace_wsgi(application))
    assert points(DURATIONS) == {("GET", "", "200", ""): 1}


def test_wrong_answers_are_the_servers_affair(metrics: Metrics, points: Points) -> None:
    """None instead of a body, and a status that is none, are what the server gets."""

    def nothing(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", HEADERS)

    with pytest.raises(TypeError, match="not iterable"):
        Server().run(trace_wsgi(nothing))
    server = Server().run(trace_wsgi(answers("OK", b"a")))
    assert server.status == "OK"
    assert points(DURATIONS) == {("GET", "", "500", "TypeError"): 1, ("GET", "", "", ""): 1}


def test_two_layers_count_once(metrics: Metrics, points: Points) -> None:
    """The outermost one measures; also if it excludes the path."""
    twice = trace_wsgi(trace_wsgi(streams), exclude=["/no"])
    Server().run(twice)
    Server().run(twice, environ_of(path="/no"))
    assert points(DURATIONS) == {("GET", "", "200", ""): 1}


def test_an_environment_may_be_used_again(metrics: Metrics, points: Points) -> None:
    """A second request with it is a second request."""
    environ = environ_of()
    for _ in range(2):
        Server().run(trace_wsgi(streams), environ)
    assert points(DURATIONS) == {("GET", "", "200", ""): 2}


def test_an_application_inside_of_a_server_of_asgi_counts_once(
    metrics: Metrics, points: Points
) -> None:
    """The request that its task has started is the same one."""
    request = HttpServer().start("GET", "/shop/a")
    assert request is not None
    Server().run(trace_wsgi(streams), environ_of(path="/a", SCRIPT_NAME="/shop"))
    assert points(DURATIONS) == {}
    request.finish()
    Server().run(trace_wsgi(streams), environ_of(path="/a", SCRIPT_NAME="/shop"))
    assert points(DURATIONS) == {("GET", "", "", ""): 1, ("GET", "", "200", ""): 1}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 0),
        ({"CONTENT_LENGTH": ""}, 0),
        ({"CONTENT_LENGTH": "123"}, 123),
        ({"CONTENT_LENGTH": 123}, 123),
        ({"CONTENT_LENGTH": "many"}, None),
    ],
)
def test_the_size_of_a_request_is_what_it_says(
    metrics: Metrics, more: dict[str, Any], expected: int | None
) -> None:
    """One that does not say a number is not recorded."""
    application = trace_wsgi(streams, body_sizes=True)
    Server().run(application, environ_of("POST", **more))
    found = [one for one in metrics.read().families if one.name.endswith("request_body_size_bytes")]
    sizes: list[Any] = [value for one in found for value in one.values]
    assert [value.sum for value in sizes] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("read", "size"),
    [
        (lambda file: file.read(), 9),
        (lambda file: file.read(2) + file.read(3), 5),
        (lambda file: file.readline(), 4),
        (lambda file: b"".join(file.readlines()), 9),
        (b"".join, 9),
        (lambda file: b"", 0),
        (lambda file: file.getvalue(), 0),
    ],
)
def test_of_a_request_in_chunks_what_is_read_counts(
    metrics: Metrics, read: Callable[[Any], bytes], size: int
) -> None:
    """The application reads its file as without measuring."""
    found = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found.append(read(environ["wsgi.input"]))
        start_response("200 OK", HEADERS)
        return []

    body = io.BytesIO(b"one\ntwo\n!")
    environ = {**environ_of("POST", HTTP_TRANSFER_ENCODING="chunked"), "wsgi.input": body}
    Server().run(trace_wsgi(application, body_sizes=True), environ)
    assert found == [read(io.BytesIO(b"one\ntwo\n!"))]
    values: Sequence[Any] = metrics.read().family("http_server_request_body_size_bytes").values
    assert [value.sum for value in values] == [size]


@pytest.mark.parametrize(
    ("application", "size"),
    [(streams, 7), (writes, 13), (gives_a_file, 5), (raises_after_a_part, 3)],
)
def test_the_size_of_an_answer_is_what_was_given(
    metrics: Metrics, application: Application, size: int
) -> None:
    """All ways to give bytes add up."""
    with suppress(ValueError):
        Server().run(trace_wsgi(application, body_sizes=True))
    values: Sequence[Any] = metrics.read().family("http_server_response_body_size_bytes").values
    (value,) = values
    assert value.sum == size


def test_the_work_for_an_answer_is_inside_of_its_entry(metrics: Metrics) -> None:
    """Code that runs for a part sees the entry; code after the answer sees none."""
    seen = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        seen.append(current_entry())
        yield b"a"

    Server().run(trace_wsgi(application))
    assert seen == ["GET"]
    assert current_entry() == ""


def test_a_flood_of_paths_is_one_series(metrics: Metrics, points: Points) -> None:
    """Paths are no labels: 10 000 of them are counted in one series."""
    application = trace_wsgi(answers("404 Not Found", b"no"))
    for number in range(10_000):
        Server().run(application, environ_of(path=f"/{number}"))
    assert points(DURATIONS) == {("GET", "", "404", ""): 10_000}
    assert points("entry_duration_seconds") == {("http", "GET", "ok"): 10_000}


def test_an_application_can_be_called() -> None:
    """Anything else is an error where it is given, and not at the first request."""
    wrong: Any = "shop:application"
    with pytest.raises(TypeError, match="must be a function or callable object, not 'shop:app"):
        trace_wsgi(wrong)


def test_options_are_checked_at_once() -> None:
    """A misspelt option is an error where the application is given."""
    with pytest.raises(TypeError):
        trace_wsgi(streams, excluded=[])


def test_an_application_is_still_what_it_was() -> None:
    """Its attributes are there."""

    class Shop:
        name = "Shop"

        def __call__(self, environ: Any, start_response: Any) -> Any:
            return streams(environ, start_response)

    shop: Any = trace_wsgi(Shop())
    assert (shop.name, type(shop.__wrapped__)) == ("Shop", Shop)


def test_an_error_of_ours_does_not_reach_the_application(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application is called without a measurement."""

    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(HttpServer, "start", broken)
    assert Server().run(trace_wsgi(streams)).body == b"one two"


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _serving(application: Any) -> Iterator[int]:
    server = WSGIServer(("127.0.0.1", 0), _Quiet)
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def test_a_client_that_goes_away_is_cancelled(metrics: Metrics, points: Points) -> None:
    """A real server sees a closed connection, and ends the answer."""

    class Shop:
        def __init__(self) -> None:
            self.tracer = Tracer(self)

        def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", HEADERS)
            for _ in range(10_000):
                yield b"x" * 65_536

    with _serving(trace_wsgi(Shop())) as port:
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(b"GET /big HTTP/1.0\r\n\r\n")
            assert connection.recv(10)
        deadline = time.monotonic() + 30
        while not points(DURATIONS) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert points(DURATIONS) == {("GET", "", "200", "cancelled"): 1}
