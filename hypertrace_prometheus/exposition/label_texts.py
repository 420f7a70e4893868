"""Label texts: the labels of each series as a page has them, made once and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, AnyStr, Generic, NamedTuple

from .protobuf import BLOCK, block, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypertrace.metrics import Family
    from hypertrace.metrics.labels import Values
    from hypertrace.metrics.series import Series

ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
"""Characters of a label value that are written in another way."""

_LABEL, _NAME, _VALUE = tag(1, BLOCK), tag(1, BLOCK), tag(2, BLOCK)


def render(names: Sequence[str], values: Sequence[str]) -> str:
    """Return labels as they stand between braces, sorted by name; those without value left out."""
    pairs = sorted(zip(names, values, strict=True))
    return ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in pairs if value)


def encode(names: Sequence[str], values: Sequence[str]) -> bytes:
    """Return labels as fields of a `Metric` or an `Exemplar`, those without value left out.

    What is no valid Unicode is replaced by question marks.
    """
    pairs = sorted(zip(names, values, strict=True))
    return b"".join([encoded_label(name, value) for name, value in pairs if value])


def encoded_label(name: str, value: str) -> bytes:
    """Return one label as such a field."""
    pair = block(_NAME, name.encode()) + block(_VALUE, value.encode(errors="replace"))
    return block(_LABEL, pair)


class TextCache:
    """The label texts of all families that one endpoint shows. Any thread may use it.

    Kept are the texts of the series of the last scrape.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._texts: dict[tuple[str, ...], LabelTexts[str]] = {}
        self._encoded: dict[tuple[str, ...], LabelTexts[bytes]] = {}

    def of(self, family: Family) -> Columns[str]:
        """Return the label texts of the series of a family."""
        names, known = family.label_names, self._texts
        texts = known.get(names) or known.setdefault(names, LabelTexts(names, render, ","))
        return texts.of(family)

    def encoded(self, family: Family) -> Columns[bytes]:
        """Return the labels of the series of a family, encoded."""
        names, known = family.label_names, self._encoded
        texts = known.get(names) or known.setdefault(names, LabelTexts(names, encode, b""))
        return texts.of(family)


class LabelTexts(Generic[AnyStr]):
    """The label texts of the families that have the same labels, and so may share texts.

    They are rendered when a series is shown first, and kept as columns, for as long as a family has
    the same series: that makes a scrape of many series a fifth quicker than to look each one up.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        render: Callable[[Sequence[str], Sequence[str]], AnyStr],
        separator: AnyStr,
    ) -> None:
        """Start without texts.

        Args:
            names: of the labels.
            render: returns the text of some labels, from their names and values.
            separator: stands between two labels.
        """
        self._names = names
        self._render: Callable[[Sequence[str], Sequence[str]], AnyStr] = render
        self._separator: AnyStr = separator
        self._commons: dict[Values, AnyStr] = {}
        self._columns: dict[str, Columns[AnyStr]] = {}

    def of(self, family: Family) -> Columns[AnyStr]:
        """Return the texts of a family's series, in their order."""
        kept = self._columns.get(family.name)
        if kept is None or kept.series != family.series:  # quick: the same objects are equal
            kept = self._columns[family.name] = self._columns_of(family.series)
        return kept

    def _columns_of(self, series: Sequence[Series]) -> Columns[AnyStr]:
        known: dict[Series, AnyStr] = {}
        for columns in list(self._columns.values()):
            known.update(zip(columns.series, columns.rests, strict=True))
        commons: dict[Values, AnyStr] = {}
        for values in dict.fromkeys(one.key[0] for one in series):
            text = self._commons.get(values)
            commons[values] = self._common_of(values) if text is None else text
        self._commons = commons
        return Columns(
            series,
            [commons[one.key[0]] for one in series],
            [known[one] if one in known else self._rest_of(one) for one in series],
        )

    def _common_of(self, values: Values) -> AnyStr:
        return self._render(self._names[: len(values)], values)

    def _rest_of(self, series: Series) -> AnyStr:
        common, others = series.key
        text = self._render(self._names[len(common) :], others)
        return self._separator + text if text and any(common) else text


class Columns(NamedTuple, Generic[AnyStr]):
    """Label texts of series: each is a text of `commons` followed by one of `rests`."""

    series: Sequence[Series]
    commons: list[AnyStr]
    """Of the labels that a series has in common with those of its call site: one text for all."""
    rests: list[AnyStr]
    """Of the other labels, with a separator before them."""
