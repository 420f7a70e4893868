"""How long the spans of a series took, how they ended, and how many are open."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left, bisect_right
from itertools import pairwise
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple

from hypertrace import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds in seconds: from what a method takes to what a request may."""


_MAX_BUFFERED = 128

_lock = RLock()
"""Held while durations are folded and read, which takes microseconds."""


class Exemplar(NamedTuple):
    """A span that stands for those of its bucket."""

    labels: Mapping[str, str]
    value: float
    """Seconds it took."""
    timestamp: float
    """When it ended, in seconds since the epoch."""


class Snapshot(NamedTuple):
    """A histogram at one moment, consistent in itself."""

    bounds: tuple[float, ...]
    """Upper bounds of the buckets in seconds, without infinity."""
    cumulative: list[int]
    """For each bound and infinity: how many durations are not above it."""
    total: float
    """Sum of all durations in seconds."""
    exemplars: Mapping[int, Exemplar]
    """By index of the bucket: the last exemplar in it."""


class Histogram:
    """Durations in buckets.

    Adding one is an append to a list, which is folded into the buckets when it is long or read.
    Any thread may append, fold and read.
    """

    __slots__ = ("_counts", "_exemplars", "_folding_in", "_total", "bounds", "buffer")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start empty, with buckets up to each of `bounds` (seconds, ascending) and infinity."""
        self.bounds = bounds
        self.buffer: list[float] = []
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._exemplars: dict[int, Exemplar] = {}
        self._folding_in = 0

    def add(self, seconds: float) -> None:
        """Add one duration."""
        self.buffer.append(seconds)
        if len(self.buffer) > _MAX_BUFFERED:
            self.fold()

    def remember(self, seconds: float, labels: Mapping[str, str]) -> None:
        """Let a duration that was added stand for those of its bucket."""
        bucket = bisect_left(self.bounds, seconds)
        self._exemplars[bucket] = Exemplar(labels, seconds, time.time())

    def fold(self) -> None:
        """Bring the durations in the buffer into the buckets."""
        with _lock:
            # A signal handler or finalizer that comes in between leaves the rest to this fold. The
            # number of the process tells a fold that a fork broke off in the parent.
            process = os.getpid()
            if self._folding_in == process:
                return
            self._folding_in = process
            try:
                self._count()
            finally:
                self._folding_in = 0

    def read(self) -> Snapshot:
        """Fold, and return what the buckets hold."""
        with _lock:
            self.fold()
            cumulative, total = [], 0
            for count in self._counts:
                total += count
                cumulative.append(total)
            return Snapshot(self.bounds, cumulative, self._total, dict(self._exemplars))

    @property
    def count(self) -> int:
        """How many durations there are."""
        self.fold()
        return sum(self._counts)

    def _count(self) -> None:
        durations, counts = sorted(self.buffer), self._counts.copy()
        taken, below = len(durations), 0
        for bucket, bound in enumerate(self.bounds):
            up_to = bisect_right(durations, bound, below)
            counts[bucket] += up_to - below
            below = up_to
            if below == taken:
                break
        counts[-1] += taken - below
        total = self._total + sum(durations)
        # Nothing is called from here on: no signal, no other thread and no fork comes in between,
        # so each duration is either in the buffer (others append meanwhile) or in its bucket.
        del self.buffer[:taken]
        self._counts = counts
        self._total = total


class Timings:
    """The spans of one series: a histogram for each result, and how many are open."""

    __slots__ = ("_arrived", "_left", "bounds", "results", "started")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start without spans, with buckets up to `bounds`."""
        self.bounds = bounds
        self.results = {"ok": Histogram(bounds)}
        self.started = Cell()
        self._left = Cell()
        self._arrived = Cell()

    def end(self, result: str, seconds: float) -> None:
        """Take the end of a span."""
        histogram = self.results.get(result)
        if histogram is None:
            histogram = self.results.setdefault(result, Histogram(self.bounds))
        histogram.add(seconds)

    def remember(self, result: str, seconds: float, labels: Mapping[str, str]) -> None:
        """Keep an exemplar of a span that ended."""
        self.results[result].remember(seconds, labels)

    def moved_to(self, other: Timings) -> None:
        """Tell that a span which started here is about to end there: its props changed.

        Before the end is taken there: who reads meanwhile must not find fewer than none open.
        """
        other._arrived.increment()
        self._left.increment()

    @property
    def finished(self) -> int:
        """How many spans ended here."""
        return sum(histogram.count for histogram in list(self.results.values()))

    @property
    def open(self) -> int:
        """How many spans that started here have not ended."""
        # The ends first: a span that comes in between must not make the number too small.
        ended_here = self.finished - self._arrived.value + self._left.value
        return self.started.value - ended_here


def checked_bounds(buckets: Sequence[float], name: str = "buckets") -> tuple[float, ...]:
    """Return upper bounds of buckets, in seconds, as they are used.

    Args:
        buckets: the bounds, with or without infinity.
        name: what the errors call them.

    Raises:
        TypeError: they are no numbers.
        ValueError: there are none, they do not ascend, or one is not above zero or not finite.
    """
    try:
        bounds = tuple(float(bound) for bound in buckets)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numbers of seconds, not {buckets!r}") from error
    if bounds and bounds[-1] == math.inf:
        bounds = bounds[:-1]
    ascending = all(a < b for a, b in pairwise(bounds))
    if not bounds or not ascending or not all(0 < bound < math.inf for bound in bounds):
        raise ValueError(
            f"{name} must be ascending numbers of seconds above zero, not {buckets!r}; infinity is "
            "added by itself"
        )
    return bounds


def _renew_lock() -> None:
    # A fork may copy the lock while another thread of the parent holds it.
    global _lock  # noqa: PLW0603
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
