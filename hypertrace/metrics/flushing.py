"""Flushes: a block, or function, after which exporters that push have sent what came in."""

from __future__ import annotations

import inspect
import logging
import threading
from contextlib import suppress
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from hypertrace import suppress_tracing
from hypertrace.rate_limit import RateLimit

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable, Iterable
    from types import TracebackType

FLUSH_TIMEOUT = 2.0
"""Seconds that a flush may take at the most, unless it is given others."""

LONGEST_TIMEOUT = 3_600.0
_THREAD_NAME = "hypertrace-flush"

_log_limit = RateLimit()
_logger = logging.getLogger("hypertrace.exporters")

P = ParamSpec("P")
R = TypeVar("R")


class Flushable(Protocol):
    """What can send at once what came in: an exporter that pushes."""

    def request_flush(self) -> Callable[[float], bool]:
        """Begin to send what came in, without waiting for it.

        Returns:
            A function that waits for so many seconds at the most, and returns whether it was sent.
        """


def flush_all(exporters: Iterable[Flushable], timeout: float) -> bool:
    """Let exporters send what came in, all at the same time, and wait for all of them.

    Args:
        exporters: to flush. One that hangs costs the others nothing.
        timeout: seconds to wait at the most, for all together.

    Returns:
        Whether each has sent it in time.
    """
    deadline = monotonic() + timeout
    waits = [exporter.request_flush() for exporter in exporters]
    # A list, since each is waited for, also after one that failed.
    return all([wait(max(0.0, deadline - monotonic())) for wait in waits])  # noqa: C419


class Flushed:
    """A block after which exporters have sent what came in; a decorator for functions, too.

    It is used with `with`, with `async with`, or as a decorator of functions and coroutine
    functions, by any number of threads and tasks at the same time. What the block raises passes
    through unchanged. The end of the block waits as long as the timeout says at the most, and
    raises nothing: what was not sent is logged, once a minute at the most, and is part of the next
    attempt. An event loop of `asyncio` goes on meanwhile; in other loops the end of the block
    waits.
    """

    def __init__(self, flush: Callable[[float], bool], timeout: float) -> None:
        """Keep what to call.

        Args:
            flush: sends what came in within so many seconds, and returns whether it was sent.
            timeout: seconds that it gets.

        Raises:
            TypeError: `timeout` is no number.
            ValueError: `timeout` is not above zero, or longer than an hour.
        """
        self._flush = flush
        self._timeout = checked_timeout(timeout)

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush."""
        self._flush_or_log()

    async def __aenter__(self) -> None:
        """Begin the block."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush, in another thread where `asyncio` runs."""
        import asyncio

        try:
            flushed = self._flush_in_thread(asyncio.get_running_loop())
        except RuntimeError:  # of another library, or without a thread left
            self._flush_or_log()
        else:
            await flushed

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return a function that calls another one in such a block.

        Args:
            function: a function, or a coroutine function.

        Raises:
            TypeError: it is none of these.
        """
        _check_function(function)
        if _is_coroutine_function(function):
            return self._around_coroutine(function)  # type: ignore[no-any-return]

        @wraps(function)
        def flushed(*arguments: P.args, **named: P.kwargs) -> R:
            with self:
                return function(*arguments, **named)

        return flushed

    def _around_coroutine(self, function: Any) -> Any:
        @wraps(function)
        async def flushed(*arguments: Any, **named: Any) -> Any:
            async with self:
                return await function(*arguments, **named)

        return flushed

    def _flush_in_thread(self, loop: AbstractEventLoop) -> Future[None]:
        """Flush in a thread for itself: those of the loop may be busy for as long as they like."""
        flushed: Future[None] = loop.create_future()

        def end() -> None:
            if not flushed.done():  # else the task was cancelled
                flushed.set_result(None)

        def flush() -> None:
            self._flush_or_log()
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(end)

        threading.Thread(target=flush, name=_THREAD_NAME, daemon=True).start()
        return flushed

    def _flush_or_log(self) -> None:
        if not self._flush(self._timeout) and _log_limit.allow():
            with suppress(Exception):  # a broken log handler must not reach the application
                suppress_tracing(
                    _logger.warning,
                    "Not all exporters have sent what came in within %g seconds; it is part of "
                    "their next attempt (%d more flushes not logged)",
                    self._timeout,
                    _log_limit.take_suppressed(),
                )


def checked_timeout(timeout: float) -> float:
    """Return a time-out that is right.

    Args:
        timeout: seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above zero, or longer than an hour.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    if not 0 < timeout <= LONGEST_TIMEOUT:
        raise ValueError(
            f"timeout must be above 0 and up to {LONGEST_TIMEOUT:.0f} seconds, not {timeout!r}"
        )
    return float(timeout)


def _check_function(function: Any) -> None:
    if isinstance(function, staticmethod | classmethod):
        kind = type(function).__name__
        raise TypeError(f"{function!r} would be no {kind} any more: flush below @{kind} instead")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"only a function can be flushed after, not {function!r}")
    called = type(function).__call__
    if any(map(inspect.isgeneratorfunction, (function, called))) or any(
        map(inspect.isasyncgenfunction, (function, called))
    ):
        raise TypeError(
            f"{function!r} makes a generator, which runs later: use a with block in it instead"
        )


def _is_coroutine_function(function: Any) -> bool:
    called = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
