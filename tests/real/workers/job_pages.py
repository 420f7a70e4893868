"""Pages with the metrics of jobs, compared with the tally that the jobs have written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from .programs import APPS, get

if TYPE_CHECKING:
    from pathlib import Path

    from .programs import Program

RESULTS = {
    "succeeded": "ok",
    "failed": "error",
    "revoked": "cancelled",
    "retried": "retried",
    "ignored": "ignored",
    "rejected": "rejected",
}


class JobPage:
    """The metrics of jobs on a page, each summed over the queues."""

    def __init__(self, text: str) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self.results: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[str] = Counter()
        self.queues: set[tuple[str, str]] = set()
        self.entries: Counter[tuple[str, str]] = Counter()
        self.in_progress = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._add(sample.name, sample.labels, sample.value)

    def _add(self, name: str, labels: dict[str, str], value: float) -> None:
        job = labels.get("job_name", "")
        number = int(value) if name.endswith(("_total", "_count")) else 0
        if name == "jobs_total":
            self.events[job, labels["event"]] += number
            self.queues.add((job, labels.get("queue", "")))
        elif name == "jobs_duration_seconds_count":
            self.results[job, labels["result"]] += number
        elif name == "jobs_queue_wait_seconds_count":
            self.waits[job] += number
        elif name == "entry_duration_seconds_count":
            assert labels["kind"] == "job"
            self.entries[labels["name"], labels["result"]] += number
        elif name in {"jobs_in_progress", "function_in_progress"}:
            self.in_progress += value


def tallied(path: Path) -> Counter[tuple[str, str]]:
    """Read the tally: how often which job had which event."""
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter((line.split()[0], line.split()[1]) for line in lines)


def ends(events: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Return the ends among events, as results."""
    return Counter(
        {(job, RESULTS[event]): n for (job, event), n in events.items() if event in RESULTS}
    )


def page_of(port: int) -> JobPage:
    """Read the page that a program serves."""
    return JobPage(get(f"http://127.0.0.1:{port}/metrics").text)


def send(program: Program, app: str, *arguments: str, **environment: str) -> dict[Any, int]:
    """Run a producer beside a program; return the events that it has counted, by job and queue."""
    run = subprocess.run(
        [sys.executable, APPS / app, *arguments],
        env={
            **os.environ,
            "TALLY": str(program.tally.path),
            "FOLDER": str(program.folder),
            "HYPERTRACE_WORKERS": "0",
            **environment,
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return {tuple(labels): int(n) for *labels, n in json.loads(run.stdout)}
