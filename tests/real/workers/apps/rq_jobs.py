"""RQ jobs that end in every way, measured by the integration.

`rq_jobs.py work URL` is a worker that has imported them, and `rq_jobs.py spawn URL` one that starts
an interpreter for each; `rq_jobs.py send URL NAME=NUMBER …`
enqueues them, and prints what it has counted, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from jobs_tally import exporter, tally
from redis import Redis
from rq import Queue, Repeat, Retry, Worker, get_current_job
from rq.command import send_stop_job_command
from rq.worker import SpawnWorker

from hypertrace.integrations import install

install("rq", skip=["*.skipped"])


class Spawning(SpawnWorker):  # type: ignore[misc]  # rq has no types here
    """Worker whose interpreters import this module, as they look for its class."""


class Mailer:
    """Something with a method that is a job."""

    def send(self) -> None:
        """End well."""
        tally("rq_jobs.Mailer.send", "started")
        tally("rq_jobs.Mailer.send", "succeeded")


def good() -> None:
    """End well."""
    tally("rq_jobs.good", "started")
    tally("rq_jobs.good", "succeeded")


def bad() -> None:
    """Raise."""
    tally("rq_jobs.bad", "started")
    tally("rq_jobs.bad", "failed")
    raise ValueError("bad")


def exits() -> None:
    """Leave the function by `SystemExit`, which RQ takes for a failure."""
    tally("rq_jobs.exits", "started")
    tally("rq_jobs.exits", "failed")
    sys.exit(3)


def flaky() -> None:
    """Raise while there are attempts left, and at the last one, too."""
    tally("rq_jobs.flaky", "started")
    job = get_current_job()
    assert job is not None
    tally("rq_jobs.flaky", "retried" if job.retries_left else "failed")
    raise ValueError("flaky")


def again() -> object:
    """Ask for another attempt, twice."""
    tally("rq_jobs.again", "started")
    job = get_current_job()
    assert job is not None
    if (job.number_of_retries or 0) < 2:
        tally("rq_jobs.again", "retried")
        return Retry(max=2)
    tally("rq_jobs.again", "succeeded")
    return None


def slow() -> None:
    """Run past the time limit."""
    tally("rq_jobs.slow", "started")
    tally("rq_jobs.slow", "failed")
    time.sleep(60)


def killed() -> None:
    """Kill the process."""
    tally("rq_jobs.killed", "started")
    tally("rq_jobs.killed", "failed")
    os.kill(os.getpid(), signal.SIGKILL)


def held() -> None:
    """Run until it is stopped."""
    tally("rq_jobs.held", "started")
    tally("rq_jobs.held", "revoked")
    time.sleep(60)


def skipped() -> None:
    """End well; it is not measured."""
    tally("rq_jobs.skipped", "started")


def send(queue: Queue, name: str) -> None:
    """Enqueue one job."""
    jobs: Any = importlib.import_module("rq_jobs")
    if name == "flaky":
        queue.enqueue(jobs.flaky, retry=Retry(max=2))
    elif name == "slow":
        queue.enqueue(jobs.slow, job_timeout=1)
    elif name == "unknown":
        queue.enqueue("no_such_package.gone")
    elif name == "repeated":
        queue.enqueue(jobs.good, repeat=Repeat(times=2, interval=0))
    elif name == "method":
        queue.enqueue(jobs.Mailer().send)
    elif name == "cancelled":
        Queue("idle", connection=queue.connection).enqueue(jobs.good).cancel()
    elif name == "sync":
        Queue("sync", is_async=False, connection=queue.connection).enqueue(jobs.bad)
    elif name == "stopped":
        job = queue.enqueue(jobs.held)
        while "rq_jobs.held started" not in Path(os.environ["TALLY"]).read_text():
            time.sleep(0.02)
        send_stop_job_command(queue.connection, job.id)
    else:
        queue.enqueue(getattr(jobs, name))


if __name__ == "__main__":
    verb, url, *arguments = sys.argv[1:]
    connection = Redis.from_url(url)
    work = Queue(connection=connection)
    if verb == "work":
        importlib.import_module("rq_jobs")
        Worker([work], connection=connection).work()
    if verb == "spawn":
        jobs = importlib.import_module("rq_jobs")
        jobs.Spawning([work], connection=connection).work()
    for argument in arguments:
        kind, number = argument.split("=")
        for _ in range(int(number)):
            send(work, kind)
    family = exporter.forwards_to.read().family("jobs_total")
    print(json.dumps([[*point.labels, point.value] for point in family.points]))
