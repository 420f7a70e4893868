"""Handle of what `instrument` traces: it finds, holds and restores functions."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import _imports, _replacements, _static
from ._closures import UntraceableError
from ._definitions import Search, close_names
from ._failures import logger
from ._paths import has_parameter, parameters_of
from ._replacements import Hold, original_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType, TracebackType
    from typing import Self

    from ._name_patterns import NamePattern

_REASONS_SHOWN = 5


class Instrumentation:
    """Handle of what `instrument` traces; `with instrument(...):` undoes it after the block.

    Any thread may use it.
    """

    def __init__(
        self,
        patterns: list[NamePattern],
        excluded: list[NamePattern],
        options: Mapping[str, Any],
    ) -> None:
        """Trace what is imported, and what will be; see `instrument`."""
        self._patterns = patterns
        self._excluded = excluded
        self._options = options
        self._holds: dict[str, list[Hold]] = {}
        self._skipped: dict[str, str] = {}
        self._warned: set[NamePattern] = set()
        for pattern in patterns:
            self._check_module(pattern)
        for pattern in excluded:
            self._check_excluded(pattern)
        # First, so that no module is missed that another thread imports meanwhile.
        _imports.add_listener(self)
        handles[self] = None
        try:
            self._trace(self._imported(), late=False)
        except BaseException:
            self._end()
            raise

    @property
    def names(self) -> list[str]:
        """Names of what is traced, as `package.module:Class.method`; of each function the first.

        In the order in which they were found.
        """
        with _replacements.lock:
            holds = self._all_holds()
        first: dict[int, str] = {}
        for hold in holds:
            first.setdefault(id(hold.original), hold.definition.name)
        return list(first.values())

    @property
    def skipped(self) -> Mapping[str, str]:
        """Names that match and are not traced, each with the reason. A copy; it cannot be set."""
        with _replacements.lock:
            return MappingProxyType(self._skipped.copy())

    def undo(self) -> None:
        """Restore the originals; what is imported from now on is not instrumented.

        Calls that run now end as spans. Attributes that other code has replaced since are not
        changed, and logged at WARNING.
        """
        for name in self._end():
            logger().warning(
                "%s was replaced after it was instrumented; undo() does not change it", name
            )

    def _covers(self, name: str) -> bool:
        """Whether functions of a module may be traced; the import hook asks for it."""
        return any(pattern.covers(name) for pattern in self._patterns)

    def _loaded(self, name: str, module: ModuleType) -> None:
        """Trace a module whose code has just run; the import hook calls it."""
        try:
            self._trace({name: module}, late=True)
        except Exception as error:  # noqa: BLE001 -- code that imports the module must see nothing
            logger().error("%s; nothing of it is traced", error)

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
        targets = ", ".join(pattern.text for pattern in self._patterns)
        count = len(self.names)
        return f"<instrumented {targets}, {count} function{'' if count == 1 else 's'}>"

    def _all_holds(self) -> list[Hold]:
        """Return what it keeps traced; call it with the lock."""
        return [hold for holds in self._holds.values() for hold in holds]

    def _imported(self) -> dict[str, Any]:
        modules = {
            name: module
            for name, module in sys.modules.copy().items()
            if type(name) is str and self._covers(name)
        }
        for name, module in modules.items():
            _imports.watch(name, module)
        return modules

    def _trace(self, modules: Mapping[str, Any], *, late: bool) -> None:
        """Trace what matches in modules; instead of what was there when their code ran before."""
        search = Search(self._excluded, original_of)
        with _replacements.lock:
            if self not in handles:
                return
            wrong = self._search(search, modules, late=late)
            holds, refused = self._hold(search)
            for name in modules:
                for hold in self._holds.pop(name, ()):
                    hold.release()
            self._holds |= holds
            skipped = {**search.skipped, **refused}
            others = {n: r for n, r in self._skipped.items() if n.partition(":")[0] not in modules}
            self._skipped = {**others, **skipped}
        for error in wrong:
            logger().error("%s; nothing of it is traced", error)
        self._report(search, modules, skipped, late=late)

    def _search(
        self, search: Search, modules: Mapping[str, Any], *, late: bool
    ) -> list[ValueError]:
        wrong = []
        for pattern in self._patterns:
            covered = {name: it for name, it in modules.items() if pattern.covers(name)}
            if not covered:
                continue
            try:
                search.run(pattern, covered)
            except ValueError as error:
                if not late:
                    raise
                wrong.append(error)
        return wrong

    def _hold(self, search: Search) -> tuple[dict[str, list[Hold]], dict[str, str]]:
        holds: dict[str, list[Hold]] = {}
        refused = {}
        try:
            for definition in search.found:
                module = definition.name.partition(":")[0]
                is_exact = definition.pattern.is_exact
                try:
                    hold = Hold(definition, {**self._options, "parameters_required": is_exact})
                except UntraceableError as error:
                    if is_exact:
                        raise
                    refused[definition.name] = str(error)
                else:
                    holds.setdefault(module, []).append(hold)
        except BaseException:
            for held in holds.values():
                for hold in held:
                    hold.release()
            raise
        return holds, refused

    def _report(
        self, search: Search, modules: Mapping[str, Any], skipped: dict[str, str], *, late: bool
    ) -> None:
        for pattern in search.without_match:
            is_known = pattern.module_name is not None or not (
                late or all(_is_package(m) for n, m in modules.items() if pattern.covers(n))
            )
            if is_known and pattern not in self._warned:
                self._warned.add(pattern)
                logger().warning(
                    "instrument(%r) matches nothing: %s", pattern.text, search.miss(pattern)
                )
        self._report_excluded(search, modules)
        if not late:
            self._report_parameters(search)
        if skipped:
            reasons = Counter(skipped.values())
            logger().info(
                "%r skipped %d names: %s%s",
                self,
                len(skipped),
                "; ".join(f"{it} ({count})" for it, count in reasons.most_common(_REASONS_SHOWN)),
                "; …" if len(reasons) > _REASONS_SHOWN else "",
            )

    def _report_excluded(self, search: Search, modules: Mapping[str, Any]) -> None:
        """Log what was to be excluded from a module that is imported now, and is not there."""
        for one in self._excluded:
            is_known = one.module_name in modules and one not in search.excluding
            if is_known and one not in self._warned:
                self._warned.add(one)
                logger().warning("instrument(): exclude %r excludes nothing", one.text)

    def _report_parameters(self, search: Search) -> None:
        """Log the paths of `prop_from` that lead nowhere in all functions that were found."""
        called = [function for definition in search.found for function in definition.callables]
        for prop, name in parameters_of(self._options["prop_from"] or {}):
            if called and not any(has_parameter(function, name) for function in called):
                logger().warning(
                    "prop_from: %r is to come from the argument %r, which no function in %r has",
                    prop,
                    name,
                    self,
                )

    def _end(self) -> list[str]:
        """Restore all; return the names of what other code has replaced."""
        _imports.remove_listener(self)
        with _replacements.lock:
            handles.pop(self, None)
            holds = self._all_holds()
            self._holds = {}
            return [h.definition.name for h in reversed(holds) if not h.release()]

    def _check_module(self, pattern: NamePattern) -> None:
        missing = _missing_module(pattern.package_name)
        if missing is None:
            return
        message = f"instrument({pattern.text!r}): there is no module {missing!r}{_near(missing)}"
        if pattern.has_named_module:
            raise ModuleNotFoundError(message, name=missing)
        logger().warning("%s; it is traced if it can be imported later", message)

    def _check_excluded(self, pattern: NamePattern) -> None:
        package = pattern.package_name
        missing = _missing_module(package) if package else None
        if missing is not None:
            self._warned.add(pattern)
            logger().warning(
                "instrument(): exclude %r: there is no module %r%s",
                pattern.text,
                missing,
                _near(missing),
            )


handles: dict[Instrumentation, None] = {}
"""Those that are not undone, in the order in which they were made."""


def _is_package(module: object) -> bool:
    return _static.is_module(module) and "__path__" in _static.attributes(module)


def _missing_module(module: str) -> str | None:
    """Return the name of the module or package that does not exist. Imports nothing."""
    for name in accumulate(module.split("."), "{}.{}".format):
        if name in sys.modules:
            continue
        # Its package is imported already, so this only searches for a file.
        try:
            return name if importlib.util.find_spec(name) is None else None
        except ModuleNotFoundError:  # it would be in what is no package
            return name
    return None


def _near(module: str) -> str:
    """Return a hint at what a module that does not exist was meant to be."""
    from pkgutil import iter_modules

    package, _, name = module.rpartition(".")
    parent = sys.modules.get(package)
    if _static.is_module(parent) and _static.find(parent, name) is not None:
        return f"; for a function or class write '{package}:{name}'"
    path = _static.attributes(parent).get("__path__", ()) if _static.is_module(parent) else None
    names = {found.name for found in iter_modules(path)}
    if not package:
        names |= {loaded for loaded in sys.modules if "." not in loaded}
    near = close_names(name, names)
    return f" (did you mean {near}?)" if near else ""
