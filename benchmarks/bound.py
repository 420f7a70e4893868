"""Bound counter and timer of `prometheus_client`, which every count and span is compared with.

They need no library but that one, so that they run in any environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUND = "prometheus_client, bound `inc()`"
BOUND_TIMER = "prometheus_client, bound `with child.time():`"

LABEL_VALUES = {
    "object_classname": "Swarm",
    "caller_functionname": "connect",
    "caller_filename": "benchmarks/counting.py",
    "parent_object_classname": "App",
    "object_props_topic": "news",
    "parent_object_props_topic": "all",
}
"""What a `trace()` of `ours.Swarm` is counted by."""


class BoundCounter:
    """A child of a counter, taken once."""

    def __init__(self, values: Mapping[str, str] = LABEL_VALUES) -> None:
        """Take the child with these labels."""
        counter = Counter("bound", "Calls", list(values), registry=CollectorRegistry())
        self.child = counter.labels(**values)

    def connect(self) -> None:
        """Count."""
        self.child.inc()


class BoundTimer:
    """A child of a histogram, taken once."""

    def __init__(self) -> None:
        """Take the child."""
        histogram = Histogram("bound", "Time", list(LABEL_VALUES), registry=CollectorRegistry())
        self.child = histogram.labels(**LABEL_VALUES)

    def connect(self) -> None:
        """Time an empty block."""
        with self.child.time():
            pass
