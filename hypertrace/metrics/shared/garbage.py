"""Garbage: what the garbage collector of each worker did, in the first cells of its file.

Other workers can read it there, but not from `gc.get_stats()` of another process. So a function of
the compiled core in `gc.callbacks` adds up each collection as it ends.
"""

from __future__ import annotations

import gc
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypertrace.forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Keeps what the garbage collector does in the first cells of a segment.

    A forked child goes on in the cells of its file, which begin at zero. In pure Python they are
    brought up to date by `refresh` alone: a function of Python in `gc.callbacks` would lose what a
    signal handler raises in it.
    """

    def __init__(self, segment: Segment) -> None:
        """Begin with what was done before, since this process was started or forked.

        Args:
            segment: has these cells.
        """
        self._cells = [segment.sum(index) for index in range(len(LAYOUT))]
        # A collection in another thread between these lines is not seen, which does no harm.
        self.refresh()
        self._callback: Any = getattr(segment, "count_garbage", None)
        if self._callback is not None:
            gc.callbacks.append(self._callback)

    def refresh(self) -> None:
        """Take over what was done since."""
        for cell, number in zip(self._cells, _own_numbers(), strict=True):
            cell.set(number)

    def stop(self) -> None:
        """Count no more. May be called more than once."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)


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


_at_fork = [0] * len(LAYOUT)

after_fork_in_child(_remember)
