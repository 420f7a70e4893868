"""The series of a metric, bounded, and what is counted in each."""

from __future__ import annotations

import logging
from collections import Counter, deque
from contextlib import suppress
from itertools import compress, filterfalse
from operator import gt
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import ref

from hypertrace import untraced

from . import labels as label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace import Caller, TracedObject

    from .labels import Labels

OVERFLOW = label.render({label.CLASS: "<overflow>"})
"""Labels of the series in which all updates past the limit are counted."""

_LOOKED_AT = 1_000
"""Series that the warning about the limit looks at: all of a large table would take too long."""

_logger = logging.getLogger("hypertrace_prometheus")


V = TypeVar("V")


class SeriesTable(Generic[V]):
    """The series of one metric: rendered labels, each with what counts it.

    Any thread may count, read and make series, also a signal handler or a finalizer that runs in
    the midst of it. Nobody waits for anybody: there is no lock, and so none to be held in a fork.
    """

    def __init__(self, name: str, limit: int, make: Callable[[Labels], V]) -> None:
        """Start without series.

        Args:
            name: of the metric.
            limit: how many series are held at the most; further ones share an overflow series.
            make: makes what counts a series, given its labels.
        """
        self.name = name
        self.limit = limit
        self.overflow = make({})
        self._make = make
        self._held: dict[str, V] = {}
        self._warned = Lock()
        self._owners: dict[_Owner, _Owner] = {}
        self._gone: deque[_Owner] = deque()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether a series with new labels would be counted in the overflow."""
        return len(self._held) >= self.limit

    def get(self, labels: Labels, caller: Caller, owner: TracedObject | None = None) -> V:
        """Return what counts the series with some labels, which is made if there is room.

        Args:
            labels: names and values.
            caller: where it is traced; named in the warning about the limit.
            owner: the series is dropped once the tracer of this object is gone; None keeps it.
        """
        text = label.render(labels)
        held = self._held.get(text)
        if held is None:
            held = self._new(text, labels, owner)
        if held is None:
            held = self.overflow
            if self._warned.acquire(blocking=False):  # never given back: once is enough
                with suppress(Exception):  # a broken log handler must not cost a count
                    self._warn(caller)
        return held

    def items(self) -> Iterator[tuple[str, V]]:
        """Return rendered labels and what counts them of all series, the overflow last."""
        self.drop_gone()
        # Not list(): it makes tuples, at which a finalizer may run, trace, and add series.
        yield from self._held.copy().items()
        yield OVERFLOW, self.overflow

    def drop_gone(self) -> None:
        """Drop the series of owners that are gone."""
        while self._gone:
            with suppress(IndexError, ValueError):  # another thread, or a finalizer, was faster
                owner = self._gone[0]
                for text in owner.texts:
                    self._held.pop(text, None)
                self._owners.pop(owner, None)
                self._gone.remove(owner)  # last, so that an interrupt leaves it to the next time

    def _new(self, text: str, labels: Labels, owner: TracedObject | None) -> V | None:
        """Return what counts a series that was not held, None if there is no room for it."""
        self.drop_gone()
        tracer = None if owner is None else owner.tracer
        if owner is not None and tracer is None:
            # The event was kept too long: its series would be dropped unseen.
            return self._make(labels)
        if not self.is_full:
            made = self._make(labels)
            if tracer is not None:  # first, so that an interrupt leaves no series without owner
                self._own(tracer, text)
            self._hold(text, made)
        return self._held.get(text)  # also at the limit: another thread may just have made it

    def _hold(self, text: str, made: V) -> None:
        """Hold a series, unless there is one with these labels or no room.

        Look and leap are one step in C: it calls no Python and makes no object that the garbage
        collector counts, so neither a thread nor a signal nor a finalizer comes in between.
        """
        is_new = filterfalse(self._held.__contains__, (text,))
        has_room = map(gt, (self.limit,), map(len, (self._held,)))
        next(map(self._held.setdefault, is_new, compress((made,), has_room)), None)

    def _own(self, tracer: object, text: str) -> None:
        # Whoever is here holds the tracer: it goes when all its series are told.
        owner = _Owner(tracer, self._gone.append)
        owner.texts = []
        self._owners.setdefault(owner, owner).texts.append(text)

    def _warn(self, caller: Caller) -> None:
        texts = list(self._held)[-_LOOKED_AT:]
        name, values = _widest_label(texts)
        # What is traced meanwhile is dropped: so no more than the application's log handlers.
        untraced(
            _logger.warning,
            "%s holds %d series, its limit; further ones are counted in {%s}. The label with the "
            "most values is %s (%d values in the last %d series), traced last at %s:%d: allow "
            "fewer props or ids there, or raise max_series",
            self.name,
            len(self),
            OVERFLOW,
            name,
            values,
            len(texts),
            label.import_path(caller),
            caller.line,
        )


class _Owner(ref[object]):
    """A weak reference to a tracer that knows the series which go with it."""

    __slots__ = ("texts",)

    texts: list[str]


def _widest_label(texts: list[str]) -> tuple[str, int]:
    values = {pair for text in texts for pair in label.parse(text).items()}
    counts = Counter(name for name, _ in values)
    return counts.most_common(1)[0] if counts else ("", 0)
