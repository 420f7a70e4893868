"""Imports of modules that integrations wait for: a function is called once a module is imported.

It is a finder in `sys.meta_path`, which finds nothing by itself: it asks the others, and lets the
loader that they have found call what waits. wrapt has such a finder too, but it imports asyncio,
which the application may never do.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_waiting: dict[str, list[Callable[[], object]]] = {}
"""What is called once a module is imported."""


def is_imported(name: str) -> bool:
    """Whether a module is imported. If another thread is just importing it, that is waited for."""
    with suppress(AttributeError):  # it has no public name
        importlib._bootstrap._lock_unlock_module(name)  # type: ignore[attr-defined]
    return name in sys.modules


def wait(name: str, call: Callable[[], object]) -> None:
    """Call a function once a module is imported.

    Args:
        name: of the module.
        call: must not raise; it is called in the thread that imports.
    """
    calls = _waiting.setdefault(name, [])
    calls.append(call)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    if is_imported(name):  # meanwhile, by another thread, which may have seen neither of the two
        _call_each(calls)


def wait_no_more(name: str, call: Callable[[], object]) -> None:
    """Do not call a function that waits; one that was called is passed over.

    Args:
        name: as of `wait`.
        call: as there.
    """
    with suppress(KeyError, ValueError):
        _waiting[name].remove(call)


def _call_each(calls: list[Callable[[], object]]) -> None:
    """Call functions, each in one thread alone."""
    while True:
        try:
            call = calls.pop(0)
        except IndexError:
            return
        call()


class _Finder:
    """Finder that finds what the others do, for modules that are waited for."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _waiting.get(name):
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(name, spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Loader that is the one that was found, until it has loaded the module."""

    def __init__(self, name: str, loader: Any) -> None:
        self._name = name
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        loader = self._loader
        module.__loader__ = loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader
        loader.exec_module(module)
        _call_each(_waiting.pop(self._name, []))


_finder = _Finder()
