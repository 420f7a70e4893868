"""Sections: metrics of third-party collectors as text, checked line by line."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .label_texts import ESCAPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

    from .failures import Fail

EOF = b"# EOF\n"

_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL_NAME = rb"[a-zA-Z_][a-zA-Z0-9_]*"
_NUMBER = rb"[-+]?[0-9]+(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?"
_VALUE = rb"(?:" + _NUMBER + rb"|[-+]Inf|NaN)"
# Milliseconds: Prometheus reads digits only, and no more than fit into an int64.
_TEXT_TIME = rb"[0-9]{1,18}"
# Seconds: no number of these digits is infinite.
_OPENMETRICS_TIME = rb"-?[0-9]{1,99}(?:\.[0-9]*)?(?:e[-+]?[0-9]{1,2})?"
_HEAD = re.compile(rb"# (?:HELP|(TYPE)|(UNIT)) (" + _NAME + rb") ?(.*)")
_LABEL_NAMES = re.compile(rb"(" + _LABEL_NAME + rb')="[^"\\]*(?:\\.[^"\\]*)*"')


def _labels(character: bytes) -> bytes:
    value = character + rb"*(?:\\[\\\"n]" + character + rb"*)*"
    label = _LABEL_NAME + rb'="' + value + rb'"'
    return rb"\{(?:" + label + rb"(?:," + label + rb")*)?\}"


def _sample(time: bytes, end: bytes) -> re.Pattern[bytes]:
    series = rb"((" + _NAME + rb")(" + _labels(rb'[^"\\\n]') + rb")?)"
    return re.compile(series + rb" " + _VALUE + rb"((?: " + time + rb")?)" + end)


class _Format(NamedTuple):
    """The lines of a format that Prometheus can read."""

    types: frozenset[bytes]
    sample: re.Pattern[bytes]
    """A line up to its exemplar; its groups are the series, its name, its labels and its time."""


_TEXT = _Format(
    frozenset(b"counter gauge histogram summary untyped".split()),
    _sample(_TEXT_TIME, rb"\Z"),
)
_OPENMETRICS = _Format(
    frozenset(b"counter gauge histogram summary unknown info stateset gaugehistogram".split()),
    _sample(_OPENMETRICS_TIME, rb"(?= # |\Z)"),
)
# Prometheus reads a NUL in the labels of a sample, but refuses the page for one in an exemplar.
_EXEMPLAR = re.compile(
    rb" # " + _labels(rb'[^"\\\n\0]') + rb" " + _VALUE + rb"(?: " + _OPENMETRICS_TIME + rb")?"
)


_PLAIN_TYPES = frozenset({"counter", "gauge"})
_PLAIN_HEAD = re.compile(_NAME.decode() + r""" [^\\"\n]*""")
"""Name and help text that are the same in both formats."""


class Section:
    """The lines of one family below its head.

    Attributes:
        name: of the family, in the format it is written in.
        kind: its type.
    """

    def __init__(self, name: str, *, openmetrics: bool) -> None:
        """Start without lines.

        Args:
            name: of the family, in the format it is written in.
            openmetrics: that format is OpenMetrics 1.0, not the text format 0.0.4.
        """
        self.name = name
        self.kind = b""
        self._names: set[bytes] = set()
        self._format = _OPENMETRICS if openmetrics else _TEXT
        self._head: list[bytes] = []
        self._series: dict[bytes, bytes] = {}

    def title(self, *, openmetrics: bool) -> str:  # noqa: ARG002 -- it is of one format
        """Return the name in the head of the text."""
        return self.name

    @property
    def names(self) -> frozenset[str]:
        """The names of its samples."""
        return frozenset(name.decode() for name in self._names)

    @property
    def head(self) -> bytes:
        """The lines that say what it is."""
        return b"\n".join([*self._head, b""])

    @property
    def body(self) -> bytes:
        """The lines of its series."""
        return b"\n".join([*self._series.values(), b""]) if self._series else b""

    def add_head(self, line: bytes) -> None:
        """Add a line of the head.

        Raises:
            ValueError: the format does not have it.
        """
        match = _HEAD.fullmatch(line)
        if match is None:
            raise ValueError(f"it gave a metric with the head {_cut(line)}")
        is_type, is_unit, name, text = match.groups()
        if (is_type and text not in self._format.types) or (
            is_unit and not name.endswith(b"_" + text)
        ):
            raise ValueError(f"it gave a metric with the head {_cut(line)}")
        self.kind = text if is_type else self.kind
        self._head.append(line)

    def add(self, line: bytes, fail: Fail) -> None:
        """Add the line of a series.

        Args:
            line: without its end.
            fail: receives an error of its exemplar, without which the line is added.

        Raises:
            ValueError: Prometheus cannot read it, or the series has a line already.
        """
        match = self._format.sample.match(line)
        if match is None or (match[3] and _is_ambiguous(match[3])):
            raise ValueError(f"it gave a sample that cannot be written: {_cut(line)}")
        series, name, _, time = match.groups()
        if match.end() < len(line) and not _is_exemplar(name, line[match.end() :]):
            fail(ValueError(f"it gave an exemplar that cannot be written: {_cut(line)}"))
            line = match[0]
        # A series may have several values of different times.
        self._put(series + time, line)
        self._names.add(name)

    def fill(self, head: PlainHead, lines: dict[bytes, bytes]) -> None:
        """Set what is known to be right: the head, and the lines by their series."""
        self.kind = head.kind
        self._head = [head.text]
        self._series = lines
        if lines:
            self._names.add(head.sample_name.encode())

    def join(self, other: Section, fail: Fail) -> None:
        """Add the series of another section of this name.

        Args:
            other: gives its series.
            fail: receives an error for each series that is here already, and one for a section of
                another type, of which no series is added.
        """
        if other.kind != self.kind:
            fail(ValueError(f"it gave {self.name}, which has another type at another collector"))
            return
        self._names |= other._names
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
        fail: receives an error for each sample or exemplar that cannot be written; it is left out.
        openmetrics: write OpenMetrics 1.0 instead of the text format 0.0.4.

    Raises:
        Exception: the family as a whole cannot be written.
    """
    sections: dict[str, Section] = {}
    section = None
    for line in _lines(family, fail, openmetrics=openmetrics):
        if line.startswith(b"# "):
            name = line.split(b" ", 3)[2].decode()
            section = sections.setdefault(name, Section(name, openmetrics=openmetrics))
            section.add_head(line)
        elif section is not None:
            try:
                section.add(line, fail)
            except ValueError as error:
                fail(error)
    return list(sections.values())


def plain_section(family: Metric, *, openmetrics: bool) -> Section | None:
    """Return a family of gauges or counters as text, without a check of its lines.

    It is for the default collectors, whose samples are known to be right.

    Returns:
        The same section as from `sections_of()`, or None for a family that needs that function.
    """
    head = _plain_head(family.name, family.type, family.documentation, openmetrics)
    if head is None or family.unit:
        return None
    section = Section(head.title, openmetrics=openmetrics)
    lines = {}
    for name, labels, value, timestamp, exemplar, *_ in family.samples:
        if name != head.sample_name or timestamp is not None or exemplar is not None:
            return None
        series = f"{name}{_plain_labels(labels)}" if labels else name
        lines[series.encode()] = f"{series} {floatToGoString(value)}".encode()  # type: ignore[no-untyped-call]
    section.fill(head, lines)
    return section


class PlainHead(NamedTuple):
    """The head of a family of gauges or counters."""

    title: str
    kind: bytes
    text: bytes
    """All lines, without the end of the last one."""
    sample_name: str
    """Of all samples."""


@lru_cache(maxsize=64)
def _plain_head(name: str, kind: str, help_text: str, openmetrics: bool) -> PlainHead | None:  # noqa: FBT001
    if kind not in _PLAIN_TYPES or not _PLAIN_HEAD.fullmatch(f"{name} {help_text}"):
        return None
    sample_name = f"{name}_total" if kind == "counter" else name
    title = name if openmetrics else sample_name
    text = f"# HELP {title} {help_text}\n# TYPE {title} {kind}"
    return PlainHead(title, kind.encode(), text.encode(), sample_name)


def _plain_labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{value.translate(ESCAPES)}"' for name, value in sorted(labels.items())]
    return f"{{{','.join(pairs)}}}"


def _lines(family: Metric, fail: Fail, *, openmetrics: bool) -> list[bytes]:
    try:
        text = _text(family, openmetrics=openmetrics)
    except Exception:  # noqa: BLE001 -- raised again below, for the sample that causes it
        good = with_samples(family, _good(family, fail, openmetrics=openmetrics))
        text = _text(good, openmetrics=openmetrics)
    return text.split(b"\n")[:-1]


def _good(family: Metric, fail: Fail, *, openmetrics: bool) -> Iterator[Sample]:
    for sample in family.samples:
        try:
            _text(with_samples(family, [sample]), openmetrics=openmetrics)
        except Exception as error:  # noqa: BLE001 -- one sample must not cost the others
            fail(error)
            yield from _without_exemplar(family, sample, openmetrics=openmetrics)
        else:
            yield sample


def _without_exemplar(family: Metric, sample: Sample, *, openmetrics: bool) -> Iterator[Sample]:
    """Return the sample without its exemplar, if it can be written so."""
    with suppress(Exception):  # its error was counted
        plain = sample._replace(exemplar=None)
        _text(with_samples(family, [plain]), openmetrics=openmetrics)
        yield plain


def with_samples(family: Metric, samples: Iterable[Sample]) -> Metric:
    """Return a copy of a family that has other samples."""
    other = copy.copy(family)
    other.samples = list(samples)
    return other


def _text(family: Metric, *, openmetrics: bool) -> bytes:
    alone = _Alone(family)
    try:
        if openmetrics:
            text: bytes = generate_openmetrics(alone)  # type: ignore[no-untyped-call]
            return text.removesuffix(EOF)
        return generate_latest(alone)
    except Exception as error:
        # `prometheus_client` appends the whole family, which would fill the log.
        error.args = tuple(argument for argument in error.args if argument is not family)
        raise


class _Alone(Collector):
    """A registry of one family that was collected already."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def _is_ambiguous(labels: bytes) -> bool:
    """Whether a label name comes twice; `__name__` is always there, as the name of the metric."""
    names = _LABEL_NAMES.findall(labels)
    return len({b"__name__", *names}) <= len(names)


def _is_exemplar(name: bytes, text: bytes) -> bool:
    """Whether a text is an exemplar, and samples of this name may have one."""
    return name.endswith((b"_total", b"_bucket")) and _EXEMPLAR.fullmatch(text) is not None


def _cut(text: bytes) -> str:
    return repr(text[:200].decode(errors="replace"))
