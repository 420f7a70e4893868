"""Definitions of functions in modules and classes, found by patterns without running their code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _static
from ._callables import functions_of, is_descriptor, is_traceable
from ._closures import is_traced, without_proxy
from ._name_patterns import ANY, NamePattern, has_signs, part_matches
from ._naming import class_names, module_of
from .inspection import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FunctionType, ModuleType

_MOST_SHOWN = 20


class Definition(NamedTuple):
    """An attribute of a module or class that is to be traced.

    Attributes:
        owner: the module or class; a class may inherit it.
        attribute: its name there.
        name: `package.module:Class.method`.
        value: what is there: a function, a descriptor, or with an exact pattern any callable.
        inner: a function that a callable object calls, to be traced instead of it, or else nothing.
        pattern: the pattern that it was found by.
    """

    owner: Any
    attribute: str
    name: str
    value: Any
    inner: FunctionType | None
    pattern: NamePattern

    @property
    def callables(self) -> tuple[Any, ...]:
        """What is called: the functions of a descriptor, the function inside, or the value."""
        return (self.inner,) if self.inner is not None else tuple(_called(self.value))


class _Place(NamedTuple):
    """A module or class that is searched, with what leads there."""

    owner: Any
    module: ModuleType
    module_name: str
    path: tuple[str, ...]
    homes: frozenset[str]
    """Names of modules that are named by the names of their classes."""

    def __str__(self) -> str:
        return ".".join(self.path) or self.module_name

    def named(self, name: str) -> str:
        return f"{self.module_name}:{'.'.join((*self.path, name))}"

    def inside(self, name: str, cls: type) -> _Place:
        return self._replace(owner=cls, path=(*self.path, name))


class Search:
    """One search for what patterns match in some modules.

    A function or class is looked at where it is defined before it is looked at under other names,
    and by a pattern only if it is defined in a module that the pattern covers.

    Attributes:
        found: what is to be traced.
        skipped: what matches and cannot be traced: names and reasons.
        without_match: the patterns that found nothing.
        excluding: the patterns of what is not to be found that matched something.
    """

    def __init__(self, excluded: Iterable[NamePattern], original_of: Callable[[Any], Any]) -> None:
        """Prepare a search.

        Args:
            excluded: patterns of what is not to be found.
            original_of: returns what was in the place of a value that replaces it.
        """
        self.found: list[Definition] = []
        self.skipped: dict[str, str] = {}
        self.without_match: list[NamePattern] = []
        self.excluding: set[NamePattern] = set()
        self._with_excluded: set[NamePattern] = set()
        self._misses: dict[NamePattern, _Miss] = {}
        self._of_no_use: dict[NamePattern, list[tuple[str, str]]] = {}
        self._excluded = tuple(excluded)
        self._original_of = original_of
        self._pattern: NamePattern
        self._own: set[int] = set()
        self._seen: set[tuple[int, ...]] = set()
        self._postponed: list[Callable[[], None]] | None = None

    def run(self, pattern: NamePattern, modules: Mapping[str, object]) -> None:
        """Find what a pattern matches in modules that it covers.

        Raises:
            ValueError: the pattern is exact, and matches nothing.
        """
        self._pattern = pattern
        self._seen = set()
        found, skipped = len(self.found), len(self.skipped)
        self._postponed = []
        for name, module in modules.items():
            self._look_into_module(name, module)
        postponed, self._postponed = self._postponed, None
        for look in postponed:
            look()
        if len(self.found) == found:
            self._of_no_use[pattern] = list(self.skipped.items())[skipped:]
            if pattern.is_exact:
                raise ValueError(f"instrument({pattern.text!r}): {self.miss(pattern)}")
            self.without_match.append(pattern)

    def miss(self, pattern: NamePattern) -> str:
        """Return what a pattern did not find, and what there is instead."""
        miss = self._misses.get(pattern)
        skipped = [f"{name} {reason}" for name, reason in self._of_no_use[pattern]]
        if pattern in self._with_excluded:
            first = "all that it matches is excluded"
        else:
            first = "no function is defined there" if miss is None else miss.message()
        return "; ".join([first, *skipped[:_MOST_SHOWN]])

    def _look_into_module(self, name: str, module: Any) -> None:
        if not _static.is_module(module):
            if module is not None:
                self.skipped[name] = f"is no module, but an object of {type_name(module)}"
            return
        self._look(_Place(module, module, name, (), frozenset()), self._pattern.path)

    def _look(self, place: _Place, path: tuple[str, ...]) -> None:
        first, rest = path[0], path[1:]
        if not has_signs((first,)):
            self._look_at_named(place, first, rest)
            return
        key = id(place.owner), len(path)
        if key in self._seen:
            return
        self._seen.add(key)
        any_found = first == ANY
        if first == ANY and rest:
            self._look(place, rest)
        for name, value in tuple(_static.attributes(place.owner).items()):
            if type(name) is str and part_matches(first, name):
                any_found |= self._look_at_matching(place, name, value, path)
        if not any_found:
            self._miss(place, first, classes=bool(rest))

    def _look_at_named(self, place: _Place, name: str, rest: tuple[str, ...]) -> None:
        value = _static.find(place.owner, name)
        if rest:
            if not _static.is_class(value):
                self._miss(place, name, classes=True)
                return
            home = module_of(value) or place.module_name
            inside = place.inside(name, value)
            self._look(inside._replace(homes=place.homes | {home}), rest)
        elif not (is_traceable(value) or _is_function_like(value)):
            self._miss(place, name, classes=False)
        elif self._pattern.is_exact:
            self._add(place, name, value, None)
        else:
            self._look_at_value(place, name, value)

    def _look_at_matching(
        self, place: _Place, name: str, value: Any, path: tuple[str, ...]
    ) -> bool:
        """Look at an attribute that matches the first part of a path; False if it is no match."""
        if not _static.is_class(value):
            if path[1:]:
                return False
            self._look_at_value(place, name, value)
            return is_traceable(value)
        rest = path if path[0] == ANY else path[1:]
        if not rest:
            return False
        home = module_of(value)
        if home is None or not self._is_named(place, home):
            if place.path:
                self.skipped.setdefault(place.named(name), f"is defined in {home}")
            return False
        qualname = class_names(value)[0]
        if place.path and not _is_nested(qualname, place.owner):
            return False  # it is looked at where it is defined
        if not self._is_excluded(place, name, home, qualname):
            self._at_home_first(
                home in _names_of(place),
                lambda: self._look(place.inside(name, value), rest),
            )
        return True

    def _look_at_value(self, place: _Place, name: str, value: Any) -> None:
        value = self._original_of(value)
        functions = _functions(value)
        if functions:
            self._look_at_functions(place, name, value, functions)
        elif is_descriptor(value):
            self._skip(place, name, f"{type_name(value)!r} of no Python function")
        elif _static.is_callable(value) and self._is_own_object(place, value):
            self._skip(place, name, f"is no function, but an object of {type_name(value)}")

    def _look_at_functions(
        self, place: _Place, name: str, value: Any, functions: list[FunctionType]
    ) -> None:
        homes = [home for f in functions for home in _homes(f) if self._is_named(place, home)]
        own = any(f.__globals__ is _globals_of(place) for f in functions)
        if not own and not homes:
            if place.path:
                self._skip(place, name, f"is defined in {next(_homes(functions[0]), None)}")
            return
        home = place.module_name if own else homes[0]
        if self._is_excluded(place, name, home, functions[-1].__qualname__):
            return
        if any(map(is_traced, _called(value))):
            self._skip(place, name, "is traced already")
            return
        inner = None if is_traceable(value) else functions[0]
        self._at_home_first(
            own or not _names_of(place).isdisjoint(homes),
            lambda: self._add(place, name, value, inner),
        )

    def _at_home_first(self, at_home: bool, look: Callable[[], None]) -> None:  # noqa: FBT001
        if at_home or self._postponed is None:
            look()
        else:
            self._postponed.append(look)

    def _add(self, place: _Place, name: str, value: Any, inner: FunctionType | None) -> None:
        if self._is_excluded(place, name, "", ""):
            return
        is_own = name in _static.attributes(place.owner)
        if is_own:
            self._own.add(id(value))
        elif id(value) in self._own:
            return  # it is traced where it is inherited from
        named = place.named(name)
        self.found.append(Definition(place.owner, name, named, value, inner, self._pattern))

    def _skip(self, place: _Place, name: str, reason: str) -> None:
        if not self._is_excluded(place, name, "", ""):
            self.skipped.setdefault(place.named(name), reason)

    def _miss(self, place: _Place, name: str, *, classes: bool) -> None:
        self._misses.setdefault(self._pattern, _Miss(place, name, classes))

    def _is_excluded(self, place: _Place, name: str, home: str, qualname: str) -> bool:
        """Whether a name is excluded where it was found, or where it is defined."""
        path, at_home = (*place.path, name), tuple(qualname.split("."))
        matching = [
            one
            for one in self._excluded
            if one.excludes(place.module_name, path) or one.excludes(home, at_home)
        ]
        if matching:
            self.excluding.update(matching)
            self._with_excluded.add(self._pattern)
        return bool(matching)

    def _is_named(self, place: _Place, module: str) -> bool:
        return module in place.homes or self._pattern.covers(module)

    def _is_own_object(self, place: _Place, value: object) -> bool:
        """Whether an object was made here, and not imported, as far as that can be seen."""
        module = _static.attribute_of(value, "__module__")
        return bool(place.path) or (type(module) is str and self._is_named(place, module))


class _Miss(NamedTuple):
    """A name or pattern that nothing in a place matches."""

    place: _Place
    name: str
    classes: bool

    def message(self) -> str:
        kind = "class" if self.classes else "function or method"
        names = sorted(_names(self.place, classes=self.classes))
        near = close_names(self.name, names)
        guess = f" (did you mean {near}?)" if near else ""
        hint = ""
        if not self.classes and _static.is_class(_static.find(self.place.owner, self.name)):
            hint = f"; {self.name} is a class, its methods are {self.name}.*"
        listed = ", ".join(names[:_MOST_SHOWN]) or "none"
        return f"{self.place} has no {kind} {self.name!r}{hint}; it has: {listed}{guess}"


def close_names(name: str, names: Iterable[str]) -> str:
    """Return the names that are most like a name, as part of a question; "" if there are none."""
    from difflib import get_close_matches

    return " or ".join(get_close_matches(name.strip("*?"), sorted(names), 3))


def _is_function_like(value: object) -> bool:
    return _static.is_callable(value) and not _static.is_class(value)


def _called(value: Any) -> Iterable[Any]:
    """Return what is called when a value is: itself, or the functions of a descriptor."""
    return functions_of(value).values() if is_descriptor(value) else (value,)


def _functions(value: Any) -> list[FunctionType]:
    """Return the Python functions that a value is, wraps or calls; the outermost first."""
    return [f for it in _called(value) for f in _static.wrapped_functions(without_proxy(it))]


def _homes(function: FunctionType) -> Iterator[str]:
    """Yield the names of the modules that a function is, and says that it is, defined in."""
    for name in (dict.get(function.__globals__, "__name__"), function.__module__):
        if type(name) is str:
            yield name


def _names(place: _Place, *, classes: bool) -> Iterator[str]:
    """Yield the names of functions or of classes that a module or class defines."""
    for name, value in tuple(_static.attributes(place.owner).items()):
        if type(name) is not str:
            continue
        if _static.is_class(value):
            if classes and (place.path or module_of(value) == place.module_name):
                yield name
        elif not classes and (is_traceable(value) or _static.is_callable(value)):
            own = any(f.__globals__ is _globals_of(place) for f in _functions(value))
            if place.path or own:
                yield name


def _is_nested(qualname: str, cls: type) -> bool:
    return "<locals>" in qualname or qualname.startswith(f"{class_names(cls)[0]}.")


def _names_of(place: _Place) -> set[object]:
    """Return the names under which the module of a place is known."""
    return {place.module_name, _globals_of(place).get("__name__")}


def _globals_of(place: _Place) -> Mapping[str, Any]:
    return _static.attributes(place.module)
