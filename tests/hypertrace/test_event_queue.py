"""Queues of events: handlers that run in their own thread, and never hold up the application."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import (
    Handler,
    TraceEvent,
    Tracer,
    attach,
    dropped_events,
    handlers,
    set_trace_function,
    swallowed_errors,
)
from hypertrace import _event_queue as queues
from hypertrace.metrics import Metrics
from hypertrace.tallies import unqueued
from hypertrace.testing import capture_events

from ..running import LONG, in_threads
from .conftest import needs_fork

DROPPED = "hypertrace_dropped_handler_events_total"


class Slow:
    """A handler that waits until the test lets it go on, at each event."""

    def __init__(self) -> None:
        self.events: list[TraceEvent] = []
        self.threads: set[str] = set()
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def __call__(self, event: TraceEvent) -> None:
        self.threads.add(threading.current_thread().name)
        self.arrived.release()
        assert self.gate.acquire(timeout=LONG)
        self.events.append(event)

    def go_on(self, count: int = 1_000_000) -> None:
        self.gate.release(count)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.go_on()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def threads_of_handlers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == queues.THREAD_NAME]


def test_a_slow_handler_does_not_hold_up_the_application(slow: Slow) -> None:
    """The application goes on while the handler is at the first event, in its own thread."""
    handler = attach(slow, queue=1_000)
    tracer = Tracer("a")
    for number in range(100):
        tracer.trace(n=number)
    assert slow.arrived.acquire(timeout=LONG)
    assert (slow.events, handler.calls) == ([], 1)
    wait_for(lambda: handler.waiting == 99)
    slow.go_on()
    handler.detach()
    assert [event.caller.props for event in slow.events] == [{"n": n} for n in range(100)]
    assert slow.threads == {queues.THREAD_NAME}
    assert (handler.calls, handler.waiting, handler.dropped) == (100, 0, 0)
    wait_for(lambda: not threads_of_handlers())


def test_what_does_not_fit_is_counted(slow: Slow) -> None:
    """In the handler, in a tally, and in the metrics of the counting itself."""
    metrics = Metrics()
    handler = attach(slow, queue=5)
    tracer = Tracer("a")
    tracer.trace()
    assert slow.arrived.acquire(timeout=LONG)
    for _ in range(9):
        tracer.trace()
    assert (handler.waiting, handler.dropped, unqueued.value) == (5, 4, 4)
    values = {family.name: [p.value for p in family.points] for family in metrics.read().families}
    assert values[DROPPED] == [4]
    slow.go_on()
    handler.detach()
    assert handler.calls == 6
    assert swallowed_errors() == 0


def test_workers_share_the_count_of_what_did_not_fit(slow: Slow, tmp_path: Any) -> None:
    """As that of errors."""
    metrics = Metrics(workers=tmp_path)
    handler = attach(slow, queue=1)
    tracer = Tracer("a")
    tracer.trace()
    assert slow.arrived.acquire(timeout=LONG)
    for _ in range(3):
        tracer.trace()
    values = {family.name: [p.value for p in family.points] for family in metrics.read().families}
    assert values[DROPPED] == [2]
    metrics.close()
    slow.go_on()
    handler.detach()


class Thing:
    """A value that is no plain data."""

    def __str__(self) -> str:
        Tracer("a").trace()
        return "a thing"


def test_events_that_wait_are_plain_data(slow: Slow) -> None:
    """They keep no object alive, and show what the values were when it happened."""
    handler = attach(slow, queue=10)
    tracer = Tracer("Cart", {"owner": Thing()})
    items = ["tea"]
    tracer.trace("add", items=items, thing=Thing())
    with tracer.span("pay"):
        pass
    items.append("cup")
    slow.go_on()
    handler.detach()
    added, paid = slow.events
    assert added.caller.props == {"items": "['tea']", "thing": "a thing"}
    assert added.object.props == {"owner": "a thing"}
    assert (added.object.ctx, added.object.tracer) == (None, None)
    assert (added.object.class_name, added.id, paid.id) == ("Cart", "add", "pay")
    assert dropped_events() == 3


def test_what_the_handler_traces_is_dropped() -> None:
    """As for a trace function; what other threads trace meanwhile is not."""
    tracers: list[Tracer] = []
    done = threading.Event()

    def handle(_: TraceEvent) -> None:
        tracers[0].trace()
        done.set()

    handler = attach(handle, queue=10)
    tracers.append(Tracer("a"))
    tracers[0].trace()
    assert done.wait(LONG)
    handler.detach()
    assert (handler.calls, dropped_events()) == (1, 1)


@pytest.mark.parametrize("error", [LookupError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("strict", [False, True])
def test_an_error_does_not_end_the_thread(
    error: type[BaseException], caplog: pytest.LogCaptureFixture, *, strict: bool
) -> None:
    """It is counted and logged, also if strict, where no caller would get it."""

    def fail(_: TraceEvent) -> None:
        raise error

    with capture_events(strict=strict):
        handler = attach(fail, queue=10)
        tracer = Tracer("a")
        tracer.trace()
        tracer.trace()
        handler.detach()
    assert (handler.calls, handler.errors, swallowed_errors()) == (2, 2, 2)
    assert f"swallowed {error.__name__}" in caplog.text


def test_a_handler_that_failed_gets_nothing_more(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for one that is detached by its error is dropped and counted."""

    def fail(event: TraceEvent) -> None:
        slow(event)
        raise LookupError

    handler = attach(fail, queue=10, detach_on_error=True)
    tracer = Tracer("a")
    for _ in range(4):
        tracer.trace()
    slow.go_on()
    wait_for(lambda: handler.dropped == 3)
    wait_for(lambda: not threads_of_handlers())
    assert (handler.calls, handler.attached, handlers()) == (1, False, [])
    assert caplog.text.count("was attached until it raised LookupError") == 1


def test_a_handler_may_detach_itself() -> None:
    """It does not wait for itself, and what waits is still done."""
    seen: list[TraceEvent] = []
    started = threading.Event()

    def handle(event: TraceEvent) -> None:
        assert started.wait(LONG)
        seen.append(event)
        handler.detach()

    handler = attach(handle, queue=10)
    tracer = Tracer("a")
    for _ in range(3):
        tracer.trace()
    started.set()
    wait_for(lambda: len(seen) == 3)
    wait_for(lambda: not threads_of_handlers())
    assert handlers() == []


def test_detaching_waits_no_longer_than_its_limit(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread goes on with what waits, and the log says so."""
    monkeypatch.setattr(queues, "EXIT_TIMEOUT", 0.01)
    handler = attach(slow, queue=10)
    tracer = Tracer("a")
    tracer.trace()
    tracer.trace()
    handler.detach()
    assert "its function still runs" in caplog.text
    slow.go_on()
    wait_for(lambda: len(slow.events) == 2)


def test_no_thread_starts_before_the_first_event() -> None:
    """Nor is one needed to detach."""
    handler = attach(print, queue=10, of="Other.*")
    Tracer("a").trace()
    assert threads_of_handlers() == []
    handler.detach()
    assert threads_of_handlers() == []


def test_events_are_kept_until_a_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threads left, the application goes on, and a later event starts it."""
    seen: list[TraceEvent] = []
    handler = attach(seen.append, queue=10)
    tracer = Tracer("a")

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(queues, "start_new_thread", refuse)
        tracer.trace()
    assert (handler.waiting, swallowed_errors()) == (1, 0)
    tracer.trace()
    handler.detach()
    assert len(seen) == 2


def test_the_thread_that_starts_another_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no other can start, as from Python 3.12 on in a program that has just ended."""
    seen: list[int] = []

    def see(_: TraceEvent) -> None:
        seen.append(threading.get_ident())
        handler.detach()  # does not wait for itself

    handler = attach(see, queue=10)

    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        Tracer("a").trace()
        wait_for(lambda: bool(seen) and not handler._queue._running.locked())  # type: ignore[union-attr]
    assert seen != [threading.get_ident()]
    assert (handler.waiting, swallowed_errors()) == (0, 0)


def test_many_threads_fill_one_queue() -> None:
    """Each event is either taken or counted as dropped, and one thread takes all."""
    threads: set[int] = set()
    handler = attach(lambda _: threads.add(threading.get_ident()), queue=50)
    tracer = Tracer("a")

    def trace() -> None:
        for _ in range(500):
            tracer.trace()

    in_threads(trace, trace, trace, trace)
    handler.detach()
    assert handler.calls + handler.dropped == 2_000
    assert handler.calls >= 50
    assert len(threads) == 1


def test_a_handler_comes_and_goes_while_threads_trace() -> None:
    """What it was given it takes, and no thread stays."""
    seen: list[Handler] = []

    def trace() -> None:
        tracer = Tracer("a")
        for _ in range(500):
            tracer.trace()

    def come_and_go() -> None:
        for _ in range(20):
            handler = attach(lambda _: None, queue=1_000_000)
            handler.detach()
            seen.append(handler)

    set_trace_function(Metrics())
    in_threads(trace, trace, come_and_go, come_and_go)
    wait_for(lambda: not any(handler.waiting for handler in seen))
    wait_for(lambda: not threads_of_handlers())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_signal_handlers_that_trace_block_nothing() -> None:
    """Whatever they interrupt: adding, the start of the thread, a fork of it.

    Those that interrupt the delivery of an event are dropped, as in a trace function.
    """
    handler = attach(lambda _: None, queue=100_000)
    tracer = Tracer("a")
    interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        tracer.trace()

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        traced = 0
        while interrupts < 50:
            traced += 1
            tracer.trace()
            if traced % 50 == 0:
                queues._before_fork()
                queues._after_fork_in_parent()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    handler.detach()
    assert handler.calls + handler.dropped + dropped_events() == traced + interrupts


@needs_fork
def test_a_child_starts_with_an_empty_queue_and_its_own_thread(slow: Slow) -> None:
    """What waits is done in the parent, once; the child counts from zero."""
    handler = attach(slow, queue=10)
    tracer = Tracer("a")
    tracer.trace("parent")
    tracer.trace("parent")
    assert slow.arrived.acquire(timeout=LONG)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the handler is at an event
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            empty = (handler.waiting, handler.calls, threads_of_handlers())
            slow.gate = threading.Semaphore(1)
            tracer.trace("child")
            handler.detach()
            os.write(writer, repr((empty, [event.id for event in slow.events])).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.read(reader, 1000).decode() == "((0, 0, []), ['child'])"
    os.close(reader)
    slow.go_on()
    handler.detach()
    assert [event.id for event in slow.events] == ["parent", "parent"]


@needs_fork
def test_no_thread_is_there_when_the_process_forks(python: Callable[..., str]) -> None:
    """So Python does not warn of it, also right after the first event; both go on afterwards."""
    program = """
import os, warnings
tasks = "/proc/self/task"
threads = []
if os.path.exists(tasks):  # registered first, this runs last
    os.register_at_fork(before=lambda: threads.append(len(os.listdir(tasks))))
from hypertrace import Tracer, attach
warnings.simplefilter("error")
seen = []
handler = attach(seen.append, queue=1000)
tracer = Tracer("a")
for number in range(20):
    tracer.trace()
    if os.fork() == 0:
        seen.clear()
        tracer.trace()
        handler.detach()
        os._exit(len(seen))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 1
handler.detach()
print(len(seen), {*threads, 1})
"""
    assert python(program) == "20 {1}\n"


def test_the_queue_is_drained_at_exit(python: Callable[..., str]) -> None:
    """Also what came in by functions that run at exit before."""
    program = """
import atexit, time
from hypertrace import Tracer, attach
def handle(event):
    time.sleep(0.01)
    print(event.id, flush=True)
attach(handle, queue=100)
tracer = Tracer("a")
atexit.register(tracer.trace, "exit")
for number in range(5):
    tracer.trace(f"{number}")
"""
    assert python(program).split() == ["0", "1", "2", "3", "4", "exit"]


def test_a_handler_that_hangs_does_not_hold_up_the_exit(python: Callable[..., str]) -> None:
    """After 2 seconds the process ends, with a warning that says how many are lost."""
    program = """
import logging, sys, time, threading
from hypertrace import Tracer, attach
logging.basicConfig(stream=sys.stdout, format="%(message)s")
attach(lambda _: threading.Event().wait(), queue=100)
tracer = Tracer("a")
for number in range(5):
    tracer.trace()
"""
    start = time.monotonic()
    assert "handlers did not take all events within 2 seconds" in python(program)
    assert time.monotonic() - start < LONG / 4


@needs_fork
def test_a_child_of_multiprocessing_drains_its_queue(python: Callable[..., str]) -> None:
    """Though it ends with `os._exit`."""
    program = """
import multiprocessing, time
from hypertrace import Tracer, attach
def handle(event):
    time.sleep(0.01)
    print(event.id, flush=True)
attach(handle, queue=100)
tracer = Tracer("a")
def work():
    for number in range(3):
        tracer.trace(f"{number}")
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
"""
    assert python(program).split() == ["0", "1", "2"]


@needs_fork
def test_a_handler_may_fork() -> None:
    """The child of it takes nothing from the queue of its parent."""
    statuses: list[int] = []

    def fork(event: TraceEvent) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os._exit(handler.waiting)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    handler = attach(fork, queue=10)
    tracer = Tracer("a")
    for _ in range(3):
        tracer.trace()
    wait_for(lambda: len(statuses) == 3)
    handler.detach()
    assert statuses == [0, 0, 0]
