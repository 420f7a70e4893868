"""HTTP client requests: what all client libraries measure of a request.

`http_client_request_duration_seconds` by host, port, method, status and type of error, from the
start of the request until its body is read, closed or dropped; `http_client_active_requests`
meanwhile. Where the library shows them, also how long the request waited for a new connection,
`http_client_connect_duration_seconds`, and within that for the address of the host,
`http_client_name_lookup_duration_seconds`, both by host and port. The names are those of
OpenTelemetry, which has none for the last two:
https://opentelemetry.io/docs/specs/semconv/http/http-metrics/

A request is a span inside the entry that makes it. Each redirect is a request, unless they are
grouped. What exporters send, in `hypertrace.suppress_tracing` or by OpenTelemetry's exporters, is
not measured.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from contextvars import ContextVar
from errno import ECONNREFUSED
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from hypertrace import _dispatch
from hypertrace._failures import swallow
from hypertrace._guard import active_suppressions, drop_if_suppressed
from hypertrace._operations import Operation, Operations
from hypertrace._span import clock, is_collecting
from hypertrace.inspection import type_name
from hypertrace.metrics import Distribution, declare

from .gauges import Gauge
from .http_server import ERROR, METHOD, METHODS, OTHER_METHOD, SECONDS, STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from contextvars import Token
    from types import TracebackType

    from hypertrace.events import Result

    Target = tuple[str, str | None, int | None]
    """Method, host and port of a request."""

ADDRESS = "server_address"
PORT = "server_port"

PORTS = {"http": 80, "https": 443}
"""Ports of URLs that have none."""
OTHER_HOST = "<other>"
"""Stands for all hosts beyond the first `max_hosts`."""

DURATIONS = Distribution(
    "http_client_request_duration_seconds",
    of="HttpClient.request",
    tags=[ADDRESS, PORT, METHOD, STATUS, ERROR],
    buckets=SECONDS,
    description="HTTP requests to other servers, until the body is read or closed.",
)
CONNECTS = Distribution(
    "http_client_connect_duration_seconds",
    of="HttpClient.connect",
    tags=[ADDRESS, PORT],
    buckets=SECONDS,
    description="Waits of HTTP requests for a new connection, with its name look-up and TLS.",
)
LOOKUPS = Distribution(
    "http_client_name_lookup_duration_seconds",
    of="HttpClient.name_lookup",
    tags=[ADDRESS, PORT],
    buckets=SECONDS,
    description="Waits of HTTP requests for the address of a host.",
)

_REQUESTS = Operations("HttpClient", "request")
_CONNECTS = Operations("HttpClient", "connect")
_LOOKUPS = Operations("HttpClient", "name_lookup")
_ACTIVE = Gauge(
    "http_client_active_requests",
    (METHOD, ADDRESS, PORT),
    "HTTP requests to other servers that are under way.",
)

_STATUSES = 100, 999
_FIRST_ERROR = 400
_REDIRECTS = frozenset((301, 302, 303, 307, 308))

_KINDS = (
    ("name_resolution", {"gaierror", "herror", "NameResolutionError", "ClientConnectorDNSError"}),
    ("tls", {"SSLError", "CertificateError", "ClientSSLError", "ServerFingerprintMismatch"}),
    ("connection_refused", {"ConnectionRefusedError"}),
    ("timeout", {"TimeoutError", "TimeoutException", "Timeout", "EmptyPoolError"}),
)
"""Values of `error_type`, and names of classes that stand for them in the standard library and in
client libraries. The first one that is found wins: a refused connection may be a time-out by class.
"""
_NO_TIMEOUT = "NewConnectionError"
"""A class of urllib3 that inherits from its time-out for compatibility alone."""
_MOST_CAUSES = 32

_current: ContextVar[ClientRequest | None] = ContextVar("hypertrace_http_request", default=None)
"""The request whose library runs in this thread or task."""
_redirects: ContextVar[_Redirects | None] = ContextVar("hypertrace_http_redirects", default=None)

_SUPPRESSED = "suppress_instrumentation"
"""Key that OpenTelemetry's exporters set in its context."""


class HttpClient:
    """What is measured of the requests that one library sends.

    Any thread may use it, and nothing is raised but by its creation.

    Attributes:
        group_redirects: whether the requests of one call, each redirected to the next, are one.
    """

    def __init__(self, *, group_redirects: bool = False, max_hosts: int = 100) -> None:
        """Declare the metrics.

        Args:
            group_redirects: measure requests that are redirects of the one before as one, with the
                sum of their times, the method and host of the first, and the status of the last.
            max_hosts: hosts (with their ports) that are labels; all further ones are `<other>`.

        Raises:
            TypeError: `group_redirects` is no bool, or `max_hosts` no int.
            ValueError: `max_hosts` is below zero.
        """
        if not isinstance(group_redirects, bool):
            raise TypeError(f"group_redirects must be True or False, not {group_redirects!r}")
        if type(max_hosts) is not int:
            raise TypeError(f"max_hosts must be an int, not {max_hosts!r}")
        if max_hosts < 0:
            raise ValueError(f"max_hosts must be 0 or more, not {max_hosts}")
        self.group_redirects: bool = group_redirects
        self._most_hosts = max_hosts
        self._hosts: dict[tuple[str | None, int | None], tuple[str, str]] = {}
        declare(DURATIONS)
        declare(CONNECTS)
        declare(LOOKUPS)

    def start(self, target_of: Callable[..., Target], *args: Any) -> ClientRequest:
        """Start to measure a request; the caller enters it.

        It measures nothing while tracing is off or suppressed.

        Args:
            target_of: is called with the arguments, and returns what the request is. What it
                raises is swallowed, and the request is not measured.
            args: objects of the library.
        """
        try:
            if _dispatch.target is None or (active_suppressions and drop_if_suppressed()):
                return ClientRequest()
            context = sys.modules.get("opentelemetry.context")
            if context is not None and context.get_current().get(_SUPPRESSED):
                return ClientRequest()
            method, host, port = target_of(*args)
            address, port_text = self._hosts.get((host, port)) or self._add_host(host, port)
            known = method if method in METHODS else OTHER_METHOD
            adders = _ACTIVE.adders(known, address, port_text)
            request = ClientRequest.start_aside(_REQUESTS, adders)
            request._method = known
            request._address = address
            request._port = port_text
            if self.group_redirects:
                group = _redirects.get()
                if group is not None and group.is_open_for(self):
                    request.begin_in(group)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, target_of)
            return ClientRequest()
        return request

    def redirects(self) -> AbstractContextManager[object]:
        """Group the requests of the block in which each is a redirect of the one before.

        Inside such a block, it is a part of that.
        """
        group = _redirects.get()
        if group is not None and group.is_open_for(self) and not group.is_sending:
            return nullcontext()
        return _Redirects(self)

    def _add_host(self, host: str | None, port: int | None) -> tuple[str, str]:
        """Return the labels of a host that is not known yet, or not in this spelling."""
        place = (host or "").lower(), port
        known = self._hosts.get(place)
        if known is not None:
            return known
        if len(self._hosts) >= self._most_hosts:
            return OTHER_HOST, ""
        address, port = place
        return self._hosts.setdefault(place, (address, "" if port is None else str(port)))


class ClientRequest(Operation):
    """One request, from its start to the end of its body.

    It is a context manager for the time in which the library sends it, until there is an answer;
    an exception ends it. It need not end in the thread or task in which it started.

    Attributes:
        status: status of the answer; 0 before there is one.
    """

    __slots__ = (
        *("_address", "_before", "_connect", "_context", "_error", "_exception", "_group"),
        *("_lookup", "_method", "_phases", "_port", "status"),
    )

    _context: Token[ClientRequest | None]

    def __init__(self, kind: Operations = _REQUESTS) -> None:
        """Make one that is not measured; `HttpClient.start` starts one that is.

        Args:
            kind: as of `Operation`.
        """
        super().__init__(kind)
        self._address = self._port = self._method = ""
        self.status: int = 0
        self._before = 0.0
        self._connect: float | None = None
        self._lookup: float | None = None
        self._phases = 0
        self._error = ""
        self._exception: type[BaseException] | None = None
        self._group: _Redirects | None = None

    def begin_in(self, group: _Redirects) -> None:
        """Belong to redirects, of which it may be one.

        Args:
            group: of the call that sends it.
        """
        self._group = group
        group.add(self)

    def __enter__(self) -> Self:
        self._context = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.finish(error)
            # A finalizer that ends a coroutine must not change the context.
            if error is None or (_current.get() is self and not is_collecting()):
                _current.reset(self._context)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self)

    def __del__(self) -> None:
        if hasattr(self, "_running"):
            self.finish()  # its body was dropped

    def finish(self, error: BaseException | None = None) -> None:
        """End the request; only the first call has an effect.

        Args:
            error: the exception that ended it.
        """
        try:
            status, kind = self.status, ""
            if error is not None:
                if self.has_ended:
                    return
                kind = error_type_of(error)
            elif status >= _FIRST_ERROR:
                kind = str(status)
            is_one = self._group is None and not self._before
            if is_one and self._connect is None and self._lookup is None:
                labels = self._address, self._port, self._method, str(status or ""), kind
                self.end(_props, "error" if kind and error is None else "ok", error, labels)
                return
            try:
                del self._running
            except AttributeError:
                return
            self.stop()
            self._error, self._exception = kind, None if error is None else type(error)
            if self._group is None:
                self._record(error)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self)

    def answered(self, status: object) -> None:
        """Set the status of the answer.

        Args:
            status: what is none is ignored.
        """
        if isinstance(status, int) and _STATUSES[0] <= status <= _STATUSES[1]:
            self.status = int(status)

    def connecting(self) -> _Connecting:
        """Measure the block as a wait for a new connection."""
        return _Connecting(self)

    def looking_up(self) -> _LookingUp:
        """Measure the block as a wait for the address of a host."""
        return _LookingUp(self)

    def take_over(self, redirected: ClientRequest) -> None:
        """Go on with what another request has begun, and was redirected.

        Args:
            redirected: it is not recorded.
        """
        redirected.finish()
        self._method = redirected._method
        self._address, self._port = redirected._address, redirected._port
        self._before = redirected._before + (redirected.seconds or 0.0)
        self._connect, self._lookup = redirected._connect, redirected._lookup

    def let_go(self) -> None:
        """Record it when it has ended: it is not redirected."""
        self._group = None
        if self.has_ended:
            self._record(self._exception)

    def _record(self, exception: BaseException | type[BaseException] | None) -> None:
        """Record it with what it has waited for and been redirected from."""
        place = self._address, self._port
        if self._connect is not None:
            _CONNECTS.record(self._connect, _props_of_place, "ok", None, place)
        if self._lookup is not None:
            _LOOKUPS.record(self._lookup, _props_of_place, "ok", None, place)
        kind = self._error
        labels = self._address, self._port, self._method, str(self.status or ""), kind
        result: Result = "error" if kind and exception is None else "ok"
        seconds = self._before + (self.seconds or 0.0)
        _REQUESTS.record(seconds, _props, result, exception, labels)


def _props(address: str, port: str, method: str, status: str, kind: str) -> dict[str, object]:
    """Return the props of a request that ended."""
    return {ADDRESS: address, PORT: port, METHOD: method, STATUS: status, ERROR: kind}


def _props_of_place(address: str, port: str) -> dict[str, object]:
    """Return the props of a wait for a host."""
    return {ADDRESS: address, PORT: port}


class _Connecting:
    """The time that a request waits for a new connection, as a context manager."""

    __slots__ = ("_began", "_request")

    def __init__(self, request: ClientRequest) -> None:
        self._request = request

    def __enter__(self) -> None:
        self._request._phases += 1
        self._began = clock()

    def __exit__(self, *_: object) -> None:
        request = self._request
        request._phases -= 1
        if not request._phases:  # the outermost: a connection with TLS is one without it first
            request._connect = (request._connect or 0.0) + clock() - self._began


class _LookingUp:
    """The time that a request waits for the address of a host, as a context manager."""

    __slots__ = ("_began", "_request")

    def __init__(self, request: ClientRequest) -> None:
        self._request = request

    def __enter__(self) -> None:
        self._began = clock()

    def __exit__(self, *_: object) -> None:
        request = self._request
        request._lookup = (request._lookup or 0.0) + clock() - self._began


class _Redirects:
    """Requests of one call, of which those that are redirects are recorded with the one before."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._last: ClientRequest | None = None
        self._is_open = True

    @property
    def is_sending(self) -> bool:
        """Whether the last request has no answer yet: one inside it is another call's."""
        last = self._last
        return last is not None and not last.status and not last.has_ended

    def is_open_for(self, client: HttpClient) -> bool:
        """Whether requests of a client may be added."""
        return self._is_open and self._client is client

    def add(self, request: ClientRequest) -> None:
        """Add the next request."""
        last, self._last = self._last, request
        if last is None:
            return
        if last.status in _REDIRECTS:
            request.take_over(last)
        else:
            last.let_go()

    def __enter__(self) -> Self:
        self._token: Token[_Redirects | None] = _redirects.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._is_open = False
            if not is_collecting():  # as of a request
                _redirects.reset(self._token)
            if self._last is not None:
                self._last.let_go()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)


def current_request() -> ClientRequest | None:
    """Return the request whose library runs in this thread or task; None if it is not measured."""
    request = _current.get()
    return request if hasattr(request, "_running") else None


def target_of_url(method: str, url: str) -> Target:
    """Return the method, host and port of a request.

    Args:
        method: of the request.
        url: its whole URL; user, path and query are left out.
    """
    parts = urlsplit(url)
    return method, parts.hostname, parts.port or PORTS.get(parts.scheme)


def error_type_of(error: BaseException) -> str:
    """Return what `error_type` is for an exception that ended a request.

    Args:
        error: it is looked at with its causes, but not with what was handled when it was raised.
    """
    names = [
        {kind.__name__ for kind in type(one).__mro__} | _by_number(one) for one in _causes(error)
    ]
    for error_type, classes in _KINDS:
        for known in names:
            if known & classes and not (error_type == "timeout" and _NO_TIMEOUT in known):
                return error_type
    return type_name(type(error))


def _by_number(error: BaseException) -> set[str]:
    if isinstance(error, OSError) and error.errno == ECONNREFUSED:
        return {"ConnectionRefusedError"}  # also of subclasses of OSError
    return set()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an exception, and those that it was made of."""
    waiting, seen = [error], 0
    while waiting and seen < _MOST_CAUSES:
        one = waiting.pop(0)
        seen += 1
        yield one
        parts = (
            one.__cause__,
            getattr(one, "reason", None),
            *one.args,
            *getattr(one, "exceptions", ()),
        )
        waiting += [part for part in parts if isinstance(part, BaseException)]
