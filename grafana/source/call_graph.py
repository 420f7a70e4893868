"""Call graph: which function's spans start in which other function's."""

from grafana_foundation_sdk.models import dashboard

from . import queries
from .board import board, variable
from .graphs import graph
from .panels import net, number
from .parts import CALLS, CALLS_A_SECOND, NUMBER, RATIO, Panel, Size
from .queries import (
    CLASS,
    FROM_CLASS,
    FROM_FUNCTION,
    FUNCTION,
    TO_CLASS,
    TO_FUNCTION,
    Query,
    series,
)
from .tables import Column, rows

UID = "hypertrace-call-graph"

_ENDS = (FROM_CLASS, FROM_FUNCTION, TO_CLASS, TO_FUNCTION)
_DRAWN = 50
"""Edges in the picture: more is a ball of wool."""


def call_graph() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Call graph",
        "Who calls whom, where spans run in spans. Needs PrometheusExporter(upstream=True).",
        [
            ("", _numbers()),
            ("Who calls whom", _graphs()),
        ],
        variables=[
            variable(
                "to",
                "Called class",
                f"label_values({series(queries.EDGES)}, {TO_CLASS})",
                "Only edges that end in these classes.",
                every=True,
            )
        ],
    )


def _edges() -> str:
    return series(queries.EDGES, f'{TO_CLASS}=~"$to"')


def _numbers() -> list[Panel]:
    edges = _edges()
    return [
        number(
            "Nested spans",
            "Spans that start in another span, in a second. Zero with a busy application: the "
            "exporter was made without `upstream=True`, or no traced function calls another.",
            Query(queries.total(queries.rate(edges))),
            unit=CALLS_A_SECOND,
            size=Size(8, 3),
        ),
        number(
            "Edges",
            "Pairs of functions of which one called the other since the start. More than 50: only "
            "the busiest are drawn; choose a class above.",
            Query(f"count({queries.total(edges, *_ENDS)})"),
            unit=NUMBER,
            size=Size(8, 3),
        ),
        number(
            "Share of the busiest edge",
            "How much of all nested spans one pair of functions has. Near 100 %, a loop around "
            "one call is the whole story.",
            Query(
                f"max({queries.total(queries.rate(edges), *_ENDS)}) / "
                f"{queries.total(queries.rate(edges))}"
            ),
            unit=RATIO,
            size=Size(8, 3),
            decimals=1,
        ),
    ]


def _graphs() -> list[Panel]:
    edges = _edges()
    hottest = queries.top(queries.total(queries.increase(edges), *_ENDS), _DRAWN)
    every = queries.total(queries.increase(edges))
    rate = queries.total(queries.rate(edges, queries.RANGE), *_ENDS)
    drawn = queries.top(rate, _DRAWN)
    return [
        net(
            "Call graph",
            "The 50 busiest pairs of functions in this time range. A box is a function, with how "
            "often it runs; an arrow goes from caller to callee. Look for arrows that should not "
            "be there, and for a thin arrow that becomes a thick one: calls in a loop.",
            _nodes(drawn),
            _arrows(drawn),
            size=Size(24, 16),
        ),
        rows(
            "Hot edges",
            "The 50 pairs of functions with most calls in this time range, and the share that "
            "each has of all.",
            {
                FROM_CLASS: "From class",
                FROM_FUNCTION: "From function",
                TO_CLASS: "To class",
                TO_FUNCTION: "To function",
            },
            Column("Calls", hottest, CALLS, gauge=True),
            Column("Share", f"{hottest} / scalar({every})", RATIO),
            size=Size(24, 9),
        ),
        graph(
            "Hottest edges over time",
            "The ten pairs of functions with most calls. Edges that rise while the calls of the "
            "application do not are new loops.",
            Query(
                queries.busiest_rate(edges, *_ENDS),
                f"{queries.legend(FROM_CLASS, FROM_FUNCTION)} → "
                f"{queries.legend(TO_CLASS, TO_FUNCTION)}",
            ),
            unit=CALLS_A_SECOND,
            size=Size(24, 9),
        ),
    ]


def _nodes(edges: str) -> str:
    ends = " or ".join(
        _node(f"0 * {edges}", *names)
        for names in ((FROM_CLASS, FROM_FUNCTION), (TO_CLASS, TO_FUNCTION))
    )
    spans = queries.rate(series(queries.DURATIONS), queries.RANGE)
    functions = _node(queries.total(spans, CLASS, FUNCTION), CLASS, FUNCTION)
    # A span that has not ended yet may call others: the picture needs its box, too.
    return f"({functions} and on (id) ({ends})) or {ends}"


def _node(edges: str, class_name: str, function: str) -> str:
    named = _joined(edges, "id", class_name, function)
    named = _joined(named, "title", function)
    named = _joined(named, "subtitle", class_name)
    return queries.total(named, "id", "title", "subtitle")


def _arrows(edges: str) -> str:
    named = _joined(edges, "source", FROM_CLASS, FROM_FUNCTION)
    named = _joined(named, "target", TO_CLASS, TO_FUNCTION)
    return queries.total(_joined(named, "id", *_ENDS), "id", "source", "target")


def _joined(expression: str, name: str, *parts: str) -> str:
    quoted = ", ".join(f'"{part}"' for part in parts)
    return f'label_join({expression}, "{name}", ".", {quoted})'
