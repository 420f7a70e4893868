"""Flushes of all exporters of the process, for programs that are frozen or ended in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from hypertrace.metrics.flushing import FLUSH_TIMEOUT, Flushed, flush_all

from . import processes

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def flush(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Let all exporters of this process that push send now what came in, and wait for it.

    They send at the same time. Any thread and any signal handler may call it. Nothing is raised
    for an exporter that fails.

    Args:
        timeout: seconds to wait at the most.

    Returns:
        Whether all have sent it in time. What one has not sent is part of its next attempt.
    """
    return flush_all(processes.running(), timeout)


@overload
def flushes(function: F, /) -> F: ...
@overload
def flushes(*, timeout: float = FLUSH_TIMEOUT) -> Flushed: ...
def flushes(function: Any = None, /, *, timeout: float = FLUSH_TIMEOUT) -> Any:
    """Let all exporters of this process that push send what came in, whenever a function returns.

    For handlers after which the process is frozen, as in AWS Lambda. It decorates functions and
    coroutine functions, with or without arguments, and may stand in `with` and `async with`::

        @flushes
        def handler(event, context): ...

        @flushes(timeout=0.5)
        async def handler(request): ...

        with flushes(): ...

    It is as `Metrics.flushed`, which flushes the exporters of one `Metrics`.

    Args:
        function: to be decorated.
        timeout: seconds that a flush may take at the most.

    Raises:
        TypeError: `function` is no function, or one that makes a generator; or `timeout` is no
            number.
        ValueError: `timeout` is not above zero, or longer than an hour.
    """
    flushed = Flushed(flush, timeout)
    return flushed if function is None else flushed(function)
