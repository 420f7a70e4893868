"""Push exporter: reads at an interval in its own thread, and sends what came in."""

from __future__ import annotations

import logging
import threading
import traceback
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from hypertrace import suppress_tracing
from hypertrace.periodic import PeriodicThread
from hypertrace.rate_limit import RateLimit

from . import processes
from .events import MAX_EVENTS, Events
from .exporter import Exporter
from .processes import EXIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hypertrace.metrics import CountingOptions, EventPoint, Metrics, Reading
    from hypertrace.metrics.declared.selections import Selected

THREAD_NAME = "hypertrace-exporter"

NEVER = 1e9
"""Interval of an exporter that sends at `flush()` and at its end only."""

_LONGEST_INTERVAL = 86_400.0

_logger = logging.getLogger("hypertrace.exporters")


class PushExporter(Exporter):
    """Sends what came in since the last time, every `interval` seconds; to be subclassed.

    A daemon thread reads, encodes and sends; the threads of the application do none of it. What
    could not be sent is part of the next attempt, which takes its differences from the last reading
    that was sent: there is no queue that could overflow, and no count is lost. While attempts fail
    they get rarer, up to five minutes apart. Failures are counted, and logged once a minute at the
    most (logger `hypertrace.exporters`); nothing is raised.

    An exporter works until `stop()`, also if the program does not hold it. What is left is sent
    when the interpreter exits, or a child of `multiprocessing` does, within 2 seconds for all
    exporters; a warning is logged where that is too short. A process that is ended at once loses
    what came in since the last time: by `os._exit`, by SIGKILL, and by SIGTERM unless the program
    handles it or calls `hypertrace.exporters.flush_on_sigterm`.

    How the exporter fares is in all readings of its metrics, see `hypertrace.metrics.exports`.

    Where workers share their counts, one of those that have an exporter of this name sends what all
    have counted, and another goes on from there when it ends; otherwise each process sends what it
    counts itself. The thread ends before the process forks, and starts again in parent and child. A
    fork waits for a thread that is just sending, for 0.1 seconds.

    Any thread, and any signal handler, may call all methods.

    With `events`, single events are sent, too, before each reading and by each process its own, see
    `hypertrace.exporters.events`.

    A subclass has `encode` and `send`, and for events `encode_events` and `send_events`. It calls
    `super().__init__()` last in its own, since that starts the thread.

    Attributes:
        interval: seconds between two readings.
        address: where it sends to, for the log; empty where errors say it. A subclass sets it.
    """

    address: str = ""

    def __init__(
        self,
        metrics: Metrics | None,
        counting: CountingOptions,
        *,
        interval: float,
        events: Iterable[Selected] = (),
        max_events: int = MAX_EVENTS,
    ) -> None:
        """Start the thread.

        Args:
            metrics: as in `Exporter`.
            counting: as in `Exporter`.
            interval: seconds between two readings, up to a day; or `NEVER`.
            events: what selects the events that are sent one by one, see `Events`.
            max_events: how many of them may wait to be sent.

        Raises:
            TypeError: as in `Exporter` and `Events`, or `interval` is no number.
            ValueError: as in `Exporter` and `Events`, or `interval` is not above zero, or longer
                than a day.
            RuntimeError: the system has no thread left.
        """
        self._events = Events(events, max_events)
        super().__init__(metrics, counting)
        self.interval: float = _checked_interval(interval)
        self._counts = self.forwards_to.exports.add(type(self).__name__)
        self._log_limit = RateLimit()
        self._closed = False
        locks = self.forwards_to.storage.locks
        self._locks = None if locks is None else locks.another(self._counts.name)
        self._begin()
        self._thread.start()
        processes.add(self)
        self.forwards_to.exports.attach(self)
        self._events.start(
            self.forwards_to,
            wake=self._wake,
            count_dropped=self.count_dropped,
            name=self._counts.name,
        )

    def begin(self) -> None:
        """Prepare to send: called before the thread starts, and again in a forked child.

        A subclass makes here what a forked child must not share, such as a connection.
        """

    def encode(self, reading: Reading) -> Any:
        """Return a reading as `send` takes it; called in the thread of the exporter.

        Args:
            reading: what came in since the last one that was sent.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method encode(reading)")

    def changes(self, reading: Reading, previous: Reading | None) -> Reading:
        """Return what `encode` gets: what came in after the last reading that was sent.

        A subclass whose backend takes totals, and no differences, returns `reading` itself.

        Args:
            reading: of this moment.
            previous: the last one that was sent; None if none was.
        """
        return reading if previous is None else reading.since(previous)

    def send(self, encoded: Any) -> None:
        """Send a reading; called in the thread of the exporter, one at a time.

        What it traces is dropped, as the application did not do it.

        Args:
            encoded: what `encode` returned.

        Raises:
            Exception: it was not sent, and will be part of the next attempt.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method send(encoded)")

    def encode_events(self, points: Sequence[EventPoint]) -> Any:
        """Return events as `send_events` takes them; called once for each, as `encode`.

        Args:
            points: in the order in which they came.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method encode_events(points)")

    def send_events(self, encoded: Any) -> None:
        """Send events; called as `send`.

        Args:
            encoded: what `encode_events` returned.

        Raises:
            Exception: they were not sent; the next attempt gets the same object.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method send_events(encoded)")

    def send_own(self) -> None:
        """Send what no other process has, though it may not be the one that sends readings.

        Called before each reading, in the thread of the exporter, one at a time.

        Raises:
            Exception: it was not sent, and will be part of the next attempt.
        """

    @property
    def dropped_events(self) -> int:
        """How many events were dropped in this process, since `max_events` were waiting."""
        return self._events.dropped

    def count_bytes(self, number: int) -> None:
        """Count what was sent; for `send` of a subclass.

        Args:
            number: of bytes.
        """
        self._counts.count_bytes(number)

    def count_dropped(self, number: int) -> None:
        """Count what was given up, and is not part of the next attempt; for a subclass.

        Args:
            number: of lines, points or events.
        """
        self._counts.count_dropped(number)

    @property
    def sent(self) -> int:
        """How many readings this process has sent."""
        return self._counts.sent

    @property
    def failures(self) -> int:
        """How many attempts of this process to send failed."""
        return self._counts.failed

    @property
    def dropped(self) -> int:
        """How many lines, points and events this process has given up."""
        return self._counts.dropped

    def flush(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Send now what came in, and wait until that is done.

        Args:
            timeout: seconds to wait at the most.

        Returns:
            Whether it was sent in time. False after `stop()`, and in the thread of the exporter.
        """
        return self.request_flush()(timeout)

    def request_flush(self) -> Callable[[float], bool]:
        """Begin to send what came in, without waiting for it.

        Returns:
            A function that waits for so many seconds at the most, and returns whether it was sent.
        """
        if not processes.is_running(self) or self._thread.is_current():
            return _not_sent
        request = self._thread.request()
        return _not_sent if request is None else request.wait

    def stop(self) -> None:
        """Send what came in, for 2 seconds at the most, and end the thread.

        May be called more than once.
        """
        self._events.stop()
        if processes.remove(self):  # not for a second thread, while the first one still sends
            self.forwards_to.exports.detach(self)
            self._counts.end()
            if self._locks is not None:
                self._locks.close()
            super().stop()

    def _begin(self) -> None:
        self._previous: Reading | None = None
        self._is_leading = False
        self._is_ending = False
        # A fork does not wait for a thread that sends for long: for a moment there may be two.
        self._sending = threading.Lock()
        self._thread = PeriodicThread(self._push, self.interval, THREAD_NAME)
        self._events.restart()
        self.begin()

    def _wake(self) -> None:
        self._thread.request()

    def _push(self) -> bool:
        sending = self._sending
        if self._closed or not sending.acquire(timeout=EXIT_TIMEOUT):
            return False
        try:
            try:
                self._send_own()
            finally:  # neither is in the way of the other
                if self._leads():
                    self._send_changes()
        except BaseException as error:  # noqa: BLE001 -- the thread must go on
            self._fail(error)
            return False
        finally:
            sending.release()
        return True

    def _send_own(self) -> None:
        started = monotonic()
        try:
            if self._events.waiting:
                self._events.send(self.encode_events, self.send_events)
            suppress_tracing(self.send_own)
        finally:
            self._counts.count_seconds(monotonic() - started)

    def _leads(self) -> bool:
        """Whether this process is the one that sends, from where the last one has stopped."""
        if self._locks is not None and not self._locks.try_lead():
            self._is_leading = False
        elif not self._is_leading:
            self._is_leading = True
            saved = self.forwards_to.storage.saved(self._counts.name)
            self._previous = None if saved is None else self.forwards_to.reading(saved)
        return self._is_leading

    def _send_changes(self) -> None:
        self._counts.count_attempt()
        view = self.forwards_to.view()
        reading = self.forwards_to.reading(view)
        started = monotonic()
        try:
            # Finalizers of the application may run meanwhile, and what they trace counts.
            encoded = self.encode(self.changes(reading, self._previous))
            suppress_tracing(self.send, encoded)
        finally:
            self._counts.count_seconds(monotonic() - started)
        self._previous = reading
        self.forwards_to.storage.save(self._counts.name, view)
        self._counts.count_sent()

    def _fail(self, error: BaseException) -> None:
        self._counts.count_failed()
        # No loss is silent: the last attempt is logged also where one before it was just now.
        if self._is_ending or self._log_limit.allow():
            with suppress(Exception):  # a broken log handler must not end the thread
                suppress_tracing(self._log_failure, error)

    def _log_failure(self, error: BaseException) -> None:
        _logger.warning(
            "%s could not send its metrics%s, and %s: %s (%d more failures not logged)",
            self._counts.name,
            f" to {self.address}" if self.address else "",
            "makes no further attempt" if self._is_ending else "will try again",
            # Also of an error that has no text.
            "".join(traceback.format_exception_only(error)).strip(),
            self._log_limit.take_suppressed(),
        )

    def _report_unsent(self, seconds: float) -> None:
        """Log that the last reading was not sent in time, so that no loss is silent."""
        with suppress(Exception):  # as above
            suppress_tracing(
                _logger.warning,
                "%s did not send its last reading within %g seconds: what came in since the one "
                "before may be lost",
                self._counts.name,
                seconds,
            )

    def _resume(self) -> None:
        """Start the thread after a fork."""
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no thread left
            self._fail(error)
        if not processes.is_running(self):  # stopped meanwhile, by another thread
            self._thread.end()

    def _restart_in_child(self) -> None:
        """Start the thread in a forked child, which counts from zero."""
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 -- of a subclass; the child must go on
            self._fail(error)
        self._resume()


def _not_sent(_: float) -> bool:
    return False


def _checked_interval(interval: float) -> float:
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError(f"interval must be a number of seconds, not {interval!r}")
    if not (0 < interval <= _LONGEST_INTERVAL or interval == NEVER):
        raise ValueError(
            f"interval must be above 0 and up to {_LONGEST_INTERVAL:.0f} seconds, not {interval!r}"
        )
    return float(interval)
