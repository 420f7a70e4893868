"""Push exporter: reads at an interval in a thread of its own, and sends what came in."""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import suppress
from math import isfinite
from queue import Empty, SimpleQueue
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakSet

from hypertrace import Cell, untraced
from hypertrace.forks import around_fork
from hypertrace.rate_limit import RateLimit

from .exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import CountingOptions, Metrics, Reading

EXIT_TIMEOUT = 2.0
"""Seconds that the last flush may take when the program ends, or the exporter is stopped."""

_LONGEST_INTERVAL = 86_400.0
_LONGEST_BACK_OFF = 300.0
"""Seconds between two attempts while the receiver takes nothing."""
_FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for a thread that is just sending."""

_logger = logging.getLogger("hypertrace.exporters")


class PushExporter(Exporter):
    """Sends what came in since the last time, every `interval` seconds; to be subclassed.

    A daemon thread reads and sends; the threads of the application do neither. What could not be
    sent is part of the next attempt, which takes its differences from the last reading that was
    sent: there is no queue that could overflow, and no count is lost. While attempts fail, they get
    rarer, up to five minutes apart. Failures are counted, and logged once a minute at the most
    (logger `hypertrace.exporters`).

    The last reading is sent when the program ends, within 2 seconds. What ends it at once
    (`os._exit`, SIGKILL) costs at most one interval. The thread ends before the process forks and
    starts again after it; a forked child sends what it counts itself.
    """

    def __init__(
        self, metrics: Metrics | None, counting: CountingOptions, *, interval: float
    ) -> None:
        """Start the thread.

        Args:
            metrics: as in `Exporter`.
            counting: as in `Exporter`.
            interval: seconds between two readings, up to a day.

        Raises:
            TypeError: as in `Exporter`, or `interval` is no number.
            ValueError: as in `Exporter`, or `interval` is not above zero, or longer than a day.
        """
        super().__init__(metrics, counting)
        self.interval = _checked_interval(interval)
        self._previous: Reading | None = None
        self._sent = Cell()
        self._failures = Cell()
        self._log_limit = RateLimit()
        self._sending = threading.Lock()
        self._thread = PeriodicThread(self._push, self.interval)
        _exporters.add(self)
        self._thread.start()

    def send(self, reading: Reading) -> None:
        """Encode and send a reading; called in the thread of the exporter, one at a time.

        Args:
            reading: what came in since the last one that was sent.

        Raises:
            Exception: it was not sent, and is to be part of the next attempt.
        """
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """How many readings were sent."""
        return self._sent.value

    @property
    def failures(self) -> int:
        """How many attempts to send failed."""
        return self._failures.value

    def flush(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Send now what came in, and wait until that is done.

        Args:
            timeout: seconds to wait at the most.

        Returns:
            Whether it was sent in time.
        """
        return self._thread.run_now(timeout)

    def stop(self) -> None:
        """Send what came in, for 2 seconds at the most, and end the thread."""
        if self in _exporters:
            _exporters.discard(self)
            self._thread.run_now(EXIT_TIMEOUT)
            self._thread.stop(0)

    def _push(self) -> bool:
        # There may be two threads for a moment: a fork does not wait until one has sent.
        if not self._sending.acquire(timeout=EXIT_TIMEOUT):
            return False
        try:
            # What the sending itself traces is no doing of the application.
            untraced(self._send_changes)
        except Exception as error:  # noqa: BLE001 -- the thread must go on, whatever it is
            self._failures.increment()
            if self._log_limit.allow():
                untraced(self._log_failure, error)
            return False
        finally:
            self._sending.release()
        self._sent.increment()
        return True

    def _send_changes(self) -> None:
        reading = self.forwards_to.read()
        previous = self._previous
        self.send(reading if previous is None else reading.since(previous))
        self._previous = reading

    def _log_failure(self, error: Exception) -> None:
        with suppress(Exception):  # a broken log handler must not end the thread
            _logger.warning(
                "%s could not send its metrics, and will try again: %s: %s (%d more failures not "
                "logged)",
                type(self).__name__,
                type(error).__name__,
                error,
                self._log_limit.take_suppressed(),
            )

    def _restart_in_child(self) -> None:
        # What the parent counted is the parent's to send.
        self._previous = self.forwards_to.read()
        self._sending = threading.Lock()
        self._thread.start()


class PeriodicThread:
    """A daemon thread that calls a function at an interval, and at once when asked.

    Any thread may ask, also a signal handler.
    """

    def __init__(self, run: Callable[[], bool], interval: float) -> None:
        """Prepare the thread; `start()` starts it.

        Args:
            run: what to call; returns whether it succeeded, and never raises. While it does not,
                it is called less often.
            interval: seconds between two calls.
        """
        self._run = run
        self._interval = interval
        self._failed_in_a_row = 0
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, or again after `stop()`, or in a forked child."""
        # That of before may still be at work, or was held in the middle of an operation by a fork.
        self._requests = SimpleQueue()
        thread = threading.Thread(
            target=self._loop, args=(self._requests,), name="hypertrace-exporter", daemon=True
        )
        with suppress(RuntimeError):  # the system has no thread left, or the interpreter ends
            thread.start()
            self._thread = thread

    def stop(self, timeout: float) -> None:
        """Let the thread end, and wait for it.

        Args:
            timeout: seconds to wait at the most, if it is just running.
        """
        thread, self._thread = self._thread, None
        self._requests.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def run_now(self, timeout: float) -> bool:
        """Call the function in the thread, and wait for it.

        Args:
            timeout: seconds to wait at the most.

        Returns:
            Whether it succeeded in time.
        """
        thread = self._thread
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            return self._run()
        request = _Request()
        self._requests.put(request)
        return request.done.wait(timeout) and request.succeeded

    def _loop(self, requests: SimpleQueue[_Request | None]) -> None:
        due = monotonic() + self._interval
        while True:
            try:
                request = requests.get(timeout=max(0.0, due - monotonic()))
            except Empty:
                request = _Request()
            if request is None:
                return
            request.succeeded = self._run()
            self._failed_in_a_row = 0 if request.succeeded else self._failed_in_a_row + 1
            due = monotonic() + self._delay()
            request.done.set()

    def _delay(self) -> float:
        """Return seconds until the next call: the interval, and more after failures."""
        if not self._failed_in_a_row:
            return self._interval
        longest = max(self._interval, _LONGEST_BACK_OFF)
        back_off = min(self._interval * 2 ** min(self._failed_in_a_row, 16), longest)
        # With jitter: else all processes would come back to a receiver at the same moment.
        return uniform(self._interval, back_off)  # noqa: S311 -- no secret


class _Request:
    """A call that a thread waits for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.succeeded = False


_exporters: WeakSet[PushExporter] = WeakSet()
"""Those that are not stopped."""


def _checked_interval(interval: float) -> float:
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError(f"interval must be a number of seconds, not {interval!r}")
    if not isfinite(interval) or not 0 < interval <= _LONGEST_INTERVAL:
        raise ValueError(
            f"interval must be above 0 and at most {_LONGEST_INTERVAL:.0f} seconds, not {interval!r}"
        )
    return float(interval)


def _flush_at_exit() -> None:
    deadline = monotonic() + EXIT_TIMEOUT
    for exporter in list(_exporters):
        exporter.flush(max(0.0, deadline - monotonic()))


def _before_fork() -> None:
    for exporter in list(_exporters):
        exporter._thread.stop(_FORK_TIMEOUT)


def _after_fork_in_parent() -> None:
    for exporter in list(_exporters):
        exporter._thread.start()


def _after_fork_in_child() -> None:
    for exporter in list(_exporters):
        exporter._restart_in_child()


atexit.register(_flush_at_exit)
around_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
