"""Weak methods: bound methods that do not keep the object that they are of."""

from __future__ import annotations

from types import BuiltinMethodType, MethodType, MethodWrapperType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")

_METHODS = (MethodType, BuiltinMethodType, MethodWrapperType)


def weakly(function: _F, gone: Callable[[object], object]) -> Callable[[], _F | None]:
    """Return what returns a function, or None once the object is gone that it is a method of.

    A function that is no method is kept, and so is the object of one that cannot be referred to
    weakly, such as a list.

    Args:
        function: anything that can be called.
        gone: is called when the object is gone, maybe in a finalizer.
    """
    if not isinstance(function, _METHODS):
        return lambda: function
    owner: Any = function.__self__
    if owner is None or isinstance(owner, ModuleType):  # a function in C
        return lambda: function
    try:
        reference = ref(owner, gone)
    except TypeError:  # a list, or an object with `__slots__`
        return lambda: function
    code, name = getattr(function, "__func__", None), function.__name__

    def again() -> Any:
        held = reference()
        if held is None:
            return None
        return getattr(held, name) if code is None else MethodType(code, held)

    return again
