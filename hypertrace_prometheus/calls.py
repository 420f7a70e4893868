"""What is counted in one series of the main counter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace import Cell

if TYPE_CHECKING:
    from .timings import Timings


class Calls:
    """The calls of one series. Any thread may use it.

    Attributes:
        cell: counts calls of `trace()`.
        timings: of the spans with the same labels, each of which is a call, too; None if there
            never was one.
    """

    __slots__ = ("cell", "timings")

    def __init__(self) -> None:
        """Start without calls."""
        self.cell = Cell()
        self.timings: Timings | None = None

    @property
    def value(self) -> int:
        """How many there were."""
        return self.cell.value + (0 if self.timings is None else self.timings.finished)
