"""Closures and proxies that replace a callable, and open a span for each of its calls."""

from __future__ import annotations

import inspect
from copy import copy, deepcopy
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any

import wrapt

from . import _dispatch, _stepping
from ._calls import TracedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import SupportsIndex

_TRACED = "_hypertrace_traced"


def replacement(function: Any, options: Mapping[str, Any], *, static: bool) -> Any:
    """Return a traced wrapper of a callable; the callable itself if it is one already.

    Args:
        function: the callable.
        options: `id`, `props` and `prop_from`, as in `traced`, and `rules` of what is an error.
        static: whether it is a static method, whose first argument is no `self`.

    Raises:
        ValueError: as in `traced`.
    """
    if is_traced(function):
        return function
    calls = TracedCalls(function, options, static=static)
    for is_kind, run in _RUN_IN_STEPS.items():
        if is_kind(function) or is_kind(type(function).__call__):
            return _Proxy(function, _stepped(calls, run))
    if type(function) is FunctionType:
        return _closure(function, calls)
    return _Proxy(function, _plain(calls))


def is_traced(function: object) -> bool:
    """Return whether a callable is a traced wrapper."""
    # The attribute is the function's id, since other decorators copy attributes to their wrappers.
    return type(function) is _Proxy or getattr(function, _TRACED, None) == id(function)


def _closure(function: Callable[..., Any], calls: TracedCalls) -> Callable[..., Any]:
    """Return a wrapper that is a plain function, at a third of the cost of a proxy."""
    dispatch = _dispatch  # an interpreter that shuts down clears the globals first

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if dispatch.target is None:
            return function(*args, **kwargs)
        with calls.span(args, kwargs):
            return function(*args, **kwargs)

    @wraps(function)
    def with_result(*args: Any, **kwargs: Any) -> Any:
        with calls.span(args, kwargs) as span:
            result = function(*args, **kwargs)
            calls.take_result(span, result, args, kwargs)
            return result

    chosen = with_result if calls.needs_result else wrapper
    setattr(chosen, _TRACED, id(chosen))
    return chosen


class _BoundProxy(wrapt.BoundFunctionWrapper[..., Any]):
    """Proxy of a bound method; copied and pickled as one."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return getattr(deepcopy(self._holder, memo), self.__name__)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return getattr, (self._holder, self.__name__)

    @property
    def _holder(self) -> Any:
        return self._self_owner if self._self_instance is None else self._self_instance


class _Proxy(wrapt.FunctionWrapper[..., Any]):
    """Proxy of a callable whose kind a plain function would not preserve.

    It is copied and pickled as the wrapped object: functions by their names, others without spans.
    """

    __bound_function_wrapper__ = _BoundProxy

    def __copy__(self) -> Any:
        return self._around(copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._around(deepcopy(self.__wrapped__, memo))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        name = getattr(self.__wrapped__, "__qualname__", None)
        return name or self.__wrapped__.__reduce_ex__(protocol)

    def _around(self, copied: Any) -> Any:
        return self if copied is self.__wrapped__ else _Proxy(copied, self._self_wrapper)


def _plain(calls: TracedCalls) -> Any:
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        given = args if instance is None else (instance, *args)
        with calls.span(given, kwargs) as span:
            result = wrapped(*args, **kwargs)
            if calls.needs_result:
                calls.take_result(span, result, given, kwargs)
            return result

    return wrapper


def _stepped(calls: TracedCalls, run: Callable[..., Any]) -> Any:
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        inner = wrapped(*args, **kwargs)
        given = args if instance is None else (instance, *args)
        span = calls.stepped_span(given, kwargs)
        return inner if span is None else run(inner, span, calls.taker(given, kwargs))

    return wrapper


_RUN_IN_STEPS: dict[Callable[[object], bool], Callable[..., Any]] = {
    inspect.isgeneratorfunction: _stepping.generator,
    inspect.iscoroutinefunction: _stepping.coroutine,
    inspect.isasyncgenfunction: _stepping.async_generator,
}
"""Functions that run the result of a call inside its span, by the kind of the called function."""
