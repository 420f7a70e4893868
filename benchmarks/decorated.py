"""Decorator `@traced`: costs no more than a bound timer, and little while tracing is off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goblinfish.metrics.trackers import ProcessTracker

from hypertrace import Tracer, traced

from . import peers
from .bound import BOUND, BoundCounter
from .measure import OURS, compared
from .ours import exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort, Row

BARE = "a bare call"
GOBLINFISH = "goblinfish, `@tracker` (a line of JSON, thrown away)"


def _throw_away(_: str) -> None:
    pass


_tracker = ProcessTracker(_throw_away)


class Job:
    """An object whose methods do nothing, each decorated in another way."""

    def bare(self) -> None:
        """Run undecorated."""

    @traced
    def traced(self) -> None:
        """Run in a span."""

    @_tracker  # type: ignore[untyped-decorator]
    def tracked(self) -> None:
        """Run under goblinfish."""


class TracedJob(Job):
    """One that holds a tracer, so that its spans have its props."""

    def __init__(self) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self)


def rows(effort: Effort) -> Iterator[Row]:
    """Measure a decorated method that does nothing, tracing off and on."""
    times = effort.nanoseconds({OURS: Job().traced, BARE: Job().bare})
    yield from compared("`@traced` on a method, off", times, {BARE: (6, 4)})
    timer = {peers.BOUND_TIMER: peers.BoundTimer().connect}
    operations = dict(timer)
    if not effort.quick:
        operations[GOBLINFISH] = Job().tracked
    with exporting(exemplar=None):
        times = effort.nanoseconds({OURS: Job().traced, **operations})
        if not effort.quick:
            bound = effort.nanoseconds({BOUND: BoundCounter().connect})
            times |= peers.autometrics(bound[BOUND])
        yield from compared("`@traced` on a method, on", times, {peers.BOUND_TIMER: (1.0, 0.8)})
        if effort.quick:
            return
        times = effort.nanoseconds({OURS: TracedJob().traced, **timer})
        yield from compared("`@traced` on a method of an object with a tracer", times)
