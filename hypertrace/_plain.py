"""Plain data: what of events and tracers may leave the process, in copies and pickles."""

from __future__ import annotations

import sys

from ._naming import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT = 256
"""Characters kept of the text of a value that is no plain data."""

# By their numbers, as classes may have a `__hash__` and an `__eq__` of their own.
_PLAIN = frozenset(map(id, (str, int, float, bool, bytes, type(None))))


def plain(value: object) -> object:
    """Return a value itself if it is plain data, or else its text, which refers to nothing."""
    if id(type(value)) in _PLAIN:
        return value
    try:
        return str.__str__(str(value))[:MAX_TEXT]
    except Exception:  # noqa: BLE001 -- it is the value's own code
        return f"<unprintable {type_name(type(value))}>"


def plain_props(props: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return props with plain data for their values."""
    if props is None:
        return None
    return {str(plain(name)): plain(value) for name, value in props.items()}


def plain_class(cls: type[BaseException] | None) -> type[BaseException] | None:
    """Return a class of exceptions, or the nearest base that can be found by its name."""
    return None if cls is None else next(filter(_can_be_found, cls.__mro__), Exception)


def _can_be_found(cls: type) -> bool:
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls
