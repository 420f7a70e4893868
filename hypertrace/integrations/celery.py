"""Celery: the tasks that are sent and run, by the metrics of jobs.

It connects to the signals of Celery and measures every task of every application in the process, in
each pool. A task runs from `task_prerun` to `task_postrun`: also one that raises, whose result is
`error`. `Retry` is `retried`, `Ignore` is `ignored`, `Reject` is `rejected`, and what is revoked
while it runs is `cancelled`. None of these is an error.

A pool process that ends inside a task (a hard time limit, `SystemExit`, a signal) says nothing
about it: the worker's main process counts the end, as `error` with the exception `WorkerLostError`
or `TimeLimitExceeded`, as `cancelled` if it was revoked, or as `rejected` if its message goes back
to the queue (`task_reject_on_worker_lost`).

`job_name` is the registered name; a message for another is `<unknown>`, and rejected. `queue` is
the queue, or the routing key where no known queue has it. Producers may send tasks that they have
not registered: the first 100 names stay, and all others are `<other>`; so it is with queues.

Celery's messages do not say when they were sent. This adds a header to them, `hypertrace_sent`,
which is taken away before the task sees it. A task with an `eta` waits from then.

A task that is called with `apply()`, or always eagerly, is a job without a queue.

Option: `skip`, patterns of names of tasks that are not measured, as `["celery.*"]`.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from hypertrace._dispatch import get_trace_function
from hypertrace._failures import swallow
from hypertrace.forks import after_fork_in_child

from .jobs import UNKNOWN, FirstValues, Job, Jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .jobs import Ending
    from .patches import Patches

HEADER = "hypertrace_sent"
"""Header of a message: when it was sent, in seconds since 1970."""

_ENDINGS: dict[str | None, Ending] = {
    "FAILURE": "error",
    "RETRY": "retried",
    "IGNORED": "ignored",
    "REJECTED": "rejected",
}
_MOST_ROUTES = 1_000
_NO_INFO: dict[str, Any] = {}

_process = object()
"""Stands for this process: a forked child has another one."""


def _renew_process() -> None:
    global _process  # noqa: PLW0603 -- there is one in a process
    _process = object()


after_fork_in_child(_renew_process)


class Integration:
    """Tasks of Celery."""

    def __init__(self, *, skip: Iterable[str] = ()) -> None:
        """Declare the metrics.

        Args:
            skip: shell-style patterns of names of tasks that are not measured.

        Raises:
            TypeError: `skip` is one text, or has what is no text.
        """
        self._jobs = Jobs(skip=skip)
        # With whether the main process is another one, which is informed when this one is lost;
        # and the exception that the code around the task handles.
        self._running: dict[tuple[str, int], tuple[Job, bool, BaseException | None]] = {}
        self._received: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._receiver: object = None
        self._foreign_names = FirstValues()
        self._queues = FirstValues()
        self._routes: dict[tuple[str, str | None], str] = {}
        self._has_ended = False
        self._undo_end: Callable[[], object] | None = None

    def patch(self, patches: Patches) -> None:
        """Connect to the signals.

        Args:
            patches: disconnects.
        """
        from celery import signals

        receivers: dict[str, Callable[..., None]] = {
            "before_task_publish": self._on_publish,
            "after_task_publish": self._on_sent,
            "task_received": self._on_received,
            "task_failure": self._on_failure,
            "task_retry": self._on_retry,
            "task_revoked": self._on_revoked,
            "task_rejected": self._on_rejected,
            "task_unknown": self._on_unknown,
        }
        for name, receiver in receivers.items():
            patches.then(_connect(getattr(signals, name), _guarded(receiver)))
        # Without a function around them, as they are called for each task.
        patches.then(_connect(signals.task_prerun, self._on_start))
        self._undo_end = _connect(signals.task_postrun, self._on_end)
        patches.then(self._disconnect_end)
        # Messages that go back to the queue, which no signal is sent for.
        patches.when_imported("celery.worker.request", lambda: self._patch_requests(patches))

    def _disconnect_end(self) -> None:
        """Disconnect from ends when the last task that runs has ended."""
        self._has_ended = True
        if not self._running and self._undo_end is not None:
            undo, self._undo_end = self._undo_end, None
            undo()

    # --- what a producer does ---

    def _on_publish(self, sender: str, headers: dict[str, Any], **_: object) -> None:
        """Write into a message when it is sent."""
        if get_trace_function() is not None and not self._jobs.is_skipped(sender):
            headers[HEADER] = time()

    def _on_sent(self, sender: str, exchange: Any, routing_key: str, **_: object) -> None:
        name = sender if _is_registered(sender) else self._foreign_names.bound(sender)
        self._jobs.count("sent", name, self._queue(exchange, routing_key))

    # --- what a task does, in the process that runs it ---

    # These two are called for each task, and name all that Celery gives them: what is left over
    # would cost a mapping each time.

    def _on_start(  # noqa: PLR0913, PLR0917
        self,
        sender: Any,
        task_id: str,
        kwargs: object,
        task: object = None,  # noqa: ARG002 -- see above
        args: object = None,  # noqa: ARG002
        signal: object = None,  # noqa: ARG002
        **_: object,
    ) -> None:
        try:
            request = sender.request_stack.top
            sent = vars(request).pop(HEADER, None)
            if request.headers:
                sent = _take_header(request, sent)
            if self._jobs.is_skipped(name := sender.name):
                return
            waited = None
            if isinstance(sent, float):
                waited = time() - (max(sent, _due(request)) if request.eta else sent)
            info = request.delivery_info or _NO_INFO
            exchange, routing_key = info.get("exchange"), info.get("routing_key")
            queue = self._routes.get((exchange, routing_key)) if type(exchange) is str else None
            if queue is None:
                queue = self._queue(exchange, routing_key)
            # A request that this process received is not in another one's pool.
            is_pool_process = not request.is_eager and (
                self._receiver is not _process or self._received.pop(task_id, None) is None
            )
            job = Job.of(name, queue, waited)
            self._running[task_id, id(kwargs)] = job, is_pool_process, sys.exception()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)

    def _on_end(  # noqa: PLR0913, PLR0917
        self,
        sender: object,  # noqa: ARG002 -- see above
        task_id: str,
        kwargs: object,
        state: str | None,
        retval: object,
        task: object = None,  # noqa: ARG002
        args: object = None,  # noqa: ARG002
        signal: object = None,  # noqa: ARG002
        **_: object,
    ) -> None:
        try:
            # The mapping is one of this run alone: a task may be applied with an id that runs.
            run = self._running.pop((task_id, id(kwargs)), None)
            if self._has_ended:
                self._disconnect_end()
            if run is None:
                return
            job, is_pool_process, handled = run
            error = sys.exception()
            if error is handled:
                if state not in _ENDINGS:
                    job.finish()
                    return
                error = None
            if is_pool_process and _is_lost(error):
                job.abandon()
            elif error is not None:
                job.finish(error, _ending(error))
            else:
                raised = retval if isinstance(retval, BaseException) else None
                job.finish(raised, _ENDINGS[state])
        except Exception as failure:  # noqa: BLE001 -- as above
            swallow(failure, self)

    # --- what the main process of a worker does ---

    def _on_received(self, request: Any, **_: object) -> None:
        if self._receiver is not _process:
            self._receiver = _process
            self._received.clear()
        self._received[request.id] = request
        self._jobs.count("received", request.task.name, self._queue_of(request))

    def _patch_requests(self, patches: Patches) -> None:
        from celery.worker.request import Request

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def on_failure(request: Any, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
                result = original(request, exc_info, *args, **kwargs)
                try:
                    self._end_if_requeued(request, exc_info)
                except Exception as error:  # noqa: BLE001 -- the application must see nothing
                    swallow(error, self)
                return result

            return on_failure

        patches.replace(Request, "on_failure", make)

    def _end_if_requeued(self, request: Any, exc_info: Any) -> None:
        from celery.exceptions import WorkerLostError

        exception = exc_info.exception
        exception = getattr(exception, "exc", exception)  # it may be wrapped with its traceback
        was_lost = isinstance(exception, WorkerLostError | SystemExit | KeyboardInterrupt)
        task = request.task
        if was_lost and task.acks_late and task.reject_on_worker_lost:
            self._end_elsewhere(request.id, "rejected")

    def _on_failure(self, task_id: str, exception: BaseException, **_: object) -> None:
        from celery.exceptions import TimeLimitExceeded, WorkerLostError

        if isinstance(exception, TimeLimitExceeded | WorkerLostError):
            self._end_elsewhere(task_id, "error", type(exception))

    def _on_retry(self, request: Any, **_: object) -> None:
        if self._is_of_received(request):
            self._end_elsewhere(request.id, "retried")

    def _on_revoked(self, sender: Any, request: Any, *, terminated: bool, **_: object) -> None:
        if terminated:
            if self._is_of_received(request):
                self._end_elsewhere(request.id, "cancelled")
        else:
            self._jobs.count("revoked", sender.name, self._queue_of(request))

    def _is_of_received(self, context: Any) -> bool:
        """Whether a signal is about the message that was received last with this id.

        A task that retries sends it again, and it may be received before that one has ended.
        """
        received = self._received.get(context.id)
        return received is not None and vars(received).get("_context") is context

    def _end_elsewhere(
        self, task_id: str, ending: Ending, exception: type[BaseException] | None = None
    ) -> None:
        """Record the end of a task in another process, which did not; only the first call does.

        A task that ran in this process is not among the requests any more: it ended there.
        """
        # A process of the pool has those that were there when it was forked.
        is_receiver = self._receiver is _process
        request = self._received.pop(task_id, None) if is_receiver else None
        if request is not None:
            began = request.time_start
            self._jobs.record(
                0.0 if began is None else time() - began,
                request.task.name,
                self._queue_of(request),
                ending,
                exception,
            )

    def _on_rejected(self, message: Any, **_: object) -> None:
        name = (message.headers or {}).get("task")
        known = name if isinstance(name, str) and _is_registered(name) else UNKNOWN
        self._jobs.count("rejected", known, self._queue_of(message))

    def _on_unknown(self, message: Any, **_: object) -> None:
        self._jobs.count("rejected", UNKNOWN, self._queue_of(message))

    # --- queues ---

    def _queue_of(self, request: Any) -> str:
        """Return the queue that a message came from."""
        info: Mapping[str, Any] = request.delivery_info or {}
        return self._queue(info.get("exchange"), info.get("routing_key"))

    def _queue(self, exchange: Any, routing_key: str | None) -> str:
        """Return the queue that an exchange sends to by a routing key."""
        if type(exchange) is not str:
            exchange = getattr(exchange, "name", exchange) or ""
        queue = self._routes.get((exchange, routing_key))
        return self._new_queue(exchange, routing_key) if queue is None else queue

    def _new_queue(self, exchange: str, routing_key: str | None) -> str:
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        queue = self._queues.bound(_queue_name(exchange, routing_key)) if routing_key else ""
        self._routes[exchange, routing_key] = queue
        return queue


def _is_registered(name: str) -> bool:
    """Whether an application of this process has such a task."""
    from celery._state import _get_active_apps

    # Not `tasks`, which makes an application evaluate all that it registers lazily.
    return any(name in app._tasks for app in _get_active_apps())


def _queue_name(exchange: str, routing_key: str) -> str:
    """Return the name of a queue, or the routing key: patterns of topics are not compared."""
    from celery._state import _get_active_apps

    if exchange:
        for app in _get_active_apps():
            for name, queue in app.amqp.queues.items() if "amqp" in vars(app) else ():
                bound_to = getattr(queue.exchange, "name", "")
                if (bound_to, queue.routing_key) == (exchange, routing_key):
                    return str(name)
    return routing_key


def _connect(signal: Any, receiver: Callable[..., None]) -> Callable[[], object]:
    """Connect a receiver to a signal, and return what disconnects it."""
    uid = object()  # as Celery has taken the methods of two objects for one
    signal.connect(receiver, weak=False, dispatch_uid=uid)
    return lambda: signal.disconnect(dispatch_uid=uid)


def _guarded(receiver: Callable[..., None]) -> Callable[..., None]:
    """Return a receiver that swallows errors, which Celery would log as its own."""

    def guarded(**kwargs: Any) -> None:
        try:
            receiver(**kwargs)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, receiver)

    return guarded


def _take_header(request: Any, sent: object) -> object:
    """Return when a task was sent, and remove the header: the task sees its request without it."""
    headers = request.headers
    if isinstance(headers, dict) and HEADER in headers:
        sent = headers.pop(HEADER)
        if not headers:
            request.headers = None
    return sent


def _due(request: Any) -> float:
    """Return when a task with an `eta` may start at the earliest, in seconds since 1970."""
    eta = request.eta
    when = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    return float((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _ending(error: BaseException) -> Ending:
    """Return how a task ends that an exception leaves."""
    from celery.exceptions import Ignore, Reject, Retry

    kinds: tuple[tuple[type[BaseException], Ending], ...] = (
        (Reject, "rejected"),
        (Ignore, "ignored"),
        (Retry, "retried"),
    )
    for kind, ending in kinds:
        if isinstance(error, kind):
            return ending
    # gevent and eventlet revoke a task that runs by this exception.
    return "cancelled" if type(error).__name__ == "GreenletExit" else "error"


def _is_lost(error: BaseException | None) -> bool:
    """Whether this pool process ends, and its main process counts the end of the task.

    The signal that ends it raises `SystemExit`, of which a task may make another exception.
    """
    common = sys.modules.get("billiard.common")
    is_ended = getattr(common, "terminate_handler_fired", None)
    if is_ended is not None and is_ended():
        return True
    return error is not None and not isinstance(error, Exception)
