"""Registry as a WSGI and an ASGI application."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace_prometheus.endpoint import make_asgi_app, make_wsgi_app

from .metrics_proto import families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace_prometheus.http.asgi import ASGIApp, Message

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
MESSAGES = PROTOBUF.replace(" ", "")
PROMETHEUS_2_NATIVE = (
    f"{MESSAGES},application/openmetrics-text;version=1.0.0;q=0.8,"
    "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_NATIVE = (
    f"{MESSAGES};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
"""As Prometheus 2.42 and 3.5 send it with the feature `native-histograms`."""


class Reply:
    """An answer as a client sees it."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = dict(headers)
        self.body = body
        assert len(self.headers) == len(headers), "a header came twice"


class Failing:
    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        raise RuntimeError("secret of the application")


class Calling:
    """A collector that calls a function at each scrape."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        self.function()
        return []


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("jobs", "Jobs done.", registry=registry).inc(3)
    Gauge("queue", "Jobs waiting.", registry=registry).set(5)
    return registry


@pytest.fixture
def large(registry: CollectorRegistry) -> CollectorRegistry:
    """Return a registry whose page is far over the size from which it is compressed."""
    calls = Counter("calls", "Calls.", ["path"], registry=registry)
    for number in range(200):
        calls.labels(f"/path/{number}").inc()
    return registry


def call(
    registry: CollectorRegistry,
    *,
    method: str = "GET",
    query: str = "",
    **headers: str,
) -> Reply:
    """Send one request through the WSGI application, watched by wsgiref's validator."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": query}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        started.append((status, headers))

    result = validator(make_wsgi_app(registry))(environ, start_response)
    body = b"".join(result)
    result.close()  # type: ignore[attr-defined]
    [(status, answered)] = started
    return Reply(status, answered, body)


def drive(app: ASGIApp, scope: Message, *events: Message) -> list[Message]:
    """Run the ASGI application under asyncio and return what it sent."""
    sent: list[Message] = []
    waiting = list(events)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        await app(scope, receive, send)

    asyncio.run(main())
    assert not waiting, "the application left events unread"
    return sent


def http_scope(
    method: str = "GET", query: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Message:
    return {"type": "http", "method": method, "query_string": query, "headers": headers}


def values(page: bytes) -> dict[str, float]:
    families = parse_text(page.decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_without_wishes_the_text_format_is_served(registry: CollectorRegistry) -> None:
    """A client without an `Accept` header gets the whole registry in text format 0.0.4."""
    reply = call(registry)
    assert reply.status == "200 OK"
    assert reply.headers["Content-Type"] == TEXT
    assert values(reply.body).items() >= {"jobs_total": 3, "queue": 5}.items()


@pytest.mark.parametrize("accept", ["application/openmetrics-text", PROMETHEUS_2, PROMETHEUS_3])
def test_openmetrics_is_served_on_request(registry: CollectorRegistry, accept: str) -> None:
    """A client that asks for OpenMetrics, as Prometheus does, gets version 1.0.0 of it."""
    reply = call(registry, accept=accept)
    assert reply.headers["Content-Type"] == OPENMETRICS
    families = parse_openmetrics(reply.body.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in families} == {"jobs", "queue"}


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/html,*/*;q=0.8",
        "text/plain",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "text/plain;version=abc",
        "text/plain;version=0.x.<script>",
        "application/openmetrics-text;version=abc",
        ";;,,==;version",
        "application/vnd.google.protobuf",
        "application/vnd.google.protobuf;encoding=delimited",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
        "application/vnd.google.protobuf;proto=other.Message;encoding=delimited",
        f"{MESSAGES};q=0,text/plain;version=0.0.4;q=0.1",
        f"{MESSAGES};q=0.2,text/plain;version=0.0.4;q=0.3",
        f"text/plain;version=0.0.4,{MESSAGES}",
        "text/plain;version=0.0.4,application/openmetrics-text;q=0.9",
        "é\x80",
    ],
)
def test_any_other_wish_gets_the_text_format(registry: CollectorRegistry, accept: str) -> None:
    """An Accept header that is odd or malformed gets the text format, and is not echoed."""
    reply = call(registry, accept=accept)
    assert reply.status == "200 OK"
    assert reply.headers["Content-Type"] == TEXT


@pytest.mark.parametrize(
    "accept",
    [
        PROTOBUF,
        MESSAGES,
        PROMETHEUS_2_NATIVE,
        PROMETHEUS_3_NATIVE,
        f"text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.75,{MESSAGES};q=0.9",
        f"{MESSAGES} ; q = 1.000, application/openmetrics-text",
        f"{MESSAGES};q=nan",
        f"{MESSAGES};q=2",
    ],
)
def test_messages_are_served_to_a_client_that_prefers_them(
    registry: CollectorRegistry, accept: str
) -> None:
    """A client that prefers messages to text, as Prometheus does for native histograms, gets them.

    A weight that is none is one of 1.
    """
    reply = call(registry, accept=accept)
    assert reply.status == "200 OK"
    assert reply.headers["Content-Type"] == PROTOBUF
    assert {family.name for family in families(reply.body)} == {"jobs_total", "queue"}


def test_messages_are_restricted_by_names(registry: CollectorRegistry) -> None:
    """`name[]` leaves the families that have a sample of the name."""
    reply = call(registry, query="name[]=queue&name[]=x", accept=PROTOBUF)
    assert [family.name for family in families(reply.body)] == ["queue"]
    assert call(registry, query="name[]=nothing", accept=PROTOBUF).body == b""


def test_messages_are_compressed(large: CollectorRegistry) -> None:
    """Large pages of messages are compressed as those of text are, and HEAD has their headers."""
    plain = call(large, accept=PROTOBUF)
    reply = call(large, accept=PROTOBUF, accept_encoding="gzip")
    assert reply.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(reply.body) == plain.body
    head = call(large, method="HEAD", accept=PROTOBUF, accept_encoding="gzip")
    assert (head.status, head.headers, head.body) == (reply.status, reply.headers, b"")
    assert int(head.headers["Content-Length"]) == len(reply.body)


def test_a_page_of_messages_is_never_taken_for_a_compressed_one() -> None:
    """A message of 31 bytes begins with the byte that a compressed page begins with."""
    registry = CollectorRegistry()
    Gauge("x" * 7, "y" * 5, registry=registry).set(1)
    reply = call(registry, accept=PROTOBUF, accept_encoding="gzip")
    assert reply.body[0] == 31
    assert "Content-Encoding" not in reply.headers


def test_a_version_is_never_echoed(registry: CollectorRegistry) -> None:
    """A version of OpenMetrics that does not exist yet is answered with version 1.0.0."""
    reply = call(registry, accept="application/openmetrics-text;version=9.9.9;escaping=values")
    assert reply.headers["Content-Type"] == OPENMETRICS


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name[]=queue", {"queue"}),
        ("name%5B%5D=queue&name[]=jobs_total", {"queue", "jobs_total"}),
        ("name[]=nothing", set()),
        ("name[]=%ff%00", set()),
    ],
)
def test_names_restrict_the_page(registry: CollectorRegistry, query: str, names: set[str]) -> None:
    """`name[]` parameters leave only the samples of those names on the page."""
    reply = call(registry, query=query)
    assert reply.status == "200 OK"
    assert set(values(reply.body)) == names


@pytest.mark.parametrize("query", ["name[]=", "other=1", "name[]", "%", "&&=&"])
def test_other_parameters_restrict_nothing(registry: CollectorRegistry, query: str) -> None:
    """Empty, unknown or malformed parameters leave the page whole."""
    assert {"jobs_total", "queue"} <= set(values(call(registry, query=query).body))


@pytest.mark.parametrize("accepted", ["gzip", "deflate, GZip;q=0.5", "gzip ; q=0.001, br"])
def test_a_large_page_is_compressed(large: CollectorRegistry, accepted: str) -> None:
    """A client that accepts gzip gets a large page compressed, and much smaller."""
    plain = call(large)
    reply = call(large, accept_encoding=accepted)
    assert reply.headers["Content-Encoding"] == "gzip"
    assert values(gzip.decompress(reply.body)) == values(plain.body)
    assert len(reply.body) < len(plain.body) / 4


@pytest.mark.parametrize(
    "accepted", ["", "identity", "gzip;q=0", "gzip; q = 0.000", "gzipped", "br, gzip;q=0, *"]
)
def test_a_page_is_plain_unless_gzip_is_accepted(large: CollectorRegistry, accepted: str) -> None:
    """A client that does not accept gzip, or refuses it, gets the page as it is."""
    reply = call(large, accept_encoding=accepted)
    assert "Content-Encoding" not in reply.headers
    assert "jobs_total" in values(reply.body)


def test_a_small_page_is_not_compressed(registry: CollectorRegistry) -> None:
    """A page of one packet is sent as it is, whatever the client accepts."""
    assert "Content-Encoding" not in call(registry, accept_encoding="gzip").headers


def test_caches_learn_what_the_page_depends_on(registry: CollectorRegistry) -> None:
    """The page may not be stored or sniffed, and names the headers it depends on."""
    headers = call(registry).headers
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_head_has_the_headers_of_get(large: CollectorRegistry, encoding: str) -> None:
    """HEAD gets exactly the headers of GET, the length among them, and no body."""
    get = call(large, accept_encoding=encoding)
    head = call(large, method="HEAD", accept_encoding=encoding)
    assert (head.status, head.headers) == (get.status, get.headers)
    assert int(head.headers["Content-Length"]) == len(get.body) > 0
    assert head.body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(registry: CollectorRegistry, method: str) -> None:
    """Any method but GET and HEAD gets status 405, which names those two."""
    reply = call(registry, method=method)
    assert reply.status == "405 Method Not Allowed"
    assert reply.headers["Allow"] == "GET, HEAD"
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    assert b"jobs" not in reply.body


def test_a_failing_collector_costs_its_own_messages(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """When a collector raises, a client that wants messages gets those of the others."""
    registry.register(type("Unhappy", (Failing,), {})())
    reply = call(registry, accept=PROTOBUF)
    assert {family.name for family in families(reply.body)} == {"jobs_total", "queue"}
    (record,) = caplog.records
    assert record.name == "hypertrace_prometheus"


def test_a_failing_collector_costs_its_own_metrics(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """When a collector raises, the client gets the others, and the log gets the traceback."""
    registry.register(type("Poor", (Failing,), {})())
    reply = call(registry)
    assert reply.status == "200 OK"
    assert values(reply.body).items() >= {"jobs_total": 3, "queue": 5}.items()
    assert b"secret" not in reply.body
    (record,) = caplog.records
    assert record.name == "hypertrace_prometheus"
    assert "secret of the application" in caplog.text


def test_a_page_that_cannot_be_made_is_logged_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When there is nothing to show, the client gets one line and the log gets the traceback."""
    registry = CollectorRegistry()
    # A separate class: others may have been logged less than a minute ago.
    registry.register(type("Broken", (Failing,), {})())
    reply = call(registry)
    assert reply.status == "500 Internal Server Error"
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.body.count(b"\n") == 1
    assert b"secret" not in reply.body
    assert {record.name for record in caplog.records} == {"hypertrace_prometheus"}
    assert "secret of the application" in caplog.text


@pytest.mark.parametrize("accept", [PROMETHEUS_2, PROMETHEUS_3_NATIVE])
def test_the_asgi_application_answers_as_the_wsgi_one(
    large: CollectorRegistry, accept: str
) -> None:
    """Both applications give the same status, headers and body for the same request."""
    wsgi = call(large, query="name[]=jobs_total", accept=accept, accept_encoding="gzip")
    headers = ((b"accept", accept.encode()), (b"accept-encoding", b"gzip"))
    scope = http_scope(query=b"name[]=jobs_total", headers=headers)
    start, body = drive(make_asgi_app(large), scope)
    assert start["type"] == "http.response.start"
    assert f"{start['status']} OK" == wsgi.status
    assert start["headers"] == [
        (name.lower().encode(), value.encode()) for name, value in wsgi.headers.items()
    ]
    assert body == {"type": "http.response.body", "body": wsgi.body}


def test_the_asgi_application_handles_head_and_other_methods(registry: CollectorRegistry) -> None:
    """HEAD has no body and other methods are refused, under ASGI as under WSGI."""
    start, body = drive(make_asgi_app(registry), http_scope("HEAD"))
    assert (start["status"], body["body"]) == (200, b"")
    start, _ = drive(make_asgi_app(registry), http_scope("POST"))
    assert start["status"] == 405
