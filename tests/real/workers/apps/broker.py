"""Celery application whose broker is a folder; as a program it sends tasks: `broker.py NUMBER`."""

from __future__ import annotations

import os
import sys

from celery import Celery

_folder = f"{os.environ['BROKER']}/queue"

app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "data_folder_in": _folder,
        "data_folder_out": _folder,
        "control_folder": f"{_folder}-control",
        "polling_interval": 0.05,
    },
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)

if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        app.send_task("tasks.do")
