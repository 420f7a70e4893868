"""Static reads of classes, modules and other objects: they run no code of what they read.

A metaclass may define `__getattribute__`, a lazy object may connect to a database when it is asked
for its class, a module may compute its attributes.
"""

from __future__ import annotations

from functools import _lru_cache_wrapper, partial
from types import FunctionType, GetSetDescriptorType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

_IMMUTABLE_TYPE = 1 << 8
"""Py_TPFLAGS_IMMUTABLETYPE: set on types whose attributes cannot be replaced."""


class _Written:
    """Class that is written in Python."""


_OF_PYTHON: str | None = vars(_Written)["__dict__"].__doc__
"""How Python describes the attributes of objects of classes written in Python."""

_WITH_ATTRIBUTES = (FunctionType, partial, _lru_cache_wrapper, staticmethod, classmethod)
"""Classes written in C whose objects have plain attributes; a proxy has those of another object."""

_class_attributes: Callable[[Any], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_module_attributes: Callable[[Any], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__
_flags_of: Callable[[Any], int] = type.__dict__["__flags__"].__get__
_mro_of: Callable[[Any], tuple[type, ...]] = type.__dict__["__mro__"].__get__


def is_class(value: object) -> bool:
    """Whether a value is a class."""
    return issubclass(type(value), type)


def is_module(value: object) -> bool:
    """Whether a value is a module."""
    return issubclass(type(value), ModuleType)


def is_immutable(owner: object) -> bool:
    """Whether a value is a class whose attributes cannot be replaced, as most written in C."""
    return is_class(owner) and bool(_flags_of(owner) & _IMMUTABLE_TYPE)


def is_callable(value: object) -> bool:
    """Whether objects of the class of a value can be called."""
    return any("__call__" in _class_attributes(cls) for cls in _mro_of(type(value)))


def attributes(owner: Any) -> Mapping[str, Any]:
    """Return the attributes that a class or a module has itself."""
    return _class_attributes(owner) if is_class(owner) else _module_attributes(owner)


def set_attribute(owner: Any, name: str, value: object) -> None:
    """Set an attribute of a class, which its metaclass may refuse, or of a module."""
    if is_class(owner):
        setattr(owner, name, value)
    else:
        _module_attributes(owner)[name] = value


def find(owner: Any, name: str, default: object = None) -> Any:
    """Return an attribute that a class has or inherits, or that a module has."""
    if not is_class(owner):
        return _module_attributes(owner).get(name, default)
    for cls in _mro_of(owner):
        own = _class_attributes(cls)
        if name in own:
            return own[name]
    return default


def attribute_of(value: Any, name: str) -> Any:
    """Return what an object has under a name, or else its class; None if neither has it."""
    kept_in = find(type(value), "__dict__")
    if type(kept_in) is GetSetDescriptorType and (
        kept_in.__doc__ == _OF_PYTHON or kept_in.__objclass__ in _WITH_ATTRIBUTES
    ):
        own = kept_in.__get__(value, type(value))
        if issubclass(type(own), dict) and dict.__contains__(own, name):
            return dict.__getitem__(own, name)
    return find(type(value), name)


def wrapped_functions(value: object) -> Iterator[FunctionType]:
    """Yield the Python functions among a value, what it wraps (`__wrapped__`), and so on."""
    seen: set[int] = set()
    while value is not None and id(value) not in seen:
        seen.add(id(value))
        if type(value) is FunctionType:
            yield value
            value = dict.get(value.__dict__, "__wrapped__")
        else:
            value = attribute_of(value, "__wrapped__")
