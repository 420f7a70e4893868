"""Processes that fork and end: what becomes of the threads of push exporters."""

from __future__ import annotations

import atexit
from time import monotonic
from typing import TYPE_CHECKING

# Their exit functions are to run after the last reading.
import hypertrace.metrics.storage
import hypertrace.signals  # noqa: F401
from hypertrace.forks import ChildEnd, around_fork
from hypertrace.metrics.flushing import flush_all

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from hypertrace.metrics.flushing import Flushable
    from hypertrace.periodic import PeriodicThread

    class Exporting(Flushable, Protocol):
        """What has a thread that ends and starts with the process: a push exporter."""

        _thread: PeriodicThread
        _closed: bool
        _is_ending: bool

        def _push(self) -> bool: ...
        def _resume(self) -> None: ...
        def _restart_in_child(self) -> None: ...
        def _report_unsent(self, seconds: float) -> None: ...


EXIT_TIMEOUT = 2.0
"""Seconds that all last readings together may take when a process ends, or an exporter stops."""
FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for threads that are just sending."""

_running: set[Exporting] = set()
"""The exporters that were not stopped. They are kept: a program may well hold none of them."""


def add(exporter: Exporting) -> None:
    """Look after the thread of an exporter from now on."""
    _running.add(exporter)
    _child_end.watch()


def running() -> list[Exporting]:
    """Return all exporters that were added and not removed."""
    return list(_running)


def is_running(exporter: Exporting) -> bool:
    """Return whether an exporter was added and not removed."""
    return exporter in _running


def remove(exporter: Exporting) -> bool:
    """Let an exporter that runs send its last reading and end, within `EXIT_TIMEOUT`.

    Returns:
        Whether it ran, and was not removed by another thread.
    """
    try:
        _running.remove(exporter)  # one step, so that one thread does it
    except KeyError:
        return False
    _finish([exporter])
    return True


def _finish(exporters: Iterable[Exporting]) -> None:
    deadline = monotonic() + EXIT_TIMEOUT
    requests = []
    for exporter in exporters:  # all at the same time: one that hangs costs the others nothing
        exporter._is_ending = True
        requests.append(exporter._thread.request())
        exporter._thread.end()
    for exporter, request in zip(exporters, requests, strict=True):
        has_ended = exporter._thread.join(deadline - monotonic())
        if has_ended and request is not None and not request.is_answered:
            exporter._push()  # another thread is just forking: the fork has ended the thread before
        exporter._closed = True
        if not (has_ended or exporter._thread.is_current()):
            exporter._report_unsent(EXIT_TIMEOUT)


def _at_exit() -> None:
    exporters = list(_running)
    _finish(exporters)
    _running.clear()  # last, since a signal that comes meanwhile waits for them


def _flush() -> None:
    flush_all(running(), EXIT_TIMEOUT)


def _before_fork() -> None:
    _child_end.watch()
    deadline = monotonic() + FORK_TIMEOUT
    exporters = list(_running)
    for exporter in exporters:
        exporter._thread.end()
    for exporter in exporters:
        exporter._thread.join(deadline - monotonic())


def _after_fork_in_parent() -> None:
    for exporter in list(_running):
        exporter._resume()


def _after_fork_in_child() -> None:
    for exporter in list(_running):
        exporter._restart_in_child()


_child_end = ChildEnd(_flush)
atexit.register(_at_exit)
around_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
