"""The metrics of others as text that was checked, line by line."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

    from .failures import Fail

EOF = b"# EOF\n"

_TYPES = frozenset(
    b"counter gauge histogram summary untyped unknown info stateset gaugehistogram".split()
)
_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = rb'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_LABELS = rb"\{(?:" + _LABEL + rb"(?:," + _LABEL + rb")*)?\}"
_NUMBER = rb"[-+]?[0-9][0-9.]*(?:e[-+]?[0-9]+)?"
_VALUE = rb"(?:" + _NUMBER + rb"|[-+]Inf|NaN)"
_TIME = rb"(?: " + _NUMBER + rb")?"
_EXEMPLAR = rb"(?: # " + _LABELS + rb" " + _VALUE + _TIME + rb")?"
_LINE = re.compile(
    rb"(" + _NAME + rb"(?:" + _LABELS + rb")?) " + _VALUE + rb"(" + _TIME + rb")" + _EXEMPLAR
)
_HEAD = re.compile(rb"# (?:HELP|(TYPE)|(UNIT)) (" + _NAME + rb") ?(.*)")


class Section:
    """The lines of one family, under what says its type.

    Attributes:
        name: of the family, in the format it is written in.
        kind: its type.
    """

    def __init__(self, name: str) -> None:
        """Start without lines."""
        self.name = name
        self.kind = b""
        self._head: list[bytes] = []
        self._series: dict[bytes, bytes] = {}

    @property
    def text(self) -> bytes:
        """All lines."""
        return b"\n".join([*self._head, *self._series.values(), b""])

    def add_head(self, line: bytes) -> None:
        """Add a line of the head.

        Raises:
            ValueError: it says what the formats do not know.
        """
        match = _HEAD.fullmatch(line)
        if match is None:
            raise ValueError(f"it gave a metric with the head {_cut(line)}")
        is_type, is_unit, name, text = match.groups()
        if (is_type and text not in _TYPES) or (is_unit and not name.endswith(b"_" + text)):
            raise ValueError(f"it gave a metric with the head {_cut(line)}")
        self.kind = text if is_type else self.kind
        self._head.append(line)

    def add(self, line: bytes) -> None:
        """Add the line of a series.

        Raises:
            ValueError: it is no line of the formats, or there is one of this series.
        """
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"it gave what cannot be written: {_cut(line)}")
        # A series may have several values of different times.
        self._put(match[1] + match[2], line)

    def join(self, other: Section, fail: Fail) -> None:
        """Add the series of another section of this name.

        Args:
            other: gives its series.
            fail: is told of each that is here already, and of another type, with which none are
                taken.
        """
        if other.kind != self.kind:
            fail(ValueError(f"it gave {self.name}, which has another type at another collector"))
            return
        for series, line in other._series.items():
            try:
                self._put(series, line)
            except ValueError as error:
                fail(error)

    def _put(self, series: bytes, line: bytes) -> None:
        if self._series.setdefault(series, line) is not line:
            raise ValueError(f"the series {_cut(series)} is given twice; the first is shown")


def sections_of(family: Metric, fail: Fail, *, openmetrics: bool) -> list[Section]:
    """Return a family as text: one section, and in text format those of its creation times.

    Args:
        family: with its samples.
        fail: is told of each sample that cannot be written, which is left out.
        openmetrics: write OpenMetrics 1.0 instead of the text format 0.0.4.

    Raises:
        Exception: the family as a whole cannot be written.
    """
    sections: dict[str, Section] = {}
    section = None
    for line in _lines(family, fail, openmetrics=openmetrics):
        if line.startswith(b"# "):
            name = line.split(b" ", 3)[2].decode()
            section = sections.setdefault(name, Section(name))
            section.add_head(line)
        elif section is not None:
            try:
                section.add(line)
            except ValueError as error:
                fail(error)
    return list(sections.values())


def with_samples(family: Metric, samples: Iterable[Sample]) -> Metric:
    """Return a copy of a family that has other samples."""
    other = copy.copy(family)
    other.samples = list(samples)
    return other


def _lines(family: Metric, fail: Fail, *, openmetrics: bool) -> list[bytes]:
    try:
        text = _text(family, openmetrics=openmetrics)
    except Exception:  # noqa: BLE001 -- found again below, with the sample it came from
        good = with_samples(family, _good(family, fail, openmetrics=openmetrics))
        text = _text(good, openmetrics=openmetrics)
    return text.split(b"\n")[:-1]


def _good(family: Metric, fail: Fail, *, openmetrics: bool) -> Iterator[Sample]:
    for sample in family.samples:
        try:
            _text(with_samples(family, [sample]), openmetrics=openmetrics)
        except Exception as error:  # noqa: BLE001 -- one sample must not cost the others
            fail(error)
        else:
            yield sample


def _text(family: Metric, *, openmetrics: bool) -> bytes:
    alone = _Alone(family)
    try:
        if openmetrics:
            text: bytes = generate_openmetrics(alone)  # type: ignore[no-untyped-call]
            return text.removesuffix(EOF)
        return generate_latest(alone)
    except Exception as error:
        # They append the whole family, which the log need not repeat.
        error.args = tuple(argument for argument in error.args if argument is not family)
        raise


class _Alone(Collector):
    """Stands for a registry of one family, which was collected already."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def _cut(text: bytes) -> str:
    return repr(text[:200].decode(errors="replace"))
