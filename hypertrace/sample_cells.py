"""Sample cells: values as they came, of which a bounded number is kept at random.

The compiled core has the same class. It uses no generator of random numbers of the application.
"""

from __future__ import annotations

from _random import Random

from ._compiled import speedups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_ROOM = 1 << 24

_random = Random().random


class PythonSampleCell:
    """A bounded number of values. Any thread may use it.

    As long as there is room, each value that is added is held. Then each that was added is held
    with the same chance. Where threads add at the very same time, a value may be lost in pure
    Python, so nothing may be counted by what is held.

    Attributes:
        room: how many values are held at the most.
    """

    __slots__ = ("_seen", "_values", "room")

    def __init__(self, room: int) -> None:
        """Start empty.

        Args:
            room: how many values are held at the most.

        Raises:
            ValueError: it is not above 0, or too large.
        """
        if not 1 <= room <= _MOST_ROOM:
            raise ValueError(f"no samples have room for {room} values")
        self.room: int = room
        self._values: list[float] = []
        self._seen = 0

    def add(self, value: float) -> None:
        """Add a value."""
        values = self._values
        self._seen += 1
        if len(values) < self.room:
            values.append(value)
        else:
            at = int(_random() * self._seen)
            if at < len(values):
                values[at] = value

    def extend(self, values: Iterable[float]) -> None:
        """Add those values that are floats."""
        for value in values:
            if type(value) is float:
                self.add(value)

    def take(self) -> tuple[int, list[float]]:
        """Return how many values were added since the last time, and those held; be empty."""
        empty: list[float] = []
        # One line, and so one step.
        seen = self._seen; values = self._values; self._seen = 0; self._values = empty  # noqa: E702  # fmt: skip
        return seen, values


if TYPE_CHECKING:
    SampleCell = PythonSampleCell
else:
    SampleCell = speedups.SampleCell if speedups else PythonSampleCell
