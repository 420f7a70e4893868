"""Risks of the metrics server: busy ports, clients that misbehave, many scrapes."""

import http.client
import json
import os
import random
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hypertrace import set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .tools import Swarm, connected, counts, get, repeating, sockets, threads

PATHS = {"/", "/metrics", "/-/healthy"}
UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
ELSEWHERE = "127.0.0.2"


class Application:
    """Works and traces in its own thread; reports how much it did, and what it waited for."""

    def __init__(self) -> None:
        self.done = 0
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._swarm = Swarm()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def pace(self, seconds: float) -> float:
        """Return how much is done a second, measured for so long."""
        before, start = self.done, time.monotonic()
        time.sleep(seconds)
        return (self.done - before) / (time.monotonic() - start)

    def _run(self) -> None:
        connect, clock = self._swarm.connect, time.perf_counter
        while not self._over.is_set():
            for i in range(200):
                sum(range(i))  # what the application is there for
                start = clock()
                connect()
                self.longest = max(self.longest, clock() - start)
            self.done += 200


def _start(program: str, **arguments: Any) -> subprocess.Popen[str]:
    """Start another of these programs in its own process."""
    command = [sys.executable, "-m", "stress.programs", program, "120", json.dumps(arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _make_series(exporter: PrometheusExporter, number: int) -> None:
    set_trace_function(exporter)
    swarm = Swarm()
    for i in range(number):
        swarm.meet(f"peer with a name of some length, number {i}")


def busy_ports() -> dict[str, Any]:
    """Start servers on ports that are not to be had; return what each raised."""
    first = PrometheusExporter(port=0, collect_defaults=False)
    set_trace_function(first)
    swarm = Swarm()
    six = None
    with suppress(OSError):  # a machine without IPv6
        six = PrometheusExporter(port=0, host="::1", collect_defaults=False)
    raised = {}

    def start(name: str, host: str, port: int | None) -> None:
        try:
            PrometheusExporter(port=port, host=host, strict_port=True, collect_defaults=False)
        except BaseException as error:  # noqa: BLE001 -- SystemExit is what it looks for
            raised[name] = isinstance(error, OSError) and str(port) in str(error)
        swarm.connect()

    start("main thread", "127.0.0.1", first.port)
    thread = threading.Thread(target=start, args=("other thread", "127.0.0.1", first.port))
    thread.start()
    thread.join()
    start("IPv6", "::1", six.port if six else 1)
    privileged = int(UNPRIVILEGED.read_text()) > 80
    if privileged and os.geteuid() == 0:
        os.seteuid(65534)
        start("privileged", "127.0.0.1", 80)
        os.seteuid(0)
    assert first.port is not None
    counted = sum(counts(get(first.port)[2].decode()).values())
    for exporter in (first, six):
        if exporter is not None:
            exporter.stop()
    return {"raised": raised, "uncounted": len(raised) - counted}


def attack(
    kinds: dict[str, int], series: int, certificate: list[str] | None, measured: float
) -> dict[str, Any]:
    """Keep a server busy with clients that misbehave; return how it and the application fare.

    Args:
        kinds: how many clients there are of each kind.
        series: how many series a scrape shows.
        certificate: files with the server's certificate and key; None is a server without TLS.
        measured: seconds for which the application is watched undisturbed.
    """
    files: Any = {}
    if certificate is not None:
        files = {"certfile": certificate[0], "keyfile": certificate[1]}
    before = sockets()
    exporter = PrometheusExporter(
        port=0, allowed_props=["peer"], max_series=series + 10, collect_defaults=False, **files
    )
    _make_series(exporter, series)
    with Application() as application:
        alone = application.pace(measured)
        idle = threads(), sockets()
        start, did = time.monotonic(), application.done
        attackers = _start(
            "server.attackers", port=exporter.port, kinds=kinds, tls=certificate is not None
        )
        most_threads, most_sockets, gone = 0, 0, 0.0
        # All have come when there were as many as there are kinds of them; then they may only go.
        while not gone and time.monotonic() < start + 30:
            time.sleep(0.05)  # looking costs the application time, too
            most_threads = max(most_threads, threads() - idle[0])
            now = sockets() - idle[1]
            most_sockets = max(most_sockets, now)
            if most_sockets >= 0.9 * sum(kinds.values()) and now <= 0:
                gone = time.monotonic() - start
        pace = (application.done - did) / (time.monotonic() - start)
        said, _ = attackers.communicate("\n")
        alone = (alone + application.pace(measured)) / 2
    exporter.stop()
    return {
        "threads": most_threads,
        "sockets": most_sockets,
        "gone": gone or 99.0,
        "kept": pace / alone,
        "left": sockets() - before,
        **json.loads(said),
    }


REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def attackers(port: int, kinds: dict[str, int], *, tls: bool) -> dict[str, Any]:
    """Be clients that misbehave, until a line comes on stdin.

    Meanwhile another address asks five times a second, so that what holds up answers for a moment
    shows; each seventh time it is a scrape.
    """
    took: list[float] = []

    def ask() -> None:
        start = time.monotonic()
        _ask(port, "/-/healthy" if len(took) % 7 else "/metrics", tls=tls)
        took.append(time.monotonic() - start)

    with repeating(ask, 0.2):
        _misbehave(port, kinds, tls=tls)
    return {"slowest scrape": max(took[::7]), "slowest answer": max(took)}


def _misbehave(port: int, kinds: dict[str, int], *, tls: bool) -> None:
    began = HELLO if tls else REQUEST[:20]
    half_open = [connected(port, began) for _ in range(kinds["half-open"])]
    slow = [connected(port, began[:1]) for _ in range(kinds["slow"])]
    silent = [connected(port) for _ in range(kinds["silent"])]
    with ThreadPoolExecutor(kinds["late"] + kinds["unread"]) as pool:
        late = list(pool.map(lambda _: _served(port, tls=tls), range(kinds["late"])))
        unread = list(pool.map(lambda _: _asking(port, REQUEST, tls=tls), range(kinds["unread"])))
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        for client in slow + late:
            with suppress(OSError):
                client.send(b"x")
    for client in half_open + slow + silent + late + unread:
        client.close()


def _served(port: int, *, tls: bool) -> socket.socket:
    """Return a connection that has got its answer."""
    client = _asking(port, REQUEST.replace(b"/metrics", b"/-/healthy"), tls=tls)
    while client.recv(4096):
        pass
    return client


def _asking(port: int, said: bytes, *, tls: bool) -> socket.socket:
    """Return a connection that has asked for something, with next to no room for the answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    if tls:
        client = _trusting().wrap_socket(client)
    client.sendall(said)
    return client


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _ask(port: int, path: str, *, tls: bool) -> None:
    options: dict[str, Any] = {"timeout": 20, "source_address": (ELSEWHERE, 0)}
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=_trusting(), **options
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, **options)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert (answer.status, bool(answer.read())) == (200, True)
    connection.close()


class Watched(Collector):
    """Counts how often it is collected, and how often at once."""

    def __init__(self) -> None:
        self.times = self.at_once = self._now = 0
        self._lock = threading.Lock()

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Any:
        with self._lock:
            self.times += 1
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        yield GaugeMetricFamily("watched", "Watched.", value=1)
        with self._lock:
            self._now -= 1


def many_scrapes(clients: int, series: int, measured: float) -> dict[str, Any]:
    """Scrape a server in many clients at once; return how it and the application fare."""
    exporter = PrometheusExporter(
        port=0, allowed_props=["peer"], max_series=series + 10, collect_defaults=False
    )
    watched = Watched()
    exporter.registry.register(watched)
    _make_series(exporter, series)
    with Application() as application:
        alone = application.pace(measured)
        scraping = _start("server.scrapers", port=exporter.port, clients=clients)
        assert scraping.stdout is not None
        scraping.stdout.readline()
        application.longest = 0.0
        did, start = application.done, time.monotonic()
        said, _ = scraping.communicate("\n")
        pace = (application.done - did) / (time.monotonic() - start)
        longest = application.longest
        alone = (alone + application.pace(measured)) / 2
    exporter.stop()
    return {
        "kept": pace / alone,
        "longest": longest,
        "collections": watched.times,
        "at once": watched.at_once,
        **json.loads(said),
    }


def scrapers(port: int, clients: int) -> dict[str, Any]:
    """Scrape in many connections at once when a line comes on stdin."""
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.monotonic()
    said = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n"
    requests = [connected(port, said) for _ in range(clients)]
    answers = Counter[str]()
    for client in requests:
        with suppress(OSError):
            answer = b"".join(iter(lambda client=client: client.recv(65536), b""))  # type: ignore[misc]
            head, _, body = answer.partition(b"\r\n\r\n")
            answers[f"{answer[9:12].decode()} {len(body) > 1000 and b'gzip' in head}"] += 1
        client.close()
    return {"answers": dict(answers), "seconds": time.monotonic() - start}


MARK = "x7Qz9"


def fuzz(requests: int, seed: int) -> dict[str, Any]:
    """Send requests that are none, or odd; return which answers were wrong."""
    draw = random.Random(seed)
    exporter = PrometheusExporter(port=0)
    assert exporter.port is not None
    set_trace_function(exporter)
    Swarm().connect()
    wrong: list[str] = []
    answers = Counter[str]()
    for _ in range(requests):
        request, path = _odd_request(draw)
        answer = _answer(exporter.port, request)
        status = answer[9:12].decode("latin-1")
        answers[status] += 1
        if _is_wrong(answer, status, path):
            wrong.append(f"{request[:300]!r} -> {answer[:300]!r}")
    good = get(exporter.port)[0]
    exporter.stop()
    return {"wrong": wrong[:5], "answers": dict(sorted(answers.items())), "after": good}


def _is_wrong(answer: bytes, status: str, path: str | None) -> bool:
    return (
        status >= "500"
        or (bool(answer) and not answer.startswith(b"HTTP/1.1 "))
        or MARK.encode() in answer
        or b"Traceback" in answer
        or (status == "200" and path not in PATHS)
        or answer.count(b"HTTP/1.1 ") > 1
    )


def _answer(port: int, request: bytes) -> bytes:
    with connected(port) as client:
        # It may close the connection before it has read all.
        with suppress(OSError):
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(OSError):
            while part := client.recv(65536):
                answer += part
        return answer


def _odd_request(draw: random.Random) -> tuple[bytes, str | None]:
    """Return a request, and the path that it may be understood to ask for."""
    if draw.random() < 0.1:
        return MARK.encode() + draw.randbytes(draw.choice([1, 10, 1000])) + b"\r\n\r\n", None
    method = draw.choice(
        ["GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "get", MARK]
    )
    target = _odd_target(draw)
    version = draw.choice(
        ["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/0.9", "HTTP/9.9", f"{MARK}/1.1", ""]
    )
    headers = {
        "Host": "localhost",
        **dict(_odd_header(draw) for _ in range(draw.choice([0, 1, 3]))),
    }
    if draw.random() < 0.02:
        headers |= {f"X-{MARK}-{i}": MARK for i in range(200)}
    lines = [
        f"{method} {target} {version}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    end = draw.choice(["\r\n", "\r\n", "\r\n", "\n"])
    request = end.join([*lines, "", ""]).encode("utf-8", "surrogateescape")
    if draw.random() < 0.1:
        request += draw.choice([request, MARK.encode() * 100, draw.randbytes(1000)])
    if draw.random() < 0.05:
        request = request[: draw.randrange(len(request))]
    return request, unquote(urlsplit(target).path) if "[" not in target.partition("?")[0] else None


def _odd_target(draw: random.Random) -> str:
    junk = "".join(draw.choices(["a", "%", "%00", "%2e", "/", "..", "\xe9", ";", "[", "\x01"], k=5))
    query = draw.choice(
        ["", "", "?name[]=function_counter_total", f"?name[]={MARK}", f"?{MARK}=%zz&&=&name[]"]
    )
    path = draw.choice(
        ["/metrics"] * 4
        + ["/", "/-/healthy", f"/{MARK}", f"/{MARK}{junk}", f"/metrics/{MARK}", f"//{MARK}/metrics"]
        + [
            f"/{MARK}/../metrics",
            f"http://{MARK}/{MARK}",
            f"{MARK}:80",
            "*",
            "/metrics%00",
            "/%6detrics",
        ]
    )
    if draw.random() < 0.01:
        path += MARK * 14_000
    return path + query


def _odd_header(draw: random.Random) -> tuple[str, str]:
    return draw.choice(
        [
            (
                "Accept",
                draw.choice(
                    [
                        "text/plain;version=abc",
                        f"{MARK}/*;q=x",
                        "application/openmetrics-text",
                        ",;=",
                    ]
                ),
            ),
            ("Accept-Encoding", draw.choice(["gzip", "gzip;q=0", f"{MARK};q=1", ";;,", "*"])),
            ("Content-Length", draw.choice(["-1", "0", "99999999999", MARK, "1e3", "5"])),
            ("Transfer-Encoding", draw.choice(["chunked", MARK])),
            ("Expect", draw.choice(["100-continue", MARK])),
            ("Connection", draw.choice(["keep-alive", "close", "upgrade", MARK])),
            ("Authorization", draw.choice(["Basic", "Basic !!", f"Bearer {MARK}"])),
            (
                "Host",
                draw.choice(["localhost", "127.0.0.1", "[::1]:80", MARK, "", ":", f"[{MARK}"]),
            ),
            (MARK, MARK),
            (f"X-{MARK}\x00", "\udcff"),
            (" folded", MARK),
            ("", ""),
        ]
    )
