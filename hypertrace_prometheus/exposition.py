"""The text that Prometheus scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from .families import SeriesFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

_EOF = b"# EOF\n"
_LINES_AT_ONCE = 5_000


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
    parts: list[bytes] = []
    for family in registry.collect():
        if isinstance(family, SeriesFamily):
            parts += _encoded(family.lines(openmetrics=openmetrics))
        else:
            parts.append(_text(family, openmetrics=openmetrics))
    return b"".join([*parts, _EOF if openmetrics else b""])


def _encoded(lines: list[str]) -> Iterator[bytes]:
    # Piece by piece: other threads wait as long as a single step takes.
    for start in range(0, len(lines), _LINES_AT_ONCE):
        yield "".join(lines[start : start + _LINES_AT_ONCE]).encode()


def _text(family: Metric, *, openmetrics: bool) -> bytes:
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
