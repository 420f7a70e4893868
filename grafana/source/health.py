"""Exporter health: does tracing itself fare well?"""

from grafana_foundation_sdk.models import dashboard

from . import panels, queries
from .board import board
from .panels import Column, Query, Size
from .queries import CLASS, INSTANCE, METRIC, legend, rate, series, top, total

UID = "hypertrace-health"

# Prometheus writes these about each target.
UP = "up"
SCRAPE_SECONDS = "scrape_duration_seconds"
SCRAPE_SAMPLES = "scrape_samples_scraped"
SERIES_ADDED = "scrape_series_added"

_STAT = Size(6, 4)
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
            ("Scrapes", _scrapes()),
        ],
    )


def _numbers() -> list[panels.Panel]:
    held, limit = series(queries.SERIES), series(queries.SERIES_LIMIT)
    return [
        panels.number(
            "Series limit used",
            "How near the fullest metric of any process is to `max_series`. From 80 % on, see "
            "which class has most series, and allow fewer props or ids there.",
            Query(f"max({held} / {limit})"),
            unit=panels.RATIO,
            size=_STAT,
            limits=(0.8, 0.95),
            decimals=1,
        ),
        panels.number(
            "Overflowed updates",
            "Counts of this time range that went into the overflow series, since the limit was "
            "reached. Totals are still right; single lines are too low.",
            Query(total(queries.increase(series(queries.OVERFLOWED)))),
            unit=panels.NUMBER,
            size=_STAT,
            limits=(1, 1000),
            decimals=0,
        ),
        panels.number(
            "Swallowed errors",
            "Errors inside tracing in this time range, which the application was spared. Each "
            "kind is logged with its traceback by the logger `hypertrace`.",
            Query(total(queries.increase(series(queries.SWALLOWED)))),
            unit=panels.NUMBER,
            size=_STAT,
            limits=(1, 100),
            decimals=0,
        ),
        panels.number(
            "Slowest scrape",
            "How long Prometheus waited for the slowest target. It must stay below the scrape "
            "timeout, 10 s by default, or the target counts as down.",
            Query(f"max({series(SCRAPE_SECONDS)})"),
            unit=panels.SECONDS,
            size=_STAT,
            limits=(1, 5),
        ),
    ]


def _series() -> list[panels.Panel]:
    held, limit = series(queries.SERIES), series(queries.SERIES_LIMIT)
    calls = series(queries.CALLS)
    return [
        panels.graph(
            "Series limit used, by metric",
            "The fullest process of each metric. A slope tells when it will be full; a jump came "
            "with the release of that hour.",
            Query(f"max by ({METRIC}) ({held} / {limit})", legend(METRIC)),
            unit=panels.RATIO,
            size=_THIRD,
            limits=(0.8, 0.95),
        ),
        panels.graph(
            "Series held",
            "Label sets of each metric, of all processes together: what Prometheus has to keep. A "
            "histogram has some fifteen lines for each of them.",
            Query(f"sum by ({METRIC}) ({held})", legend(METRIC)),
            unit=panels.NUMBER,
            size=_THIRD,
            stacked=True,
        ),
        panels.bars(
            "Series by class",
            "The ten classes with most series of the counter. The first one is where to look if "
            "the limit is near.",
            Query(top(f"count by ({CLASS}) ({calls})"), legend(CLASS)),
            unit=panels.NUMBER,
            size=_THIRD,
            explore=True,
        ),
        panels.graph(
            "Overflowed updates",
            "Updates in a second that found no room for a series of their own. Should be zero, "
            "always.",
            Query(
                total(rate(series(queries.OVERFLOWED)), METRIC),
                legend(METRIC),
            ),
            unit=panels.CALLS_A_SECOND,
            size=_HALF,
            at_least=1,
        ),
        panels.graph(
            "Swallowed errors",
            "Errors inside tracing, by process. One process with errors where the others have "
            "none has another version, or another configuration.",
            Query(queries.busiest_rate(series(queries.SWALLOWED), INSTANCE), legend(INSTANCE)),
            unit="count:errors/s",
            size=_HALF,
            at_least=1,
        ),
    ]


def _scrapes() -> list[panels.Panel]:
    return [
        panels.states(
            "Answers",
            "Whether each process answered its scrapes. A gap is a process that was down or too "
            "busy; counts of that time are not lost, they come with the next answer.",
            Query(
                # Those that are down come first.
                f"{series(UP)} and bottomk(20, {series(UP)} @ end())",
                legend(INSTANCE),
            ),
            [("1", "up", panels.GOOD), ("0", "down", panels.BAD)],
            size=_THIRD,
        ),
        panels.graph(
            "Scrape duration",
            "How long the ten slowest processes take for a scrape. It grows with the series; far "
            "more than 10 µs a line means a process that is starved of CPU.",
            Query(queries.largest(series(SCRAPE_SECONDS), INSTANCE), legend(INSTANCE)),
            unit=panels.SECONDS,
            size=_THIRD,
        ),
        panels.graph(
            "Scrape size",
            "Lines in the answers of the ten processes with most. Each is kept by Prometheus at "
            "every scrape.",
            Query(queries.largest(series(SCRAPE_SAMPLES), INSTANCE), legend(INSTANCE)),
            unit="count:lines",
            size=_THIRD,
        ),
        panels.graph(
            "New series",
            "Lines that Prometheus saw for the first time. After the start of a process it should "
            "go to zero; if it does not, a label has ever new values.",
            Query(queries.largest(series(SERIES_ADDED), INSTANCE), legend(INSTANCE)),
            unit="count:lines",
            size=_HALF,
        ),
        panels.rows(
            "Versions",
            "Which hypertrace and which Python runs where. More than one version for long: a "
            "process that was left out of an upgrade.",
            {INSTANCE: "Process", "version": "hypertrace", "python": "Python"},
            Column(
                "Exporters",
                top(f"count by ({INSTANCE}, version, python) ({series(queries.BUILD)})", 100),
                panels.NUMBER,
            ),
            size=_HALF,
        ),
    ]
