"""Decorator `@traced`: costs less than a bound timer, and next to nothing while tracing is off."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from goblinfish.metrics.trackers import ProcessTracker

from hypertrace import COMPILED, Tracer, traced

from . import peers
from .bound import BOUND, BoundCounter
from .measure import OURS, Row, compared
from .ours import exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort

BARE = "a bare call"
STEPS = 1_000
OFF = (6, 4) if not COMPILED else (2.5, 1.1) if sys.version_info < (3, 12) else (1.15, 1.1)
"""Promise and goal while tracing is off: on CPython 3.11 the hooks in the bytecode still run."""
ON = (0.35, 0.3) if COMPILED else (1.0, 0.8)
GOBLINFISH = "goblinfish, `@tracker` (a line of JSON, thrown away)"


def _throw_away(_: str) -> None:
    pass


_tracker = ProcessTracker(_throw_away)


class Stepped:
    """An object whose methods run in steps, and do nothing."""

    @traced
    async def wait(self) -> None:
        """Run in a span."""

    @traced
    def steps(self) -> Iterator[None]:
        """Run in a span."""
        for _ in range(STEPS):
            yield


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
    yield from compared("`@traced` on a method, off", times, {BARE: OFF})
    timer = {peers.BOUND_TIMER: peers.BoundTimer().connect}
    operations = dict(timer)
    if not effort.quick:
        operations[GOBLINFISH] = Job().tracked
    with exporting(exemplar=None):
        times = effort.nanoseconds({OURS: Job().traced, **operations})
        if not effort.quick:
            bound = effort.nanoseconds({BOUND: BoundCounter().connect})
            times |= peers.autometrics(bound[BOUND])
        yield from compared("`@traced` on a method, on", times, {peers.BOUND_TIMER: ON})
        yield from _in_steps(effort)
        if effort.quick:
            return
        times = effort.nanoseconds({OURS: TracedJob().traced, **timer})
        yield from compared("`@traced` on a method of an object with a tracer", times)


def _in_steps(effort: Effort) -> Iterator[Row]:
    job, timer = Stepped(), peers.BoundTimer().connect
    operations = {OURS: lambda: list(job.wait().__await__()), peers.BOUND_TIMER: timer}
    times = effort.nanoseconds(operations)
    promises = {peers.BOUND_TIMER: (0.55, 0.5)} if COMPILED else None
    yield from compared("a coroutine with `@traced`", times, promises)
    ours = effort.nanoseconds({OURS: lambda: list(job.steps())})[OURS] / STEPS
    promise, goal = (200, 100) if COMPILED else (None, None)
    yield Row("a step of a generator with `@traced`", ours, promise=promise, goal=goal)
