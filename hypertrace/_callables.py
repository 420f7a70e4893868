"""Callables that are traced: functions, what descriptors wrap, and other callables."""

from __future__ import annotations

import inspect
from copy import copy
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _closures, _engines
from ._calls import TracedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    _Options = Mapping[str, Any]

_DESCRIPTORS = (staticmethod, classmethod, property, cached_property)


class Traced(NamedTuple):
    """A callable or descriptor that is traced.

    Attributes:
        value: what to put in its place; the same object if it is traced where it is.
        undo: ends the tracing; what was put in its place is for the caller to restore.
    """

    value: Any
    undo: Callable[[], None]


def trace_callable(
    value: Any, options: _Options, *, static: bool = False, within: type | None = None
) -> Traced:
    """Trace the calls of one function, descriptor or other callable.

    One that is traced already stays traced as it is. With the compiled core the functions stay in
    their places, and the descriptors that wrap them.

    Args:
        value: the object to trace.
        options: `id`, `props` and `prop_from`, as in `traced`, and `rules` of what is an error.
        static: whether it is a static method, whose first argument is no `self`.
        within: only calls for objects of this class are traced, as of a method that it inherits;
            None for all. Closures trace all.

    Raises:
        TypeError: it cannot be called, or there is no result for `error_if`.
        ValueError: as in `traced`.
    """
    if isinstance(value, _DESCRIPTORS):
        return _traced_descriptor(value, options, within)
    if not callable(value):
        raise TypeError(f"cannot trace {value!r}: it is not callable")
    return _traced_callable(value, options, static, within)


def is_traceable(value: object) -> bool:
    """Whether an attribute of a class is a function, or a descriptor that wraps functions."""
    return isinstance(value, (FunctionType, *_DESCRIPTORS))


def _traced_callable(value: Any, options: _Options, static: bool, within: type | None) -> Traced:
    if _closures.is_traced(value):
        return Traced(value, _nothing)
    _check_result(value, options)
    if _engines.is_possible(value):
        calls = TracedCalls(value, options, static=static, in_place=True)
        undo = _engines.trace_in_place(value, calls, within)
        if undo is not None:
            return Traced(value, undo)
    return Traced(_closures.replacement(value, options, static=static), _nothing)


def _check_result(value: Any, options: _Options) -> None:
    """Raise TypeError if `error_if` is to look at a result that there is not."""
    if options["rules"].needs_result and any(
        map(inspect.isasyncgenfunction, (value, type(value).__call__))
    ):
        raise TypeError(f"error_if: {value!r} is an asynchronous generator, which has no result")


def _nothing() -> None:
    pass


def _traced_descriptor(descriptor: Any, options: _Options, within: type | None) -> Traced:
    static = isinstance(descriptor, staticmethod)
    before = _functions_of(descriptor)
    traced: list[Traced] = []
    try:
        for function in before:
            traced.append(_traced_callable(function, options, static, within))
    except BaseException:
        undo_all(traced)
        raise
    after = [one.value for one in traced]
    is_same = all(one is other for one, other in zip(before, after, strict=True))
    value = descriptor if is_same else _rebuilt(descriptor, iter(after))
    return Traced(value, lambda: undo_all(traced))


def undo_all(traced: Iterable[Traced]) -> None:
    """End the tracing of several callables."""
    for one in traced:
        one.undo()


def _functions_of(descriptor: Any) -> list[Any]:
    if isinstance(descriptor, staticmethod | classmethod):
        return [descriptor.__func__]
    if isinstance(descriptor, cached_property):
        return [descriptor.func]
    return [f for f in (descriptor.fget, descriptor.fset, descriptor.fdel) if f]


def _rebuilt(descriptor: Any, functions: Any) -> Any:
    if isinstance(descriptor, staticmethod | classmethod):
        return type(descriptor)(next(functions))
    if isinstance(descriptor, cached_property):
        # A copy keeps the name that the original got when its class was made.
        rebuilt = copy(descriptor)
        rebuilt.func = next(functions)
        return rebuilt
    accessors = (descriptor.fget, descriptor.fset, descriptor.fdel)
    return type(descriptor)(*[f and next(functions) for f in accessors], descriptor.__doc__)
