"""Events: what an exporter sends one by one, from the call that traces to the thread that sends."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from hypertrace import Cell, attach, suppress_tracing
from hypertrace.metrics.declared.selections import checked_selections
from hypertrace.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hypertrace import Handler, TraceEvent
    from hypertrace.metrics import EventPoint, EventSelection, Metrics
    from hypertrace.metrics.declared.selections import Selected
    from hypertrace.patterns import EventPattern

MAX_EVENTS = 10_000
"""Events that wait at the most, unless an exporter is made with another number."""
BATCH = 5_000
"""Events that are encoded and sent together at the most."""

_logger = logging.getLogger("hypertrace.exporters")


class Events:
    """The events that an exporter sends one by one, and those of them that wait.

    An event is read in the thread that traces, before `trace()` returns; a bounded queue takes what
    is exported of it. The thread of the exporter sends it: each interval, or as soon as half of the
    queue is in use. Without room in the queue an event is dropped and counted, and a warning is
    logged, once a minute at the most.

    Events of the whole process are taken while the exporter runs, with any trace function or none:
    each once for every declared metric that is about it, and once if patterns select it. A forked
    child starts with an empty queue.

    Any thread may trace, and any signal handler or finalizer: no lock is waited for.
    """

    def __init__(self, selected: Iterable[Selected], limit: int) -> None:
        """Check what is selected; take no events yet.

        Args:
            selected: patterns on `Class.function`, `EventPattern` for those on trace ids, too, or
                declared metrics, for the tags and values that they have.
            limit: events that may wait.

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: a pattern can match nothing, two metrics of one name differ, or the limit is
                below 1.
        """
        self._selected = checked_selections(selected)
        _check_limit(limit)
        self._limit = limit
        self._handlers: list[Handler] = []
        self._names: frozenset[str] = frozenset()
        self._log_limit = RateLimit()
        self.restart()

    def start(
        self,
        metrics: Metrics,
        *,
        wake: Callable[[], object],
        count_dropped: Callable[[int], object],
        name: str,
    ) -> None:
        """Take events from now on.

        Args:
            metrics: whose allowed props and names events have.
            wake: is called, in any thread, when half of the queue is in use.
            count_dropped: is called, in the thread of the exporter, with how many were dropped.
            name: of the exporter, for the log.
        """
        self._wake, self._count_dropped, self._name = wake, count_dropped, name
        selections = [metrics.selection(one) for one in self._selected]
        self._names = frozenset(one.name for one in selections if one.name)
        earlier: list[EventPattern] = []
        for one in selections:
            others = () if one.name else tuple(earlier)
            pattern = one.pattern
            self._handlers.append(attach(self._taker(one, others), pattern.of, id=pattern.id))
            if not one.name:
                earlier.append(pattern)

    def stop(self) -> None:
        """Take no more events. Those that wait can still be sent."""
        for handler in self._handlers:
            handler.detach()

    def restart(self) -> None:
        """Forget what waits, and count from zero: in a forked child, since its parent has it."""
        self._waiting: deque[tuple[int, EventPoint]] = deque()
        self._taken: list[EventPoint] = []
        self._encoded: Any = None
        self._numbers = count(1)
        self._dropped = Cell()
        self._reported = self._unlogged = 0
        self._is_awake = False

    @property
    def are_selected(self) -> bool:
        """Whether any events are."""
        return bool(self._selected)

    @property
    def names(self) -> frozenset[str]:
        """Names of the declared metrics whose events are taken."""
        return self._names

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return len(self._waiting) + len(self._taken)

    @property
    def dropped(self) -> int:
        """How many events were dropped in this process, since the queue was full."""
        return self._dropped.value

    def next_number(self) -> int:
        """Return the next of the numbers that events have, for something else that is sent."""
        return next(self._numbers)

    def send(
        self,
        encode: Callable[[Sequence[EventPoint]], Any],
        send: Callable[[Any], object],
    ) -> None:
        """Send what waits, in batches. Called in the thread of the exporter, one at a time.

        What could not be sent waits for the next attempt, encoded as it is.

        Args:
            encode: returns a batch as `send` takes it; called once for each batch.
            send: sends it.

        Raises:
            Exception: what `send` raises.
        """
        left = self.waiting
        while left > 0:
            self._report_dropped()
            if not self._taken:
                size = min(len(self._waiting), BATCH)
                numbered = (self._waiting.popleft() for _ in range(size))
                taken = [point._replace(number=number) for number, point in numbered]
                try:
                    self._encoded = encode(taken)
                except Exception:
                    # Else it would be in the way of all that follow.
                    self._drop(len(taken))
                    raise
                self._taken = taken
            suppress_tracing(send, self._encoded)
            left -= len(self._taken)
            self._taken, self._encoded = [], None
        self._is_awake = False
        self._wake_if_needed()
        self._report_dropped()

    def _taker(
        self, selection: EventSelection, others: tuple[EventPattern, ...]
    ) -> Callable[[TraceEvent], None]:
        """Return what takes the events of a selection that none of the other patterns selects."""
        read = selection.read

        def take(event: TraceEvent) -> None:
            if not any(pattern.matches(event) for pattern in others):
                point = read(event)
                if point is not None:
                    self._add(point)

        return take

    def _add(self, point: EventPoint) -> None:
        number = next(self._numbers)
        if self.waiting >= self._limit:
            self._drop(1)
            return
        self._waiting.append((number, point))
        self._wake_if_needed()

    def _wake_if_needed(self) -> None:
        if not self._is_awake and 2 * self.waiting >= self._limit:
            self._is_awake = True
            self._wake()

    def _drop(self, number: int) -> None:
        for _ in range(number):
            self._dropped.increment()

    def _report_dropped(self) -> None:
        """Report how many events were dropped; here, as that may wait for a lock."""
        dropped = self.dropped - self._reported
        if not dropped:
            return
        self._reported += dropped
        self._unlogged += dropped
        self._count_dropped(dropped)
        if self._log_limit.allow():
            with suppress(Exception):  # a broken log handler must not end the thread
                suppress_tracing(
                    _logger.warning,
                    "%s dropped %d events, as %d were waiting already: make it with a larger "
                    "max_events, or a shorter interval",
                    self._name,
                    self._unlogged,
                    self._limit,
                )
            self._unlogged = 0


def _check_limit(limit: object) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"max_events must be the number of events that may wait, not {limit!r}")
    if limit < 1:
        raise ValueError(f"max_events={limit} has room for no event; give 1 or more, such as 10000")
