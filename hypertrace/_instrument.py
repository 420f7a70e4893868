"""Instrumentation: spans for functions that patterns name, without changing their source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _replacements
from ._endings import ErrorRules
from ._instrumentation import Instrumentation, handles
from ._name_patterns import NamePattern, has_signs
from ._paths import check_props

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._endings import Expected
    from ._paths import PropSource

_OWN_PACKAGE = __name__.partition(".")[0]


def instrument(  # noqa: PLR0913 -- a setting each
    target: str | Iterable[str],
    /,
    *,
    exclude: str | Iterable[str] = (),
    id: str | None = None,
    props: Mapping[str, Any] | None = None,
    prop_from: Mapping[str, PropSource] | None = None,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
) -> Instrumentation:
    """Make each call of functions or methods a span, without changing their source.

    Modules may be imported already, or later, and reloaded: their functions are traced as soon as
    their code has run. Nothing is imported, and no code of the application runs, while functions
    are looked for. A function that is already instrumented is
    not instrumented again; a function with two names is traced once. Any thread may call it.

    Args:
        target: a pattern, or several:

            - `shop` or `shop.**`: all functions and methods, properties and static and class
              methods of a package with all modules below it, or of a module; also private ones,
              but none like `__init__`;
            - `shop.cart:load`, `shop.cart:Cart.add`: one function or method;
            - `shop.cart:load_*`, `shop.cart:Cart.*`, `shop.**:*.save`: shell-style patterns. They
              match names that begin with an underscore only if they do so too, and names such as
              `__init__` only with two; `**` is any number of names with dots between them.

            A pattern matches what is defined in the modules that it names, and skips what cannot be
            traced there. An exact name is any callable.
        exclude: patterns of the same form, of what is not to be traced; the name of a class is all
            that is in it.
        id: the id of the spans.
        props: names and values that each span starts with.
        prop_from: as in `hypertrace.traced`. Functions that a pattern matches get the props of the
            parameters that they have; one that is named exactly must have all.
        expected: as there.
        error_if: as there.
        ok_if: as there.

    Returns:
        A handle; its `undo()` restores the originals, unless other code has replaced them since.

    Raises:
        ValueError: a pattern has another form, an exact name is not there, `prop_from` is wrong, or
            `exclude` names another package than the target.
            The message lists the names that exist. For a module that is imported later it is
            logged. A pattern that matches nothing is logged as a warning.
        ModuleNotFoundError: a module that is named without patterns does not exist.
        TypeError: an exact name cannot be traced, such as a method of a type written in C; a
            pattern is no `str`; or `props`, `prop_from` or a rule of what is an error is wrong, as
            in `hypertrace.traced`.
    """
    patterns = [NamePattern(text) for text in _several(target)]
    if not patterns:
        raise ValueError("instrument(): there is no target; write 'package.module:function'")
    excluded = [NamePattern(text, argument="exclude") for text in _several(exclude)]
    _check_excluded(patterns, excluded)
    for pattern in patterns:
        if pattern.module[0] == _OWN_PACKAGE:
            raise ValueError(f"instrument({pattern.text!r}): it cannot trace what traces")
    rules = ErrorRules(expected, error_if, ok_if)
    check_props(props, prop_from)
    options = {"id": id, "props": props, "prop_from": prop_from, "rules": rules}
    return Instrumentation(patterns, excluded, options)


class InstrumentedFunction(NamedTuple):
    """A function that `instrument` traces; immutable.

    Attributes:
        name: `package.module:Class.method`.
        patterns: the patterns that it was found by, of each handle that holds it.
        engine: what traces it: `closures` put a wrapper in its place.
    """

    name: str
    patterns: tuple[str, ...]
    engine: str


def instrumented() -> list[InstrumentedFunction]:
    """Return what `instrument` traces at this moment, each function once. Any thread may call it.

    What `@traced` decorates is not listed.
    """
    found: dict[int, InstrumentedFunction] = {}
    with _replacements.lock:
        for handle in handles:
            for hold in handle._all_holds():
                if not hold.is_effective:
                    continue
                key, pattern = id(hold.original), hold.definition.pattern.text
                one = found.get(key)
                if one is None:
                    name = hold.definition.name
                    found[key] = InstrumentedFunction(name, (pattern,), hold.engine)
                elif pattern not in one.patterns:
                    found[key] = one._replace(patterns=(*one.patterns, pattern))
    return list(found.values())


def _check_excluded(patterns: list[NamePattern], excluded: list[NamePattern]) -> None:
    """Raise a ValueError for what cannot be in any of the packages that are traced."""
    packages = {pattern.module[0] for pattern in patterns}
    for one in excluded:
        if not has_signs(one.module[:1]) and one.module[0] not in packages:
            raise ValueError(
                f"instrument(): exclude {one.text!r} is in none of the packages that are traced: "
                f"{', '.join(sorted(packages))}"
            )


def _several(given: Any) -> tuple[Any, ...]:
    # What cannot be iterated is refused as a pattern.
    is_one = isinstance(given, str) or not hasattr(given, "__iter__")
    return (given,) if is_one else tuple(given)
