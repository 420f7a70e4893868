"""Instruments: metrics that code counts in directly, without a tracer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from hypertrace import suppress_tracing
from hypertrace.metrics.labels import Labeller
from hypertrace.metrics.recorders import PropsIndex
from hypertrace.timers import Timer

from .kinds import MAX_AGE, QUANTILES, Distribution, LastValue, Sum, Summary
from .lines import line_of_application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hypertrace.metrics.labels import Values
    from hypertrace.metrics.measurements import Workers
    from hypertrace.metrics.series import SeriesTable

    from .declared import Declared
    from .gauges import PullGauge, Read
    from .kinds import DeclaredMetric

_MOST_UNKNOWN = 100
"""Unknown labels of one instrument that are logged."""

_logger = logging.getLogger("hypertrace.metrics")

B = TypeVar("B")


class Instrument(Generic[B]):
    """One metric that code counts in. Any thread may use it; no thread waits.

    Labels are given by name. One that is left out is empty text. One that the metric does not have
    is ignored, and logged once. Any value becomes text, as that of a prop does. Amounts that are no
    finite numbers are counted in `hypertrace_invalid_values_total` and nowhere else. So no call
    raises for what it is given.

    Attributes:
        metric: what the metric is.
        table: its series.
        text: returns a value as the text of a label.
    """

    _bound: Callable[[Any], B]
    """Makes what counts in a series."""

    def __init__(self, metric: DeclaredMetric, table: SeriesTable[Any], labeller: Labeller) -> None:
        """Start without series.

        Args:
            metric: what the metric is.
            table: its series.
            labeller: makes the texts of labels.
        """
        self.metric: DeclaredMetric = metric
        self.table: SeriesTable[Any] = table
        self.text: Callable[[object], str] = labeller.text
        own = {name: name for name in metric.labels}
        labels = Labeller(own, labeller.max_length, object_ids=False)
        self._index: PropsIndex[B] = PropsIndex(labels, self._made, self._is_lasting)
        self._names = frozenset(metric.labels)
        self._overflowing: B | None = None
        self._unknown: set[str] = set()

    def __repr__(self) -> str:
        """Show the name and the labels."""
        return f"<{type(self).__name__} {self.metric.name!r}, labels {[*self.metric.labels]}>"

    def labels(self, /, **labels: object) -> B:
        """Return what counts with these labels: to be kept where much is counted.

        Args:
            labels: values by name.
        """
        return self._find(labels)

    def _find(self, labels: Mapping[str, object]) -> B:
        try:
            if not labels.keys() <= self._names:
                self._report(labels)
            return self._index.find(labels)
        except Exception:  # noqa: BLE001 -- names of a subclass of `str` may raise anything
            return self._index.find({str.__str__(name): text for name, text in labels.items()})

    def _made(self, texts: Values) -> B:
        series = self.table.get((texts, ()), line_of_application())
        if not self.table.is_overflow(series):
            return self._bound(series)
        if self._overflowing is None:
            self._overflowing = self._bound(series)
        return self._overflowing

    def _is_lasting(self, bound: B) -> bool:
        return bound is not self._overflowing

    def _report(self, labels: Mapping[str, object]) -> None:
        """Log each label once that the metric does not have."""
        for name in labels:
            if name in self._names or name in self._unknown or len(self._unknown) > _MOST_UNKNOWN:
                continue
            self._unknown.add(name)
            with suppress(Exception):  # a broken log handler must not cost a count
                suppress_tracing(
                    _logger.warning,
                    "%s has no label %r, which is ignored; it has %s",
                    self.metric.name,
                    name,
                    ", ".join(map(repr, self.metric.labels)) or "none",
                )


class BoundCounter:
    """A counter with certain labels.

    Attributes:
        inc: adds an amount, which is zero or more, or one: `inc()`, `inc(2)`. Runs in C.
    """

    __slots__ = ("inc",)

    inc: Callable[..., object]

    def __init__(self, series: Any) -> None:
        """Count in a series."""
        self.inc = series.add


class CounterInstrument(Instrument[BoundCounter]):
    """A sum that only rises; see `Instrument`."""

    _bound = BoundCounter

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """Add an amount.

        Args:
            amount: zero or more.
            labels: values by name.
        """
        self._find(labels).inc(amount)


class BoundGauge:
    """A gauge with certain labels.

    Attributes:
        set: sets the value. Runs in C.
        inc: adds an amount, or one, to the value: `inc()`, `inc(-2.5)`. Runs in C.
    """

    __slots__ = ("inc", "set")

    set: Callable[[float], object]
    inc: Callable[..., object]

    def __init__(self, series: Any) -> None:
        """Count in a series."""
        self.set = series.set
        self.inc = series.add

    def dec(self, amount: float = 1, /) -> None:
        """Take an amount from the value."""
        self.inc(_negative(amount))


class GaugeInstrument(Instrument[BoundGauge]):
    """A number that rises and falls; see `Instrument`."""

    _bound = BoundGauge

    def set(self, value: float, /, **labels: object) -> None:
        """Set the value.

        Args:
            value: any finite number.
            labels: values by name.
        """
        self._find(labels).set(value)

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """Add an amount to the value, or to 0 if there is none.

        Args:
            amount: any finite number.
            labels: values by name.
        """
        self._find(labels).inc(amount)

    def dec(self, amount: float = 1, /, **labels: object) -> None:
        """Take an amount from the value, or from 0 if there is none.

        Args:
            amount: any finite number.
            labels: values by name.
        """
        self._find(labels).inc(_negative(amount))


class BoundValues:
    """A distribution or summary with certain labels.

    Attributes:
        observe: adds a value: `observe(2.5)`. Runs in C.
    """

    __slots__ = ("observe",)

    observe: Callable[[float], object]

    def __init__(self, series: Any) -> None:
        """Count in a series."""
        self.observe = series.add

    def time(self) -> Timer:
        """Return a context manager and decorator that observes seconds; see `Timer`."""
        return Timer(self.observe)


class ValuesInstrument(Instrument[BoundValues]):
    """Values in buckets, or their quantiles; see `Instrument`."""

    _bound = BoundValues

    def observe(self, value: float, /, **labels: object) -> None:
        """Add a value.

        Args:
            value: any finite number.
            labels: values by name.
        """
        self._find(labels).observe(value)

    def time(self, /, **labels: object) -> Timer:
        """Return a context manager and decorator that observes seconds; see `Timer`.

        Args:
            labels: values by name.
        """
        return self._find(labels).time()


class Instruments:
    """Gives the instruments of a `Metrics`, which is a subclass.

    Asking for the same metric again gives the same instrument. Any thread may ask.
    """

    _declared: Declared

    def instrument(self, name: str) -> Instrument[Any] | None:
        """Return the instrument of a metric that was asked for before, None if there is none.

        Args:
            name: of the metric.
        """
        return self._declared.find(name)

    def counter(
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        description: str = "",
        unit: str = "",
        max_series: int | None = None,
    ) -> CounterInstrument:
        """Return a sum that only rises, and that code adds to: `counter(...).inc(2)`.

        Args:
            name: of the metric, ending in `_total`.
            tags: names of its labels.
            description: one sentence for people who read the metric.
            unit: of the amounts, as `bytes`; empty if they are counts.
            max_series: how many series are held at the most; None for as many as of each metric.

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: an argument that cannot be meant, or another metric has the name; the
                message shows how it differs.
        """
        options = _options(tags, description, unit, max_series)
        return self._declared.instrument(Sum(name, **options), CounterInstrument)

    @overload
    def gauge(
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        workers: Workers = "sum",
        description: str = "",
        unit: str = "",
        max_series: int | None = None,
    ) -> GaugeInstrument: ...

    @overload
    def gauge(
        self,
        name: str,
        tags: Mapping[str, object] | Iterable[str] = (),
        *,
        read: Read,
        workers: Workers = "sum",
        description: str = "",
        unit: str = "",
        max_series: int | None = None,
    ) -> PullGauge: ...

    def gauge(  # noqa: PLR0913 -- a setting each
        self,
        name: str,
        tags: Mapping[str, object] | Iterable[str] = (),
        *,
        read: Read | None = None,
        workers: Workers = "sum",
        description: str = "",
        unit: str = "",
        max_series: int | None = None,
    ) -> GaugeInstrument | PullGauge:
        """Return a number that rises and falls: one that code sets, or one that is read.

        With `read`, the function is called whenever the metrics are read, by any exporter, in a
        separate thread and in `hypertrace.suppress_tracing`. If it raises, or has not returned
        within 1.5 seconds, the gauge has no value, which is counted in
        `hypertrace_swallowed_errors_total` and logged. The object of a bound method is not kept:
        once it is gone, so is the gauge. Several gauges of one name may have different tags.

        Where workers share their counts, each reads its own gauges for the others every 5 seconds,
        and when it is read itself.

        Args:
            name: of the metric.
            tags: names of its labels. With `read`, a mapping from labels to values; or the names,
                if `read` returns a mapping.
            read: returns the value, or None if there is none now. If `tags` has names, it returns
                a mapping from values of the tag to numbers; from tuples, if there are several tags.
            workers: what is shown of the values of several workers that live: their `"sum"`,
                `"max"`, `"min"`, `"mean"`, the `"latest"`, or `"each"` with a label `worker`.
            description: one sentence for people who read the metric.
            unit: of the value, as `bytes`.
            max_series: how many series are held at the most; None for as many as of each metric.

        Returns:
            What sets the value; with `read`, the handle that removes the gauge.

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: an argument that cannot be meant; another metric has the name, and the
                message shows how it differs; or a gauge with these tags is read already.
        """
        names = list(tags) if isinstance(tags, Mapping) else tags
        if callable(tags):
            raise TypeError(f"a function that gives the value of a gauge is read=, not {tags!r}")
        if isinstance(tags, Mapping) and read is None:
            raise TypeError(
                f"tags of a gauge that code sets are names, as {names!r}, and get their values "
                f"where it is set; with read= they may be {tags!r}"
            )
        if read is not None:
            _check_read(read)
        options = _options(names, description, unit, max_series)
        metric = LastValue(name, workers=workers, **options)
        instrument = self._declared.instrument(metric, GaugeInstrument)
        return instrument if read is None else self._declared.read_gauge(instrument, read, tags)

    def distribution(  # noqa: PLR0913 -- a setting each
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        buckets: Sequence[float] | None = None,
        native: bool = False,
        description: str = "",
        unit: str = "",
        max_series: int | None = None,
    ) -> ValuesInstrument:
        """Return values in buckets, which code adds to: `distribution(...).observe(0.25)`.

        Args:
            name: of the metric.
            tags: names of its labels.
            buckets: upper bounds of the buckets, without infinity; None takes those of the
                `Metrics`, and then values are seconds.
            native: whether values are counted in exponential buckets, as native histograms.
            description: one sentence for people who read the metric.
            unit: of the values, as `bytes`.
            max_series: how many series are held at the most; None for as many as of each metric.

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: as `counter`.
        """
        options = _options(tags, description, unit, max_series)
        if buckets is None and not native and not unit:
            options["unit"] = "seconds"
        metric = Distribution(name, buckets=buckets, native=native, **options)
        return self._declared.instrument(metric, ValuesInstrument)

    def summary(  # noqa: PLR0913 -- a setting each
        self,
        name: str,
        tags: Iterable[str] = (),
        *,
        quantiles: Sequence[float] = QUANTILES,
        max_age: float = MAX_AGE,
        description: str = "",
        unit: str = "",
        max_series: int | None = None,
    ) -> ValuesInstrument:
        """Return quantiles of a sliding window of values: `summary(...).observe(0.25)`.

        Args:
            name: of the metric.
            tags: names of its labels.
            quantiles: those that are shown, from 0 to 1.
            max_age: seconds for which a value counts in them.
            description: one sentence for people who read the metric.
            unit: of the values, as `bytes`.
            max_series: how many series are held at the most; None for as many as of each metric.

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: as `counter`.
        """
        options = _options(tags, description, unit, max_series)
        metric = Summary(name, quantiles=quantiles, max_age=max_age, **options)
        return self._declared.instrument(metric, ValuesInstrument)


def given_by_code(event: object) -> None:
    """Stand for the values that code gives: a declaration of an instrument says so."""


def _options(
    tags: Iterable[str], description: str, unit: str, max_series: int | None
) -> dict[str, Any]:
    if isinstance(tags, Mapping):
        raise TypeError(
            f"tags of an instrument are names, as {[*tags]!r}, and get their values where code "
            f"counts; not {tags!r}"
        )
    if isinstance(tags, str):
        raise TypeError(f"tags of an instrument are names, as {[tags]!r}, not {tags!r}")
    return {
        "tags": tags,
        "value": given_by_code,
        "description": description,
        "unit": unit,
        "max_series": max_series,
    }


def _check_read(read: object) -> None:
    if not callable(read):
        raise TypeError(
            f"read must be a function without arguments that returns a number, not {read!r}"
        )
    if inspect.iscoroutinefunction(read) or inspect.isgeneratorfunction(read):
        raise TypeError(
            "read must be a plain function, which returns its result; "
            f"{read!r} is a coroutine or generator function"
        )


def _negative(amount: Any) -> Any:
    if type(amount) is bool:  # its negative would be a number
        return amount
    try:
        return -amount
    except Exception:  # noqa: BLE001 -- whatever a value of the application raises
        return None  # which is counted as invalid
