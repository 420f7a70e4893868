"""Spans of what runs in steps: generators, coroutines and asynchronous generators.

Each step is one resumption. Between steps the span is not open, so whoever runs meanwhile in the
same thread or task is not inside it.
"""

from __future__ import annotations

import sys
import types
from math import nan

from . import _span
from ._span import Span, _current, is_collecting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from typing import Any, TypeVar

    from ._base import TracerBase
    from ._bindings import SpanBinding

    Tell = Callable[["SteppedSpan", object], None]
    Outer = TypeVar("Outer", bound=Any)


class SteppedSpan(Span):
    """A span that runs in steps: of a generator or a coroutine, from its first step to its last."""

    __slots__ = ("_busy", "_ended", "_inner", "_resumed", "_upstream")

    def __init__(
        self, binding: SpanBinding, source: TracerBase, props: dict[str, object] | None = None
    ) -> None:
        super().__init__(binding, source, props)
        self._busy: float | None = None
        self._inner: Span | None = None
        self._upstream: Span | None = None

    def resume(self) -> None:
        """Start a step; with the first one the span starts."""
        try:
            if self._busy is None:
                self.__enter__()
                self._upstream = self._outer
                self._token = None  # each step sets the current span, and sets it back
                if self._binding.edges is not None and _current.get() is not self:
                    self._outer = self  # which is not open then, as below
                self._resumed = self._began
                self._busy = 0.0
                return
            if self._binding.edges is not None:
                if is_collecting():
                    self._outer = self
                else:
                    self._outer = _current.get()
                    _current.set(self._inner or self)
            self._resumed = _span.clock()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, self)

    def suspend(self) -> None:
        """End a step."""
        try:
            self._ended = _span.clock()
            self._busy = float((self._busy or 0.0) + self._ended - self._resumed)
        except Exception as error:  # noqa: BLE001 -- as above
            self._busy = nan
            self._swallow(error, self)
        finally:
            self._step_out()

    def end(self, error: BaseException | None = None) -> None:
        """End the span, with what ended its last step."""
        upstream, self._upstream = self._upstream, None
        self._inner = None
        try:
            duration = float(self._ended - self._began)
        except Exception:  # noqa: BLE001 -- the clock was replaced, and the step has told it
            duration = nan
        self._end(duration, error, upstream, self._busy)

    def _step_out(self) -> None:
        try:
            if self._binding.edges is not None:
                if self._outer is not self:
                    # A span inside that is open still goes on with the next step.
                    self._inner = _current.get()
                    _current.set(self._outer)
                self._outer = None
        except Exception as error:  # noqa: BLE001 -- the interpreter goes down
            self._swallow(error, self)


def generator(
    inner: Generator[Any, Any, Any], span: SteppedSpan, tell_result: Tell
) -> Generator[Any, Any, Any]:
    """Return what runs a generator inside a span, from its first step to its end."""
    try:
        return _named_like(inner, _steps(inner, span, tell_result))
    except TypeError:  # the interpreter goes down, and has taken these names
        return inner


def coroutine(
    inner: Awaitable[Any], span: SteppedSpan, tell_result: Tell
) -> Coroutine[Any, Any, Any]:
    """Return what runs a coroutine inside a span, from its first step to its end.

    `inner` may be any awaitable: a function can be marked as a coroutine function.
    """
    try:
        started: Any = inner if hasattr(inner, "send") else _awaiting(inner)
        return _named_like(started, _run_coroutine(_Closed(started), span, tell_result))
    except TypeError:  # as above
        return inner  # type: ignore[return-value]  # as a coroutine function returned it


def async_generator(inner: AsyncGenerator[Any, Any], span: SteppedSpan) -> AsyncGenerator[Any, Any]:
    """Return what runs an asynchronous generator inside a span, from its first step to its end."""
    try:
        return _named_like(inner, _run_async_generator(inner, span))
    except TypeError:  # as above
        return inner


def _named_like(inner: Any, outer: Outer) -> Outer:
    for attribute in ("__name__", "__qualname__"):
        name = getattr(inner, attribute, None)
        if isinstance(name, str):
            setattr(outer, attribute, name)
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
