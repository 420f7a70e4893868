"""Patches: attributes of a library that an integration has replaced, to be put back."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any

from hypertrace._failures import logger

if TYPE_CHECKING:
    from collections.abc import Callable

_MISSING = object()


class Patches:
    """What one integration has replaced in a library."""

    def __init__(self) -> None:
        """Start with nothing replaced."""
        self._undo: list[Callable[[], object]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function of a module or a class.

        What other code has replaced in the meantime is left as it is by `undo()`, and logged.

        Args:
            owner: the module or class.
            name: of the function, which it has itself or inherits.
            make: is called with the function, and returns what takes its place. The name, the
                signature and the docstring are copied to it, if it is a function. Of a static or
                class method it gets the function, and what it returns is one again.

        Raises:
            AttributeError: there is no such function: the library is another version.
        """
        inherited = inspect.getattr_static(owner, name)
        own = vars(owner).get(name, _MISSING)
        kind = type(inherited) if isinstance(inherited, staticmethod | classmethod) else None
        function = inherited.__func__ if kind else inherited
        made = make(function)
        if inspect.isfunction(made):
            made = wraps(function)(made)
        if kind:
            made = kind(made)
        setattr(owner, name, made)

        def put_back() -> None:
            if vars(owner).get(name) is not made:
                where = getattr(owner, "__qualname__", owner.__name__)
                logger().warning(
                    "%s.%s was replaced after hypertrace did; uninstall() leaves it as it is",
                    where,
                    name,
                )
            elif own is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

        self._undo.append(put_back)

    def share(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace a function that other integrations replace in the same way: once for all.

        It is put back when the last of them is undone.

        Args:
            owner: as in `replace`.
            name: as there.
            make: as there; it is called for the first integration only.

        Raises:
            AttributeError: as there.
        """
        shared = _shared.setdefault((owner, name), _Shared())
        shared.add(owner, name, make)
        self._undo.append(shared.remove)

    def then(self, undo: Callable[[], object]) -> None:
        """Call a function when all is put back.

        Args:
            undo: disconnects a signal, or the like.
        """
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back, what was replaced last first."""
        while self._undo:
            self._undo.pop()()


class _Shared:
    """What several integrations have replaced together."""

    def __init__(self) -> None:
        self._users = 0
        self._patches = Patches()

    def add(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        if not self._users:
            self._patches.replace(owner, name, make)
        self._users += 1

    def remove(self) -> None:
        self._users -= 1
        if not self._users:
            self._patches.undo()


_shared: dict[tuple[Any, str], _Shared] = {}
