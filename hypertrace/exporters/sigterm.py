"""SIGTERM: the last reading is sent before the signal ends the process."""

from __future__ import annotations

import logging
from contextlib import suppress

from hypertrace import suppress_tracing
from hypertrace.metrics.flushing import FLUSH_TIMEOUT, checked_timeout, flush_all
from hypertrace.signals import before_sigterm

from . import processes

_logger = logging.getLogger("hypertrace.exporters")


def flush_on_sigterm(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Let all exporters of this process that push send what came in when SIGTERM ends it.

    Without it SIGTERM ends a Python program at once, and no exit function runs. With it the
    process sends for so long at the most, and is then ended by SIGTERM all the same: the exit
    status is that of the signal. Processes that are forked later do the same.

    An application or server that has a handler for SIGTERM ends by itself, and sends the rest at
    its exit: there this does nothing. A handler that is set later takes its place. With the
    compiled core it works whatever the main thread does, and `signal.getsignal` does not show it.
    Without that it is a handler of Python, which runs between two steps of the main thread: C code
    that neither returns nor looks at signals delays the end of the process.

    Args:
        timeout: seconds that the end of the process may be delayed by.

    Returns:
        Whether SIGTERM flushes from now on; False where it is handled or ignored already.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not above zero, or longer than an hour.
        RuntimeError: this is not the main thread, or the system has no thread left.
    """
    seconds = checked_timeout(timeout)
    return before_sigterm(lambda: _flush(seconds), seconds)


def _flush(timeout: float) -> None:
    if not flush_all(processes.running(), timeout):
        with suppress(Exception):  # a broken log handler must not keep the process
            suppress_tracing(
                _logger.warning,
                "Not all exporters have sent their last reading within %g seconds of SIGTERM: what "
                "came in since the one before may be lost",
                timeout,
            )
