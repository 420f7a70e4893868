"""Polls: when functions are called, for how long, and what slow and failing ones cost."""

from __future__ import annotations

import functools
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Tracer, polling, swallowed_errors
from hypertrace.polling import SCHEDULER_NAME, THREAD_NAME, poll
from hypertrace.testing import capture_events, reset

from ..running import LONG, in_threads
from .exporters.recording import NEVER, SOON, Hanging, until

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Counting:
    """A function that counts its calls and the threads that they are in."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: set[str] = set()

    def __call__(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls += 1

    measure = __call__


def threads() -> list[str]:
    """Give the names of the threads of polls that are alive."""
    names = (THREAD_NAME, SCHEDULER_NAME)
    return sorted(one.name for one in threading.enumerate() if one.name in names)


@pytest.fixture(autouse=True)
def _no_polls() -> Iterator[None]:
    yield
    polling.reset()
    until(lambda: not threads())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """Give a function that hangs until the test ends, with little patience for it."""
    monkeypatch.setattr(polling, "PATIENCE", 0.1)
    hanging = Hanging()
    yield hanging
    hanging.released.set()


def test_a_function_is_called_at_once_and_at_an_interval() -> None:
    """The first call is at once, and others follow."""
    once, often = Counting(), Counting()
    poll(once, every=NEVER)
    poll(often, every=0.001)
    until(lambda: often.calls >= 5)
    assert once.calls == 1


def test_all_polls_have_one_thread() -> None:
    """However many there are, one thread calls them, and one waits for it."""
    functions = [Counting() for _ in range(20)]
    for function in functions:
        poll(function, every=0.001)
    until(lambda: all(function.calls >= 3 for function in functions))
    assert {name for function in functions for name in function.threads} == {THREAD_NAME}
    assert threads() == [THREAD_NAME, SCHEDULER_NAME]
    assert all(one.daemon for one in threading.enumerate() if one.name in threads())


def test_the_interval_has_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call is due after a tenth less to a tenth more than the interval."""
    delays = set()
    one = poll(Counting(), every=1000)
    for _ in range(100):
        until(lambda: not one.is_called())
        one.due = 0.0
        assert one.begin()
        delays.add(one.due - time.monotonic())
        one.end()
    assert len(delays) > 90
    assert 899 < min(delays) < 950
    assert 1050 < max(delays) <= 1100


def test_a_handle_ends_the_calls() -> None:
    """After `stop()`, or the block, it is called no more, and without polls there is no thread."""
    function = Counting()
    with poll(function, every=0.001) as handle:
        until(lambda: function.calls)
        assert repr(handle) == "<Poll of Counting every 0.001 seconds>"
        assert not handle.is_stopped
    assert handle.is_stopped
    handle.stop()
    until(lambda: not threads())
    calls = function.calls
    other = Counting()
    poll(other, every=0.001)
    until(lambda: other.calls >= 5)
    assert function.calls == calls


def test_a_function_may_stop_its_own_poll() -> None:
    """The thread goes on with the others."""
    other = Counting()
    handles: list[Any] = []
    calls = Counting()

    def stop() -> None:
        if handles:  # else it is called before the test has the handle
            calls()
            handles[0].stop()

    handles.append(poll(stop, every=0.001))
    poll(other, every=0.001)
    until(lambda: other.calls >= 5)
    assert calls.calls == 1


def test_the_object_of_a_method_is_not_kept() -> None:
    """When it is gone, so is the poll; other functions are kept."""
    owners = [Counting()]
    handle = poll(owners[0].measure, every=0.001)
    until(lambda: owners[0].calls)
    reference = weakref.ref(owners.pop())
    until(lambda: reference() is None and handle.is_stopped)
    kept: list[int] = []
    poll(lambda: kept.append(1), every=0.001)
    gc.collect()
    until(lambda: len(kept) >= 3)


def test_a_failure_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A function that raises is called again; of its failures one is logged in a minute."""
    before = swallowed_errors()

    def fail() -> None:
        raise SystemExit(3)

    handle, other = poll(fail, every=0.001), Counting()
    poll(other, every=0.001)
    until(lambda: handle.failures >= 5 and other.calls >= 5)
    handle.stop()
    until(lambda: not handle.is_called())
    assert swallowed_errors() - before == handle.failures
    (record,) = [one for one in caplog.records if "SystemExit" in one.getMessage()]
    assert record.levelno == logging.ERROR
    assert "fail" in record.getMessage()


def test_a_slow_function_is_left_out_and_the_others_go_on(
    impatient: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    """One that hangs is a failure, once; the others have another thread until it returns."""
    other = Counting()
    slow = poll(impatient, every=0.001)
    poll(other, every=0.001)
    until(lambda: slow.failures == 1 and other.calls >= 5)
    assert threads() == [THREAD_NAME, THREAD_NAME, SCHEDULER_NAME]
    (record,) = [one for one in caplog.records if "TimeoutError" in one.getMessage()]
    assert record.exc_info is not None
    assert "in __call__" in str(record.exc_info[1])
    assert slow.is_called()
    impatient.entered.clear()
    impatient.released.set()
    assert impatient.entered.wait(SOON)  # it is called again
    until(lambda: threads() == [THREAD_NAME, SCHEDULER_NAME])
    assert slow.failures == 1


def test_many_functions_that_hang_do_not_stop_the_others(impatient: Hanging) -> None:
    """Each costs the others the patience once."""
    slow = [poll(functools.partial(impatient), every=0.001) for _ in range(5)]
    other = Counting()
    poll(other, every=0.001)
    until(lambda: all(one.failures == 1 for one in slow))
    calls = other.calls
    until(lambda: other.calls >= calls + 5)


async def coroutine() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def asynchronous_generator() -> Any:
    yield 1


class Asynchronous:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        generator,
        asynchronous_generator,
        functools.partial(coroutine),
        Asynchronous(),
        Asynchronous().__call__,
    ],
)
def test_functions_that_return_nothing_to_call_are_refused(function: Any) -> None:
    """A coroutine or generator function would do nothing; the error says what to do instead."""
    with pytest.raises(TypeError, match=r"plain function.*let a task of the event loop measure"):
        poll(function)
    assert threads() == []


def test_a_coroutine_that_is_returned_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """One that hides in a plain function is closed without a warning."""
    handle = poll(lambda: coroutine(), every=0.001)  # noqa: PLW0108 -- a plain function
    until(lambda: handle.failures)
    assert "returned a coroutine" in caplog.text


@pytest.mark.parametrize(
    ("every", "error"),
    [("10", TypeError), (True, TypeError), (0, ValueError), (-1, ValueError), (1e9, ValueError)],
)
def test_a_wrong_interval_is_refused(every: Any, error: type[Exception]) -> None:
    """An interval is a number of seconds above 0, up to a day; no thread is left."""
    with pytest.raises(error, match="every must be"):
        poll(Counting(), every=every)
    with pytest.raises(TypeError, match="poll takes a function"):
        poll(3)  # type: ignore[arg-type]  # what an application may give
    assert threads() == []


def test_what_a_function_traces_counts() -> None:
    """A poll is code of the application: its events are recorded."""
    with capture_events() as events:
        tracer = Tracer("sensor")
        poll(lambda: tracer.trace("measured"), every=NEVER)
        until(lambda: events)
    assert events[0].id == "measured"


def test_polls_may_come_and_go_in_many_threads() -> None:
    """Each is called, and none is left."""

    def work() -> None:
        for _ in range(50):
            function = Counting()
            with poll(function, every=NEVER):
                until(lambda: function.calls)  # noqa: B023 -- called here

    in_threads(*[work] * 4)
    until(lambda: not threads())


def test_reset_stops_all_polls() -> None:
    """The reset of the package's state is one of polls, too."""
    handle = poll(Counting(), every=0.001)
    reset()
    assert handle.is_stopped


def test_without_a_thread_the_poll_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left, `poll` raises, and nothing is left."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="thread"):
        poll(Counting())
    assert polling._polls.held() == []


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program, which must end well and write no error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


HEAD = """
import os, sys, threading, time
from hypertrace.polling import poll

def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)

calls = []
"""
FORK = """
poll(lambda: calls.append(os.getpid()), every=0.001)
until(lambda: len(calls) > 3)
for _ in range(5):
    child = os.fork()  # -W error: it must not warn of threads
    if child == 0:
        calls.clear()
        until(lambda: calls.count(os.getpid()) > 3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    calls.clear()
    until(lambda: calls.count(os.getpid()) > 3)
"""


@needs_fork
def test_a_forked_child_polls_for_itself() -> None:
    """The threads end before a fork, and start again in the parent and in the child."""
    run(HEAD + FORK)


@needs_fork
def test_a_fork_does_not_wait_for_a_slow_function() -> None:
    """A call that hangs delays the fork a little; the child has its own call."""
    run(
        HEAD
        + """
import warnings
warnings.simplefilter("ignore")
go = threading.Event()
poll(lambda: (calls.append(1), go.wait(20)), every=0.001)
until(lambda: calls)
began = time.monotonic()
child = os.fork()
if child == 0:
    calls.clear()
    until(lambda: calls)
    os._exit(0)
assert time.monotonic() - began < 3
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
other = []
poll(lambda: other.append(1), every=0.001)
until(lambda: len(other) > 3)
go.set()
"""
    )


@needs_fork
def test_polls_in_a_process_of_greenlets() -> None:
    """Where gevent makes greenlets of threads, functions are called, in children too."""
    pytest.importorskip("gevent")
    run("from gevent import monkey; monkey.patch_all()\n" + HEAD + FORK)


@pytest.mark.parametrize("wait", ["", "time.sleep(20)", "threading.Event().wait(20)"])
def test_a_program_that_ends_waits_for_no_poll(wait: str) -> None:
    """The interpreter ends at once, while a function runs too, and writes nothing."""
    began = time.monotonic()
    run(
        HEAD
        + f"poll(lambda: [calls.append(1), {wait or 'None'}], every=0.001)\nuntil(lambda: calls)"
    )
    assert time.monotonic() - began < 15
