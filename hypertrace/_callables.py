"""Callables that are traced: functions, what descriptors wrap, and other callables."""

from __future__ import annotations

import inspect
from copy import copy
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _closures, _engines
from ._calls import TracedCalls
from ._closures import UntraceableError
from ._static import attribute_of, is_callable
from .inspection import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    _Options = Mapping[str, Any]

_FUNCTIONS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
}
"""Attributes of descriptors that refer to the functions that they call."""


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
        options: as of `TracedCalls`.
        static: whether it is a static method, whose first argument is no `self`.
        within: a class that inherits the method: only calls whose first argument is an object of
            this class, or the class or one derived from it, are traced. None for all. Closures
            trace all: they are to be put into that class.

    Raises:
        UntraceableError: it cannot be called, is a descriptor of another type that would have to be
            made again, or there is no result for `error_if`.
        TypeError: a source of `prop_from` is of the wrong type.
        ValueError: as in `traced`.
    """
    if is_descriptor(value):
        return _traced_descriptor(value, options, within)
    if not is_callable(value):
        raise UntraceableError(f"cannot trace {value!r}: it is not callable")
    return _traced_callable(value, options, static=static, within=within)


def is_descriptor(value: object) -> bool:
    """Whether a value is a static or class method or a property, also one of a subclass."""
    return issubclass(type(value), tuple(_FUNCTIONS))


def is_traceable(value: object) -> bool:
    """Whether an attribute of a class is a function, or a descriptor that wraps functions."""
    return issubclass(type(value), FunctionType) or is_descriptor(value)


def functions_of(descriptor: Any) -> dict[str, Any]:
    """Return the functions that a descriptor calls, by the attributes that refer to them."""
    kind = next(kind for kind in _FUNCTIONS if issubclass(type(descriptor), kind))
    if kind is cached_property:
        found = {"func": attribute_of(descriptor, "func")}
    else:
        found = {name: vars(kind)[name].__get__(descriptor) for name in _FUNCTIONS[kind]}
    return {name: function for name, function in found.items() if function is not None}


def _traced_callable(value: Any, options: _Options, *, static: bool, within: type | None) -> Traced:
    if _closures.is_traced(value):
        return Traced(value, _nothing)
    _check_result(value, options)
    has_no_self = static and within is not None  # an engine could not know the class
    if _engines.is_possible(value) and not has_no_self:
        calls = TracedCalls(value, options, static=static, in_place=True)
        undo = _engines.trace_in_place(value, calls, within)
        if undo is not None:
            return Traced(value, undo)
    return Traced(*_closures.replacement(value, options, static=static))


def _check_result(value: Any, options: _Options) -> None:
    """Raise an error if `error_if` is to look at a result that there is not."""
    if options["rules"].needs_result and any(
        map(inspect.isasyncgenfunction, (value, type(value).__call__))
    ):
        raise UntraceableError(
            f"error_if: {value!r} is an asynchronous generator, which has no result"
        )


def _nothing() -> None:
    pass


def undo_all(traced: Iterable[Traced]) -> None:
    """End the tracing of several callables."""
    for one in traced:
        one.undo()


def _traced_descriptor(descriptor: Any, options: _Options, within: type | None) -> Traced:
    static = issubclass(type(descriptor), staticmethod)
    functions = functions_of(descriptor)
    traced: dict[str, Traced] = {}
    try:
        for name, function in functions.items():
            traced[name] = _traced_callable(function, options, static=static, within=within)
        after = {name: one.value for name, one in traced.items()}
        is_same = all(after[name] is functions[name] for name in functions)
        value = descriptor if is_same else _rebuilt(descriptor, after)
    except BaseException:
        undo_all(traced.values())
        raise
    return Traced(value, lambda: undo_all(traced.values()))


def _rebuilt(descriptor: Any, functions: Mapping[str, Any]) -> Any:
    """Make a descriptor with other functions, of one of the types whose making is known."""
    if type(descriptor) not in _FUNCTIONS:
        raise UntraceableError(_not_rebuilt(descriptor))
    if type(descriptor) is property:
        get, put, delete = map(functions.get, _FUNCTIONS[property])
        return property(get, put, delete, descriptor.__doc__)
    if type(descriptor) is cached_property:
        # A copy keeps the name that the original got when its class was made.
        rebuilt = copy(descriptor)
        rebuilt.func = functions["func"]
        return rebuilt
    rebuilt = type(descriptor)(functions["__func__"])
    vars(rebuilt).update({**vars(descriptor), **vars(rebuilt)})
    return rebuilt


def _not_rebuilt(descriptor: object) -> str:
    base = next(kind for kind in _FUNCTIONS if issubclass(type(descriptor), kind))
    return (
        f"cannot trace {type_name(type(descriptor))!r}, a subclass of {base.__name__}: its "
        "function can be traced where it is with the compiled core alone, and another object in "
        "its place could lose what the class adds"
    )
