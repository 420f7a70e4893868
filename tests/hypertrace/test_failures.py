"""Errors raised while tracing: counted, logged at intervals, and never seen by the application."""

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hypertrace import Tracer, _failures, rate_limit, set_trace_function, swallowed_errors
from hypertrace._failures import misuse, swallow
from hypertrace.rate_limit import LOG_INTERVAL


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(rate_limit, "monotonic", clock)
    return clock


@pytest.fixture
def _broken_log() -> Iterator[None]:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Broken()
    logging.getLogger("hypertrace").addHandler(handler)
    yield
    logging.getLogger("hypertrace").removeHandler(handler)


def _raise(error: BaseException) -> Callable[[object], None]:
    def function(_: object) -> None:
        raise error

    return function


def test_an_error_is_counted_and_logged_with_its_traceback(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the error and what raised it, and has the traceback."""
    set_trace_function(_raise(LookupError("lost")))
    Tracer("a").trace()
    assert swallowed_errors() == 1
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("hypertrace", "ERROR")
    assert "LookupError in " in record.getMessage()
    assert f"{__name__}._raise.<locals>.function" in record.getMessage()
    assert "in function" in caplog.text
    assert "LookupError: lost" in caplog.text


def test_the_same_kind_of_error_is_logged_once_a_minute(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """All errors are counted; the log has one line a minute, with the number of those left out."""
    for moment in (0, 1, LOG_INTERVAL - 0.1, LOG_INTERVAL, LOG_INTERVAL + 1, 2 * LOG_INTERVAL):
        clock.now = moment
        swallow(LookupError(f"at {moment}"), print)
    assert swallowed_errors() == 6
    assert len(caplog.records) == 3
    assert "0 more of this kind" in caplog.messages[0]
    assert "2 more of this kind" in caplog.messages[1]
    assert "1 more of this kind" in caplog.messages[2]


def test_kinds_of_errors_are_logged_by_themselves(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Another type of error, or another culprit, is another kind."""
    for error, culprit in [(KeyError(), print), (ValueError(), print), (KeyError(), len)] * 3:
        swallow(error, culprit)
    assert len(caplog.records) == 3


def test_what_is_remembered_of_errors_is_bounded(clock: _Clock) -> None:
    """However many kinds of errors there are, few are remembered."""
    for i in range(1000):
        swallow(type(f"Error{i}", (Exception,), {})(), print)
        swallow(type(f"Error{i}", (Exception,), {})(), print)
    assert swallowed_errors() == 2000
    assert len(_failures._kinds) <= _failures.MAX_KINDS


@pytest.mark.usefixtures("_broken_log")
def test_a_broken_log_is_swallowed(clock: _Clock) -> None:
    """An error in a log handler does not reach the application, and is counted too."""
    set_trace_function(_raise(LookupError()))
    Tracer("a").trace()
    assert swallowed_errors() == 2
    misuse("a mistake")
    assert swallowed_errors() == 3


class _Nameless:
    def __getattr__(self, name: str) -> Any:
        raise ArithmeticError(name)

    def __call__(self, _: object) -> None:
        raise LookupError


def test_a_culprit_without_a_name_is_swallowed(clock: _Clock) -> None:
    """Not even a trace function whose attributes raise reaches the application."""
    swallow(LookupError(), _Nameless())
    assert swallowed_errors() == 2


def test_misuse_is_logged_once_a_minute(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong call is a warning, each message once a minute, and no error."""
    for moment in (0.0, 1.0, LOG_INTERVAL):
        clock.now = moment
        misuse("a mistake")
        misuse("another mistake")
    once_more = " (1 more of this kind not logged)"
    first, *later = caplog.messages[::2], caplog.messages[1::2]
    assert first == ["a mistake", f"a mistake{once_more}"]
    assert later == [["another mistake", f"another mistake{once_more}"]]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert swallowed_errors() == 0


def test_a_percent_sign_in_a_message_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    """A logged text is not used as a format."""
    misuse("100 % wrong %s")
    assert caplog.messages == ["100 % wrong %s"]


def test_reset_starts_again(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    """After a reset nothing is counted, and the same kind is logged again."""
    swallow(LookupError(), print)
    _failures.reset()
    assert swallowed_errors() == 0
    swallow(LookupError(), print)
    assert len(caplog.records) == 2


def test_kinds_past_the_bound_share_a_line(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Errors of more and more kinds do not flood the log, and the number not logged is reported."""
    for i in range(_failures.MAX_KINDS + 50):
        swallow(type(f"Error{i}", (Exception,), {})(), print)
    assert len(caplog.records) == _failures.MAX_KINDS + 1
    clock.now = LOG_INTERVAL
    swallow(type("Other", (Exception,), {})(), print)
    assert "49 more of this kind" in caplog.messages[-1]


def test_no_class_of_errors_is_kept(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swallowed error keeps neither its class alive nor the object that raised it."""
    monkeypatch.setattr(logging.getLogger("hypertrace"), "disabled", True)
    kind: type[Exception] = type("Local", (Exception,), {})
    culprit = _raise(ValueError())
    swallow(kind(), culprit)
    alive: list[weakref.ref[Any]] = [weakref.ref(kind), weakref.ref(culprit)]
    del kind, culprit
    gc.collect()  # classes are cycles by themselves
    assert [reference() for reference in alive] == [None, None]


def _swallow_one() -> None:
    swallow(LookupError(), print)


def _misuse_one() -> None:
    misuse("a mistake")


def _repeat(work: Callable[[], None], times: int) -> None:
    for _ in range(times):
        work()


def test_the_number_left_out_is_exact_among_threads(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Many threads that fail at once log one line, and the next one has the number of the rest."""
    threads_count, times = 8, 2_000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for wrong in (_swallow_one, _misuse_one):
            caplog.clear()
            clock.now += 2 * LOG_INTERVAL
            threads = [
                threading.Thread(target=_repeat, args=(wrong, times)) for _ in range(threads_count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(caplog.records) == 1
            clock.now += LOG_INTERVAL
            wrong()
            assert f"({threads_count * times - 1} more of this kind" in caplog.messages[1]
    finally:
        sys.setswitchinterval(before)
    assert swallowed_errors() == threads_count * times + 1


def test_two_threads_at_the_same_moment_log_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of those that find a line due at the same time, one logs it; the others are left out."""

    class Meanwhile(float):
        def __sub__(self, other: float) -> float:
            if others:
                swallow(others.pop(), print)
            return float(self) - other

    others = [LookupError(), LookupError()]
    monkeypatch.setattr(rate_limit, "monotonic", lambda: Meanwhile(5.0))
    swallow(LookupError(), print)
    assert len(caplog.records) == 1
    monkeypatch.setattr(rate_limit, "monotonic", lambda: 5.0 + LOG_INTERVAL)
    swallow(LookupError(), print)
    assert "2 more of this kind" in caplog.messages[1]


def test_a_clock_that_is_set_back_does_not_silence(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After a clock was ahead for a while, as in a test with its own time, lines come again."""
    for clock.now in (1e9, 1.0, 2.0):
        swallow(LookupError(), print)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("moment", [-1e9, float("nan")])
def test_a_clock_that_jumps_neither_floods_nor_silences(
    moment: float, clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After a jump of the clock and back, the next line comes within the interval."""
    for now in (0.0, 1.0, moment, moment, 1.0, 2.0, LOG_INTERVAL + 2.0):
        clock.now = now
        swallow(LookupError(), print)
    assert 2 <= len(caplog.records) <= 4
    assert "more of this kind" in caplog.messages[-1]


@pytest.mark.usefixtures("_broken_log")
def test_a_broken_log_does_not_keep_the_trace_function_from_being_set() -> None:
    """A failing log handler does not stop a trace function from being set."""
    Tracer("early")
    with _info():
        set_trace_function(print)
    assert swallowed_errors() == 2  # the line about it cannot be logged either


@contextmanager
def _info() -> Iterator[None]:
    logger = logging.getLogger("hypertrace")
    logger.setLevel("INFO")
    yield
    logger.setLevel("NOTSET")


COST_OF_ERRORS = """
import itertools, logging, math, sys, time
from hypertrace import Tracer, set_trace_function, swallowed_errors

errors = itertools.count()

def fail(event):
    next(errors)
    raise LookupError

def seconds(function):
    set_trace_function(function)
    tracer = Tracer("a")
    best = math.inf
    for _ in range(30):
        began = time.perf_counter()
        for _ in range(200):
            tracer.trace()
        best = min(best, time.perf_counter() - began)
    return best

logging.getLogger("hypertrace").disabled = True
ratios = [seconds(fail) / seconds(lambda event: None) for _ in range(3)]
is_measured = sys.gettrace() is None  # under coverage, each line costs more than what it does
print(min(ratios) if is_measured else 0, swallowed_errors(), next(errors))
"""


def test_an_error_on_each_call_costs_little(python: Callable[..., str]) -> None:
    """A trace function that raises each time costs at most thrice one that does not.

    In a fresh process: each `Metrics` that is alive counts errors, and other tests make many.
    """
    ratio, *errors = python(COST_OF_ERRORS).split()
    assert errors == ["18000", "18000"]
    assert float(ratio) <= 3
