"""Figures of one Python, as JSON: `python -m benchmarks.one_python ROUNDS TURN`.

Run by `pythons`, in an environment that has no other peer than `prometheus_client`.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict

import hypertrace

from .bound import BoundCounter
from .measure import Effort, rows_of
from .ours import App, Swarm, exporting
from .tracing_off import Untraced

ROWS = ("rest_of_program", "decorated")
"""The files that are measured on each Python. The first is to begin with nothing traced."""


class Idle:
    """Has a method that does nothing."""

    def connect(self) -> None:
        """Do nothing."""


def main() -> None:
    """Print the version, whether the core is compiled, and what `measure.OnePython` holds."""
    effort = Effort(rounds=int(sys.argv[1]), turn=float(sys.argv[2]), quick=True)
    with exporting(exemplar=None):
        operations = {
            "trace": Swarm(App()).connect,
            "idle": Idle().connect,
            "empty": Untraced().connect,
            "bound": BoundCounter().connect,
        }
        times = effort.nanoseconds(operations)
    found = {"version": platform.python_version(), "compiled": hypertrace.COMPILED}
    names = ROWS if hypertrace.COMPILED else ()
    rows = [asdict(row) for name in names for row in rows_of(name, effort)]
    print(json.dumps({**found, "nanoseconds": times, "rows": rows}))


if __name__ == "__main__":
    main()
