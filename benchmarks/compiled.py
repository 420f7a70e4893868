"""Promises of the compiled core beyond the Python code; see `hypertrace.COMPILED`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import declared, instruments, peers
from .bound import BOUND, BOUND_TIMER, BoundCounter, BoundTimer
from .creating import SLOTS, Maker
from .ids_and_props import TWO_ALLOWED
from .measure import OURS, compared
from .ours import Plain, Swarm, exporting
from .tracing_off import EMPTY, Untraced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort, Row


def rows(effort: Effort) -> Iterator[Row]:
    """Measure what is traced beside empty methods and beside `prometheus_client`."""
    untraced, off = Untraced(), Plain()
    times = effort.nanoseconds({OURS: off.connect, EMPTY: untraced.connect})
    yield from compared("compiled: `trace()`, disabled", times, {EMPTY: (0.6, 0.5)})

    counter, timer = BoundCounter(), BoundTimer()
    with exporting(allowed_props=["topic", "peer"], exemplar=None):
        swarm = Plain()
        operations = {EMPTY: untraced.connect, BOUND: counter.connect}
        times = effort.nanoseconds({OURS: swarm.connect, **operations})
        promises = {EMPTY: (1.25, 1.0), BOUND: (0.25, 0.2)}
        yield from compared("compiled: `trace()`, counted", times, promises)

        bound = {BOUND: counter.connect}
        for what, operation, promise in (
            ('compiled: `trace("id")`', Swarm.connect_with_id, (0.35, 0.25)),
            (f"compiled: {TWO_ALLOWED}", Swarm.connect_with_other_prop, (0.8, 0.5)),
        ):
            times = effort.nanoseconds({OURS: operation.__get__(swarm), **bound})
            yield from compared(what, times, {BOUND: promise})

        times = effort.nanoseconds({OURS: Swarm.span.__get__(swarm), BOUND_TIMER: timer.connect})
        yield from compared("compiled: a span", times, {BOUND_TIMER: (0.4, 0.25)})

        times = effort.nanoseconds({OURS: Maker().tracer, SLOTS: Maker().small})
        yield from compared("compiled: making a tracer, on", times, {SLOTS: (2.0, 1.5)})

    for what, measured, promise in (
        (declared.WITH_COUNTER, declared.counter, (1.3, 1.15)),
        (declared.WITH_DISTRIBUTION, declared.distribution, (1.5, 1.2)),
    ):
        yield from compared(f"compiled: {what}", measured(effort), {declared.WITHOUT: promise})
    yield from _instruments(effort)


def _instruments(effort: Effort) -> Iterator[Row]:
    """Measure bound instruments beside bound children, each called with what it is kept for."""
    ours, counter, values = instruments.Bound(), BoundCounter(), peers.BoundValues()
    times = effort.nanoseconds({OURS: ours.count, BOUND: counter.connect})
    yield from compared("compiled: an instrument's bound `inc()`", times, {BOUND: (0.2, 0.15)})
    times = effort.nanoseconds({OURS: ours.observe, peers.BOUND_VALUES: values.observe})
    promise = {peers.BOUND_VALUES: (0.2, 0.1)}
    yield from compared("compiled: an instrument's bound `observe()`", times, promise)
