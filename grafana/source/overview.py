"""Overview: is the application well, and where does it spend its time?"""

from collections.abc import Mapping

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.dashboards import integrated

from . import queries
from .board import board
from .graphs import graph
from .panels import number
from .parts import (
    BUSY,
    CALLS,
    CALLS_A_SECOND,
    ERRORS,
    NUMBER,
    RATIO,
    SECONDS,
    Panel,
    Size,
)
from .process import CPU
from .queries import (
    CLASS,
    EACH_WORKER,
    FILE,
    FUNCTION,
    INSTANCE,
    Query,
    legend,
    rate,
    series,
    steepest,
    top,
    total,
)
from .tables import Column, rows
from .timed import Timed
from .vitals import durations

UID = "hypertrace-overview"

_STAT = Size(4, 3)
_THIRD = Size(8, 8)
_HALF = Size(12, 9)
_NAMES = {CLASS: "Class", FUNCTION: "Function"}


def overview() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Overview",
        "What the traced application does: how much, how fast, how well.",
        [
            ("", [*_numbers(), _alerts()]),
            ("What people wait for", _entries()),
            ("How much more it can do", _saturation()),
            ("Who is called", _calls()),
            ("How it ends, and how long it takes", _spans()),
            ("Growth", _growth()),
        ],
    )


ENTRIES = Timed(
    integrated.ENTRIES,
    "entries",
    f'{integrated.RESULT}="error"',
    {integrated.KIND: "Kind", integrated.ENTRY: "Name"},
)


def _numbers() -> list[Panel]:
    """Make the numbers of entries; of all spans where the application has no entries."""
    spans = series(queries.DURATIONS)
    requests = total(series(integrated.SERVER_ACTIVE), integrated.METHOD)
    jobs = total(series(integrated.JOBS_RUNNING), integrated.JOB)
    return [
        number(
            "Throughput",
            "Requests, jobs, messages and commands that end in a second; spans, where the "
            "application has no such entries. Look for a fall to zero, and for a level that is "
            "not the one of this hour on other days.",
            Query(_or(total(rate(ENTRIES.counts())), total(rate(spans)))),
            unit="suffix:/s",
            size=_STAT,
        ),
        number(
            "Error ratio",
            "Share of entries that ended with an error; cancelled ones are none. Orange from "
            "1 %, red from 5 %: then see which below.",
            Query(_or(ENTRIES.ratio(), queries.error_ratio())),
            unit=RATIO,
            size=_STAT,
            limits=ERRORS,
            decimals=2,
            nothing="none",
        ),
        number(
            "Duration, p95",
            "95 of 100 entries took no longer than this. It is only as fine as the buckets of the "
            "histogram. Look for steps: they come with releases and with full disks.",
            Query(
                _or(
                    ENTRIES.quantile(0.95),
                    f"{queries.quantile(0.95, series(queries.BUCKETS))} >= 0",
                )
            ),
            unit=SECONDS,
            size=_STAT,
            nothing="none",
        ),
        number(
            "In progress",
            "Requests and jobs that have started and not ended; spans, where the application has "
            "neither. A number that only rises is a leak or a queue that is never emptied.",
            Query(f"sum({requests} or {jobs}) or {total(series(queries.IN_PROGRESS))}"),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
        ),
        number(
            "Firing alerts",
            "Alerts of the chosen jobs that fire, by any rule of Prometheus, listed below.",
            Query(queries.or_zero(f"count({queries.firing()})")),
            unit=NUMBER,
            size=_STAT,
            limits=(1, 3),
            decimals=0,
        ),
        number(
            "Processes",
            "Processes with the exporter that answered the last scrape, and the workers that count "
            "with them. Fewer than you run means that some are down, have counted nothing yet, or "
            "that Prometheus does not know them.",
            Query(queries.processes()),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
        ),
    ]


def _or(of_entries: str, of_spans: str) -> str:
    """Ask for entries, and for spans where there have been no entries."""
    return f"{of_entries} or {of_spans} unless on () {ENTRIES.counts()}"


def _alerts() -> Panel:
    names = {
        "alertname": "Alert",
        "severity": "Severity",
        integrated.KIND: "Kind",
        integrated.ENTRY: "Name",
        CLASS: "Class",
        FUNCTION: "Function",
        INSTANCE: "Process",
        "objective": "Objective",
    }
    return rows(
        "Alerts that fire",
        "What fires now, by the rules that come with the dashboards and by yours. One cause should "
        "give one alert: of the entry that people wait for, not of each function inside it.",
        names,
        Column("Alerts", top(f"count by ({', '.join(names)}) ({queries.firing()})", 25), NUMBER),
        size=Size(24, 5),
        nothing="No alert fires",
    )


def _entries() -> list[Panel]:
    return [
        ENTRIES.rates(_HALF),
        ENTRIES.errors(_HALF),
        ENTRIES.quantiles(_HALF),
        ENTRIES.slowest(_HALF),
        ENTRIES.table(Size(24, 8)),
    ]


def _saturation() -> list[Panel]:
    busy = total(rate(series(f"{integrated.ENTRIES}_sum")), INSTANCE)
    return [
        graph(
            "CPU by worker",
            "Processors that each worker uses. Pure Python cannot use more than one at once: a "
            "worker at 1 can do no more, and what comes next waits.",
            Query(
                queries.busiest_rate(series(CPU), *EACH_WORKER), legend(*EACH_WORKER, between=" ")
            ),
            unit=NUMBER,
            label="cores",
            size=_THIRD,
            limits=BUSY,
            at_least=1,
        ),
        graph(
            "Entries at a time, by process",
            "How many entries a process works on at a time, on average: what people wait for in a "
            "second, in seconds. At the number of its workers and threads it can do no more.",
            Query(
                queries.busiest(busy, series(f"{integrated.ENTRIES}_sum"), INSTANCE),
                legend(INSTANCE),
            ),
            unit=NUMBER,
            label="entries",
            size=_THIRD,
            nothing="No entries",
        ),
        graph(
            "In progress by kind",
            "Requests, jobs and blocks of entry() that have started and not ended. A line that "
            "climbs and does not come back is work that hangs.",
            Query(queries.or_zero(total(series(integrated.SERVER_ACTIVE))), "http", "A"),
            Query(queries.or_zero(total(series(integrated.JOBS_RUNNING))), "job", "B"),
            Query(
                total(series(integrated.ENTRIES_ACTIVE), integrated.KIND), "{{kind}}, entry()", "C"
            ),
            unit=NUMBER,
            label="entries",
            whole=True,
            size=_THIRD,
            at_least=1,
        ),
    ]


def _calls() -> list[Panel]:
    return [
        _calls_by(
            "Calls by class",
            "The ten classes whose traced lines run most. Click a line to explore the class. Look "
            "for a class that leaves its usual band, or trades places with another.",
            CLASS,
        ),
        _calls_by(
            "Calls by function",
            "The ten functions whose traced lines run most. One that is called far more often "
            "than the function above it in the code is called in a loop.",
            CLASS,
            FUNCTION,
        ),
        _most_calls(
            "Calls by file",
            "The ten files whose traced lines ran most in this time range: where to read first.",
            {FILE: "File"},
            10,
        ),
        _most_calls(
            "Most called functions",
            "The 25 functions called most in this time range. Click a class to explore it.",
            _NAMES,
            25,
        ),
    ]


def _calls_by(title: str, description: str, *labels: str) -> Panel:
    return graph(
        title,
        description,
        steepest(series(queries.CALLS), *labels),
        unit=CALLS_A_SECOND,
        size=_HALF,
        explore=True,
    )


def _most_calls(title: str, description: str, names: Mapping[str, str], count: int) -> Panel:
    calls = total(queries.increase(series(queries.CALLS)), *names)
    column = Column("Calls", top(calls, count), CALLS, gauge=True)
    return rows(title, description, names, column, size=_HALF)


def _spans() -> list[Panel]:
    spans = series(queries.DURATIONS)
    failed = series(queries.DURATIONS, f'{queries.RESULT}="error"')
    open_now = total(series(queries.IN_PROGRESS), CLASS)
    slow = queries.quantile(0.95, series(queries.BUCKETS), *_NAMES, window=queries.RANGE)
    slowest = top(f"{slow} >= 0", 25)
    return [
        graph(
            "Error ratio by class",
            "Share of spans that ended with an error, of the ten classes with most errors. The "
            "dashed lines are 1 % and 5 %. Look for what rises together: it has a common cause.",
            Query(queries.busiest(queries.error_ratio(by=(CLASS,)), failed, CLASS), legend(CLASS)),
            unit=RATIO,
            size=_HALF,
            limits=ERRORS,
            explore=True,
        ),
        durations(
            title="Duration of spans",
            size=_HALF,
            description="How long spans take: half of them up to p50, 99 of 100 up to p99. Look "
            "for p99 leaving p95 (few calls got slow) and for all moving together (something below "
            "got slow).",
        ),
        graph(
            "In progress by class",
            "Open spans of the ten classes that finish most. A line that climbs and does not come "
            "back is work that hangs.",
            Query(queries.busiest(open_now, spans, CLASS), legend(CLASS)),
            unit=NUMBER,
            label="spans",
            whole=True,
            size=_HALF,
            explore=True,
        ),
        rows(
            "Slowest functions",
            "The 25 functions with the highest p95 over this time range. Slow and often called is "
            "worth your afternoon; slow and rare may be as it should.",
            _NAMES,
            Column("p95", slowest, SECONDS),
            Column(
                "Spans",
                f"{total(queries.increase(spans), *_NAMES)} and on ({', '.join(_NAMES)}) {slowest}",
                NUMBER,
            ),
            size=_HALF,
        ),
    ]


def _growth() -> list[Panel]:
    calls = series(queries.CALLS)
    new = f"count by ({CLASS}, {FUNCTION}) ({calls} unless {calls} offset {queries.RANGE})"
    return [
        rows(
            "Label sets that grow fastest",
            "Functions with the most series that did not exist at the start of this time range: a "
            "new id or prop each. A high number here is what fills the limit; allow fewer props.",
            _NAMES,
            Column("New series", top(new, 25), NUMBER, gauge=True),
            size=_HALF,
            nothing="None is new",
        ),
        graph(
            "Series by class",
            "Label sets that the counter holds, of the ten classes that have most. Steps come "
            "with releases; a slope means that a prop has no end of values.",
            Query(
                f"count by ({CLASS}) ({calls}) and " + top(f"count by ({CLASS}) ({calls} @ end())"),
                legend(CLASS),
            ),
            unit=NUMBER,
            label="series",
            whole=True,
            size=_HALF,
            explore=True,
        ),
    ]
