"""Families of hypertrace's own metrics, as objects of `prometheus_client`, as text, as messages."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.samples import Sample

from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading

from .messages import as_histogram, message
from .text import go_number, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics import Declaration, Exemplar, Family

    from .label_texts import TextCache

_SUFFIXES = {"counter": "_total", "info": "_info"}
"""Ends of names that are not part of the name of the family in OpenMetrics."""

_PARTS = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}
"""Ends of the names of the samples of a kind."""


class FamilyMetric(Metric):
    """A family of `prometheus_client` that makes its samples only when they are read.

    `lines()` returns their text without making them, and `message()` their message.
    """

    def __init__(
        self, declaration: Declaration, read: Callable[[], Family], texts: TextCache
    ) -> None:
        """Show a family as it is when the samples or the lines are read.

        A counter whose name does not end in `_total` is no counter to OpenMetrics: there its type
        is unknown, so that the name stays the same.

        Args:
            declaration: what the metric is.
            read: returns the family.
            texts: where the texts of its series are kept.
        """
        self._declaration = declaration
        self._read = read
        self._texts = texts
        # Set here and not by the constructor of Metric, which would check the name at every scrape.
        self._head = head = _head_of(declaration.name, declaration.kind, declaration.description)
        self.name: str = head.name
        self.documentation: str = declaration.description
        self.unit: str = ""
        self.type: str = head.kind

    @property
    def samples(self) -> list[Sample]:  # type: ignore[override]  # nothing sets it
        """All samples."""
        return list(_samples(self._read()))

    @property
    def names(self) -> frozenset[str]:
        """Names that its samples may have."""
        name = self._declaration.name
        return frozenset(f"{name}{part}" for part in _PARTS.get(self._declaration.kind, ("",)))

    def title(self, *, openmetrics: bool) -> str:
        """Return the name in the head of the text."""
        return self.name if openmetrics else self._declaration.name

    def head(self, *, openmetrics: bool) -> str:
        """Return the lines with the help text and the type."""
        return self._head.openmetrics if openmetrics else self._head.text

    def lines(self, *, openmetrics: bool) -> list[str]:
        """Return a line for each sample: Prometheus' text format 0.0.4, or OpenMetrics."""
        family = self._read()
        return lines(family, self._texts.of(family), openmetrics=openmetrics)

    def message(self) -> bytes:
        """Return all of it as a message, with its length before it; empty without series."""
        family = self._read()
        return message(family, self._texts.encoded(family))

    def text(self, *, openmetrics: bool) -> str:
        """Return all of it as one text."""
        return "".join([self.head(openmetrics=openmetrics), *self.lines(openmetrics=openmetrics)])


class _Head(NamedTuple):
    """What a family begins with."""

    name: str
    """Of the family in OpenMetrics."""
    kind: str
    """Its type in OpenMetrics."""
    text: str
    """In the text format."""
    openmetrics: str


@lru_cache(maxsize=256)
def _head_of(name: str, kind: str, description: str) -> _Head:
    suffix = _SUFFIXES.get(kind, "")
    is_unknown = kind == "counter" and not name.endswith(suffix)
    family, type_ = name.removesuffix(suffix), "unknown" if is_unknown else kind
    in_text = "gauge" if kind == "info" else kind
    return _Head(
        family,
        type_,
        f"# HELP {name} {description}\n# TYPE {name} {in_text}\n",
        f"# HELP {family} {description}\n# TYPE {family} {type_}\n",
    )


def _samples(family: Family) -> Iterator[Sample]:
    for point in family.points:
        pairs = zip(family.label_names, point.labels, strict=True)
        labels = {name: value for name, value in pairs if value}
        if isinstance(point.value, HistogramReading | ExponentialReading):
            yield from _of_histogram(family.name, labels, as_histogram(point.value))
        elif isinstance(point.value, SummaryReading):
            yield from _of_summary(family.name, labels, point.value)
        else:
            yield Sample(family.name, labels, point.value)


def _of_histogram(name: str, labels: dict[str, str], value: HistogramReading) -> Iterator[Sample]:
    bounds = [*map(go_number, value.bounds), "+Inf"]
    for index, count in enumerate(accumulate(value.counts)):
        exemplar = value.exemplars.get(index)
        yield Sample(
            f"{name}_bucket", labels | {"le": bounds[index]}, count, None, _client(exemplar)
        )
    yield Sample(f"{name}_count", labels, value.count)
    yield Sample(f"{name}_sum", labels, value.sum)


def _of_summary(name: str, labels: dict[str, str], value: SummaryReading) -> Iterator[Sample]:
    for quantile, at in value.quantiles.items():
        yield Sample(name, labels | {"quantile": go_number(quantile)}, at)
    yield Sample(f"{name}_count", labels, value.count)
    yield Sample(f"{name}_sum", labels, value.sum)


def _client(exemplar: Exemplar | None) -> ClientExemplar | None:
    return exemplar and ClientExemplar(dict(exemplar.labels), exemplar.value, exemplar.timestamp)
