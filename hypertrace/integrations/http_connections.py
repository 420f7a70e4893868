"""Connections of the standard library: waits for them, and ends of the bodies that they bring.

For all client libraries that use `http.client` or its sockets. Each of these functions may be
called by several integrations; what they replace is replaced once. Requests that nothing measures
are left as they are.
"""

from __future__ import annotations

import socket
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_clients import current_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patches

_REQUEST = "_hypertrace_request"
"""Attribute of an answer whose body is not read yet."""
_READING = "http.client", "socket", "ssl", "urllib3.", "gevent."
"""Modules that read bodies."""


def patch_bodies(patches: Patches) -> None:
    """Let the current request end when the body of its answer has been read, closed or dropped."""
    import http.client

    patches.share(http.client.HTTPResponse, "begin", _beginning)
    patches.share(http.client.HTTPResponse, "_close_conn", _closing)


def patch_lookups(patches: Patches) -> None:
    """Measure look-ups of names that the current request waits for."""
    patches.share(socket, "getaddrinfo", _looking_up)
    # On event loops, the one of the standard library runs in another thread.
    module = "anyio._core._sockets"
    patches.when_imported(
        module, lambda: patches.share(sys.modules[module], "getaddrinfo", _looking_up_by_anyio)
    )


def connecting(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that connects, and measures that for the current request."""

    @wraps(connect)
    def measured(*args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None:
            return connect(*args, **kwargs)
        with request.connecting():
            return connect(*args, **kwargs)

    return measured


def connecting_async(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that does as `connecting`."""

    @wraps(connect)
    async def measured(*args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None:
            return await connect(*args, **kwargs)
        with request.connecting():
            return await connect(*args, **kwargs)

    return measured


def was_raised_by(
    error: BaseException | None, modules: tuple[str, ...], is_reader: Callable[[object], bool]
) -> bool:
    """Whether an exception was raised in a method of an object that reads a body.

    Args:
        error: the exception, or None.
        modules: beginnings of the names of those that have such methods, and raise.
        is_reader: whether an object is the one.
    """
    place = None if error is None else error.__traceback__
    is_found, name = False, ""
    while place is not None:
        frame, place = place.tb_frame, place.tb_next
        name = frame.f_globals.get("__name__", "")
        is_found |= name.startswith(modules) and is_reader(frame.f_locals.get("self"))
    return is_found and name.startswith(modules)


def _beginning(begin: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def measured(self: Any) -> Any:
        result = begin(self)
        request = current_request()
        if request is not None:
            request.status = self.status  # `http.client` has checked it
            try:
                setattr(self, _REQUEST, request)
            except Exception as error:  # noqa: BLE001 -- it may be of a class of the application
                swallow(error, self)
                request.finish()
        return result

    return measured


def _closing(close: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def measured(self: Any) -> Any:
        request = getattr(self, _REQUEST, None)
        if request is None:
            return close(self)
        delattr(self, _REQUEST)
        error = _error_of(self) if self.length != 0 else None
        try:
            return close(self)
        finally:
            request.finish(error)

    return measured


def _error_of(answer: Any) -> BaseException | None:
    """Return the exception because of which the body of an answer, still open, is closed."""
    from http.client import IncompleteRead

    try:
        # The socket remembers it; the exception itself may be long gone.
        if getattr(getattr(answer.fp, "raw", None), "_timeout_occurred", False):
            return TimeoutError()
        if answer.length and not answer.closed:  # not by `close()`, but as there is no more
            return IncompleteRead(b"", answer.length)

        def is_reader(one: object) -> bool:
            # urllib3's answer has one of the standard library, and reads its file, too.
            return one is answer or getattr(one, "_original_response", None) is answer

        error = sys.exc_info()[1]
        return error if was_raised_by(error, _READING, is_reader) else None
    except Exception as failure:  # noqa: BLE001 -- the application must see nothing
        swallow(failure, answer)
        return None


def _looking_up(look_up: Callable[..., Any]) -> Callable[..., Any]:
    def measured(host: Any, *args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None or _is_address(host):
            return look_up(host, *args, **kwargs)
        with request.looking_up():
            return look_up(host, *args, **kwargs)

    return measured


def _looking_up_by_anyio(look_up: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(host: Any, *args: Any, **kwargs: Any) -> Any:
        request = current_request()
        if request is None or _is_address(host):
            return await look_up(host, *args, **kwargs)
        with request.looking_up():
            return await look_up(host, *args, **kwargs)

    return measured


def _is_address(host: object) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)  # type: ignore[arg-type]  # what is no text is none
        except (OSError, TypeError, ValueError):
            continue
        return True
    return False
