"""Tallies: how often tracing itself failed or dropped an event, for this process."""

from __future__ import annotations

from .cells import Cell
from .forks import after_fork_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Tally:
    """A count that others may follow. Any thread may use it; a forked child counts from zero."""

    def __init__(self) -> None:
        """Start at 0, without followers."""
        self._cell = Cell()
        self._followers: list[Callable[[], object]] = []

    @property
    def value(self) -> int:
        """How often this was counted in this process."""
        return self._cell.value

    def increment(self) -> None:
        """Add one, here and where the followers count.

        Raises:
            Exception: whatever a follower raises.
        """
        self._cell.increment()
        for follower in self._followers:
            follower()

    def follow(self, follower: Callable[[], object]) -> None:
        """Call a function at each increment from now on, and once for each before."""
        for _ in range(self.value):
            follower()
        self._followers.append(follower)

    def unfollow(self, follower: Callable[[], object]) -> None:
        """Call the function no more, if it is called."""
        self._followers = [one for one in self._followers if one != follower]

    def reset(self) -> None:
        """Count from 0 again."""
        self._cell = Cell()


swallowed: Tally = Tally()
"""Errors raised while tracing, and swallowed."""

dropped: Tally = Tally()
"""Events that were dropped because tracing itself caused them."""

unqueued: Tally = Tally()
"""Events that a handler lost, mostly since its queue had no room."""


def _reset() -> None:
    swallowed.reset()
    dropped.reset()
    unqueued.reset()


after_fork_in_child(_reset)
