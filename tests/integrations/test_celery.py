"""Celery in one process: how tasks end, what they are called, and what is left behind.

Worker processes are in tests/real/workers/test_celery_jobs.py.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace._operations import current_entry
from hypertrace.integrations import install, installed, uninstall
from hypertrace.integrations.jobs import Jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

SIGNALS = (
    *("before_task_publish", "after_task_publish", "task_received", "task_prerun", "task_postrun"),
    *("task_failure", "task_retry", "task_revoked", "task_rejected", "task_unknown"),
)


@pytest.fixture
def app(library: Callable[[str], Any], metrics: Metrics) -> Iterator[Any]:
    """Give an application with a broker in memory; tasks are measured."""
    celery = library("celery")
    install("celery", skip=["skipped.*"])
    made = celery.Celery("shop", broker="memory://", set_as_current=False)
    made.conf.task_default_queue = f"queue-{uuid.uuid4().hex}"
    made.conf.broker_connection_retry_on_startup = True
    yield made
    made.close()


@pytest.fixture
def work(app: Any, library: Callable[[str], Any]) -> Callable[[Callable[[], object]], None]:
    """Give a function that runs a worker in a thread until a condition holds."""
    start_worker = library("celery.contrib.testing.worker").start_worker

    def run_until(condition: Callable[[], object]) -> None:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
            for _ in range(1_500):
                if condition():
                    return
                threading.Event().wait(0.02)
            raise AssertionError("not in time")

    return run_until


def _ends(points: Points, name: str) -> dict[tuple[str, ...], float]:
    ended = points("jobs_duration_seconds")
    return {labels[1:]: number for labels, number in ended.items() if labels[0] == name}


def _task(app: Any, name: str, function: Callable[..., object] = lambda: None) -> Any:
    """Return a task; Celery reads the name of its function."""
    function.__name__ = "function"
    return app.task(function, name=name, shared=False)


ENDINGS: list[tuple[Callable[[Any], object], str]] = [
    (lambda _: 3, "ok"),
    (lambda _: _raise(ValueError("bad")), "error"),
    (lambda _: _raise(SystemExit(3)), "error"),
    (lambda _: _raise(KeyboardInterrupt()), "error"),
    (lambda task: _raise(task.retry(countdown=0, throw=False)), "retried"),
    (lambda _: _raise(_exception("Ignore")), "ignored"),
    (lambda _: _raise(_exception("Reject", "unwanted")), "rejected"),
]


def _raise(error: BaseException) -> None:
    raise error


def _exception(name: str, *args: object) -> BaseException:
    made: BaseException = getattr(sys.modules["celery.exceptions"], name)(*args)
    return made


@pytest.mark.parametrize("throw", [False, True], ids=["kept", "thrown"])
@pytest.mark.parametrize(
    ("function", "result"),
    ENDINGS,
    ids=["returns", "raises", "exits", "interrupted", "retries", "ignores", "rejects"],
)
def test_each_end_is_one(
    app: Any, points: Points, function: Callable[[Any], object], result: str, throw: bool
) -> None:
    """A task that is applied has one start, one end, and no queue."""
    attempts = 0

    def run(self: Any) -> object:
        nonlocal attempts
        attempts += 1
        return function(self) if attempts == 1 else None

    task = app.task(run, name="shop.run", bind=True, shared=False)
    with suppress(BaseException):
        task.apply(throw=throw)
    results = _ends(points, "shop.run")
    assert results.pop(("", result)) == 1
    assert results == ({("", "ok"): 1} if attempts == 2 else {})
    events = points("jobs_total")
    assert events["shop.run", "", "started"] == attempts
    assert sum(events.values()) == 2 * attempts
    assert points("jobs_in_progress") == {("shop.run", ""): 0}
    assert sum(points("entry_duration_seconds").values()) == attempts
    assert current_entry() == ""


def test_a_task_that_calls_another_in_place_is_two_jobs(app: Any, points: Points) -> None:
    """Each has its end, also while the outer one handles an exception; one alone is an entry."""

    def inner(depth: int) -> None:
        if depth:
            nested.apply([depth - 1])

    def outer() -> None:
        try:
            raise KeyError("handled")
        except KeyError:
            nested.apply([2])
        with suppress(ZeroDivisionError):
            failing.apply(throw=True)

    nested = app.task(inner, name="inner", shared=False)
    failing = _task(app, "failing", lambda: 1 / 0)
    assert app.task(outer, name="outer", shared=False).apply().successful()
    assert points("jobs_duration_seconds") == {
        ("inner", "", "ok"): 3,
        ("failing", "", "error"): 1,
        ("outer", "", "ok"): 1,
    }
    assert points("entry_duration_seconds") == {("job", "outer", "ok"): 1}
    assert set(points("jobs_in_progress").values()) == {0}


def test_a_task_that_is_called_as_a_function_is_no_job(app: Any, points: Points) -> None:
    """A plain call of a task runs no job."""
    assert _task(app, "plain", lambda: 3)() == 3
    assert points("jobs_total") == {}


def test_messages_a_worker_runs(
    app: Any, points: Points, work: Callable[[Callable[[], object]], None]
) -> None:
    """A message is sent, received, waits, and runs as an entry; the task sees it unchanged."""
    requests: list[dict[str, Any]] = []
    waits: list[str] = []

    def run(self: Any) -> None:
        requests.append(dict(vars(self.request)))
        waits.append(current_entry())

    task = app.task(run, name="shop.run", bind=True, shared=False)
    queue = app.conf.task_default_queue
    task.delay()
    task.apply_async(headers={"tenant": "north"})
    task.apply_async(countdown=0.1)
    _task(app, "skipped.task").delay()
    work(lambda: len(requests) == 3 and not points("jobs_in_progress")["shop.run", queue])
    assert points("jobs_total") == {
        ("shop.run", queue, event): 3 for event in ("sent", "received", "started", "succeeded")
    }
    assert points("jobs_queue_wait_seconds") == {("shop.run", queue): 3}
    assert points("entry_duration_seconds") == {("job", "shop.run", "ok"): 3}
    assert waits == ["shop.run"] * 3
    assert not any("hypertrace_sent" in request for request in requests)
    headers = [request.get("headers") for request in requests]
    assert sorted(headers, key=str) == [None, None, {"tenant": "north"}]


def test_a_task_with_an_eta_waits_from_then(
    app: Any, metrics: Metrics, work: Callable[[Callable[[], object]], None]
) -> None:
    """The time until a task is due is no time in the queue."""
    done: list[int] = []
    _task(app, "later", lambda: done.append(1)).apply_async(countdown=1.5)
    work(lambda: done)
    points: Any = metrics.read().family("jobs_queue_wait_seconds").points
    (wait,) = [point.value for point in points]
    assert wait.count == 1
    assert wait.sum < 1.4


def test_messages_that_no_task_is_there_for(
    app: Any, points: Points, work: Callable[[Callable[[], object]], None]
) -> None:
    """A message for an unknown task is rejected, and so is one that cannot be read."""
    queue = app.conf.task_default_queue
    producer = _task(app, "shop.run")
    for number in range(3):
        app.send_task(f"unknown.{number}")
    with app.connection_for_write() as connection:
        made = app.amqp.create_task_message(str(uuid.uuid4()), "shop.run", eta=None)
        made.headers["eta"] = "tomorrow"
        app.amqp.send_task_message(connection.Producer(), "shop.run", made, queue=queue)
    producer.delay()

    def has_succeeded() -> bool:
        return ("shop.run", queue, "succeeded") in points("jobs_total")

    work(has_succeeded)
    rejected = {labels: n for labels, n in points("jobs_total").items() if labels[2] == "rejected"}
    assert rejected == {("<unknown>", queue, "rejected"): 3, ("shop.run", queue, "rejected"): 1}


def test_a_flood_of_names_and_queues_is_bounded(app: Any, points: Points) -> None:
    """10 000 names of tasks and queues that a producer makes up are 101 of each."""
    _task(app, "shop.run")
    app.finalize()
    with app.connection_for_write() as connection:
        producer = connection.Producer()
        for number in range(10_000):
            app.amqp.send_task_message(
                producer,
                f"made.up.{number}",
                app.amqp.create_task_message(str(number), f"made.up.{number}"),
                queue=f"queue-{number}",
                declare=[],
                retry=False,
            )
        app.send_task("shop.run", producer=producer)
    sent = points("jobs_total")
    assert len({name for name, _, _ in sent}) == 102
    assert len({queue for _, queue, _ in sent}) == 101
    assert sent["<other>", "<other>", "sent"] == 9_900
    assert sum(sent.values()) == 10_001


def test_the_queue_of_a_topic_is_its_name(
    app: Any, points: Points, library: Callable[[str], Any]
) -> None:
    """A queue that an exchange leads to by a key has its name; a pattern shows the key."""
    kombu = library("kombu")
    topics = kombu.Exchange("topics", type="topic")
    app.conf.task_queues = [
        kombu.Queue("orders", topics, routing_key="order.new"),
        kombu.Queue("all", topics, routing_key="#"),
    ]
    task = _task(app, "shop.run")
    task.apply_async(exchange=topics, routing_key="order.new")
    task.apply_async(exchange=topics, routing_key="order.paid")
    task.apply_async(queue="orders")
    assert points("jobs_total") == {
        ("shop.run", "orders", "sent"): 2,
        ("shop.run", "order.paid", "sent"): 1,
    }


def test_uninstall_disconnects_when_the_last_task_has_ended(
    app: Any, points: Points, library: Callable[[str], Any]
) -> None:
    """A task that runs is still recorded, and then the signals are as they were."""
    signals = library("celery.signals")
    uninstall()
    before = {name: list(getattr(signals, name).receivers) for name in SIGNALS}
    install("celery")
    assert all(len(getattr(signals, name).receivers) == len(before[name]) + 1 for name in SIGNALS)
    app.task(uninstall, name="shop.run", shared=False).apply()
    assert points("jobs_duration_seconds") == {("shop.run", "", "ok"): 1}
    assert points("jobs_in_progress") == {("shop.run", ""): 0}
    assert {name: list(getattr(signals, name).receivers) for name in SIGNALS} == before
    install("celery")
    app.tasks["shop.run"].apply()
    assert points("jobs_duration_seconds") == {("shop.run", "", "ok"): 2}


def test_what_fails_inside_reaches_no_task(
    app: Any, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the integration leaves the result of a task as it is."""
    monkeypatch.setattr(Jobs, "start", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(Jobs, "count", lambda *_, **__: 1 / 0)
    task = _task(app, "shop.run", lambda: 3)
    task.delay()
    assert task.apply().get() == 3
    assert points("hypertrace_swallowed_errors_total")


def test_it_waits_for_the_import(library: Callable[[str], Any]) -> None:
    """Installing imports nothing; what the application imports later is measured."""
    library("celery")
    program = """
import sys
from hypertrace import set_trace_function
from hypertrace.integrations import install, installed
from hypertrace.metrics import Metrics

metrics = Metrics(workers=False)
set_trace_function(metrics)
install("celery")
assert "celery" not in sys.modules and installed() == {"celery": False}
from celery import Celery
def run():
    pass

assert Celery("shop").task(run).apply().successful()
assert installed() == {"celery": True}
assert metrics.read().family("jobs_duration_seconds").values[0].count == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert installed() == {}
