"""Pattern on the names of functions: `package.module:Class.method`, with shell-style parts."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

ANY = "**"
"""Part of a pattern that stands for any number of parts of a name."""

_SIGNS = frozenset("*?[")
_MOST_NAMES = 4_096


class NamePattern:
    """Selects functions by their module and their path in it. Immutable.

    Parts are separated by dots, and are names or shell patterns: `*`, `?`, `[abc]`, `[!abc]`. They
    match names that begin with an underscore only if they do so too, and names such as `__init__`
    only with two. `**` matches any number of parts, also of private names, none like `__init__`.

    Attributes:
        text: the pattern as it was written.
        module: the parts before the colon; a module without a colon is it and all below it.
        path: the parts after the colon, `**` without one.
    """

    def __init__(self, text: str, *, argument: str = "target") -> None:
        """Make a pattern; the class describes it.

        Args:
            text: the pattern.
            argument: what it is for, for messages; only a `target` must name its package.

        Raises:
            TypeError: it is no `str`.
            ValueError: it has another form.
        """
        if not isinstance(text, str):
            raise TypeError(f"instrument(): {argument} must be a str or several, not {text!r}")
        self.text: str = text
        module, colon, path = text.partition(":")
        self.module: tuple[str, ...] = tuple(module.split("."))
        self.path: tuple[str, ...] = tuple(path.split(".")) if colon else (ANY,)
        if not colon and not has_signs(self.module):
            self.module += (ANY,)
        parts = self.module + self.path
        if ":" in path or not all(parts) or any(ANY in part and part != ANY for part in parts):
            raise ValueError(_form(argument, text))
        if argument == "target" and has_signs(self.module[:1]):
            raise ValueError(f"{_form(argument, text)}; the package must be named")
        self._is_module = lru_cache(_MOST_NAMES)(self._compare_module)

    @property
    def module_name(self) -> str | None:
        """The name of the only module it covers; None if it covers several."""
        return None if has_signs(self.module) else ".".join(self.module)

    @property
    def has_named_module(self) -> bool:
        """Whether what is before the colon is a name."""
        return not has_signs((self.text.partition(":")[0],))

    @property
    def package_name(self) -> str:
        """The name of the module that contains all others that it covers."""
        named = self.module
        while has_signs(named):
            named = named[:-1]
        return ".".join(named)

    @property
    def is_exact(self) -> bool:
        """Whether it names one function."""
        return not has_signs(self.path) and self.module_name is not None

    def covers(self, module: str) -> bool:
        """Whether functions of a module can match."""
        return self._is_module(module)

    def excludes(self, module: str, path: tuple[str, ...]) -> bool:
        """Whether it matches a function, or is the name of a class that contains it."""
        if not self.covers(module):
            return False
        lengths = [len(path)] if has_signs(self.path[-1:]) else range(1, len(path) + 1)
        return any(_matches(self.path, path[:length]) for length in lengths)

    def _compare_module(self, module: str) -> bool:
        return _matches(self.module, tuple(module.split(".")))


def has_signs(parts: tuple[str, ...]) -> bool:
    """Whether one of the parts stands for other names than itself."""
    return not all(_SIGNS.isdisjoint(part) for part in parts)


def part_matches(pattern: str, name: str) -> bool:
    """Whether one part of a pattern matches one part of a name."""
    if pattern == name:
        return True
    if name.startswith("__") and name.endswith("__"):
        return pattern.startswith("__") and fnmatchcase(name, pattern)
    if pattern == ANY:
        return True
    if name.startswith("_") and not pattern.startswith("_"):
        return False
    return fnmatchcase(name, pattern)


def _matches(pattern: tuple[str, ...], name: tuple[str, ...]) -> bool:
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == ANY and _matches(rest, name):
        return True
    if not name or not part_matches(first, name[0]):
        return False
    return _matches(pattern if first == ANY else rest, name[1:])


def _form(argument: str, text: str) -> str:
    return (
        f"instrument(): {argument} {text!r} is no pattern; write 'package.module:function', "
        "'package.module:Class.method' or 'package', with '*' for any name and '**' for all"
    )
