"""Stats: the calls of a StatsD client, counted in metrics that every exporter shows.

Code that uses `statsd.StatsClient` works with another import:
`from hypertrace.stats import Stats as StatsClient`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ._dispatch import get_trace_function
from ._in_use import metrics_of
from ._stat_names import (
    COUNTER,
    DECREMENTS,
    GAUGE,
    SET,
    TIMING,
    MappedNames,
    Names,
    names_in,
)
from .metrics import Metrics
from .statsd_mapping.yaml_files import stats_rules
from .timers import Timer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    Tags = Mapping[str, object] | None
    Config = Mapping[str, Any]

_MILLISECONDS = 1000.0

_F = TypeVar("_F", bound="Callable[..., Any]")


class Stats:
    """The calls of a StatsD client, for code that counts without tracers.

    Names become names of metrics: with the prefix, and `_` for each character that is no letter or
    digit; `_total` at the end of counters, `_seconds` of timings, `_distinct` of sets. Nothing is
    sampled: a `rate` is accepted, and every call counts. No call raises; one that cannot be counted
    is logged once. Any thread may call; no call waits, and there is no socket.

    With a mapping, parts of names become labels; see docs/statsd_mapping.md.
    """

    def __init__(
        self,
        prefix: str = "",
        metrics: Metrics | None = None,
        *,
        mapping: str | os.PathLike[str] | Config | Sequence[Config] | None = None,
    ) -> None:
        """Count nothing yet.

        Args:
            prefix: before all names, as `shop` or `shop.web`; a dot is added.
            metrics: where to count. None counts in those that are set as trace function, or read
                by the exporter that is; until then nothing is counted. So it can be made where a
                module is imported.
            mapping: rules of statsd_exporter, which make metrics with labels of names with dots:
                path of a file of YAML, which needs PyYAML; or what is in it, as a mapping or as the
                list of rules. None for no rules.

        Raises:
            TypeError: an argument of the wrong type, as the host that a StatsD client takes first.
            ValueError: a rule is wrong, or not possible in hypertrace. The message says which, and
                what to do.
            OSError: the file of the mapping cannot be read.
            ModuleNotFoundError: it is there, and PyYAML is not installed.
        """
        if not isinstance(prefix, str | None):
            raise TypeError(f"prefix must be a text, as 'shop', not {prefix!r}")
        if metrics is not None and not isinstance(metrics, Metrics):
            raise TypeError(
                f"metrics must be an instance of hypertrace.metrics.Metrics, not {metrics!r}; "
                "there is no host and port, since exporters send what is counted"
            )
        self._prefix = f"{prefix}." if prefix else ""
        self._metrics = metrics
        self._rules = None if mapping is None else stats_rules(mapping)
        self._found: tuple[object, list[Names | MappedNames]] = None, []
        if metrics is not None:
            self._found = None, [self._names_in(metrics)]

    def incr(self, stat: str, count: float = 1, rate: float = 1, tags: Tags = None) -> None:
        """Add to a counter.

        Args:
            stat: name of the counter, as `"orders.paid"`.
            count: to add. What is below zero is added to another counter, `..._decrements_total`,
                as counters only rise.
            rate: has no effect.
            tags: values of labels by name; the first call with a name says which labels there are.
        """
        kind = COUNTER
        if _is_below_zero(count):
            kind, count = DECREMENTS, _negative(count)
        for names in self._names():
            counter = names.child(kind, self._prefix, stat, tags)
            if counter is not None:
                counter.inc(count)

    def decr(self, stat: str, count: float = 1, rate: float = 1, tags: Tags = None) -> None:
        """Add to the counter of decrements; see `incr`."""
        self.incr(stat, _negative(count), rate, tags)

    def gauge(
        self,
        stat: str,
        value: float,
        rate: float = 1,
        delta: bool = False,
        tags: Tags = None,
    ) -> None:
        """Set a gauge, or change it.

        Args:
            stat: name of the gauge.
            value: to set.
            rate: has no effect.
            delta: whether the value is added to that before.
            tags: as in `incr`.
        """
        for names in self._names():
            gauge = names.child(GAUGE, self._prefix, stat, tags)
            if gauge is not None:
                (gauge.inc if delta else gauge.set)(value)

    def timing(
        self, stat: str, delta: float | timedelta, rate: float = 1, tags: Tags = None
    ) -> None:
        """Add a time to a distribution of seconds.

        Args:
            stat: name of the timing.
            delta: the time, in milliseconds or as a `timedelta`.
            rate: has no effect.
            tags: as in `incr`.
        """
        if issubclass(type(delta), timedelta):
            self._observe(stat, timedelta.total_seconds(delta), tags)  # type: ignore[arg-type]
        else:
            self._observe(stat, _seconds(delta), tags)

    def timer(self, stat: str, rate: float = 1, tags: Tags = None) -> StatTimer:
        """Return what times a block, or each call of a function; see `StatTimer`."""
        return StatTimer(lambda seconds: self._observe(stat, seconds, tags))

    def set(self, stat: str, value: object, rate: float = 1, tags: Tags = None) -> None:
        """Count the distinct values of the last minute, as a gauge.

        Up to 1 024 values are counted exactly; more are estimated, within some percent. Each worker
        counts its own, and their sum is shown. A StatsD exporter sends the values, too.

        Args:
            stat: name of the set.
            value: whose text is compared.
            rate: has no effect.
            tags: as in `incr`.
        """
        for names in self._names():
            values = names.child(SET, self._prefix, stat, tags)
            if values is not None:
                values.add(value)

    def pipeline(self) -> Pipeline:
        """Return a context manager with the same calls, which count at once."""
        return Pipeline(self)

    def close(self) -> None:
        """Do nothing: there is no socket."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _observe(self, stat: str, seconds: object, tags: Tags) -> None:
        for names in self._names():
            timing = names.child(TIMING, self._prefix, stat, tags)
            if timing is not None:
                timing.observe(seconds)

    def _names(self) -> Iterable[Names | MappedNames]:
        """Return where it counts."""
        function, found = self._found
        if self._metrics is not None:
            return found
        current = get_trace_function()
        if current is not function:
            found = [self._names_in(metrics) for metrics in metrics_of(current)]
            self._found = current, found
        return found

    def _names_in(self, metrics: Metrics) -> Names | MappedNames:
        names = names_in(metrics)
        return names if self._rules is None else MappedNames(names, self._rules)


class Pipeline(Stats):
    """A `Stats` whose block ends with `send()`, which does nothing: all was counted at once."""

    def __init__(self, stats: Stats) -> None:
        """Count where another one does."""
        self._stats = stats
        self._prefix = stats._prefix

    def send(self) -> None:
        """Do nothing."""

    def _names(self) -> Iterable[Names | MappedNames]:
        return self._stats._names()


class StatTimer(Timer):
    """Times a block, or each call of a function, as a context manager and decorator.

    Coroutines and generators are timed to their end. `start()` and `stop()` time what is no block.

    Attributes:
        ms: the milliseconds of the last block; None before its end.
    """

    def __init__(self, observe: Callable[[float], object]) -> None:
        """Time nothing yet; see `Timer`."""
        super().__init__(self._measured)
        self._send = observe
        self._seconds: float | None = None
        self._is_sent = False
        self.ms: float | None = None

    def __call__(self, function: _F) -> _F:
        """Return the function, with each call timed."""
        return Timer(self._send)(function)

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Start to time."""
        self.ms, self._seconds, self._is_sent = None, None, False
        super().__enter__()
        return self

    def stop(self, send: bool = True) -> Self:
        """End the time.

        Args:
            send: whether the time counts; otherwise `send()` counts it.

        Raises:
            RuntimeError: it was not started.
        """
        if self._began is None:
            raise RuntimeError("the timer has not started; call start() first")
        super().__exit__()
        if send:
            self.send()
        return self

    def send(self) -> None:
        """Count the time.

        Raises:
            RuntimeError: there is none, or it was counted.
        """
        if self._seconds is None:
            raise RuntimeError("the timer has no time; call start() and stop() first")
        if self._is_sent:
            raise RuntimeError("the time was counted already; call start() and stop() again")
        self._is_sent = True
        self._send(self._seconds)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _measured(self, seconds: float) -> None:
        self._seconds = seconds
        self.ms = _MILLISECONDS * seconds


def _is_below_zero(number: Any) -> bool:
    try:
        return bool(number < 0)
    except Exception:  # noqa: BLE001 -- whatever a value of the application raises
        return False


def _negative(number: Any) -> Any:
    if type(number) is bool:
        return number
    try:
        return -number
    except Exception:  # noqa: BLE001 -- as above
        return number


def _seconds(milliseconds: Any) -> Any:
    if type(milliseconds) is bool:
        return milliseconds
    try:
        return milliseconds / 1000
    except Exception:  # noqa: BLE001 -- as above
        return milliseconds  # which is counted as invalid
