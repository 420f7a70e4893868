"""Cost of making an object that holds a tracer, beyond the object itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace import Tracer

from . import peers
from .measure import OURS, compared
from .ours import App, Swarm, exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort, Row

SLOTS = "a small object with `__slots__`"


class Small:
    """As small as a Python object gets that holds something."""

    __slots__ = ("owner",)

    def __init__(self, owner: object) -> None:
        """Hold something."""
        self.owner = owner


class Maker:
    """Makes things, each in its own method."""

    def __init__(self) -> None:
        """Have a parent for what it makes."""
        self.app = App()

    def small(self) -> Small:
        """Make a small object."""
        return Small(self)

    def tracer(self) -> Tracer:
        """Make a tracer."""
        return Tracer(self)

    def swarm(self) -> Swarm:
        """Make an object with a tracer that has a prop and a parent."""
        return Swarm(self.app)


def rows(effort: Effort) -> Iterator[Row]:
    """Measure making tracers while no trace function is set, and while one is."""
    if effort.quick:
        return
    peer = {SLOTS: Maker().small}
    yield from compared("making a tracer, off", effort.nanoseconds({OURS: Maker().tracer, **peer}))
    with exporting():
        times = effort.nanoseconds({OURS: Maker().tracer, **peer})
        yield from compared("making a tracer, on", times)
        times = effort.nanoseconds({OURS: Maker().swarm, **peer})
        node = peers.node()
        if node:
            times[peers.NODE] = node["make"]
        yield from compared("making an object with a tracer, prop and parent", times)
