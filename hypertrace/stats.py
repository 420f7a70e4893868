"""Stats: the calls of a StatsD client, counted in metrics that every exporter shows.

Code that uses `statsd.StatsClient` works with another import:
`from hypertrace.stats import Stats as StatsClient`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, ref

from ._dispatch import get_trace_function
from ._fan_out import receivers
from ._guard import suppress_tracing
from .inspection import type_name
from .metrics import Metrics
from .metrics.declared.instruments import CounterInstrument, GaugeInstrument, ValuesInstrument
from .metrics.distinct import DISTINCT, DistinctValues
from .metrics.labels import clean
from .timers import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from .metrics.declared.instruments import Instrument
    from .metrics.declared.kinds import DeclaredMetric
    from .protocols import TraceFunction

    Tags = Mapping[str, object] | None

_MOST_METRICS = 1_000
"""Metrics of one `Stats`; a name with an id in it would make any number of them."""
_MOST_LOGGED = 100
_MILLISECONDS = 1000.0

_F = TypeVar("_F", bound="Callable[..., Any]")

_logger = logging.getLogger("hypertrace.stats")


class Stats:
    """The calls of a StatsD client, for code that counts without tracers.

    Names become names of metrics: with the prefix, and `_` for each character that is no letter or
    digit; `_total` at the end of counters, `_seconds` of timings, `_distinct` of sets. Nothing is
    sampled: a `rate` is accepted, and every call counts. No call raises; one that cannot be counted
    is logged once. Any thread may call; no call waits, and there is no socket.
    """

    def __init__(self, prefix: str = "", metrics: Metrics | None = None) -> None:
        """Count nothing yet.

        Args:
            prefix: before all names, as `shop` or `shop.web`; a dot is added.
            metrics: where to count. None counts in those that are set as trace function, or read
                by the exporter that is; until then nothing is counted. So it can be made where a
                module is imported.

        Raises:
            TypeError: an argument of the wrong type, as the host that a StatsD client takes first.
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
        self._found: tuple[object, list[_Names]] = None, []
        if metrics is not None:
            self._found = None, [_names_in(metrics)]

    def incr(self, stat: str, count: float = 1, rate: float = 1, tags: Tags = None) -> None:
        """Add to a counter.

        Args:
            stat: name of the counter, as `"orders.paid"`.
            count: to add. What is below zero is added to another counter, `..._decrements_total`,
                as counters only rise.
            rate: has no effect.
            tags: values of labels by name; the first call with a name says which labels there are.
        """
        for names in self._names():
            names.count(self._prefix, stat, count, tags)

    def decr(self, stat: str, count: float = 1, rate: float = 1, tags: Tags = None) -> None:
        """Add to the counter of decrements; see `incr`."""
        for names in self._names():
            names.count(self._prefix, stat, _negative(count), tags)

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
            names.set_gauge(self._prefix, stat, value, tags, delta=delta)

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
            names.add(self._prefix, stat, value, tags)

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
            names.observe(self._prefix, stat, seconds, tags)

    def _names(self) -> Iterable[_Names]:
        """Return where it counts."""
        function, found = self._found
        if self._metrics is not None:
            return found
        current = get_trace_function()
        if current is not function:
            found = [_names_in(metrics) for metrics in _metrics_of(current)]
            self._found = current, found
        return found


class Pipeline(Stats):
    """A `Stats` whose block ends with `send()`, which does nothing: all was counted at once."""

    def __init__(self, stats: Stats) -> None:
        """Count where another one does."""
        self._stats = stats
        self._prefix = stats._prefix

    def send(self) -> None:
        """Do nothing."""

    def _names(self) -> Iterable[_Names]:
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


class _Names:
    """The metrics in one `Metrics`, by the names that code has for them."""

    def __init__(self, metrics: ref[Metrics]) -> None:
        self._metrics = metrics
        self._found: dict[tuple[str, ...], Any] = {}
        self._logged: set[str] = set()

    def count(self, prefix: str, stat: str, count: Any, tags: Tags) -> None:
        """Add to the counter of increments, or to that of decrements."""
        end = ""
        if _is_below_zero(count):
            end, count = "_decrements", _negative(count)
        counter = self._instrument(prefix, stat, f"{end}_total", tags)
        if counter is not None:
            counter.inc(count, **self._labels(tags))

    def set_gauge(self, prefix: str, stat: str, value: Any, tags: Tags, *, delta: bool) -> None:
        """Set a gauge, or add to it."""
        gauge = self._instrument(prefix, stat, "", tags)
        if gauge is not None:
            (gauge.inc if delta else gauge.set)(value, **self._labels(tags))

    def observe(self, prefix: str, stat: str, seconds: Any, tags: Tags) -> None:
        """Add to a distribution of seconds."""
        timing = self._instrument(prefix, stat, "_seconds", tags)
        if timing is not None:
            timing.observe(seconds, **self._labels(tags))

    def add(self, prefix: str, stat: str, value: object, tags: Tags) -> None:
        """Add to a set."""
        gauge = self._instrument(prefix, stat, DISTINCT, tags)
        if gauge is None:
            return
        texts = {name: gauge.text(label) for name, label in self._labels(tags).items()}
        labels = {name: texts.get(name, "") for name in gauge.metric.labels}
        key = (prefix + stat, "_values", *labels.values())
        found = self._found.get(key)
        if found is None and self._has_room(stat):
            found = self._shown(key, gauge.metric, labels)
        if found is not None:
            found.add(gauge.text(value))

    def _shown(
        self, key: tuple[str, ...], metric: DeclaredMetric, labels: dict[str, str]
    ) -> DistinctValues | None:
        """Return values that a gauge shows."""
        metrics, made = self._metrics(), DistinctValues()
        found = self._found.setdefault(key, made)
        if found is made and metrics is not None:
            try:
                about = metric.description
                metrics.gauge(metric.name, labels or (), read=made.count, description=about)
            except ValueError as error:  # code reads something else there
                self._ignore(f"{key[0]!r} cannot be counted: {error}")
        return found  # type: ignore[no-any-return]  # of this key

    def _instrument(self, prefix: str, stat: str, end: str, tags: Tags) -> Any:
        """Return what counts under a name, None if that is not possible."""
        if type(stat) is not str:
            self._ignore(f"a name is a text, not {type_name(stat)}")
            return None
        key = prefix + stat, end
        if key in self._found:
            return self._found[key]
        if not self._has_room(stat):
            return None
        return self._found.setdefault(key, self._made(*key, tags))

    def _made(self, stat: str, end: str, tags: Tags) -> Instrument[Any] | None:
        metrics, kind, labels = self._metrics(), _KINDS[end], [*self._labels(tags)]
        reason: object = None
        if metrics is None:  # it is just going
            return None
        for name in _metric_names(stat, end):
            for _ in range(2):  # another thread may be making it
                known = metrics.instrument(name)
                if type(known) is kind:
                    return known
                try:
                    return _declare(metrics, kind, name, labels, f"{stat}, by Stats.")
                except (TypeError, ValueError) as error:
                    reason = reason or error
        self._ignore(f"{stat!r} cannot be counted: {reason}")
        return None

    def _labels(self, tags: Tags) -> dict[str, object]:
        if tags is None:
            return {}
        try:
            return {clean(name): value for name, value in tags.items()}
        except Exception:  # noqa: BLE001 -- whatever is no mapping of texts
            self._ignore(f"tags map names of labels to values, not {type_name(tags)}")
            return {}

    def _has_room(self, stat: str) -> bool:
        if len(self._found) < _MOST_METRICS:
            return True
        self._ignore(
            f"{stat!r} is left out, since there are {_MOST_METRICS} names; give what differs as "
            "tags= and not in the name",
            once="names",
        )
        return False

    def _ignore(self, message: str, once: str = "") -> None:
        """Log a message once."""
        key = once or message
        if key not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(key)
            with suppress(Exception):  # a broken log handler must not reach the application
                suppress_tracing(_logger.warning, "%s", message)


def _declare(
    metrics: Metrics, kind: type, name: str, labels: list[str], description: str
) -> Instrument[Any]:
    if kind is CounterInstrument:
        return metrics.counter(name, labels, description=description)
    if kind is ValuesInstrument:
        return metrics.distribution(name, labels, description=description)
    return metrics.gauge(name, labels, description=description)


def _names_in(metrics: Metrics) -> _Names:
    """Return the names in some metrics, which all `Stats` that count there share."""
    return _all_names.get(metrics) or _all_names.setdefault(metrics, _Names(ref(metrics)))


def _metric_names(name: str, end: str) -> list[str]:
    """Return what a metric may be called: the first that Prometheus takes, and that is free."""
    cleaned = clean(name)
    if not cleaned or cleaned[0].isdigit():
        cleaned = f"_{cleaned}"
    ends = [end] if end else ["", "_value"]
    cleaned = cleaned.removesuffix(end)
    return [f"{start}{cleaned}{one}" for start in ("", "stats_") for one in ends]


def _metrics_of(function: TraceFunction | None) -> list[Metrics]:
    """Return the metrics that get the events of a trace function."""
    found = [] if function is None else receivers([function])
    return [one for one in found if isinstance(one, Metrics)]


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


_KINDS: dict[str, type[Instrument[Any]]] = {
    "": GaugeInstrument,
    DISTINCT: GaugeInstrument,
    "_seconds": ValuesInstrument,
    "_total": CounterInstrument,
    "_decrements_total": CounterInstrument,
}
"""What counts, by the end of a metric's name."""

_all_names: WeakKeyDictionary[Metrics, _Names] = WeakKeyDictionary()
