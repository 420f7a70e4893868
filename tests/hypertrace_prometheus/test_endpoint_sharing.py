"""Many requests for the metrics at once, and collectors that hang."""

from __future__ import annotations

import asyncio
import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from hypertrace_prometheus.endpoint import make_asgi_app, make_wsgi_app, metrics_view
from hypertrace_prometheus.exposition import collection, single_flight
from hypertrace_prometheus.exposition.single_flight import SingleFlight
from hypertrace_prometheus.http.views import Request, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace_prometheus.http.asgi import Message

WAIT = 10.0


class Slow:
    """A collector that waits for an event, and counts its calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.started = threading.Event()
        self.proceed = threading.Event()
        self.times = 0
        registry.register(self)

    def collect(self) -> list[Any]:
        self.times += 1
        self.started.set()
        assert self.proceed.wait(WAIT)
        return []


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry whose page is large enough to be compressed."""
    registry = CollectorRegistry()
    Gauge("queue", "Jobs waiting.", registry=registry).set(5)
    calls = Counter("calls", "Calls.", ["path"], registry=registry)
    for number in range(100):
        calls.labels(f"/path/{number}").inc()
    return registry


@pytest.fixture
def wait_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give a function that waits until so many requests have come; none comes too late."""
    monkeypatch.setattr(single_flight, "SHARED_FOR", WAIT)
    come, join = threading.Semaphore(0), SingleFlight._join

    def counted(*args: Any) -> Any:
        run = join(*args)
        come.release()
        return run

    monkeypatch.setattr(SingleFlight, "_join", counted)

    def wait_for(requests: int) -> None:
        for _ in range(requests):
            assert come.acquire(timeout=WAIT)

    return wait_for


def by_wsgi(registry: CollectorRegistry, query: str = "", **headers: str) -> bytes:
    environ: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    environ["QUERY_STRING"] = query
    setup_testing_defaults(environ)
    return b"".join(make_wsgi_app(registry)(environ, lambda *_: print))


def by_asgi(registry: CollectorRegistry, **headers: str) -> bytes:
    sent: list[Message] = []
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": "GET", "headers": named}
        await make_asgi_app(registry)(scope, receive, send)

    asyncio.run(main())
    body: bytes = sent[1]["body"]
    return body


def by_server(registry: CollectorRegistry, accept_encoding: str = "", asked: float = inf) -> bytes:
    view = metrics_view(registry, bounded=True)
    headers = {"accept-encoding": accept_encoding}
    return respond(view, Request("GET", headers=headers, asked=asked)).body


WAYS: tuple[Callable[..., bytes], ...] = (by_wsgi, by_asgi, by_server)


def test_requests_at_the_same_time_share_one_collection(
    registry: CollectorRegistry,
    wait_for: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever way they come, they get the same bytes, collected and compressed once."""
    slow, compress = Slow(registry), gzip.compress
    compressed: list[int] = []

    def counted(body: bytes, *args: Any, **how: Any) -> bytes:
        compressed.append(len(body))
        return compress(body, *args, **how)

    monkeypatch.setattr(gzip, "compress", counted)
    with ThreadPoolExecutor(24) as pool:
        futures = [pool.submit(way, registry, accept_encoding="gzip") for way in WAYS * 8]
        wait_for(24)
        slow.proceed.set()
        bodies = {future.result(WAIT) for future in futures}
    assert len(bodies) == slow.times == len(compressed) == 1
    assert b"queue 5.0" in gzip.decompress(bodies.pop())


def test_requests_after_each_other_are_collected_again(registry: CollectorRegistry) -> None:
    """A scrape shows what was counted before it, however recent the last scrape was."""
    fresh = Counter("fresh", "Fresh.", registry=registry)
    for number, way in enumerate(WAYS * 2, start=1):
        fresh.inc()
        assert f"fresh_total {number}.0" in way(registry).decode()


def test_a_request_that_had_to_wait_takes_what_was_collected_meanwhile(
    registry: CollectorRegistry,
) -> None:
    """A collection that began after a request arrived is new enough for it."""
    slow = Slow(registry)
    slow.proceed.set()
    asked = monotonic()
    first = by_server(registry, asked=asked)
    assert by_server(registry, asked=asked) == first
    assert slow.times == 1
    by_server(registry, asked=monotonic())
    assert slow.times == 2


def test_each_gets_the_page_it_asked_for(
    registry: CollectorRegistry, wait_for: Callable[[int], None]
) -> None:
    """Requests at the same time share no page with others, and one collection for each format."""
    slow = Slow(registry)
    wishes: tuple[dict[str, Any], ...] = (
        {},
        {"accept": "application/openmetrics-text"},
        {"accept_encoding": "gzip"},
        {"query": "name[]=queue"},
    )
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(by_wsgi, registry, **wish) for wish in wishes * 2]
        wait_for(8)
        slow.proceed.set()
        bodies = [future.result(WAIT) for future in futures]
    assert bodies[:4] == bodies[4:]
    text, openmetrics, compressed, queue = bodies[:4]
    assert text == gzip.decompress(compressed)
    assert openmetrics.endswith(b"# EOF\n")
    assert queue == b"# HELP queue Jobs waiting.\n# TYPE queue gauge\nqueue 5.0\n"
    assert slow.times == 2


def test_names_that_nothing_has_start_no_collection(
    registry: CollectorRegistry, wait_for: Callable[[int], None]
) -> None:
    """Requests at the same time share a collection, whatever names a client makes up."""
    slow = Slow(registry)
    queries = ["", *(f"name[]=queue&name[]=x{number}" for number in range(8))]
    with ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(by_wsgi, registry, query) for query in queries]
        wait_for(9)
        slow.proceed.set()
        whole, *restricted = (future.result(WAIT) for future in futures)
    assert set(restricted) == {b"# HELP queue Jobs waiting.\n# TYPE queue gauge\nqueue 5.0\n"}
    assert restricted[0] in whole
    assert slow.times == 1


def test_pages_of_some_names_are_compressed_one_by_one(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many pages of some names are compressed on one core, and a whole page does not wait."""
    compress, some, whole = gzip.compress, threading.Semaphore(0), threading.Event()
    at_once, most = [0], [0]

    def counted(body: bytes, *args: Any, **how: Any) -> bytes:
        if b"queue" not in body:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            some.release()
            assert whole.wait(WAIT)
            at_once[0] -= 1
        return compress(body, *args, **how)

    monkeypatch.setattr(gzip, "compress", counted)
    with ThreadPoolExecutor(9) as pool:
        futures = [
            pool.submit(by_wsgi, registry, "name[]=calls_total" + more, accept_encoding="gzip")
            for more in ("", "&name[]=calls_created") * 4
        ]
        assert some.acquire(timeout=WAIT)
        page = pool.submit(by_wsgi, registry, accept_encoding="gzip").result(WAIT)
        whole.set()
        assert len({future.result(WAIT) for future in futures}) == 2
    assert b"queue 5.0" in gzip.decompress(page)
    assert most == [1]


def test_a_collector_that_hangs_is_given_up(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded view responds in time, without the metrics of a collector that has not returned."""
    monkeypatch.setattr(collection, "PATIENCE", 0.2)
    slow = Slow(registry)
    for _ in range(3):
        assert b"\nqueue 5.0\n" in by_server(registry)
    assert slow.times == 1
    slow.proceed.set()


def test_a_registry_that_cannot_be_remembered_is_served() -> None:
    """A registry of another kind, that takes no weak reference, is collected from as well."""

    class Own:
        __slots__ = ()

        def collect(self) -> list[Any]:
            return []

    assert by_wsgi(Own()) == b""  # type: ignore[arg-type]
