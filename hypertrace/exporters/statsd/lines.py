"""Lines of StatsD: a reading as text that no label value can break."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from hypertrace.exporters.series_texts import SeriesTexts
from hypertrace.metrics import DeclaredMetric
from hypertrace.metrics.distinct import DISTINCT
from hypertrace.metrics.labels import CLASS, FUNCTION, TRACE_ID

from .datadog import Environment
from .writer import Lines, Writer, no_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hypertrace.metrics import Declaration, Reading
    from hypertrace.metrics.distinct import SetValues
    from hypertrace.metrics.samples import Sample
    from hypertrace.metrics.series import Series

Tags: TypeAlias = Literal["none", "dogstatsd", "graphite"]

_FIRST = (CLASS, FUNCTION, TRACE_ID)
"""Labels of functions that come first in a path."""

_NO_ENVIRONMENT = Environment()

_EMPTY = "_"
"""Stands in a path for a label without a value."""

# ASCII alone: Node.js, which runs the StatsD daemon, drops the highest bit of each byte that comes
# over TCP, and so makes line breaks and colons of others.
_NO_PART = re.compile(r"[^A-Za-z0-9_-]")
_NO_TAG = re.compile(r"[^A-Za-z0-9_./-]")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class Encoder:
    """Makes lines of readings. One thread at a time may use it.

    Attributes:
        prefix: what is before the name of each metric, with the dot.
    """

    def __init__(self, prefix: str, tags: str, environment: Environment = _NO_ENVIRONMENT) -> None:
        """Know how names are written.

        Args:
            prefix: of all names; a dot is added unless it ends in one, or in `_`. Empty for none.
            tags: where labels go.
            environment: what each line of DogStatsD has besides.

        Raises:
            TypeError: `prefix` is no `str`.
            ValueError: `prefix` has other characters than names, or `tags` is none of the three.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {prefix!r}")
        prefix = prefix.removesuffix(".")
        if prefix and not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"prefix {prefix!r} is no beginning of a name: it takes letters, digits, '_' and "
                "'-', with single dots between"
            )
        if tags not in ("none", "dogstatsd", "graphite"):
            raise ValueError(f"tags must be 'none', 'dogstatsd' or 'graphite', not {tags!r}")
        self.prefix: str = prefix if prefix.endswith("_") or not prefix else f"{prefix}."
        self._tags = tags
        self._environment = environment
        self._known: SeriesTexts[tuple[str, str]] = SeriesTexts()

    def encode(
        self,
        reading: Reading,
        arrived: Mapping[object, float],
        take: Callable[[Series], Sample] = no_sample,
    ) -> Lines:
        """Return the lines of what came in.

        Args:
            reading: what came in.
            arrived: amounts in it that a receiver has, by part of a series; empty for none.
            take: returns the values of a series that were kept.
        """
        lines = Lines()
        for family in reading.families:
            if family.kind == "info" and self._tags == "none":
                continue
            known = self._known.of(family)
            ends = self.ends_of(family.declaration, family.label_names, reading.labels)
            writer = Writer(self.prefix, family, arrived, take, packs=self._tags == "dogstatsd")
            for series, value in zip(family.series, family.values, strict=True):
                texts = known.get(series)
                if texts is None:
                    texts = known[series] = ends.of(series.labels)
                before, end = texts
                writer.write(series, value, before, end)
            lines.add(writer)
        return lines

    def set_lines(
        self,
        sets: Iterable[SetValues],
        sent: Mapping[object, Mapping[str, float]],
        common: Mapping[str, str],
    ) -> list[bytes]:
        """Return a line for each value that some sets got.

        Args:
            sets: with the values that they have.
            sent: those that they had before, by name and labels of the set.
            common: labels of the process.
        """
        lines: list[bytes] = []
        for metric, labels, values in sets:
            earlier = sent.get((metric.name, labels), {})
            before, end = self.ends_of(metric, metric.labels, common).of(labels)
            head = f"{self.prefix}{metric.name.removesuffix(DISTINCT)}{before}"
            lines += [
                f"{head}:{value}|s{end}".encode()
                for value, came in values.items()
                if earlier.get(value) != came
            ]
        return lines

    def ends_of(
        self, declaration: Declaration, names: Sequence[str], common: Mapping[str, str]
    ) -> Ends:
        """Return what follows names and values in the lines of one metric.

        Args:
            declaration: of the metric.
            names: of its labels.
            common: labels of the process.
        """
        order = [*range(len(names))]
        if not isinstance(declaration, DeclaredMetric):  # whose tags stay as they are declared
            order.sort(key=lambda i: _FIRST.index(names[i]) if names[i] in _FIRST else len(_FIRST))
        environment = self._environment if self._tags == "dogstatsd" else _NO_ENVIRONMENT
        given = {name: value for name, value in common.items() if value}
        common = {**environment.tags, **given}
        return Ends(self._tags, names, order, common, environment.origin)


class Ends:
    """What follows the name and the value in the lines of one family, by its labels."""

    def __init__(
        self,
        tags: str,
        names: Sequence[str],
        order: Sequence[int],
        common: Mapping[str, str],
        origin: str,
    ) -> None:
        """Know what all lines have.

        Args:
            tags: where labels go.
            names: of the labels.
            order: of the labels in a path, by their index.
            common: tags of each line, by name.
            origin: what follows the tags.
        """
        self._tags = tags
        self._names = [tag_text(name) for name in names]
        self._order = order
        self._common = [tag_pair(*pair) for pair in common.items() if pair[0] not in names]
        self._origin = origin

    def of(self, values: Sequence[str]) -> tuple[str, str]:
        """Return what follows the name, and what follows the value."""
        if self._tags == "none":
            return "".join([f".{path_text(values[i])}" for i in self._order]), ""
        pairs = zip(self._names, values, strict=True)
        tags = [*self._common, *((name, tag_text(value)) for name, value in pairs if value)]
        if self._tags == "graphite":
            return "".join([f";{name}={value}" for name, value in tags]), ""
        return "", tags_text(tags) + self._origin


@lru_cache(16_384)
def path_text(value: str) -> str:
    """Return a label's value as a part of a path."""
    return _NO_PART.sub("_", value) or _EMPTY


@lru_cache(16_384)
def tag_text(text: str) -> str:
    """Return a label's name or value as it stands in a tag."""
    return _NO_TAG.sub("_", text)


def tag_pair(name: str, value: str) -> tuple[str, str]:
    """Return a tag's name and value as they stand in it."""
    return tag_text(name), tag_text(value)


def tags_text(tags: Iterable[tuple[str, str]]) -> str:
    """Return tags of DogStatsD, with what is before them; empty for none."""
    text = ",".join([f"{name}:{value}" if value else name for name, value in tags])
    return text and f"|#{text}"
