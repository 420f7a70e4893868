"""The text that Prometheus scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from .collector import CounterFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

_EOF = b"# EOF\n"


def render(registry: Collector, *, openmetrics: bool = False) -> bytes:
    """Return all metrics of a registry as text.

    The families of hypertrace are written here, from label texts that were rendered before; those
    of others by `prometheus_client`.

    Args:
        registry: what to collect from.
        openmetrics: write OpenMetrics 1.0 instead of the text format 0.0.4.

    Raises:
        Exception: whatever a collector of the application raises.
    """
    parts = [_text(family, openmetrics=openmetrics) for family in registry.collect()]
    return b"".join(parts) + (_EOF if openmetrics else b"")


def _text(family: Metric, *, openmetrics: bool) -> bytes:
    if isinstance(family, CounterFamily):
        return family.text(openmetrics=openmetrics).encode()
    alone = _Alone(family)
    if openmetrics:
        text: bytes = generate_openmetrics(alone)  # type: ignore[no-untyped-call]
        return text.removesuffix(_EOF)
    return generate_latest(alone)


class _Alone(Collector):
    """Stands for a registry of one family, which was collected already."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]
