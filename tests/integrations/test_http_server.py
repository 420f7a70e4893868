"""HTTP server requests, as all servers and frameworks measure them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import clear_trace_function
from hypertrace.integrations.http_server import KEY, UNKNOWN_SIZE, HttpServer, open_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypertrace.integrations.http_server import Request
    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

DURATIONS = "http_server_request_duration_seconds"


def start(server: HttpServer, method: str = "GET", path: str = "/") -> Request:
    request = server.start(method, path)
    assert request is not None
    return request


def test_a_request_is_counted_by_method_route_and_status(metrics: Metrics, points: Points) -> None:
    """A request is a duration by its labels, an entry, and active meanwhile."""
    request = start(HttpServer(), path="/items/1")
    assert points("http_server_active_requests") == {("GET",): 1}
    request.route, request.status = "/items/{id}", 200
    request.finish()
    request.finish()
    assert points(DURATIONS) == {("GET", "/items/{id}", "200", ""): 1}
    assert points("entry_duration_seconds") == {("http", "GET /items/{id}", "ok"): 1}
    assert points("http_server_active_requests") == {("GET",): 0}


def test_an_exception_is_status_500(metrics: Metrics, points: Points) -> None:
    """An exception that the application did not handle is status 500, and names the type."""
    request = start(HttpServer(), "BREW")
    request.finish(ValueError())
    assert points(DURATIONS) == {("_OTHER", "", "500", "ValueError"): 1}


@pytest.mark.parametrize("status", [500, 503, 599])
def test_an_answer_from_500_on_is_an_error(metrics: Metrics, points: Points, status: int) -> None:
    """Its type is the status, and the entry ends as an error; one below is none."""
    for each in (status, 499):
        request = start(HttpServer())
        request.status = each
        request.finish()
    assert points(DURATIONS) == {
        ("GET", "", str(status), str(status)): 1,
        ("GET", "", "499", ""): 1,
    }
    assert points("entry_duration_seconds") == {
        ("http", "GET", "error"): 1,
        ("http", "GET", "ok"): 1,
    }


def test_a_failure_that_the_framework_answers_names_the_type(
    metrics: Metrics, points: Points
) -> None:
    """The exception is the type of error, unless the application made another answer of it."""
    for status in (500, 404):
        request = start(HttpServer())
        request.fail(KeyError())
        request.status = status
        request.finish()
    assert points(DURATIONS) == {("GET", "", "500", "KeyError"): 1, ("GET", "", "404", ""): 1}


def test_an_exception_is_kept_no_longer_than_its_request(metrics: Metrics) -> None:
    """The end of a request frees what it knows of a failure."""

    class OwnError(Exception): ...

    error = OwnError()
    gone = weakref.ref(error)
    request = start(HttpServer())
    request.fail(error)
    request.finish()
    del error
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("end", ["cancel", "finish"])
def test_a_client_that_went_away_is_cancelled(metrics: Metrics, points: Points, end: str) -> None:
    """The status is the one that was sent, and none if there was none."""
    for status in (0, 200):
        request = start(HttpServer())
        request.status = status
        request.cancel() if end == "cancel" else request.finish(asyncio.CancelledError())
    assert points(DURATIONS) == {
        ("GET", "", "", "cancelled"): 1,
        ("GET", "", "200", "cancelled"): 1,
    }
    assert points("entry_duration_seconds") == {("http", "GET", "cancelled"): 2}
    assert points("http_server_active_requests") == {("GET",): 0}


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "QUERY"])
def test_a_method_stays_itself(metrics: Metrics, points: Points, method: str) -> None:
    """Only unknown methods share a value, whatever their letters."""
    for each in (method, method.lower(), "PROPFIND", ""):
        start(HttpServer(), each).finish()
    assert points(DURATIONS) == {(method, "", "", ""): 1, ("_OTHER", "", "", ""): 3}


def test_excluded_paths_are_not_measured(metrics: Metrics) -> None:
    """The page of the metrics is excluded by default, and others by pattern."""
    assert HttpServer().start("GET", "/metrics") is None
    assert HttpServer(exclude=["/health*"]).start("GET", "/health/live") is None
    assert HttpServer(exclude=[]).start("GET", "/metrics") is not None


def test_excluded_is_a_list_of_patterns() -> None:
    """One text would be taken for a list of letters."""
    with pytest.raises(TypeError, match="list of patterns"):
        HttpServer(exclude="/metrics")
    with pytest.raises(TypeError, match=r"list of patterns, .*, not None"):
        HttpServer(exclude=None)  # type: ignore[arg-type]
    wrong: dict[str, Any]
    for wrong in ({"body_sizes": "yes"}, {"native": 1}):
        with pytest.raises(TypeError, match="must be True or False, not"):
            HttpServer(**wrong)
    with pytest.raises(TypeError, match="must be texts"):
        HttpServer(exclude=[1])  # type: ignore[list-item]


def test_bodies_are_measured_if_asked_for(metrics: Metrics, points: Points) -> None:
    """The bytes in and out are distributions with the labels of durations."""
    request = start(HttpServer(body_sizes=True), "POST")
    request.received, request.sent, request.status = 1_234, 56_789, 200
    request.finish()
    labels = ("POST", "", "200", "")
    sizes: dict[str, Any] = {
        name: metrics.read().family(f"http_server_{name}_body_size_bytes")
        for name in ("request", "response")
    }
    assert [family.unit for family in sizes.values()] == ["bytes", "bytes"]
    assert [value.sum for family in sizes.values() for value in family.values] == [1_234, 56_789]
    assert [point.labels for family in sizes.values() for point in family.points] == [labels] * 2


def test_an_unknown_size_is_none(metrics: Metrics, points: Points) -> None:
    """What is not known is not recorded, and the answer to `HEAD` has no bytes."""
    request = start(HttpServer(body_sizes=True), "HEAD")
    request.sent = 10
    request.finish()
    names = {family.name for family in metrics.read().families}
    assert "http_server_request_body_size_bytes" not in names
    answers: Sequence[Any] = metrics.read().family("http_server_response_body_size_bytes").values
    (answer,) = answers
    assert (answer.count, answer.sum) == (1, 0)
    request = start(HttpServer(body_sizes=True))
    request.sent = UNKNOWN_SIZE
    request.finish()
    assert sum(points("http_server_response_body_size_bytes").values()) == 1


def test_bodies_are_not_measured_by_default(metrics: Metrics) -> None:
    """Without the option, there is no metric of them."""
    request = start(HttpServer())
    request.received = request.sent = 10
    request.finish()
    assert not [one for one in metrics.read().families if "body_size" in one.name]


def test_all_requests_are_in_one_native_histogram(metrics: Metrics) -> None:
    """It has no labels, and exponential buckets."""
    server = HttpServer(native=True)
    for status in (200, 404, 500):
        request = start(server)
        request.status = status
        request.finish()
    family = metrics.read().family("http_server_request_duration_native_seconds")
    values: Sequence[Any] = family.values
    (value,) = values
    assert value.count == 3
    assert value.schema == 3


def test_a_root_is_part_of_the_route() -> None:
    """Applications below different roots have different routes, as long as these are few."""
    server = HttpServer()
    assert server.route_below("", "/items") == "/items"
    assert server.route_below("/shop/", "/items") == "/shop/items"
    roots = {server.route_below(f"/tenant-{number}", "/items") for number in range(10_000)}
    assert len(roots) <= 101
    assert server.route_below("/shop/", "/items") == "/shop/items"


def test_the_open_request_of_a_task_is_found(metrics: Metrics) -> None:
    """An inner server finds it by method and path, until it has ended."""
    request = start(HttpServer(), path="/a")
    assert open_request("GET", "/a") is request
    assert open_request("GET", "/b") is None
    assert open_request("POST", "/a") is None
    request.finish()
    assert open_request("GET", "/a") is None


def test_a_request_of_wsgi_is_in_its_environment(metrics: Metrics) -> None:
    """The environment has it, or None if it is excluded; the context has none."""
    environ: dict[str, Any] = {}
    request = HttpServer().start("GET", "/a", environ)
    assert environ[KEY] is request
    assert open_request("GET", "/a") is None
    HttpServer().start("GET", "/metrics", environ)
    assert environ[KEY] is None


def test_nothing_is_measured_while_tracing_is_off(metrics: Metrics) -> None:
    """A request is still one, without effect."""
    clear_trace_function()
    request = start(HttpServer(body_sizes=True, native=True))
    request.route = "/a"
    request.finish()
    assert request.has_ended
