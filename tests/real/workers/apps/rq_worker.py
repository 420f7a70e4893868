"""RQ worker that has imported its jobs before it forks: `rq_worker.py URL`."""

from __future__ import annotations

import importlib
import sys

from redis import Redis
from rq import Queue, Worker

importlib.import_module("jobs")
connection = Redis.from_url(sys.argv[1])
Worker([Queue(connection=connection)], connection=connection).work()
