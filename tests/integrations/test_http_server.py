"""HTTP server requests, as all servers and frameworks measure them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypertrace.integrations.http_server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]


def test_a_request_is_counted_by_method_route_and_status(metrics: Metrics, points: Points) -> None:
    """A request is a duration by its labels, an entry, and active meanwhile."""
    request = HttpServer().start("GET", "/items/1")
    assert request is not None
    assert points("http_server_active_requests") == {("GET",): 1}
    request.route, request.status = "/items/{id}", 200
    request.finish()
    request.finish()
    assert points("http_server_request_duration_seconds") == {("GET", "/items/{id}", "200", ""): 1}
    assert points("entry_duration_seconds") == {("http", "GET /items/{id}", "ok"): 1}
    assert points("http_server_active_requests") == {("GET",): 0}


def test_an_exception_is_status_500(metrics: Metrics, points: Points) -> None:
    """An exception that the application did not handle is status 500, and names the type."""
    request = HttpServer().start("BREW", "/")
    assert request is not None
    request.finish(ValueError())
    assert points("http_server_request_duration_seconds") == {
        ("_OTHER", "", "500", "ValueError"): 1
    }


def test_excluded_paths_are_not_measured(metrics: Metrics) -> None:
    """The page of the metrics is excluded by default, and others by pattern."""
    assert HttpServer().start("GET", "/metrics") is None
    assert HttpServer(excluded=["/health*"]).start("GET", "/health/live") is None


def test_excluded_is_a_list_of_patterns() -> None:
    """One text would be taken for a list of letters."""
    with pytest.raises(TypeError, match="list of patterns"):
        HttpServer(excluded="/metrics")
