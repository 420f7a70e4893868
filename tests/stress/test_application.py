"""Nothing touches the application: errors, odd values, interruptions and endings, at length."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]


@pytest.mark.parametrize("bound", [False, True], ids=["called", "with recorders"])
def test_a_trace_function_that_always_raises(
    run: Run, scale: Scale, figure: Note, *, bound: bool
) -> None:
    """Each error is counted, logged or reported as left out; none escapes, nothing is detached."""
    calls = scale(20_000, 1_000_000)
    found = run("application.raising", 120, calls=calls, bound=bound)
    figure("errors of a trace function that always raises", found["counted"], "", "= calls")
    figure("lines logged about one kind of error in a minute", found["lines"], "", "≤ 1")
    assert (found["reached"], found["counted"]) == (calls, calls)
    # What is logged under another kind at the first call has no second line.
    assert found["reported"] >= calls - bound
    assert found["still set"]
    assert found["lines"] <= found["minutes"]


def test_the_cost_of_an_error(run: Run, scale: Scale, figure: Note) -> None:
    """A trace function that raises costs little more than one that does not."""
    found = run("application.cost_of_raising", 120, rounds=scale(5, 30), calls=scale(4_000, 20_000))
    figure(
        "cost of one that raises, against one that does not", found["ratio"], "times", "≤ 3 times"
    )
    assert found["ratio"] <= scale(4.5, 3)


def test_what_ends_programs_passes_through(run: Run, scale: Scale) -> None:
    """What a trace function raises to stop the program comes out, and it is called again."""
    times = scale(1_000, 100_000)
    found = run("application.stopped_trace_function", times=times)
    assert found == {"calls": 2 * times, "passed": times, "swallowed": 0}


def test_interruptions_leave_nothing_locked(run: Run, scale: Scale, figure: Note) -> None:
    """Exceptions of signal handlers, at any place in tracing and scraping, leave nothing locked."""
    found = run("application.interrupted", seconds=scale(1.0, 20.0))
    figure("interruptions inside tracing", sum(found["passed"].values()), "", "nothing locked")
    assert min(found["passed"].values()) > 10
    assert (found["escaped"], found["after"], found["events"]) == ([], 4 * 4 * 100, 1)


def test_values_that_misbehave_are_read_back(run: Run, scale: Scale, figure: Note) -> None:
    """Whatever a value does, it is counted under what is documented, and scrapes go on."""
    values = scale(1_000, 50_000)
    found = run("application.awkward_values", 120, values=values, seed=scale(7, 8))
    figure("odd values of props that a parser read back", found["read"], "", "all")
    assert found == {"read": values, "answers": [200]}


def test_huge_props(run: Run, scale: Scale, figure: Note) -> None:
    """Ten megabytes of text cost no time, and props that are not allowed cost their copy alone."""
    found = run("application.huge_props", megabytes=10, names=10_000)
    figure("three calls with values of 10 MB", found["seconds"] * 1e3, "ms", "≤ 50 ms")
    excess = found["many"] / (found["few"] + found["copy"])
    figure("a call with 10 000 props, against 10 and one copy", excess, "times", "≤ 3 times")
    assert found["seconds"] < scale(0.5, 0.05)
    assert found["longest"] < 500
    assert excess < scale(6, 3)


def test_programs_end_in_silence(run: Run, scale: Scale, figure: Note) -> None:
    """Programs that trace while they end do so without a word, and start no thread before."""
    times = scale(6, 90)
    found = run("application.endings", 300, times=times)
    figure("programs that traced to the last and did not end well", len(found["bad"]), "", "= 0")
    assert found["bad"] == []
