"""Class explorer: one class, from all sides."""

from grafana_foundation_sdk.models import dashboard

from . import panels, queries
from .board import board, variable
from .panels import EXPLORER, Column, Query, Size
from .queries import CLASS, EXCEPTION, FILE, FUNCTION, PARENT_CLASS, RANGE, RESULT, TRACE_ID

_MATCHERS = (f'{CLASS}=~"$class"', f'{FUNCTION}=~"$function"')
_STAT = Size(6, 4)
_HALF = Size(12, 9)
_THIRD = Size(8, 9)
_PROP = "$prop"


def class_explorer() -> dashboard.Dashboard:
    """Make the dashboard."""
    of_class = f'{CLASS}=~"$class"'
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
                f"label_values({_of(queries.CALLS)}, {CLASS})",
                "Class of the traced objects.",
                every=False,
            ),
            variable(
                "function",
                "Function",
                f"label_values({_of(queries.CALLS, of_class)}, {FUNCTION})",
                "Functions that trace.",
                every=True,
            ),
            variable(
                "prop",
                "Prop",
                f"label_names({_of(queries.CALLS, of_class)})",
                "Labels made of allowed props; a panel each.",
                every=True,
                as_list=True,
                pattern="/.*_props_.*/",
            ),
        ],
    )


def _of(metric: str, *matchers: str) -> str:
    return queries.series(metric, *matchers)


def _class(metric: str, *matchers: str) -> str:
    return queries.series(metric, *_MATCHERS, *matchers)


def _numbers() -> list[panels.Panel]:
    return [
        panels.number(
            "Calls",
            "How often the traced lines of this class run in a second. Zero means that nothing "
            "uses it, or that its objects were made before the trace function was set.",
            Query(queries.total(queries.rate(_class(queries.CALLS)))),
            unit=panels.CALLS_A_SECOND,
            size=_STAT,
        ),
        panels.number(
            "Error ratio",
            "Share of spans that ended with an error. Orange from 1 %, red from 5 %. See the "
            "types of exceptions below.",
            Query(queries.error_ratio(*_MATCHERS)),
            unit=panels.RATIO,
            size=_STAT,
            limits=(0.01, 0.05),
            decimals=2,
        ),
        panels.number(
            "Duration, p95",
            "95 of 100 spans took no longer than this. Compare it with the p95 of a single "
            "function by choosing that function above.",
            Query(queries.quantile(0.95, _class(queries.BUCKETS))),
            unit=panels.SECONDS,
            size=_STAT,
        ),
        panels.number(
            "In progress",
            "Spans that have started and not ended. It should come back to where it was when the "
            "load goes.",
            Query(queries.total(_class(queries.IN_PROGRESS))),
            unit=panels.NUMBER,
            size=_STAT,
        ),
    ]


def _calls() -> list[panels.Panel]:
    return [
        _calls_by(
            FUNCTION,
            "Calls by function",
            "Which functions of the class trace, and how often. Look for one that is called many "
            "times more often than the others.",
            _HALF,
        ),
        _calls_by(
            FILE,
            "Calls by file",
            "Files in which the class is traced. More than one: it has subclasses, or two classes "
            "have the same name.",
            _HALF,
        ),
        _calls_by(
            TRACE_ID,
            "Calls by id",
            "Ids given to `trace()`, which tell apart the ways through a function. Calls without "
            "an id are left out. Look for the way that should be rare and is not.",
            _HALF,
        ),
        _calls_by(
            PARENT_CLASS,
            "Calls by class of the parent",
            "On behalf of whom: the class of the parent tracer. Calls of objects without a parent "
            "are left out.",
            _HALF,
        ),
    ]


def _calls_by(label: str, title: str, description: str, size: Size) -> panels.Panel:
    calls = _class(queries.CALLS, f'{label}!=""')
    return panels.graph(
        title,
        description,
        Query(queries.busiest_rate(calls, label), queries.legend(label)),
        unit=panels.CALLS_A_SECOND,
        size=size,
        legend_below=label == FILE,
    )


def _spans() -> list[panels.Panel]:
    buckets, durations = _class(queries.BUCKETS), _class(queries.DURATIONS)
    return [
        panels.heat(
            "Durations",
            "How many spans took how long; the darker, the more. Two bands are two ways through "
            "the code, such as a cache that hits and one that misses.",
            queries.total(queries.increase(buckets, queries.STEP), "le"),
            size=_HALF,
        ),
        panels.graph(
            "Duration",
            "Half of the spans took up to p50, 99 of 100 up to p99. A p99 far above the rest is "
            "the few that wait: for a lock, a retry, a cold cache.",
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
            "Duration by function, p95",
            "The ten functions with most spans. Look for the function that moves when the class "
            "as a whole does.",
            Query(
                queries.busiest(queries.quantile(0.95, buckets, FUNCTION), durations, FUNCTION),
                queries.legend(FUNCTION),
            ),
            unit=panels.SECONDS,
            size=_HALF,
        ),
        panels.colored(
            panels.graph(
                "Spans by result",
                "How spans end: ok, error, cancelled. Many cancelled ones mean that the callers do "
                "not wait any longer.",
                Query(queries.total(queries.rate(durations), RESULT), queries.legend(RESULT)),
                unit=panels.CALLS_A_SECOND,
                size=_HALF,
                stacked=True,
            ),
            {"ok": panels.GOOD, "error": panels.BAD, "cancelled": panels.WARNING},
        ),
        panels.graph(
            "Exceptions by type",
            "The ten types of exceptions that ended most spans. A type that was not there "
            "yesterday is news.",
            Query(
                queries.busiest_rate(_class(queries.EXCEPTIONS), EXCEPTION),
                queries.legend(EXCEPTION),
            ),
            unit=panels.CALLS_A_SECOND,
            size=Size(24, 8),
        ),
    ]


def _changes() -> list[panels.Panel]:
    calls = _class(queries.CALLS)

    def at(offset: str) -> str:
        return queries.total(f"rate({calls}[{queries.STEP}]{offset})")

    def over(offset: str) -> str:
        return queries.total(f"increase({calls}[{RANGE}]{offset})", FUNCTION)

    now = queries.top(over(""), 50)

    def against(offset: str) -> str:
        return f"(({over('')} and {now}) / {over(offset)} - 1)"

    graph = panels.graph(
        "Calls now, yesterday and last week",
        "Calls of this moment beside those of the same time one day and seven days ago. Look "
        "where the full line leaves both dashed ones.",
        Query(at(""), "now", "A"),
        Query(at(" offset 1d"), "yesterday", "B"),
        Query(at(" offset 1w"), "last week", "C"),
        unit=panels.CALLS_A_SECOND,
        size=_HALF,
    )
    return [
        panels.dashed(panels.dashed(graph, "yesterday"), "last week"),
        panels.rows(
            "Change by function",
            "Calls in this time range, and by how much that is more or less than in the same time "
            "yesterday and last week. Empty: Prometheus has no counts of that time.",
            {FUNCTION: "Function"},
            Column("Calls", now, panels.CALLS, gauge=True),
            Column("Against yesterday", against(" offset 1d"), panels.RATIO),
            Column("Against last week", against(" offset 1w"), panels.RATIO),
            size=_HALF,
        ),
    ]


def _props() -> list[panels.Panel]:
    calls = _class(queries.CALLS)
    # Series without the prop are left out, by a way that is valid PromQL if there is no prop, too.
    known = f"unless on ({_PROP}) vector(0)"
    by_prop = queries.total(queries.rate(calls), _PROP)
    ranked = queries.total(f"increase({calls}[{RANGE}] @ end())", _PROP)
    query = f"({by_prop} {known}) and {queries.top(f'({ranked} {known})')}"
    return [
        panels.graph(
            f"Calls by {_PROP}",
            "The ten values of this prop with most calls: of the object itself (`object_props_`), "
            "of its parent (`parent_object_props_`), of the call (`caller_props_`). Look for one "
            "value that has nearly all calls.",
            Query(query, f"{{{{{_PROP}}}}}"),
            unit=panels.CALLS_A_SECOND,
            size=_THIRD,
        )
        .repeat("prop")
        .repeat_direction("h")
        .max_per_row(3)
    ]
