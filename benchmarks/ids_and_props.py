"""Ids and props: each adds a little to a `trace()`, in `hypertrace` and in its peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import peers
from .bound import BOUND, BoundCounter
from .measure import OURS, compared
from .ours import App, Swarm, exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort, Operation, Row

TWO_ALLOWED = "`trace(prop=value)`, two allowed"


def rows(effort: Effort) -> Iterator[Row]:
    """Measure a `trace()` with an id, with props that are allowed, and with others."""
    peer: dict[str, Operation] = {BOUND: BoundCounter().connect}
    with exporting():
        swarm = Swarm(App())
        operations = {
            '`trace("id")`': (swarm.connect_with_id, (1.2, 0.8), "trace(id)"),
            "`trace(prop=value)`, allowed": (swarm.connect_with_prop, (2.5, 1.5), "trace(prop)"),
        }
        for what, (operation, promise, on_node) in operations.items():
            times = effort.nanoseconds({OURS: operation, **peer})
            if not effort.quick:
                times |= _node(on_node)
            yield from compared(what, times, {BOUND: promise})
    with exporting(allowed_props=["topic", "peer"]):
        # The second of the two: the first is left out, and looked for nevertheless.
        times = effort.nanoseconds({OURS: Swarm(App()).connect_with_other_prop, **peer})
        yield from compared(TWO_ALLOWED, times, {BOUND: (2.5, 1.5)})
    if not effort.quick:
        yield from _other_calls(effort, peer)


def _other_calls(effort: Effort, peer: dict[str, Operation]) -> Iterator[Row]:
    with exporting(allowed_props=["topic", "peer"]):
        times = effort.nanoseconds({OURS: Swarm(App()).connect_with_two_props, **peer})
        yield from compared("`trace(prop=value, other=value)`, both allowed", times)
    with exporting(allowed_props=["topic", "peer", "country", "browser"]):
        times = effort.nanoseconds({OURS: Swarm(App()).connect_with_other_prop, **peer})
        yield from compared("`trace(prop=value)`, four allowed", times)
    with exporting():
        swarm = Swarm(App())
        others = {
            "`trace(prop=value)`, not allowed": swarm.connect_with_other_prop,
            '`trace("id", prop=value)`, allowed': swarm.connect_with_id_and_prop,
            '`trace({"prop": value})`, allowed': swarm.connect_with_mapping,
        }
        for what, operation in others.items():
            yield from compared(what, effort.nanoseconds({OURS: operation, **peer}))


def _node(operation: str) -> dict[str, float]:
    times = peers.node()
    return {peers.NODE: times[operation]} if times else {}
