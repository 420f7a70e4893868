"""Patches: attributes of a library that an integration has replaced, to be put back."""

from __future__ import annotations

import inspect
import sys
from functools import wraps
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hypertrace._failures import logger
from hypertrace._imports import FirstImport
from hypertrace.forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[Any], Any]

_MISSING = object()


class Patches:
    """What one integration has replaced in a library. Any thread may use it."""

    def __init__(self) -> None:
        """Start with nothing replaced."""
        self._undo: list[Callable[[], object]] = []

    def replace(self, owner: Any, name: str, make: Make) -> None:
        """Replace a function of a module or a class.

        Several integrations may replace one function, and be undone in any order. What other code
        has replaced in the meantime is left as it is by `undo()`, and logged.

        Args:
            owner: the module or class.
            name: of the function, which it has itself or inherits.
            make: is called with the function, and returns what takes its place; it may be called
                again, when the function is replaced by one fewer. The name, the signature and the
                docstring are copied to it, if it is a function, and so is that it is a coroutine
                function. Of a static or class method it gets the function, and what it returns is
                one again.

        Raises:
            AttributeError: there is no such function: the library is another version.
        """
        self._put(owner, name, make, is_shared=False)

    def share(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function that other integrations replace in the same way: once for all.

        It is put back when the last of them is undone.

        Args:
            owner: as in `replace`.
            name: as there.
            make: as there, the same function each time.

        Raises:
            AttributeError: as there.
        """
        self._put(owner, name, make, is_shared=True)

    def when_imported(self, library: str, patch: Callable[[], object]) -> None:
        """Call a function once a module is imported, or now if it is; not after `undo()`.

        What it raises is counted and logged, as it may be the application that imports.

        Args:
            library: the module.
            patch: is called in the thread that imports it.
        """
        first = FirstImport(library, patch)
        self._undo.append(first.end)
        first.wait()

    def then(self, undo: Callable[[], object]) -> None:
        """Call a function when all is put back.

        Args:
            undo: disconnects a signal, or the like.
        """
        self._undo.append(undo)

    def _put(self, owner: Any, name: str, make: Make, *, is_shared: bool) -> None:
        key = id(owner), name
        with _lock:
            slot = _slots.get(key)
            layer = slot.layer_of(make) if slot is not None and is_shared else None
            if slot is not None and layer is not None:
                layer.users += 1
            else:
                if slot is None or not slot.is_in_place():
                    slot = _slots[key] = _Slot(owner, name)
                layer = _Layer(make)
                slot.add(layer)
        used = slot, layer

        def put_back() -> None:
            slot, layer = used
            with _lock:
                layer.users -= 1
                if not layer.users:
                    slot.remove(layer)
                if not slot.layers and _slots.get(key) is slot:
                    del _slots[key]

        self._undo.append(put_back)

    def undo(self) -> None:
        """Put everything back, what was replaced last first.

        Raises:
            Exception: what one of the functions raised; the others were called all the same.
        """
        failure: Exception | None = None
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # noqa: BLE001 -- raised below
                failure = error
        if failure is not None:
            raise failure


class _Layer:
    """What an integration has put in the place of a function, or of the layer below.

    Attributes:
        make: makes it of what is below.
        made: what was made.
        users: how many integrations share it.
    """

    def __init__(self, make: Make) -> None:
        self.make = make
        self.made: Any = None
        self.users = 1


class _Slot:
    """An attribute of a module or a class that integrations have replaced.

    Attributes:
        layers: what they have put in its place, the one that is called first last.
    """

    def __init__(self, owner: Any, name: str) -> None:
        """Know what is there.

        Raises:
            AttributeError: there is nothing.
        """
        self._owner = owner
        self._name = name
        # A module may make it when it is asked for.
        of_module = isinstance(owner, ModuleType)
        found = getattr(owner, name) if of_module else inspect.getattr_static(owner, name)
        self._own = vars(owner).get(name, _MISSING)
        self._kind = type(found) if isinstance(found, staticmethod | classmethod) else None
        self._function: Any = found.__func__ if self._kind else found
        self._shown = self._own
        self.layers: list[_Layer] = []

    def is_in_place(self) -> bool:
        """Whether the attribute is what was set here."""
        return vars(self._owner).get(self._name, _MISSING) is self._shown

    def layer_of(self, make: Make) -> _Layer | None:
        """Return the layer that a function has made, None if there is none."""
        return next((layer for layer in self.layers if layer.make is make), None)

    def add(self, layer: _Layer) -> None:
        """Put a layer upon the others."""
        layer.made = self._made(layer.make, self.layers[-1].made if self.layers else self._function)
        self._show(layer.made)
        self.layers.append(layer)

    def remove(self, layer: _Layer) -> None:
        """Remove a layer, and put those above it upon the one below; if all is in place."""
        at = self.layers.index(layer)
        del self.layers[at]
        if not self.is_in_place():
            where = getattr(self._owner, "__qualname__", None) or self._owner.__name__
            logger().warning(
                "%s.%s was replaced after hypertrace did; uninstall() leaves it as it is",
                where,
                self._name,
            )
            return
        made = self.layers[at - 1].made if at else self._function
        for above in self.layers[at:]:
            made = above.made = self._made(above.make, made)
        if self.layers:
            self._show(made)
        elif self._own is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own)

    def _show(self, made: Any) -> None:
        shown = self._kind(made) if self._kind else made
        setattr(self._owner, self._name, shown)
        self._shown = shown

    def _made(self, make: Make, function: Any) -> Any:
        made = make(function)
        if not inspect.isfunction(made):
            return made
        if inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(made):
            made = _as_coroutine_function(made)
        made = wraps(function)(made)
        if self._own is _MISSING and isinstance(self._owner, type):
            # Where pickle finds it.
            made.__module__ = self._owner.__module__
            made.__qualname__ = f"{self._owner.__qualname__}.{self._name}"
        return made


def _as_coroutine_function(function: Any) -> Any:
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)

    async def as_coroutine(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return as_coroutine


_slots: dict[tuple[int, str], _Slot] = {}
"""By the owner, which the slot keeps, and the name."""
_lock = RLock()
"""For changes of them. No code of the application runs in it but that of metaclasses."""


def _renew_lock() -> None:
    # A thread that is not in the child may hold the old one.
    global _lock  # noqa: PLW0603 -- the state of the process
    _lock = RLock()


after_fork_in_child(_renew_lock)
