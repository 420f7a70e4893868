"""Instruments of `Metrics`, with the labels of the peers."""

from __future__ import annotations

from hypertrace.metrics import Metrics

from .bound import LABEL_VALUES


class Bound:
    """Children of a counter and of a distribution, taken once."""

    def __init__(self) -> None:
        """Take the children."""
        metrics, tags = Metrics(workers=False), list(LABEL_VALUES)
        self.counter = metrics.counter("bound_total", tags).labels(**LABEL_VALUES)
        self.values = metrics.distribution("bound_seconds", tags).labels(**LABEL_VALUES)

    def count(self) -> None:
        """Count."""
        self.counter.inc()

    def observe(self) -> None:
        """Observe a value."""
        self.values.observe(0.25)
