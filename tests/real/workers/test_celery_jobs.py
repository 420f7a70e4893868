"""Celery's tasks, measured by the integration: over all processes, each figure is the tally's."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from .job_pages import ends, page_of, send, tallied

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Start
    from .programs import Program

WORKER = (
    *(sys.executable, "-m", "celery", "--app=celery_jobs", "worker", "--queues=celery,mail"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)
ANYWHERE = ("good=20", "mail=3", "bad=5", "flaky=3", "ignored=2", "outer=3", "skipped=3")
MESSAGES = ("rejected=2", "unknown=2", "expired=2", "chord=1")
IN_PROCESSES = ("exits=2", "slow=2", "fails_at_exit=1", "lost=1", "revoke=1")
"""What ends a process of the pool, or needs one."""


@pytest.fixture(autouse=True)
def _celery(need: Any) -> None:
    need("celery")


def _agrees(program: Program, port: int) -> bool:
    """Whether the page has what the tasks have tallied, and what never became a task."""
    events = tallied(program.tally.path)
    skipped = {key for key in events if key[0] == "jobs.skipped"}
    events -= Counter(dict.fromkeys(skipped, 1_000))
    page = page_of(port)
    results = ends(events)
    # Celery has not run these.
    events += Counter({("<unknown>", "rejected"): 2, ("jobs.good", "revoked"): 2})
    counted = Counter({key: n for key, n in page.events.items() if key[1] not in _MESSAGES})
    assert counted == events
    assert page.results == results
    assert page.in_progress == 0
    # A task that another one called was in no queue, and is no entry.
    inner = events["jobs.outer", "started"]
    assert page.waits["jobs.good"] == events["jobs.good", "started"] - inner
    assert page.events["jobs.good", "received"] == events["jobs.good", "started"] - inner
    assert page.entries.total() == results.total() - inner
    assert page.events["jobs.flaky", "sent"] == events["jobs.flaky", "retried"]
    assert page.events["jobs.flaky", "received"] == events["jobs.flaky", "started"]
    assert page.waits["jobs.flaky"] == events["jobs.flaky", "started"]
    assert ("jobs.mail", "mail") in page.queues
    assert ("jobs.good", "") in page.queues
    return True


_MESSAGES = ("sent", "received")


@pytest.mark.parametrize(
    ("pool", "others"),
    [
        (["--pool=prefork", "--concurrency=3"], IN_PROCESSES),
        (["--pool=prefork", "--concurrency=3", "--max-tasks-per-child=4"], IN_PROCESSES),
        (["--pool=threads", "--concurrency=3"], ()),
        (["--pool=solo"], ()),
        (["--pool=gevent", "--concurrency=3"], ("revoke=1", "slow=1")),
    ],
    ids=["prefork", "renewed", "threads", "solo", "gevent"],
)
def test_the_page_has_what_the_tasks_tally(
    start: Start,
    redis: str,
    free_port: Callable[[], int],
    pool: list[str],
    others: tuple[str, ...],
) -> None:
    """Each task has one start and one end, however it ends, in every pool."""
    port = free_port()
    program = start(*WORKER, *pool, EXPORTER_PORT=str(port), BROKER=redis)
    program.tally.path.touch()
    sent = send(program, "celery_jobs.py", *ANYWHERE, *MESSAGES, *others, BROKER=redis)
    assert sent["jobs.good", "celery", "sent"] == 20 + 2 + 4
    assert sent["jobs.mail", "mail", "sent"] == 3
    assert sent["jobs.unknown", "celery", "sent"] == 2
    assert {event for _, _, event in sent} == {"sent"}
    assert not any(name == "jobs.skipped" for name, _, _ in sent)
    expected = (
        20
        + 3
        + 5
        + 3 * 3
        + 2
        + 3
        + 3
        + 2
        + 5
        + sum(int(other.split("=")[1]) * (2 if other.startswith("lost") else 1) for other in others)
    )

    def all_started() -> bool:
        events = tallied(program.tally.path)
        started = sum(
            n for (job, event), n in events.items() if event == "started" and "skip" not in job
        )
        assert started == expected, events
        return True

    program.wait(all_started)
    program.wait(lambda: _agrees(program, port))
    # What is counted twice, is counted later.
    send(program, "celery_jobs.py", "good=6", BROKER=redis)
    program.wait(lambda: tallied(program.tally.path)["jobs.good", "succeeded"] == 20 + 3 + 5 + 6)
    program.wait(lambda: _agrees(program, port))
