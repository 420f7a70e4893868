"""Units of declared metrics: their names, and the ratios that convert between them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_FAMILIES = (
    {
        "nanoseconds": 1,
        "microseconds": 10**3,
        "milliseconds": 10**6,
        "seconds": 10**9,
        "minutes": 60 * 10**9,
        "hours": 3600 * 10**9,
        "days": 86400 * 10**9,
    },
    {
        "bytes": 1,
        "kilobytes": 1000,
        "megabytes": 1000**2,
        "gigabytes": 1000**3,
        "terabytes": 1000**4,
        "kibibytes": 1024,
        "mebibytes": 1024**2,
        "gibibytes": 1024**3,
        "tebibytes": 1024**4,
    },
    {"percent": 1, "ratio": 100},
)
"""Units that convert into each other, each as a multiple of the smallest one."""
_KNOWN = {name: family for family in _FAMILIES for name in family}
_SHORT = {
    "ns": "nanoseconds",
    "us": "microseconds",
    "ms": "milliseconds",
    "s": "seconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "B": "bytes",
    "kB": "kilobytes",
    "KB": "kilobytes",
    "MB": "megabytes",
    "GB": "gigabytes",
    "TB": "terabytes",
    "KiB": "kibibytes",
    "MiB": "mebibytes",
    "GiB": "gibibytes",
    "TiB": "tebibytes",
}
"""What is not taken, as Prometheus wants whole names."""
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Unit(str):  # noqa: SLOT000 -- it has an attribute
    """Name of a unit that values are converted to.

    It is kept as `unit` of a metric, so that `dataclasses.replace` keeps the conversion.

    Attributes:
        source: the unit that values are converted from; empty without a conversion.
    """

    source: str

    def __new__(cls, name: str, source: str = "") -> Self:
        """Make the name of a unit."""
        unit = super().__new__(cls, name)
        unit.source = source
        return unit


def checked_unit(unit: object) -> Unit:
    """Return a unit, or a pair of units between which values are converted, as a `Unit`.

    Raises:
        TypeError: it is neither a text nor a pair of texts.
        ValueError: Prometheus refuses the name, it is a known one misspelt, or nothing converts
            from the first unit to the second.
    """
    if isinstance(unit, Unit):
        return unit
    if isinstance(unit, str):
        return Unit(_checked_name(unit))
    if not isinstance(unit, tuple | list) or len(unit) != 2:  # noqa: PLR2004 -- a pair
        raise TypeError(
            "unit must be a text, as 'bytes', or a pair that converts, as "
            f"('milliseconds', 'seconds'), not {unit!r}"
        )
    source, target = map(_known, unit)
    family = _KNOWN[source]
    if target not in family:
        raise ValueError(
            f"unit {unit!r}: {source} cannot be converted to {target}, but to "
            f"{', '.join(name for name in family if name != source)}"
        )
    return Unit(target, "" if source == target else source)


def ratio(source: str, target: str) -> tuple[float, float]:
    """Return what a number is multiplied with, and then divided by, to convert it.

    Both are whole, so the result is the nearest float if one of them is 1.
    """
    if not source:
        return 1.0, 1.0
    family = _KNOWN[source]
    up, down = family[source], family[target]
    common = gcd(up, down)
    return float(up // common), float(down // common)


def _checked_name(unit: str) -> str:
    if unit and not _NAME.fullmatch(unit):
        raise ValueError(
            f"unit {unit!r} is no unit that Prometheus takes: it takes letters, digits and '_', "
            "and no digit first"
        )
    close = None if unit in _KNOWN else _close(unit, 0.85)
    if close:
        raise ValueError(f"unit {unit!r}: did you mean {close!r}?")
    return str.__str__(unit)


def _close(unit: str, likeness: float) -> str | None:
    """Return the unit that a misspelt or short name means, None if it may be another one."""
    return _SHORT.get(unit) or next(iter(get_close_matches(unit, _KNOWN, 1, likeness)), None)


def _known(unit: object) -> str:
    if not isinstance(unit, str):
        raise TypeError(f"unit: a pair must be two names of units (str), not {unit!r}")
    if unit not in _KNOWN:
        close = _close(unit, 0.6)
        hint = f"did you mean {close!r}? Those" if close else "those"
        raise ValueError(
            f"unit {unit!r} cannot be converted: {hint} that can are {', '.join(_KNOWN)}"
        )
    return str.__str__(unit)
