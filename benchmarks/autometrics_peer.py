"""Program in autometrics' own environment: prints what it costs, beside a bound `inc()`."""

from __future__ import annotations

import json
from timeit import Timer

from autometrics import autometrics, init
from prometheus_client import CollectorRegistry, Counter

ROUNDS = 300
CALLS = 150


class Swarm:
    """Does nothing, and counts."""

    def __init__(self) -> None:
        """Take a child of a counter."""
        counter = Counter("calls", "Calls", ["a", "b"], registry=CollectorRegistry())
        self.child = counter.labels("1", "2")

    @autometrics  # type: ignore[untyped-decorator]
    def traced(self) -> None:
        """Do nothing."""

    def counted(self) -> None:
        """Count."""
        self.child.inc()


def main() -> None:
    """Print nanoseconds by operation."""
    init(tracker="prometheus", service_name="benchmarks")
    swarm = Swarm()
    timers = {"autometrics": Timer(swarm.traced), "bound": Timer(swarm.counted)}
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(CALLS) / CALLS * 1e9)
    print(json.dumps(best))


if __name__ == "__main__":
    main()
