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
from ._static import attribute_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import SupportsIndex

_TRACED = "_hypertrace_traced"


class UntraceableError(TypeError):
    """A callable or descriptor that cannot be traced; the message says why."""


def replacement(
    function: Any, options: Mapping[str, Any], *, static: bool
) -> tuple[Any, Callable[[], None]]:
    """Return a traced wrapper of a callable, and a function that ends its tracing.

    If the callable is a traced wrapper already, it is returned itself, and stays traced.

    Args:
        function: the callable.
        options: as of `TracedCalls`.
        static: whether it is a static method, whose first argument is no `self`.

    Raises:
        TypeError: a source of `prop_from` is of the wrong type.
        ValueError: as in `traced`.
    """
    if is_traced(function):
        return function, _nothing
    calls = TracedCalls(function, options, static=static)
    run = _runner_in_steps(function)
    if run is not None:
        return _proxy(function, _stepped(calls, run), calls)
    if type(function) is FunctionType:
        return _closure(function, calls)
    return _proxy(function, _plain(calls), calls)


def is_traced(function: object) -> bool:
    """Whether a callable is a traced wrapper, whose tracing has not ended."""
    if type(function) is _Proxy:
        calls: TracedCalls = vars(function._self_wrapper)["calls"]
        return not calls.is_ended
    # The attribute is the function's id, since other decorators copy attributes to their wrappers.
    return bool(attribute_of(function, _TRACED) == id(function))


def without_proxy(function: Any) -> Any:
    """Return the callable that a traced proxy wraps; any other callable itself."""
    return function.__wrapped__ if type(function) is _Proxy else function


def _nothing() -> None:
    pass


def _closure(
    function: Callable[..., Any], calls: TracedCalls
) -> tuple[Callable[..., Any], Callable[[], None]]:
    """Make a wrapper that is a plain function, at a third of the cost of a proxy."""
    dispatch = _dispatch  # an interpreter that shuts down clears the globals first
    chosen: Callable[..., Any]
    if calls.needs_result:

        @wraps(function)
        def with_result(*args: Any, **kwargs: Any) -> Any:
            with calls.span(args, kwargs) as span:
                result = function(*args, **kwargs)
                calls.take_result(span, result, args, kwargs)
                return result

        chosen = with_result
    else:

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if dispatch.target is None:
                return function(*args, **kwargs)
            with calls.span(args, kwargs):
                return function(*args, **kwargs)

        chosen = wrapper
    setattr(chosen, _TRACED, id(chosen))

    def undo() -> None:
        calls.end()
        vars(chosen).pop(_TRACED, None)

    return chosen, undo


def _proxy(
    function: Callable[..., Any], wrapper: Any, calls: TracedCalls
) -> tuple[Any, Callable[[], None]]:
    wrapper.calls = calls
    return _Proxy(function, wrapper), calls.end


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


_IN_STEPS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_RUN_IN_STEPS: dict[Callable[[object], bool], Callable[..., Any]] = {
    inspect.isgeneratorfunction: _stepping.generator,
    inspect.iscoroutinefunction: _stepping.coroutine,
    inspect.isasyncgenfunction: _stepping.async_generator,
}
"""Functions that run the result of a call inside its span, by the kind of the called function."""


def _runner_in_steps(function: Any) -> Callable[..., Any] | None:
    """Return what runs the result of a call inside its span; None if the call does all."""
    if type(function) is FunctionType and not (
        function.__code__.co_flags & _IN_STEPS or function.__dict__
    ):
        return None  # and not marked as another kind: decided in a tenth of the time
    for is_kind, run in _RUN_IN_STEPS.items():
        if is_kind(function) or is_kind(type(function).__call__):
            return run
    return None
