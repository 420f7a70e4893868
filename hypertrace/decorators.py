"""Decorator `@traced`: a span for each call of a function, or of the methods of a class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import copy, deepcopy
from fnmatch import fnmatchcase
from functools import cached_property, wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import wrapt

from . import _dispatch, _stepping
from ._calls import TracedCalls
from ._endings import ErrorRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import SupportsIndex

    from ._endings import Expected
    from ._paths import PropSource

_T = TypeVar("_T")
_Options = Mapping[str, Any]

_TRACED = "_hypertrace_traced"
_REBUILT = (staticmethod, classmethod, property, cached_property)


@overload
def traced(
    id: str | None = None,
    /,
    *,
    props: Mapping[str, Any] | None = None,
    prop_from: Mapping[str, PropSource] | None = None,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = ("_*",),
) -> Callable[[_T], _T]: ...


@overload
def traced(target: _T, /) -> _T: ...


def traced(  # noqa: PLR0913 -- a setting each
    target: Any = None,
    /,
    *,
    props: Mapping[str, Any] | None = None,
    prop_from: Mapping[str, PropSource] | None = None,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = ("_*",),
) -> Any:
    """Make each call of a function a span: `@traced`, `@traced("id")` or `@traced(props=...)`.

    For functions, methods, static and class methods, properties, coroutines, generators,
    asynchronous generators, other callables, and classes: each of a class's own methods that is
    included and not excluded. A class is changed in place; everything else keeps its signature,
    name, docstring, kind and pickling. A function that is already traced is not changed.

    A call of a method is traced with the tracer that the object holds as `tracer` or `_tracer`, if
    it is enabled, or else for the object's class. A call of a function is traced for its module.
    The trace function is looked up at each call, so setting or clearing it takes effect at once.

    A generator or coroutine is timed from its first resumption to the end of its last; the `busy`
    of its event is the time in which it was running.

    Args:
        target: the object to trace, if there are no other arguments; otherwise the id of the spans.
        props: names and values that each span starts with.
        prop_from: names of props, and for each the path of its value in a call: `args.NAME` for an
            argument, `result` for the result, with attributes as needed:
            `{"peer": "args.peer.host", "status": "result.status"}`. Missing values are left out.
            Or a function of a `TracedCall`: `{"host": lambda call: call.args["request"].url.host}`.
            What it traces is dropped; if it raises, that is swallowed, and the prop is left out.
        expected: exceptions that are no errors: `expected=(KeyError,)`. They pass all the same.
        error_if: is called with the result, and returns whether it is an error. It and `ok_if` are
            guarded as functions of `prop_from` are.
        ok_if: is called with an exception that is not expected, and returns whether it is no error.
        include: for a class: shell-style patterns of the methods to trace.
        exclude: for a class: shell-style patterns of the methods not to trace.

    Raises:
        TypeError: `target` cannot be traced; `expected` has what is no class of exceptions,
            `error_if` or `ok_if` cannot be called, or there is no result for `error_if`, as of an
            asynchronous generator.
        ValueError: `prop_from` names no parameter, or a class has no method to trace.
    """
    rules = ErrorRules(expected, error_if, ok_if)
    options = {"props": props, "prop_from": prop_from, "rules": rules}
    include, exclude = _patterns(include), _patterns(exclude)
    if target is None or isinstance(target, str):
        return lambda it: _traced(it, {"id": target, **options}, include, exclude)
    return _traced(target, {"id": None, **options}, include, exclude)


def traced_callable(function: Any, options: _Options, *, static: bool = False) -> Any:
    """Return a traced wrapper of one function, descriptor or other callable.

    Args:
        function: the object to trace.
        options: `id`, `props` and `prop_from`, as in `traced`, and `rules` of what is an error.
        static: whether it is a static method, whose first argument is no `self`.

    Raises:
        TypeError: it cannot be called, or there is no result for `error_if`.
        ValueError: as in `traced`.
    """
    if isinstance(function, _REBUILT):
        return _rebuilt(function, options)
    if not callable(function):
        raise TypeError(f"cannot trace {function!r}: it is not callable")
    if _is_traced(function):
        return function
    calls = TracedCalls(function, options, static=static)
    for is_kind, run in _RUN_IN_STEPS.items():
        if is_kind(function) or is_kind(type(function).__call__):
            if options["rules"].needs_result and is_kind is inspect.isasyncgenfunction:
                raise TypeError(
                    f"error_if: {function!r} is an asynchronous generator, which has no result"
                )
            return _Proxy(function, _stepped(calls, run))
    if type(function) is FunctionType:
        return _closure(function, calls)
    return _Proxy(function, _plain(calls))


def _traced(
    target: Any, options: _Options, include: tuple[str, ...], exclude: tuple[str, ...]
) -> Any:
    if not isinstance(target, type):
        return traced_callable(target, options)
    names = [n for n, value in vars(target).items() if is_traceable(value)]
    chosen = [n for n in names if _matches(n, include) and not _matches(n, exclude)]
    if not chosen:
        raise ValueError(
            f"{target.__qualname__} has no method to trace with include={include!r} and "
            f"exclude={exclude!r}; it has: {', '.join(names) or 'none'}"
        )
    replaced = {name: traced_callable(vars(target)[name], options) for name in chosen}
    for name, value in replaced.items():
        setattr(target, name, value)
    return target


def is_traceable(value: object) -> bool:
    """Whether an attribute of a class is a function, or a descriptor that wraps functions."""
    return isinstance(value, (FunctionType, *_REBUILT))


def _is_traced(function: object) -> bool:
    # The attribute is the function's id, since other decorators copy attributes to their wrappers.
    return type(function) is _Proxy or getattr(function, _TRACED, None) == id(function)


def _patterns(given: Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _rebuilt(descriptor: Any, options: _Options) -> Any:
    if isinstance(descriptor, staticmethod | classmethod):
        static = isinstance(descriptor, staticmethod)
        return type(descriptor)(traced_callable(descriptor.__func__, options, static=static))
    if isinstance(descriptor, cached_property):
        # A copy keeps the name that the original got when its class was made.
        rebuilt = copy(descriptor)
        rebuilt.func = traced_callable(descriptor.func, options)
        return rebuilt
    accessors = (descriptor.fget, descriptor.fset, descriptor.fdel)
    traced_ones = [f and traced_callable(f, options) for f in accessors]
    return type(descriptor)(*traced_ones, descriptor.__doc__)


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
