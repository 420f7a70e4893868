"""Recorders: what the core calls instead of building events."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from hypertrace import PropsRecorder, current_entry
from hypertrace.inspection import are_texts

from .aggregations import RESULTS, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypertrace import SpanEvent, Upstream
    from hypertrace.cells import CellGroup

    from .aggregations import Spans
    from .labels import Labeller, Values

    Props = Mapping[str, object]

T = TypeVar("T")

_PLAIN = frozenset(map(id, (str, type(None), int, bool)))
"""Types by their ids: a metaclass may hash and compare as it likes."""

_MOST_ENTRIES = 1_000
"""Entries that a call site remembers; beyond it, it forgets all and starts again."""

_LARGE = 10**15
"""Smaller integers have texts that no limit cuts."""


class PropsIndex(Generic[T]):
    """Finds what belongs to the values of the allowed props, and remembers it.

    Only strings that are their own text, small integers, booleans and values left out are
    remembered, and nothing of an overflow: so what it keeps is bounded by the series there are, or
    by a number.
    """

    def __init__(
        self,
        labeller: Labeller,
        make: Callable[[Values], T],
        is_lasting: Callable[[T], bool],
        *,
        most: float = math.inf,
    ) -> None:
        """Start empty.

        Args:
            labeller: knows the allowed props, and turns their values into text.
            make: finds or makes what belongs to the texts of the values; it may be slow.
            is_lasting: whether what `make` returned may be remembered.
            most: how many combinations of values are remembered; beyond it, all are forgotten.
        """
        self.names: tuple[str, ...] = labeller.allowed
        self.known: dict[tuple[object, ...], T] = {}
        # With the types of the values: 1 and True are equal, but not as texts.
        self._numbers: dict[tuple[tuple[object, ...], tuple[type, ...]], T] = {}
        self._texts = labeller.of_props
        self._make = make
        self._is_lasting = is_lasting
        self._most = most

    def find(self, props: Props) -> T:
        """Return what belongs to some props."""
        values = tuple(map(props.get, self.names))
        # Looking other types up would run their code, which may say that they equal a text.
        found = self.known.get(values) if are_texts(values) else None
        return self.made(values, props) if found is None else found

    def made(self, values: tuple[object, ...], props: Props) -> T:
        """Return what belongs to values that are not in `known`."""
        types = tuple(map(type, values))
        plain = _PLAIN.issuperset(map(id, types))
        if plain and (found := self._numbers.get((values, types))) is not None:
            return found
        texts = self._texts(props)
        found = self.make(texts, props)
        if not self._is_lasting(found):
            return found
        if len(self.known) + len(self._numbers) >= self._most:
            self.known.clear()
            self._numbers.clear()
        if all(map(_is_own_text, values, texts)):
            # The texts stand in the key of the series, too: one tuple for both.
            self.known[texts if None not in values else values] = found
        elif plain and all(map(_is_shown_whole, values, texts)):
            self._numbers[values, types] = found
        return found

    def make(self, texts: Values, props: Props) -> T:  # noqa: ARG002 -- a subclass may look at them
        """Find or make what belongs to the texts of the values among some props."""
        return self._make(texts)


def props_recorder(index: PropsIndex[Callable[[], object]]) -> Callable[[Props], object]:
    """Return a recorder of calls with props, from an index of recorders without."""
    if not index.names:
        index.known[()] = index.find({})
    return PropsRecorder(index.names, index.known, index.made).record


class EntryRecorder(PropsRecorder):
    """Records calls in the series of the entry that their thread or task works for.

    What it calls traces nothing, so it is called directly.
    """

    __slots__ = ("_bind", "_by_entry")

    def __init__(self, bind: Callable[[], Callable[..., object]]) -> None:
        """Start without entries.

        Args:
            bind: returns what records calls that have the entry of this moment.
        """
        super().__init__((), {}, lambda *_: bind())
        self._bind = bind
        self._by_entry: dict[str, Callable[..., object]] = {}

    def record(self, *props: Props) -> None:
        """Record one call, with its props if it has some."""
        entry = current_entry()
        found = self._by_entry.get(entry)
        if found is None:
            if len(self._by_entry) >= _MOST_ENTRIES:
                self._by_entry.clear()
            found = self._by_entry[entry] = self._bind()
        found(*props)


class SpanEnds(Protocol):
    """What records how spans end."""

    @property
    def by_entry(self) -> bool:
        """Whether the series a span ends in depends on the entry."""

    def spans_of(self, event: SpanEvent) -> Spans:
        """Return the spans of the series that a span ends in."""

    def count_exception(self, event: SpanEvent) -> None:
        """Count the exception that ended a span, if there is one."""

    def exemplar(self) -> Mapping[str, str] | None:
        """Return the exemplar of the span that ends now, None if it has none."""


class SpansRecorder:
    """Records the spans of one call site; see `hypertrace.SpanRecorder`.

    A span that ends well and has nothing to report is no more than an append to `durations`.
    """

    __slots__ = ("_ends", "durations", "edge", "needs_busy", "spans", "start")

    def __init__(
        self,
        spans: Spans,
        ends: SpanEnds,
        edge: Callable[[Upstream], Callable[[], object]] | None,
        *,
        simple: bool,
    ) -> None:
        """Record in the series where spans start.

        Args:
            spans: of that series.
            ends: finds the series that other spans end in, and records how they end.
            edge: finds what counts the spans inside another one; None if edges are not counted.
            simple: nothing but the duration is wanted of a span that ends well.
        """
        self.spans: Spans = spans
        self._ends = ends
        self.edge: Callable[[Upstream], Callable[[], object]] | None = edge
        self.start: Callable[[], object] = spans.started.increment
        self.durations: list[float] | CellGroup | None = (
            spans.results["ok"].buffer if simple else None
        )
        self.needs_busy: bool = False

    def end(self, event: SpanEvent) -> None:
        """Record the end of a span."""
        moves = event.caller.props or self._ends.by_entry
        spans = self._ends.spans_of(event) if moves else self.spans
        if spans is not self.spans:
            self.spans.moved_to(spans)
        result, seconds = _result_of(event), duration(event.duration)
        spans.end(result, seconds)
        if result != "ok":
            self._ends.count_exception(event)
        exemplar = self._ends.exemplar()
        if exemplar is not None:
            spans.remember(result, seconds, exemplar)

    def move_to(self, other: object) -> bool:
        """Let a span that started here end there, as its props changed.

        To be called before its duration is appended there.

        Args:
            other: the recorder where it ends.

        Returns:
            Whether it may end there: it is a recorder of the same metrics.
        """
        if not isinstance(other, SpansRecorder) or other._ends is not self._ends:
            return False
        if other.spans is not self.spans:
            self.spans.moved_to(other.spans)
        return True

    def fold(self) -> None:
        """Make room in `durations`."""
        self.spans.results["ok"].fold()


def _result_of(event: SpanEvent) -> str:
    # An event that was made by hand may have any. Each would be a separate histogram.
    result = str.__str__(event.result) if issubclass(type(event.result), str) else ""
    return result if result in RESULTS else "error"


def _is_own_text(value: object, text: str) -> bool:
    return value is None or (type(value) is str and value == text)


def _is_shown_whole(value: object, text: str) -> bool:
    return _is_own_text(value, text) or (isinstance(value, int) and abs(value) < _LARGE)
