"""urllib: bodies and errors of its openers."""

from __future__ import annotations

import gc
import http.client
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from hypertrace.integrations import install

from .http_peers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics import Metrics

    from .http_peers import Server

    Points = Callable[[str], dict[tuple[str, ...], float]]

REQUESTS = "http_client_request_duration_seconds"
ACTIVE = "http_client_active_requests"
HOST = "127.0.0.1"


@pytest.fixture
def server(metrics: Metrics) -> Iterator[Server]:
    """Give a server that counts, while the integration is installed."""
    install("urllib")
    with running() as made:
        yield made


def test_a_body_is_part_of_the_request(server: Server, points: Points) -> None:
    """A request is under way until its body is read, closed or dropped."""
    labels = "GET", HOST, server.port
    for end in (
        lambda response: response.read(),
        list,
        lambda response: response.close(),
        lambda response: response.readinto(bytearray(4_000_001)) and response.read(),
    ):
        response = urlopen(server.url("/large"))
        assert points(ACTIVE) == {labels: 1}
        end(response)
        del response
        gc.collect()
        assert points(ACTIVE) == {labels: 0}
    assert points(REQUESTS) == server.by_labels()


def test_a_body_that_took_too_long_is_a_timeout(server: Server, points: Points) -> None:
    """A time-out is known when the body is dropped, after the application has handled it."""
    response = urlopen(server.url("/half"), timeout=0.05)
    with pytest.raises(TimeoutError):
        response.read()
    del response
    gc.collect()
    assert points(REQUESTS) == {(HOST, server.port, "GET", "200", "timeout"): 1}


def test_the_error_of_another_request_is_none(server: Server, points: Points) -> None:
    """An answer that is closed while the error of another one is handled has no error."""
    with pytest.raises(http.client.IncompleteRead), urlopen(server.url("/large")):
        urlopen(server.url("/torn")).read()
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "200", "IncompleteRead"): 1,
        (HOST, server.port, "GET", "200", ""): 1,
    }


def test_an_error_has_a_body(server: Server, points: Points) -> None:
    """The exception for a status is a response, whose body may be read."""
    with pytest.raises(HTTPError) as caught:
        urlopen(server.url("/status/404"))
    with caught.value as response:
        assert response.read() == b"a text"
    assert points(REQUESTS) == server.by_labels()


def test_the_module_below_is_left_alone(server: Server, points: Points) -> None:
    """Requests by `http.client` itself are not measured."""
    connection = http.client.HTTPConnection(HOST, server.server_port)
    connection.request("GET", "/ok")
    assert connection.getresponse().read() == b"hello"
    connection.close()
    assert points(REQUESTS) == {}
