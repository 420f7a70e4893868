"""Names of traced objects, classes and functions in events."""

from __future__ import annotations

from types import ModuleType

from .inspection import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__
_qualname_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_module_of: Callable[[type], object] = type.__dict__["__module__"].__get__
_mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


def class_name_of(ctx: Any) -> str:
    """Return the class name that an object is counted under.

    A class is counted under its own name, a string under its value, a module under its name. Never
    raises and runs no code of the object: a proxy may have no object behind it yet.
    """
    cls = type(ctx)
    if issubclass(cls, type):
        return type_name(ctx)
    if issubclass(cls, str):
        return str.__str__(ctx)
    if issubclass(cls, ModuleType):
        name = ModuleType.__getattribute__(ctx, "__dict__").get("__name__")
        return name if type(name) is str else type_name(cls)
    return str.__str__(_name_of(cls))  # type_name(cls), inline: each new tracer gets here


def class_names(cls: type | None) -> tuple[str, ...]:
    """Return the qualified names of a class and its bases, in the order of method resolution."""
    return () if cls is None else tuple([str.__str__(_qualname_of(c)) for c in _mro_of(cls)])


def module_of(cls: type) -> str | None:
    """Return the name of the module that defines a class; None if the class does not have it."""
    try:
        module = _module_of(cls)
    except AttributeError:  # made where `__name__` is not defined
        return None
    return module if type(module) is str else None


def without_class(qualname: str, names: Iterable[str]) -> str:
    """Return a qualified name without the first of the class names that it begins with."""
    for name in names:
        if qualname.startswith(f"{name}."):
            return qualname[len(name) + 1 :]
    return qualname
