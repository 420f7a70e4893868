"""Overview: is the application well, and where does it spend its time?"""

from collections.abc import Mapping

from grafana_foundation_sdk.models import dashboard

from . import queries
from .board import board
from .graphs import graph
from .panels import number
from .parts import CALLS, CALLS_A_SECOND, ERRORS, FILL, NUMBER, RATIO, SECONDS, Panel, Size
from .queries import CLASS, FILE, FUNCTION, Query, legend, series, steepest, top, total
from .tables import Column, rows
from .vitals import durations, vitals

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


def _numbers() -> list[Panel]:
    return [
        *vitals(
            size=_STAT,
            calls="How often traced lines run in a second, all together. Look for a fall to zero, "
            "and for a level that is not the one of this hour on other days.",
            errors="Share of spans that ended with an error; cancelled ones are none. Orange from "
            "1 %, red from 5 %: then see which class below.",
            duration="95 of 100 spans took no longer than this. It is only as fine as the buckets "
            "of the histogram. Look for steps: they come with releases and with full disks.",
            in_progress="Spans that have started and not ended. A number that only rises is a leak "
            "or a queue that is never emptied.",
        ),
        number(
            "Series limit used",
            "How near the fullest metric is to the limit of series (`max_series`). At 100 % new "
            "label sets are counted together in one series. See Exporter health.",
            Query(queries.limit_used()),
            unit=RATIO,
            size=_STAT,
            limits=FILL,
            decimals=1,
        ),
        number(
            "Processes",
            "Processes with the exporter that answered the last scrape, and the workers that count "
            "with them. Fewer than you run means that some are down, have counted nothing yet, or "
            "that Prometheus does not know them.",
            Query(queries.processes()),
            unit=NUMBER,
            size=_STAT,
            graph_behind=False,
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
            "new id or prop each. A high number here is what fills the limit; allow fewer props. "
            "Empty: none is new.",
            _NAMES,
            Column("New series", top(new, 25), NUMBER, gauge=True),
            size=_HALF,
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
            size=_HALF,
            explore=True,
        ),
    ]
