"""Celery tasks whose counts are pushed when the processes end, and not before."""

from __future__ import annotations

import os

import tasks
from broker import app
from celery.signals import worker_process_shutdown
from counted import exporter

from hypertrace.exporters import flush
from hypertrace.exporters.json_lines import JsonLinesExporter

__all__ = ["app", "tasks"]

JsonLinesExporter(os.environ["LINES"], metrics=exporter.forwards_to, interval=3600)

if os.environ.get("HYPERTRACE_WORKERS") == "0":
    # Celery ends its processes without their exit functions.
    worker_process_shutdown.connect(lambda **_: flush(), weak=False)
