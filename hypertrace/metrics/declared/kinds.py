"""Kinds of metrics that an application declares: counters, sums, gauges, distributions, summaries.

A declaration is checked when it is made, and immutable. `Metrics` records what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack, get_args

from hypertrace.metrics.declarations import CALLS, Declaration, check_metric_name
from hypertrace.metrics.labels import WORKER
from hypertrace.metrics.measurements import Workers
from hypertrace.patterns import EventPattern

from .paths import parsed
from .tags import checked_tag_values, checked_tags, shown_tag_values, shown_tags
from .units import Unit, checked_unit
from .values import TIMES, checked_number

if TYPE_CHECKING:
    from hypertrace import TraceEvent
    from hypertrace.metrics.declarations import Kind

    from .tags import GivenTagValues, Tags, TagValues

Predicate: TypeAlias = "Callable[[TraceEvent], object]"
Mode: TypeAlias = Literal["set", "add"]

MODES: tuple[Mode, ...] = get_args(Mode)
WORKERS: tuple[Workers, ...] = get_args(Workers)
QUANTILES = (0.5, 0.9, 0.99)
MAX_AGE = 600.0
_TOTAL = "_total"
_ORDER = ("of", "id", "tags", "tag_values", "value", "unit", "keep", "drop", "description")
"""Options in the order in which they are shown; the others follow."""
_ELSEWHERE = {
    "labels": "tags",
    "labelnames": "tags",
    "documentation": "description",
    "help": "description",
    "measurement": "value",
    "event": "of",
    "reporter_options": "buckets",
    "percentiles": "quantiles",
    "multiprocess_mode": "workers",
}
"""What other libraries call an option, and we."""


class Options(TypedDict, total=False):
    """The options of every kind; see `DeclaredMetric`."""

    of: str | None
    id: str | None
    tags: Iterable[str] | Mapping[str, str]
    tag_values: GivenTagValues | None
    value: str | Callable[[TraceEvent], object] | None
    unit: str | tuple[str, str]
    keep: Predicate | None
    drop: Predicate | None
    description: str
    max_series: int | None


class LastValueOptions(Options, total=False):
    """The options of `LastValue`."""

    mode: Mode
    workers: Workers


class DistributionOptions(Options, total=False):
    """The options of `Distribution`."""

    buckets: Sequence[float] | None
    buckets_above: Sequence[float]
    native: bool


class SummaryOptions(Options, total=False):
    """The options of `Summary`."""

    quantiles: Sequence[float]
    max_age: float


@dataclass(frozen=True, init=False, repr=False)
class DeclaredMetric(Declaration):
    """What one metric counts, of which events, by which tags. The base of the five kinds.

    Declarations can be compared and hashed, and `repr` of one without functions makes an equal one.
    Functions are called in `hypertrace.suppress_tracing`, in the thread that traces. If one raises,
    this is counted in `hypertrace_swallowed_errors_total` and logged, and the metric leaves the
    event out.

    Attributes:
        name: of the metric, as Prometheus shows it; `_total` ends that of a counter or sum.
        of: shell pattern on `Class.function`, as `"Cart.*"`, case-sensitive; None for all events.
        id: shell pattern on the trace id, which is `""` for events without one; None for all.
        tags: labels with the path of their values, as pairs. Given as names of props and facts, or
            as a mapping from labels to paths. A name is that of a fact (`class`, `function`,
            `file`, `id`, `result`, `exception`, `raised`), or of a prop: the call's, else the
            object's, else the parent's. `call.X`, `object.X`, `parent.X` look at one place.
        tag_values: how values become the texts of labels, as pairs of label, and function of the
            value or pairs of value and text. Given as a mapping from labels to functions or
            mappings. Values that a mapping does not have stay; absent ones (None) are empty text.
            A function must return the same for equal values: results may be remembered.
        value: the number of an event: the name or path of a prop, as in `tags`; `"duration"` or
            `"busy"` of a span, in seconds; or a function of the event. None or an absent value is
            no measurement. What is no finite number counts in `hypertrace_invalid_values_total`.
        unit: of the values as they are shown, as `bytes`. Given as a name, or a pair that converts,
            as `("milliseconds", "seconds")`.
        keep: function of the event; only events for which it returns something true are recorded.
        drop: function of the event; those for which it returns something true are not.
        description: one sentence for people who read the metric.
        max_series: how many series are held at the most; None for as many as the `Metrics` allows.
        labels: names of the labels.
        converted_from: the unit that values are converted from; empty without a conversion.
    """

    kind: Kind = field(init=False)
    description: str = ""
    labels: tuple[str, ...] = field(init=False, default=(), compare=False)
    of: str | None = None
    id: str | None = None
    tags: Tags = ()
    tag_values: TagValues = ()
    value: str | Callable[[TraceEvent], object] | None = None
    keep: Predicate | None = None
    drop: Predicate | None = None
    max_series: int | None = None
    converted_from: str = field(init=False, default="")

    def __init__(self, name: str, **options: Any) -> None:
        """Check the options, and declare the metric.

        Raises:
            TypeError: an option of the wrong type, or one that the kind does not have.
            ValueError: an option that cannot be meant; the message says why, and what to do.
        """
        kind = type(self).__name__
        known = {one.name: one.default for one in fields(self) if one.init and one.name != "name"}
        for option in options.keys() - known.keys():
            close = [_ELSEWHERE.get(option), *get_close_matches(option, known, 1)]
            meant = next((name for name in close if name in known), None)
            hint = f"did you mean {meant!r}? It takes" if meant else "it takes"
            raise TypeError(f"{kind} takes no {option!r}; {hint} {', '.join(known)}")
        given = known | options
        try:
            self._check(name, given)
        except (TypeError, ValueError) as error:
            raise _said_of(f"{kind} {name!r}", error) from None

    @property
    def options(self) -> dict[str, Any]:
        """The options that are not the defaults, as they could be given."""
        found: dict[str, Any] = {}
        for one in sorted(fields(self), key=_place):
            value = getattr(self, one.name)
            if one.init and one.name != "name" and value != one.default:
                found[one.name] = _SHOWN.get(one.name, _as_it_is)(value)
        if self.value in TIMES and self.unit == "seconds" and not self.converted_from:
            del found["unit"]
        return found

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({self.name!r}{options})"

    def _check(self, name: str, given: dict[str, Any]) -> None:
        """Check all options, and set the attributes."""
        self._check_name(name)
        EventPattern(given["of"], given["id"])  # raises what is wrong
        given["tags"] = tags = checked_tags(given["tags"])
        given["tag_values"] = checked_tag_values(given["tag_values"], tags)
        self._check_value(given["value"])
        given["unit"] = unit = _unit_of(given["value"], checked_unit(given["unit"]))
        for option in ("keep", "drop"):
            if given[option] is not None:
                _check_function(option, given[option])
        _check_text("description", given["description"])
        _check_max_series(given["max_series"])
        labels = tuple(label for label, _ in tags)
        self._set(name=name, labels=labels, converted_from=unit.source, **given)

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_name(self, name: str) -> None:
        check_metric_name("the name", name)
        if name.removesuffix(_TOTAL) == CALLS.name.removesuffix(_TOTAL):
            raise ValueError("the name is that of the built-in counter of calls; choose another")
        if self.kind == "counter" and not name.endswith(_TOTAL):
            raise ValueError(f"the name must end in '_total', as it only rises: '{name}_total'")
        if self.kind != "counter" and name.endswith(_TOTAL):
            raise ValueError(
                "the name ends in '_total', as only those of Counter and Sum do; "
                f"write '{name.removesuffix(_TOTAL)}'"
            )

    def _check_value(self, value: object) -> None:
        """Check where the numbers come from."""
        if value is None:
            raise TypeError(
                "value is missing: the name of a prop, as value='size', 'duration' or 'busy' of "
                "spans, or a function of the event; Counter counts events without one"
            )
        if callable(value):
            _check_function("value", value)
        elif not isinstance(value, str):
            raise TypeError(
                f"value must be the name of a prop, 'duration', 'busy', or a function of the "
                f"event, not {value!r}"
            )
        elif value not in TIMES and parsed(value, "value").scope == "fact":
            raise ValueError(
                f"value {value!r} is a fact, whose values are texts; a prop of this name is "
                f"'call.{value}', 'object.{value}' or 'parent.{value}'"
            )


@dataclass(frozen=True, init=False, repr=False)
class Counter(DeclaredMetric):
    """How many events there were.

        Counter("logins_total", of="Auth.login", tags=["result", "provider"])

    Takes the options of `DeclaredMetric`, without `value` and a conversion of units. What code
    counts without events is `Metrics.counter()`.
    """

    kind: Kind = field(init=False, default="counter")

    def __init__(self, name: str, **options: Unpack[Options]) -> None:
        """Declare a counter; see `DeclaredMetric`."""
        super().__init__(name, **options)

    def _check(self, name: str, given: dict[str, Any]) -> None:
        super()._check(name, given)
        if self.converted_from:
            raise ValueError(
                f"unit {_shown_unit(given['unit'])!r} converts values, and a Counter has none; "
                "Sum adds values"
            )

    def _check_value(self, value: object) -> None:
        if value is not None:
            raise TypeError(
                f"value {value!r} is not for a Counter, which counts events; Sum adds values"
            )


@dataclass(frozen=True, init=False, repr=False)
class Sum(DeclaredMetric):
    """Values of events added up, zero or more each.

        Sum("sent_bytes_total", of="Auth.*", value="size", unit="bytes")

    Takes the options of `DeclaredMetric`; `value` is needed. What code adds up without events is
    `Metrics.counter()`, too.
    """

    kind: Kind = field(init=False, default="counter")

    def __init__(self, name: str, **options: Unpack[Options]) -> None:
        """Declare a sum; see `DeclaredMetric`."""
        super().__init__(name, **options)


@dataclass(frozen=True, init=False, repr=False)
class LastValue(DeclaredMetric):
    """A number that rises and falls: the value of the last event, or values added. A gauge.

        LastValue("queue_depth", of="Queue.*", value="depth", workers="max")

    Takes the options of `DeclaredMetric`; `value` is needed. What code sets or shows without events
    is `Metrics.gauge()`.

    Attributes:
        mode: `"set"`: each value replaces the one before; `"add"`: it is added to it.
        workers: what is shown of the values of several workers. By default their `"sum"`, since
            most gauges are the worker's share of what the application has: connections, queued
            items, bytes. `"latest"` is the value that was set last, `"each"` gives each worker a
            series with the label `worker`.
    """

    kind: Kind = field(init=False, default="gauge")
    mode: Mode = "set"
    workers: Workers = "sum"

    def __init__(self, name: str, **options: Unpack[LastValueOptions]) -> None:
        """Declare a gauge; see `DeclaredMetric`."""
        super().__init__(name, **options)

    def _check(self, name: str, given: dict[str, Any]) -> None:
        _check_choice("mode", given["mode"], MODES)
        _check_choice("workers", given["workers"], WORKERS)
        super()._check(name, given)
        if self.workers == "each" and WORKER in self.labels:
            raise ValueError(
                "tags has the label 'worker', which workers='each' adds; give it another label, "
                "as {'job_worker': 'worker'}"
            )


@dataclass(frozen=True, init=False, repr=False)
class Distribution(DeclaredMetric):
    """Values counted in buckets, durations of spans by default. A histogram.

        Distribution("checkout_seconds", of="Shop.checkout", buckets=(0.1, 0.5, 2.5))

    Takes the options of `DeclaredMetric`. What code observes without events is
    `Metrics.distribution()`.

    Attributes:
        buckets: upper bounds of the buckets, in the unit that is shown, without infinity. None
            takes those of the `Metrics`, which are for seconds.
        buckets_above: more upper bounds: those of them that are above the ones of the `Metrics`.
        native: whether values are counted in exponential buckets, as native histograms, instead.
    """

    kind: Kind = field(init=False, default="histogram")
    value: str | Callable[[TraceEvent], object] | None = "duration"
    buckets: tuple[float, ...] | None = None
    buckets_above: tuple[float, ...] = ()
    native: bool = False

    def __init__(self, name: str, **options: Unpack[DistributionOptions]) -> None:
        """Declare a distribution; see `DeclaredMetric`."""
        super().__init__(name, **options)

    def bounds(self, usual: tuple[float, ...]) -> tuple[float, ...]:
        """Return the bounds of the buckets.

        Args:
            usual: those of the `Metrics`.
        """
        if self.buckets is not None:
            return self.buckets
        return usual + tuple(bound for bound in self.buckets_above if bound > usual[-1])

    def _check(self, name: str, given: dict[str, Any]) -> None:
        if not isinstance(given["native"], bool):
            raise TypeError(f"native must be True or False, not {given['native']!r}")
        if given["buckets_above"] != ():
            given["buckets_above"] = _checked_buckets("buckets_above", given["buckets_above"])
            if given["buckets"] is not None or given["native"]:
                raise ValueError("buckets_above goes with the buckets of the Metrics alone")
        if given["buckets"] is not None:
            given["buckets"] = _checked_buckets("buckets", given["buckets"])
            if given["native"]:
                raise ValueError(
                    "buckets excludes native=True: exponential buckets need no bounds; give one of "
                    "the two"
                )
        super()._check(name, given)
        if self.buckets is None and self.unit != "seconds" and not self.native:
            raise ValueError(
                "buckets is missing: those of the Metrics are for seconds; give buckets=(…), or "
                "native=True, which needs none"
            )


@dataclass(frozen=True, init=False, repr=False)
class Summary(DeclaredMetric):
    """Quantiles of the values of a sliding window, durations of spans by default.

        Summary("payload_bytes", of="Api.*", value="size", unit="bytes", quantiles=(0.5, 0.99))

    Takes the options of `DeclaredMetric`. What code observes without events is `Metrics.summary()`.

    Attributes:
        quantiles: those that are shown, from 0 to 1, ascending.
        max_age: seconds for which a value counts in them.
    """

    kind: Kind = field(init=False, default="summary")
    value: str | Callable[[TraceEvent], object] | None = "duration"
    quantiles: tuple[float, ...] = QUANTILES
    max_age: float = MAX_AGE

    def __init__(self, name: str, **options: Unpack[SummaryOptions]) -> None:
        """Declare a summary; see `DeclaredMetric`."""
        super().__init__(name, **options)

    def _check(self, name: str, given: dict[str, Any]) -> None:
        given["quantiles"] = _checked_quantiles(given["quantiles"])
        given["max_age"] = _checked_max_age(given["max_age"])
        super()._check(name, given)


def _said_of(subject: str, error: Exception) -> Exception:
    # Not its own class: some that derive from these two take other arguments.
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{subject}: {error}")


def _as_it_is(value: object) -> object:
    return value


def _shown_unit(unit: Unit) -> str | tuple[str, str]:
    return (unit.source, str(unit)) if unit.source else str(unit)


_SHOWN: dict[str, Callable[[Any], object]] = {
    "tags": shown_tags,
    "tag_values": shown_tag_values,
    "unit": _shown_unit,
}


def _place(one: Any) -> int:
    return _ORDER.index(one.name) if one.name in _ORDER else len(_ORDER)


def _unit_of(value: object, unit: Unit) -> Unit:
    """Return the unit of values, which is that of spans if they are durations."""
    if value not in TIMES:
        return unit
    if not unit:
        return Unit("seconds")
    if (unit.source or unit) != "seconds":
        raise ValueError(
            f"unit {_shown_unit(unit)!r}: {value!r} of a span is in seconds; leave unit out, or "
            "convert it, as unit=('seconds', 'milliseconds')"
        )
    return unit


def _check_function(option: str, function: object) -> None:
    if not callable(function):
        raise TypeError(f"{option} must be a function of the event or None, not {function!r}")
    for check in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction):
        if check(function):
            raise TypeError(
                f"{option} must be a plain function of the event, which returns its result; "
                f"{function!r} is a coroutine or generator function"
            )


def _check_text(option: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a str, not {value!r}")


def _check_max_series(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_series must be an int or None, not {value!r}")
    if value < 1:
        raise ValueError(f"max_series must be 1 or more, not {value}")


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if isinstance(value, str) and value in choices:
        return
    close = get_close_matches(value, choices, 1) if isinstance(value, str) else []
    hint = f"did you mean {close[0]!r}? It" if close else "it"
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{option} {value!r}: {hint} is one of {', '.join(map(repr, choices))}")


def _checked_numbers(option: str, values: object, example: str) -> list[float]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{option} must be several numbers, as {example}, not {values!r}")
    numbers = []
    for value in values:
        try:
            number = value if value == math.inf else checked_number(value)
        except (TypeError, ValueError) as error:
            raise _said_of(option, error) from None
        numbers.append(number)
    return numbers


def _checked_buckets(option: str, buckets: object) -> tuple[float, ...]:
    bounds = _checked_numbers(option, buckets, "(1, 10, 100)")
    if bounds and bounds[-1] == math.inf:
        del bounds[-1]
    if not bounds:
        raise ValueError(f"{option} has no bounds; leave it out, or give some, as (1, 10, 100)")
    for lower, upper in pairwise(bounds):
        if not lower < upper < math.inf:
            raise ValueError(
                f"{option} must ascend, and {upper!r} follows {lower!r}; infinity is added by "
                "itself"
            )
    return tuple(bounds)


def _checked_quantiles(quantiles: object) -> tuple[float, ...]:
    numbers = _checked_numbers("quantiles", quantiles, "(0.5, 0.99)")
    if not numbers:
        raise ValueError("quantiles is empty; leave it out, or give some, as (0.5, 0.99)")
    for number in numbers:
        if not 0 <= number <= 1:
            hint = f"; for percent write {number / 100:g}" if 1 < number <= 100 else ""  # noqa: PLR2004
            raise ValueError(f"quantiles must be from 0 to 1, not {number:g}{hint}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"quantiles has a number twice: {quantiles!r}; give each once")
    return tuple(sorted(numbers))


def _checked_max_age(max_age: object) -> float:
    try:
        seconds = checked_number(max_age)
    except (TypeError, ValueError) as error:
        raise _said_of("max_age is a number of seconds", error) from None
    if seconds <= 0:
        raise ValueError(f"max_age must be more than 0 seconds, not {max_age!r}")
    return seconds
