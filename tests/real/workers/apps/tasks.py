"""Celery tasks that are counted."""

from __future__ import annotations

import time

from broker import app
from counted import work


def do() -> None:
    """Do some work."""
    work.do()
    time.sleep(0.01)  # so that other workers take some, too


app.task(do, name="tasks.do")
