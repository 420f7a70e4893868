"""Peer of shared counts: the multiprocess mode of `prometheus_client`, in a separate process.

Prints what counting and scraping cost there, and what restarts leave. Its arguments are how many
workers and series a scrape has, how many restarts there are, and the series of each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from timeit import repeat

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
CALLS = 20_000
LABELS = ("object_classname", "caller_functionname", "caller_filename", "caller_props_topic")


def fill(counter: Counter, series: int) -> None:
    """Count once for each series."""
    for number in range(series):
        counter.labels("Shelf", "fill", "benchmarks/scraping.py", f"topic {number}").inc()


def work(series: int) -> None:
    """Count in a forked child, and end it at once."""
    pid = os.fork()
    if not pid:
        fill(COUNTER, series)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def scrape() -> None:
    """Make the page of all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    generate_latest(registry)


def clear() -> None:
    """Remove the files of all processes but this one."""
    shutil.rmtree(FOLDER)
    FOLDER.mkdir()


workers, series, restarts, restarted_series = map(int, sys.argv[1:])
COUNTER = Counter("function_counter", "Calls", LABELS, registry=CollectorRegistry())
histogram = Histogram("function_duration_seconds", "Time", registry=CollectorRegistry())
child = COUNTER.labels("Shelf", "fill", "benchmarks/scraping.py", "topic")
found = {
    "inc": min(repeat(child.inc, number=CALLS)) / CALLS * 1e9,
    "observe": min(repeat(lambda: histogram.observe(0.01), number=CALLS)) / CALLS * 1e9,
}
clear()
for _ in range(workers):  # ended ones: the files are the same, and so is the scrape
    work(series)
found["scrape"] = min(repeat(scrape, number=1, repeat=3)) * 1e3
clear()
for _ in range(restarts):
    work(restarted_series)
files = list(FOLDER.iterdir())
found |= {"files": len(files), "size": sum(file.stat().st_size for file in files) / 1024}
print(json.dumps(found))
