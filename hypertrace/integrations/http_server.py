"""HTTP server requests: what all servers and frameworks measure of a request.

`http_server_request_duration_seconds` by method, route, status and type of error, from the call of
the application to the last byte of the body; `http_server_active_requests` by method. Each request
is an entry of the kind `http`, named by method and route. The names are those of OpenTelemetry:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hypertrace._operations import Operations
from hypertrace.inspection import type_name
from hypertrace.metrics import Distribution, declare

from .entries import NAME, declare_entries
from .gauges import Gauge

if TYPE_CHECKING:
    from collections.abc import Iterable

METHOD = "http_request_method"
ROUTE = "http_route"
STATUS = "http_response_status_code"
ERROR = "error_type"

METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
OTHER_METHOD = "_OTHER"
"""Stands for all methods that are none of these, as there may be any number."""
UNMATCHED = "<unmatched>"
"""The route of requests for which the framework has none: paths may be any number."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds of buckets, as OpenTelemetry recommends them for requests."""

DURATIONS = Distribution(
    "http_server_request_duration_seconds",
    of="HttpServer.request",
    tags=[METHOD, ROUTE, STATUS, ERROR],
    buckets=SECONDS,
    description="HTTP requests, from their receipt to the last byte of the answer.",
)
_REQUESTS = Operations("HttpServer", "request", entry="http")
_ACTIVE = Gauge("http_server_active_requests", (METHOD,), "HTTP requests that are being answered.")
_SERVER_ERROR = 500


class HttpServer:
    """What is measured of the requests of one application."""

    def __init__(self, *, excluded: Iterable[str] = ("/metrics",)) -> None:
        """Declare the metrics.

        Args:
            excluded: shell-style patterns of paths that are not measured.

        Raises:
            TypeError: `excluded` is one text, or has what is no text.
        """
        if isinstance(excluded, str):
            raise TypeError(f"excluded must be a list of patterns, as [{excluded!r}]")
        self._excluded = tuple(excluded)
        if not all(isinstance(pattern, str) for pattern in self._excluded):
            raise TypeError(f"excluded must be texts, as '/health*', not {self._excluded!r}")
        self._paths = frozenset(path for path in self._excluded if not set(path) & set("*?["))
        self._patterns = tuple(path for path in self._excluded if path not in self._paths)
        declare_entries()
        declare(DURATIONS)

    def start(self, method: str, path: str) -> Request | None:
        """Start to measure a request; return None for one that is excluded.

        Args:
            method: of the request.
            path: of the request, for the exclusion only.
        """
        if path in self._paths or any(fnmatchcase(path, one) for one in self._patterns):
            return None
        return Request(method if method in METHODS else OTHER_METHOD)


class Request:
    """One request that is being answered.

    Attributes:
        status: status of the answer; 0 before there is one.
    """

    __slots__ = ("_leave", "_method", "_operation", "_route", "status")

    def __init__(self, method: str) -> None:
        """Start the request.

        Args:
            method: one of `METHODS`, or `OTHER_METHOD`.
        """
        self.status: int = 0
        self._method = method
        self._route = ""
        self._leave = _ACTIVE.enter(method)
        self._operation = _REQUESTS.start()
        self._operation.entry_name = method

    @property
    def route(self) -> str:
        """The template of the route, as `/items/{id}`; empty before it is known."""
        return self._route

    @route.setter
    def route(self, route: str) -> None:
        self._route = route
        self._operation.entry_name = f"{self._method} {route}"

    def finish(self, error: BaseException | None = None) -> None:
        """End the request; only the first call has an effect.

        Args:
            error: the exception that ended it, if the application did not handle it.
        """
        operation = self._operation
        if operation.has_ended:
            return
        self._leave()
        status = str(self.status or (_SERVER_ERROR if error is not None else ""))
        failed = error is not None or self.status >= _SERVER_ERROR
        kind = "" if not failed else status if error is None else type_name(type(error))
        operation.finish(
            {
                METHOD: self._method,
                ROUTE: self._route,
                STATUS: status,
                ERROR: kind,
                NAME: f"{self._method} {self._route}".rstrip(),
            },
            "error" if failed else "ok",
            error,
        )
