"""Periodic thread: when it calls, how it ends, and what it does with requests."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import periodic
from hypertrace.exporters.push import THREAD_NAME
from hypertrace.periodic import PeriodicThread

from .exporters.recording import NEVER, SOON, Hanging, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Counting:
    """A function that succeeds, after another one was called."""

    def __init__(self, function: Callable[[], object] = lambda: None) -> None:
        self.function = function
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        self.function()
        return True


@pytest.fixture
def thread() -> Iterator[Callable[..., PeriodicThread]]:
    """Give a function that starts a thread, which the end of the test ends."""
    made: list[PeriodicThread] = []

    def start(run: Callable[[], bool], interval: float = NEVER) -> PeriodicThread:
        made.append(PeriodicThread(run, interval, THREAD_NAME))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.end()
    until(lambda: not exporter_threads())


def test_it_calls_at_an_interval(thread: Callable[..., PeriodicThread]) -> None:
    """The function is called again and again."""
    run = Counting()
    thread(run, interval=0.001)
    until(lambda: run.calls >= 5)


@pytest.mark.parametrize("result", [True, False])
def test_it_calls_when_asked(thread: Callable[..., PeriodicThread], result: bool) -> None:
    """A request is answered with what the function returns."""
    request = thread(lambda: result).request()
    assert request is not None
    assert request.wait(SOON) is result


def test_requests_at_the_same_time_share_a_call(thread: Callable[..., PeriodicThread]) -> None:
    """Those who ask while a call is running are all answered by the next one."""
    hanging = Hanging()
    run = Counting(hanging)
    periodic_thread = thread(run)
    first = periodic_thread.request()
    assert hanging.entered.wait(SOON)
    others = [periodic_thread.request() for _ in range(20)]
    hanging.released.set()
    assert all(request and request.wait(SOON) for request in [first, *others])
    assert run.calls == 2


def test_waiting_requests_are_bounded(thread: Callable[..., PeriodicThread]) -> None:
    """While a call hangs, no more than a hundred requests are kept."""
    hanging = Hanging()
    periodic_thread = thread(Counting(hanging))
    periodic_thread.request()
    assert hanging.entered.wait(SOON)
    kept = [periodic_thread.request() for _ in range(300)]
    assert len([request for request in kept if request]) == 100
    hanging.released.set()


def delays(failures: list[int], interval: float) -> list[float]:
    """Give the longest times until the next call after some numbers of failures in a row."""
    one = PeriodicThread(bool, interval, THREAD_NAME)
    found = []
    for failed in failures:
        one._failed_in_a_row = failed
        found.append(one._next_delay())
    return found


def test_calls_that_fail_get_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each failure the time until the next call doubles, up to five minutes."""
    monkeypatch.setattr(periodic, "uniform", lambda _, longest: longest)
    assert delays([0, 1, 2, 3, 4, 5, 1_000_000], 10.0) == [10, 20, 40, 80, 160, 300, 300]
    assert delays([0, 1, 50], 3_600.0) == [3_600] * 3


def test_processes_do_not_come_back_at_the_same_moment() -> None:
    """After failures the time varies by chance, and is never shorter than the interval."""
    found = delays([4] * 200, 10.0)
    assert len(set(found)) > 100
    assert all(10 <= delay <= 160 for delay in found)


def test_a_success_ends_the_failures(thread: Callable[..., PeriodicThread]) -> None:
    """After a call that succeeds the interval is as before."""
    results = iter([False, False, True])
    periodic_thread = thread(lambda: next(results))
    found = []
    for _ in range(3):
        request = periodic_thread.request()
        assert request is not None
        request.wait(SOON)
        found.append(periodic_thread._failed_in_a_row)
    assert found == [1, 2, 0]


def test_it_ends_when_it_is_let_end(thread: Callable[..., PeriodicThread]) -> None:
    """What was asked for before is done, and then the thread is gone."""
    run = Counting()
    periodic_thread = thread(run)
    request = periodic_thread.request()
    periodic_thread.end()
    assert periodic_thread.join(SOON)
    assert exporter_threads() == []
    assert (run.calls, request and request.wait(0)) == (1, True)
    assert periodic_thread.join(SOON)


def test_a_thread_that_hangs_is_waited_for_so_long(
    thread: Callable[..., PeriodicThread],
) -> None:
    """Waiting for the end of a thread whose call hangs ends in time."""
    hanging = Hanging()
    periodic_thread = thread(Counting(hanging))
    periodic_thread.request()
    assert hanging.entered.wait(SOON)
    periodic_thread.end()
    assert not periodic_thread.join(0.001)
    hanging.released.set()
    assert periodic_thread.join(SOON)


def test_it_can_be_started_again(thread: Callable[..., PeriodicThread]) -> None:
    """A thread that ended can be started, and what was asked for in between is done then."""
    periodic_thread = thread(lambda: True)
    periodic_thread.end()
    assert periodic_thread.join(SOON)
    request = periodic_thread.request()
    periodic_thread.start()
    assert request is not None
    assert request.wait(SOON)


def test_there_is_one_thread(thread: Callable[..., PeriodicThread]) -> None:
    """Starting a thread that runs starts no other one."""
    periodic_thread = thread(lambda: True)
    periodic_thread.start()
    assert len(exporter_threads()) == 1


def test_of_two_threads_one_goes_on(thread: Callable[..., PeriodicThread]) -> None:
    """Where two threads were started at the same moment, one ends by itself."""
    periodic_thread = thread(lambda: True, interval=0.01)
    periodic_thread._thread = None  # as the other one, that starts at the same moment, finds it
    periodic_thread.start()
    until(lambda: len(exporter_threads()) == 1)
    request = periodic_thread.request()
    assert request is not None
    assert request.wait(SOON)


def test_it_calls_in_time_however_often_it_is_started(
    thread: Callable[..., PeriodicThread],
) -> None:
    """A thread that is started again before its interval is over calls when that is over."""
    run = Counting()
    periodic_thread = thread(run, interval=0.2)

    def start_again() -> bool:
        periodic_thread.end()
        periodic_thread.join(SOON)
        periodic_thread.start()
        return run.calls > 0

    until(start_again)


def test_a_clock_that_is_set_back_does_not_silence_it(
    thread: Callable[..., PeriodicThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a test or a program replaces the clock, the function is still called."""
    falling = count(10**12, -(10**6))
    monkeypatch.setattr(periodic, "monotonic", lambda: next(falling))
    run = Counting()
    periodic_thread = thread(run, interval=0.01)
    until(lambda: run.calls > 2)
    periodic_thread.end()
    assert periodic_thread.join(SOON)


def test_it_can_end_itself(thread: Callable[..., PeriodicThread]) -> None:
    """A call that lets its own thread end does not wait for itself."""
    joined: list[Any] = []

    def run() -> bool:
        joined.append(periodic_thread.is_current())
        periodic_thread.end()
        joined.append(periodic_thread.join(SOON))
        joined.append(periodic_thread.is_current())
        return True

    periodic_thread = thread(run)
    periodic_thread.request()
    until(lambda: not exporter_threads())
    assert joined == [True, False, True]
