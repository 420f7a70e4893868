"""Text of hypertrace's own families: each series is rendered once, and its text kept.

The formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4) and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hypertrace.metrics import Exemplar, Family, HistogramReading, Reading
    from hypertrace.metrics.series import Series

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
"""Characters of a label value that are written in another way."""

_FEW = 1_000
"""Texts that are kept though their series may be gone: to look for those costs more."""


class TextCache:
    """The label texts of all families that one endpoint shows. Any thread may use it.

    What is kept is bounded by the series there are.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[tuple[str, ...], LabelTexts] = {}

    def of(self, family: Family) -> LabelTexts:
        """Return the texts of a family, which it may share with others of the same labels."""
        names = family.label_names
        texts = self._texts.get(names)
        return self._texts.setdefault(names, LabelTexts(names)) if texts is None else texts

    def forget_gone(self, reading: Reading) -> None:
        """Forget the texts of series that are not in a reading, where there are many."""
        held: dict[tuple[str, ...], list[Series]] = {}
        for family in reading.families:
            held.setdefault(family.label_names, []).extend(family.series)
        for names, series in held.items():
            texts = self._texts.get(names)
            if texts is not None and len(texts) > 2 * len(series) + _FEW:
                self._texts[names] = texts.only(series)


class LabelTexts(dict["Series", str]):
    """Texts of the labels of series, rendered when they are first asked for.

    The text of a series has two parts: that of the labels that it has in common with the series of
    its call site, which is kept once for all of them in `common`, and the rest.
    """

    __slots__ = ("_columns", "_names", "common")

    def __init__(self, names: tuple[str, ...]) -> None:
        """Start without texts.

        Args:
            names: of the labels.
        """
        super().__init__()
        self._names = names
        self._columns: dict[str, _Columns] = {}
        self.common = _CommonTexts(names)

    def __missing__(self, series: Series) -> str:
        values, others = series.key
        common, text = self.common[values], render(self._names[len(values) :], others)
        if common and text:
            text = f",{text}"
        self[series] = text
        return text

    def columns(self, family: Family) -> _Columns:
        """Return what the lines of a family begin with, for each of its series.

        The columns are kept for as long as the series are the same, which makes a scrape of many
        series a fifth quicker.
        """
        kept = self._columns.get(family.name)
        if kept is None or kept.series != family.series:  # quick: the same objects are equal
            rests = [self[one] for one in family.series]
            known = _Heads(family.name, self.common)
            heads = [known[one.key[0]] for one in family.series]
            kept = self._columns[family.name] = _Columns(family.series, heads, rests)
        return kept

    def only(self, series: Iterable[Series]) -> LabelTexts:
        """Return those of some series."""
        texts = LabelTexts(self._names)
        texts.update((one, self[one]) for one in series)
        return texts


class _Heads(dict["tuple[str, ...]", str]):
    """What the lines of a family begin with, by the label values in common.

    Found one by one: another thread may add to those texts meanwhile, and texts of series that
    were kept when others were forgotten may not have them.
    """

    __slots__ = ("_common", "_name")

    def __init__(self, name: str, common: _CommonTexts) -> None:
        super().__init__()
        self._name = name
        self._common = common

    def __missing__(self, values: tuple[str, ...]) -> str:
        head = self[values] = f"{self._name}{{{self._common[values]}"
        return head


class _Columns(NamedTuple):
    series: Sequence[Series]
    heads: list[str]
    """The name of the metric, a brace, and the labels that a series has in common with others."""
    rests: list[str]
    """The other labels."""


class _CommonTexts(dict["tuple[str, ...]", str]):
    """Texts of the label values that the series of a call site have in common."""

    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, values: tuple[str, ...]) -> str:
        text = self[values] = render(self._names[: len(values)], values)
        return text


def render(names: Sequence[str], values: Sequence[str]) -> str:
    """Return labels as they stand between braces, sorted by name; those without value left out."""
    pairs = sorted(zip(names, values, strict=True))
    return ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in pairs if value)


def lines(family: Family, texts: LabelTexts, *, openmetrics: bool) -> list[str]:
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
    if not family.label_names:
        return [f"{family.name} {value}\n" for value in family.values]
    _, heads, rests = texts.columns(family)
    return [
        f"{head}{rest}}} {value}\n"
        for head, rest, value in zip(heads, rests, family.values, strict=True)
    ]


def _histograms(family: Family, texts: LabelTexts, *, openmetrics: bool) -> list[str]:
    found: list[str] = []
    buckets: dict[tuple[float, ...], list[str]] = {}
    for one, value in zip(family.series, family.values, strict=True):
        if value.bounds not in buckets:
            buckets[value.bounds] = [
                f',le="{bound}"' for bound in [*map(floatToGoString, value.bounds), "+Inf"]
            ]
        labels = texts.common[one.key[0]] + texts[one]
        found += _histogram(family.name, labels, value, buckets[value.bounds], openmetrics)
    return found


def _histogram(
    name: str, labels: str, value: HistogramReading, buckets: list[str], openmetrics: bool
) -> list[str]:
    counts = list(accumulate(value.counts))
    exemplars = value.exemplars if openmetrics else {}
    found = [
        f"{name}_bucket{{{labels}{bucket}}} {count}\n"
        for bucket, count in zip(buckets, counts, strict=True)
    ]
    for index, exemplar in exemplars.items():
        found[index] = f"{found[index][:-1]}{_exemplar(exemplar)}\n"
    found.append(f"{name}_count{{{labels}}} {counts[-1]}\n")
    found.append(f"{name}_sum{{{labels}}} {value.sum}\n")
    return found


def _exemplar(exemplar: Exemplar) -> str:
    labels = render(list(exemplar.labels), list(exemplar.labels.values()))
    return f" # {{{labels}}} {exemplar.value} {exemplar.timestamp:.3f}"
