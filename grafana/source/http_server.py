"""HTTP: the requests that the application answers."""

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.dashboards import integrated
from hypertrace_prometheus.dashboards.integrated import (
    DIRECTION,
    ERROR,
    MESSAGE,
    METHOD,
    ROUTE,
    STATUS,
)

from . import queries
from .board import board, variable
from .graphs import colored, graph
from .panels import number
from .parts import BAD, GOOD, NUMBER, RATIO, SECONDS, Panel, Size
from .queries import Query, legend, rate, series, total
from .timed import Timed

UID = "hypertrace-http"
_NO_SOCKETS = "No WebSockets"

_STAT = Size(4, 3)
_HALF = Size(12, 9)
_THIRD = Size(8, 8)
_CLASS_OF_STATUS = "class"
_COLORS = {"1xx": "blue", "2xx": GOOD, "3xx": "blue", "4xx": "yellow", "5xx": BAD}

REQUESTS = Timed(
    integrated.SERVER_REQUESTS,
    "requests",
    f'{ERROR}!=""',
    {METHOD: "Method", ROUTE: "Route"},
    (f'{ROUTE}=~"$route"',),
)


MESSAGES = Timed(
    integrated.MESSAGES,
    "messages",
    f'{ERROR}!=""',
    {ROUTE: "Route", MESSAGE: "Event"},
    (f'{ROUTE}=~"$route"',),
)


def http_server() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / HTTP",
        "The requests that the application answers, by route: how many, how well, how fast.",
        [
            ("", _numbers()),
            ("Requests", _requests()),
            ("Durations", [REQUESTS.heat(_HALF), REQUESTS.quantiles(_HALF)]),
            ("Routes", [*_routes(), REQUESTS.table(Size(24, 9))]),
            ("WebSockets", _messages()),
        ],
        variables=[
            variable(
                "route",
                "Route",
                f"label_values({series(f'{integrated.SERVER_REQUESTS}_count')}, {ROUTE})",
                "Routes as the application declares them; those that match none are one.",
                every=True,
            )
        ],
    )


def _numbers() -> list[Panel]:
    return [
        *REQUESTS.numbers(_STAT),
        number(
            "Active requests",
            "Requests that are being answered. At the number of workers times their threads, the "
            "next one waits.",
            Query(total(series(integrated.SERVER_ACTIVE))),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
        ),
        number(
            "Client errors",
            "Share of answers with a status from 400 to 499. They are no errors of the "
            "application; a rise after a release is one of its interface.",
            Query(queries.ratio(REQUESTS.counts(f'{STATUS}=~"4.."'), REQUESTS.counts())),
            unit=RATIO,
            size=_STAT,
            decimals=2,
            nothing="none",
        ),
        number(
            "Unmatched",
            "Share of requests that match no route: links that are broken, and people who probe.",
            Query(
                queries.ratio(
                    REQUESTS.counts(f'{ROUTE}=~"{integrated.UNMATCHED}"'), REQUESTS.counts()
                )
            ),
            unit=RATIO,
            size=_STAT,
            decimals=2,
            nothing="none",
        ),
    ]


def _requests() -> list[Panel]:
    by_class = (
        f'label_replace({total(rate(REQUESTS.counts()), STATUS)}, "{_CLASS_OF_STATUS}", '
        f'"${{1}}xx", "{STATUS}", "(.).*")'
    )
    return [
        REQUESTS.rates(_HALF),
        colored(
            graph(
                "Answers by class of status",
                "How requests are answered: 2xx and 3xx are good, 4xx the fault of the client, "
                "5xx of the application.",
                Query(total(by_class, _CLASS_OF_STATUS), legend(_CLASS_OF_STATUS)),
                unit=REQUESTS.unit,
                size=_HALF,
                stacked=True,
                nothing=REQUESTS.nothing,
            ),
            _COLORS,
        ),
        REQUESTS.errors(_HALF),
        REQUESTS.by_reason(
            "Failures by reason",
            "The exception that the application did not handle, or the status of its answer. A "
            "reason that was not there yesterday is news.",
            ERROR,
            _HALF,
        ),
    ]


def _routes() -> list[Panel]:
    received, sent = (
        total(rate(series(f"{metric}_sum", *REQUESTS.matchers)))
        for metric in (integrated.RECEIVED, integrated.SENT)
    )
    return [
        REQUESTS.slowest(_THIRD),
        graph(
            "Active requests by method",
            "Requests that are being answered. A line that climbs while requests do not is "
            "something that hangs.",
            queries.highest(series(integrated.SERVER_ACTIVE), METHOD),
            unit=NUMBER,
            label="requests",
            whole=True,
            size=_THIRD,
        ),
        graph(
            "Bytes of bodies",
            "What comes in and goes out in a second, without headers. Look for a jump without "
            "more requests: answers that have become large.",
            Query(received, "in", "A"),
            Query(sent, "out", "B"),
            unit="Bps",
            size=_THIRD,
            nothing="Bodies are measured with body_sizes=True",
        ),
    ]


def _messages() -> list[Panel]:
    messages = series(integrated.MESSAGE_COUNTS, *MESSAGES.matchers)
    connections = series(integrated.CONNECTIONS, *MESSAGES.matchers)
    by = tuple(MESSAGES.names)
    return [
        graph(
            "Open connections by route",
            "WebSockets that are open. A fall to zero is a deploy or a proxy that closes them; "
            "after it all clients come back at once.",
            queries.highest(connections, ROUTE),
            unit=NUMBER,
            label="connections",
            whole=True,
            size=_THIRD,
        ),
        graph(
            "Messages in and out",
            "`receive` is what clients send, `transmit` what the application sends. Far more out "
            "than in is a broadcast.",
            Query(
                queries.busiest_rate(messages, ROUTE, DIRECTION),
                legend(ROUTE, DIRECTION, between=" "),
            ),
            unit=MESSAGES.unit,
            size=_THIRD,
            nothing=_NO_SOCKETS,
        ),
        graph(
            "Answer to a message, p95",
            "From a message to the next send, by the event that it is. It is what a person waits "
            "for after a click.",
            Query(
                queries.busiest(MESSAGES.quantile(0.95, *by), MESSAGES.counts(), *by),
                MESSAGES.legend,
            ),
            unit=SECONDS,
            size=_THIRD,
            nothing=_NO_SOCKETS,
        ),
    ]
