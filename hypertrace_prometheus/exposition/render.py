"""The text that Prometheus scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .collection import collect
from .families import FamilyMetric
from .sections import EOF, Section, sections_of, with_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from .collection import Harvest
    from .failures import Fail

Part: TypeAlias = "FamilyMetric | Section"

_LINES_AT_ONCE = 5_000


def render(
    registry: Collector,
    *,
    openmetrics: bool = False,
    names: frozenset[str] = frozenset(),
    bounded: bool = False,
) -> bytes:
    """Return all metrics of a registry as text.

    The families of hypertrace are written here, from label texts that were rendered before; those
    of others by `prometheus_client`, and then checked. What another collector raises, gives twice
    or gives in a way that cannot be written is left out, counted and logged: see `Failures`.

    Args:
        registry: what to collect from.
        openmetrics: write OpenMetrics 1.0 instead of the text format 0.0.4.
        names: of the samples to write; empty writes all.
        bounded: let the collectors of others run in threads of their own, and go on without those
            that are not back within 4 seconds. Otherwise all run in the calling thread.

    Raises:
        Exception: the collector of the exporter raised it.
        RuntimeError: all there are failed; what each raised is in the log.
    """

    def convert(family: Metric, fail: Fail) -> Sequence[Part]:
        if isinstance(family, FamilyMetric):
            # Written last, so that it tells of this very collection.
            return [family.restricted(names) if names else family]
        if names:
            family = with_samples(family, [s for s in family.samples if s.name in names])
            if not family.samples:
                return []
        return sections_of(family, fail, openmetrics=openmetrics)

    harvests = collect(registry, convert, names=names, bounded=bounded)
    if not names and harvests and all(harvest.is_lost for harvest in harvests):
        raise RuntimeError("every collector of the registry failed; the log says why")
    parts: list[bytes] = []
    for part in _joined(harvests, openmetrics=openmetrics):
        if isinstance(part, Section):
            parts.append(part.text)
            continue
        lines = part.lines(openmetrics=openmetrics)
        # Where names are asked for, a head without any of them is not.
        if not names or len(lines) > 1:
            parts += _encoded(lines)
    return b"".join([*parts, EOF if openmetrics else b""])


def _joined(harvests: list[Harvest[Sequence[Part]]], *, openmetrics: bool) -> Iterable[Part]:
    """Return the parts of the page in the order they were given in, each family once."""
    given = [
        (part, harvest.fail)
        for harvest in harvests
        for parts in harvest.results.copy()
        for part in parts
    ]
    ours = {
        part.title(openmetrics=openmetrics): part
        for part, _ in given
        if isinstance(part, FamilyMetric)
    }
    page: dict[str, Part] = {}
    for part, fail in given:
        if isinstance(part, FamilyMetric):
            page[part.title(openmetrics=openmetrics)] = part
        elif part.name in ours:
            fail(ValueError(f"it gave {part.name}, which is a metric of hypertrace"))
        else:
            first = page.setdefault(part.name, part)
            if first is not part and isinstance(first, Section):
                first.join(part, fail)
    return page.values()


def _encoded(lines: list[str]) -> Iterator[bytes]:
    """Return the lines as bytes, and empty the list."""
    # Piece by piece: other threads wait as long as a single step takes.
    while lines:
        piece = lines[:_LINES_AT_ONCE]
        del lines[:_LINES_AT_ONCE]
        # One value that is no Unicode, such as an exemplar's, must not cost the page.
        yield "".join(piece).encode(errors="replace")
