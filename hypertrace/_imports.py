"""Import hook: listeners get modules right after their code has run, also when it runs again."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from threading import local
from typing import TYPE_CHECKING, Any, Protocol

import wrapt

from ._failures import count_and_log
from ._static import attributes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class Listener(Protocol):
    """An object that gets modules after their import."""

    def _covers(self, name: str) -> bool:
        """Whether it wants a module."""

    def _loaded(self, name: str, module: ModuleType) -> None:
        """Take a module whose code has run; in the thread that imports it."""


_listeners: list[Listener] = []
_in_progress = local()


def add_listener(listener: Listener) -> None:
    """Give a listener all modules that it covers and that are imported or reloaded from now on.

    The loaders of these modules are wrapped until the code of the module runs, and not after that.
    What a listener raises is logged and swallowed.
    """
    _listeners.append(listener)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def remove_listener(listener: Listener) -> None:
    """Give a listener no more modules; the last one leaves `sys.meta_path` as it was."""
    if listener in _listeners:
        _listeners.remove(listener)
    if not _listeners and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def watch(name: str, module: ModuleType) -> None:
    """Give listeners a module after its code has run, if it is just being imported."""
    spec = attributes(module).get("__spec__")
    if type(spec) is ModuleSpec and getattr(spec, "_initializing", False):
        spec.__class__ = _WatchedSpec
        vars(spec)["_watched"] = name, module


def _report(name: str, module: ModuleType) -> None:
    for listener in _listeners.copy():
        try:
            if listener._covers(name):
                listener._loaded(name, module)
        except Exception as error:  # noqa: BLE001 -- code that imports the module must see nothing
            count_and_log(error, listener)


class _Finder:
    """Finds modules as the finders after it do, and wraps their loaders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        names: set[str] = vars(_in_progress).setdefault("names", set())
        if name in names or not any(one._covers(name) for one in _listeners.copy()):
            return None
        names.add(name)  # other hooks search again from the start
        try:
            return self._found_by_others(name, path, target)
        finally:
            names.discard(name)

    def _found_by_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        finders = sys.meta_path.copy()
        after = finders.index(self) + 1 if self in finders else 0
        for finder in finders[after:]:
            search = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = search(name, path, target) if search else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    _wrap_loader(spec)
                return spec
        return None


_finder = _Finder()


class _Loader(wrapt.ObjectProxy[Any]):
    """Loader that reports the module after its code has run; until then it stands in the spec."""

    _self_spec: ModuleSpec

    def exec_module(self, module: ModuleType) -> None:
        spec, loader = self._self_spec, self.__wrapped__
        own: Any = attributes(module)
        own_loader: object = self
        if spec.loader is own_loader:
            spec.loader = loader
        if own.get("__loader__") is self:
            own["__loader__"] = loader
        loader.exec_module(module)
        if issubclass(type(loader), LazyLoader) and spec.loader is not None:
            _wrap_loader(spec)  # the loader that runs the code, on first use
        else:
            _report(spec.name, module)


def _wrap_loader(spec: ModuleSpec) -> None:
    loader: Any = _Loader(spec.loader)
    loader._self_spec = spec
    spec.loader = loader


class _WatchedSpec(ModuleSpec):
    """Spec of a module that is being imported; it is a plain one again after that."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "_initializing" and not value:
            watched = vars(self).pop("_watched")
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            _report(*watched)
