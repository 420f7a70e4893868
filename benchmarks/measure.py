"""Measurements whose ratios hold on a machine that is busy with other things."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from timeit import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Operation = Callable[[], object]
    Promises = Mapping[str, tuple[float, float]]

PURE, COMPILED = "pure Python", "compiled"
CORES = {PURE: "1", COMPILED: "0"}
"""The implementations of the core, each a column: what HYPERTRACE_PURE_PYTHON is for them."""

OURS = "hypertrace"
_WARM_UP_CALLS = 2_000


@dataclass(frozen=True)
class OnePython:
    """The figures of one core on one Python, in nanoseconds.

    Attributes:
        version: of Python.
        core: a name in `CORES`.
        trace: a method that traces, counted.
        idle: a method that does nothing.
        empty: a method that calls an empty one with the signature of `trace()`.
        bound: a method that calls a bound `inc()`.
        rows: those of traced functions and of the rest of the program; only of the compiled core.
    """

    version: str
    core: str
    trace: float
    idle: float
    empty: float
    bound: float
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Row:
    """One line of the table: our figure, and what it is judged by.

    Attributes:
        what: what was measured.
        ours: our figure.
        unit: of the figures.
        peer: what it is compared with; None judges the figure by itself.
        theirs: the peer's figure.
        promise, goal: upper bounds of the ratio; without a peer, of the figure.
    """

    what: str
    ours: float
    unit: str = "ns"
    peer: str | None = None
    theirs: float | None = None
    promise: float | None = None
    goal: float | None = None

    @property
    def judged(self) -> float:
        """What promise and goal bound."""
        return self.ours if self.theirs is None else self.ours / self.theirs


@dataclass(frozen=True)
class Effort:
    """How much time a figure may take.

    Attributes:
        rounds: how often each operation gets its turn.
        turn: seconds of a turn.
        quick: only what promises are made about.
    """

    rounds: int
    turn: float
    quick: bool

    def nanoseconds(self, operations: Mapping[str, Operation]) -> dict[str, float]:
        """Return what a call of each operation costs, beside each other.

        The operations take turns of half a millisecond, a few hundred each, in an order that is
        reversed every round; the fastest turn counts. Under load, ratios of such minima varied by
        1 to 3 % between runs, medians of the ratios of neighbouring turns by 3 to 5 %, the same
        with turns of 20 ms by up to 12 %, ratios of medians by up to 75 %: a short turn is likely
        to pass without an interruption, and all have turns at whatever speed the clock runs.
        """
        timers = {name: Timer(operation) for name, operation in operations.items()}
        calls = {name: self._calls_a_turn(timer) for name, timer in timers.items()}
        best = dict.fromkeys(timers, float("inf"))
        order = list(timers)
        for _ in range(self.rounds):
            for name in order:
                best[name] = min(best[name], timers[name].timeit(calls[name]) / calls[name])
            order.reverse()
        return {name: seconds * 1e9 for name, seconds in best.items()}

    def _calls_a_turn(self, timer: Timer) -> int:
        # The first calls bind call sites, and let the interpreter specialize its code.
        seconds = timer.timeit(1)
        warm_up = max(1, min(_WARM_UP_CALLS, int(0.1 / seconds)))
        timer.timeit(warm_up)
        return max(1, int(self.turn / (timer.timeit(warm_up) / warm_up)))


FULL = Effort(rounds=400, turn=0.0005, quick=False)
QUICK = Effort(rounds=150, turn=0.0005, quick=True)


def compared(
    what: str, figures: Mapping[str, float], promises: Promises | None = None, unit: str = "ns"
) -> Iterator[Row]:
    """Return a row for each peer among some figures.

    Args:
        what: what was measured.
        figures: ours under the name `OURS`, the peers' under theirs.
        promises: promise and goal by the peer's name.
        unit: of the figures.
    """
    for peer, theirs in figures.items():
        if peer != OURS:
            promise, goal = (promises or {}).get(peer, (None, None))
            yield Row(what, figures[OURS], unit, peer, theirs, promise, goal)


def best_of(rows: Sequence[Row]) -> Row:
    """Return a row with the best figures of several runs, for us and for the peer."""
    theirs = [row.theirs for row in rows if row.theirs is not None]
    return replace(
        rows[0], ours=min(row.ours for row in rows), theirs=min(theirs) if theirs else None
    )


def rows_of(name: str, effort: Effort) -> list[Row]:
    """Return the rows of one of the files beside this one."""
    return list(import_module(f"{__package__}.{name}").rows(effort))
