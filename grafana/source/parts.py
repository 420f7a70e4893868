"""Parts of panels of any kind: a size, units, limits, colours, links."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    dashboard,
    heatmap,
    nodegraph,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from .queries import CLASS, Query

Panel: TypeAlias = Builder[models.Panel]

_P = TypeVar(
    "_P",
    bargauge.Panel,
    heatmap.Panel,
    nodegraph.Panel,
    stat.Panel,
    statetimeline.Panel,
    table.Panel,
    timeseries.Panel,
)

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

CALLS_A_SECOND = "count:calls/s"
CALLS = "count:calls"
SECONDS = "s"
RATIO = "percentunit"
NUMBER = "short"
BYTES = "bytes"

COUNTED = "count:"
"""Beginning of units that are words, as of calls in a second."""

GOOD, WARNING, BAD = "green", "orange", "red"

Limits: TypeAlias = tuple[float, float]
"""Above the first a value is a warning, above the second it is bad."""

ERRORS: Limits = (0.01, 0.05)
"""Of the share of spans, or entries, that end with an error."""
BUSY: Limits = (0.7, 0.9)
"""Of what a worker can do."""
FILL: Limits = (0.8, 0.95)
"""Of the share of the series that may be held."""

EXPLORER = "hypertrace-class-explorer"
_VARIABLES = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"


@dataclass(frozen=True)
class Size:
    """In the grid of a dashboard, which is 24 wide."""

    width: int
    height: int = 8


def dressed(  # noqa: PLR0913, PLR0917 -- what each panel has
    panel: _P, title: str, description: str, unit: str, size: Size, nothing: str = ""
) -> _P:
    """Give a panel what each has.

    Args:
        panel: of any kind.
        title: what it shows.
        description: what to look for.
        unit: of its values.
        size: in the grid.
        nothing: what it says in place of "No data", where that is no fault.
    """
    made = (
        panel.title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(size.width)
        .height(size.height)
    )
    return made.no_value(nothing) if nothing else made


def asking(panel: _P, queries: Iterable[Query]) -> _P:
    """Let a panel ask for all of the time range."""
    for query in queries:
        panel = panel.with_target(target(query).range())
    return panel


def target(query: Query) -> prometheus.Dataquery:
    """Return a query as Grafana has it."""
    made = prometheus.Dataquery().expr(query.expression).ref_id(query.ref).datasource(SOURCE)
    return made.legend_format(query.legend) if query.legend else made


def thresholds(limits: Limits | None) -> dashboard.ThresholdsConfig:
    """Return limits as Grafana has them; without any, all is good."""
    values = [None, *(limits or ())]
    steps = [
        models.Threshold(value=value, color=color)
        for value, color in zip(values, (GOOD, WARNING, BAD), strict=False)
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def fixed(color: str) -> dashboard.FieldColor:
    """Return one colour for all values."""
    return dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(color)


def explorer(class_name: str) -> dashboard.DashboardLink:
    """Return a link to a class; its name may be a variable."""
    return dashboard.DashboardLink("Explore the class").url(
        f"/d/{EXPLORER}?{_VARIABLES}&var-class={class_name}"
    )


def explorer_of_line() -> dashboard.DashboardLink:
    """Return a link from a line, or a bar, to its class."""
    return explorer(f"${{__field.labels.{CLASS}}}")
