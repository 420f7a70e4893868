"""HTTP server requests: what all servers and frameworks measure of a request.

`http_server_request_duration_seconds` by method, route, status and type of error, from the call of
the application to the last byte of the body; `http_server_active_requests` by method. With options,
sizes of bodies, and a histogram of all requests in high resolution. Each request is an entry of the
kind `http`, named by method and route. The names are those of OpenTelemetry:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/

A request whose client goes away before the last byte is `cancelled`: this is its type of error and
the result of its entry, and the status is the one that was sent. An exception that the application
did not handle is status 500, and its class the type of error. Any other answer from 500 on has its
status as the type of error.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from hypertrace._endings import result_of
from hypertrace._failures import swallow
from hypertrace._operations import Operation, Operations
from hypertrace.inspection import type_name
from hypertrace.metrics import Distribution, declare

from .entries import NAME, declare_entries
from .gauges import Gauge, Sizes

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from hypertrace.events import Result

METHOD = "http_request_method"
ROUTE = "http_route"
STATUS = "http_response_status_code"
ERROR = "error_type"
LABELS = (METHOD, ROUTE, STATUS, ERROR)

METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
OTHER_METHOD = "_OTHER"
"""Stands for all methods that are none of these, as there may be any number."""
UNMATCHED = "<unmatched>"
"""The route of requests for which the framework has none: paths may be any number."""
CANCELLED: Final = "cancelled"
"""The type of error of requests whose clients went away."""
EXCLUDED = ("/metrics", "/metrics/")
"""Paths that are not measured by default: the page of the metrics, also where it is mounted."""
UNKNOWN_SIZE = -1
"""The size of a body that is not recorded."""
KEY = "hypertrace.request"
"""Where the environment of WSGI has the `Request`, or None if it is not measured."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds of buckets, as OpenTelemetry recommends them for requests."""
BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
"""Bounds of buckets of bodies."""

DURATIONS = Distribution(
    "http_server_request_duration_seconds",
    of="HttpServer.request",
    tags=LABELS,
    buckets=SECONDS,
    description="HTTP requests, from their receipt to the last byte of the answer.",
)
ALL_DURATIONS = Distribution(
    "http_server_request_duration_native_seconds",
    of="HttpServer.request",
    native=True,
    description="HTTP requests as a whole, in exponential buckets, for objectives.",
)
_REQUESTS = Operations("HttpServer", "request", entry="http")
_ACTIVE = Gauge("http_server_active_requests", (METHOD,), "HTTP requests that are being answered.")
_RECEIVED = Sizes("http_server_request_body_size_bytes", LABELS, "Bodies of HTTP requests.", BYTES)
_SENT = Sizes("http_server_response_body_size_bytes", LABELS, "Bodies of HTTP answers.", BYTES)
_SERVER_ERROR = 500
_MOST_ROOTS = 100
"""Roots of applications that become part of routes; they may come from the client."""

current: ContextVar[Request | None] = ContextVar("hypertrace_http_request", default=None)
"""The request that was started last in this task, without an environment of WSGI."""


class HttpServer:
    """What is measured of the requests of one application.

    Any thread may use it. Nothing is raised while requests are measured.

    Attributes:
        exclude: patterns of paths that are not measured.
        body_sizes: whether the bytes of bodies are.
    """

    def __init__(
        self,
        *,
        exclude: Iterable[str] = EXCLUDED,
        body_sizes: bool = False,
        native: bool = False,
    ) -> None:
        """Declare the metrics.

        Args:
            exclude: shell-style patterns of paths that are not measured.
            body_sizes: whether the bytes of bodies are measured:
                `http_server_request_body_size_bytes`, `http_server_response_body_size_bytes`.
            native: whether `http_server_request_duration_native_seconds` has all requests that are
                measured in one native histogram, for objectives and exact quantiles.

        Raises:
            TypeError: an option has a wrong type, as `exclude` that is one text.
        """
        if isinstance(exclude, str) or not isinstance(exclude, Iterable):
            raise TypeError(f"exclude must be a list of patterns, as ['/health*'], not {exclude!r}")
        for name, option in (("body_sizes", body_sizes), ("native", native)):
            if not isinstance(option, bool):
                raise TypeError(f"{name} must be True or False, not {option!r}")
        self.exclude: tuple[str, ...] = tuple(exclude)
        if not all(isinstance(pattern, str) for pattern in self.exclude):
            raise TypeError(f"exclude must be texts, as '/health*', not {self.exclude!r}")
        self._paths = frozenset(path for path in self.exclude if not set(path) & set("*?["))
        self._patterns = tuple(path for path in self.exclude if path not in self._paths)
        self.body_sizes: bool = body_sizes
        self._roots: set[str] = set()
        declare_entries()
        declare(DURATIONS)
        if native:
            declare(ALL_DURATIONS)

    def start(
        self,
        method: str,
        path: str,
        environ: MutableMapping[str, Any] | None = None,
        route: str = "",
    ) -> Request | None:
        """Start to measure a request; return None for one that is excluded.

        Args:
            method: of the request.
            path: of the request, its application's root included; never part of a label.
            environ: of WSGI; it gets the request under `KEY`. Without it, the context gets it.
            route: of the request until its route is known.
        """
        if path in self._paths or (self._patterns and self._matches(path)):
            request = None
        else:
            known = method if method in METHODS else OTHER_METHOD
            request = Request.start(_REQUESTS, _ACTIVE.adders(known))
            request._method = request.entry_name = known
            request._route = route
            if self.body_sizes:
                request._body_sizes = True
        if environ is not None:
            environ[KEY] = request
        else:
            if request is not None:
                request.start_line = method, path
            current.set(request)
        return request

    def _matches(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self._patterns)

    def route_below(self, root: str, route: str) -> str:
        """Return a route with the root of its application, as that of a mounted one.

        Args:
            root: path at which the application is, as `SCRIPT_NAME`; mostly empty. One of too many
                different ones is left out.
            route: of the framework.
        """
        if not root:
            return route
        if root not in self._roots:
            if len(self._roots) >= _MOST_ROOTS:
                return route
            self._roots.add(root)
        return root.rstrip("/") + route


class Request(Operation):
    """One request that is being answered: an operation that method, route and status describe.

    Attributes:
        start_line: method and path that it was started with; empty of a request of WSGI.
        status: status of the answer; 0 before there is one.
        received: bytes of the body of the request, or `UNKNOWN_SIZE`.
        sent: bytes of the body of the answer so far, or `UNKNOWN_SIZE`.
    """

    __slots__ = (
        *("_body_sizes", "_failure", "_method", "_route"),
        *("received", "sent", "start_line", "status"),
    )

    def __init__(self, kind: Operations) -> None:
        """Make one that has not started; `HttpServer.start` starts them.

        Args:
            kind: as of `Operation`.
        """
        super().__init__(kind)
        self.start_line: tuple[str, ...] = ()
        self.status: int = 0
        self.received: int = UNKNOWN_SIZE
        self.sent: int = 0
        self._method = self._route = ""
        self._body_sizes = False
        self._failure: BaseException | None = None

    @property
    def route(self) -> str:
        """The template of the route, as `/items/{id}`; empty before it is known."""
        return self._route

    @route.setter
    def route(self, route: str) -> None:
        self._route = route
        self.entry_name: str = f"{self._method} {route}"

    def fail(self, error: BaseException | None = None) -> None:
        """Note an exception that the framework answers with an error page by itself.

        It counts if the status is 500 or above.

        Args:
            error: the exception; kept until the end.
        """
        self._failure = error

    def cancel(self) -> None:
        """End the request, as its client went away; only the first end has an effect."""
        self._finish_as(CANCELLED, CANCELLED, None)

    def drop(self, *, is_cancelled: bool) -> None:
        """End the request in a finalizer, as its answer was dropped.

        Args:
            is_cancelled: whether a part of the answer was missing.
        """
        self.leave_context_if_collecting()
        if is_cancelled:
            self.cancel()
        else:
            self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """End the request; only the first end has an effect.

        Args:
            error: the exception that ended it, if the application did not handle it.
        """
        status = self.status
        if status < _SERVER_ERROR and error is self._failure is None and not self._body_sizes:
            self.end(_props, "ok", None, (self._method, self._route, str(status or ""), ""))
            return
        if isinstance(error, GeneratorExit):  # a coroutine that was dropped before its end
            self.drop(is_cancelled=True)
            return
        result: Result = "ok"
        if error is not None:
            result = result_of(error)
        elif status >= _SERVER_ERROR:
            result, error = "error", self._failure
        kind = ""
        if result == "error":
            self.status = status or _SERVER_ERROR
            kind = str(self.status) if error is None else type_name(error)
        elif result == CANCELLED:
            kind = CANCELLED
        self._finish_as(result, kind, error)

    def _finish_as(self, result: Result, kind: str, error: BaseException | None) -> None:
        try:
            labels = self._method, self._route, str(self.status or ""), kind
            if self._body_sizes and not self.has_ended:
                self._add_sizes(labels)
            self._failure = None
            self.end(_props, result, error, labels)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self)

    def _add_sizes(self, labels: tuple[str, str, str, str]) -> None:
        if self.received != UNKNOWN_SIZE:
            _RECEIVED.add(self.received, *labels)
        if self.sent != UNKNOWN_SIZE:
            _SENT.add(0 if self._method == "HEAD" else self.sent, *labels)


def _props(method: str, route: str, status: str, kind: str) -> dict[str, object]:
    """Return the props of a request that ended."""
    name = f"{method} {route}" if route else method
    return {METHOD: method, ROUTE: route, STATUS: status, ERROR: kind, NAME: name}


def open_request(method: str, path: str) -> Request | None:
    """Return the open request of this context, if it is the same; None without one.

    So an application of WSGI that a server of ASGI calls does not measure its requests again.

    Args:
        method: as of `HttpServer.start`.
        path: as there.
    """
    request = current.get()
    if request is None or request.has_ended or request.start_line != (method, path):
        return None
    return request
