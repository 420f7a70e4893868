"""Metric families whose text is written from label texts that were rendered before."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from . import labels as label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .series import SeriesTable
    from .timings import Exemplar, Snapshot, Timings


Row: TypeAlias = "tuple[str, str, float, Exemplar | None]"
"""One line of a family: name, labels as rendered by `labels.render()`, value, exemplar. A plain
tuple: there may be a hundred thousand of them in a scrape."""


class SeriesFamily(Metric):
    """A family whose samples are made only for those who ask for them.

    `text()` gives the same without making them.
    """

    def __init__(
        self, name: str, kind: str, documentation: str, rows: Callable[[], Iterable[Row]]
    ) -> None:
        """Show rows as they are when the samples or the text are asked for.

        A counter whose name does not end in `_total` is no counter to OpenMetrics: there its type
        is unknown, so that the name stays the same.

        Args:
            name: of the metric, as Prometheus shows it.
            kind: `counter`, `gauge` or `histogram`.
            documentation: the HELP text.
            rows: returns the lines.
        """
        self._full_name = name
        self._text_kind = kind
        self._rows = rows
        is_named_wrong = kind == "counter" and not name.endswith("_total")
        super().__init__(
            name.removesuffix("_total"), documentation, "unknown" if is_named_wrong else kind
        )

    @property
    def samples(self) -> list[Sample]:
        """One sample a row."""
        return [
            Sample(name, label.parse(labels), value, None, _client(exemplar))
            for name, labels, value, exemplar in self._rows()
        ]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        # The constructor of Metric starts with an empty list.
        pass

    @property
    def names(self) -> frozenset[str]:
        """The names that its rows may have."""
        if self._text_kind == "histogram":
            return frozenset(f"{self._full_name}_{part}" for part in ("bucket", "count", "sum"))
        return frozenset({self._full_name})

    def title(self, *, openmetrics: bool) -> str:
        """Return the name in the head of the text."""
        return self.name if openmetrics else self._full_name

    def text(self, *, openmetrics: bool) -> str:
        """Return the family in the text format of Prometheus 0.0.4, or in that of OpenMetrics."""
        lines = self.lines(openmetrics=openmetrics)
        return "".join([self.head(openmetrics=openmetrics), *lines])

    def head(self, *, openmetrics: bool) -> str:
        """Return the lines that say what it is."""
        name = self.title(openmetrics=openmetrics)
        kind = self.type if openmetrics else self._text_kind
        return f"# HELP {name} {self.documentation}\n# TYPE {name} {kind}\n"

    def lines(self, *, openmetrics: bool) -> list[str]:
        """Return one line a row, as they are now."""
        return [
            f"{name}{{{labels}}} {value}\n"
            if exemplar is None or not openmetrics
            else f"{name}{{{labels}}} {value}{_text_of(exemplar)}\n"
            for name, labels, value, exemplar in self._rows()
        ]


def histogram_rows(table: SeriesTable[Timings], name: str) -> Iterator[Row]:
    """Return the rows of a histogram of durations, one for each series and result."""
    for text, timings in table.items():
        for result, histogram in list(timings.results.items()):
            snapshot = histogram.read()
            if snapshot.cumulative[-1]:
                labels = _joined(text, f'{label.RESULT}="{result}"')
                yield from _histogram(name, labels, snapshot)


def _histogram(name: str, text: str, snapshot: Snapshot) -> Iterator[Row]:
    bounds = [*map(floatToGoString, snapshot.bounds), "+Inf"]
    for bucket, (bound, count) in enumerate(zip(bounds, snapshot.cumulative, strict=True)):
        exemplar = snapshot.exemplars.get(bucket)
        yield f"{name}_bucket", f'{text},le="{bound}"', count, exemplar
    yield f"{name}_count", text, snapshot.cumulative[-1], None
    yield f"{name}_sum", text, snapshot.total, None


def _joined(text: str, pair: str) -> str:
    return f"{text},{pair}" if text else pair


def _client(exemplar: Exemplar | None) -> ClientExemplar | None:
    return exemplar and ClientExemplar(dict(exemplar.labels), exemplar.value, exemplar.timestamp)


def _text_of(exemplar: Exemplar) -> str:
    return f" # {{{label.render(exemplar.labels)}}} {exemplar.value} {exemplar.timestamp:.3f}"
