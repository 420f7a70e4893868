"""RQ's jobs, measured by the integration: over all processes, each figure is the tally's."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from .job_pages import ends, page_of, send, tallied
from .programs import APPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Start
    from .programs import Program

KINDS = (
    *("good=8", "bad=2", "exits=1", "flaky=2", "again=1", "slow=1", "killed=2", "method=2"),
    *("repeated=1", "unknown=2", "skipped=2", "stopped=1"),
)
STARTED = 8 + 2 + 1 + 2 * 3 + 3 + 1 + 2 + 2 + 3 + 1


@pytest.fixture(autouse=True)
def _rq(need: Any) -> None:
    need("rq")


def _agrees(program: Program, port: int) -> bool:
    """Whether the page has what the jobs have tallied."""
    events = tallied(program.tally.path)
    skipped = {key for key in events if key[0].endswith(".skipped")}
    events -= Counter(dict.fromkeys(skipped, 1_000))
    # RQ finds no function, and fails the job.
    events += Counter({("<unknown>", "started"): 2, ("<unknown>", "failed"): 2})
    page = page_of(port)
    counted = Counter({key: n for key, n in page.events.items() if key[1] != "sent"})
    assert counted == events
    assert page.results == ends(events)
    assert page.entries.total() == page.results.total()
    assert page.in_progress == 0
    waited = {job: n for (job, event), n in events.items() if event == "started"}
    assert page.waits == waited
    assert {queue for _, queue in page.queues} == {"default"}
    # The worker sends what runs again.
    assert page.events["rq_jobs.flaky", "sent"] == events["rq_jobs.flaky", "retried"]
    assert page.events["rq_jobs.again", "sent"] == events["rq_jobs.again", "retried"]
    return True


@pytest.mark.parametrize("verb", ["work", "spawn"])
def test_the_page_has_what_the_jobs_tally(
    verb: str, start: Start, redis: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Each job has one start and one end, however it ends, over the processes of all jobs."""
    port = free_port()
    shared = {"HYPERTRACE_WORKERS": str(tmp_path / "shared")} if verb == "spawn" else {}
    program = start(
        *(sys.executable, APPS / "rq_jobs.py", verb, redis), EXPORTER_PORT=str(port), **shared
    )
    program.tally.path.touch()
    sent = send(program, "rq_jobs.py", "send", redis, *KINDS)
    assert sent["rq_jobs.good", "default", "sent"] == 8 + 1
    assert sent["rq_jobs.Mailer.send", "default", "sent"] == 2
    assert sent["no_such_package.gone", "default", "sent"] == 2
    assert not any(name.endswith("skipped") for name, _, _ in sent)

    def all_started() -> bool:
        events = tallied(program.tally.path)
        started = sum(
            n for (job, event), n in events.items() if event == "started" and "skip" not in job
        )
        assert started == STARTED, events
        return True

    program.wait(all_started)
    program.wait(lambda: _agrees(program, port))
    # What is counted twice, is counted later.
    send(program, "rq_jobs.py", "send", redis, "good=3")
    program.wait(lambda: tallied(program.tally.path)["rq_jobs.good", "succeeded"] == 8 + 3 + 3)
    program.wait(lambda: _agrees(program, port))


def test_a_producer_counts_what_it_sends_revokes_and_runs(start: Start, redis: str) -> None:
    """A job that is cancelled is revoked, and one of a queue without workers runs in place."""
    program = start(sys.executable, "-c", "import time; time.sleep(60)")
    counted = send(program, "rq_jobs.py", "send", redis, "cancelled=2", "sync=1")
    assert counted == {
        ("rq_jobs.good", "idle", "sent"): 2,
        ("rq_jobs.good", "idle", "revoked"): 2,
        ("rq_jobs.bad", "sync", "sent"): 1,
        ("rq_jobs.bad", "sync", "started"): 1,
        ("rq_jobs.bad", "sync", "failed"): 1,
    }
