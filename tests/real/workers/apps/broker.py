"""Celery application; as a program it sends tasks: `broker.py NUMBER`."""

from __future__ import annotations

import os
import sys

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True, task_ignore_result=True, worker_prefetch_multiplier=1
)

if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        app.send_task("tasks.do")
