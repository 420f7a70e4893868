"""Jobs of any queue, measured by `job()` and `count_job()`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import clear_trace_function, set_trace_function
from hypertrace._operations import current_entry
from hypertrace.integrations.jobs import OTHER, FirstValues, Jobs, count_job, job
from hypertrace.metrics import Metrics
from hypertrace.testing import reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Points = Callable[[str], dict[tuple[str, ...], float]]


def _sums(metrics: Metrics, name: str) -> dict[tuple[str, ...], tuple[int, float]]:
    """Return count and sum of a distribution by its labels."""
    points: Any = metrics.read().family(name).points
    return {point.labels: (point.value.count, point.value.sum) for point in points}


def test_a_block_is_a_job(points: Points) -> None:
    """A block is counted when it starts and ends, is timed, an entry, and in progress meanwhile."""
    with job("send_email", queue="mail"):
        assert points("jobs_in_progress") == {("send_email", "mail"): 1}
        assert points("jobs_total") == {("send_email", "mail", "started"): 1}
        assert current_entry() == "send_email"
    assert points("jobs_total") == {
        ("send_email", "mail", "started"): 1,
        ("send_email", "mail", "succeeded"): 1,
    }
    assert points("jobs_duration_seconds") == {("send_email", "mail", "ok"): 1}
    assert points("entry_duration_seconds") == {("job", "send_email", "ok"): 1}
    assert points("jobs_in_progress") == {("send_email", "mail"): 0}
    assert current_entry() == ""


@pytest.mark.parametrize(
    ("error", "result", "event"),
    [
        (ValueError(), "error", "failed"),
        (KeyboardInterrupt(), "error", "failed"),
        (SystemExit(3), "error", "failed"),
        (asyncio.CancelledError(), "cancelled", "revoked"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_exception_passes_and_the_job_is_timed(
    points: Points, error: BaseException, result: str, event: str
) -> None:
    """What leaves the block is the exception itself, and the job has ended."""
    with pytest.raises(type(error)) as caught, job("import"):
        raise error
    assert caught.value is error
    assert points("jobs_duration_seconds") == {("import", "", result): 1}
    assert points("jobs_total")["import", "", event] == 1
    assert points("jobs_in_progress") == {("import", ""): 0}


@pytest.mark.parametrize("ending", ["retried", "ignored", "rejected"])
@pytest.mark.parametrize("raises", [True, False], ids=["by an exception", "by return"])
def test_a_job_may_end_in_another_way(points: Points, ending: str, raises: bool) -> None:
    """A retry, and what is ignored or rejected, is no error, though an exception says so."""
    with suppress(ValueError), job("import") as running:
        running.end_as(ending)  # type: ignore[arg-type]
        if raises:
            raise ValueError("later")
    assert points("jobs_duration_seconds") == {("import", "", ending): 1}
    assert points("jobs_total") == {("import", "", "started"): 1, ("import", "", ending): 1}
    assert points("entry_duration_seconds") == {("job", "import", "ok"): 1}
    assert points("function_exceptions_total") == {}


def test_an_unknown_ending_is_an_error_and_raises_nothing(points: Points) -> None:
    """A word that is no ending is logged, and the job is an error."""
    with job("import") as running:
        running.end_as("finished")  # type: ignore[arg-type]
    assert points("jobs_duration_seconds") == {("import", "", "error"): 1}


def test_the_time_in_the_queue_is_what_the_caller_says(points: Points, metrics: Metrics) -> None:
    """`waited` is the time in the queue; clocks that differ make it 0 at the least."""
    with job("import", "mail", waited=2.5):
        pass
    with job("import", "mail", waited=-1):
        pass
    with job("import", "mail"):
        pass
    assert _sums(metrics, "jobs_queue_wait_seconds") == {("import", "mail"): (2, 2.5)}


def test_a_function_stays_what_it_is(points: Points) -> None:
    """Each call of a function is a job, in any thread; name, signature and result stay."""

    @job("add", queue="sums")
    def add(one: int, other: int = 1) -> int:
        """Add."""
        return one + other

    threads = [threading.Thread(target=add, args=(1,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert add(1, other=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert str(inspect.signature(add)) == "(one: 'int', other: 'int' = 1) -> 'int'"
    assert points("jobs_total")["add", "sums", "succeeded"] == 5


def test_a_coroutine_is_measured_until_it_ends(points: Points, metrics: Metrics) -> None:
    """A coroutine function stays one, many run at a time, and each is one job of its length."""

    @job("fetch")
    async def fetch(number: int) -> int:
        await asyncio.sleep(0.02)
        return number

    async def many() -> list[int]:
        return await asyncio.gather(*(fetch(number) for number in range(3)))

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(many()) == [0, 1, 2]
    (labels, (count, seconds)), *others = _sums(metrics, "jobs_duration_seconds").items()
    assert (labels, count, others) == (("fetch", "", "ok"), 3, [])
    assert seconds >= 3 * 0.02


def test_a_generator_is_no_job() -> None:
    """A generator does its work after the call, which a decorator would not measure."""

    def items() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        job("items")(items)
    with pytest.raises(TypeError, match="not callable"):
        job("items")(3)  # type: ignore[type-var]


def test_events_outside_the_run_are_counted(points: Points) -> None:
    """What happens before a job runs, or instead, is counted; an unknown event is not."""
    count_job("import", "sent", queue="mail")
    count_job("import", "revoked")
    count_job("import", "finished")  # type: ignore[arg-type]
    assert points("jobs_total") == {
        ("import", "mail", "sent"): 1,
        ("import", "", "revoked"): 1,
    }


def test_jobs_inside_each_other_are_two(points: Points) -> None:
    """A job inside a job is another one; the outer one alone is an entry."""
    with job("outer"), job("inner"):
        assert current_entry() == "outer"
    assert points("entry_duration_seconds") == {("job", "outer", "ok"): 1}
    assert points("jobs_duration_seconds") == {("outer", "", "ok"): 1, ("inner", "", "ok"): 1}


def test_while_tracing_is_off_nothing_happens(metrics: Metrics, points: Points) -> None:
    """Without a trace function, a job runs and is not counted; it is from when there is one."""
    clear_trace_function()
    with job("import", waited=1) as running:
        running.end_as("retried")
    set_trace_function(metrics)
    with job("other"):
        pass
    assert {name for name, _, _ in points("jobs_total")} == {"other"}


def test_metrics_are_declared_again_after_a_reset(metrics: Metrics) -> None:
    """Other metrics, after a reset of the process, have jobs, too."""
    with job("import"):
        pass
    reset()
    other = Metrics(workers=False)
    set_trace_function(other)
    count_job("import", "sent")
    assert other.read().family("jobs_total").values == [1]


def test_skip_is_a_list_of_patterns() -> None:
    """Patterns are texts in a list; one text would be taken for a list of letters."""
    skipping = Jobs(skip=["reports.*", "cleanup"])
    assert [skipping.is_skipped(name) for name in ("reports.daily", "cleanup", "mail")] == [
        True,
        True,
        False,
    ]
    with pytest.raises(TypeError, match="list of patterns"):
        Jobs(skip="reports.*")
    with pytest.raises(TypeError, match=r"list of patterns, .*, not None"):
        Jobs(skip=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be texts"):
        Jobs(skip=[3])  # type: ignore[list-item]


def test_values_beyond_the_first_are_one() -> None:
    """A flood of values is one value, and those before it stay."""
    values = FirstValues(2)
    assert [values.bound(text) for text in ("a", "b", "c", "a", "d")] == [
        "a",
        "b",
        OTHER,
        "a",
        OTHER,
    ]


def test_an_abandoned_job_is_open_nowhere(points: Points) -> None:
    """A job whose end another process counts leaves no end, no entry and nothing in progress."""
    running = Jobs().start("import", "mail")
    assert running is not None
    running.abandon()
    running.finish()
    assert points("jobs_total") == {("import", "mail", "started"): 1}
    assert points("jobs_in_progress") == {("import", "mail"): 0}
    assert points("function_in_progress") in ({}, {("QueuedJob", "run", "entry.job"): 0})
    assert current_entry() == ""
