"""Callables that are traced: functions, what descriptors wrap, and other callables."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _closures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def trace_callable(value: Any, options: _Options, *, static: bool = False) -> Traced:
    """Trace the calls of one function, descriptor or other callable.

    Args:
        value: the object to trace.
        options: `id`, `props` and `prop_from`, as in `traced`, and `rules` of what is an error.
        static: whether it is a static method, whose first argument is no `self`.

    Raises:
        TypeError: it cannot be called, or there is no result for `error_if`.
        ValueError: as in `traced`.
    """
    if isinstance(value, _DESCRIPTORS):
        return Traced(_rebuilt(value, options), _nothing)
    if not callable(value):
        raise TypeError(f"cannot trace {value!r}: it is not callable")
    return Traced(_closures.replacement(value, options, static=static), _nothing)


def is_traceable(value: object) -> bool:
    """Whether an attribute of a class is a function, or a descriptor that wraps functions."""
    return isinstance(value, (FunctionType, *_DESCRIPTORS))


def _nothing() -> None:
    pass


def _rebuilt(descriptor: Any, options: _Options) -> Any:
    if isinstance(descriptor, staticmethod | classmethod):
        static = isinstance(descriptor, staticmethod)
        return type(descriptor)(_closures.replacement(descriptor.__func__, options, static=static))
    if isinstance(descriptor, cached_property):
        # A copy keeps the name that the original got when its class was made.
        rebuilt = copy(descriptor)
        rebuilt.func = _closures.replacement(descriptor.func, options, static=False)
        return rebuilt
    accessors = (descriptor.fget, descriptor.fset, descriptor.fdel)
    traced_ones = [f and _closures.replacement(f, options, static=False) for f in accessors]
    return type(descriptor)(*traced_ones, descriptor.__doc__)
