"""Celery tasks that end in every way, measured by the integration; as a program, it sends them.

`celery_jobs.py NAME=NUMBER …` sends tasks and prints what it has counted, as JSON.
"""

# mypy: disable-error-code="untyped-decorator"
# Celery has no types.

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery, chord
from celery.exceptions import Ignore, Reject
from jobs_tally import exporter, tally

from hypertrace.integrations import install

FOLDER = Path(os.environ["FOLDER"])

install("celery", skip=["jobs.skip*"])
app = Celery("jobs", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_routes={"jobs.mail": {"queue": "mail"}},
    worker_prefetch_multiplier=1,
)


@app.task(name="jobs.good")
def good(*_: object) -> None:
    """End well."""
    tally("jobs.good", "started")
    time.sleep(0.01)  # so that other workers take some, too
    tally("jobs.good", "succeeded")


@app.task(name="jobs.mail")
def mail() -> None:
    """End well, in another queue."""
    tally("jobs.mail", "started")
    tally("jobs.mail", "succeeded")


@app.task(name="jobs.bad")
def bad() -> None:
    """Raise."""
    tally("jobs.bad", "started")
    tally("jobs.bad", "failed")
    raise ValueError("bad")


@app.task(name="jobs.flaky", bind=True)
def flaky(self: Any) -> None:
    """Succeed at the third attempt."""
    tally("jobs.flaky", "started")
    if self.request.retries < 2:
        tally("jobs.flaky", "retried")
        raise self.retry(countdown=0)
    assert self.request.headers is None  # as without the integration
    tally("jobs.flaky", "succeeded")


@app.task(name="jobs.ignored")
def ignored() -> None:
    """Ask Celery to ignore the result."""
    tally("jobs.ignored", "started")
    tally("jobs.ignored", "ignored")
    raise Ignore


@app.task(name="jobs.rejected", acks_late=True)
def rejected() -> None:
    """Reject the message."""
    tally("jobs.rejected", "started")
    tally("jobs.rejected", "rejected")
    raise Reject("unwanted", requeue=False)


@app.task(name="jobs.exits")
def exits() -> None:
    """End the process in order."""
    tally("jobs.exits", "started")
    tally("jobs.exits", "failed")
    sys.exit(3)


@app.task(name="jobs.fails_at_exit", time_limit=1)
def fails_at_exit() -> None:
    """Run past the hard time limit, and raise another exception when the process is ended."""
    tally("jobs.fails_at_exit", "started")
    tally("jobs.fails_at_exit", "failed")
    try:
        time.sleep(60)
    finally:
        raise ValueError("the connection is closed")


@app.task(name="jobs.slow", time_limit=1)
def slow() -> None:
    """Run past the hard time limit."""
    tally("jobs.slow", "started")
    tally("jobs.slow", "failed")
    time.sleep(60)


@app.task(name="jobs.lost", acks_late=True, reject_on_worker_lost=True)
def lost() -> None:
    """Kill the process the first time; the message goes back to the queue."""
    tally("jobs.lost", "started")
    mark = FOLDER / "was-lost"
    if not mark.exists():
        mark.touch()
        tally("jobs.lost", "rejected")
        os.kill(os.getpid(), signal.SIGKILL)
    tally("jobs.lost", "succeeded")


@app.task(name="jobs.held")
def held() -> None:
    """Run until it is revoked."""
    tally("jobs.held", "started")
    tally("jobs.held", "revoked")
    time.sleep(60)


@app.task(name="jobs.outer")
def outer() -> None:
    """Call another task in the same process, while an exception is handled."""
    tally("jobs.outer", "started")
    try:
        raise KeyError("handled")
    except KeyError:
        good.apply()
    tally("jobs.outer", "succeeded")


@app.task(name="jobs.skipped")
def skipped() -> None:
    """End well; it is not measured."""
    tally("jobs.skipped", "started")


def send(name: str) -> None:
    """Send one task; `chord`, `expired` and `revoke` are no names of tasks."""
    if name == "chord":
        chord([good.s()] * 4)(good.s())
    elif name == "expired":
        good.apply_async(expires=datetime.now(UTC) - timedelta(seconds=60))
    elif name == "revoke":
        task = held.delay()
        while "jobs.held started" not in Path(os.environ["TALLY"]).read_text():
            time.sleep(0.02)
        app.control.revoke(task.id, terminate=True)
    else:
        app.send_task(f"jobs.{name}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        kind, number = argument.split("=")
        for _ in range(int(number)):
            send(kind)
    family = exporter.forwards_to.read().family("jobs_total")
    print(json.dumps([[*point.labels, point.value] for point in family.points]))
