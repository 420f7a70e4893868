"""What traced objects and functions are called in events."""

from __future__ import annotations

from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__
_qualname_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_module_of: Callable[[type], object] = type.__dict__["__module__"].__get__
_mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


def class_name_of(ctx: Any) -> str:
    """Return what an object is counted under: a class by itself, a string by its value.

    Never raises, whatever the object pretends to be: a proxy may have nothing behind it yet.
    """
    cls = type(ctx)
    if issubclass(cls, type):
        return type_name(ctx)
    if issubclass(cls, str):
        return str.__str__(ctx)
    if issubclass(cls, ModuleType):
        name = ModuleType.__getattribute__(ctx, "__dict__").get("__name__")
        return name if type(name) is str else type_name(cls)
    return type_name(cls)


def type_name(cls: type) -> str:
    """Return the name of a class, whatever its metaclass says."""
    return str.__str__(_name_of(cls))


def class_names(cls: type | None) -> tuple[str, ...]:
    """Return the qualified names of a class and its bases, in the order of method resolution."""
    return () if cls is None else tuple([str.__str__(_qualname_of(c)) for c in _mro_of(cls)])


def module_of(cls: type) -> str | None:
    """Return the module that a class says it is defined in; None if it does not say."""
    try:
        module = _module_of(cls)
    except AttributeError:  # it was made where no module has a name
        return None
    return module if type(module) is str else None


def without_class(qualname: str, names: Iterable[str]) -> str:
    """Return a qualified name without the first of the class names that it begins with."""
    for name in names:
        if qualname.startswith(f"{name}."):
            return qualname[len(name) + 1 :]
    return qualname
