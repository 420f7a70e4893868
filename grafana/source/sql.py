"""SQL: what the application asks its databases, and which models it changes."""

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.dashboards import integrated
from hypertrace_prometheus.dashboards.integrated import (
    ACTION,
    APP,
    ERROR,
    MODEL,
    OPERATION,
    POOL,
    STATE,
    SYSTEM,
    TABLE,
)

from . import queries
from .board import board, variable
from .graphs import graph
from .panels import number
from .parts import NUMBER, SECONDS, Panel, Size
from .queries import Query, legend, rate, series, total
from .tables import Column, rows
from .timed import Timed

UID = "hypertrace-sql"

_STAT = Size(6, 3)
_HALF = Size(12, 9)
_THIRD = Size(8, 8)
_NO_POOL = "No pool of connections"
_NO_MODELS = "No model has changed"
_SYSTEM = f'{SYSTEM}=~"$system"'

QUERIES = Timed(
    integrated.QUERIES,
    "queries",
    f'{ERROR}!=""',
    {OPERATION: "Operation", TABLE: "Table"},
    (_SYSTEM,),
)


def sql() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / SQL",
        "Queries to databases by operation and table, the pool of connections, and models.",
        [
            ("", _numbers()),
            ("Queries", _queries()),
            ("Durations", [QUERIES.slowest(_HALF), QUERIES.quantiles(_HALF)]),
            ("Connections", _connections()),
            ("Models", _models()),
            ("All", [QUERIES.table(Size(24, 7))]),
        ],
        variables=[
            variable(
                "system",
                "Database",
                f"label_values({series(f'{integrated.QUERIES}_count')}, {SYSTEM})",
                "Kinds of databases.",
                every=True,
            )
        ],
    )


def _pool_waits(*by: str) -> str:
    buckets = series(f"{integrated.POOL_WAITS}_bucket")
    return f"{queries.quantile(0.95, buckets, *by)} >= 0"


def _numbers() -> list[Panel]:
    return [
        *QUERIES.numbers(_STAT),
        number(
            "Wait for a connection, p95",
            "95 of 100 times a connection came out of the pool no later than this. More than some "
            "milliseconds: the pool is too small, or queries hold connections for too long.",
            Query(_pool_waits()),
            unit=SECONDS,
            size=_STAT,
            limits=(0.05, 0.5),
            nothing="none",
        ),
    ]


def _queries() -> list[Panel]:
    returned, affected = (
        series(metric, _SYSTEM) for metric in (integrated.RETURNED, integrated.AFFECTED)
    )
    return [
        QUERIES.rates(_HALF),
        QUERIES.errors(_HALF),
        QUERIES.by_reason(
            "Failures by reason",
            "The exception of the driver. Time-outs and locks come with load, others with a "
            "release.",
            ERROR,
            _THIRD,
        ),
        graph(
            "Queries for each entry",
            "How many queries there are for each request, job or command, on average. A step "
            "upward is a loop that asks for one row at a time.",
            Query(queries.for_each_entry(QUERIES.counts()), "queries for each entry"),
            unit=NUMBER,
            label="queries",
            size=_THIRD,
            nothing="No entries",
        ),
        graph(
            "Rows",
            "Rows that were read, and that were written. Many read for each query are filtered "
            "where they should not be: in Python.",
            Query(total(rate(returned)), "read", "A"),
            Query(total(rate(affected)), "written", "B"),
            unit="count:rows/s",
            size=_THIRD,
            nothing="No driver counts rows",
        ),
    ]


def _connections() -> list[Panel]:
    waits = series(f"{integrated.POOL_WAITS}_count")
    return [
        graph(
            "Connections by state",
            "Connections of each pool, in use and idle. All in use for long: the next query waits.",
            queries.highest(series(integrated.POOLED), POOL, STATE),
            unit=NUMBER,
            label="connections",
            whole=True,
            size=_THIRD,
        ),
        graph(
            "Waiting for a connection",
            "Requests that wait for a connection now. Above zero for long: the pool is too small, "
            "or queries hold connections for too long.",
            queries.highest(series(integrated.POOL_PENDING), POOL),
            unit=NUMBER,
            label="requests",
            whole=True,
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Wait for a connection by pool, p95",
            "How long it takes until a pool gives a connection: the time to connect where it has "
            "none idle, and the wait for another query where it is exhausted.",
            Query(queries.busiest(_pool_waits(POOL), waits, POOL), legend(POOL)),
            unit=SECONDS,
            size=_THIRD,
            logarithmic=True,
        ),
    ]


def _models() -> list[Panel]:
    names = {APP: "Application", MODEL: "Model", ACTION: "Action"}
    changes = series(integrated.MODELS)
    return [
        graph(
            "Models by action",
            "Instances that are created, updated and deleted, the ten most frequent. It is what "
            "the business does: look for orders that stop.",
            Query(queries.busiest_rate(changes, MODEL, ACTION), legend(MODEL, ACTION, between=" ")),
            unit="count:instances/s",
            size=_HALF,
            nothing=_NO_MODELS,
        ),
        rows(
            "Models",
            "How many instances were created, updated and deleted in this time range.",
            names,
            Column(
                "Instances",
                queries.top(total(queries.increase(changes), *names), 25),
                NUMBER,
                gauge=True,
            ),
            size=_HALF,
            nothing=_NO_MODELS,
        ),
    ]
