"""Gauges and totals in all metrics that are in use: what is under way now, and what was so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace._dispatch import get_trace_function
from hypertrace._failures import swallow
from hypertrace._fan_out import receivers
from hypertrace.metrics import CounterInstrument, GaugeInstrument, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MOST_KNOWN = 1_000
"""Values of labels that are remembered; beyond it, all are forgotten."""


class Gauge:
    """A gauge of each `Metrics` that gets the events, or none while tracing is off.

    Any thread may use it; nothing is raised. A change costs some 200 ns.
    """

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
        self._known: tuple[object, dict[tuple[str, ...], list[Callable[..., object]]]] = None, {}

    def enter(self, *values: str) -> Callable[[], None]:
        """Add 1, and return what takes it away again, in the same metrics.

        Args:
            values: of the labels, in their order.
        """
        adders = self._adders(values)
        for add in adders:
            add(1)

        def leave() -> None:
            for add in adders:
                add(-1)

        return leave

    def _adders(self, values: tuple[str, ...]) -> list[Callable[..., object]]:
        """Return what adds to the series of some values, in each of the metrics."""
        try:
            function, known = self._known
            current = get_trace_function()
            if current is not function or len(known) > _MOST_KNOWN:
                known = {}
                self._known = current, known
            found = known.get(values)
            if found is None:
                found = known[values] = self._made(values)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            return []
        return found

    def _made(self, values: tuple[str, ...]) -> list[Callable[..., object]]:
        labels = dict(zip(self._tags, values, strict=True))
        current = get_trace_function()
        found = [] if current is None else receivers([current])
        instruments = [self._instrument(one) for one in found if isinstance(one, Metrics)]
        return [instrument.labels(**labels).inc for instrument in instruments]

    def _instrument(self, metrics: Metrics) -> CounterInstrument | GaugeInstrument:
        return metrics.gauge(self._name, self._tags, description=self._description)


class Total(Gauge):
    """A counter of each `Metrics` that gets the events, or none while tracing is off.

    For what is added to often, as rows that are read one by one. Any thread may use it; nothing is
    raised.
    """

    def adders(self, *values: str) -> Sequence[Callable[..., object]]:
        """Return what adds an amount, in each of the metrics that are in use now.

        Args:
            values: of the labels, in their order.
        """
        return self._adders(values)

    def _instrument(self, metrics: Metrics) -> CounterInstrument:
        return metrics.counter(self._name, self._tags, description=self._description)
