"""Class explorer: one class, from all sides."""

from grafana_foundation_sdk.models import dashboard

from . import queries
from .board import board, variable
from .graphs import colored, dashed, graph
from .panels import heat
from .parts import (
    BAD,
    CALLS,
    CALLS_A_SECOND,
    EXPLORER,
    GOOD,
    RATIO,
    SECONDS,
    WARNING,
    Panel,
    Size,
)
from .queries import (
    CLASS,
    EXCEPTION,
    FILE,
    FUNCTION,
    PARENT_CLASS,
    RANGE,
    RESULT,
    TRACE_ID,
    Query,
    legend,
    series,
    steepest,
)
from .tables import Column, rows
from .vitals import durations, vitals

# One class, whose name is no pattern, and any functions: `Tracer("C++")` is a name, too.
_OF_CLASS = f'{CLASS}="$class"'
_MATCHERS = (_OF_CLASS, f'{FUNCTION}=~"$function"')
_STAT = Size(6, 3)
_HALF = Size(12, 9)
_THIRD = Size(8, 9)
_PROP = "$prop"
_NO_COUNTS = "no counts"
"""Said of a time that Prometheus does not know."""


def class_explorer() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        EXPLORER,
        "Hypertrace / Class explorer",
        "One class: who calls, with which props, how long it takes, what changed.",
        [
            ("", _numbers()),
            ("Calls", _calls()),
            ("Durations and exceptions", _spans()),
            ("What changed", _changes()),
            ("Props", _props()),
        ],
        variables=[
            variable(
                "class",
                "Class",
                f"label_values({series(queries.CALLS)}, {CLASS})",
                "Class of the traced objects.",
                every=False,
            ),
            variable(
                "function",
                "Function",
                f"label_values({series(queries.CALLS, _OF_CLASS)}, {FUNCTION})",
                "Functions that trace.",
                every=True,
            ),
            variable(
                "prop",
                "Prop",
                f"label_names({series(queries.CALLS, _OF_CLASS)})",
                "Labels made of allowed props; a panel each.",
                every=True,
                as_list=True,
                pattern="/.*_props_.*/",
            ),
        ],
    )


def _class(metric: str, *matchers: str) -> str:
    return series(metric, *_MATCHERS, *matchers)


def _numbers() -> list[Panel]:
    return vitals(
        *_MATCHERS,
        size=_STAT,
        calls="How often the traced lines of this class run in a second. Zero means that nothing "
        "uses it, or that its objects were made before the trace function was set.",
        errors="Share of spans that ended with an error. Orange from 1 %, red from 5 %. See the "
        "types of exceptions below.",
        duration="95 of 100 spans took no longer than this. Compare it with the p95 of a single "
        "function by choosing that function above.",
        in_progress="Spans that have started and not ended. It should come back to where it was "
        "when the load goes.",
    )


def _calls() -> list[Panel]:
    return [
        _calls_by(
            FUNCTION,
            "Calls by function",
            "Which functions of the class trace, and how often. Look for one that is called many "
            "times more often than the others.",
        ),
        _calls_by(
            FILE,
            "Calls by file",
            "Files in which the class is traced. More than one: it has subclasses, or two classes "
            "have the same name.",
        ),
        _calls_by(
            TRACE_ID,
            "Calls by id",
            "Ids given to `trace()`, which distinguish the ways through a function. Calls without "
            "an id are left out. Look for the way that should be rare and is not.",
        ),
        _calls_by(
            PARENT_CLASS,
            "Calls by class of the parent",
            "On behalf of whom: the class of the parent tracer. Calls of objects without a parent "
            "are left out.",
        ),
    ]


def _calls_by(label: str, title: str, description: str) -> Panel:
    return graph(
        title,
        description,
        steepest(_class(queries.CALLS, f'{label}!=""'), label),
        unit=CALLS_A_SECOND,
        size=_HALF,
    )


def _spans() -> list[Panel]:
    buckets, spans = _class(queries.BUCKETS), _class(queries.DURATIONS)
    return [
        heat(
            "Durations",
            "How many spans took how long; the darker, the more. Two bands are two ways through "
            "the code, such as a cache that hits and one that misses.",
            queries.total(queries.increase(buckets, queries.STEP), "le"),
            size=_HALF,
        ),
        durations(
            *_MATCHERS,
            size=_HALF,
            description="Half of the spans took up to p50, 99 of 100 up to p99. A p99 far above "
            "the rest is the few that wait: for a lock, a retry, a cold cache.",
        ),
        graph(
            "Duration by function, p95",
            "The ten functions with most spans. Look for the function that moves when the class "
            "as a whole does.",
            Query(
                queries.busiest(queries.quantile(0.95, buckets, FUNCTION), spans, FUNCTION),
                legend(FUNCTION),
            ),
            unit=SECONDS,
            size=_HALF,
        ),
        colored(
            graph(
                "Spans by result",
                "How spans end: ok, error, cancelled. Many cancelled ones mean that the callers do "
                "not wait any longer.",
                Query(queries.total(queries.rate(spans), RESULT), legend(RESULT)),
                unit=CALLS_A_SECOND,
                size=_HALF,
                stacked=True,
            ),
            {"ok": GOOD, "error": BAD, "cancelled": WARNING},
        ),
        graph(
            "Exceptions by type",
            "The ten types of exceptions that ended most spans. A type that was not there "
            "yesterday is news.",
            steepest(_class(queries.EXCEPTIONS), EXCEPTION),
            unit=CALLS_A_SECOND,
            size=Size(24, 8),
        ),
    ]


def _changes() -> list[Panel]:
    calls = _class(queries.CALLS)

    def at(offset: str) -> str:
        return queries.total(f"rate({calls}[{queries.STEP}]{offset})")

    def over(offset: str) -> str:
        return queries.total(f"increase({calls}[{RANGE}]{offset})", FUNCTION)

    now = queries.top(over(""), 50)

    def against(offset: str) -> str:
        return f"(({over('')} and {now}) / {over(offset)} - 1) or {now} * NaN"

    def missing(offset: str) -> str:
        # Draws nothing, and stands in the legend.
        return f"{at('')} * NaN unless {at(offset)}"

    compared = graph(
        "Calls now, yesterday and last week",
        "Calls of this moment beside those of the same time one day and seven days ago. Look "
        "where the full line leaves both dashed ones. Where Prometheus has no counts of that "
        "time, the legend says so.",
        Query(at(""), "now", "A"),
        Query(at(" offset 1d"), "yesterday", "B"),
        Query(at(" offset 1w"), "last week", "C"),
        Query(missing(" offset 1d"), f"yesterday: {_NO_COUNTS}", "D"),
        Query(missing(" offset 1w"), f"last week: {_NO_COUNTS}", "E"),
        unit=CALLS_A_SECOND,
        size=_HALF,
    )
    return [
        dashed(dashed(compared, "yesterday"), "last week"),
        rows(
            "Change by function",
            "Calls in this time range, and by how much that is more or less than in the same time "
            "yesterday, and last week.",
            {FUNCTION: "Function"},
            Column("Calls", now, CALLS, gauge=True),
            Column("Yesterday", against(" offset 1d"), RATIO, nothing=_NO_COUNTS),
            Column("Last week", against(" offset 1w"), RATIO, nothing=_NO_COUNTS),
            size=_HALF,
            nothing="No calls",
        ),
    ]


def _props() -> list[Panel]:
    calls = _class(queries.CALLS)
    # Series without the prop are left out, by a way that is valid PromQL if there is no prop, too.
    known = f"unless on ({_PROP}) vector(0)"
    by_prop = queries.total(queries.rate(calls), _PROP)
    ranked = queries.total(f"increase({calls}[{RANGE}] @ end())", _PROP)
    query = f"({by_prop} {known}) and {queries.top(f'({ranked} {known})')}"
    return [
        graph(
            f"Calls by {_PROP}",
            "The ten values of this prop with most calls: of the object itself (`object_props_`), "
            "of its parent (`parent_object_props_`), of the call (`caller_props_`). Look for one "
            "value that has nearly all calls.",
            Query(query, legend(_PROP)),
            unit=CALLS_A_SECOND,
            size=_THIRD,
        )
        .repeat("prop")
        .repeat_direction("h")
        .max_per_row(3)
    ]
