"""Gauges, totals and sizes in all metrics that are in use: what is now, and what was so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypertrace import _dispatch
from hypertrace._failures import swallow
from hypertrace._in_use import metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypertrace.metrics import Metrics

    Add = Callable[..., object]

_MOST_KNOWN = 1_000
"""Values of labels that are remembered; beyond it, all are forgotten."""


class _Instrument:
    """A metric that code counts in, of each `Metrics` that gets the events."""

    def __init__(self, name: str, tags: tuple[str, ...], description: str) -> None:
        """Prepare for changes.

        Args:
            name: of the metric.
            tags: its labels.
            description: one sentence for people who read the metric.
        """
        self._name = name
        self._tags = tags
        self._description = description
        self._known: tuple[object, dict[tuple[str, ...], list[Add]]] = None, {}

    def adders(self, *values: str) -> list[Add]:
        """Return what adds to the series of some values, in each of the metrics in use now.

        Args:
            values: of the labels, in their order.
        """
        try:
            target, known = self._known
            current = _dispatch.target
            if current is not target or len(known) > _MOST_KNOWN:
                known = {}
                self._known = current, known
            found = known.get(values)
            if found is None:
                found = known[values] = self._made(values)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            return []
        return found

    def _made(self, values: tuple[str, ...]) -> list[Add]:
        labels = dict(zip(self._tags, values, strict=True))
        in_use = metrics_of(_dispatch.get_trace_function())
        return [self._adder(metrics, labels) for metrics in in_use]

    def _adder(self, metrics: Metrics, labels: dict[str, Any]) -> Add:
        """Return what adds to a series of one of the metrics."""
        raise NotImplementedError


class Gauge(_Instrument):
    """A gauge of each `Metrics` that gets the events, or none while tracing is off.

    Any thread may use it; nothing is raised. A change costs some 200 ns.
    """

    def enter(self, *values: str) -> Callable[[], None]:
        """Add 1, and return what takes it away again, in the same metrics.

        Args:
            values: of the labels, in their order.
        """
        adders = self.adders(*values)
        for add in adders:
            add(1)

        def leave() -> None:
            for add in adders:
                add(-1)

        return leave

    def _adder(self, metrics: Metrics, labels: dict[str, Any]) -> Add:
        gauge = metrics.gauge(self._name, self._tags, description=self._description)
        return gauge.labels(**labels).inc


class Total(_Instrument):
    """A counter of each `Metrics` that gets the events, or none while tracing is off.

    For what is added to often, as rows that are read one by one: `adders()` returns what adds an
    amount. Any thread may use it; nothing is raised.
    """

    def _adder(self, metrics: Metrics, labels: dict[str, Any]) -> Add:
        counter = metrics.counter(self._name, self._tags, description=self._description)
        return counter.labels(**labels).inc


class Sizes(_Instrument):
    """A distribution of bytes, in each `Metrics` that gets the events; none while tracing is off.

    Any thread may use it; nothing is raised.
    """

    def __init__(
        self, name: str, tags: tuple[str, ...], description: str, buckets: Sequence[float]
    ) -> None:
        """Prepare for sizes.

        Args:
            name: of the metric.
            tags: its labels.
            description: one sentence for people who read the metric.
            buckets: upper bounds, in bytes.
        """
        super().__init__(name, tags, description)
        self._buckets = buckets

    def add(self, size: int, *values: str) -> None:
        """Add a size.

        Args:
            size: in bytes.
            values: of the labels, in their order.
        """
        for observe in self.adders(*values):
            observe(size)

    def _adder(self, metrics: Metrics, labels: dict[str, Any]) -> Add:
        distribution = metrics.distribution(
            self._name,
            self._tags,
            buckets=self._buckets,
            unit="bytes",
            description=self._description,
        )
        return distribution.labels(**labels).observe
