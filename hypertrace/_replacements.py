"""Replacements of functions by traced ones, shared by all handles that named them."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any

from . import _engines, _static
from ._callables import trace_callable
from ._closures import UntraceableError
from .forks import after_fork_in_child
from .inspection import type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._definitions import Definition

_ABSENT = object()

lock = RLock()
"""Held while attributes are replaced or restored; nothing is logged or imported meanwhile."""


class Hold:
    """What one handle keeps traced: an attribute, where it was found and by which pattern.

    Attributes:
        definition: where it was found.
    """

    def __init__(self, definition: Definition, options: Mapping[str, Any]) -> None:
        """Trace what was found, until each hold on it is released.

        Raises:
            UntraceableError: it cannot be traced, or its owner refused the replacement.
            ValueError: the options are wrong for it.
        """
        self.definition: Definition = definition
        self._attribute: _Attribute | None = None
        if definition.inner is not None:
            self._callable = _in_place(definition, options)
            return
        key = id(definition.owner), definition.attribute
        attribute = _attributes.get(key)
        if attribute is None or not attribute.is_current():
            attribute = _Attribute(definition, options)
            _attributes[key] = attribute
        attribute.holds += 1
        self._attribute = attribute
        self._callable = attribute.callable

    @property
    def engine(self) -> str:
        """The name of the engine that traces it."""
        return self._callable.engine

    @property
    def original(self) -> object:
        """The function, descriptor or other callable that is traced."""
        return self._callable.original

    @property
    def is_effective(self) -> bool:
        """Whether calls are traced: no other code has put another object in the place."""
        attribute = self._attribute
        return self._callable.is_in_place or attribute is None or attribute.is_current()

    def release(self) -> bool:
        """Restore the original, if no other hold needs it traced.

        Returns:
            False if other code has replaced it, so that it was not changed.
        """
        if self._attribute is None:
            self._callable.release()
            return True
        self._attribute.holds -= 1
        return self._attribute.holds > 0 or self._attribute.restore()


class _Callable:
    """A callable that is traced, once for all attributes that refer to it."""

    def __init__(
        self, original: Any, options: Mapping[str, Any], within: type | None = None
    ) -> None:
        self.original = original
        self.references = 0
        self._key = id(original), id(within)
        self._traced = trace_callable(original, options, within=within)
        self.value = self._traced.value

    @classmethod
    def of(cls, original: Any, options: Mapping[str, Any], within: type | None = None) -> _Callable:
        one = _callables.get((id(original), id(within)))
        if one is None and type(original) is staticmethod:
            one = _callables.get((id(original), id(None)))  # else it would be traced twice
        if one is None:
            one = cls(original, options, within)
            _callables[one._key] = one
            if not one.is_in_place:
                _originals[id(one.value)] = one
        one.references += 1
        return one

    @property
    def is_in_place(self) -> bool:
        return self.value is self.original

    @property
    def engine(self) -> str:
        return _engines.name if self.is_in_place else "closures"

    def release(self) -> None:
        self.references -= 1
        if self.references == 0:
            del _callables[self._key]
            _originals.pop(id(self.value), None)
            self._traced.undo()


class _Attribute:
    """An attribute that refers to a traced callable, and what it was before."""

    def __init__(self, definition: Definition, options: Mapping[str, Any]) -> None:
        self.holds = 0
        self._owner = owner = definition.owner
        self._name = definition.attribute
        before = _static.attributes(owner).get(self._name, _ABSENT)
        inherited_by = owner if before is _ABSENT and _static.is_class(owner) else None
        original = original_of(definition.value)
        self.callable = _Callable.of(original, options, inherited_by)
        self._before = before if before is not self.callable.value else original
        try:
            self._replace()
        except BaseException:
            self.callable.release()
            raise

    def _replace(self) -> None:
        own = _static.attributes(self._owner)
        value = self.callable.value
        if not self.callable.is_in_place and own.get(self._name, _ABSENT) is not value:
            _check(self._owner, self._name)
            try:
                _static.set_attribute(self._owner, self._name, value)
            except Exception as error:
                raise UntraceableError(f"{_refusal(self._owner)}: {error}") from error
            if own.get(self._name) is not value:
                raise UntraceableError(_refusal(self._owner))
        self._after = own.get(self._name, _ABSENT)

    def is_current(self) -> bool:
        """Whether no other code, such as a reload of the module or a test, has replaced it."""
        return _static.attributes(self._owner).get(self._name, _ABSENT) is self._after

    def restore(self) -> bool:
        """Restore the original; return False if other code has replaced it, or it is refused."""
        key = id(self._owner), self._name
        if _attributes.get(key) is self:
            del _attributes[key]
        restored = self.is_current() and self._set_back()
        self.callable.release()
        return restored

    def _set_back(self) -> bool:
        if self._before is self._after:
            return True
        try:
            if self._before is _ABSENT:
                delattr(self._owner, self._name)
            else:
                _static.set_attribute(self._owner, self._name, self._before)
        except Exception:  # noqa: BLE001 -- a metaclass refuses it by now
            return False
        return True


def original_of(value: Any) -> Any:
    """Return what a value replaces; the value itself if it is no replacement."""
    one = _originals.get(id(value))
    return value if one is None else one.original


_attributes: dict[tuple[int, str], _Attribute] = {}
"""The latest of each name, by the owner's id and the name. It keeps the owner alive."""

_callables: dict[tuple[int, int], _Callable] = {}
"""By the ids of the original and of the class that inherits it, which both are kept alive."""

_originals: dict[int, _Callable] = {}
"""By the ids of their replacements, which are kept alive."""


def _in_place(definition: Definition, options: Mapping[str, Any]) -> _Callable:
    """Trace the function behind a callable object, which is not replaced itself."""
    one = _Callable.of(definition.inner, options)
    if one.is_in_place:
        return one
    one.release()
    raise UntraceableError(
        f"is no function, but an object of {type_name(definition.value)} around one, which can be "
        "traced where it is with the compiled core alone"
    )


def _check(owner: Any, name: str) -> None:
    if _static.is_immutable(owner):
        raise UntraceableError(
            f"cannot instrument {type_name(owner)}.{name}: the type is written in C and cannot be "
            "changed; instrument what calls it"
        )


def _refusal(owner: Any) -> str:
    return f"{type_name(type(owner))} refuses to replace attributes of {type_name(owner)}"


def _new_lock() -> None:
    global lock  # noqa: PLW0603 -- another thread held it in the parent
    lock = RLock()


after_fork_in_child(_new_lock)
