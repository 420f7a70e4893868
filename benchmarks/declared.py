"""Declared metrics and handlers: what they add to events that have them, and to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace import attach
from hypertrace.metrics import Counter, Distribution, Sum

from .measure import OURS, compared
from .ours import App, Swarm, exporting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .measure import Effort, Row

WITHOUT = "the same without it"
WITH_COUNTER = "`trace(prop=value)`, with a declared counter"
WITH_DISTRIBUTION = "a span, with a declared distribution"
WITH_OTHERS = "`trace(prop=value)`, 50 metrics and a handler of others"


class Watched(Swarm):
    """A swarm that metrics are declared for."""

    def connect_with_number(self) -> None:
        """Trace with a number."""
        self.tracer.trace(topic="sports", size=5)


def rows(effort: Effort) -> Iterator[Row]:
    """Measure both kinds of objects beside each other, under the same metrics."""
    yield from compared(WITH_COUNTER, counter(effort))
    yield from compared(WITH_DISTRIBUTION, distribution(effort))
    yield from compared(WITH_OTHERS, others(effort), {WITHOUT: (1.1, 1.05)})
    if effort.quick:
        return
    with _declared(Sum("watched_bytes_total", of="Watched.*", value="size", tags=["topic"])):
        times = {
            OURS: Watched(App()).connect_with_number,
            WITHOUT: Watched.connect_with_number.__get__(Swarm(App())),
        }
        found = effort.nanoseconds(times)
    yield from compared("`trace(prop=value, size=number)`, with a declared sum", found)


def counter(effort: Effort) -> dict[str, float]:
    """Return what a `trace()` with a prop costs with a counter by this prop, and without."""
    with _declared(Counter("watched_total", of="Watched.*", tags=["topic"])):
        operations = {
            OURS: Watched(App()).connect_with_prop,
            WITHOUT: Swarm(App()).connect_with_prop,
        }
        return effort.nanoseconds(operations)


def distribution(effort: Effort) -> dict[str, float]:
    """Return what a span costs with a distribution of its durations, and without."""
    with _declared(Distribution("watched_seconds", of="Watched.*", tags=["function"])):
        return effort.nanoseconds({OURS: Watched(App()).span, WITHOUT: Swarm(App()).span})


def others(effort: Effort) -> dict[str, float]:
    """Return what a `trace()` with a prop costs beside metrics and a handler of other events."""
    with _declared():
        without = effort.nanoseconds({WITHOUT: Swarm(App()).connect_with_prop})
    many = [Counter(f"other_{n}_total", of=f"Other{n}.*", tags=["topic"]) for n in range(50)]
    with _declared(*many), attach(list[object]().append, of="Other0.*"):
        return without | effort.nanoseconds({OURS: Swarm(App()).connect_with_prop})


def _declared(*metrics: Any) -> Any:
    return exporting(declared=metrics, exemplar=None)
