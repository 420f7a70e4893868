"""Samples: values as they came, kept for exporters that send single values beside the counts.

While there is no such exporter, no value is kept. A process keeps those that it adds itself, also
where it reads the counts of other workers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child
from hypertrace.sample_cells import SampleCell

from .series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hypertrace.number_cells import HistogramCell

    class Sampled(Protocol):
        """A series that can keep values."""

        @property
        def samples(self) -> SampleCell | None:
            """What keeps values; None if none are kept."""

        def sample(self, samples: SampleCell | None) -> None:
            """Keep values from now on, or none."""

    class Source(Protocol):
        """What has series: a `Metrics`."""

        def histograms(self) -> Iterable[Sampled]:
            """Return the series whose values are in buckets."""


_MOST_UNSENT = 100_000
"""Series whose values wait for an exporter. With `object_ids` there may be ever new ones."""


class Sample(NamedTuple):
    """Values of one series.

    Attributes:
        seen: how many came.
        values: those that were kept: all of them in the order in which they came; or where there
            was no room for all, some at random.
    """

    seen: int
    values: Sequence[float]


NOTHING = Sample(0, ())

_sample: Callable[[tuple[int, Sequence[float]]], Sample] = partial(tuple.__new__, Sample)
"""Takes a third of the time of a call of the class; there may be very many."""


class SampledCell(Series):
    """A series whose values are added to a cell.

    Attributes:
        cell: what values are added to; None until this process adds some.
    """

    __slots__ = ()

    cell: HistogramCell

    @property
    def samples(self) -> SampleCell | None:
        """What gets each value, too; see `Series`."""
        return None if self.cell is None else self.cell.samples

    def sample(self, samples: SampleCell | None) -> None:
        """Add each value of this process from now on to some samples, too; to none with None."""
        if self.cell is not None:
            self.cell.samples = samples


class Samples:
    """The values that one exporter has not sent yet. Its thread uses it; others may use others.

    Attributes:
        room: how many values of each series are kept at the most.
    """

    def __init__(self, source: Source, room: int) -> None:
        """Keep values from now on.

        Args:
            source: whose series these are.
            room: how many values of each series are kept at the most.
        """
        self.room: int = room
        self._source = source
        self._taken: dict[Series, Sample] = {}
        self._earlier: dict[Series, Sample] = {}
        self._unsent: dict[Series, Sample] = {}
        _open.add(self)
        for series in source.histograms():
            held = series.samples
            if held is None or held.room < room:
                series.sample(new_samples())

    def begin(self) -> Callable[[Series], Sample]:
        """Begin a reading: forget what was taken of series that were not in the one before.

        They are gone, and while nothing can be sent there may be ever more of them.

        Returns:
            `take`.
        """
        self._earlier, self._taken = self._taken, {}
        return self.take

    def take(self, series: Series) -> Sample:
        """Return the values of a series that came since those that were sent."""
        cell = series.samples
        if cell is not None:
            new = _sample(cell.take())
            if new.seen:
                is_first = not (self._unsent or self._earlier or series in self._taken)
                if is_first and len(_open) == 1:
                    self._taken[series] = new  # as mostly
                    return new
                for each in tuple(_open):
                    if each._source is self._source:
                        each._add(series, new)
        before = self._taken.get(series) or self._earlier.pop(series, NOTHING)
        found = self._merged(before, self._unsent.pop(series, NOTHING))
        self._taken[series] = found
        return found

    def sent(self) -> None:
        """Forget the values that were taken: they were sent."""
        self._taken, self._earlier = {}, {}

    def close(self) -> None:
        """Keep no values any more, unless another exporter wants some."""
        _open.discard(self)
        if not _open:
            for source in tuple(_sources):
                for series in source.histograms():
                    series.sample(None)

    def forget(self) -> None:
        """Forget all values, in a forked child."""
        self._taken, self._earlier, self._unsent = {}, {}, {}

    def _add(self, series: Series, new: Sample) -> None:
        if len(self._unsent) > _MOST_UNSENT:
            self._unsent.clear()
        self._unsent[series] = self._merged(self._unsent.get(series, NOTHING), new)

    def _merged(self, one: Sample, other: Sample) -> Sample:
        if not (one.seen and other.seen):
            only = one if one.seen else other
            if len(only.values) <= self.room:
                return only
            return Sample(only.seen, _some(only.values, self.room))
        seen = one.seen + other.seen
        if len(one.values) + len(other.values) <= self.room:
            return Sample(seen, [*one.values, *other.values])
        share = round(self.room * one.seen / seen)
        return Sample(seen, [*_some(one.values, share), *_some(other.values, self.room - share)])


def new_samples() -> SampleCell | None:
    """Return what keeps the values of a new series; None while no exporter wants any."""
    return SampleCell(max(each.room for each in tuple(_open))) if _open else None


def watch(source: Source) -> None:
    """Keep values of what has series while an exporter wants some.

    Args:
        source: is held weakly.
    """
    _sources.add(source)


def _some(values: Sequence[float], most: int) -> Sequence[float]:
    """Return values, or some of them at random."""
    if len(values) <= most or not most:
        return values[:most]
    cell = SampleCell(most)
    cell.extend([*values])
    return cell.take()[1]


_open: set[Samples] = set()
_sources: WeakSet[Source] = WeakSet()


def _forget() -> None:
    """Forget the values of the parent, in a forked child, which counts from zero."""
    if not _open:
        return
    for samples in tuple(_open):
        samples.forget()
    for source in tuple(_sources):
        for series in source.histograms():
            if series.samples is not None:
                series.samples.take()


after_fork_in_child(_forget)
