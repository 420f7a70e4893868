"""Decorator `@traced`: costs less than a bound timer, and next to nothing while tracing is off.

What promises are made about needs no peer but `prometheus_client`: it is measured on each Python.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypertrace import COMPILED, Tracer, traced

from .bound import BOUND, BOUND_TIMER, BoundCounter, BoundTimer
from .measure import OURS, Row, compared
from .ours import exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort

BARE = "a bare call"
UNDECORATED = "the same, undecorated"
STEPS = 1_000
ON_METHOD = "`@traced` on a method, on"
OFF = (6, 4) if not COMPILED else (2.2, 2.0) if sys.version_info < (3, 12) else (1.1, 1.05)
"""Promise and goal while tracing is off: on CPython 3.11 the hooks in the bytecode still run."""
ON = (0.3, 0.25) if COMPILED else (1.0, 0.8)


class Stepped:
    """An object whose methods run in steps, and do nothing."""

    async def bare_wait(self) -> None:
        """Run undecorated."""

    @traced
    async def wait(self) -> None:
        """Run in a span."""

    def bare_steps(self) -> Iterator[None]:
        """Run undecorated."""
        for _ in range(STEPS):
            yield

    @traced
    def steps(self) -> Iterator[None]:
        """Run in a span."""
        for _ in range(STEPS):
            yield


class Job:
    """An object whose methods do nothing, one of them decorated."""

    def bare(self) -> None:
        """Run undecorated."""

    @traced
    def traced(self) -> None:
        """Run in a span."""


class TracedJob(Job):
    """One that holds a tracer, so that its spans have its props."""

    def __init__(self) -> None:
        """Hold a tracer."""
        self.tracer = Tracer(self)


def rows(effort: Effort) -> Iterator[Row]:
    """Measure a decorated method that does nothing, tracing off and on."""
    times = effort.nanoseconds({OURS: Job().traced, BARE: Job().bare})
    yield from compared("`@traced` on a method, off", times, {BARE: OFF})
    with exporting(exemplar=None):
        timer = {BOUND_TIMER: BoundTimer().connect}
        times = effort.nanoseconds({OURS: Job().traced, **timer})
        yield from compared(ON_METHOD, times, {BOUND_TIMER: ON})
        yield from _in_steps(effort)
        if effort.quick:
            return
        yield from _beside_decorators(effort)
        times = effort.nanoseconds({OURS: TracedJob().traced, **timer})
        yield from compared("`@traced` on a method of an object with a tracer", times)


def _in_steps(effort: Effort) -> Iterator[Row]:
    job, timer = Stepped(), BoundTimer().connect
    operations = {
        OURS: lambda: list(job.wait().__await__()),
        BOUND_TIMER: timer,
        UNDECORATED: lambda: list(job.bare_wait().__await__()),
    }
    promises = {BOUND_TIMER: (0.5, 0.4)} if COMPILED else None
    yield from compared("a coroutine with `@traced`", effort.nanoseconds(operations), promises)
    passes = {OURS: lambda: list(job.steps()), UNDECORATED: lambda: list(job.bare_steps())}
    times = {name: time / STEPS for name, time in effort.nanoseconds(passes).items()}
    step = "a step of a generator with `@traced`"
    promise, goal = (200, 100) if COMPILED else (None, None)
    yield Row(step, times[OURS], promise=promise, goal=goal)
    yield from compared(step, times)


def _beside_decorators(effort: Effort) -> Iterator[Row]:
    # Late: these are not installed where each Python is measured.
    from . import peers  # noqa: PLC0415

    operations = {OURS: Job().traced, peers.GOBLINFISH: peers.Goblinfish().tracked}
    times = effort.nanoseconds(operations)
    bound = effort.nanoseconds({BOUND: BoundCounter().connect})
    yield from compared(ON_METHOD, times | peers.autometrics(bound[BOUND]))
