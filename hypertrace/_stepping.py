"""Spans of generators, coroutines and asynchronous generators, which run in steps.

Each step is one resumption. Between steps the span is not open: other code that runs meanwhile in
the same thread or task is not inside it.
"""

from __future__ import annotations

import sys
import types
from math import nan

from . import _span
from ._span import LONGEST, MAX_BUFFERED, Span, _current, is_collecting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
    from typing import Any, TypeVar

    from ._base import TracerBase
    from ._bindings import SpanBinding

    TakeResult = Callable[["SteppedSpan", object], None]
    Outer = TypeVar("Outer", bound=Any)


class SteppedSpan(Span):
    """A span that runs in steps: of a generator or a coroutine, from its first step to its last."""

    __slots__ = ("_busy", "_ended", "_inner", "_resumed", "_upstream")

    def __init__(
        self, binding: SpanBinding, tracer: TracerBase, props: dict[str, object] | None = None
    ) -> None:
        super().__init__(binding, tracer, props)
        self._busy: float | None = None
        self._inner: Span | None = None
        self._upstream: Span | None = None

    def resume(self) -> None:
        """Start a step; the first one starts the span."""
        try:
            if self._busy is None:
                self.__enter__()
                self._upstream = self._outer
                self._token = None  # each step sets and restores the current span
                if self._binding.edges is not None and _current.get() is not self:
                    self._outer = self  # not the current span in this step, as below
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
        """End the span, with the exception that ended its last step, if any."""
        upstream, self._upstream = self._upstream, None
        self._inner = None
        try:
            duration = float(self._ended - self._began)
        except Exception:  # noqa: BLE001 -- the clock was replaced; already swallowed in suspend()
            duration = nan
        durations = self._binding.stepped_durations
        is_plain = error is None and self._details is None
        if durations is None or not is_plain or not 0 <= duration <= LONGEST:
            self._end(duration, error, upstream, self._busy)
            return
        durations.append(duration)
        if upstream is not None or len(durations) > MAX_BUFFERED:
            self._fold_and_count_edge(upstream)

    def _step_out(self) -> None:
        try:
            if self._binding.edges is not None:
                if self._outer is not self:
                    # An inner span that is still open continues in the next step.
                    self._inner = _current.get()
                    _current.set(self._outer)
                self._outer = None
        except Exception as error:  # noqa: BLE001 -- the interpreter shuts down
            self._swallow(error, self)


def generator(
    inner: Generator[Any, Any, Any], span: SteppedSpan, take_result: TakeResult
) -> Generator[Any, Any, Any]:
    """Return a generator that runs another one inside a span, from its first step to its end."""
    try:
        return _named_like(inner, _steps(inner, span, take_result))
    except TypeError:  # the interpreter shuts down, and has cleared these globals
        return inner


def coroutine(
    inner: Awaitable[Any], span: SteppedSpan, take_result: TakeResult
) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that runs another one inside a span, from its first step to its end.

    `inner` may be any awaitable: a function may be marked as a coroutine function.
    """
    try:
        started: Any = inner if hasattr(inner, "send") else _awaiting(inner)
        return _named_like(started, _run_coroutine(_Closed(started), span, take_result))
    except TypeError:  # as above
        return inner  # type: ignore[return-value]  # a coroutine function returned it


def async_generator(
    inner: AsyncGenerator[Any, Any],
    span: SteppedSpan,
    _: TakeResult,  # it has no result
) -> AsyncGenerator[Any, Any]:
    """Return an asynchronous generator that runs another one inside a span, as `generator` does."""
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
    """Closes a coroutine with its wrapper: if neither was started, only the wrapper may warn."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


async def _awaiting(awaitable: Awaitable[Any]) -> object:
    return await awaitable


async def _run_coroutine(inner: _Closed, span: SteppedSpan, take_result: TakeResult) -> object:
    return await _awaited(inner.coroutine, span, take_result)


async def _run_async_generator(
    inner: AsyncGenerator[Any, Any], span: SteppedSpan
) -> AsyncGenerator[Any, Any]:
    next_step = [_first_step_without_hooks(inner)]
    while True:
        try:
            yielded = await _awaited(next_step.pop().__await__(), span)
        except StopAsyncIteration:
            span.end()
            return
        except BaseException as error:
            span.end(error)
            raise
        try:
            next_step.append(inner.asend((yield yielded)))
        except BaseException as error:  # noqa: BLE001 -- passed on to the inner generator
            next_step.append(inner.athrow(error))


def _first_step_without_hooks(inner: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Return the first step of a generator, which the event loop does not register.

    An event loop that shuts down closes all generators it has registered, at the same time, and the
    garbage collector finalizes those of a cycle in any order. Only the wrapper may close this one.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, lambda _: None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _steps(
    inner: Any, span: SteppedSpan, take_result: TakeResult | None = None
) -> Generator[Any, Any, Any]:
    """Delegate to `inner` like `yield from`, with the span open during each step.

    With `take_result` the last step ends the span, after the result is taken.
    """
    step: Callable[[Any], Any] = inner.send
    # Values and exceptions are kept in a list, not in a local variable: an exception refers to this
    # frame, so a reference back would form a cycle.
    sent: list[Any] = [None]
    while True:
        span.resume()
        try:
            yielded = step(sent.pop())
        except StopIteration as stop:
            span.suspend()
            if take_result is not None:
                take_result(span, stop.value)
                span.end()
            return stop.value
        except BaseException as error:
            span.suspend()
            if take_result is not None:
                span.end(error)
            raise
        span.suspend()
        try:
            sent.append((yield yielded))
            step = inner.send
        except BaseException as error:
            if getattr(inner, "cr_frame", inner) is None:  # the garbage collector closed it first
                if take_result is not None:
                    span.end(error)
                raise
            sent.append(error)
            # The garbage collector closes a coroutine in a cycle before its wrapper.
            is_ended = getattr(inner, "cr_frame", inner) is None
            step = _raise if is_ended else inner.throw


def _raise(error: BaseException) -> None:
    raise error


_awaited = types.coroutine(_steps)
