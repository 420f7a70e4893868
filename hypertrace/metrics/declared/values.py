"""Values of declared metrics: the number that an event measures."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from hypertrace import SpanEvent, suppress_tracing
from hypertrace.inspection import type_name

from .guard import FAILED, guarded
from .paths import Path, parsed
from .units import ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypertrace import TracedObject, TraceEvent

    from .kinds import DeclaredMetric

    Props = Mapping[str, object]

TIMES = ("duration", "busy")
"""What a span measures by itself, in seconds."""

INVALID = math.nan
"""The number of a value that is no finite one, or is negative and must not be. It is the only
number here that differs from itself."""

_LARGEST = sys.float_info.max
_TEXTS = (str, bytes, bytearray)
_BOOLS = frozenset({"bool", "bool_"})
"""Names of the classes of truth values, of Python and of numpy."""
_LITERALS = frozenset(map(id, (str, bytes, bool, type(None))))
"""Types by their ids: a metaclass may hash and compare as it likes."""


class Values:
    """Finds the number of each event for one metric. Immutable; any thread may use it.

    It never raises, but for what a function raises while the trace function is strict.

    Attributes:
        path: where the number is looked up; None if it is no prop.
        call_prop: name of the prop of a call that may have it; None if none may.
        is_timed: whether it is the `duration` or `busy` of a span: a `trace()` is no measurement.
        needs_event: whether it is made by a function of the event.
    """

    __slots__ = (
        "_divisor",
        "_factor",
        "_least",
        "_value",
        "call_prop",
        "is_timed",
        "needs_event",
        "path",
    )

    def __init__(self, metric: DeclaredMetric) -> None:
        """Find the numbers for a metric that has a value, which must not be negative for a sum."""
        value = metric.value
        self._value: Any = value
        self._least = 0.0 if metric.kind == "counter" else -_LARGEST
        self._factor, self._divisor = ratio(metric.converted_from, metric.unit)
        self.is_timed: bool = value in TIMES
        self.needs_event: bool = callable(value)
        is_prop = isinstance(value, str) and not self.is_timed
        self.path: Path | None = parsed(str(value), "value") if is_prop else None
        looks = self.path is not None and self.path.looks_in_call
        self.call_prop: str | None = self.path.name if looks and self.path else None

    def number_of(self, event: TraceEvent) -> float | None:
        """Return the number of an event, None if it is no measurement, `INVALID` if it is wrong."""
        if self.path is not None:
            return self.number(self.path.of_event(event))
        if not self.is_timed:
            return self.number(guarded(self._value, event))
        return self.number(getattr(event, self._value)) if isinstance(event, SpanEvent) else None

    def of_objects(self, traced: TracedObject, parent: TracedObject | None) -> object:
        """Return the value of events whose calls have none, None without one."""
        return None if self.path is None else self.path.of_objects(traced, parent)

    def number(self, value: object) -> float | None:
        """Return the number that a value is, converted; None and `INVALID` as `number_of` does."""
        if value is None or value is FAILED:
            return None
        kind = type(value)
        if kind is not float:
            try:
                value = _as_float(value)
            except Exception:  # noqa: BLE001 -- `__float__` of an application may raise anything
                return INVALID
        number = value * self._factor / self._divisor  # type: ignore[operator]  # a float
        return number if self._least <= number <= _LARGEST else INVALID


def checked_number(value: object) -> float:
    """Return a value as a finite float.

    Raises:
        TypeError: it is no number: a text, a truth value, or what `float()` refuses.
        ValueError: it is not finite, or too large for a float.
    """
    try:
        number = _as_float(value)
    except OverflowError:
        raise ValueError(f"a {type_name(value)} is too large for a float") from None
    except Exception as error:
        raise TypeError(f"{_shown(value)} is no number") from error
    if not math.isfinite(number):
        raise ValueError(f"{number!r} is not finite")
    return number


def _shown(value: object) -> str:
    # The `__repr__` of an application may do anything.
    return repr(value) if id(type(value)) in _LITERALS else f"a {type_name(value)}"


def _as_float(value: Any) -> float:
    """Return any number as a float; raises for all else, also whatever its `__float__` does."""
    kind = type(value)
    if kind is float or kind is int:
        return float(value)
    return suppress_tracing(_other_as_float, value)


def _other_as_float(value: Any) -> float:
    # A metaclass may run any code when it is asked for an attribute.
    kind = type(value)
    is_number = hasattr(kind, "__float__") or hasattr(kind, "__index__")
    if issubclass(kind, _TEXTS) or type_name(kind) in _BOOLS or not is_number:
        raise TypeError(f"{type_name(kind)} is no number")
    return float(value)
