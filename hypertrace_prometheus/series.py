"""The series of a metric, bounded, and what is counted in each."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet, ref

from . import labels as label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace import Caller, TracedObject

    from .labels import Labels

OVERFLOW = label.render({label.CLASS: "<overflow>"})
"""Labels of the series in which all updates past the limit are counted."""

_logger = logging.getLogger("hypertrace_prometheus")


V = TypeVar("V")


class SeriesTable(Generic[V]):
    """The series of one metric: rendered labels, each with what counts it.

    Any thread may count and read. Creating a series takes a lock that no foreign code runs under;
    counting and reading take none.
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
        self._lock = RLock()
        self._warned = False
        self._owned: dict[tuple[str, int], tuple[_Owner, list[str]]] = {}
        self._gone: deque[_Owner] = deque()
        _all_series.add(self)

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
        if held is not None:
            return held
        self.drop_gone()
        tracer = None if owner is None else owner.tracer
        if owner is not None and tracer is None:
            return self._make(
                labels
            )  # the event was kept too long: its series would be dropped unseen
        with self._lock:
            # Made first: a finalizer may run at any call, trace, and make the same series.
            made = self._make(labels)
            held = self._held.get(text)
            if held is None and not self.is_full:
                held = self._held.setdefault(text, made)
                if owner is not None and held is made:
                    self._own(owner, tracer, text)
        if held is None:
            held = self.overflow
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
            with self._lock, suppress(IndexError):  # another thread, or a finalizer, was faster
                _, texts = self._owned.pop(self._gone.popleft().key)
                for text in texts:
                    del self._held[text]

    def renew_lock(self) -> None:
        """Forget who holds the lock: in a forked child that may be a thread of the parent."""
        self._lock = RLock()

    def _own(self, owner: TracedObject, tracer: object, text: str) -> None:
        key = owner.class_name, owner.id
        if key not in self._owned:
            reference = _Owner(tracer, self._gone.append)
            reference.key = key
            self._owned.setdefault(key, (reference, []))
        self._owned[key][1].append(text)

    def _warn(self, caller: Caller) -> None:
        if self._warned:
            return
        self._warned = True
        name, values = self._widest_label()
        _logger.warning(
            "%s holds %d series, its limit; further ones are counted in {%s}. The label with the "
            "most values is %s (%d values), traced last at %s:%d: allow fewer props or ids there, "
            "or raise max_series",
            self.name,
            len(self),
            OVERFLOW,
            name,
            values,
            label.import_path(caller),
            caller.line,
        )

    def _widest_label(self) -> tuple[str, int]:
        values: set[tuple[str, str]] = set()
        for text in list(self._held):
            values.update(label.parse(text).items())
        counts = Counter(name for name, _ in values)
        return counts.most_common(1)[0] if counts else ("", 0)


class _Owner(ref[object]):
    """A weak reference to a tracer that tells which object's series go with it."""

    __slots__ = ("key",)

    key: tuple[str, int]


_all_series: WeakSet[SeriesTable[Any]] = WeakSet()


def _renew_locks() -> None:
    for series in _all_series:
        series.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
