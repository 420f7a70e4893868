"""WSGI applications: their requests, until the last byte of the answer.

`trace_wsgi(application)` measures any application, without routes: its framework's integration adds
them. The metrics and their labels are those of `http_server`.

A request starts when the server calls the application, and ends when the answer has given its last
part: lists, generators, files of `wsgi.file_wrapper` (at their `close()`) and `write()`. An answer
that is closed before its end is `cancelled`, as the client is gone; so is a file that the server
closes because of an exception. The status is the last one given to `start_response`. An exception
in the application or in its answer is status 500 as long as no byte was given, and its class is the
type of error. A request that passes several layers with integrations, also one from a server of
ASGI, is measured by the outermost one.

Sizes of bodies: of a request, as its `Content-Length` says, without one 0; none is recorded for a
request in chunks. Of an answer, the bytes that the application gave; of a file, its
`Content-Length`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import wrapt

from hypertrace._failures import swallow

from .http_server import KEY, UNKNOWN_SIZE, HttpServer, open_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from .http_server import Request

_NONE = object()


def trace_wsgi(application: WSGIApplication, **options: Any) -> WSGIApplication:
    """Return an application that measures its requests; otherwise it is the one that is given.

    Args:
        application: of WSGI. A framework has its own integration, which knows routes.
        options: of `HttpServer`: `excluded`, `body_sizes`, `native`.

    Raises:
        TypeError: an option is wrong.
    """
    return _TracedApplication(application, HttpServer(**options))


class _TracedApplication(wrapt.ObjectProxy):  # type: ignore[type-arg]  # not generic in wrapt 2.0
    """An application that is called through `measured`."""

    def __init__(self, application: WSGIApplication, server: HttpServer) -> None:
        super().__init__(application)
        self._self_server = server

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return measured(self._self_server, self.__wrapped__, environ, start_response)


def measured(
    server: HttpServer,
    application: WSGIApplication,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    route: str = "",
) -> Iterable[bytes]:
    """Call an application, and measure the request unless a layer outside of this one does.

    Args:
        server: says what is measured.
        application: is called with the environment.
        environ: of the request; it gets the request under `KEY`.
        start_response: of the server.
        route: of the request until the framework knows it.

    Returns:
        What the application returns, or what is used in its place. Its exceptions propagate.
    """
    try:
        request = _started(server, environ, route)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, server)
        request = None
    if request is None:
        return application(environ, start_response)
    answer = _Answer(request, start_response)
    try:
        body = application(environ, answer.start_response)
    except BaseException as error:
        answer.fail(error)
        raise
    noted: Iterable[bytes] = answer.body(body, environ.get("wsgi.file_wrapper"))
    return noted


def _started(server: HttpServer, environ: WSGIEnvironment, route: str) -> Request | None:
    """Start the request; None if it is excluded, or a layer outside of this one measures it."""
    known: Any = environ.get(KEY, _NONE)
    if known is _NONE or (known is not None and known.has_ended):
        method = environ["REQUEST_METHOD"]
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        known = environ[KEY] = open_request(method, path)
        if known is None:
            request = server.start(method, path, environ)
            if request is not None:
                request.route = route
                request.received = _length_of(environ)
            return request
    if known is not None and route and not known.route:
        known.route = route
    return None


def _length_of(environ: WSGIEnvironment) -> int:
    length = environ.get("CONTENT_LENGTH")
    if length:
        return int(length) if length.isdecimal() else UNKNOWN_SIZE
    return UNKNOWN_SIZE if "HTTP_TRANSFER_ENCODING" in environ else 0


def _is_file(body: Any, file_wrapper: Any) -> bool:
    if isinstance(file_wrapper, type):
        return isinstance(body, file_wrapper)
    return file_wrapper is not None and hasattr(body, "read")  # that of uWSGI returns the file


class _Answer:
    """One answer: its status, its bytes, and its end."""

    __slots__ = ("_headers", "_request", "_start_response", "has_begun")

    def __init__(self, request: Request, start_response: StartResponse) -> None:
        self._request = request
        self._start_response = start_response
        self._headers: Any = ()
        self.has_begun: bool = False
        """Whether the server has asked for parts of the body."""

    def start_response(
        self, status: str, headers: Any, *error: Any, **named: Any
    ) -> Callable[[bytes], object]:
        """Call the one of the server, and note the status if it does not raise."""
        write = self._start_response(status, headers, *error, **named)
        try:
            self._headers = headers
            self._request.status = int(status[:3])
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self)

        def counted(data: bytes) -> object:
            self.has_begun = True
            result: object = write(data)
            self.add(data)
            return result

        return counted

    def body(self, body: Any, file_wrapper: Any) -> Any:
        """Return a body that the server takes for the given one, and that notes its end."""
        try:
            if type(body) is bytes:  # not what WSGI asks for, but some servers send it as it is
                self.add(body)
                self._request.finish()
            elif _is_file(body, file_wrapper):
                self._watch_file(body)
            else:
                return (_Iterator if hasattr(type(body), "__next__") else _Body)(body, self)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            self._request.finish()
        return body

    def _watch_file(self, file: Any) -> None:
        """End when a file is closed: servers send what it holds without asking it for parts."""
        lengths = [text for name, text in self._headers if name.lower() == "content-length"]
        self._request.sent = int(lengths[0]) if lengths else UNKNOWN_SIZE
        close = getattr(file, "close", None)

        def closed() -> None:
            self.close()
            if close is not None:
                close()

        try:
            file.close = closed
        except (AttributeError, TypeError):  # it is none of Python: its end is not seen
            self._request.finish()

    def parts_of(self, body: Any) -> Iterator[bytes]:
        """Return an iterator over a body that notes its parts."""
        try:
            return _Parts(iter(body), self)
        except BaseException as error:
            self.fail(error)
            raise

    def next_of(self, parts: Iterator[bytes]) -> bytes:
        """Return the next part of a body."""
        self.has_begun = True
        try:
            part = next(parts)
        except StopIteration:
            self._request.finish()
            raise
        except BaseException as error:
            self.fail(error)
            raise
        self.add(part)
        return part

    def add(self, part: Any) -> None:
        """Note a part of the body."""
        try:
            self._request.sent += len(part)
        except Exception as error:  # noqa: BLE001 -- it may be anything
            swallow(error, self)

    def fail(self, error: BaseException) -> None:
        """End with an exception of the application."""
        if not self._request.sent:  # the server can still answer with status 500
            self._request.status = 0
        self._request.finish(error)

    def close(self) -> None:
        """End where the server closes the body."""
        if self._request.has_ended:
            return
        if self.has_begun or sys.exc_info()[1] is not None:
            self._request.cancel()
        else:  # it needs no body, as after `HEAD`
            self._request.finish()


class _Body(wrapt.BaseObjectProxy):  # type: ignore[type-arg]  # as above
    """A body that is the given one but for the notes of its parts and its end."""

    def __init__(self, body: Any, answer: _Answer) -> None:
        super().__init__(body)
        self._self_answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._self_answer.parts_of(self.__wrapped__)

    def close(self) -> None:
        self._self_answer.close()
        close = getattr(self.__wrapped__, "close", None)
        if close is not None:
            close()


class _Iterator(_Body):
    """The same of a body that is an iterator."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._self_answer.next_of(self.__wrapped__)


class _Parts:
    """The parts of a body that is no iterator."""

    __slots__ = ("_answer", "_parts")

    def __init__(self, parts: Iterator[bytes], answer: _Answer) -> None:
        self._parts = parts
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._answer.next_of(self._parts)
