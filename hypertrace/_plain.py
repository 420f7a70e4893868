"""Plain data: values in copies and pickles of events and tracers, without references."""

from __future__ import annotations

import sys

from .inspection import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT = 256
"""Characters kept of the text of a value that is not plain data."""

# Compared by id, since a metaclass may define `__hash__` and `__eq__`.
_PLAIN = frozenset(map(id, (str, int, float, bool, bytes, type(None))))


def plain(value: object) -> object:
    """Return a value if it is plain data, or else its text, which refers to no object."""
    if id(type(value)) in _PLAIN:
        return value
    try:
        return str.__str__(str(value))[:MAX_TEXT]
    except Exception:  # noqa: BLE001 -- the value's `__str__` may raise anything
        return f"<unprintable {type_name(type(value))}>"


def plain_props(props: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return props with each value replaced by plain data."""
    if props is None:
        return None
    return {str(plain(name)): plain(value) for name, value in props.items()}


def plain_class(cls: type[BaseException] | None) -> type[BaseException] | None:
    """Return an exception class, or its nearest base that can be imported by its name."""
    return None if cls is None else next(filter(_can_be_found, cls.__mro__), Exception)


def _can_be_found(cls: type) -> bool:
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls
