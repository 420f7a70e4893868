"""Handlers: functions that get the events of some call sites, beside the trace function."""

from __future__ import annotations

from contextlib import suppress

from . import _dispatch, _silent
from ._event_queue import EventQueue
from ._failures import count_and_log, logger, swallow
from ._guard import suppress_tracing
from ._trace_functions import check_trace_function
from .cells import Cell
from .forks import after_fork_in_child
from .patterns import EventPattern
from .tallies import unqueued

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .events import TraceEvent
    from .protocols import TraceFunction


def attach(
    function: TraceFunction,
    of: str | None = None,
    *,
    id: str | None = None,
    queue: int | None = None,
    detach_on_error: bool = False,
) -> Handler:
    """Call a function with some events from now on, beside the trace function, if one is set.

    Any number of handlers may be attached, also one function several times; each gets the event
    after the trace function, in the order in which they were attached. The rules for the function
    are those of a `TraceFunction`: what it raises is counted, logged and swallowed, and does not
    stop the others; events that it causes are dropped.

    Takes effect at the next event of each call site, in all threads. Which handlers match is found
    out once for each call site; one that no handler matches costs no more than before. With no
    trace function set, handlers alone enable the tracers that are made from then on; those made
    before stay disabled, see `silent_tracers`. A span is one event, at its end, and goes to the
    handlers that were attached when it started. Setting and clearing the trace function leaves
    handlers attached.

    Args:
        function: a callable that takes a `TraceEvent`.
        of: pattern on `Class.function`, with the names that events have: `*`, `?`, `[abc]`,
            `[!abc]`; case counts, and `*` matches dots, too. None matches every event.
        id: pattern on the trace id, which is empty for events without one. None matches any.
        queue: None calls the function in the thread that traces, before `trace()` returns. A number
            calls it in a daemon thread, which is for functions that wait: so many events may wait
            there, and further ones are dropped and counted. They are plain data, as after pickling
            (`event.object.ctx` is None). A forked child has its own queue and thread. What waits
            when the interpreter exits, or a child of `multiprocessing` does, is done within 2
            seconds, or lost with a warning.
        detach_on_error: detach the handler when the function raises, and log that.

    Returns:
        The handler; `detach()` ends it, as does the end of a `with` block.

    Raises:
        TypeError: an argument of the wrong type; of the function as in `set_trace_function`.
        ValueError: a pattern that matches nothing, or a queue without room.
    """
    check_trace_function(function, "attach")
    pattern = EventPattern(of, id)
    if queue is not None:
        _check_queue(queue)
    handler = Handler(function, pattern, queue, detach_on_error=detach_on_error)
    was_off = _dispatch.target is None
    _dispatch.handlers[handler] = None
    _dispatch.update_target()
    if was_off:
        _silent.report()
    return handler


def handlers() -> list[Handler]:
    """Return the handlers that are attached, in this order. Any thread may call it."""
    return [one for one in _dispatch.handlers.copy() if isinstance(one, Handler)]


class Handler:
    """A function that is attached to events; `attach` makes it.

    Any thread may use it. A forked child counts from zero.

    Attributes:
        function: the function.
        of: the pattern on `Class.function`, None if there is none.
        id: the pattern on the trace id, None if there is none.
        queue: how many events may wait, None if the function is called at once.
        detach_on_error: whether it is detached when the function raises.
    """

    def __init__(
        self,
        function: TraceFunction,
        pattern: EventPattern,
        queue: int | None,
        *,
        detach_on_error: bool,
    ) -> None:
        """Make a handler that is not attached yet; see `attach`."""
        self.function: TraceFunction = function
        self.of: str | None = pattern.of
        self.id: str | None = pattern.id
        self.queue: int | None = queue
        self.detach_on_error: bool = detach_on_error
        self._pattern = pattern
        self._is_detached = self._has_failed = False
        self._reset_counts()
        self._queue = None if queue is None else EventQueue(self._call_in_thread, queue)

    @property
    def attached(self) -> bool:
        """Whether it gets events."""
        return not self._is_detached

    @property
    def calls(self) -> int:
        """How often the function was called."""
        return self._calls.value

    @property
    def errors(self) -> int:
        """How often the function raised."""
        return self._errors.value

    @property
    def dropped(self) -> int:
        """How many events were lost: the queue had no room, or the function failed before."""
        return self._dropped.value

    @property
    def waiting(self) -> int:
        """How many events wait in the queue; 0 without one."""
        return 0 if self._queue is None else self._queue.waiting

    def detach(self) -> None:
        """Let the function get no more events. May be called more than once.

        A call that another thread is in goes on. What waits in the queue is done first, within 2
        seconds; after that it is done without waiting for it. In the function itself, this does not
        wait.
        """
        self._end()
        if self._queue is not None and not self._queue.close():
            _log("%r is detached, and its function still runs", self)

    def matches(self, event: TraceEvent) -> bool:
        """Whether the handler is attached to events like this one."""
        return self._pattern.matches(event)

    def take(self, event: TraceEvent) -> None:
        """Call the function with an event, or let it wait in the queue; called by the core."""
        if self._is_detached:
            return
        try:
            if self._queue is None:
                self._call(event)
            elif not self._queue.add(event):
                self._drop()
        except Exception as error:  # noqa: BLE001 -- the others must still get the event
            self._fail(error)
            swallow(error, self.function)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        given = {"of": self.of, "id": self.id, "queue": self.queue}
        parts = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        if self.detach_on_error:
            parts.append("detach_on_error=True")
        if self._is_detached:
            parts.append("detached")
        return f"<Handler {', '.join([_name_of(self.function), *parts])}>"

    def _call(self, event: TraceEvent) -> None:
        self._calls.increment()
        self.function(event)

    def _call_in_thread(self, event: TraceEvent) -> None:
        if self._has_failed:
            self._drop()
            return
        try:
            suppress_tracing(self._call, event)
        except BaseException as error:  # noqa: BLE001 -- the thread must go on
            with suppress(Exception):  # the interpreter shuts down
                self._fail(error)
                count_and_log(error, self.function)

    def _fail(self, error: BaseException) -> None:
        self._errors.increment()
        if not self.detach_on_error or self._is_detached:
            return
        self._has_failed = True
        self._end()
        if self._queue is not None:
            self._queue.close()
        _log("%r was attached until it raised %s", self, type(error).__name__)

    def _drop(self) -> None:
        self._dropped.increment()
        unqueued.increment()

    def _end(self) -> None:
        self._is_detached = True
        try:
            del _dispatch.handlers[self]  # one step, so that one thread does it
        except KeyError:
            return
        _dispatch.update_target()

    def _reset_counts(self) -> None:
        self._calls, self._errors, self._dropped = Cell(), Cell(), Cell()


def reset() -> None:
    """Detach all handlers, and count what they lose from 0 again."""
    for handler in handlers():
        handler.detach()
    unqueued.reset()


def _check_queue(queue: object) -> None:
    if not isinstance(queue, int) or isinstance(queue, bool):
        raise TypeError(
            "queue must be the number of events that may wait, as 1000, or None to call the "
            f"function in the thread that traces, not {queue!r}"
        )
    if queue < 1:
        raise ValueError(f"queue={queue} has room for no event; give 1 or more, such as 1000")


def _log(message: str, *arguments: object) -> None:
    with suppress(Exception):  # a broken log handler must not reach the application
        suppress_tracing(logger().warning, message, *arguments)


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _reset_counts() -> None:
    for handler in handlers():
        handler._reset_counts()


after_fork_in_child(_reset_counts)
