"""requests: bodies, adapters and hooks of its sessions, and urllib3 below them."""

from __future__ import annotations

import gc
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.integrations import install, uninstall

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Metrics

    from .http_peers import Server

    Points = Callable[[str], dict[tuple[str, ...], float]]

REQUESTS = "http_client_request_duration_seconds"
ACTIVE = "http_client_active_requests"
HOST = "127.0.0.1"


@pytest.fixture
def requests(library: Callable[[str], Any], metrics: Metrics) -> Any:
    """Give the library, whose integration is installed."""
    found = library("requests")
    install("requests")
    return found


def test_a_request_counts_once_with_urllib3(requests: Any, server: Server, points: Points) -> None:
    """Where both are installed, in any order, urllib3 counts what the application sends by it."""
    urllib3 = pytest.importorskip("urllib3")
    install("urllib3", max_hosts=0)
    requests.get(server.url("/redirect/1"))
    assert points(REQUESTS) == server.by_labels()
    with urllib3.PoolManager() as pool:
        pool.request("GET", server.url())
    assert points(REQUESTS) == {**server.by_labels(), ("<other>", "", "GET", "200", ""): 1} | {
        (HOST, server.port, "GET", "200", ""): 1
    }


def test_urllib3_alone_is_not_measured(requests: Any, server: Server, points: Points) -> None:
    """What the application sends by urllib3 itself is not that of requests."""
    urllib3 = pytest.importorskip("urllib3")
    with urllib3.PoolManager() as pool:
        pool.request("GET", server.url())
    assert points(REQUESTS) == {}
    install("urllib3")
    uninstall("requests")
    requests.get(server.url("/status/201"))
    assert points(REQUESTS) == {(HOST, server.port, "GET", "201", ""): 1}


def test_retries_of_an_adapter_are_requests(requests: Any, server: Server, points: Points) -> None:
    """Each attempt counts, as the server counts it."""
    from urllib3 import Retry

    with requests.Session() as session:
        adapter = requests.adapters.HTTPAdapter(max_retries=Retry(2, status_forcelist=[503]))
        session.mount("http://", adapter)
        assert session.get(server.url("/flaky")).status_code == 200
    assert server.answered == {("GET", 503): 1, ("GET", 200): 1}
    assert points(REQUESTS) == server.by_labels()


def test_retries_and_redirects_are_grouped(
    library: Callable[[str], Any], metrics: Metrics, server: Server, points: Points
) -> None:
    """Where redirects are grouped, a retry stays a request."""
    from urllib3 import Retry

    requests = library("requests")
    install("requests", group_redirects=True)
    with requests.Session() as session:
        adapter = requests.adapters.HTTPAdapter(max_retries=Retry(2, status_forcelist=[503]))
        session.mount("http://", adapter)
        session.get(server.url("/flaky"))
        session.get(server.url("/redirect/2"))
    assert points(REQUESTS) == {
        (HOST, server.port, "GET", "503", "503"): 1,
        (HOST, server.port, "GET", "200", ""): 2,
    }


def test_a_streamed_body_is_part_of_the_request(
    requests: Any, server: Server, points: Points
) -> None:
    """A request is under way until its body is read or closed."""
    labels = "GET", HOST, server.port
    with requests.Session() as session:
        for path, end in (
            ("/chunks", lambda response: list(response.iter_content(4))),
            ("/chunks", lambda response: list(response.iter_lines())),
            ("/large", lambda response: list(response.iter_content(65_536))),
            ("/large", lambda response: response.raw.read()),
            ("/large", lambda response: response.close()),
        ):
            response = session.get(server.url(path), stream=True)
            assert points(ACTIVE) == {labels: 1}
            end(response)
            assert points(ACTIVE) == {labels: 0}
    assert points(REQUESTS) == server.by_labels()


def test_a_body_that_is_dropped_ends_the_request(
    requests: Any, server: Server, points: Points
) -> None:
    """A response that the application neither reads nor closes ends when it is gone."""
    with requests.Session() as session:
        response = session.get(server.url("/large"), stream=True)
        assert points(REQUESTS) == {}
        del response
        gc.collect()
        assert points(REQUESTS) == server.by_labels()


def test_a_session_may_be_closed_before_its_responses(
    requests: Any, server: Server, points: Points
) -> None:
    """A response of a session that is closed can be read."""
    with requests.Session() as session:
        response = session.get(server.url("/large"), stream=True)
    assert len(response.content) == 4_000_000
    assert points(REQUESTS) == server.by_labels()


def test_other_adapters_are_measured(requests: Any, server: Server, points: Points) -> None:
    """An adapter that is no `HTTPAdapter` counts, but not what it sends by one."""

    class Canned(requests.adapters.BaseAdapter):  # type: ignore[misc]  # requests loads late
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            if "fail" in request.url:
                raise requests.ConnectTimeout
            response = requests.Response()
            response.status_code = 418
            response.request, response.url = request, request.url
            response._content = b""
            return response

        def close(self) -> None:
            pass

    class Around(Canned):
        inner = requests.adapters.HTTPAdapter()

        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            return self.inner.send(request, *args, **options)

    with requests.Session() as session:
        session.mount("canned://", Canned())
        session.mount("http://", Around())
        for _ in range(2):
            assert session.get("canned://some.host:1/").status_code == 418
        with pytest.raises(requests.ConnectTimeout):
            session.get("canned://some.host:1/fail")
        session.get(server.url())
    assert points(REQUESTS) == {
        ("some.host", "1", "GET", "418", "418"): 2,
        ("some.host", "1", "GET", "", "timeout"): 1,
        (HOST, server.port, "GET", "200", ""): 1,
    }
    assert set(points(ACTIVE).values()) == {0}
    Around.inner.close()
    uninstall()
    assert not hasattr(Canned.send, "__wrapped__")


def test_adapters_inside_of_each_other_count_once(
    requests: Any, server: Server, points: Points
) -> None:
    """As one that adds a header, and one that inherits what sends."""

    class Around(requests.adapters.BaseAdapter):  # type: ignore[misc]  # requests loads late
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            return self.inner.send(request, *args, **options)

        def close(self) -> None:
            self.inner.close()

    class Inheriting(Around):
        pass

    http = requests.adapters.HTTPAdapter
    with requests.Session() as session:
        session.mount("https://", Around(http()))
        session.mount("http://", Inheriting(Around(Inheriting(http()))))
        session.get(server.url())
    assert points(REQUESTS) == server.by_labels()
    assert set(points(ACTIVE).values()) == {0}


def test_hooks_may_raise(requests: Any, server: Server, points: Points) -> None:
    """A request that was answered counts with its status, also if a hook raises then."""

    def check(response: Any, **_: Any) -> None:
        response.raise_for_status()

    with pytest.raises(requests.HTTPError):
        requests.get(server.url("/status/404"), hooks={"response": check})
    gc.collect()
    assert points(REQUESTS) == server.by_labels()
    assert set(points(ACTIVE).values()) == {0}


def test_a_wrong_url_is_no_request(requests: Any, points: Points) -> None:
    """What requests refuses before it sends is the application's to know."""
    for url in ("nowhere", "http://", "gopher://host/"):
        with pytest.raises(requests.RequestException):
            requests.get(url)
    assert points(REQUESTS) == {}


def test_a_response_can_be_pickled(requests: Any, server: Server) -> None:
    """What is in a response is the application's alone."""
    assert pickle.loads(pickle.dumps(requests.get(server.url()))).text == "hello"
    assert swallowed_errors() == 0
