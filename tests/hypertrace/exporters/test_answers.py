"""Answers of servers: which are taken, which are tried again, and which are refused for ever."""

import logging

import pytest

from hypertrace.exporters.answers import RefusalLog, RefusedError, check


@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_is_taken(status: int) -> None:
    """Any code of success is one."""
    check(status, "OK", "")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_was_sent_is_refused(status: int) -> None:
    """The server would refuse it again."""
    with pytest.raises(RefusedError, match=f"^{status} Bad: wrong line$") as caught:
        check(status, "Bad", " wrong\n line ")
    assert caught.value.amount is None


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 429, 500, 503])
def test_it_may_be_taken_later(status: int) -> None:
    """Nothing is wrong with what was sent."""
    with pytest.raises(OSError, match=f"^{status} No: ") as caught:
        check(status, "No", "later")
    assert not isinstance(caught.value, RefusedError)
    assert ("redirects are not followed" in str(caught.value)) == (status == 301)


def test_refusals_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """And a log that fails ends nothing."""
    logger = logging.getLogger("hypertrace.exporters")
    log = RefusalLog(logger, "InfluxExporter")
    log.add(3, RefusedError("bad line"))
    log.add(4, RefusedError("another"))
    (message,) = caplog.messages
    assert message == (
        "InfluxExporter was refused 3 points, which are dropped: bad line "
        "(0 more refusals not logged)"
    )
