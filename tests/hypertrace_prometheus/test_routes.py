"""Routes of the metrics server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace_prometheus.http.views import Request
from hypertrace_prometheus.routes import routes

from .wire import PATHS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def test_there_are_three_paths(registry: CollectorRegistry) -> None:
    """`/` is a page for the server's address, `/metrics` the registry, `/-/healthy` says ok."""
    views = routes(registry, "localhost:4343")
    assert list(views) == PATHS
    page, metrics, healthy = (views[path](Request("GET", path)).body for path in PATHS)
    assert b"localhost:4343" in page
    assert b"\njobs_total 3.0\n" in metrics
    assert healthy == b"ok"


def test_all_of_them_are_for_reading(registry: CollectorRegistry) -> None:
    """Any method but GET and HEAD gets status 405."""
    views = routes(registry, "localhost:4343")
    assert {views[path](Request("POST", path)).status for path in PATHS} == {405}


def test_the_page_shows_the_problem_of_this_moment(registry: CollectorRegistry) -> None:
    """The page asks each time whether there is a problem."""
    problems = ["first", ""]
    view = routes(registry, "localhost:4343", problem=lambda: problems[0])["/"]
    assert b"first" in view(Request("GET", "/")).body
    problems.pop(0)
    assert b'role="alert"' not in view(Request("GET", "/")).body
