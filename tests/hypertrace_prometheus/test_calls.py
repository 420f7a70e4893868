"""What is counted in one series of the main counter."""

from __future__ import annotations

from hypertrace_prometheus.calls import Calls
from hypertrace_prometheus.timings import Timings


def test_calls_are_counted() -> None:
    """Each increment of the cell is a call."""
    calls = Calls()
    assert calls.value == 0
    for _ in range(3):
        calls.cell.increment()
    assert calls.value == 3


def test_finished_spans_are_calls() -> None:
    """A span counts once it has ended, however it ended, besides the calls of `trace()`."""
    calls = Calls()
    calls.cell.increment()
    calls.timings = Timings((1.0,))
    calls.timings.started.increment()
    assert calls.value == 1
    for result in ("ok", "error", "cancelled", "ok"):
        calls.timings.end(result, 0.5)
    assert calls.value == 5
