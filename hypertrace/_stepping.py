"""Spans of what runs in steps: generators, coroutines and asynchronous generators.

Each step is one resumption. Between steps the span is not open, so whoever runs meanwhile in the
same thread or task is not inside it.
"""

from __future__ import annotations

import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from typing import Any, TypeVar

    from ._span import SteppedSpan

    Tell = Callable[[SteppedSpan, object], None]
    Outer = TypeVar("Outer", bound=Any)


def generator(
    inner: Generator[Any, Any, Any], span: SteppedSpan, tell_result: Tell
) -> Generator[Any, Any, Any]:
    """Return what runs a generator inside a span, from its first step to its end."""
    return _named_like(inner, _steps(inner, span, tell_result))


def coroutine(
    inner: Awaitable[Any], span: SteppedSpan, tell_result: Tell
) -> Coroutine[Any, Any, Any]:
    """Return what runs a coroutine inside a span, from its first step to its end.

    `inner` may be any awaitable: a function can be marked as a coroutine function.
    """
    started: Any = inner if hasattr(inner, "send") else _awaiting(inner)
    return _named_like(started, _run_coroutine(_Closed(started), span, tell_result))


def async_generator(inner: AsyncGenerator[Any, Any], span: SteppedSpan) -> AsyncGenerator[Any, Any]:
    """Return what runs an asynchronous generator inside a span, from its first step to its end."""
    return _named_like(inner, _run_async_generator(inner, span))


def _named_like(inner: Any, outer: Outer) -> Outer:
    for name in ("__name__", "__qualname__"):
        setattr(outer, name, getattr(inner, name, getattr(outer, name)))
    return outer


class _Closed:
    """Closes a coroutine with its stand-in: never started, it would warn besides that one."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


async def _awaiting(awaitable: Awaitable[Any]) -> object:
    return await awaitable


async def _run_coroutine(inner: _Closed, span: SteppedSpan, tell_result: Tell) -> object:
    return await _awaited(inner.coroutine, span, tell_result)


async def _run_async_generator(
    inner: AsyncGenerator[Any, Any], span: SteppedSpan
) -> AsyncGenerator[Any, Any]:
    coming = [_unknown_to_the_loop(inner)]
    while True:
        try:
            yielded = await _awaited(coming.pop().__await__(), span)
        except StopAsyncIteration:
            span.end()
            return
        except BaseException as error:
            span.end(error)
            raise
        try:
            coming.append(inner.asend((yield yielded)))
        except BaseException as error:  # noqa: BLE001 -- thrown into this one, for the inner one
            coming.append(inner.athrow(error))


def _unknown_to_the_loop(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Return the first step, without telling the event loop of another asynchronous generator.

    A loop that shuts down closes all that it knows of, at the same time, and the garbage collector
    finalizes all in a cycle, in any order: this one is for its stand-in to close.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, lambda _: None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _steps(
    inner: Any, span: SteppedSpan, tell_result: Tell | None = None
) -> Generator[Any, Any, Any]:
    """Delegate to `inner` like `yield from`, with the span open during each step.

    With `tell_result` the span ends with the last step, and is told the result.
    """
    step: Callable[[Any], Any] = inner.send
    # What is sent or thrown stands in a list, not in a local variable: an exception that refers to
    # this frame must not be referred to by it.
    sent: list[Any] = [None]
    while True:
        span.resume()
        try:
            yielded = step(sent.pop())
        except StopIteration as stop:
            span.suspend()
            if tell_result is not None:
                tell_result(span, stop.value)
                span.end()
            return stop.value
        except BaseException as error:
            span.suspend()
            if tell_result is not None:
                span.end(error)
            raise
        span.suspend()
        try:
            sent.append((yield yielded))
            step = inner.send
        except BaseException as error:  # noqa: BLE001 -- thrown into this one, for the inner one
            sent.append(error)
            step = inner.throw


_awaited = types.coroutine(_steps)
