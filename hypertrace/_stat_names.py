"""Names of stats: what counts in some metrics, by the names that code has for it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from ._guard import suppress_tracing
from .inspection import type_name
from .metrics import Metrics, Summary
from .metrics.declared.instruments import CounterInstrument, GaugeInstrument, ValuesInstrument
from .metrics.distinct import DISTINCT, DistinctValues
from .metrics.labels import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .metrics import Distribution
    from .metrics.declared.instruments import Instrument
    from .metrics.declared.kinds import DeclaredMetric
    from .statsd_mapping.rules import Match, MetricType, Rules

    Tags = Mapping[str, object] | None

MOST_METRICS = 1_000
"""Metrics of one `Metrics`; a name with an id in it would make any number of them."""

_MOST_MAPPED = 10_000
"""Names for which it is remembered what a mapping makes of them. Past it, all are forgotten."""
_MOST_LOGGED = 100

_logger = logging.getLogger("hypertrace.stats")


class Kind(NamedTuple):
    """A kind of calls.

    Attributes:
        name: of the kind.
        instrument: what counts them.
        metric_type: that rules of a mapping know it by.
        ends: of the names of metrics, the first that is possible is taken.
        mapped_ends: the same where the name is that of a mapping.
    """

    name: str
    instrument: type[Instrument[Any]]
    metric_type: MetricType
    ends: tuple[str, ...]
    mapped_ends: tuple[str, ...]


COUNTER = Kind("counter", CounterInstrument, "counter", ("_total",), ("_total",))
DECREMENTS = Kind(
    "decrements", CounterInstrument, "counter", ("_decrements_total",), ("_decrements_total",)
)
GAUGE = Kind("gauge", GaugeInstrument, "gauge", ("", "_value"), ("", "_value"))
TIMING = Kind("timing", ValuesInstrument, "observer", ("_seconds",), ("", "_seconds"))
SET = Kind("set", GaugeInstrument, "gauge", (DISTINCT,), (DISTINCT,))


class Names:
    """What counts in one `Metrics`, by names. Any thread may use it; nothing raises."""

    def __init__(self, metrics: ref[Metrics]) -> None:
        """Know no names yet."""
        self.metrics = metrics
        self._found: dict[tuple[str, ...], Any] = {}
        self._logged: set[str] = set()

    def child(self, kind: Kind, prefix: str, stat: str, tags: Tags) -> Any:
        """Return what counts a call; None if it cannot be counted, which is logged once.

        Args:
            kind: of the call.
            prefix: of the name, with its dot.
            stat: the name.
            tags: of the call.
        """
        if type(stat) is not str:
            self.ignore(f"a name is a text, not {type_name(stat)}")
            return None
        stat = prefix + stat
        key = kind.name, stat
        try:
            instrument = self._found[key]
        except KeyError:
            instrument = self.instrument(
                key,
                lambda: Wanted(stat, kind, kind.ends, [*self.labels(tags)], f"{stat}, by Stats."),
            )
        return None if instrument is None else self.labelled(kind, instrument, self.labels(tags))

    def instrument(self, key: tuple[str, ...], wanted: Callable[[], Wanted]) -> Any:
        """Return what counts under a name, None if that is not possible.

        Args:
            key: of the name.
            wanted: returns what is made if there is none yet.
        """
        if key in self._found:
            return self._found[key]
        if not self._has_room(key[1]):
            return None
        return self._found.setdefault(key, self._made(wanted()))

    def labelled(self, kind: Kind, instrument: Any, labels: Mapping[str, object]) -> Any:
        """Return what counts with some labels, None if that is not possible."""
        return self._set(instrument, labels) if kind is SET else instrument.labels(**labels)

    def labels(self, tags: Tags) -> dict[str, object]:
        """Return tags with names that labels can have."""
        if tags is None:
            return {}
        try:
            return {clean(name): value for name, value in tags.items()}
        except Exception:  # noqa: BLE001 -- whatever is no mapping of texts
            self.ignore(f"tags map names of labels to values, not {type_name(tags)}")
            return {}

    def ignore(self, message: str, once: str = "") -> None:
        """Log a message once."""
        key = once or message
        if key not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(key)
            with suppress(Exception):  # a broken log handler must not reach the application
                suppress_tracing(_logger.warning, "%s", message)

    def _set(self, gauge: GaugeInstrument, labels: Mapping[str, object]) -> _Set | None:
        """Return the values that a gauge shows."""
        texts = {name: gauge.text(label) for name, label in labels.items()}
        shown = {name: texts.get(name, "") for name in gauge.metric.labels}
        key = (gauge.metric.name, "_values", *shown.values())
        found = self._found.get(key)
        if found is None and self._has_room(gauge.metric.name):
            found = self._shown(key, gauge.metric, shown)
        return None if found is None else _Set(gauge, found)

    def _shown(
        self, key: tuple[str, ...], metric: DeclaredMetric, labels: dict[str, str]
    ) -> DistinctValues | None:
        metrics, made = self.metrics(), DistinctValues()
        found = self._found.setdefault(key, made)
        if found is made and metrics is not None:
            try:
                about = metric.description
                metrics.gauge(metric.name, labels or (), read=made.count, description=about)
            except ValueError as error:  # code reads something else there
                self.ignore(f"{key[0]!r} cannot be counted: {error}")
        return found  # type: ignore[no-any-return]  # of this key

    def _made(self, wanted: Wanted) -> Instrument[Any] | None:
        metrics = self.metrics()
        reason: object = None
        if metrics is None:  # it is just going
            return None
        for name in wanted.names:
            for _ in range(2):  # another thread may be making it
                known = metrics.instrument(name)
                if type(known) is wanted.kind.instrument:
                    return known
                try:
                    return wanted.declared(metrics, name)
                except (TypeError, ValueError) as error:
                    reason = reason or error
        self.ignore(f"{wanted.stat!r} cannot be counted: {reason}")
        return None

    def _has_room(self, stat: str) -> bool:
        if len(self._found) < MOST_METRICS:
            return True
        self.ignore(
            f"{stat!r} is left out, since there are {MOST_METRICS} names; give what differs as "
            "tags= and not in the name, or a mapping that makes labels of it",
            once="names",
        )
        return False


class Wanted(NamedTuple):
    """An instrument that is not there yet."""

    stat: str
    kind: Kind
    ends: tuple[str, ...]
    labels: list[str]
    description: str
    observer: Distribution | Summary | None = None
    """How timings are counted; None in the buckets of the metrics."""
    unit: str = "seconds"
    """Of timings."""

    @property
    def names(self) -> list[str]:
        """What the metric may be called: the first that Prometheus takes, and that is free."""
        cleaned = clean(self.stat)
        if not cleaned or cleaned[0].isdigit():
            cleaned = f"_{cleaned}"
        return [
            f"{start}{cleaned.removesuffix(end)}{end}"
            for start in ("", "stats_")
            for end in self.ends
        ]

    def declared(self, metrics: Metrics, name: str) -> Instrument[Any]:
        """Declare it under a name.

        Raises:
            TypeError: a label cannot be.
            ValueError: it is not possible under this name, or with these labels.
        """
        kind, labels, about = self.kind.instrument, self.labels, self.description
        if kind is CounterInstrument:
            return metrics.counter(name, labels, description=about)
        if kind is GaugeInstrument:
            return metrics.gauge(name, labels, description=about)
        observer, unit = self.observer, self.unit
        if isinstance(observer, Summary):
            quantiles, max_age = observer.quantiles, observer.max_age
            return metrics.summary(
                name, labels, quantiles=quantiles, max_age=max_age, description=about, unit=unit
            )
        buckets = None if observer is None else observer.buckets
        if buckets is None and not unit:
            buckets = metrics.buckets
        return metrics.distribution(name, labels, buckets=buckets, description=about, unit=unit)


class MappedNames:
    """What counts in one `Metrics`, by names of which rules make others, and labels.

    What the rules make of a name is remembered, with what counts it: a call finds it in one step.
    """

    def __init__(self, names: Names, rules: Rules) -> None:
        """Know no names yet.

        Args:
            names: of the same metrics, for names that no rule matches.
            rules: of the mapping.
        """
        self._names = names
        self._rules = rules
        self._found: dict[tuple[str, str], _Mapped | None] = {}

    def child(self, kind: Kind, prefix: str, stat: str, tags: Tags) -> Any:
        """Return what counts a call; see `Names.child`."""
        if type(stat) is not str:
            return self._names.child(kind, prefix, stat, tags)
        key = kind.name, prefix + stat
        try:
            mapped = self._found[key]
        except KeyError:
            mapped = self._new(key, kind, tags)
        if mapped is None:
            return self._names.child(kind, prefix, stat, tags)
        return mapped.child if tags is None else mapped.tagged(tags)

    def _new(self, key: tuple[str, str], kind: Kind, tags: Tags) -> _Mapped | None:
        match = self._rules.match(key[1], kind.metric_type)
        mapped = None if match is None else self._mapped(key, kind, match, tags)
        if len(self._found) >= _MOST_MAPPED:
            self._found.clear()
        self._found[key] = mapped
        return mapped

    def _mapped(self, key: tuple[str, str], kind: Kind, match: Match, tags: Tags) -> _Mapped | None:
        names, rule, name = self._names, match.rule, match.name
        if rule.name is None:
            return _Mapped(names, kind, None, match)
        if not name:
            names.ignore(f"{key[1]!r} gets no name by {rule.where}, and is counted without it")
            return None
        # With a third part: a name without a mapping has other ends.
        instrument_key = kind.name, name, "mapped"
        instrument = names.instrument(instrument_key, lambda: self._wanted(kind, match, tags))
        return _Mapped(names, kind, instrument, match)

    def _wanted(self, kind: Kind, match: Match, tags: Tags) -> Wanted:
        rules, rule, name = self._rules, match.rule, match.name
        labels = [*rules.labels_of(name, kind.metric_type), *self._names.labels(tags)]
        about = rules.help_of(name, kind.metric_type) or f"{name}, by Stats."
        unit = "seconds" if rule.scale == 1 else ""
        labels = [*dict.fromkeys(labels)]
        return Wanted(name, kind, kind.mapped_ends, labels, about, rule.observer, unit)


class _Mapped:
    """What a rule makes of one name, and what counts it."""

    def __init__(self, names: Names, kind: Kind, instrument: Any, match: Match) -> None:
        """Know what counts; without an instrument it is nothing."""
        self._names = names
        self._kind = kind
        self._instrument = instrument
        self._match = match
        self.child: Any = self._labelled(match.labels)

    def tagged(self, tags: Tags) -> Any:
        """Return what counts a call with tags."""
        labels, own = self._names.labels(tags), self._match.labels
        honored = self._match.rule.honor_labels
        return self._labelled({**own, **labels} if honored else {**labels, **own})

    def _labelled(self, labels: Mapping[str, object]) -> Any:
        if self._instrument is None:
            return None
        child = self._names.labelled(self._kind, self._instrument, labels)
        scale = self._match.rule.scale
        return child if scale == 1 or child is None else _Scaled(child, scale)


class _Scaled:
    """What counts values, each multiplied by a number."""

    def __init__(self, child: Any, scale: float) -> None:
        self._child = child
        self._scale = scale

    def inc(self, amount: Any) -> None:
        self._child.inc(self._scaled(amount))

    def set(self, value: Any) -> None:
        self._child.set(self._scaled(value))

    def observe(self, value: Any) -> None:
        self._child.observe(self._scaled(value))

    def add(self, value: object) -> None:
        self._child.add(value)  # of a set, where it is no number

    def _scaled(self, value: Any) -> Any:
        if type(value) is bool:
            return value
        try:
            return value * self._scale
        except Exception:  # noqa: BLE001 -- whatever a value of the application raises
            return value  # which is counted as invalid


class _Set(NamedTuple):
    """The distinct values that a gauge shows."""

    gauge: GaugeInstrument
    values: DistinctValues

    def add(self, value: object) -> None:
        self.values.add(self.gauge.text(value))


def names_in(metrics: Metrics) -> Names:
    """Return the names in some metrics, which all `Stats` that count there share."""
    return _all_names.get(metrics) or _all_names.setdefault(metrics, Names(ref(metrics)))


_all_names: WeakKeyDictionary[Metrics, Names] = WeakKeyDictionary()
