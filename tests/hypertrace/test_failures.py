"""Errors inside tracing: counted, logged once a while, and never seen by the application."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import Tracer, _failures, set_trace_function, swallowed_errors
from hypertrace._failures import LOG_INTERVAL, misuse, swallow


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(_failures, "monotonic", clock)
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
    assert len(_failures._silent_until) <= _failures._MAX_KINDS
    assert len(_failures._suppressed) <= _failures._MAX_KINDS


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
    assert caplog.messages == ["a mistake", "another mistake"] * 2
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert swallowed_errors() == 0


def test_a_percent_sign_in_a_message_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged is not taken for a format."""
    misuse("100 % wrong %s")
    assert caplog.messages == ["100 % wrong %s"]


def test_reset_starts_anew(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    """After a reset nothing is counted, and the same kind is logged again."""
    swallow(LookupError(), print)
    _failures.reset()
    assert swallowed_errors() == 0
    swallow(LookupError(), print)
    assert len(caplog.records) == 2
