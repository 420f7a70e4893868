"""Declared: the metrics that are declared for one `Metrics`, and their series."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from hypertrace._dispatch import rebind
from hypertrace._failures import swallow
from hypertrace.forks import after_fork_in_child
from hypertrace.metrics.series_kinds import (
    COUNT_SERIES,
    exponential_series,
    gauge_series,
    histogram_series,
    number_series,
    summary_series,
)
from hypertrace.metrics.tables import read_table

from .feeds import Feed
from .gauges import PullGauge, PullGauges
from .instruments import Instrument
from .kinds import Counter, Distribution, LastValue, Sum, Summary
from .registry import additions, difference, family_name
from .values import checked_number

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from hypertrace import TracedObject, TraceEvent
    from hypertrace.metrics.exponential_series import Exponential
    from hypertrace.metrics.labels import Labeller, Values
    from hypertrace.metrics.measurements import ValueHistogram
    from hypertrace.metrics.names import Names
    from hypertrace.metrics.reading import Family
    from hypertrace.metrics.series import SeriesKind, SeriesTable
    from hypertrace.metrics.storage import Storage, View
    from hypertrace.metrics.tables import Usage

    from .gauges import Read
    from .kinds import DeclaredMetric

Asked = TypeVar("Asked", bound=Instrument[Any])

_MOST_SITES = 1_000
"""Call sites of events without recorders for which the metrics are remembered."""
_MOST_KEYS = 10_000
"""Tracers with different props of tags that share recorders."""
_SAMPLED = {"histogram", "exponential"}
"""Kinds of series whose single values may be kept."""


class Declared:
    """The declared metrics of one `Metrics`. Any thread may use it; no thread that traces waits.

    Attributes:
        gauges: those that are read from the application.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        storage: Storage,
        labeller: Labeller,
        *,
        max_series: int,
        bounds: tuple[float, ...],
        names: Names,
        count_invalid: Callable[[str], object],
    ) -> None:
        """Start without metrics.

        Args:
            storage: where the numbers are kept.
            labeller: makes the texts of labels.
            max_series: of each metric that says nothing else.
            bounds: of the buckets of distributions that have none.
            names: gives metrics the names under which they are shown.
            count_invalid: is called for each value that is no number, with the name under which its
                metric is shown.
        """
        self._storage = storage
        self._labeller = labeller
        self._max_series = max_series
        self._bounds = bounds
        self._names = names
        self._count_invalid = lambda name: count_invalid(names.of(name))
        self._feeds: dict[str, Feed] = {}
        self._instruments: dict[str, Instrument[Any]] = {}
        self.gauges: PullGauges = PullGauges(storage)
        # Also those of metrics that are not declared any more.
        self._tables: dict[Hashable, SeriesTable[Any]] = {}
        self._sites: dict[Hashable, tuple[Feed, ...]] = {}
        self._keys: set[Hashable] = set()
        self._is_stale = False

    def check(self, metrics: Iterable[DeclaredMetric]) -> list[DeclaredMetric]:
        """Return those of some metrics that are not declared yet.

        Raises:
            TypeError: one is no declared metric.
            ValueError: another metric has the name, or would be shown under it.
        """
        added = checked(metrics, {name: feed.metric for name, feed in self._feeds.items()})
        for metric in added:
            if family_name(metric.name) in self._instruments:
                raise ValueError(
                    f"{metric.name} is an instrument already, that code counts in; give one of "
                    "them another name"
                )
        self._check_names(added)
        return added

    def instrument(self, metric: DeclaredMetric, kind: type[Asked]) -> Asked:
        """Return what code counts in directly, the same one each time.

        Args:
            metric: what it counts.
            kind: of the instrument.

        Raises:
            ValueError: another metric has the name.
        """
        name = family_name(metric.name)
        with _lock:
            known = self._instruments.get(name)
            if known is not None:
                if type(known) is kind and known.metric == metric:
                    return known
                raise ValueError(
                    f"{metric.name} is there already, and differs: "
                    f"{difference(known.metric, metric)}; give one of them another name"
                )
            if name in self._feeds:
                raise ValueError(
                    f"{metric.name} is declared already, and counts events: "
                    f"{self._feeds[name].metric!r}; give one of them another name"
                )
            self._check_names([metric])
            made = kind(metric, self._table_of(metric), self._labeller)
            self._instruments[name] = made
            return made

    def read_gauge(
        self,
        instrument: Instrument[Any],
        read: Read,
        tags: Mapping[str, object] | Iterable[str],
        kind: type[PullGauge] = PullGauge,
    ) -> PullGauge:
        """Read a gauge, or a counter, from now on.

        Args:
            instrument: has its series.
            read: returns the values.
            tags: values of its labels; or their names, if `read` returns a mapping.
            kind: of what reads: `PullGauge` or `PullCounter`.

        Raises:
            ValueError: a gauge with these tags is read already.
        """
        texts: Values | None = None if instrument.metric.labels else ()
        if isinstance(tags, Mapping):
            values = tags.values()
            texts = tuple("" if value is None else instrument.text(value) for value in values)
        return self.gauges.add(instrument, read, texts, kind)

    def find(self, name: str) -> Instrument[Any] | None:
        """Return an instrument by the name of its metric, None if there is none."""
        found = self._instruments.get(family_name(name))
        return found if found is not None and found.metric.name == name else None

    def declare(self, metrics: Iterable[DeclaredMetric]) -> None:
        """Record some metrics from the next event of each call site on.

        Raises:
            TypeError: one is no declared metric.
            ValueError: another metric has the name. Then none of them is declared.
        """
        with _lock:
            feeds = {
                family_name(metric.name): Feed(
                    metric, self._table_of(metric), self._labeller, self._count_invalid
                )
                for metric in self.check(metrics)
            }
            if feeds:
                self._is_stale = True
                self._feeds.update(feeds)
            self._renew()

    def undeclare(self, name: str) -> None:
        """Record a metric no more, and leave it out of readings.

        Raises:
            LookupError: none of this name is declared.
        """
        with _lock:
            feed = self._feeds.get(family_name(name))
            if feed is None or feed.metric.name != name:
                names = ", ".join(feed.metric.name for feed in self._feeds.values())
                raise LookupError(f"no metric {name!r} is declared; there are {names or 'none'}")
            self._is_stale = True
            del self._feeds[family_name(name)]
            self._renew()

    def feeds_of(self, event: TraceEvent) -> tuple[Feed, ...]:
        """Return what records the events of an event's call site; empty for most."""
        if not self._feeds:
            return ()
        key = event.object.class_name, event.caller.function_name, event.id
        is_plain = all(type(part) is str or part is None for part in key)
        sites = self._sites  # before the metrics are read: a change of these replaces it
        found = sites.get(key) if is_plain else None
        if found is None:
            found = tuple(feed for feed in self._feeds.copy().values() if _matches(feed, event))
            if is_plain:
                if len(sites) >= _MOST_SITES:
                    sites.clear()
                sites[key] = found
        return found

    def share_key(
        self, key: Hashable, traced: TracedObject, parent: TracedObject | None
    ) -> Hashable:
        """Return a key that is equal for tracers whose events are recorded in the same way.

        Args:
            key: the same for the built-in metrics.
            traced: the object of the tracer.
            parent: its parent.

        Returns:
            None if the tracer can share no recorders.
        """
        feeds = [feed for feed in self._feeds.copy().values() if feed.may_take(traced.class_name)]
        keys = [feed.key_of(traced, parent) for feed in feeds]
        if not keys or None in keys:
            return None if keys else key
        full = key, *keys
        if full not in self._keys:
            # What is bound for this tracer must not outlive it if there may be many such.
            if len(self._keys) >= _MOST_KEYS or any(feed.table.is_full for feed in feeds):
                return None
            self._keys.add(full)
        return full

    def histograms(self) -> Iterator[ValueHistogram | Exponential]:
        """Return the series of distributions."""
        for table in self._tables.copy().values():
            if table.kind.name in _SAMPLED:
                yield from table.all()

    def read(self, view: View) -> tuple[list[Family], list[Usage]]:
        """Return the families of a view, and how much room each metric takes."""
        sources: list[Feed | Instrument[Any]]
        sources = [*self._feeds.copy().values(), *self._instruments.copy().values()]
        read = [read_table(source.table, view) for source in sources]
        return [family for family, _ in read], [usage for _, usage in read]

    def _table_of(self, metric: DeclaredMetric) -> SeriesTable[Any]:
        limit = self._max_series if metric.max_series is None else metric.max_series
        kind = self._kind_of(metric)
        names = metric.labels, ()
        key = metric.name, metric.labels, limit, metric.description, metric.unit, kind
        if key not in self._tables:
            self._tables[key] = self._storage.table(self._names.shown(metric), limit, names, kind)
        return self._tables[key]

    def _kind_of(self, metric: DeclaredMetric) -> SeriesKind[Any]:
        if isinstance(metric, Counter):
            return COUNT_SERIES
        # For instruments; values of events are converted before.
        least = 0.0 if isinstance(metric, Sum) else -math.inf
        convert = partial(_converted, self._count_invalid, metric.name, least)
        if isinstance(metric, Sum):
            return number_series(convert)
        if isinstance(metric, LastValue):
            return gauge_series(metric.workers, convert)
        if isinstance(metric, Summary):
            return summary_series(metric.quantiles, metric.max_age, convert)
        if isinstance(metric, Distribution) and metric.native:
            return exponential_series(convert=convert)
        if isinstance(metric, Distribution):
            return histogram_series(metric.bounds(self._bounds), convert)
        raise TypeError(f"{metric!r} cannot be recorded")

    def _check_names(self, added: Iterable[DeclaredMetric]) -> None:
        """Check that metrics can be shown beside all that are there."""
        of_events = [feed.metric for feed in self._feeds.values()]
        counted = [instrument.metric for instrument in self._instruments.values()]
        self._names.check([*of_events, *counted, *added])

    def _renew(self) -> None:
        # In the lock: another thread that declares the same returns when it is in force. So does
        # this one, if it declares again what was interrupted before.
        if self._is_stale:
            self._sites = {}
            self._keys = set()
            rebind()
            self._is_stale = False


def _converted(
    count_invalid: Callable[[str], object], name: str, least: float, value: object
) -> float | None:
    """Return the number that a value is; None if it is none, which is counted."""
    with suppress(Exception):  # whatever a value of the application raises
        number = checked_number(value)
        if number >= least:
            return number
    count_invalid(name)
    return None


def checked(
    metrics: Iterable[DeclaredMetric], known: Mapping[str, DeclaredMetric]
) -> list[DeclaredMetric]:
    """Return the metrics that are not known, each once.

    Args:
        metrics: to declare.
        known: those that are declared, by the names of their families.

    Raises:
        TypeError: they are no declared metrics.
        ValueError: another metric has the name of one.
    """
    if not isinstance(metrics, Iterable):
        raise TypeError(
            f"declared must be a list of metrics, as [Counter('logins_total')], not {metrics!r}"
        )
    return additions(known, metrics)


def _matches(feed: Feed, event: TraceEvent) -> bool:
    try:
        return feed.matches(event)
    except Exception as error:  # noqa: BLE001 -- the text of an id may raise anything
        swallow(error, feed.metric)
        return False


_lock = RLock()
"""For changes of what is declared."""


def _renew_lock() -> None:
    # A thread that is not in the child may hold the old one.
    global _lock  # noqa: PLW0603 -- the state of the process
    _lock = RLock()


after_fork_in_child(_renew_lock)
