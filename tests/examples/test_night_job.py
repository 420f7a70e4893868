"""Job at night: always the same work, so the numbers are known."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest


@pytest.mark.parametrize("times", [0, 2])
def test_the_job_writes_what_it_did(root: Path, tmp_path: Path, times: int) -> None:
    """`python examples/night_job.py` prints a line with every call, or appends it to a file."""
    path = tmp_path / "metrics.jsonl"
    program = [sys.executable, str(root / "examples" / "night_job.py")]
    text = ""
    for command in [[*program, str(path)]] * times or [program]:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert run.stderr == ""
        assert bool(run.stdout) is not bool(times)
        text = path.read_text() if times else run.stdout
    points = [point for line in text.splitlines() for point in json.loads(line)["metrics"]]
    times = times or 1
    assert _calls(points) == {
        ("Job", "run", "sent"): 2 * times,
        ("Job", "run", "nothing owed"): times,
        ("Mailer", "send", ""): 2 * times,
    }
    failed = [point for point in points if point["name"] == "function_exceptions_total"]
    assert {point["labels"]["exception"] for point in failed} == {"MailboxFullError"}
    assert sum(point["value"] for point in failed) == times


def _calls(points: list[dict[str, object]]) -> Counter[tuple[str, ...]]:
    calls: Counter[tuple[str, ...]] = Counter()
    for point in points:
        labels = point["labels"]
        if point["name"] == "function_counter_total" and isinstance(labels, dict):
            names = "object_classname", "caller_functionname", "caller_props_outcome"
            calls[tuple(labels.get(name, "") for name in names)] += int(str(point["value"]))
    return calls
