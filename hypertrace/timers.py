"""Timers: what measures a block, or each call of a function, in seconds."""

from __future__ import annotations

from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _span, _stepping

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_F = TypeVar("_F", bound="Callable[..., Any]")


class Timer:
    """Measures a block as a context manager, or each call of a function as a decorator.

    A decorated function keeps its kind. A coroutine, a generator and an asynchronous generator are
    measured from their first resumption to the end of their last one, waiting included. Any number
    of threads may call the function. A block is measured by one timer at a time.
    """

    def __init__(self, observe: Callable[[float], object]) -> None:
        """Measure nothing yet.

        Args:
            observe: is called with the seconds that each block and each call took; it must raise
                nothing.
        """
        self._observe = observe
        self._began: float | None = None

    def __call__(self, function: _F) -> _F:
        """Return the function, with each call measured.

        Args:
            function: to call; anything that can be called.

        Raises:
            TypeError: it cannot be called.
        """
        return timed(function, self._observe)

    def __enter__(self) -> Self:
        self._began = _span.clock()
        return self

    def __exit__(self, *_: object) -> None:
        if self._began is not None:
            self._observe(_span.clock() - self._began)


def timed(function: _F, observe: Callable[[float], object]) -> _F:
    """Return a function that reports how long each call took, also one that raised.

    Args:
        function: to call; anything that can be called.
        observe: is called with the seconds; it must raise nothing.

    Raises:
        TypeError: the function cannot be called.
    """
    if not callable(function):
        raise TypeError(f"cannot time {function!r}: it is not callable")
    # Here, because they take longer to load than the rest.
    import inspect

    import wrapt

    for is_kind, run in (
        (inspect.isgeneratorfunction, _stepping.generator),
        (inspect.iscoroutinefunction, _stepping.coroutine),
        (inspect.isasyncgenfunction, _stepping.async_generator),
    ):
        if is_kind(function) or is_kind(type(function).__call__):
            return wrapt.FunctionWrapper(function, _in_steps(run, observe))  # type: ignore[return-value]
    if type(function) is not FunctionType:
        return wrapt.FunctionWrapper(function, _at_once(observe))  # type: ignore[return-value]

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = _span.clock()
        try:
            return function(*args, **kwargs)
        finally:
            observe(_span.clock() - began)

    return wrapper  # type: ignore[return-value]


class _Stopwatch:
    """Runs from the first step to the end of the last one."""

    __slots__ = ("_began", "_observe")

    def __init__(self, observe: Callable[[float], object]) -> None:
        self._observe = observe
        self._began: float | None = None

    def resume(self) -> None:
        if self._began is None:
            self._began = _span.clock()

    def suspend(self) -> None:
        """Go on: what waits is measured, too."""

    def end(self, error: BaseException | None = None) -> None:  # noqa: ARG002 -- as of a span
        if self._began is not None:
            self._observe(_span.clock() - self._began)


def _in_steps(run: Callable[..., Any], observe: Callable[[float], object]) -> Any:
    def wrapper(wrapped: Any, _: object, args: Any, kwargs: Any) -> Any:
        return run(wrapped(*args, **kwargs), _Stopwatch(observe), _no_result_props)

    return wrapper


def _at_once(observe: Callable[[float], object]) -> Any:
    def wrapper(wrapped: Any, _: object, args: Any, kwargs: Any) -> Any:
        began = _span.clock()
        try:
            return wrapped(*args, **kwargs)
        finally:
            observe(_span.clock() - began)

    return wrapper


def _no_result_props(*_: object) -> None:
    """Look at no result."""
