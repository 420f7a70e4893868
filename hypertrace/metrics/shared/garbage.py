"""Garbage: what the garbage collector of each worker did, in the first cells of its file.

Other workers can read it there, but not from `gc.get_stats()` of another process. So a function in
`gc.callbacks` adds up each collection as it ends; it makes no object that the collector counts.
"""

from __future__ import annotations

import gc
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypertrace.forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .segment import Segment

GENERATIONS: Final = 3

_NUMBERS = struct.Struct(f"={3 * GENERATIONS}d")

LAYOUT: Final = b"g" * (3 * GENERATIONS)
"""Of the first cells of each file: they are of living workers only."""


class Garbage(NamedTuple):
    """What the garbage collector did, each by the generation."""

    collections: Sequence[float]
    collected: Sequence[float]
    uncollectable: Sequence[float]


def garbage_of(cells: bytes) -> Garbage:
    """Return what the garbage collector of a worker did since it was started or forked.

    Args:
        cells: of its file.
    """
    return _garbage(_NUMBERS.unpack_from(cells.ljust(_NUMBERS.size, b"\0")))


def own_garbage() -> Garbage:
    """Return what the garbage collector did since this process was started or forked."""
    return _garbage(_own_numbers())


class GarbageCounter:
    """Adds what the garbage collector does to the first cells of a segment.

    A forked child goes on in the cells of its file, which begin at zero.
    """

    def __init__(self, segment: Segment) -> None:
        """Begin with what was done before, since this process was started or forked.

        Args:
            segment: has these cells.
        """
        cells = [segment.sum(index) for index in range(len(LAYOUT))]
        self._by_generation = tuple(
            tuple(cells[generation::GENERATIONS]) for generation in range(GENERATIONS)
        )
        # A collection in another thread between these lines is not seen, which does no harm.
        for cell, number in zip(cells, _own_numbers(), strict=True):
            cell.set(number)
        _counters.append(self)
        if _count not in gc.callbacks:
            gc.callbacks.append(_count)

    def stop(self) -> None:
        """Count no more. May be called more than once."""
        if self in _counters:
            _counters.remove(self)
        if not _counters and _count in gc.callbacks:
            gc.callbacks.remove(_count)

    def add(self, generation: int, collected: int, uncollectable: int) -> None:
        """Add one collection."""
        numbers = self._by_generation[generation]
        numbers[0].add(1)
        if collected:
            numbers[1].add(collected)
        if uncollectable:
            numbers[2].add(uncollectable)


def _count(phase: str, info: Mapping[str, Any]) -> None:
    if phase == "stop":
        for counter in _counters:
            counter.add(info["generation"], info["collected"], info["uncollectable"])


def _garbage(numbers: Sequence[float]) -> Garbage:
    parts = range(0, len(LAYOUT), GENERATIONS)
    return Garbage(*(numbers[first : first + GENERATIONS] for first in parts))


def _own_numbers() -> tuple[int, ...]:
    return tuple(now - before for now, before in zip(_statistics(), _at_fork, strict=True))


def _statistics() -> list[int]:
    names = "collections", "collected", "uncollectable"
    statistics = gc.get_stats()
    return [one[name] for name in names for one in statistics[:GENERATIONS]]


def _remember() -> None:
    # `gc` itself counts on in a forked child.
    _at_fork[:] = _statistics()


_counters: list[GarbageCounter] = []
_at_fork = [0] * len(LAYOUT)

after_fork_in_child(_remember)
