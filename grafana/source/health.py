"""Exporter health: does tracing itself fare well?"""

from grafana_foundation_sdk.models import dashboard

from . import queries
from .board import board
from .graphs import graph
from .panels import bars, number, states
from .parts import BAD, CALLS_A_SECOND, FILL, GOOD, NUMBER, RATIO, SECONDS, Limits, Panel, Size
from .queries import (
    CLASS,
    COLLECTOR,
    EXPORTER,
    INSTANCE,
    METRIC,
    Query,
    by_process,
    legend,
    rate,
    series,
    steepest,
    top,
    total,
)
from .tables import Column, rows

UID = "hypertrace-health"

# Prometheus writes these about each target.
UP = "up"
SCRAPE_SECONDS = "scrape_duration_seconds"
SCRAPE_SAMPLES = "scrape_samples_scraped"
SERIES_ADDED = "scrape_series_added"

_STAT = Size(4, 3)
_METRICS = 5
"""Metrics in a graph: their names are long."""
_HALF = Size(12, 8)
_THIRD = Size(8, 8)


def health() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Exporter health",
        "Whether the counts on the other dashboards can be trusted, and what they cost.",
        [
            ("", _numbers()),
            ("Series", _series()),
            ("What went wrong", _losses()),
            ("Scrapes", _scrapes()),
            ("Exporters that push", _pushes()),
        ],
    )


def _numbers() -> list[Panel]:
    return [
        number(
            "Series limit used",
            "How near the fullest metric of any process is to `max_series`. From 80 % on, see "
            "which class has most series, and allow fewer props or ids there.",
            Query(queries.limit_used()),
            unit=RATIO,
            size=_STAT,
            limits=FILL,
            decimals=1,
        ),
        _count(
            "Overflowed updates",
            "Counts of this time range that went into the overflow series, since the limit was "
            "reached. Totals are still right; single lines are too low.",
            _risen(queries.OVERFLOWED),
            limits=(1, 1000),
        ),
        _count(
            "Swallowed errors",
            "Errors inside tracing in this time range, which the application was spared. Each "
            "kind is logged with its traceback by the logger `hypertrace`.",
            _risen(queries.SWALLOWED),
            limits=(1, 100),
        ),
        _count(
            "Failed collections",
            "How often in this time range one of the collectors on the registry raised, hung or "
            "repeated a series, so that its metrics are missing. See below which.",
            # Until a collector fails, there is no series.
            queries.or_zero(_risen(queries.FAILED)),
            limits=(1, 100),
        ),
        _count(
            "Dropped events",
            "Events of this time range that tracing itself caused and that are not counted, as of "
            "a trace function that runs in traced code. No fault; but counts of such code are too "
            "low by as much.",
            _risen(queries.DROPPED),
        ),
        number(
            "Slowest scrape",
            "How long Prometheus waited for the slowest target. It must stay below the scrape "
            "timeout, 10 s by default, or the target counts as down.",
            Query(f"max({series(SCRAPE_SECONDS)})"),
            unit=SECONDS,
            size=_STAT,
            limits=(1, 5),
        ),
    ]


def _steepest(metric: str, label: str) -> Query:
    """A line for each of those whose counter rose most, or one of 0."""
    selected = series(metric)
    lines = queries.busiest_rate(selected, label)
    return Query(queries.or_zero(lines, label, selected), legend(label))


def _risen(metric: str) -> str:
    return total(queries.increase(series(metric)))


def _count(title: str, description: str, expression: str, limits: Limits | None = None) -> Panel:
    query = Query(expression)
    return number(title, description, query, unit=NUMBER, size=_STAT, limits=limits, decimals=0)


def _series() -> list[Panel]:
    calls = series(queries.CALLS)
    return [
        graph(
            "Series limit used, by metric",
            "The fullest process of the five fullest metrics. A slope shows when it will be full; "
            "a jump came with the release of that hour.",
            Query(
                f"{queries.limit_used(METRIC)} and "
                + top(queries.limit_used(METRIC, at="@ end()"), _METRICS),
                legend(METRIC),
            ),
            unit=RATIO,
            size=_THIRD,
            limits=FILL,
        ),
        graph(
            "Series held",
            "Label sets of the five largest metrics, of all processes together: what Prometheus "
            "has to keep. A histogram has some fifteen lines for each of them.",
            Query(queries.largest(series(queries.SERIES), METRIC, count=_METRICS), legend(METRIC)),
            unit=NUMBER,
            label="series",
            whole=True,
            size=_THIRD,
            stacked=True,
        ),
        bars(
            "Series by class",
            "The ten classes with most series of the counter. The first one is where to look if "
            "the limit is near.",
            Query(top(f"count by ({CLASS}) ({calls})"), legend(CLASS)),
            unit=NUMBER,
            size=_THIRD,
            explore=True,
        ),
    ]


def _losses() -> list[Panel]:
    return [
        graph(
            "Overflowed updates",
            "Updates in a second that found no room for their own series. Should be zero, always.",
            Query(
                queries.busiest_rate(series(queries.OVERFLOWED), METRIC, count=_METRICS),
                legend(METRIC),
            ),
            unit=CALLS_A_SECOND,
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Swallowed errors",
            "Errors inside tracing, by process. One process with errors where the others have "
            "none has another version, or another configuration.",
            steepest(series(queries.SWALLOWED), INSTANCE),
            unit="count:errors/s",
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Invalid values, by metric",
            "Values in a second that a declared metric could not record: texts, NaN, infinity, or "
            "negative ones in a sum. Look at the prop that is its `value`.",
            _steepest(queries.INVALID, METRIC),
            unit="count:values/s",
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Failed collections, by collector",
            "Which collectors of the registry fail. One that fails at every scrape is broken or "
            "hangs: the logger `hypertrace_prometheus` says where.",
            _steepest(queries.FAILED, COLLECTOR),
            unit="count:failures/s",
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Dropped handler events",
            "Events in a second that handlers with a queue lost, by process: the queue was full, "
            "or the handler was detached by its error. Make the function faster, or the "
            "queue longer.",
            steepest(series(queries.UNQUEUED), INSTANCE),
            unit="count:events/s",
            size=_THIRD,
            at_least=1,
        ),
        bars(
            "Silent tracers by class",
            "Tracers that were made before the trace function was set, and so count nothing. Call "
            "`set_trace_function()` before objects of these classes are made.",
            Query(queries.or_zero(top(total(series(queries.SILENT), CLASS)), CLASS), legend(CLASS)),
            unit=NUMBER,
            size=_THIRD,
        ),
    ]


def _scrapes() -> list[Panel]:
    return [
        states(
            "Answers",
            "Whether each process answered its scrapes. A gap is a process that was down or too "
            "busy; counts of that time are not lost, they come with the next answer.",
            Query(
                # Those that are down come first.
                f"{series(UP)} and bottomk(20, {series(UP)} @ end())",
                legend(INSTANCE),
            ),
            [("1", "up", GOOD), ("0", "down", BAD)],
            size=_THIRD,
        ),
        graph(
            "Scrape duration",
            "How long the ten slowest processes take for a scrape. It grows with the series; far "
            "more than 10 µs a line means a process that is starved of CPU.",
            by_process(SCRAPE_SECONDS),
            unit=SECONDS,
            size=_THIRD,
        ),
        graph(
            "Scrape size",
            "Lines in the answers of the ten processes with most. Each is kept by Prometheus at "
            "every scrape.",
            by_process(SCRAPE_SAMPLES),
            unit="count:lines",
            size=_THIRD,
        ),
        graph(
            "New series",
            "Lines that Prometheus saw for the first time. After the start of a process it should "
            "go to zero; if it does not, a label has ever new values.",
            by_process(SERIES_ADDED),
            unit="count:lines",
            size=_HALF,
            at_least=1,
        ),
        rows(
            "Versions",
            "Which hypertrace and which Python runs where. More than one version for long: a "
            "process that was left out of an upgrade.",
            {INSTANCE: "Process", "version": "hypertrace", "python": "Python"},
            Column(
                "Exporters",
                top(f"count by ({INSTANCE}, version, python) ({series(queries.BUILD)})", 100),
                NUMBER,
            ),
            size=_HALF,
        ),
    ]


def _pushes() -> list[Panel]:
    return [
        rows(
            "Exporters",
            "A row for each exporter that pushes. The one that has succeeded "
            "least recently is on top. Where workers share their counts, one of them sends for "
            "all, and this is the sum of those that did.",
            {INSTANCE: "Process", EXPORTER: "Exporter"},
            Column("Since the last success", _of_exporter(_age()), SECONDS),
            Column("Readings", _of_exporter(_a_second(queries.EXPORTS_SENT)), "count:readings/s"),
            Column("Failures", _of_exporter(_a_second(queries.EXPORTS_FAILED)), "count:failures/s"),
            Column("Given up", _of_exporter(_a_second(queries.EXPORTS_DROPPED)), "count:lines/s"),
            Column("Bytes", _of_exporter(_a_second(queries.EXPORTS_BYTES)), "Bps"),
            Column("Time spent", _of_exporter(_a_second(queries.EXPORTS_SECONDS)), RATIO),
            size=Size(24, 6),
            nothing="No exporter pushes",
        ),
        graph(
            "Time since the last success, by exporter",
            "Should stay below the interval of the exporter, 10 s by default. A slope is a "
            "receiver that is down, refuses, or hangs: the logger `hypertrace.exporters` has the "
            "reason. Counts of that time are not lost, they come with the next success.",
            Query(f"max by ({EXPORTER}) ({_age()})", legend(EXPORTER)),
            unit=SECONDS,
            size=_THIRD,
            limits=(60, 600),
            nothing="No exporter pushes",
        ),
        graph(
            "Failed attempts, by exporter",
            "Attempts to send in a second that failed. Each one is repeated, ever more rarely, "
            "with what came in meanwhile.",
            _steepest(queries.EXPORTS_FAILED, EXPORTER),
            unit="count:failures/s",
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Given up, by exporter",
            "Lines, points and events in a second that no attempt will send: the receiver refused "
            "them, they were too long, or a queue of events was full. These counts are lost there.",
            _steepest(queries.EXPORTS_DROPPED, EXPORTER),
            unit="count:lines/s",
            size=_THIRD,
            at_least=1,
        ),
    ]


def _of_exporter(expression: str) -> str:
    return top(f"max by ({INSTANCE}, {EXPORTER}) ({expression})", 100)


def _a_second(metric: str) -> str:
    return rate(series(metric))


def _age() -> str:
    return f"time() - {series(queries.EXPORTS_LAST_SUCCESS)}"
