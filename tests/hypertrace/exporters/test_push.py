"""Push exporters: what they send, what they do with errors, and how they end."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

import hypertrace.rate_limit
from hypertrace import Tracer, dropped_events, set_trace_function
from hypertrace.exporters import processes
from hypertrace.exporters.push import PushExporter
from hypertrace.metrics import Metrics

from .recording import NEVER, SOON, Hanging, Recording, calls_in, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable


def fail(*_: object) -> None:
    """Raise."""
    raise OSError("the network is down")


def test_it_sends_what_came_in(record: Callable[..., Recording]) -> None:
    """The first reading has all that was counted, each further one what came in since."""
    exporter = record()
    tracer = Tracer("object")
    for times in (3, 0, 2):
        for _ in range(times):
            tracer.trace()
        assert exporter.flush()
    assert exporter.calls() == [3, 0, 2]
    assert (exporter.sent, exporter.failures) == (3, 0)


def test_it_sends_at_its_interval(record: Callable[..., Recording]) -> None:
    """What is traced is sent without being asked for."""
    exporter = record(interval=0.001)
    Tracer("object").trace()
    until(lambda: sum(exporter.calls()) == 1 and exporter.sent > 3)


def test_what_was_counted_before_is_sent(record: Callable[..., Recording]) -> None:
    """An exporter that is given metrics sends first what these have counted already."""
    metrics = Metrics()
    set_trace_function(metrics)
    Tracer("object").trace()
    exporter = record(metrics)
    assert exporter.flush()
    assert exporter.calls() == [1]


def test_what_could_not_be_sent_is_sent_later(record: Callable[..., Recording]) -> None:
    """Failures lose no count, however many there are."""
    exporter = record()
    tracer = Tracer("object")
    exporter.on_send = fail
    for _ in range(5):
        tracer.trace()
        assert not exporter.flush()
    exporter.on_send = lambda: None
    assert exporter.flush()
    assert exporter.calls() == [5]
    assert (exporter.sent, exporter.failures) == (1, 5)


def test_failures_are_logged_once_a_minute(
    record: Callable[..., Recording],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line of log says what failed, and how many more did since the last one."""
    exporter = record()
    now = [1_000.0]
    monkeypatch.setattr(hypertrace.rate_limit, "monotonic", lambda: now[0])
    exporter.on_send = fail
    for seconds in (0, 1, 58, 2):
        now[0] += seconds
        exporter.flush()
    message = (
        "Recording could not send its metrics, and will try again: OSError: the network is down"
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{message} (0 more failures not logged)",
        f"{message} (2 more failures not logged)",
    ]
    assert {record.name for record in caplog.records} == {"hypertrace.exporters"}


def test_the_last_attempt_is_logged_as_such(
    record: Callable[..., Recording], caplog: pytest.LogCaptureFixture
) -> None:
    """A failure at the end is logged also just after another one, so that no loss is silent."""
    metrics = Metrics()
    record(metrics=metrics)
    exporter = record(metrics=metrics)
    exporter.address = "udp://127.0.0.1:8125"
    exporter.on_send = fail
    exporter.flush()
    exporter.stop()
    start = "Recording-2 could not send its metrics to udp://127.0.0.1:8125, and"
    end = "OSError: the network is down (0 more failures not logged)"
    assert [record.getMessage() for record in caplog.records] == [
        f"{start} will try again: {end}",
        f"{start} makes no further attempt: {end}",
    ]


class NamelessError(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError


class Timeout(BaseException):
    """An error that is no `Exception`, as the timeout of gevent is none."""


@pytest.mark.parametrize("error", [NamelessError(), SystemExit(3), MemoryError(), Timeout()])
@pytest.mark.parametrize("where", ["on_send", "on_encode"])
def test_no_error_ends_the_thread(
    record: Callable[..., Recording],
    error: BaseException,
    where: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever is raised in the thread counts as a failure, and it goes on."""
    exporter = record()

    def fail_once() -> None:
        setattr(exporter, where, lambda: None)
        raise error

    setattr(exporter, where, fail_once)
    assert not exporter.flush()
    assert exporter.flush()
    assert exporter.failures == 1
    assert capfd.readouterr() == ("", "")


def test_a_broken_log_handler_does_not_end_the_thread(
    record: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log handler that raises costs its line of log."""
    monkeypatch.setattr(logging.getLogger("hypertrace.exporters"), "handle", fail)
    exporter = record()
    exporter.on_send = fail
    assert not exporter.flush()
    exporter.on_send = lambda: None
    assert exporter.flush()


def test_what_sending_traces_is_dropped(record: Callable[..., Recording]) -> None:
    """A trace in `send` is dropped and counted; one of a finalizer before that counts."""
    exporter = record()
    tracer = Tracer("object")
    exporter.on_encode = lambda: tracer.trace("finalizer")
    exporter.on_send = lambda: tracer.trace("sending")
    assert exporter.flush()
    assert exporter.flush()
    assert exporter.calls() == [0, 1]
    assert dropped_events() == 2


def test_no_caller_waits_for_a_receiver_that_hangs(record: Callable[..., Recording]) -> None:
    """While sending hangs, tracing goes on, and `flush` and `stop` wait as long as they say."""
    exporter, hanging = record(), Hanging()
    tracer = Tracer("object")
    exporter.on_send = hanging
    assert not exporter.flush(0.001)
    assert hanging.entered.wait(SOON)
    tracer.trace()
    assert not exporter.flush(0.001)
    hanging.released.set()
    assert exporter.flush()
    assert sum(exporter.calls()) == 1


def test_stop_sends_the_rest_and_ends_the_thread(record: Callable[..., Recording]) -> None:
    """After `stop` all is sent and the thread is gone; it may be called again."""
    exporter = record()
    Tracer("object").trace()
    exporter.stop()
    assert exporter_threads() == []
    assert exporter.calls() == [1]
    exporter.stop()
    assert not exporter.flush()
    assert exporter.calls() == [1]


def test_a_stopped_exporter_still_counts(record: Callable[..., Recording]) -> None:
    """After `stop` the application may go on tracing, for other exporters of the metrics."""
    exporter = record()
    exporter.stop()
    Tracer("object").trace()
    assert calls_in(exporter.forwards_to.read()) == 1


def test_stop_does_not_wait_for_ever(
    record: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop` gives up on a receiver that hangs, and nothing is sent after it."""
    monkeypatch.setattr(processes, "EXIT_TIMEOUT", 0.01)
    exporter, hanging = record(), Hanging()
    exporter.on_send = hanging
    exporter.flush(0)
    assert hanging.entered.wait(SOON)
    exporter.stop()
    exporter.on_send = fail
    hanging.released.set()
    until(lambda: not exporter_threads())
    assert (exporter.sent, exporter.failures) == (1, 0)


def test_a_last_reading_that_is_not_sent_in_time_is_logged(
    record: Callable[..., Recording],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What `stop`, or the end of the program, leaves unsent is not lost in silence."""
    monkeypatch.setattr(processes, "EXIT_TIMEOUT", 0.01)
    exporter, hanging = record(), Hanging()
    exporter.on_send = hanging
    exporter.stop()
    hanging.released.set()
    (message,) = [one.getMessage() for one in caplog.records]
    assert message.startswith("Recording did not send its last reading within 0.01 seconds")


@pytest.mark.parametrize("call", [lambda one: one.flush(NEVER), lambda one: one.stop()])
def test_an_exporter_may_be_used_while_it_sends(
    record: Callable[..., Recording], call: Callable[[Recording], object]
) -> None:
    """`send` may call the exporter's own methods without waiting for itself."""
    exporter = record()
    exporter.on_send = lambda: call(exporter)
    Tracer("object").trace()
    assert exporter.flush(SOON)
    exporter.stop()
    until(lambda: not exporter_threads())
    assert sum(exporter.calls()) == 1


def test_threads_may_flush_and_stop_at_the_same_time(record: Callable[..., Recording]) -> None:
    """However many threads flush and stop an exporter, each count is sent once."""
    exporter = record(interval=0.001)
    tracer = Tracer("object")

    def work(number: int) -> None:
        for _ in range(50):
            tracer.trace()
            exporter.flush()
        if number > 5:
            exporter.stop()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    exporter.stop()
    until(lambda: not exporter_threads())
    before = sum(exporter.calls())
    assert before <= 400
    rest = Recording(exporter.forwards_to)
    rest.stop()
    assert rest.calls() == [400]


def test_an_exporter_that_is_not_held_goes_on() -> None:
    """An exporter whose program keeps no reference to it works until it is stopped."""
    metrics = Metrics()
    set_trace_function(metrics)
    reference = ref(Recording(metrics, interval=0.001))
    gc.collect()
    Tracer("object").trace()
    exporter = reference()
    assert exporter is not None
    while sum(exporter.calls()) != 1:  # no closure, which would hold it
        time.sleep(0.001)
    exporter.stop()
    del exporter
    until(lambda: not exporter_threads())
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf, 86_401, 10**400])
def test_an_interval_is_a_time(interval: float) -> None:
    """An interval that is not above zero, or longer than a day, is refused."""
    with pytest.raises(ValueError, match="interval must be above 0 and up to 86400 seconds"):
        Recording(interval=interval)
    assert exporter_threads() == []


@pytest.mark.parametrize("interval", ["10", None, True])
def test_an_interval_is_a_number(interval: Any) -> None:
    """An interval that is no number is refused."""
    with pytest.raises(TypeError, match="interval must be a number of seconds, not "):
        Recording(interval=interval)


def test_without_a_thread_there_is_no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left, the constructor says so, and nothing stays."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = processes._running.copy()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Recording()
    assert processes._running == before


def test_what_a_push_exporter_must_have() -> None:
    """Encoding and sending are the subclass's; without them attempts fail."""

    class Bare(PushExporter):
        def __init__(self) -> None:
            super().__init__(None, {}, interval=1.0)

    class Encoding(Bare):
        def encode(self, reading: object) -> object:
            return reading

    for make in (Bare, Encoding):
        with make() as exporter:
            assert not exporter.flush()
        assert exporter.failures > 0
