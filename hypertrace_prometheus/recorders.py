"""Recorders: what the core calls instead of building events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from hypertrace import PropsRecorder

from .timings import RESULTS, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypertrace import SpanEvent, Upstream

    from .timings import Timings

    Props = Mapping[str, object]

T = TypeVar("T")

_TEXTS = frozenset(map(id, (str, type(None))))
"""Types by their ids: a metaclass may hash and compare as it likes."""

_PLAIN = _TEXTS | set(map(id, (int, bool)))

_LARGE = 10**15
"""Smaller integers have texts that no limit cuts."""


class PropsIndex(Generic[T]):
    """Finds what belongs to the values of the allowed props, and remembers it.

    Only strings that are their own text, small integers, booleans and values left out are
    remembered, and nothing of an overflow: so what it keeps is bounded by the series there are.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        make: Callable[[Props], T],
        is_lasting: Callable[[T], bool],
        text: Callable[[object], str],
    ) -> None:
        """Start empty.

        Args:
            names: of the allowed props.
            make: finds or makes what belongs to props; it may be slow.
            is_lasting: whether it may be remembered.
            text: turns a value into the text of its label.
        """
        self.names = names
        self.known: dict[tuple[object, ...], T] = {}
        # With the types of the values: 1 and True are equal, but not as texts.
        self._numbers: dict[tuple[tuple[object, ...], tuple[type, ...]], T] = {}
        self._make = make
        self._is_lasting = is_lasting
        self._text = text

    def find(self, props: Props) -> T:
        """Return what belongs to some props."""
        values = tuple(map(props.get, self.names))
        # To look others up would run code of their own, which may say that they equal a text.
        is_text = _TEXTS.issuperset(map(id, map(type, values)))
        found = self.known.get(values) if is_text else None
        return self.made(values, props) if found is None else found

    def made(self, values: tuple[object, ...], props: Props) -> T:
        """Return what belongs to values that are not in `known`."""
        types = tuple(map(type, values))
        plain = _PLAIN.issuperset(map(id, types))
        if plain and (found := self._numbers.get((values, types))) is not None:
            return found
        found = self._make(props)
        if not self._is_lasting(found):
            return found
        if all(map(self._is_own_text, values)):
            self.known[values] = found
        elif plain and all(map(self._is_shown_whole, values)):
            self._numbers[values, types] = found
        return found

    def _is_own_text(self, value: object) -> bool:
        return value is None or (type(value) is str and self._text(value) == value)

    def _is_shown_whole(self, value: object) -> bool:
        return self._is_own_text(value) or (isinstance(value, int) and abs(value) < _LARGE)


def props_recorder(index: PropsIndex[Callable[[], object]]) -> Callable[[Props], object]:
    """Return a recorder of calls with props, from an index of recorders without."""
    if not index.names:
        index.known[()] = index.find({})
    return PropsRecorder(index.names, index.known, index.made).record


class SpanMetrics(Protocol):
    """What keeps the metrics of spans."""

    def timings_of(self, event: SpanEvent) -> Timings:
        """Return the timings of the series that a span ends in."""

    def count_ending(self, event: SpanEvent) -> None:
        """Count the exception that ended a span, if there is one."""

    def exemplar(self) -> Mapping[str, str] | None:
        """Return what to remember the span by that ends now."""


class TimingsRecorder:
    """Records the spans of one call site; see `hypertrace.SpanRecorder`.

    A span that ends well and has nothing to tell is no more than an append to `durations`.
    """

    __slots__ = ("_metrics", "durations", "edge", "start", "timings")

    def __init__(
        self,
        timings: Timings,
        metrics: SpanMetrics,
        edge: Callable[[Upstream], Callable[[], object]] | None,
        *,
        simple: bool,
    ) -> None:
        """Record where spans start.

        Args:
            timings: of the series that spans start in.
            metrics: finds the series that others end in, and counts how they end.
            edge: finds what counts the spans inside another one; None if nobody wants to know.
            simple: nothing but the duration is wanted of a span that ends well.
        """
        self.timings = timings
        self._metrics = metrics
        self.edge = edge
        self.start = timings.started.increment
        self.durations = timings.results["ok"].buffer if simple else None

    def end(self, event: SpanEvent) -> None:
        """Take the end of a span."""
        timings = self._metrics.timings_of(event) if event.caller.props else self.timings
        if timings is not self.timings:
            self.timings.moved_to(timings)
        result, seconds = _result_of(event), duration(event.duration)
        timings.end(result, seconds)
        self._metrics.count_ending(event)
        exemplar = self._metrics.exemplar()
        if exemplar is not None:
            timings.remember(result, seconds, exemplar)

    def fold(self) -> None:
        """Make room in `durations`."""
        self.timings.results["ok"].fold()


def _result_of(event: SpanEvent) -> str:
    # An event that somebody made may have any. Each would be a histogram of its own.
    result = str.__str__(event.result) if issubclass(type(event.result), str) else ""
    return result if result in RESULTS else "error"
