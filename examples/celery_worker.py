"""Celery worker whose jobs are measured; it needs Celery (`pip install celery`) and no broker.

python examples/celery_worker.py
    sends orders, works on them in two processes, and prints what became of them

cd examples && BROKER=redis://localhost METRICS_PORT=4343 celery --app celery_worker worker
    is a worker alone; its page is http://localhost:4343/metrics
"""

# mypy: disable-error-code="untyped-decorator"
# Celery has no types.

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

from celery import Celery

from hypertrace import set_trace_function
from hypertrace.integrations import install
from hypertrace_prometheus import PrometheusExporter

install("celery", skip=["shop.ping"])
# Producers import this module, too: the environment says which program has the port.
port = os.environ.get("METRICS_PORT")
exporter = PrometheusExporter(port=int(port) if port else None)
set_trace_function(exporter)

app = Celery("shop", broker=os.environ.get("BROKER"))
app.conf.update(task_ignore_result=True, worker_redirect_stdouts=False)


@app.task(name="shop.receipt")
def receipt(customer: str) -> str:
    """Send a receipt."""
    return f"Dear {customer}"


@app.task(name="shop.charge", bind=True, max_retries=2)
def charge(self: Any, customer: str) -> None:
    """Charge a customer: Bo's bank answers at the second attempt, and Cleo's never does."""
    if customer == "Cleo" or (customer == "Bo" and not self.request.retries):
        raise self.retry(exc=TimeoutError("the bank does not answer"), countdown=0)
    receipt.delay(customer)


@app.task(name="shop.ping")
def ping() -> None:
    """Do nothing, and do not count."""


CUSTOMERS = ("Ann", "Bo", "Cleo", "Dan")
STARTS = 4 + 1 + 2 + 3
"""Each is charged, Bo once more and Cleo twice more; all but Cleo have a receipt."""
ENDS = ("succeeded", "failed", "retried")


def main() -> None:
    """Send orders, work on them, and print the jobs by name and event."""
    with tempfile.TemporaryDirectory() as folder:
        # A broker of files; two processes can share it.
        app.conf.broker_url = "filesystem://"
        app.conf.broker_transport_options = {
            **dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), folder),
            "polling_interval": 0.05,
        }
        for customer in CUSTOMERS:
            ping.delay()
            charge.delay(customer)
        threading.Thread(target=end_when_done, daemon=True).start()
        options = ("--concurrency=2", "--loglevel=ERROR")
        with suppress(SystemExit):  # the worker's last word
            app.worker_main(["--quiet", "worker", *options, "--without-mingle", "--without-gossip"])
    for (name, event), number in sorted(jobs().items()):
        print(f"{name:14}{event:12}{number}")


def end_when_done() -> None:
    """Ask the worker to end when all jobs have."""
    while sum(n for (_, event), n in jobs().items() if event in ENDS) < STARTS:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def jobs() -> dict[tuple[str, str], int]:
    """Return how often what happened to jobs, in all processes."""
    found: dict[tuple[str, str], int] = {}
    for point in exporter.forwards_to.read().family("jobs_total").points:
        name, _, event = point.labels
        found[name, event] = found.get((name, event), 0) + int(str(point.value))
    return found


if __name__ == "__main__":
    main()
