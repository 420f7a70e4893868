"""Rate limit of log lines of one kind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from hypertrace import rate_limit as module
from hypertrace.rate_limit import LOG_INTERVAL, RateLimit

from ..running import in_threads

if TYPE_CHECKING:
    import pytest


class Now:
    """Stands for the clock of all limits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time: Any = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.time)


def test_the_first_line_is_due_and_then_one_in_each_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within an interval no further line is; the interval over, the next one is."""
    now, limit = Now(monkeypatch), RateLimit()
    assert [limit.allow() for _ in range(3)] == [True, False, False]
    now.time += LOG_INTERVAL - 1
    assert not limit.allow()
    now.time += 1
    assert [limit.allow() for _ in range(2)] == [True, False]


def test_lines_that_were_not_due_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line that was not allowed is in the number that the next one reports, once."""
    now, limit = Now(monkeypatch), RateLimit()
    assert limit.allow()
    assert limit.take_suppressed() == 0
    for _ in range(3):
        assert not limit.allow()
    now.time += LOG_INTERVAL
    assert limit.allow()
    assert [limit.take_suppressed() for _ in range(2)] == [3, 0]


def test_a_clock_that_was_set_back_does_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time before that of the last line ends the interval."""
    now, limit = Now(monkeypatch), RateLimit()
    assert limit.allow()
    now.time -= 1
    assert limit.allow()


def test_a_clock_that_gives_no_number_keeps_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN is no time at which a line would be due."""
    now, limit = Now(monkeypatch), RateLimit()
    assert limit.allow()
    now.time = float("nan")
    assert not limit.allow()


def test_of_two_threads_at_the_same_moment_one_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both find the interval over, one is allowed a line, and the other one is counted."""
    limit, both, allowed = RateLimit(), threading.Barrier(2), list[bool]()
    pause = module._Pause

    def meet(since: float) -> module._Pause:
        both.wait(10)  # each has found the interval over by now
        return pause(since)

    monkeypatch.setattr(module, "_Pause", meet)
    in_threads(*[lambda: allowed.append(limit.allow())] * 2)
    assert sorted(allowed) == [False, True]
    assert limit.take_suppressed() == 1


def test_limits_do_not_share_what_they_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of line has its own limit."""
    Now(monkeypatch)
    assert [RateLimit().allow() for _ in range(3)] == [True] * 3
