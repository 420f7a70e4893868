"""Exposition: one collection from a registry as the page that Prometheus scrapes."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from .collection import collect
from .families import FamilyMetric
from .message_sections import MessageSection, message_sections_of
from .sections import EOF, Section, plain_section, sections_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from .collection import CollectorRun
    from .failures import Fail

W = TypeVar("W", bound="Written")

_LINES_AT_ONCE = 5_000
# Consecutive lines with the same name; possessive, so that it never backtracks.
_RUN = re.compile(rb"([a-zA-Z0-9_:]+)[{ ].*\n(?:\1[{ ].*\n)*+")


class Format(Enum):
    """What a page is written in."""

    TEXT = "the text format 0.0.4"
    OPENMETRICS = "OpenMetrics 1.0"
    PROTOBUF = "messages, each with its length before it"


def render(registry: Collector, *, openmetrics: bool = False) -> bytes:
    """Return all metrics of a registry as text, collected in the calling thread.

    Args:
        registry: what to collect from.
        openmetrics: write OpenMetrics 1.0 instead of the text format 0.0.4.

    Raises:
        Exception: as `expose()`.
    """
    return expose(registry, Format.OPENMETRICS if openmetrics else Format.TEXT).page()


def expose(
    registry: Collector, format_: Format = Format.TEXT, *, bounded: bool = False
) -> Exposition:
    """Collect from a registry, for any number of requests.

    The families of hypertrace are written here, from label texts that were rendered before. Those
    of third-party collectors are checked: what such a collector raises, gives twice or gives in a
    way that Prometheus cannot read is left out, counted and logged; see `Failures`.

    Args:
        registry: what to collect from.
        format_: what the pages are written in.
        bounded: let third-party collectors run in separate threads, and go on without those that
            have not returned within 4 seconds. Otherwise all run in the calling thread.

    Raises:
        Exception: the collector of the exporter raised it.
        RuntimeError: all collectors failed; the log has what each raised.
    """
    if format_ is Format.PROTOBUF:
        messages = _collected(registry, _messages, bounded=bounded)
        return Exposition(messages)
    openmetrics = format_ is Format.OPENMETRICS

    def texts(family: Metric, run: CollectorRun[Sequence[_FamilyText]]) -> Sequence[_FamilyText]:
        return _texts(family, run, openmetrics=openmetrics)

    parts = _collected(registry, texts, bounded=bounded)
    return Exposition(parts, EOF if openmetrics else b"")


def _collected(
    registry: Collector,
    convert: Callable[[Metric, CollectorRun[Sequence[W]]], Sequence[W]],
    *,
    bounded: bool,
) -> Iterable[W]:
    """Collect, and return the parts of the page."""
    runs = collect(registry, convert, bounded=bounded)
    if runs and all(run.is_lost for run in runs):
        raise RuntimeError("every collector of the registry failed; the log says why")
    return _joined(runs)


def _texts(
    family: Metric, run: CollectorRun[Sequence[_FamilyText]], *, openmetrics: bool
) -> Sequence[_FamilyText]:
    if isinstance(family, FamilyMetric):
        return [_FamilyText(family, openmetrics=openmetrics)]
    plain = plain_section(family, openmetrics=openmetrics) if run.is_default else None
    sections = [plain] if plain else sections_of(family, run.fail, openmetrics=openmetrics)
    return [_FamilyText(section, openmetrics=openmetrics) for section in sections]


def _messages(
    family: Metric, run: CollectorRun[Sequence[_FamilyMessage]]
) -> Sequence[_FamilyMessage]:
    if isinstance(family, FamilyMetric):
        return [_FamilyMessage(family)]
    return list(map(_FamilyMessage, message_sections_of(family, run.fail)))


class Written(Protocol):
    """A family on a page."""

    @property
    def is_own(self) -> bool:
        """Whether it is one of hypertrace."""

    @property
    def title(self) -> str:
        """Its name, which no other family of the page has."""

    @property
    def names(self) -> AbstractSet[str]:
        """The names of its samples."""

    def pieces(self, names: AbstractSet[str]) -> tuple[bytes, ...]:
        """Return what is written of these names, empty for all; nothing if there are none."""

    def join(self, other: Self, fail: Fail) -> None:
        """Add the series of another one, which is not of hypertrace, either.

        Args:
            other: gives its series.
            fail: receives an error for what cannot be added.
        """


class Exposition:
    """The result of one collection, as pages for any number of requests.

    Only the families that a request asks for are written, each once for all requests. Requests that
    differ only in names that no sample has get the same page. Not for several threads at once.
    """

    def __init__(self, parts: Iterable[Written], end: bytes = b"") -> None:
        """Start with these parts, in their order, and what follows them."""
        self._end = end
        self._parts = list(parts)
        self._pages: dict[AbstractSet[str], bytes] = {}

    def names(self, *, is_own: bool) -> frozenset[str]:
        """Return the names of all samples of hypertrace, or of all others."""
        return frozenset(
            name for part in self._parts if part.is_own is is_own for name in part.names
        )

    def page(self, names: AbstractSet[str] = frozenset()) -> bytes:
        """Return the page.

        Args:
            names: of the samples to show; a family without any of them is left out. Empty means
                all. A message is shown whole: it has all samples of its family.

        Raises:
            Exception: a metric of the exporter cannot be read.
        """
        if not names:
            return self._joined(names)
        shown = frozenset(name for part in self._parts for name in part.names & names)
        if shown not in self._pages:
            self._pages[shown] = self._joined(shown) if shown else self._end
        return self._pages[shown]

    def _joined(self, names: AbstractSet[str]) -> bytes:
        pieces = [piece for part in self._parts for piece in part.pieces(names)]
        return b"".join([*pieces, self._end])


class _FamilyText:
    """The text of a family, written when it is first asked for."""

    def __init__(self, part: FamilyMetric | Section, *, openmetrics: bool) -> None:
        self._part = part
        self._openmetrics = openmetrics
        self._text: tuple[bytes, bytes] | None = None
        self._runs: list[tuple[bytes, int, int]] | None = None

    @property
    def is_own(self) -> bool:
        return isinstance(self._part, FamilyMetric)

    @property
    def title(self) -> str:
        return self._part.title(openmetrics=self._openmetrics)

    @property
    def names(self) -> AbstractSet[str]:
        return self._part.names

    def join(self, other: Self, fail: Fail) -> None:
        if isinstance(self._part, Section) and isinstance(other._part, Section):
            self._part.join(other._part, fail)

    def pieces(self, names: AbstractSet[str]) -> tuple[bytes, ...]:
        """Return the head and the lines of these names, or nothing if there are none."""
        if not names:
            return self._text or self._written()
        shown = self.names & names
        if not shown:
            return ()
        head, body = self._written()
        if shown != self.names:
            wanted = {name.encode() for name in shown}
            body = b"".join([body[i:j] for name, i, j in self._places() if name in wanted])
        return (head, body) if body else ()

    def _written(self) -> tuple[bytes, bytes]:
        if self._text is None:
            self._text = self._write()
        return self._text

    def _write(self) -> tuple[bytes, bytes]:
        part = self._part
        if isinstance(part, Section):
            return part.head, part.body
        # After all collectors have run, so that it includes the failures of this collection.
        lines = part.lines(openmetrics=self._openmetrics)
        return part.head(openmetrics=self._openmetrics).encode(), _encoded(lines)

    def _places(self) -> list[tuple[bytes, int, int]]:
        """Return name, start and end of each run of lines with the same name."""
        if self._runs is None:
            _, body = self._written()
            self._runs = [(run[1], *run.span()) for run in _RUN.finditer(body)]
        return self._runs


class _FamilyMessage:
    """The message of a family, written when it is first asked for."""

    def __init__(self, part: FamilyMetric | MessageSection) -> None:
        self._part = part
        self._message: bytes | None = None

    @property
    def is_own(self) -> bool:
        return isinstance(self._part, FamilyMetric)

    @property
    def title(self) -> str:
        part = self._part
        return part.title if isinstance(part, MessageSection) else part.title(openmetrics=False)

    @property
    def names(self) -> AbstractSet[str]:
        return self._part.names

    def join(self, other: Self, fail: Fail) -> None:
        if isinstance(self._part, MessageSection) and isinstance(other._part, MessageSection):
            self._part.join(other._part, fail)

    def pieces(self, names: AbstractSet[str]) -> tuple[bytes, ...]:
        """Return the message, or nothing if it has none of these names."""
        if names and not self.names & names:
            return ()
        # After all collectors have run, so that it includes the failures of this collection.
        if self._message is None:
            self._message = self._part.message()
        return (self._message,)


def _joined(runs: list[CollectorRun[Sequence[W]]]) -> Iterable[W]:
    """Return the parts of the page in the order of the collectors, each family once."""
    given = [
        (part.title, part, run) for run in runs for parts in run.results.copy() for part in parts
    ]
    ours = {title for title, part, _ in given if part.is_own}
    page: dict[str, W] = {}
    for title, part, run in given:
        if part.is_own:
            page[title] = part
        elif title in ours:
            run.fail(ValueError(f"it gave {title}, which is a metric of hypertrace"))
        else:
            first = page.setdefault(title, part)
            if first is not part:
                first.join(part, run.fail)
    return page.values()


def _encoded(lines: list[str]) -> bytes:
    """Return the lines as bytes, and empty the list if it is long."""
    if len(lines) <= _LINES_AT_ONCE:
        return "".join(lines).encode(errors="replace")
    return b"".join(_in_pieces(lines))


def _in_pieces(lines: list[str]) -> Iterator[bytes]:
    # Other threads wait for as long as a single step takes.
    while lines:
        piece = lines[:_LINES_AT_ONCE]
        del lines[:_LINES_AT_ONCE]
        # A value that is no valid Unicode, as in an exemplar, must not cost the page.
        yield "".join(piece).encode(errors="replace")
