"""Aggregations: what holds the numbers of a series."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from hypertrace import Cell

from .reading import Exemplar, HistogramReading
from .samples import new_samples
from .series import Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypertrace.sample_cells import SampleCell

    from .series import Key

DEFAULT_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds in seconds: from what a method takes to what a request may."""

RESULTS = ("ok", "error", "cancelled")
"""How a span can end."""

_MAX_BUFFERED = 128
LONGEST = 1e15
"""Seconds. Sums of durations up to it stay finite."""


class Count(Series):
    """A count that only rises. Any thread may use it.

    Attributes:
        cell: what is incremented.
    """

    __slots__ = ("cell",)

    def __init__(self, key: Key) -> None:
        """Start at 0."""
        self.key = key
        self.cell: Cell = Cell()

    @property
    def value(self) -> int:
        """How often `cell` was incremented."""
        return self.cell.value

    def reset(self) -> None:
        """Start at 0 again, in a forked child that has one thread."""
        self.cell.reset()


class Calls(Count):
    """The calls of one series: those of `trace()`, and spans. Any thread may use it.

    Attributes:
        cell: counts calls of `trace()`.
        spans: the spans with the same labels, each of which is a call, too; None if there never
            was one.
    """

    __slots__ = ("spans",)

    def __init__(self, key: Key) -> None:
        """Start without calls."""
        super().__init__(key)
        self.spans: Spans | None = None

    @property
    def value(self) -> int:
        """How many calls there were."""
        return self.cell.value + self.read_spans().finished

    def reset(self) -> None:
        """Start without calls again, in a forked child that has one thread."""
        super().reset()
        if self.spans is not None:
            self.spans.reset()

    def read_spans(self) -> SpansReading:
        """Return the spans of this moment."""
        return NO_SPANS if self.spans is None else self.spans.read()

    def spans_in(self, bounds: tuple[float, ...]) -> Spans:
        """Return the spans, which start empty with buckets up to `bounds` if there are none yet."""
        if self.spans is None:
            # All that get here before the assignment get the same: `setdefault` is one step, and
            # only after the assignment is the entry removed.
            made = _being_made.setdefault(self, self._new_spans(bounds))
            if self.spans is None:
                self.spans = made
            _being_made.pop(self, None)
        return self.spans

    def _new_spans(self, bounds: tuple[float, ...]) -> Spans:
        return Spans(self.key, bounds)


_being_made: dict[Calls, Spans] = {}
"""Spans that are not assigned yet, each of which one or several threads are making."""


class SpansReading(NamedTuple):
    """The spans of one series at one moment."""

    durations: list[tuple[Histogram, HistogramReading]]
    """The histograms that are not empty."""
    started: int
    """How many spans started here."""
    finished: int
    """How many spans ended here."""
    open: int
    """How many spans that started here have not ended."""


NO_SPANS = SpansReading([], 0, 0, 0)


class Spans:
    """The spans of one series: a histogram for each result, and how many are open.

    Attributes:
        results: the histogram of each result that there was, and of `ok`.
        started: counts spans that start here.
    """

    __slots__ = ("_arrived", "_bounds", "_key", "_left", "results", "started")

    def __init__(self, key: Key, bounds: tuple[float, ...]) -> None:
        """Start without spans.

        Args:
            key: the label values.
            bounds: upper bounds of the buckets, in seconds.
        """
        self._key = key
        self._bounds = bounds
        self.results: dict[str, Histogram] = {"ok": self._histogram("ok")}
        self.started: Cell = Cell()
        self._left = Cell()
        self._arrived = Cell()

    def end(self, result: str, seconds: float) -> None:
        """Record the end of a span."""
        histogram = self.results.get(result)
        if histogram is None:
            histogram = self.results.setdefault(result, self._histogram(result))
        histogram.add(seconds)

    def remember(self, result: str, seconds: float, labels: Mapping[str, str]) -> None:
        """Keep an exemplar of a span that ended."""
        self.results[result].remember(seconds, labels)

    def moved_to(self, other: Spans) -> None:
        """Record that a span which started here is about to end there: its props changed.

        To be called before the end is recorded there: a reader must never find fewer than none
        open.
        """
        other._arrived.increment()
        self._left.increment()

    def read(self) -> SpansReading:
        """Return the histograms and numbers of this moment, which agree."""
        # The ends first: a span that comes in between must not make the number too small.
        durations: list[tuple[Histogram, HistogramReading]] = []
        finished = 0
        for one in list(self.results.values()):
            reading = one.value
            count = reading.count
            if count:
                durations.append((one, reading))
                finished += count
        ended_here = finished - self._arrived.value + self._left.value
        started = self.started.value
        return SpansReading(durations, started, finished, started - ended_here)

    def reset(self) -> None:
        """Start without spans again, in a forked child that has one thread."""
        for cell in (self.started, self._left, self._arrived):
            cell.reset()
        for histogram in self.results.values():
            histogram.reset()

    def _histogram(self, result: str) -> Histogram:
        return Histogram(self._key_of(result), self._bounds)

    def _key_of(self, result: str) -> Key:
        common, others = self._key
        return common, (*others, result)


class Histogram(Series):
    """Durations in buckets.

    Adding one appends it to a list, which is folded into the buckets when it is long or read.
    Any thread may append, fold and read, also a signal handler or a finalizer that runs in the
    middle of a call. There is no lock: no thread waits, and a forked child finds none taken.

    Attributes:
        bounds: upper bounds of the buckets, in seconds.
        buffer: what durations are appended to.
        samples: gets each duration, too, when it is folded; None if single ones are not wanted.
    """

    __slots__ = ("_counts", "_exemplars", "_sum", "bounds", "buffer", "samples")

    samples: SampleCell | None

    def __init__(self, key: Key, bounds: tuple[float, ...]) -> None:
        """Start empty, with buckets up to each of `bounds` (seconds, ascending) and infinity."""
        self.key = key
        self.bounds: tuple[float, ...] = bounds
        self.buffer: list[float] = []
        self._counts = self._no_counts()
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}
        self.samples = new_samples()

    def sample(self, samples: SampleCell | None) -> None:
        """Add each duration from now on to some samples, too; to none with None."""
        self.samples = samples

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
        """Move the durations in the buffer into the buckets, each as `duration()` has it.

        Returns:
            False if another fold finished in between: that one has moved what it found.
        """
        before = self._counts
        taken = self.buffer.copy()
        if not taken:
            return True
        durations, seconds = _ascending(taken)
        counts = self._added(before, durations)
        total = self._sum + seconds
        head = slice(len(taken))
        # Nothing is called and no object is made from here on: no signal, finalizer, other thread
        # or fork comes in between. So each duration is either in the buffer, to which others
        # append meanwhile, or in its bucket, and no other fold has taken what is taken here.
        if self._counts is not before:
            return False
        del self.buffer[head]
        self._counts = counts
        self._sum = total
        samples = self.samples
        if samples is not None:
            samples.extend(durations)
        return True

    def _no_counts(self) -> list[int]:
        return [0] * (len(self.bounds) + 1)

    def _added(self, counts: list[int], durations: list[float]) -> list[int]:
        """Return counts of buckets with some durations, in ascending order, added."""
        return _added(counts, durations, self.bounds)

    def reset(self) -> None:
        """Start empty again, in a forked child that has one thread."""
        self.buffer.clear()
        self._counts = self._no_counts()
        self._sum = 0.0
        self._exemplars.clear()

    @property
    def value(self) -> HistogramReading:
        """All durations that were added before, in buckets that are consistent."""
        # If the second fold also loses the race, the winner started after our first attempt and
        # included everything buffered by then.
        _ = self.fold() or self.fold()
        return self._reading(self._counts, self._sum)

    def _reading(self, counts: list[int], total: float) -> HistogramReading:
        return HistogramReading(self.bounds, tuple(counts), total, self._exemplars.copy())


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
    return seconds if 0 <= seconds <= LONGEST else 0.0


def _ascending(values: list[float]) -> tuple[list[float], float]:
    """Return values as they are counted, in order, and their sum."""
    try:
        ordered = sorted(values)
        seconds = sum(ordered)
        # Among numbers that have no order, the sum is none either.
        if type(seconds) is float and ordered[0] >= 0 and seconds <= LONGEST:
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
