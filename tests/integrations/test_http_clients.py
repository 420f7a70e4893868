"""HTTP clients: what holds for each library, as the server has counted it."""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import (
    Tracer,
    clear_trace_function,
    dropped_events,
    suppress_tracing,
    swallowed_errors,
)
from hypertrace.integrations import install, uninstall
from hypertrace.integrations.http_clients import HttpClient, error_type_of
from hypertrace.metrics import HistogramReading

from .http_libraries import NAMES, fetch, integration_of, module_of
from .http_peers import refusing, running, self_signed, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Metrics

    from .http_peers import Server

    Points = Callable[[str], dict[tuple[str, ...], float]]

REQUESTS = "http_client_request_duration_seconds"
CONNECTS = "http_client_connect_duration_seconds"
LOOKUPS = "http_client_name_lookup_duration_seconds"
ACTIVE = "http_client_active_requests"
HOST = "127.0.0.1"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, library: Callable[[str], Any]) -> str:
    """Give the name of each library, which is imported."""
    found: str = request.param
    library(module_of(found))
    return found


@pytest.fixture
def installed(name: str, metrics: Metrics) -> str:
    """Give the name of each library, whose integration is installed."""
    install(integration_of(name))
    return name


def _check(points: Points, server: Server, address: str = HOST) -> None:
    assert points(REQUESTS) == server.by_labels(address)
    assert set(points(ACTIVE).values()) == {0}
    assert swallowed_errors() == 0


def test_requests_are_those_that_the_server_has_counted(
    installed: str, server: Server, points: Points
) -> None:
    """Methods, status and redirects are the server's, and so is the number of connections."""
    paths = ("/ok", "/ok?token=secret", "/status/404", "/status/500", "/redirect/2", "/chunks")
    for method in ("GET", "HEAD"):
        fetch(installed, *(server.url(path) for path in paths), method=method)
    assert sum(server.answered.values()) == 2 * 8
    _check(points, server)
    assert points(CONNECTS) == {(HOST, server.port): server.connections}


def test_connections_are_kept_alive(installed: str, server: Server, points: Points) -> None:
    """A request over a connection that is there waits for none."""
    if installed == "urllib":
        pytest.skip("it keeps no connections")
    fetch(installed, *[server.url()] * 5)
    assert points(CONNECTS) == {(HOST, server.port): 1}
    assert points(LOOKUPS) == {}


def test_a_name_is_looked_up(installed: str, server: Server, points: Points) -> None:
    """The wait for an address is a part of that for a connection."""
    fetch(installed, server.url(host="LocalHost"))
    _check(points, server, "localhost")
    assert points(CONNECTS) == {("localhost", server.port): 1}
    assert points(LOOKUPS) == {("localhost", server.port): 1}


def test_an_unknown_method_is_other(installed: str, server: Server, points: Points) -> None:
    """A method may be any text: all that are unknown are one."""
    fetch(installed, server.url(), method="BREW")
    assert points(REQUESTS) == {(HOST, server.port, "_OTHER", "200", ""): 1}


def test_a_body_may_be_a_generator(installed: str, server: Server, points: Points) -> None:
    """A generator is sent as it comes."""
    fetch(installed, server.url(), method="POST", body=lambda: (b"a" * 10 for _ in range(3)))
    _check(points, server)


def test_redirects_are_grouped(name: str, metrics: Metrics, server: Server, points: Points) -> None:
    """The requests of one call are one, of the first host; calls that are not redirected stay."""
    install(integration_of(name), group_redirects=True)
    paths = "/redirect/3", "/ok", "/elsewhere", "/status/404"
    fetch(name, *(server.url(path) for path in paths))
    assert server.answered["GET", 302] == 4
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "200", ""): 3,
        (HOST, server.port, "GET", "404", "404"): 1,
    }
    assert set(points(ACTIVE).values()) == {0}
    assert points(CONNECTS) == {(HOST, server.port): 4 if name == "urllib" else 2}


def test_a_loop_of_redirects_is_grouped(
    name: str, metrics: Metrics, server: Server, points: Points
) -> None:
    """A call that the library ends because of too many redirects counts once, with their status."""
    install(integration_of(name), group_redirects=True)
    with suppress(Exception):
        fetch(name, server.url("/loop"))
    assert server.answered["GET", 302] > 1
    assert points(REQUESTS) == {(HOST, server.port, "GET", "302", ""): 1}


def test_grouped_times_are_summed(name: str, metrics: Metrics, server: Server) -> None:
    """The time of a group is that of its parts."""
    install(integration_of(name), group_redirects=True)

    server.delay = 0.05
    fetch(name, server.url("/redirect/2"))
    (point,) = metrics.read().family(REQUESTS).points
    assert isinstance(point.value, HistogramReading)
    assert point.value.sum >= 0.15


@pytest.mark.parametrize(
    ("case", "error_type"),
    [
        ("refused", "connection_refused"),
        ("unknown", "name_resolution"),
        ("self-signed", "tls"),
        ("no connection", "timeout"),
        ("no answer", "timeout"),
        ("half a body", "timeout"),
    ],
)
def test_a_failure_has_its_type(
    installed: str, server: Server, points: Points, case: str, error_type: str
) -> None:
    """What ended a request is one of a few words, whatever the library calls it."""
    status = "200" if case == "half a body" else ""
    with refusing() as refused, silent() as full, running(self_signed()) as secure:
        url = {
            "refused": f"http://127.0.0.1:{refused}/",
            "unknown": "http://no.such.invalid:80/",
            "self-signed": secure.url(),
            "no connection": f"http://127.0.0.1:{full}/",
            "no answer": server.url("/wait"),
            "half a body": server.url("/half"),
        }[case]
        with pytest.raises(Exception):  # noqa: B017, PT011 -- each library has its own
            fetch(installed, url, timeout=0.3)
    ((labels, count),) = points(REQUESTS).items()
    assert (labels[2:], count) == (("GET", status, error_type), 1)
    assert set(points(ACTIVE).values()) == {0}
    assert swallowed_errors() == 0


def test_a_torn_body_is_an_error(installed: str, server: Server, points: Points) -> None:
    """A connection that ends before the body does is an error of the request."""
    with pytest.raises(Exception):  # noqa: B017, PT011 -- each library has its own
        fetch(installed, server.url("/torn"))
    ((labels, count),) = points(REQUESTS).items()
    assert (labels[3], count) == ("200", 1)
    assert labels[4] in {
        "ClientPayloadError",
        "IncompleteRead",
        "ProtocolError",
        "RemoteProtocolError",
    }


def test_a_proxy_is_not_the_server(installed: str, server: Server, points: Points) -> None:
    """The host is that of the URL, without user and password, also if a proxy is asked."""
    fetch(installed, "http://user:word@example.test/ok?a=b", proxy=server.url(""))
    assert points(REQUESTS) == {("example.test", "80", "GET", "200", ""): 1}


def test_hosts_are_bounded(name: str, metrics: Metrics, server: Server, points: Points) -> None:
    """Hosts beyond the first ones are one value."""
    install(integration_of(name), max_hosts=1)
    fetch(name, server.url(), server.url(host="localhost"), server.url())
    with running() as other:
        fetch(name, other.url())
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "200", ""): 2,
        ("<other>", "", "GET", "200", ""): 2,
    }


def test_threads_are_counted(installed: str, server: Server, points: Points) -> None:
    """Clients in several threads lose no request."""
    urls = [server.url("/ok")] * 20
    threads = [threading.Thread(target=fetch, args=(installed, *urls)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.answered["GET", 200] == 80
    _check(points, server)


def test_what_tracing_sends_is_not_measured(installed: str, server: Server, points: Points) -> None:
    """A request in `suppress_tracing`, as an exporter sends it, is dropped, and counted as that."""
    suppress_tracing(fetch, installed, server.url())
    assert server.answered["GET", 200] == 1
    assert points(REQUESTS) == {} == points(CONNECTS)
    assert dropped_events() == 1


def test_what_opentelemetry_sends_is_not_measured(
    installed: str, server: Server, points: Points, library: Callable[[str], Any]
) -> None:
    """A request of an exporter of OpenTelemetry, which its own integrations leave out, too."""
    context = library("opentelemetry.context")
    token = context.attach(context.set_value("suppress_instrumentation", value=True))
    try:
        fetch(installed, server.url())
    finally:
        context.detach(token)
    assert points(REQUESTS) == {}


def test_exporters_are_not_measured(
    metrics: Metrics, server: Server, points: Points, library: Callable[[str], Any]
) -> None:
    """What the exporters of this package send is no request of the application."""
    library("requests")
    install("requests", "urllib3", "urllib")
    exporters = (
        library("hypertrace.exporters.opentelemetry"),
        library("hypertrace.exporters.influx"),
    )
    url = server.url("/sink")
    for exporter in (
        exporters[0].OpenTelemetryExporter(f"{url}/v1/metrics", metrics=metrics, interval=1_000),
        exporters[1].InfluxExporter(url, database="a", metrics=metrics, interval=1_000),
    ):
        try:
            before = server.answered["POST", 204]
            Tracer("Shop").trace()
            exporter.flush()
            assert server.answered["POST", 204] > before
        finally:
            exporter.stop()
    assert points(REQUESTS) == {}
    assert ACTIVE not in {family.name for family in metrics.read().families}


def test_requests_work_while_tracing_is_off(installed: str, server: Server) -> None:
    """Without a trace function, nothing is measured, and all works."""
    clear_trace_function()
    assert fetch(installed, server.url("/redirect/1")) == [200]


def test_nothing_is_left_when_it_is_uninstalled(
    name: str, metrics: Metrics, server: Server, points: Points
) -> None:
    """All functions are those of the library again, with whatever options it was installed."""
    before = _functions()
    fetch(name, server.url())
    for options in ({}, {"group_redirects": True}):
        install(integration_of(name), **options)
        install(integration_of(name), **options)
        assert _functions() != before
        uninstall(integration_of(name))
        assert _functions() == before
    fetch(name, server.url())
    assert points(REQUESTS) == {}


def test_integrations_end_one_by_one(metrics: Metrics, library: Callable[[str], Any]) -> None:
    """What integrations have replaced together is put back with the last of them."""
    names = ("requests", "urllib3", "urllib", "httpx")
    for one in names:
        library(module_of(one))
    before = _functions()
    install(*names)
    for one in names:
        assert _functions() != before
        uninstall(one)
    assert _functions() == before


def _functions() -> dict[str, object]:
    owners = (
        ("http.client", "HTTPResponse"),
        ("http.client", "HTTPConnection"),
        ("http.client", "HTTPSConnection"),
        ("socket", ""),
        ("urllib.request", "AbstractHTTPHandler"),
        ("urllib.request", "OpenerDirector"),
        ("urllib3.connectionpool", "HTTPConnectionPool"),
        ("urllib3.connection", "HTTPConnection"),
        ("urllib3.connection", "HTTPSConnection"),
        ("urllib3.poolmanager", "PoolManager"),
        ("requests", "Session"),
        ("requests.adapters", "HTTPAdapter"),
        ("httpx", "Client"),
        ("httpx", "AsyncClient"),
        ("httpcore._sync.connection", "HTTPConnection"),
        ("httpcore._async.connection", "AsyncHTTPConnection"),
        ("aiohttp", "ClientSession"),
        ("aiohttp", "ClientResponse"),
        ("aiohttp.client_reqrep", "ClientRequest"),
        ("aiohttp.connector", "BaseConnector"),
        ("aiohttp.connector", "TCPConnector"),
        ("aiohttp.connector", "UnixConnector"),
    )
    found = {}
    for module, owner in owners:
        try:
            one = importlib.import_module(module)
        except ImportError:  # the library is not installed
            continue
        for key, value in vars(getattr(one, owner) if owner else one).items():
            if callable(value):
                found[f"{module}.{owner}.{key}"] = value
    return found


@pytest.mark.parametrize("wrong", [None, 1.5, True, "10"])
def test_max_hosts_is_an_int(wrong: Any) -> None:
    """A bound that is none is an error where it is given."""
    with pytest.raises(TypeError, match="max_hosts must be an int"):
        HttpClient(max_hosts=wrong)


def test_group_redirects_is_a_bool() -> None:
    """Anything else raises."""
    with pytest.raises(TypeError, match="group_redirects must be True or False, not 'yes'"):
        HttpClient(group_redirects="yes")  # type: ignore[arg-type]


def test_max_hosts_is_not_negative() -> None:
    """A bound below zero is an error."""
    with pytest.raises(ValueError, match="0 or more"):
        HttpClient(max_hosts=-1)


def test_a_request_that_cannot_be_described_is_not_measured(
    metrics: Metrics, points: Points
) -> None:
    """An error in what looks at a request is swallowed."""

    def broken() -> Any:
        raise RuntimeError

    with HttpClient().start(broken) as request:
        pass
    request.finish()
    assert swallowed_errors() == 1
    assert points(REQUESTS) == {}


def test_an_error_that_was_handled_is_no_cause() -> None:
    """What the application handled when it sent the request has nothing to do with it."""
    error = ValueError("of the next attempt")
    error.__context__ = ConnectionRefusedError()
    assert error_type_of(error) == "ValueError"


def test_causes_may_be_a_circle() -> None:
    """Causes are looked at up to a limit."""
    error = ValueError()
    error.args = error, error
    assert error_type_of(error) == "ValueError"
