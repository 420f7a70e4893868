"""WSGI applications: their requests, until the last byte of the answer.

`trace_wsgi(application)` measures any application, without routes: its framework's integration adds
them. The metrics and their labels are those of `http_server`.

A request starts when the server calls the application, and ends when the answer has given its last
part: lists, generators, files of `wsgi.file_wrapper` (at their `close()`) and `write()`. An answer
that is closed or dropped before its end is `cancelled`, as the client is gone; so is a file that
the server closes because of an exception. One that is dropped unread has ended. The status is the
last one given to `start_response`. An exception in the application or in its answer is status 500
as long as no byte was given, and its class is the type of error. A request that passes several
layers with integrations, also one from a server of ASGI, is measured by the outermost one.

Sizes of bodies: of a request, as its `Content-Length` says; of one in chunks, what the application
reads by the end of the answer. Of an answer, the bytes that the application gave; of a file, its
`Content-Length`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_server import KEY, UNKNOWN_SIZE, HttpServer, current, open_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from .http_server import Request

_NONE = object()


def trace_wsgi(application: WSGIApplication, **options: Any) -> WSGIApplication:
    """Return an application that measures its requests; otherwise it is the one that is given.

    Args:
        application: of WSGI. A framework has its own integration, which knows routes.
        options: of `HttpServer`: `exclude`, `body_sizes`, `native`.

    Raises:
        TypeError: an option is wrong, or the application cannot be called.
    """
    from .applications import TracedWsgi  # imports wrapt

    return TracedWsgi(application, partial(measured, HttpServer(**options)))


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
        method = environ["REQUEST_METHOD"]
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if KEY in environ or current.get() is not None:
            request = _started(server, method, path, environ, route)
        else:
            request = server.start(method, path, environ, route)
        if request is not None and server.body_sizes:
            _measure_input(request, environ)
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
    noted: Iterable[bytes] = answer.of(body, environ.get("wsgi.file_wrapper"))
    return noted


def _started(
    server: HttpServer, method: str, path: str, environ: WSGIEnvironment, route: str
) -> Request | None:
    """Start the request unless a layer outside of this one measures it."""
    outer: Any = environ.get(KEY, _NONE)
    if outer is _NONE or (outer is not None and outer.has_ended):
        outer = open_request(method, path)
        if outer is None:
            return server.start(method, path, environ, route)
        environ[KEY] = outer
    if outer is not None and not outer.route:
        outer.route = route
    return None


def _measure_input(request: Request, environ: WSGIEnvironment) -> None:
    """Note the size of the body of a request, or count what the application reads of it."""
    length = str(environ.get("CONTENT_LENGTH") or "")  # some servers of tests give a number
    if length:
        request.received = int(length) if length.isdecimal() else UNKNOWN_SIZE
        return
    request.received = 0
    if "HTTP_TRANSFER_ENCODING" in environ:
        environ["wsgi.input"] = _Input(environ["wsgi.input"], request)


class _Input:
    """The body of a request in chunks, which counts what is read."""

    __slots__ = ("_file", "_request")

    def __init__(self, file: Any, request: Request) -> None:
        self._file = file
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _counted(self, part: bytes) -> bytes:
        try:
            self._request.received += len(part)
        except Exception as error:  # noqa: BLE001 -- it may be anything
            swallow(error, self)
        return part

    def read(self, *args: Any) -> bytes:
        """Read as the file does."""
        return self._counted(self._file.read(*args))

    def readline(self, *args: Any) -> bytes:
        """Read a line as the file does."""
        return self._counted(self._file.readline(*args))

    def readlines(self, *args: Any) -> list[bytes]:
        """Read lines as the file does."""
        return [self._counted(line) for line in self._file.readlines(*args)]

    def __iter__(self) -> Iterator[bytes]:
        return (self._counted(line) for line in self._file)


class _Answer:
    """One answer: its status, its bytes, and its end.

    It is the body that the server gets in the place of an iterator.
    """

    __slots__ = (
        *("_has_begun", "_has_ended", "_headers", "_parts"),
        *("_request", "_start_response", "_write"),
    )

    def __init__(self, request: Request, start_response: StartResponse) -> None:
        self._request = request
        self._start_response = start_response
        self._headers: Any = ()
        self._parts: Any = None
        self._has_begun = self._has_ended = False
        self._write: Any = None

    def start_response(
        self, status: str, headers: Any, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Call the one of the server, and note the status if it does not raise."""
        start = self._start_response
        self._write = start(status, headers, exc_info) if exc_info else start(status, headers)
        self._headers = headers
        try:
            self._request.status = int(status[:3])
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self)
        return self.write

    def write(self, data: bytes) -> object:
        """Call the function of the server that writes a part of the body, and note the part."""
        self._has_begun = True
        result: object = self._write(data)
        self._add(data)
        return result

    def of(self, body: Any, file_wrapper: Any) -> Any:
        """Return a body that the server takes for the given one, and that notes its end."""
        try:
            if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
                self._watch_file(body)
                return body
            kind = type(body)
            if kind is bytes or (file_wrapper is not None and hasattr(kind, "read")):
                # What a server in C recognizes, as uWSGI the file itself: its end is not seen.
                self._request.sent = self._length() if kind is not bytes else len(body)
                self._request.finish()
                return body
            if hasattr(kind, "__next__"):
                self._parts = body
                return self
            return (_SizedBody if hasattr(kind, "__len__") else _Body)(body, self)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            self._request.finish()
            return body

    def _watch_file(self, file: Any) -> None:
        """End when a file is closed: servers send what it holds without asking it for parts."""
        self._request.sent = self._length()
        close = getattr(file, "close", None)
        own = vars(file).get("close")

        def closed() -> None:
            self.end()
            if own is None:  # nothing is left that would keep the file
                del file.close
            else:
                file.close = own
            if close is not None:
                close()

        file.close = closed

    def _length(self) -> int:
        lengths = [text for name, text in self._headers if name.lower() == "content-length"]
        return int(lengths[0]) if lengths else UNKNOWN_SIZE

    def parts_of(self, body: Any) -> Iterator[bytes]:
        """Return this iterator, with the parts of a body that is none."""
        try:
            self._parts = iter(body)
        except BaseException as error:
            self.fail(error)
            raise
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._has_begun = True
        try:
            part: bytes = next(self._parts)
        except StopIteration:
            self._has_ended = True
            self._request.finish()
            raise
        except BaseException as error:
            self.fail(error)
            raise
        try:
            self._request.sent += len(part)
        except Exception as error:  # noqa: BLE001 -- it may be anything
            swallow(error, self)
        return part

    def close(self) -> None:
        """End where the server closes an iterator, and close that."""
        if not self._has_ended:
            self.end()
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()

    def end(self) -> None:
        """End where the server closes the body."""
        if self._has_ended or self._request.has_ended:
            return
        if sys.exc_info()[1] is not None or self._is_cut():
            self._request.cancel()
        else:  # it needs no body, as after `HEAD`
            self._request.finish()

    def __del__(self) -> None:
        # The answer was dropped, as by middleware that gives another one in its place.
        request = self._request
        if not (self._has_ended or request.has_ended):
            request.drop(is_cancelled=self._is_cut())

    def _is_cut(self) -> bool:
        """Whether some of the body was given, and some was not."""
        try:
            return self._has_begun and self._request.sent != self._length()
        except Exception as error:  # noqa: BLE001 -- the headers may be anything
            swallow(error, self)
            return True

    def fail(self, error: BaseException) -> None:
        """End with an exception of the application."""
        if not self._request.sent:  # the server can still answer with status 500
            self._request.status = 0
        self._request.finish(error)

    def _add(self, part: Any) -> None:
        try:
            self._request.sent += len(part)
        except Exception as error:  # noqa: BLE001 -- it may be anything
            swallow(error, self)


class _Body:
    """A body that is no iterator, and the given one but for the notes of its parts and its end."""

    __slots__ = ("_answer", "_body")

    def __init__(self, body: Any, answer: _Answer) -> None:
        self._body = body
        self._answer = answer

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __bytes__(self) -> bytes:
        return bytes(self._body)

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.parts_of(self._body)

    def close(self) -> None:
        """End, and close the body if it can be closed."""
        self._answer.end()
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


class _SizedBody(_Body):
    """The same of a list or another body whose parts can be counted."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)

    def __getitem__(self, index: Any) -> Any:
        return self._body[index]
