"""Overview: is the application well, and where does it spend its time?"""

from grafana_foundation_sdk.models import dashboard

from . import panels, queries
from .board import board
from .panels import Column, Query, Size
from .queries import CLASS, FILE, FUNCTION, series

UID = "hypertrace-overview"

_STAT = Size(4, 4)
_HALF = Size(12, 9)
_NAMES = {CLASS: "Class", FUNCTION: "Function"}


def overview() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Overview",
        "What the traced application does: how much, how fast, how well.",
        [
            ("", _numbers()),
            ("Who is called", _calls()),
            ("How it ends, and how long it takes", _spans()),
            ("Growth", _growth()),
        ],
    )


def _numbers() -> list[panels.Panel]:
    calls, buckets = series(queries.CALLS), series(queries.BUCKETS)
    return [
        panels.number(
            "Calls",
            "How often traced lines run in a second, all together. Look for a fall to zero, and "
            "for a level that is not the one of this hour on other days.",
            Query(queries.total(queries.rate(calls))),
            unit=panels.CALLS_A_SECOND,
            size=_STAT,
        ),
        panels.number(
            "Error ratio",
            "Share of spans that ended with an error; cancelled ones are none. Orange from 1 %, "
            "red from 5 %: then see which class below.",
            Query(queries.error_ratio()),
            unit=panels.RATIO,
            size=_STAT,
            limits=(0.01, 0.05),
            decimals=2,
        ),
        panels.number(
            "Duration, p95",
            "95 of 100 spans took no longer than this. It is only as fine as the buckets of the "
            "histogram. Look for steps: they come with releases and with full disks.",
            Query(queries.quantile(0.95, buckets)),
            unit=panels.SECONDS,
            size=_STAT,
        ),
        panels.number(
            "In progress",
            "Spans that have started and not ended. A number that only rises is a leak or a queue "
            "that nobody empties.",
            Query(queries.total(series(queries.IN_PROGRESS))),
            unit=panels.NUMBER,
            size=_STAT,
        ),
        panels.number(
            "Series limit used",
            "How near the fullest metric is to the limit of series (`max_series`). At 100 % new "
            "label sets are counted together in one series. See Exporter health.",
            Query(f"max({series(queries.SERIES)} / {series(queries.SERIES_LIMIT)})"),
            unit=panels.RATIO,
            size=_STAT,
            limits=(0.8, 0.95),
            decimals=1,
        ),
        panels.number(
            "Processes",
            "Processes with the exporter that answered the last scrape. Fewer than you run means "
            "that some are down, or that Prometheus does not know them.",
            Query(f"count({series(queries.BUILD)})"),
            unit=panels.NUMBER,
            size=_STAT,
            graph_behind=False,
        ),
    ]


def _calls() -> list[panels.Panel]:
    calls = series(queries.CALLS)
    return [
        panels.graph(
            "Calls by class",
            "The ten classes whose traced lines run most. Click a line to explore the class. Look "
            "for a class that leaves its usual band, or trades places with another.",
            Query(queries.busiest_rate(calls, CLASS), queries.legend(CLASS)),
            unit=panels.CALLS_A_SECOND,
            size=_HALF,
            explore=True,
        ),
        panels.graph(
            "Calls by function",
            "The ten functions whose traced lines run most. One that is called far more often "
            "than the function above it in the code is called in a loop.",
            Query(queries.busiest_rate(calls, CLASS, FUNCTION), queries.legend(CLASS, FUNCTION)),
            unit=panels.CALLS_A_SECOND,
            size=_HALF,
            explore=True,
        ),
        panels.rows(
            "Calls by file",
            "The ten files whose traced lines ran most in this time range: where to read first.",
            {FILE: "File"},
            Column(
                "Calls",
                queries.top(queries.total(queries.increase(calls), FILE)),
                panels.CALLS,
                gauge=True,
            ),
            size=_HALF,
        ),
        panels.rows(
            "Most called functions",
            "The 25 functions called most in this time range. Click a class to explore it.",
            _NAMES,
            Column(
                "Calls",
                queries.top(queries.total(queries.increase(calls), CLASS, FUNCTION), 25),
                panels.CALLS,
                gauge=True,
            ),
            size=_HALF,
        ),
    ]


def _spans() -> list[panels.Panel]:
    buckets, open_now = series(queries.BUCKETS), series(queries.IN_PROGRESS)
    durations = series(queries.DURATIONS)
    failed = series(queries.DURATIONS, f'{queries.RESULT}="error"')
    slow = queries.quantile(0.95, buckets, CLASS, FUNCTION, window=queries.RANGE)
    return [
        panels.graph(
            "Error ratio by class",
            "Share of spans that ended with an error, of the ten classes with most errors. The "
            "dashed lines are 1 % and 5 %. Look for what rises together: it has a common cause.",
            Query(
                queries.busiest(queries.error_ratio(by=(CLASS,)), failed, CLASS),
                queries.legend(CLASS),
            ),
            unit=panels.RATIO,
            size=_HALF,
            limits=(0.01, 0.05),
            explore=True,
        ),
        panels.graph(
            "Duration",
            "How long spans take: half of them up to p50, 99 of 100 up to p99. Look for p99 "
            "leaving p95 (few calls got slow) and for all moving together (something below got "
            "slow).",
            *(
                Query(queries.quantile(share, buckets), name, ref)
                for ref, share, name in (
                    ("A", 0.5, "p50"),
                    ("B", 0.95, "p95"),
                    ("C", 0.99, "p99"),
                )
            ),
            unit=panels.SECONDS,
            size=_HALF,
            logarithmic=True,
        ),
        panels.graph(
            "In progress by class",
            "Open spans of the ten classes that finish most. A line that climbs and does not come "
            "back is work that hangs.",
            Query(
                queries.busiest(queries.total(open_now, CLASS), durations, CLASS),
                queries.legend(CLASS),
            ),
            unit=panels.NUMBER,
            size=_HALF,
            explore=True,
        ),
        panels.rows(
            "Slowest functions",
            "The 25 functions with the highest p95 over this time range. Slow and often called is "
            "worth your afternoon; slow and rare may be as it should.",
            _NAMES,
            Column("p95", queries.top(f"{slow} >= 0", 25), panels.SECONDS),
            Column(
                "Spans",
                _among(
                    queries.total(queries.increase(durations), CLASS, FUNCTION),
                    queries.top(f"{slow} >= 0", 25),
                ),
                panels.NUMBER,
            ),
            size=_HALF,
        ),
    ]


def _growth() -> list[panels.Panel]:
    calls = series(queries.CALLS)
    new = f"count by ({CLASS}, {FUNCTION}) ({calls} unless {calls} offset {queries.RANGE})"
    return [
        panels.rows(
            "Label sets that grow fastest",
            "Functions with the most series that did not exist at the start of this time range: a "
            "new id or prop each. A high number here is what fills the limit; allow fewer props.",
            _NAMES,
            Column("New series", queries.top(new, 25), panels.NUMBER, gauge=True),
            size=_HALF,
        ),
        panels.graph(
            "Series by class",
            "Label sets that the counter holds, of the ten classes that have most. Steps come "
            "with releases; a slope means that a prop has no end of values.",
            Query(
                f"count by ({CLASS}) ({calls}) and "
                + queries.top(f"count by ({CLASS}) ({calls} @ end())"),
                queries.legend(CLASS),
            ),
            unit=panels.NUMBER,
            size=_HALF,
            explore=True,
        ),
    ]


def _among(expression: str, chosen: str) -> str:
    return f"{expression} and on ({CLASS}, {FUNCTION}) {chosen}"
