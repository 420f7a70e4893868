"""How long the spans of a series took, how they ended, and how many are open."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from hypertrace import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds in seconds: from what a method takes to what a request may."""


RESULTS = ("ok", "error", "cancelled")
"""How a span can end."""

_MAX_BUFFERED = 128
_LONGEST = 1e15
"""Seconds. Sums of what is not longer stay finite for ever."""


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
    Any thread may append, fold and read, also a signal handler or a finalizer that runs in the
    midst of it. Nobody waits for anybody: there is no lock, and so none to be held in a fork.
    """

    __slots__ = ("_counts", "_exemplars", "_total", "bounds", "buffer")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start empty, with buckets up to each of `bounds` (seconds, ascending) and infinity."""
        self.bounds = bounds
        self.buffer: list[float] = []
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def add(self, seconds: float) -> None:
        """Add one duration."""
        self.buffer.append(seconds)
        if len(self.buffer) > _MAX_BUFFERED:
            self.fold()

    def remember(self, seconds: float, labels: Mapping[str, str]) -> None:
        """Let a duration that was added stand for those of its bucket."""
        bucket = bisect_left(self.bounds, seconds)
        self._exemplars[bucket] = Exemplar(labels, seconds, time.time())

    def fold(self) -> bool:
        """Bring the durations in the buffer into the buckets, each as `duration()` has it.

        Returns:
            False if another fold came in between: then that one has done it for what it found.
        """
        before = self._counts
        taken = self.buffer.copy()
        if not taken:
            return True
        durations, seconds = _ascending(taken)
        counts = _added(before, durations, self.bounds)
        total = self._total + seconds
        head = slice(len(taken))
        # Nothing is called and no object is made from here on: no signal, no finalizer, no other
        # thread and no fork comes in between. So each duration is either in the buffer (others
        # append meanwhile) or in its bucket, and nobody else has taken what is taken here.
        if self._counts is not before:
            return False
        del self.buffer[head]
        self._counts = counts
        self._total = total
        return True

    def read(self) -> Snapshot:
        """Return all durations that were added before, in buckets that are consistent."""
        self._settle()
        counts, total = self._counts, self._total
        return Snapshot(self.bounds, list(accumulate(counts)), total, self._exemplars.copy())

    @property
    def count(self) -> int:
        """How many durations there are."""
        self._settle()
        return sum(self._counts)

    def _settle(self) -> None:
        # Whoever makes the second fold fail began after the first: it has taken all that was there.
        _ = self.fold() or self.fold()


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
        bounds = tuple(map(_bound, buckets))
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


def _bound(value: float) -> float:
    if isinstance(value, str | bytes):  # float() would read them
        raise TypeError(f"{value!r} is no number")
    try:
        return float(value)
    except OverflowError:
        return math.nan  # to be refused: it is not finite


def duration(value: object) -> float:
    """Return a number of seconds as it is counted: what is no plausible duration is 0.

    That is what is below zero, infinite or no number, as from a clock that was patched. Never
    raises.
    """
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 -- whatever a value of the application raises
        return 0.0
    return seconds if 0 <= seconds <= _LONGEST else 0.0


def _ascending(values: list[float]) -> tuple[list[float], float]:
    """Return values as they are counted, in order, and their sum."""
    try:
        ordered = sorted(values)
        seconds = sum(ordered)
        # Among numbers that have no order, the sum is none either.
        if type(seconds) is float and ordered[0] >= 0 and seconds <= _LONGEST:
            return ordered, seconds
    except Exception:  # noqa: BLE001, S110 -- as above
        pass
    ordered = sorted(map(duration, values))
    return ordered, sum(ordered)


def _added(counts: list[int], durations: list[float], bounds: tuple[float, ...]) -> list[int]:
    """Return counts of buckets with some durations, in ascending order, added."""
    counts, below = counts.copy(), 0
    for bucket, bound in enumerate(bounds):
        up_to = bisect_right(durations, bound, below)
        counts[bucket] += up_to - below
        below = up_to
        if below == len(durations):
            break
    counts[-1] += len(durations) - below
    return counts
