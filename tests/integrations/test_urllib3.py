"""urllib3: retries, bodies and pools."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.integrations import install

from .http_peers import refusing

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Metrics

    from .http_peers import Server

    Points = Callable[[str], dict[tuple[str, ...], float]]

REQUESTS = "http_client_request_duration_seconds"
ACTIVE = "http_client_active_requests"
HOST = "127.0.0.1"


@pytest.fixture
def urllib3(library: Callable[[str], Any], metrics: Metrics) -> Any:
    """Give the library, whose integration is installed."""
    found = library("urllib3")
    install("urllib3")
    return found


def test_each_attempt_is_a_request(urllib3: Any, server: Server, points: Points) -> None:
    """Retries count as the server counts them, and so do those that reach none."""
    with urllib3.PoolManager(retries=urllib3.Retry(2, status_forcelist=[503])) as pool:
        assert pool.request("GET", server.url("/flaky")).status == 200
        assert points(REQUESTS) == server.by_labels()
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            pool.request("GET", server.url("/status/503"))
        assert points(REQUESTS) == server.by_labels()
        with refusing() as port:
            with pytest.raises(urllib3.exceptions.MaxRetryError):
                pool.request("GET", f"http://{HOST}:{port}/")
            assert points(REQUESTS)[HOST, str(port), "GET", "", "connection_refused"] == 3
    assert set(points(ACTIVE).values()) == {0}


def test_attempts_by_a_proxy_are_requests(urllib3: Any, points: Points) -> None:
    """A proxy that cannot be reached is an error of each attempt to the host."""
    with refusing() as port, urllib3.ProxyManager(f"http://{HOST}:{port}", retries=1) as pool:
        for scheme in ("http", "https"):
            with pytest.raises(urllib3.exceptions.MaxRetryError):
                pool.request("GET", f"{scheme}://example.test/")
    assert points(REQUESTS) == {
        ("example.test", "80", "GET", "", "connection_refused"): 2,
        ("example.test", "443", "GET", "", "connection_refused"): 2,
    }


def test_a_pool_follows_redirects(
    library: Callable[[str], Any], metrics: Metrics, server: Server, points: Points
) -> None:
    """A pool for one host groups redirects as a manager of pools does."""
    urllib3 = library("urllib3")
    install("urllib3", group_redirects=True)
    with urllib3.HTTPConnectionPool(HOST, server.server_port) as pool:
        pool.urlopen("GET", "/redirect/2")
        pool.urlopen("GET", "/ok")
    assert points(REQUESTS) == {(HOST, server.port, "GET", "200", ""): 2}


def test_a_streamed_body_is_part_of_the_request(
    urllib3: Any, server: Server, points: Points
) -> None:
    """A request is under way until its body is read, closed or drained."""
    labels = "GET", HOST, server.port
    with urllib3.PoolManager() as pool:
        for end in (
            lambda response: response.read(),
            lambda response: list(response.stream(65_536)),
            lambda response: response.drain_conn(),
            lambda response: response.close(),
            lambda response: response.data,
        ):
            for path in ("/chunks", "/large"):
                response = pool.request("GET", server.url(path), preload_content=False)
                assert points(ACTIVE) == {labels: 1}
                end(response)
                response.release_conn()
                assert points(ACTIVE) == {labels: 0}
    assert points(REQUESTS) == server.by_labels()
    assert swallowed_errors() == 0


def test_a_body_without_a_length_ends_with_its_connection(
    urllib3: Any, server: Server, points: Points
) -> None:
    """A body that is read in parts and dropped is no error, though an exception is handled."""
    with urllib3.PoolManager() as pool:
        try:
            raise OSError("of the application")
        except OSError:
            response = pool.request("GET", server.url("/large"), preload_content=False)
            response.read(10)
            response.close()
    assert points(REQUESTS) == server.by_labels()


def test_a_full_pool_is_a_timeout(urllib3: Any, server: Server, points: Points) -> None:
    """A request that got no connection of the pool in time has reached no server."""
    with urllib3.HTTPConnectionPool(HOST, server.server_port, maxsize=1, block=True) as pool:
        response = pool.urlopen("GET", "/large", preload_content=False)
        with pytest.raises(urllib3.exceptions.EmptyPoolError), closing(response):
            pool.urlopen("GET", "/ok", pool_timeout=0.05)
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "", "timeout"): 1,
        (HOST, server.port, "GET", "200", ""): 1,
    }
