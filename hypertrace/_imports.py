"""Import hook: listeners get modules right after their code has run, also when it runs again.

It is a finder in `sys.meta_path`, which finds nothing itself: it asks the finders after it, and
wraps the loader that they have found until the code of the module runs. wrapt has such a finder
too, but it imports asyncio, which must never be imported before gevent's patches.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from threading import RLock, local
from typing import TYPE_CHECKING, Any, Protocol

from ._failures import count_and_log
from ._static import attributes, is_module
from .forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


class Listener(Protocol):
    """An object that gets modules after their import."""

    def _covers(self, name: str) -> bool:
        """Whether it wants a module."""

    def _loaded(self, name: str, module: ModuleType) -> None:
        """Take a module whose code has run; in the thread that imports it."""


_listeners: list[Listener] = []
_lock = RLock()
"""Held while listeners and, with them, `sys.meta_path` change."""
_in_progress = local()


def add_listener(listener: Listener) -> None:
    """Give a listener all modules that it covers and that are imported or reloaded from now on.

    The loaders of these modules are wrapped until the code of the module runs, and not after that.
    What a listener raises is logged and swallowed.
    """
    with _lock:
        _listeners.append(listener)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)


def remove_listener(listener: Listener) -> bool:
    """Give a listener no more modules; the last one leaves `sys.meta_path` as it was.

    Returns:
        Whether it was there: of several threads that remove a listener, one gets True.
    """
    with _lock:
        is_there = listener in _listeners
        if is_there:
            _listeners.remove(listener)
        if not _listeners and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
    return is_there


class FirstImport:
    """Listener that calls a function once, when a module is imported. Any thread may use it."""

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        """Wait for nothing yet.

        Args:
            name: of the module.
            call: is called in the thread that imports it. What it raises is counted and logged.
        """
        self._name = name
        self._call = call

    def wait(self) -> None:
        """Call the function once the module is imported, or now if it is.

        This waits for a thread that is just importing it.
        """
        add_listener(self)  # first: another thread may begin to import it at any time
        with suppress(AttributeError):  # it has no public name
            importlib._bootstrap._lock_unlock_module(self._name)  # type: ignore[attr-defined]
        module = sys.modules.get(self._name)
        if module is not None and not watch(self._name, module):
            self._loaded(self._name, module)

    def end(self) -> None:
        """Do not call the function any more."""
        remove_listener(self)

    def _covers(self, name: str) -> bool:
        return name == self._name

    def _loaded(self, name: str, module: ModuleType) -> None:  # noqa: ARG002 -- as of a listener
        if remove_listener(self):
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 -- code that imports the module must see nothing
                count_and_log(error, self._call)


def watch(name: str, module: ModuleType) -> bool:
    """Give listeners a module after its code has run, if it is just being imported.

    Returns:
        Whether it is being imported.
    """
    spec = attributes(module).get("__spec__") if is_module(module) else None
    if type(spec) is ModuleSpec and getattr(spec, "_initializing", False):
        vars(spec)["_watched"] = name, module
        spec.__class__ = _WatchedSpec
        if not getattr(spec, "_initializing", False):  # another thread has just imported it
            _unwatch(spec)
    return type(spec) is _WatchedSpec


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
        if sys.meta_path and sys.meta_path[0] is not self:
            self._go_first()
        names: set[str] = vars(_in_progress).setdefault("names", set())
        if name in names or not any(one._covers(name) for one in _listeners.copy()):
            return None
        names.add(name)  # other hooks search again from the start
        try:
            return self._found_by_others(name, path, target)
        finally:
            names.discard(name)

    def _go_first(self) -> None:
        """Stand before finders that were added since, which may find what is covered.

        pytest's finds its plugins. A search that is running goes on with the finder after this one.
        """
        with _lock:
            if self in sys.meta_path:
                others = [finder for finder in sys.meta_path if finder is not self]
                sys.meta_path[:] = [self, *others]

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


class _Loader:
    """Loader that reports the module after its code has run; until then it stands in the spec.

    In everything else it is the loader that it wraps, also for `isinstance`.
    """

    __slots__ = ("_loader", "_spec")

    _loader: Any
    _spec: ModuleSpec

    def __init__(self, spec: ModuleSpec) -> None:
        object.__setattr__(self, "_loader", spec.loader)
        object.__setattr__(self, "_spec", spec)

    @property  # type: ignore[misc]  # in `object` it can be set
    def __class__(self) -> type:
        return type(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._loader, name, value)

    def exec_module(self, module: ModuleType) -> None:
        spec, loader = self._spec, self._loader
        own: Any = attributes(module) if is_module(module) else getattr(module, "__dict__", {})
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
    loader: Any = _Loader(spec)
    spec.loader = loader


class _WatchedSpec(ModuleSpec):
    """Spec of a module that is being imported; it is a plain one again after that."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "_initializing" and not value:
            _unwatch(self)


def _unwatch(spec: ModuleSpec) -> None:
    """Make a watched spec a plain one, in one thread alone; report its module if its code ran."""
    name, module = vars(spec).pop("_watched", (None, None))
    if module is not None:
        spec.__class__ = ModuleSpec
        if name in sys.modules:
            _report(name, module)


def _new_lock() -> None:
    global _lock  # noqa: PLW0603 -- another thread held it in the parent
    _lock = RLock()


after_fork_in_child(_new_lock)
