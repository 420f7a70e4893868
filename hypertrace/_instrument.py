"""Instrumentation: spans for third-party functions, named `package.module:Class.method`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import wrapt

from ._callables import is_traceable, trace_callable
from ._endings import ErrorRules
from ._failures import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType, TracebackType
    from typing import Self

    from ._endings import Expected
    from ._paths import PropSource

_GLOB = frozenset("*?[")


def instrument(  # noqa: PLR0913 -- a setting each
    target: str,
    /,
    *,
    id: str | None = None,
    props: Mapping[str, Any] | None = None,
    prop_from: Mapping[str, PropSource] | None = None,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
) -> Instrumentation:
    """Make each call of functions or methods a span, without changing their source.

    The module may be imported already, or later: then its functions are traced after the import.
    Code that has imported a function by name before (`from module import function`) still calls the
    original. A function that is already instrumented is not instrumented again. After
    `importlib.reload` call it again.

    Args:
        target: `package.module:function` or `package.module:Class.method`; with shell-style
            patterns after the colon, such as `shop.cart:Cart.*` or `shop.cart:load_*`. A pattern
            matches names that begin with an underscore only if it begins with one.
        id: the id of the spans.
        props: names and values that each span starts with.
        prop_from: as in `hypertrace.traced`.
        expected: as there.
        error_if: as there.
        ok_if: as there.

    Returns:
        A handle; its `undo()` restores the originals, unless other code has replaced them since.

    Raises:
        ValueError: `target` has another form or matches nothing, or `prop_from` is wrong. The
            message lists the names that exist. For a module that is imported later it is logged.
        ModuleNotFoundError: the module does not exist.
        TypeError: the target cannot be replaced, such as a method of a type written in C; or a rule
            of what is an error is wrong, as in `hypertrace.traced`.
    """
    module, _, path = target.partition(":")
    if not module or not path or _GLOB & set(module):
        raise ValueError(
            f"instrument({target!r}): write 'package.module:function' or "
            "'package.module:Class.method'; patterns go after the colon"
        )
    rules = ErrorRules(expected, error_if, ok_if)
    options = {"id": id, "props": props, "prop_from": prop_from, "rules": rules}
    return Instrumentation(module, path, options)


class Instrumentation:
    """Handle of what `instrument` replaced; `with instrument(...):` undoes it after the block."""

    def __init__(self, module: str, path: str, options: Mapping[str, Any]) -> None:
        self._module = module
        self._path = path
        self._options = options
        self._attributes: list[_Attribute] = []
        self._undone = False
        if module in sys.modules:
            self._apply(sys.modules[module])
        else:
            _check_exists(module)
            wrapt.register_post_import_hook(self._apply_later, module)

    @property
    def names(self) -> list[str]:
        """Names of what is traced, as `package.module:Class.method`; empty before the import."""
        return [f"{self._module}:{attribute.path}" for attribute in self._attributes]

    def undo(self) -> None:
        """Restore the originals; a module that is not imported yet will not be instrumented.

        Attributes that other code has replaced since, such as a reload of the module, are not
        changed, and logged at WARNING.
        """
        self._undone = True
        while self._attributes:
            attribute = self._attributes.pop()
            if not attribute.release():
                logger().warning(
                    "%s:%s was replaced after it was instrumented; undo() does not change it",
                    self._module,
                    attribute.path,
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<instrumented {self._module}:{self._path}, {len(self._attributes)} callables>"

    def _apply(self, module: ModuleType) -> None:
        found = _find(module, self._path.split("."), [])
        for attribute in found:
            attribute.check()
        try:
            for attribute in found:
                attribute.hold(self._options)
                self._attributes.append(attribute)
        except BaseException:
            self.undo()
            raise

    def _apply_later(self, module: ModuleType) -> None:
        if self._undone:
            return
        try:
            self._apply(module)
        except Exception as error:  # noqa: BLE001 -- code that imports the module must see nothing
            logger().error("%s; nothing of it is traced", error)


class _Attribute:
    """An attribute of a module or class, traced until each handle that named it is undone."""

    _replacement: _Replacement
    """Set by `hold`."""

    def __init__(self, owner: Any, name: str, path: str) -> None:
        self._owner = owner
        self._name = name
        self.path = path

    def check(self) -> None:
        """Raise TypeError if the attribute cannot be replaced."""
        if isinstance(self._owner, type) and self._owner.__flags__ & _IMMUTABLE_TYPE:
            raise TypeError(
                f"cannot instrument {self._owner.__qualname__}.{self._name}: the type is written "
                "in C and cannot be changed; instrument what calls it"
            )

    def hold(self, options: Mapping[str, Any]) -> None:
        """Trace the attribute for one more handle."""
        replacement = _replacements.get((id(self._owner), self._name))
        if replacement is None or not replacement.is_current():
            replacement = _Replacement(self._owner, self._name, options)
        replacement.holders += 1
        self._replacement = replacement

    def release(self) -> bool:
        """Restore the attribute if no other handle needs it traced.

        Returns:
            False if other code has replaced it, so that it was not changed.
        """
        self._replacement.holders -= 1
        return self._replacement.holders > 0 or self._replacement.undo()


class _Replacement:
    """The traced wrapper that replaces an attribute, and the original."""

    def __init__(self, owner: Any, name: str, options: Mapping[str, Any]) -> None:
        self.holders = 0
        self._owner = owner
        self._name = name
        self._before = vars(owner).get(name, _ABSENT)
        current = inspect.getattr_static(owner, name)
        self._traced = trace_callable(current, options)
        setattr(owner, name, self._traced.value)
        self._after = vars(owner).get(name, _ABSENT)
        _replacements[id(owner), name] = self

    def is_current(self) -> bool:
        """Whether no other code, such as a reload of the module or a test, has replaced it."""
        return vars(self._owner).get(self._name, _ABSENT) is self._after

    def undo(self) -> bool:
        """Restore the original; return False if other code has replaced the wrapper."""
        key = id(self._owner), self._name
        if _replacements.get(key) is self:
            del _replacements[key]
        self._traced.undo()
        if not self.is_current():
            return False
        if self._before is _ABSENT:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
        return True


_ABSENT = object()
_IMMUTABLE_TYPE = 1 << 8
"""Py_TPFLAGS_IMMUTABLETYPE: set on types whose attributes cannot be replaced."""

_replacements: dict[tuple[int, str], _Replacement] = {}
"""The latest replacement, by the owner's id and the name. It keeps the owner alive."""


def _find(owner: Any, path: list[str], above: list[str]) -> list[_Attribute]:
    pattern, *rest = path
    chosen = _matching(owner, pattern, classes=bool(rest))
    if not chosen:
        raise ValueError(_missing(owner, pattern, above, classes=bool(rest)))
    if not rest:
        return [_Attribute(owner, name, ".".join([*above, name])) for name in chosen]
    found: list[_Attribute] = []
    missing: list[ValueError] = []
    for name in chosen:
        try:
            found += _find(getattr(owner, name), rest, [*above, name])
        except ValueError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _matching(owner: Any, pattern: str, *, classes: bool) -> list[str]:
    if not _GLOB & set(pattern):
        value = inspect.getattr_static(owner, pattern, None)
        return [pattern] if _is_wanted(value, classes=classes) else []
    names = [n for n in _own_names(owner, classes=classes) if fnmatchcase(n, pattern)]
    return [n for n in names if pattern.startswith("_") or not n.startswith("_")]


def _own_names(owner: Any, *, classes: bool) -> list[str]:
    """Return the names that a class or module defines, without inherited and imported ones."""
    names = []
    for name, value in vars(owner).items():
        if not _is_wanted(value, classes=classes):
            continue
        if isinstance(owner, type) or getattr(value, "__module__", "") == owner.__name__:
            names.append(name)
    return names


def _is_wanted(value: object, *, classes: bool) -> bool:
    if classes:
        return isinstance(value, type)
    return is_traceable(value) or (callable(value) and not isinstance(value, type))


def _missing(owner: Any, pattern: str, above: list[str], *, classes: bool) -> str:
    where = ".".join([owner.__name__, *above]) if not isinstance(owner, type) else ".".join(above)
    kind = "class" if classes else "function or method"
    names = ", ".join(sorted(_own_names(owner, classes=classes))[:20])
    hint = ""
    if not classes and isinstance(inspect.getattr_static(owner, pattern, None), type):
        hint = f"; {pattern} is a class, its methods are {pattern}.*"
    return f"{where} has no {kind} {pattern!r}{hint}; it has: {names or 'none'}"


def _check_exists(module: str) -> None:
    """Raise ModuleNotFoundError if a module or package does not exist. Imports nothing."""
    for name in accumulate(module.split("."), "{}.{}".format):
        if name in sys.modules:
            continue
        # Its package is imported already, so this only searches for a file.
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"instrument(): there is no module {name!r}", name=name)
        return
