"""Number of threads."""

import subprocess
import sys

import pytest

from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import process
from hypertrace_prometheus.exposition.process import THREADS

PROGRAM = f"""
import sys, threading
from prometheus_client import CollectorRegistry
from hypertrace_prometheus.exposition import process

process._TASKS = sys.argv[1]
registry = CollectorRegistry()
process.ThreadsCollector(registry)
before = registry.get_sample_value({THREADS!r})
end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
print(registry.get_sample_value({THREADS!r}) - before)
end.set()
"""


@pytest.mark.parametrize("tasks", [process._TASKS, "/nowhere"], ids=["Linux", "elsewhere"])
def test_a_thread_more_is_one_more(tasks: str) -> None:
    """A thread is counted while it runs, with and without the files of Linux."""
    # In its own process: here, threads of other tests may end meanwhile.
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, tasks], capture_output=True, text=True, check=True
    )
    assert float(ended.stdout) == 1


def test_it_is_one_of_the_defaults() -> None:
    """An exporter shows it with the other metrics of the process, and leaves it out with them."""
    assert THREADS in PrometheusExporter().metrics()
    assert THREADS not in PrometheusExporter(collect_defaults=False).metrics()
