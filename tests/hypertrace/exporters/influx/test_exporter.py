"""InfluxDB exporter: requests, what is refused, what fails, and what is sent again."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme
from line_protocol_parser import parse_line

from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.influx import InfluxExporter, receivers
from hypertrace.metrics import Counter, LastValue, Metrics

from ..recording import NEVER, SOON, Hanging, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message
    from pathlib import Path

TOKEN = "4bf92f3577b34da6"


class Request(NamedTuple):
    """What a server got."""

    path: str
    headers: Message
    body: str


class Server:
    """Keeps the points that it gets, as InfluxDB does, and answers as the test says.

    Attributes:
        answers: the next ones, with status and text; 204 if there is none.
        points: by series and time; later ones replace earlier ones.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: deque[tuple[int, str]] = deque()
        self.points: dict[tuple[str, int], dict[str, Any]] = {}
        self.on_request: Callable[[], object] = lambda: None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                server.requests.append(Request(self.path, self.headers, body.decode()))
                server.on_request()
                status, text = server.answers.popleft() if server.answers else (204, "")
                if status < 300 or "but stored" in text:
                    server.store(body.decode())
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{server.url}/elsewhere")
                if status != 204:
                    self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        if tls is not None:
            self.url = self.url.replace("http", "https")
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def store(self, body: str) -> None:
        for line in body.splitlines():
            point = parse_line(line)
            key = f"{point['measurement']} {sorted(point['tags'].items())}"
            self.points[key, point["time"]] = point

    def calls(self) -> int:
        """Give the sum of all points of calls."""
        return sum_of(self.points.values())

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def sum_of(points: Any, name: str = "function_counter_total") -> int:
    return sum(point["fields"]["val"] for point in points if point["measurement"] == name)


@pytest.fixture
def server() -> Iterator[Server]:
    """Give a server that answers 204."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., InfluxExporter]]:
    """Give a function that makes an exporter and sets it as trace function."""
    monkeypatch.delenv("INFLUX_TOKEN", raising=False)
    made: list[InfluxExporter] = []

    def make(url: str, **settings: Any) -> InfluxExporter:
        if url.startswith("http") and "bucket" not in settings:
            settings.setdefault("database", "shop")
        made.append(InfluxExporter(url, **{"interval": NEVER, "timeout": SOON, **settings}))
        set_trace_function(made[-1])
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())


def trace(times: int = 1, name: str = "buy") -> None:
    tracer = Tracer("shop")
    for _ in range(times):
        tracer.trace(name)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"database": "a b"}, "/write?db=a+b&precision=n"),
        ({"database": "shop", "precision": "us"}, "/write?db=shop&precision=u"),
        ({"database": "shop", "precision": "ms"}, "/write?db=shop&precision=ms"),
        ({"bucket": "shop", "org": "us&me"}, "/api/v2/write?org=us%26me&bucket=shop&precision=ns"),
        ({"bucket": "shop", "precision": "us"}, "/api/v2/write?bucket=shop&precision=us"),
    ],
)
def test_a_request_names_the_place(
    server: Server, export: Callable[..., InfluxExporter], settings: dict[str, str], path: str
) -> None:
    """And the precision, as the interface has it; the path of the URL goes before it."""
    exporter = export(f"{server.url}/insert/0/influx/", **settings)
    trace(3)
    assert exporter.flush()
    assert [request.path for request in server.requests] == [f"/insert/0/influx{path}"]
    assert server.calls() == 3


@pytest.mark.parametrize("compress", [True, False])
def test_a_request_may_be_compressed(
    server: Server, export: Callable[..., InfluxExporter], compress: bool
) -> None:
    """It says whether it is."""
    assert export(server.url, gzip=compress).flush()
    assert (server.requests[0].headers["Content-Encoding"] == "gzip") is compress
    assert server.requests[0].body.startswith("hypertrace_")


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"token": "env:SHOP_TOKEN"}, f"Token {TOKEN}"),
        ({"username": "ann", "password": "env:SHOP_TOKEN"}, "Basic YW5uOjRiZjkyZjM1NzdiMzRkYTY="),
        ({}, None),
    ],
)
def test_credentials_are_sent(
    server: Server,
    export: Callable[..., InfluxExporter],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    header: str | None,
) -> None:
    """As the server takes them."""
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    assert export(server.url, **settings).flush()
    assert server.requests[0].headers["Authorization"] == header


def test_the_token_of_the_environment_is_the_default(
    server: Server, export: Callable[..., InfluxExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """INFLUX_TOKEN, as InfluxDB's own programs have it."""
    exporter = export(server.url, bucket="shop")
    assert exporter.flush()
    monkeypatch.setenv("INFLUX_TOKEN", TOKEN)
    assert export(server.url, bucket="shop").flush()
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == [None, f"Token {TOKEN}"]


def test_a_token_is_never_logged(
    server: Server,
    export: Callable[..., InfluxExporter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not when the server refuses it, and not when a new one has characters that no header has."""
    monkeypatch.setattr("hypertrace.rate_limit.LOG_INTERVAL", 0)
    file = tmp_path / "token"
    file.write_text(TOKEN)
    exporter = export(server.url, token=f"file:{file}")
    server.answers.append((401, "unauthorized"))
    exporter.flush(0.1)
    until(lambda: exporter.failures)
    assert "401 Unauthorized: unauthorized" in caplog.text
    file.write_text(f"{TOKEN}\nX-Other: {TOKEN}")
    until(lambda: exporter.flush(0.1) or exporter.failures > 1)
    assert f"{str(file)!r} has characters" in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(exporter)


def test_proxies_of_the_environment_are_not_used(
    server: Server, export: Callable[..., InfluxExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is asked directly."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert export(server.url).flush()


def test_certificates_are_checked(
    export: Callable[..., InfluxExporter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unknown authority is refused before anything is sent; SSL_CERT_FILE names one."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.crt")
    server = Server(tls=context)
    try:
        exporter = export(server.url)
        trace(2)
        exporter.flush(0.2)
        until(lambda: exporter.failures)
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        assert not server.requests
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.crt"))
        until(lambda: exporter.flush(0.2) or exporter.sent)
        assert server.calls() == 2
    finally:
        server.stop()


def test_a_redirect_is_not_followed(
    server: Server,
    export: Callable[..., InfluxExporter],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a failure, which the log explains; nothing is lost."""
    exporter = export(server.url)
    trace(2)
    server.answers.append((302, ""))
    exporter.flush(0.2)
    until(lambda: exporter.failures)
    assert "redirects are not followed" in caplog.text
    until(lambda: exporter.flush(0.2) or server.calls() == 2)
    assert all("elsewhere" not in request.path for request in server.requests)


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404])
def test_what_a_server_cannot_take_now_is_sent_later(
    server: Server,
    export: Callable[..., InfluxExporter],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    """With what came in meanwhile; also if a part of it was stored, no call counts twice."""
    monkeypatch.setattr(receivers.HttpReceiver, "size", 300)
    exporter = export(server.url)
    trace(2)
    server.answers += [(204, "")] * 3 + [(status, "but stored")]
    exporter.flush(0.2)
    until(lambda: exporter.failures)
    trace(3)
    trace(4, "sell")
    until(lambda: exporter.flush(0.2) or exporter.sent)
    until(lambda: server.calls() == 9)
    assert exporter.dropped == 0
    trace(1)
    assert exporter.flush()
    assert server.calls() == 10


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_a_server_refuses_is_dropped(
    server: Server,
    export: Callable[..., InfluxExporter],
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """With its reason in the log; the next reading goes on from there."""
    exporter = export(server.url)
    trace(2)
    server.answers.append((status, '{"error": "field type\nconflict"}'))
    assert exporter.flush()
    assert exporter.dropped == len(server.requests[0].body.splitlines())
    assert f"{status} " in caplog.text
    assert '{"error": "field type conflict"}' in caplog.text
    trace(3)
    assert exporter.flush()
    assert (server.calls(), exporter.failures) == (3, 0)


def test_what_a_server_refuses_in_part_is_counted_as_it_says(
    server: Server, export: Callable[..., InfluxExporter]
) -> None:
    """InfluxDB says how many points it has dropped."""
    server.answers.append((400, '{"error": "partial write: field type conflict dropped=2"}'))
    exporter = export(server.url)
    assert exporter.flush()
    assert exporter.dropped == 2


def test_no_more_points_are_dropped_than_were_sent(
    server: Server, export: Callable[..., InfluxExporter]
) -> None:
    """Whatever a server says: to count as many as it likes would take the thread for ever."""
    server.answers.append((400, f"partial write: dropped={2**62}"))
    exporter = export(server.url)
    assert exporter.flush()
    assert exporter.dropped == len(server.requests[0].body.splitlines())


def test_a_refused_batch_does_not_stop_the_others(
    server: Server, export: Callable[..., InfluxExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is stored or refused by itself."""
    monkeypatch.setattr(receivers.HttpReceiver, "size", 300)
    exporter = export(server.url)
    trace(2)
    server.answers += [(204, ""), (400, "no")]
    assert exporter.flush()
    assert len(server.requests) > 3
    assert server.calls() == 2
    assert exporter.dropped == len(server.requests[1].body.splitlines())


def test_a_server_that_is_down_at_the_start(
    export: Callable[..., InfluxExporter], free_port: Callable[[], int]
) -> None:
    """What came in until it is there is in the first reading that it gets, with its own time."""
    port = free_port()
    exporter = export(f"http://127.0.0.1:{port}")
    trace(2)
    exporter.flush(0.2)
    until(lambda: exporter.failures)
    begin = time.time_ns()
    server = Server(port)
    try:
        until(lambda: exporter.flush(0.2) or exporter.sent)
        assert server.calls() == 2
        assert all(when >= begin - 1_000 for _, when in server.points)
    finally:
        server.stop()


def test_a_server_that_never_answers(export: Callable[..., InfluxExporter]) -> None:
    """The attempt fails after the timeout; tracing goes on, and stopping takes its time at most."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = export(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        trace(2)
        exporter.flush(0.1)
        until(lambda: exporter.failures)
        exporter.flush(0)
        begin = time.monotonic()
        trace(10_000)
        exporter.stop()
        assert time.monotonic() - begin < 10


def test_the_application_does_not_wait_for_a_server(
    server: Server, export: Callable[..., InfluxExporter]
) -> None:
    """While a request hangs, calls are counted, and are in the next reading."""
    hanging = Hanging()
    server.on_request = hanging
    exporter = export(server.url)
    exporter.flush(0)
    assert hanging.entered.wait(SOON)
    trace(1_000)
    hanging.released.set()
    assert exporter.flush()
    assert server.calls() == 1_000


def test_no_two_readings_have_one_time(
    server: Server, export: Callable[..., InfluxExporter]
) -> None:
    """Also within a second, if the precision is seconds: else one would replace the other."""
    exporter = export(server.url, precision="s")
    for _ in range(5):
        trace(2)
        assert exporter.flush()
    assert server.calls() == 10
    times = {when for (series, when) in server.points if "function_counter" in series}
    assert len(times) == 5


def udp_socket(tmp_path: Path) -> tuple[socket.socket, str]:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    return receiver, f"udp://127.0.0.1:{receiver.getsockname()[1]}"


def unix_datagrams(tmp_path: Path) -> tuple[socket.socket, str]:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "a socket"))
    return receiver, f"unixgram://{tmp_path}/a%20socket"


@pytest.mark.parametrize("make", [udp_socket, unix_datagrams])
def test_datagrams_have_whole_lines(
    export: Callable[..., InfluxExporter],
    tmp_path: Path,
    make: Callable[[Path], tuple[socket.socket, str]],
) -> None:
    """Each is as full as a packet may be, and no line is split."""
    receiver, url = make(tmp_path)
    packets: list[bytes] = []
    with receiver:
        receiver.settimeout(SOON)
        exporter = export(url)
        for number in range(100):
            trace(2, str(number))
        reading = threading.Thread(target=exporter.flush, args=(SOON,))
        reading.start()
        points: list[Any] = []
        while sum_of(points) < 200:
            packets.append(receiver.recv(65_536))
            points += map(parse_line, packets[-1].decode().splitlines())
        reading.join()
    assert sum_of(points) == 200
    assert max(map(len, packets)) <= 1_432
    assert min(map(len, packets[:5])) > 1_000


def test_a_line_that_fits_into_no_datagram_is_dropped(
    export: Callable[..., InfluxExporter],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And counted; it does not keep the others from being sent."""
    receiver, url = udp_socket(tmp_path)
    with receiver:
        receiver.settimeout(SOON)
        exporter = export(url, max_label_length=100_000)
        trace(1, "x" * 80_000)
        trace(3)
        assert exporter.flush()
        points: list[Any] = []
        while not sum_of(points):
            points += map(parse_line, receiver.recv(65_536).decode().splitlines())
    assert sum_of(points) == 3
    assert exporter.dropped == 1
    assert "fits into no datagram" in caplog.text


def tcp_listener(tmp_path: Path) -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def unix_listener(tmp_path: Path) -> tuple[socket.socket, str]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    return listener, f"unix://{tmp_path}/socket"


@pytest.mark.parametrize("make", [tcp_listener, unix_listener])
def test_a_stream_has_the_lines(
    export: Callable[..., InfluxExporter],
    tmp_path: Path,
    make: Callable[[Path], tuple[socket.socket, str]],
) -> None:
    """One connection for each reading."""
    listener, url = make(tmp_path)
    with listener:
        listener.settimeout(SOON)
        exporter = export(url)
        trace(7)
        for expected in (7, 0):
            assert exporter.flush()
            connection, _ = listener.accept()
            with connection, connection.makefile("r") as lines:
                assert sum_of(parse_line(line) for line in lines) == expected


def test_a_stream_that_is_not_read_fails_in_time(
    export: Callable[..., InfluxExporter], tmp_path: Path
) -> None:
    """What the receiver's buffer has no room for is a failure, and so is sent later."""
    listener, url = unix_listener(tmp_path)
    with listener:
        exporter = export(url, timeout=0.1, max_series=5_000)
        for number in range(5_000):
            trace(1, f"{number:0100}")
        exporter.flush(0.1)
        until(lambda: exporter.failures)


def test_a_gauge_keeps_its_type(server: Server, export: Callable[..., InfluxExporter]) -> None:
    """A whole number is a float, too, as a later one may have a fraction."""
    metrics = Metrics(declared=[LastValue("depth", of="*", value="depth")])
    exporter = export(server.url, metrics=metrics)
    for depth in (3, 0.5):
        Tracer("shop").trace(None, {"depth": depth})
        assert exporter.flush()
    values = [p["fields"]["val"] for p in server.points.values() if p["measurement"] == "depth"]
    assert values == [3.0, 0.5]
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize(
    ("url", "settings", "says"),
    [
        ("http://127.0.0.1:8086", {}, "give either database"),
        ("http://127.0.0.1:8086", {"database": "a", "bucket": "b"}, "give either database"),
        ("http://127.0.0.1:8086", {"database": ""}, "database must be a text"),
        ("http://127.0.0.1:8086", {"database": "a", "org": "b"}, "org belongs to a bucket"),
        ("http://h", {"database": "a", "token": "4bf92f"}, "not the secret itself"),
        ("http://h", {"database": "a", "username": "ann"}, "give both"),
        ("http://h", {"database": "a", "precision": "m"}, "precision must be one of ns, us"),
        ("http://h", {"database": "a", "timeout": 0}, "timeout must be above 0"),
        ("http://h/write?db=x", {"database": "a"}, "without a query"),
        ("http://h:port", {"database": "a"}, "url is none"),
        ("http://h:8086/write", {"database": "a"}, "must end before /write"),
        ("http://h:8086/api/v2/write/", {"bucket": "a"}, "must end before /write"),
        ("http://", {"database": "a"}, "no host"),
        ("http://a b", {"database": "a"}, "url"),
        ("127.0.0.1:8086", {"database": "a"}, "must begin with one of http://"),
        ("udp://127.0.0.1", {}, "HOST:PORT"),
        ("udp://127.0.0.1:8089", {"database": "a"}, "configuration of the listener"),
        ("unix://run/socket", {}, "three slashes"),
    ],
)
def test_a_mistake_is_an_error_at_once(url: str, settings: dict[str, Any], says: str) -> None:
    """It names the value and the way out; no thread starts."""
    with pytest.raises(ValueError, match=says):
        InfluxExporter(url, **settings)
    assert not exporter_threads()


def test_credentials_in_the_url_are_refused_and_not_shown() -> None:
    """A URL is shown in messages."""
    with pytest.raises(ValueError, match="credentials in it") as caught:
        InfluxExporter(f"http://ann:{TOKEN}@127.0.0.1:8086", database="shop")
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("settings", [{"timeout": "1"}, {"interval": None}, {"prefixes": "a"}])
def test_a_wrong_type_is_an_error_at_once(settings: dict[str, Any]) -> None:
    """As with every exporter."""
    with pytest.raises(TypeError):
        InfluxExporter("http://127.0.0.1:8086", database="shop", **settings)
    assert not exporter_threads()


def event_points(server: Server, name: str) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Give time, tags and fields of the points of a measurement."""
    return [
        (point["time"], point["tags"], point["fields"])
        for point in server.points.values()
        if point["measurement"] == name
    ]


ORDERS = Counter("orders_total", of="shop.*", tags=["channel", "amount"])


def order(times: int = 1, **props: Any) -> None:
    tracer = Tracer("shop")
    for _ in range(times):
        tracer.trace("buy", **props)


def test_an_event_is_a_point_of_its_time(
    server: Server, export: Callable[..., InfluxExporter]
) -> None:
    """With tags and fields; its metric has no other points, which would count it twice."""
    metrics = Metrics(declared=[ORDERS], labels={"service": "shop"})
    exporter = export(server.url, metrics=metrics, events=[ORDERS], prefix="app")
    order(channel="web", amount=2.5, timestamp=1_764_469_463_120_000_001)
    order(channel="web", amount=3, timestamp=1_764_469_463)
    assert exporter.flush()
    tags = {"service": "shop", "channel": "web"}
    assert event_points(server, "app.orders_total") == [
        (1_764_469_463_120_000_001, tags, {"val": 1, "amount": 2.5}),
        (1_764_469_463_000_000_000, tags, {"val": 1, "amount": 3.0}),
    ]
    assert sum_of(server.points.values(), "app.function_counter_total") == 2


def test_events_of_one_moment_are_points_of_their_own_time(
    server: Server, export: Callable[..., InfluxExporter]
) -> None:
    """At any precision: no point replaces another."""
    for precision in ("ns", "us", "ms", "s"):
        server.points.clear()
        exporter = export(server.url, events=["shop.*"], precision=precision)
        order(100, timestamp=1_764_469_463)
        assert exporter.flush()
        times = [time for time, *_ in event_points(server, "shop.order")]
        assert len(times) == len(set(times)) == 100
        exporter.stop()


@pytest.mark.parametrize("status", [500, 503, 429, 404])
def test_events_that_a_server_cannot_take_now_are_sent_later(
    server: Server,
    export: Callable[..., InfluxExporter],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    """Each is one point, also if it was stored the first time."""
    monkeypatch.setattr(receivers.HttpReceiver, "size", 300)
    exporter = export(server.url, events=["shop.*"])
    order(20)
    server.answers += [(204, "")] * 2 + [(status, "but stored")]
    exporter.flush(0.2)
    until(lambda: exporter.failures)
    order(10)
    until(lambda: exporter.flush(0.2) or exporter.sent)
    assert len(event_points(server, "shop.order")) == 30
    assert (exporter.dropped, exporter.dropped_events) == (0, 0)


def test_events_that_a_server_refuses_are_dropped(
    server: Server, export: Callable[..., InfluxExporter], caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason in the log; the reading after them is sent."""
    exporter = export(server.url, events=["shop.*"])
    order(3)
    server.answers.append((400, "field type conflict"))
    assert exporter.flush()
    assert (exporter.dropped, exporter.failures) == (3, 0)
    assert "was refused 3 points, which are dropped: 400 Bad Request: field type" in caplog.text
    assert server.calls() == 3


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", "function_counter_total"),
        ("shop", "shop.function_counter_total"),
        ("shop.web.", "shop.web.function_counter_total"),
        ("shop_", "shop_function_counter_total"),
    ],
)
def test_a_prefix_is_before_all_names(
    server: Server, export: Callable[..., InfluxExporter], prefix: str, name: str
) -> None:
    """With a dot, unless it ends in one or in an underscore; also with given metrics."""
    exporter = export(server.url, metrics=Metrics(), prefix=prefix)
    trace(2)
    assert exporter.flush()
    assert sum_of(server.points.values(), name) == 2


@pytest.mark.parametrize(
    ("prefix", "error"),
    [("a b", ValueError), ("1a", ValueError), ("#", ValueError), (7, TypeError)],
)
def test_a_prefix_that_begins_no_name_is_refused(prefix: Any, error: type[Exception]) -> None:
    """With an error that says what it takes."""
    with pytest.raises(error, match="prefix"):
        InfluxExporter("udp://127.0.0.1:1", prefix=prefix)
