"""Outgoing calls: what the application asks other servers."""

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.dashboards import integrated
from hypertrace_prometheus.dashboards.integrated import ADDRESS, ERROR, METHOD, PORT, STATUS

from . import queries
from .board import board, variable
from .graphs import graph
from .panels import number
from .parts import NUMBER, SECONDS, Panel, Size
from .queries import Query, legend, series
from .timed import Timed

UID = "hypertrace-outgoing-calls"

_STAT = Size(4, 3)
_HALF = Size(12, 9)
_THIRD = Size(8, 9)
_SERVER = f'{ADDRESS}=~"$server"'

REQUESTS = Timed(
    integrated.CLIENT_REQUESTS,
    "calls",
    f'{ERROR}!=""',
    {ADDRESS: "Server", PORT: "Port"},
    (_SERVER,),
    between=":",
    more={METHOD: "Method"},
)


def http_clients() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Outgoing calls",
        "HTTP requests to other servers: how many, how well, how fast, and where time goes.",
        [
            ("", _numbers()),
            ("Calls", _calls()),
            ("Durations", _durations()),
            ("All", [REQUESTS.table(Size(24, 7))]),
        ],
        variables=[
            variable(
                "server",
                "Server",
                f"label_values({series(f'{integrated.CLIENT_REQUESTS}_count')}, {ADDRESS})",
                "Hosts that are called.",
                every=True,
            )
        ],
    )


def _numbers() -> list[Panel]:
    return [
        *REQUESTS.numbers(_STAT),
        number(
            "Servers",
            "Hosts and ports that were called. Beyond a bound, all others are one.",
            Query(f"count({queries.total(REQUESTS.counts(), ADDRESS, PORT)})"),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
        ),
        number(
            "Active calls",
            "Calls that are under way. A number that only rises is a server that does not answer, "
            "and a call without a time-out.",
            Query(queries.total(series(integrated.CLIENT_ACTIVE, _SERVER))),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
        ),
        number(
            "Calls for each entry",
            "How many calls there are for each request, job or command, on average. A step upward "
            "is a loop that asks for one thing at a time.",
            Query(queries.for_each_entry(REQUESTS.counts())),
            unit=NUMBER,
            size=_STAT,
            decimals=1,
            nothing="none",
        ),
    ]


def _calls() -> list[Panel]:
    return [
        REQUESTS.rates(_HALF),
        REQUESTS.errors(_HALF),
        REQUESTS.by_reason(
            "Failures by reason",
            "The exception that ended a call, as a time-out, a refused connection, a name that is "
            "not found, or the status of the answer.",
            ERROR,
            _THIRD,
        ),
        graph(
            "Answers by status",
            "The ten statuses that are most frequent. 429 and 503 ask for fewer calls.",
            Query(queries.busiest_rate(REQUESTS.counts(f'{STATUS}!=""'), STATUS), legend(STATUS)),
            unit=REQUESTS.unit,
            size=_THIRD,
            stacked=True,
            nothing=REQUESTS.nothing,
        ),
        graph(
            "Active calls by server",
            "Calls that are under way. A line that climbs while calls do not is a server that "
            "has become slow.",
            queries.highest(series(integrated.CLIENT_ACTIVE, _SERVER), ADDRESS),
            unit=NUMBER,
            label="calls",
            whole=True,
            size=_THIRD,
        ),
    ]


def _durations() -> list[Panel]:
    return [
        REQUESTS.slowest(_HALF),
        REQUESTS.quantiles(_HALF),
        _part(
            "Connect, p95",
            "How long it takes to connect, with TLS where there is some, by server. Lines for "
            "each call mean that connections are not kept: use one client for all.",
            integrated.CONNECTS,
        ),
        _part(
            "Name look-up, p95",
            "How long the resolver takes to find the address, by server. Steps of 5 s are a name "
            "server that does not answer.",
            integrated.LOOKUPS,
        ),
    ]


def _part(title: str, description: str, metric: str) -> Panel:
    buckets, counts = (series(f"{metric}{end}", _SERVER) for end in ("_bucket", "_count"))
    by_server = f"{queries.quantile(0.95, buckets, ADDRESS)} >= 0"
    return graph(
        title,
        description,
        Query(queries.busiest(by_server, counts, ADDRESS), legend(ADDRESS)),
        unit=SECONDS,
        size=_HALF,
        logarithmic=True,
    )
