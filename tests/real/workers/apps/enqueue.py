"""Producer of RQ jobs: `enqueue.py URL FUNCTION NUMBER`."""

from __future__ import annotations

import sys

from redis import Redis
from rq import Queue

url, function, number = sys.argv[1:]
queue = Queue(connection=Redis.from_url(url))
for _ in range(int(number)):
    queue.enqueue(function)
