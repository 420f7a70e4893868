"""Jobs: what all queues measure of a job, and `job()` and `count_job()` for any other queue.

`jobs_duration_seconds` by name, queue and result, of every job that ran, however it ended;
`jobs_total` by name, queue and event; `jobs_queue_wait_seconds` from when a job was sent, or was
due, to its start, where that is known; `jobs_in_progress`. Each job is an entry of the kind `job`,
named by the name of the job, or a part of the entry that it runs in.

The events are `sent`, `received` and `started`, and one for each end: `succeeded`, `failed`,
`retried`, `revoked`, `rejected`, `ignored`. Each message, start and end counts once. There is no
`processed`: it is the sum of the ends, of which a reader may want any part.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

from hypertrace._dispatch import get_trace_function
from hypertrace._endings import result_of
from hypertrace._failures import misuse
from hypertrace._operations import Operation, Operations
from hypertrace.metrics import Counter, Distribution, declare

from .entries import NAME, declare_entries
from .gauges import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from hypertrace.events import Result

Ending = Literal["ok", "error", "cancelled", "retried", "ignored", "rejected"]
"""How a job ended: as a span, or by a word of queues. Only `error` is one."""
Event = Literal[
    "sent",
    "received",
    "started",
    "succeeded",
    "failed",
    "retried",
    "revoked",
    "rejected",
    "ignored",
]

_F = TypeVar("_F", bound="Callable[..., Any]")

UNKNOWN = "<unknown>"
"""The name of all jobs that the worker does not know."""
OTHER = "<other>"
"""Stands for all values of a label beyond the first ones."""

_JOB, _QUEUE, _EVENT, _ENDING, _WAIT = "job_name", "queue", "event", "job_result", "waited"
_LABELS = {_JOB: f"call.{_JOB}", _QUEUE: f"call.{_QUEUE}"}
_ENDS: dict[Ending, Event] = {
    "ok": "succeeded",
    "error": "failed",
    "cancelled": "revoked",
    "retried": "retried",
    "ignored": "ignored",
    "rejected": "rejected",
}
_RESULTS: dict[Ending, Result] = {"error": "error", "cancelled": "cancelled"}
"""Results of spans, where they are not ok."""
_EVENTS = get_args(Event)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Bounds of buckets: jobs last from milliseconds to hours."""
MOST_SERIES = 1_000
"""Series of a metric of durations; past it, all further names are one series."""

DURATIONS = Distribution(
    "jobs_duration_seconds",
    of="QueuedJob.run",
    tags={**_LABELS, "result": f"call.{_ENDING}"},
    buckets=SECONDS,
    max_series=MOST_SERIES,
    description="Jobs that ran, from their start to their end.",
)
WAITS = Distribution(
    "jobs_queue_wait_seconds",
    of="QueuedJob.event",
    value=f"call.{_WAIT}",
    unit="seconds",
    tags=_LABELS,
    buckets=SECONDS,
    max_series=MOST_SERIES,
    description="Jobs that started, from when they were sent or were due.",
)
COUNTS = Counter(
    "jobs_total",
    of="QueuedJob.*",
    tags={**_LABELS, _EVENT: f"call.{_EVENT}"},
    description="Jobs by what happened to them; each message, start and end is one.",
)
_RUNS = Operations("QueuedJob", "run", entry="job")
_COUNTED = Operations("QueuedJob", "event")
_ACTIVE = Gauge("jobs_in_progress", (_JOB, _QUEUE), "Jobs that run now.")


class FirstValues:
    """Values of a label: the first ones stay, and all others become one."""

    def __init__(self, most: int = 100) -> None:
        """Keep nothing yet.

        Args:
            most: how many stay.
        """
        self._most = most
        self._kept: set[str] = set()

    def bound(self, value: str) -> str:
        """Return the value, or `<other>` if there were enough before it. Any thread may call it."""
        if value not in self._kept:
            if len(self._kept) >= self._most:
                return OTHER
            self._kept.add(value)
        return value


class Jobs:
    """What is measured of the jobs of one kind of queue.

    Any thread may use it. Nothing is raised once it is made.
    """

    def __init__(self, *, skip: Iterable[str] = ()) -> None:
        """Declare the metrics.

        Args:
            skip: shell-style patterns of names of jobs that are not measured.

        Raises:
            TypeError: `skip` is one text, or has what is no text.
        """
        if isinstance(skip, str) or not isinstance(skip, Iterable):
            raise TypeError(f"skip must be a list of patterns, as ['reports.*'], not {skip!r}")
        patterns = tuple(skip)
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(f"skip must be texts, as 'reports.*', not {patterns!r}")
        declare_jobs()

        @lru_cache(maxsize=MOST_SERIES)
        def is_skipped(name: str) -> bool:
            return any(fnmatchcase(name, pattern) for pattern in patterns)

        self.is_skipped: Callable[[str], bool] = is_skipped

    def count(self, event: Event, name: str, queue: str) -> None:
        """Count an event that is neither the start nor the end of a run.

        Args:
            event: what happened.
            name: of the job.
            queue: its queue, or empty.
        """
        if not self.is_skipped(name):
            _COUNTED.count({_JOB: name, _QUEUE: queue, _EVENT: event})

    def start(self, name: str, queue: str, waited: float | None = None) -> Job | None:
        """Start to measure a job; return None for one that is skipped.

        Args:
            name: of the job.
            queue: its queue, or empty.
            waited: seconds since it was sent or was due; None if that is not known.
        """
        return None if self.is_skipped(name) else Job.of(name, queue, waited)

    def record(
        self,
        seconds: float,
        name: str,
        queue: str,
        ending: Ending,
        exception: type[BaseException] | None = None,
    ) -> None:
        """Record a job that started in another process, which is gone.

        Args:
            seconds: how long it ran.
            name: of the job.
            queue: its queue, or empty.
            ending: how it ended.
            exception: class of the exception that stands for its end.
        """
        if not self.is_skipped(name):
            result = _RESULTS.get(ending, "ok")
            _RUNS.record(seconds, _props(name, queue, ending), result, exception)


class Job(Operation):
    """One job that runs. It may end in another thread than it started in."""

    __slots__ = ("_asked", "_name", "_queue")

    _name: str
    _queue: str

    def __init__(self, kind: Operations) -> None:
        """Make one that has not started; `of` starts them.

        Args:
            kind: as of `Operation`.
        """
        super().__init__(kind)
        self._asked: Ending | None = None

    @classmethod
    def of(cls, name: str, queue: str, waited: float | None) -> Self:
        """Start a job.

        Args:
            name: of the job.
            queue: its queue, or empty.
            waited: as of `Jobs.start`.
        """
        props: dict[str, object] = {_JOB: name, _QUEUE: queue, _EVENT: "started"}
        if waited is not None:
            props[_WAIT] = waited if waited > 0 else 0.0  # clocks of two machines differ
        _COUNTED.count(props)
        job = cls.start(_RUNS, _ACTIVE.adders(name, queue))
        job._name = job.entry_name = name
        job._queue = queue
        return job

    def end_as(self, ending: Ending) -> None:
        """Let it end in this way, whatever leaves the block.

        Args:
            ending: `"retried"`, `"ignored"`, `"rejected"`, `"cancelled"`, `"error"` or `"ok"`.
                What it does not know is an error, and is logged.
        """
        if ending not in _ENDS:
            misuse(f"a job cannot end as {ending!r}: use one of {', '.join(_ENDS)}")
            ending = "error"
        self._asked = ending

    def finish(self, error: BaseException | None = None, ending: Ending | None = None) -> None:
        """End it; only the first call has an effect.

        Args:
            error: the exception that ended it.
            ending: how it ended, unless `end_as()` has said so; by default, as a span that the
                exception ends.
        """
        if error is not None:
            self.leave_context_if_collecting()
        ending = self._asked or ending or ("ok" if error is None else result_of(error))
        result = _RESULTS.get(ending, "ok")
        key = self._name, self._queue, ending
        self.end(_props, result, None if result == "ok" else error, key)


class JobBlock:
    """Measures a block as a job, or as a decorator each call of a function."""

    __slots__ = ("_job", "_name", "_queue", "_waited")

    def __init__(self, name: str, queue: str, waited: float | None) -> None:
        self._name = name
        self._queue = queue
        self._waited = waited
        self._job: Job | None = None

    def __enter__(self) -> Job:
        self._job = job = Job.of(self._name, self._queue, self._waited)
        return job

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._job is not None:
            self._job.finish(error)

    def __call__(self, function: _F) -> _F:
        """Return the function, each call of which is a job.

        Args:
            function: a function or a coroutine function.

        Raises:
            TypeError: it is none of these. A generator does its work after the call.
        """
        if not callable(function):
            raise TypeError(f"cannot measure {function!r} as a job: it is not callable")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"cannot measure the generator function {function!r} as a job: "
                "use `with job(…):` where its items are made"
            )
        name, queue, waited = self._name, self._queue, self._waited
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def in_task(*args: Any, **kwargs: Any) -> Any:
                with job(name, queue, waited=waited):
                    return await function(*args, **kwargs)

            return cast("_F", in_task)

        @wraps(function)
        def at_once(*args: Any, **kwargs: Any) -> Any:
            with job(name, queue, waited=waited):
                return function(*args, **kwargs)

        return cast("_F", at_once)


def job(name: str, queue: str = "", *, waited: float | None = None) -> JobBlock:
    """Measure a block, or each call of a function, as a job of any queue.

        with job("send_email", queue="mail"):
            ...

    A job that an exception ends is timed, too, and the exception passes. `with … as running` gives
    the `Job`, whose `end_as("retried")` says that it will run again. Any thread or task may use it.

    Args:
        name: of the job, out of a bounded number.
        queue: its queue, if there are several.
        waited: seconds since it was sent, or since it was due if that is later.
    """
    _declare_for_current()
    return JobBlock(name, queue, waited)


def count_job(name: str, event: Event, queue: str = "") -> None:
    """Count what happens to a job outside `job()`, as when it is sent.

    Args:
        name: of the job.
        event: `"sent"`, `"received"`, `"revoked"`, `"rejected"` or another; one that is unknown is
            not counted, and is logged.
        queue: its queue, if there are several.
    """
    if event not in _EVENTS:
        misuse(f"no event of a job is called {event!r}: use one of {', '.join(_EVENTS)}")
        return
    _declare_for_current()
    _COUNTED.count({_JOB: name, _QUEUE: queue, _EVENT: event})


def declare_jobs() -> None:
    """Declare the metrics of jobs for every `Metrics`; again does nothing."""
    declare_entries()
    declare(DURATIONS, WAITS, COUNTS)


def _props(name: str, queue: str, ending: Ending) -> dict[str, object]:
    """Return the props of a job that ended."""
    return {_JOB: name, _QUEUE: queue, _EVENT: _ENDS[ending], _ENDING: ending, NAME: name}


_declared_for: object = None


def _declare_for_current() -> None:
    """Declare the metrics, once for each trace function."""
    global _declared_for  # noqa: PLW0603 -- it saves the look into all declarations
    current = get_trace_function()
    if current is not _declared_for:
        declare_jobs()
        _declared_for = current
