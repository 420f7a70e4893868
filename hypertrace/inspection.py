"""Inspection of values without running code of their classes, for exporters."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["are_texts", "type_name"]

_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__

# Compared by id, since a metaclass may define `__hash__` and `__eq__`.
_TEXT_TYPES = frozenset(map(id, (str, type(None))))


def type_name(value: object) -> str:
    """Return the name of a class, or of the class of any other value. Never raises."""
    cls = value if issubclass(type(value), type) else type(value)
    # A metaclass may define another `__name__`, and the name may be of a subclass of str.
    return str.__str__(_name_of(cls))  # type: ignore[arg-type]  # a class


def are_texts(values: Iterable[object]) -> bool:
    """Whether all values are exact `str` objects or None: hashing and comparing them is safe."""
    return _TEXT_TYPES.issuperset(map(id, map(type, values)))
