"""RQ: the jobs that are enqueued and run, by the metrics of jobs.

A job is `sent` when it comes into its queue: also one that is repeated, retried, or was scheduled
or waited for another. It runs in `perform_job`, in the process that the worker forks for it; its
end counts there. A job that raises is an `error`; one that runs again is `retried`, whether it
raised or returned `Retry`; only the last attempt is an error. It waits from when it came into its
queue. `Job.cancel()` is `revoked`.

If the process of a job ends by force, the worker counts the end: as `error`, as `retried`, or as
`cancelled` if it was stopped by a command. If the worker is killed, the job has no end.

`job_name` is the name of the function, as `shop.mail.send`; in a worker, it is `<unknown>` if there
is no such package. Producers may enqueue functions that they do not have: the first 100 names stay,
and all others are `<other>`; so it is with queues.

The worker must have installed this before it forks: `rq worker` loads no job itself, but it does
load the module of its option `--config`. `SpawnWorker` starts an interpreter for each job, which
imports the module of the worker's class: derive one from it, where this is installed. A job of a
queue with `is_async=False` runs in the producer.

Option: `skip`, patterns of names of jobs that are not measured.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .jobs import UNKNOWN, FirstValues, Jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .jobs import Ending, Job
    from .patches import Patches


class _Run:
    """One job that runs in this process."""

    __slots__ = ("error", "job")

    def __init__(self, job: Job | None) -> None:
        self.job = job
        self.error: BaseException | None = None


class Integration:
    """Jobs of RQ."""

    def __init__(self, *, skip: Iterable[str] = ()) -> None:
        """Declare the metrics.

        Args:
            skip: shell-style patterns of names of jobs that are not measured.

        Raises:
            TypeError: `skip` is one text, or has what is no text.
        """
        self._jobs = Jobs(skip=skip)
        self._running: dict[int, _Run] = {}
        self._foreign_names = FirstValues()
        self._queues = FirstValues()

    def patch(self, patches: Patches) -> None:
        """Replace methods of queues, jobs and workers.

        Args:
            patches: replaces.
        """
        from rq import job, queue, worker

        kind = getattr(worker, "BaseWorker", worker.Worker)
        for name in ("_enqueue_job", "_enqueue_rate_limited_job"):
            if hasattr(queue.Queue, name):
                patches.replace(queue.Queue, name, self._sending)
        patches.replace(queue.Queue, "run_sync", self._running_here)
        patches.replace(job.Job, "cancel", self._cancelling)
        patches.replace(kind, "perform_job", self._performing)
        patches.replace(kind, "handle_exception", self._handling_exception)
        patches.replace(kind, "handle_job_failure", self._handling_failure)

    # --- what a producer does ---

    def _sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _enqueue_job(queue: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
            if queue.is_async:
                sent = original(queue, job, *args, **kwargs)
                self._count("sent", job)
                return sent
            self._count("sent", job)  # it has run when it is back
            return original(queue, job, *args, **kwargs)

        return _enqueue_job

    def _cancelling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def cancel(job: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(job, *args, **kwargs)
            self._count("revoked", job)
            return result

        return cancel

    def _count(self, event: Any, job: Any) -> None:
        try:
            self._jobs.count(event, self._sent_name(job), self._queues.bound(job.origin or ""))
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)

    def _sent_name(self, job: Any) -> str:
        name = _name(job)
        return name if _exists(name) else self._foreign_names.bound(name)

    # --- what a job does, in the process that runs it ---

    def _performing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def perform_job(worker: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
            run = self._start(job)
            try:
                result = original(worker, job, *args, **kwargs)
            except BaseException as error:
                # The process ends with a status that its worker takes for a failure.
                self._end(job, run, error, has_failed=True, is_lost=worker.is_horse)
                raise
            self._end(job, run, run.error, has_failed=run.error is not None or result is False)
            return result

        return perform_job

    def _running_here(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run_sync(queue: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
            run = self._start(job)
            try:
                result = original(queue, job, *args, **kwargs)
            except BaseException as error:
                self._end(job, run, error, has_failed=True)
                raise
            self._end(job, run, None, has_failed=False)
            return result

        return run_sync

    def _start(self, job: Any) -> _Run:
        run = _Run(None)
        try:
            name = _name(job)
            run.job = self._jobs.start(
                name if _exists(name) else UNKNOWN,
                self._queues.bound(job.origin or ""),
                _seconds_since(job.enqueued_at),
            )
            self._running[id(job)] = run
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
        return run

    def _end(
        self,
        job: Any,
        run: _Run,
        error: BaseException | None,
        *,
        has_failed: bool,
        is_lost: bool = False,
    ) -> None:
        try:
            self._running.pop(id(job), None)
            if run.job is None:
                return
            if is_lost:
                run.job.abandon()
                return
            run.job.end_as(_ending(job, has_failed=has_failed))
            run.job.finish(error)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self)

    def _handling_exception(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def handle_exception(worker: Any, job: Any, *exc_info: Any) -> Any:
            run = self._running.get(id(job))
            if run is not None and len(exc_info) > 1:
                run.error = exc_info[1]
            return original(worker, job, *exc_info)

        return handle_exception

    # --- what a worker does ---

    def _handling_failure(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def handle_job_failure(worker: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
            is_stopped = worker._stopped_job_id == job.id
            result = original(worker, job, *args, **kwargs)
            if id(job) not in self._running:
                self._end_elsewhere(job, is_stopped=is_stopped)
            return result

        return handle_job_failure

    def _end_elsewhere(self, job: Any, *, is_stopped: bool) -> None:
        """Record the end of a job whose process ended by force."""
        try:
            name = _name(job)
            self._jobs.record(
                _seconds_since(job.started_at) or 0.0,
                name if _exists(name) else UNKNOWN,
                self._queues.bound(job.origin or ""),
                "cancelled" if is_stopped else _ending(job, has_failed=True),
            )
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)


def _name(job: Any) -> str:
    """Return the name of a job's function, without running code of the job's arguments.

    RQ loads them in the process of the job alone.
    """
    try:
        if isinstance(job._func_name, str):
            return _full_name(job._func_name, job._instance)
        if job.data[:1] == b"\x80":
            return _name_in(job.data)
        return str(job.func_name)
    except Exception:  # noqa: BLE001 -- RQ reports data that it cannot read, when it runs the job
        return UNKNOWN


def _full_name(name: str, instance: object) -> str:
    """Return the name of a function, or of a method of an instance or a class."""
    if instance is None or type(instance) is object:  # RQ has not looked yet: a function
        return name
    kind = instance if isinstance(instance, type) else type(instance)
    return f"{kind.__module__}.{kind.__qualname__}.{name}"


def _name_in(pickled: bytes) -> str:
    """Return the name in the pickle of a function's name, its instance, and arguments."""
    from pickletools import genops

    texts: list[str] = []
    for opcode, text, _ in genops(pickled):
        if isinstance(text, str):
            texts += text.split(" ") if opcode.name == "GLOBAL" else [text]
        # The end of the instance's class, or of None.
        if opcode.name in {"NONE", "GLOBAL", "STACK_GLOBAL"}:
            break
    return ".".join([*texts[1:], texts[0]])


@lru_cache(maxsize=1_000)
def _is_found(top: str) -> bool:
    try:
        return find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _exists(name: str) -> bool:
    """Whether there is a package or module that a function may be of. It is not imported."""
    top = name.partition(".")[0]
    return top in sys.modules or _is_found(top)


def _seconds_since(when: datetime | None) -> float | None:
    if when is None:
        return None
    return (datetime.now(UTC) - (when if when.tzinfo else when.replace(tzinfo=UTC))).total_seconds()


def _ending(job: Any, *, has_failed: bool) -> Ending:
    """Return how a job ended, by the status that RQ has given it."""
    from rq.job import Retry

    status = str(getattr(job._status, "value", job._status))
    if status == "stopped":
        return "cancelled"
    if has_failed:
        return "retried" if status in {"queued", "scheduled"} else "error"
    if isinstance(getattr(job, "_result", None), Retry):
        return "error" if status == "failed" else "retried"
    return "error" if status == "failed" else "ok"
