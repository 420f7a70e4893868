"""What traced objects and functions are called in events."""

from __future__ import annotations

from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def class_name_of(ctx: object) -> str:
    """Return what an object is counted under: a class by itself, a string by its value."""
    if isinstance(ctx, type | ModuleType):
        return ctx.__name__
    if isinstance(ctx, str):
        return str.__str__(ctx)
    return type(ctx).__name__


def class_names(cls: type | None) -> tuple[str, ...]:
    """Return the qualified names of a class and its bases, in the order of method resolution."""
    return () if cls is None else tuple([c.__qualname__ for c in cls.__mro__])


def without_class(qualname: str, names: Iterable[str]) -> str:
    """Return a qualified name without the first of the class names that it begins with."""
    for name in names:
        if qualname.startswith(f"{name}."):
            return qualname[len(name) + 1 :]
    return qualname
