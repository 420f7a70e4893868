"""Vitals: panels for the whole application and for one class alike."""

from . import queries
from .graphs import graph
from .panels import number
from .parts import CALLS_A_SECOND, ERRORS, NUMBER, RATIO, SECONDS, Panel, Size
from .queries import SHARES, Query, series


def vitals(
    *matchers: str, size: Size, calls: str, errors: str, duration: str, in_progress: str
) -> list[Panel]:
    """Make the four numbers that stand above all else.

    Args:
        matchers: of the series.
        size: of each panel.
        calls: description of the panel.
        errors: likewise.
        duration: likewise.
        in_progress: likewise.
    """
    return [
        number(
            "Calls",
            calls,
            Query(queries.total(queries.rate(series(queries.CALLS, *matchers)))),
            unit=CALLS_A_SECOND,
            size=size,
        ),
        number(
            "Error ratio",
            errors,
            Query(queries.error_ratio(*matchers)),
            unit=RATIO,
            size=size,
            limits=ERRORS,
            decimals=2,
        ),
        number(
            "Duration, p95",
            duration,
            Query(queries.quantile(0.95, series(queries.BUCKETS, *matchers))),
            unit=SECONDS,
            size=size,
        ),
        number(
            "In progress",
            in_progress,
            Query(queries.total(series(queries.IN_PROGRESS, *matchers))),
            unit=NUMBER,
            size=size,
        ),
    ]


def durations(*matchers: str, size: Size, description: str, title: str = "Duration") -> Panel:
    """Make the graph that shows how long most, nearly all, and all but the slowest spans take."""
    buckets = series(queries.BUCKETS, *matchers)
    return graph(
        title,
        description,
        *(
            Query(queries.quantile(share, buckets), name, ref)
            for ref, (name, share) in zip("ABC", SHARES.items(), strict=True)
        ),
        unit=SECONDS,
        size=size,
        logarithmic=True,
    )
