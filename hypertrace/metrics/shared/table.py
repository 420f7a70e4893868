"""Shared table: the series of one metric in all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hypertrace.metrics.series import Series, SeriesTable, overflow_key

from .aggregations import NOWHERE, SPANS, SharedHistogram, SharedSpans
from .kinds import KINDS

if TYPE_CHECKING:
    from hypertrace import Caller, TracedObject
    from hypertrace.metrics.declarations import Declaration
    from hypertrace.metrics.labels import Values
    from hypertrace.metrics.series import Key, SeriesKind

    from .aggregations import Places, SharedCalls
    from .journal import Record

C = TypeVar("C", bound=Series)


class SharedTable(SeriesTable[C]):
    """The series of one metric in all workers: the first ones in the journal, up to the limit.

    Attributes:
        number: of the table in the journal; None as long as no worker has a series in it.
        places: gives cells.
    """

    def __init__(
        self,
        declaration: Declaration,
        limit: int,
        names: tuple[Values, Values],
        kind: SeriesKind[C],
        places: Places,
    ) -> None:
        """Start without series.

        Args:
            declaration: what the metric is.
            limit: how many series are held at the most.
            names: of the labels, as in `SeriesTable`.
            kind: what the series hold.
            places: gives cells.
        """
        self.number: int | None = None
        self.places: Places = places
        self.overflow_key: Key = overflow_key(names)
        super().__init__(declaration, limit, names, kind)
        self._overflow = None
        self._made_overflow: dict[Key, C] = {}
        self._wanted: dict[Key, Key] = {}

    @property
    def overflow(self) -> C:
        """The series that counts what is past the limit."""
        if self._overflow is None:
            self._place(self.overflow_key)
        overflow = self._overflow
        if overflow is None:
            self.adopt(self.overflow_key, NOWHERE)
            return self.overflow
        overflow.open(self)  # type: ignore[attr-defined]
        return overflow

    @property
    def record(self) -> Record:
        """What the journal says of the table."""
        it = self.declaration
        return [
            *("table", self.kind.name, it.name, *map(list, self.names)),
            *(self.limit, it.description, it.unit),
            *self.kind.settings,
            *[part.name for part in self.parts],
        ]

    def get(self, key: Key, caller: Caller, owner: TracedObject | None = None) -> C:
        """Return the series of some label values; see `SeriesTable`."""
        series = super().get(key, caller, owner)
        series.open(self)  # type: ignore[attr-defined]
        return series

    def expect(self, key: Key, caller: Caller) -> C:
        """Return a series; this process is no worker for it as long as it counts nothing."""
        return super().get(key, caller)

    def find(self, key: Key) -> C | None:
        """Return the series of some label values, if it is held."""
        return self._overflow if key == self.overflow_key else self._held.get(key)

    def adopt(self, key: Key, at: int) -> None:
        """Hold a series that the journal has, or one in memory. Twice has no effect."""
        held = self.find(key)
        if held is None:
            # The objects of this process, whose texts other objects have, too.
            made = self._make(self._wanted.get(key, key))
            made.at = at  # type: ignore[attr-defined]  # first: a signal handler may open it at once
            # Of several threads that get here, all take the same.
            if key == self.overflow_key:
                held = self._overflow = self._made_overflow.setdefault(key, made)
            else:
                held = self._held.setdefault(made.key, made)
        if held.at < 0:  # type: ignore[attr-defined]
            held.at = at  # type: ignore[attr-defined]

    def place_spans(self, calls: SharedCalls) -> SharedSpans | None:
        """Return the spans of a series, which get cells if they have none."""
        if calls.spans is None:
            self._place(calls.key, SPANS, ())
        return calls.spans if isinstance(calls.spans, SharedSpans) else None

    def place_result(
        self, spans: SharedSpans, result: str, bounds: tuple[float, ...]
    ) -> SharedHistogram | None:
        """Return the histogram of a result, which gets cells if it has none."""
        self._place(spans.calls.key, result, bounds)
        histogram = spans.results.get(result)
        return histogram if isinstance(histogram, SharedHistogram) else None

    def place_part(self, key: Key, part: str) -> None:
        """Give a part of a series cells, unless it has some or there is no room."""
        self._place(key, part, ())

    def _new(self, key: Key, owner: TracedObject | None) -> C | None:  # noqa: ARG002
        if not self.is_full:
            self._wanted[key] = key
            if not self._place(key) and not self.is_full:
                self.adopt(key, NOWHERE)
            self._wanted.pop(key, None)
        return self._held.get(key)

    def _place(self, key: Key, *part: object) -> bool:
        if self.number is None:
            self.places.place(self.record)
        if self.number is None:  # there is no room, or another thread made the table meanwhile
            return False
        return self.places.place([self.number, *key, *part])

    def _make(self, key: Key) -> C:
        return KINDS[self.kind.name].made(key, NOWHERE, self)  # type: ignore[return-value]
