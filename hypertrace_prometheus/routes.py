"""Routes of the metrics server: the view of each path."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from .endpoint import metrics_view
from .http.views import read_only, text_response
from .index_page import HEALTH_PATH, METRICS_PATH, index_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from .http.views import View


def routes(
    registry: CollectorRegistry,
    address: str,
    *,
    path: str = METRICS_PATH,
    problem: Callable[[], str] = str,
) -> dict[str, View]:
    """Return the views of the metrics server by their path.

    Args:
        registry: what the path of the metrics shows.
        address: `host:port` of the server, for the page at `/`.
        path: where the metrics are, as `checked_path` returns it.
        problem: returns what the page is to warn of, empty text for nothing.
    """
    healthy = text_response(HTTPStatus.OK, "ok")
    return {
        "/": read_only(lambda _: index_page(address, path, problem())),
        path: metrics_view(registry, bounded=True),
        HEALTH_PATH: read_only(lambda _: healthy),
    }
