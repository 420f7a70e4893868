"""Names: what metrics are called where they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, TypeVar

from .declarations import BUILT_IN, CALLS, SUFFIXES, check_counter_name, check_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .declarations import Declaration, Kind

    D = TypeVar("D", bound=Declaration)

_PARTS = {
    "histogram": ("", "_bucket", "_count", "_created", "_sum"),
    "summary": ("", "_count", "_created", "_sum"),
}
"""Ends of the names that a metric of a kind takes; others take their name alone."""


class Names:
    """Gives each metric of functions, and each declared one, the name under which it is shown.

    The metrics of the counting itself (`hypertrace_...`) keep their names. Immutable.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        names: Mapping[str, str] | None = None,
        counter_name: str = CALLS.name,
    ) -> None:
        """Know what is called differently.

        Args:
            prefix: of all names but those in `names`.
            names: by the name of a metric another one, without the prefix.
            counter_name: another name of the counter of calls, without the prefix.

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: Prometheus refuses a name, two metrics would have one, a metric is named
                twice, or there is none to be renamed. The message says which, and what to do.
        """
        check_counter_name(counter_name)
        _check_prefix(prefix)
        self._prefix = prefix
        self._renamed = _checked({} if names is None else names, prefix)
        if counter_name != CALLS.name:
            if CALLS.name in self._renamed:
                raise ValueError(
                    f"counter_name {counter_name!r} together with names[{CALLS.name!r}] "
                    f"{self._renamed[CALLS.name]!r}: both name the counter of calls; give one"
                )
            self._renamed[CALLS.name] = counter_name
        self.check()

    def of(self, name: str) -> str:
        """Return what a metric is shown as.

        Args:
            name: of the metric where it is declared.
        """
        return self._renamed.get(name) or self._prefix + name

    def shown(self, declaration: D) -> D:
        """Return a declaration with the name that is shown; itself where that is the same."""
        name = self.of(declaration.name)
        if name == declaration.name:
            return declaration
        shown = copy(declaration)
        # Not by dataclasses.replace(): a counter may be shown without the end that it is declared
        # with, for dashboards that ask for an old name.
        object.__setattr__(shown, "name", name)
        return shown

    def check(self, declared: Iterable[Declaration] = ()) -> None:
        """Check that metrics can be shown beside each other, and beside those of functions.

        Args:
            declared: the metrics, with the names that they are declared with.

        Raises:
            ValueError: two would be shown under one name, or one under a name that its kind cannot
                have. The message says which, and what to do.
        """
        taken: dict[str, Declaration] = {}
        for one in (*BUILT_IN, *declared):
            shown = self.of(one.name)
            if one.kind != "counter" and shown.endswith("_total"):
                raise ValueError(
                    f"{one.name!r} would be shown as {shown!r}, and only counters end in '_total'; "
                    "choose another name"
                )
            for name in _names_of(shown, one.kind):
                other = taken.setdefault(name, one)
                if other is not one:
                    raise ValueError(
                        f"{other.name!r} and {one.name!r} would both be shown as {name!r}; choose "
                        "another name for one of them"
                    )


def _names_of(name: str, kind: Kind) -> set[str]:
    """Return the names that a metric takes on a page, in the text format or in OpenMetrics."""
    if kind == "counter":
        family = name.removesuffix("_total")
        return {name, family, f"{family}_created"}
    if kind == "info":
        return {name, name.removesuffix("_info")}
    return {name + part for part in _PARTS.get(kind, ("",))}


def _check_prefix(prefix: object) -> None:
    if prefix == "":
        return
    check_name("prefix", prefix)
    if not str(prefix).endswith("_"):
        raise ValueError(
            f"prefix {prefix!r} would make '{prefix}{CALLS.name}'; let it end in '_': '{prefix}_'"
        )


def _checked(names: object, prefix: str) -> dict[str, str]:
    if not isinstance(names, Mapping):
        raise TypeError(
            "names must map names of metrics to others, "
            f'as {{"{CALLS.name}": "calls_total"}}, not {names!r}'
        )
    for name, other in names.items():
        _check_renamed(name, prefix)
        what = f"names[{name!r}]"
        check_name(what, other)
        if other.endswith(SUFFIXES):
            raise ValueError(
                f"{what} {other!r} ends like a part of a metric of another type "
                f"({', '.join(SUFFIXES)}); choose another end"
            )
    return dict(names)


def _check_renamed(name: object, prefix: str) -> None:
    """Check that there may be a metric to rename; declared ones may come later.

    Raises:
        TypeError: its name is no `str`.
        ValueError: there is none.
    """
    built_in = [one.name for one in BUILT_IN]
    check_name("the metric to rename,", name)
    if not isinstance(name, str) or name in built_in:
        return
    if prefix and name.removeprefix(prefix) in built_in:
        raise ValueError(f"names has {name!r} with its prefix; write {name.removeprefix(prefix)!r}")
    if name.startswith("function_"):
        raise ValueError(
            f"names has {name!r}, and no metric is called so; those of functions are "
            f"{', '.join(built_in)}"
        )
