"""Series: the sets of label values of one metric, bounded, each with what counts it."""

from __future__ import annotations

import logging
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress, filterfalse
from operator import gt
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from weakref import ref

from hypertrace import suppress_tracing

from . import labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace import Caller, TracedObject
    from hypertrace.number_cells import Convert
    from hypertrace.sample_cells import SampleCell

    from .declarations import Declaration
    from .labels import Values

Key: TypeAlias = "tuple[Values, Values]"
"""Label values of a series: those that all calls of its call site have in common, which it shares
with other series, and the others."""

OVERFLOW = "<overflow>"
"""First label value of the series in which all updates past the limit are counted."""

_EXAMINED = 1_000
"""Series that the warning about the limit examines: all of a large table would take too long."""

_logger = logging.getLogger("hypertrace.metrics")


class Series:
    """One set of label values of one metric. Its subclasses hold what is counted."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        """Make a series.

        Args:
            key: its label values.
        """
        self.key: Key = key

    @property
    def labels(self) -> Values:
        """The label values, in the order of the label names of its metric."""
        common, others = self.key
        return common + others

    @property
    def samples(self) -> SampleCell | None:
        """What gets each value, too, where this process adds some and single ones are wanted."""
        return None


S = TypeVar("S", bound=Series)


@dataclass(frozen=True)
class SeriesKind(Generic[S]):
    """What the series of a table hold.

    Attributes:
        name: as the journal of shared counts has it.
        made: makes a series in memory, of a key and what the settings say.
        settings: what JSON can hold; equal ones in all workers that share a table.
        convert: of the cells; see `hypertrace.number_cells`.
    """

    name: str
    made: Callable[[Key], S] = field(compare=False)
    settings: tuple[Any, ...] = ()
    convert: Convert = field(default=None, compare=False)

    def make(self, key: Key) -> S:
        """Return a new series in memory."""
        return self.prepared(self.made(key))

    def prepared(self, series: S) -> S:
        """Return a series whose cell exists, with what it needs in this process."""
        if self.convert is not None:
            series.cell.convert = self.convert  # type: ignore[attr-defined]
        return series


class SeriesTable(Generic[S]):
    """The series of one metric.

    Any thread may count, read and make series, also a signal handler or a finalizer that runs in
    the middle of a call. There is no lock: no thread waits, and a forked child finds none taken.

    Attributes:
        declaration: what the metric is.
        limit: how many series are held at the most; further ones share an overflow series.
        parts: what the other metrics are that are read from the same series.
        kind: what the series hold.
    """

    def __init__(
        self,
        declaration: Declaration,
        limit: int,
        names: tuple[Values, Values],
        kind: SeriesKind[S],
    ) -> None:
        """Start without series.

        Args:
            declaration: what the metric is.
            limit: how many series are held at the most.
            names: of the labels, as the values stand in a key; the first common one is that of
                the class.
            kind: what the series hold.
        """
        self.declaration: Declaration = declaration
        self.limit = limit
        self.names = names
        self.kind: SeriesKind[S] = kind
        self.parts: tuple[Declaration, ...] = ()
        self._overflow: S | None = self._make(overflow_key(names))
        self._held: dict[Key, S] = {}
        self._warned = Lock()
        self._owners: dict[_Owner, _Owner] = {}
        self._gone: deque[_Owner] = deque()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def overflow(self) -> S:
        """The series that counts what is past the limit."""
        return self._overflow  # type: ignore[return-value]  # here it is always set

    def is_overflow(self, series: S) -> bool:
        """Whether a series is the one past the limit."""
        return series is self._overflow

    @property
    def is_full(self) -> bool:
        """Whether a series with new labels would be counted in the overflow."""
        return len(self._held) >= self.limit

    @property
    def label_names(self) -> Values:
        """Names of all labels, as in `Series.labels`."""
        common, others = self.names
        return common + others

    def get(self, key: Key, caller: Caller, owner: TracedObject | None = None) -> S:
        """Return the series of some label values, which is made if there is room.

        Args:
            key: the label values.
            caller: the traced line, named in the warning about the limit.
            owner: the series is dropped once the tracer of this object is gone; None keeps it.
        """
        held = self._held.get(key)
        if held is None:
            held = self._new(key, owner)
        if held is None:
            held = self.overflow
            if self._warned.acquire(blocking=False):  # never released: one warning is enough
                with suppress(Exception):  # a broken log handler must not cost a count
                    self._warn(caller)
        return held

    def expect(self, key: Key, caller: Caller) -> S:
        """Return the series of some label values, to be shown before anything is counted in it.

        Args:
            key: the label values.
            caller: as in `get`.
        """
        return self.get(key, caller)

    def take_over(self, declaration: Declaration, kind: SeriesKind[S]) -> None:
        """Go on as the table of an equal metric, with the objects of this call.

        Args:
            declaration: what the metric is.
            kind: of the same name and settings as before.
        """
        self.declaration, self.kind = declaration, kind
        for series in self.all():
            if getattr(series, "cell", None) is not None:  # else it gets one later
                kind.prepared(series)

    def all(self) -> list[S]:
        """Return all series in the order in which they were made, the overflow last."""
        self.drop_gone()
        # A copy first: a finalizer may run when a list is made of a dict, trace, and add series.
        series = [*self._held.copy().values()]
        return series if self._overflow is None else [*series, self._overflow]

    def drop_gone(self) -> None:
        """Drop the series of owners that are gone."""
        while self._gone:
            with suppress(IndexError, ValueError):  # another thread, or a finalizer, was faster
                owner = self._gone[0]
                for key in owner.keys:
                    self._held.pop(key, None)
                self._owners.pop(owner, None)
                self._gone.remove(owner)  # last, so that an interrupt leaves it to the next call

    def _make(self, key: Key) -> S:
        """Return a new series, which is not held yet."""
        return self.kind.make(key)

    def _new(self, key: Key, owner: TracedObject | None) -> S | None:
        """Return a series that was not held, None if there is no room for it."""
        self.drop_gone()
        tracer = None if owner is None else owner.tracer
        if owner is not None and tracer is None:
            # The event outlived its object: the series would be dropped before it is read.
            return self._make(key)
        if not self.is_full:
            made = self._make(key)
            if tracer is not None:  # first, so that an interrupt leaves no series without owner
                self._own(tracer, key)
            self._hold(key, made)
        return self._held.get(key)  # also at the limit: another thread may just have made it

    def _hold(self, key: Key, made: S) -> None:
        """Hold a series, unless there is one with these labels or no room.

        Check and insert run in one C call that executes no Python and allocates nothing that the
        garbage collector tracks, so no thread, signal handler or finalizer runs in between.
        """
        is_new = filterfalse(self._held.__contains__, (key,))
        has_room = map(gt, (self.limit,), map(len, (self._held,)))
        next(map(self._held.setdefault, is_new, compress((made,), has_room)), None)

    def _own(self, tracer: object, key: Key) -> None:
        # The caller holds the tracer, so it does not go before all its series are listed.
        owner = _Owner(tracer, self._gone.append)
        owner.keys = []
        self._owners.setdefault(owner, owner).keys.append(key)

    def _warn(self, caller: Caller) -> None:
        examined = list(self._held)[-_EXAMINED:]
        name, values = self._widest_label(examined)
        # What is traced in here is dropped: so nothing but the log handlers of the application.
        suppress_tracing(
            _logger.warning,
            "%s holds %d series, its limit; further ones are counted in {%s=%r}. The label with "
            "the most values is %s (%d values in the last %d series), traced last at %s:%d: "
            "give it fewer values there, leave it out, or raise max_series",
            self.declaration.name,
            len(self),
            self.label_names[0],
            OVERFLOW,
            name,
            values,
            len(examined),
            labels.import_path(caller),
            caller.line,
        )

    def _widest_label(self, keys: list[Key]) -> tuple[str, int]:
        names = self.label_names
        pairs = {
            pair for common, others in keys for pair in zip(names, common + others, strict=True)
        }
        counts = Counter(name for name, value in pairs if value)
        return counts.most_common(1)[0] if counts else ("", 0)


class _Owner(ref[object]):
    """A weak reference to a tracer that knows the keys of the series which go with it."""

    __slots__ = ("keys",)

    keys: list[Key]


def overflow_key(names: tuple[Values, Values]) -> Key:
    """Return the label values of the series that counts what is past the limit.

    Args:
        names: of the labels, as the values stand in a key.
    """
    common, others = names
    return (OVERFLOW, *("" for _ in common[1:])), tuple("" for _ in others)
