"""Jobs: what workers do in the background."""

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.dashboards import integrated
from hypertrace_prometheus.dashboards.integrated import EVENT, JOB, QUEUE, RESULT

from . import queries
from .board import board, variable
from .graphs import colored, graph
from .panels import number
from .parts import BAD, GOOD, NUMBER, SECONDS, Panel, Size
from .queries import Query, legend, rate, series, total
from .timed import Timed, by_result

UID = "hypertrace-jobs"

_STAT = Size(4, 3)
_HALF = Size(12, 9)
_QUEUE = f'{QUEUE}=~"$queue"'

JOBS = Timed(
    integrated.JOBS,
    "jobs",
    f'{RESULT}="error"',
    {JOB: "Job", QUEUE: "Queue"},
    (_QUEUE,),
)


def jobs() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Jobs",
        "Jobs of queues: how many, how they end, how long they wait and take.",
        [
            ("", _numbers()),
            ("Jobs", _jobs()),
            ("Waiting and working", _durations()),
            ("All", [JOBS.table(Size(24, 7))]),
        ],
        variables=[
            variable(
                "queue",
                "Queue",
                f"label_values({series(f'{integrated.JOBS}_count')}, {QUEUE})",
                "Queues that jobs were taken from.",
                every=True,
            )
        ],
    )


def _waits(*by: str) -> str:
    buckets = series(f"{integrated.JOB_WAITS}_bucket", _QUEUE)
    return f"{queries.quantile(0.95, buckets, *by)} >= 0"


def _numbers() -> list[Panel]:
    retried = rate(series(integrated.JOB_EVENTS, _QUEUE, f'{EVENT}="retried"'))
    return [
        *JOBS.numbers(_STAT),
        number(
            "Wait, p95",
            "95 of 100 jobs waited no longer than this in their queue. A rise means that there "
            "are too few workers, or that the jobs have become slow.",
            Query(_waits()),
            unit=SECONDS,
            size=_STAT,
            nothing="none",
        ),
        number(
            "In progress",
            "Jobs that workers are working on. At the number of workers, the next one waits.",
            Query(total(series(integrated.JOBS_RUNNING, _QUEUE))),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
        ),
        number(
            "Retries",
            "Jobs a second that failed and are tried again. They are no errors until the last try "
            "fails, and an early sign that something they need is down.",
            Query(queries.or_zero(total(retried))),
            unit="suffix:/s",
            size=_STAT,
        ),
    ]


def _jobs() -> list[Panel]:
    events = series(integrated.JOB_EVENTS, _QUEUE)
    return [
        JOBS.rates(_HALF),
        colored(
            graph(
                "Events",
                "What happens to jobs. `sent` above `started` for long: the queue grows. "
                "`revoked` and `rejected` jobs were never done.",
                Query(queries.busiest_rate(events, EVENT), legend(EVENT)),
                unit="count:events/s",
                size=_HALF,
                nothing=JOBS.nothing,
            ),
            {"succeeded": GOOD, "failed": BAD, "retried": "purple"},
        ),
        JOBS.errors(_HALF),
        by_result(
            "Jobs by result",
            "How jobs end. Those that are retried, ignored, rejected or cancelled are no errors.",
            Query(total(rate(JOBS.counts()), RESULT), legend(RESULT)),
            unit=JOBS.unit,
            size=_HALF,
        ),
    ]


def _durations() -> list[Panel]:
    waits = series(f"{integrated.JOB_WAITS}_count", _QUEUE)
    return [
        graph(
            "Wait by queue, p95",
            "How long jobs wait before a worker takes them, where the broker says when they were "
            "sent. The ten queues with most jobs.",
            Query(queries.busiest(_waits(QUEUE), waits, QUEUE), legend(QUEUE)),
            unit=SECONDS,
            size=_HALF,
            logarithmic=True,
        ),
        graph(
            "In progress by job",
            "Jobs that workers are working on. A line that never falls is a job that hangs.",
            queries.highest(series(integrated.JOBS_RUNNING, _QUEUE), JOB),
            unit=NUMBER,
            label="jobs",
            whole=True,
            size=_HALF,
        ),
        JOBS.slowest(_HALF),
        JOBS.quantiles(_HALF),
    ]
