"""Text of hypertrace's own families: each series is rendered once, and its text kept.

The formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4) and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, cast

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics import Exemplar, Family, HistogramReading
    from hypertrace.metrics.labels import Values
    from hypertrace.metrics.series import Series

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
"""Characters of a label value that are written in another way."""


class TextCache:
    """The label texts of all families that one endpoint shows. Any thread may use it.

    Kept are the texts of the series of the last scrape.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[tuple[str, ...], LabelTexts] = {}

    def of(self, family: Family) -> Columns:
        """Return the label texts of the series of a family."""
        names = family.label_names
        texts = self._texts.get(names) or self._texts.setdefault(names, LabelTexts(names))
        return texts.of(family)


class LabelTexts:
    """The label texts of the families that have the same labels, and so may share texts.

    They are rendered when a series is shown first, and kept as columns, for as long as a family has
    the same series: that makes a scrape of many series a fifth quicker than to look each one up.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Start without texts.

        Args:
            names: of the labels.
        """
        self._names = names
        self._commons: dict[Values, str] = {}
        self._columns: dict[str, Columns] = {}

    def of(self, family: Family) -> Columns:
        """Return the texts of a family's series, in their order."""
        kept = self._columns.get(family.name)
        if kept is None or kept.series != family.series:  # quick: the same objects are equal
            kept = self._columns[family.name] = self._columns_of(family.series)
        return kept

    def _columns_of(self, series: Sequence[Series]) -> Columns:
        known: dict[Series, str] = {}
        for columns in list(self._columns.values()):
            known.update(zip(columns.series, columns.rests, strict=True))
        commons = {one.key[0]: "" for one in series}
        for values in commons:
            text = self._commons.get(values)
            commons[values] = self._common_of(values) if text is None else text
        self._commons = commons
        return Columns(
            series,
            [commons[one.key[0]] for one in series],
            [known[one] if one in known else self._rest_of(one) for one in series],
        )

    def _common_of(self, values: Values) -> str:
        return render(self._names[: len(values)], values)

    def _rest_of(self, series: Series) -> str:
        common, others = series.key
        text = render(self._names[len(common) :], others)
        return f",{text}" if text and any(common) else text


class Columns(NamedTuple):
    """Label texts of series: each is a text of `commons` followed by one of `rests`."""

    series: Sequence[Series]
    commons: list[str]
    """Of the labels that a series has in common with those of its call site: one text for all."""
    rests: list[str]
    """Of the other labels, with a comma before them."""


def render(names: Sequence[str], values: Sequence[str]) -> str:
    """Return labels as they stand between braces, sorted by name; those without value left out."""
    pairs = sorted(zip(names, values, strict=True))
    return ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in pairs if value)


def lines(family: Family, texts: Columns, *, openmetrics: bool) -> list[str]:
    """Return the lines of a family's samples, each with its line break.

    Args:
        family: what to write.
        texts: of its series.
        openmetrics: write the exemplars, too, which only OpenMetrics has.
    """
    if not family.series:
        return []
    if family.kind == "histogram":
        return _histograms(family, texts, openmetrics=openmetrics)
    name = family.name
    if not family.label_names:
        return [f"{name} {value}\n" for value in family.values]
    return [
        f"{name}{{{common}{rest}}} {value}\n"
        for common, rest, value in zip(texts.commons, texts.rests, family.values, strict=True)
    ]


def _histograms(family: Family, texts: Columns, *, openmetrics: bool) -> list[str]:
    found: list[str] = []
    buckets: dict[tuple[float, ...], list[str]] = {}
    values = cast("Sequence[HistogramReading]", family.values)
    for common, rest, value in zip(texts.commons, texts.rests, values, strict=True):
        if value.bounds not in buckets:
            buckets[value.bounds] = [
                f',le="{bound}"' for bound in [*map(floatToGoString, value.bounds), "+Inf"]
            ]
        one = _histogram(family.name, f"{common}{rest}", value, buckets[value.bounds])
        if openmetrics:
            for bucket, exemplar in value.exemplars.items():
                one[bucket] = f"{one[bucket][:-1]}{_exemplar(exemplar)}\n"
        found += one
    return found


def _histogram(name: str, labels: str, value: HistogramReading, buckets: list[str]) -> list[str]:
    counts = list(accumulate(value.counts))
    return [
        *[
            f"{name}_bucket{{{labels}{bucket}}} {count}\n"
            for bucket, count in zip(buckets, counts, strict=True)
        ],
        f"{name}_count{{{labels}}} {counts[-1]}\n",
        f"{name}_sum{{{labels}}} {value.sum}\n",
    ]


def _exemplar(exemplar: Exemplar) -> str:
    labels = render(list(exemplar.labels), list(exemplar.labels.values()))
    return f" # {{{labels}}} {exemplar.value} {exemplar.timestamp:.3f}"
