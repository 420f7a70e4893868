"""SIGTERM: the last reading is sent before the signal ends the process."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from hypertrace import suppress_tracing
from hypertrace.metrics.flushing import FLUSH_TIMEOUT, checked_timeout, flush_all

from . import processes

if TYPE_CHECKING:
    from types import FrameType

_FIRST_PROCESS = 1
"""Pid of the first process of a container."""

_logger = logging.getLogger("hypertrace.exporters")


def flush_on_sigterm(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Let all exporters of this process that push send what came in when SIGTERM ends it.

    Without it SIGTERM ends a Python program at once, and no exit function runs. With it the
    process sends for so long at the most, and is then ended by SIGTERM all the same: the exit
    status is that of the signal. Processes that are forked later do the same.

    An application or server that has a handler for SIGTERM ends by itself, and sends the rest at
    its exit: there this does nothing. A handler that is set later takes its place. It is not done
    by default, since a signal handler changes a program: Python runs it between two steps of the
    main thread, so that C code which neither returns nor looks at signals delays the end of the
    process, until SIGKILL. Python's own functions that wait do look.

    Args:
        timeout: seconds that the end of the process may be delayed by.

    Returns:
        Whether SIGTERM flushes from now on; False where it is handled or ignored already.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not above zero, or longer than an hour.
        RuntimeError: this is not the main thread, which alone may set signal handlers.
    """
    handler = _FlushAndEnd(checked_timeout(timeout))
    now = signal.getsignal(signal.SIGTERM)
    if now is not signal.SIG_DFL and not isinstance(now, _FlushAndEnd):
        return False
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:
        raise RuntimeError(
            "flush_on_sigterm() must be called in the main thread: Python lets no other thread set "
            "signal handlers"
        ) from None
    return True


class _FlushAndEnd:
    """A signal handler that flushes, and then lets the signal end the process."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._ending: int | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self._ending == os.getpid():
            return  # it came twice, as from `timeout`, which signals the process and its group
        self._ending = os.getpid()
        try:
            if not flush_all(processes.running(), self._timeout):
                self._report()
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            if os.getpid() == _FIRST_PROCESS:
                # Which Linux does not end by a signal that it does not handle.
                self._ending = None
                signal.signal(number, self)

    def _report(self) -> None:
        with suppress(Exception):  # a broken log handler must not keep the process
            suppress_tracing(
                _logger.warning,
                "Not all exporters have sent their last reading within %g seconds of SIGTERM: what "
                "came in since the one before may be lost",
                self._timeout,
            )
