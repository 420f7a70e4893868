"""Parts of a dashboard around its panels."""

from collections.abc import Iterable, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from .events import events
from .parts import SOURCE, Panel
from .queries import BUILD, INSTANCE

TAG = "hypertrace"


def board(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[tuple[str, Iterable[Panel]]],
    variables: Iterable[dashboard.QueryVariable] = (),
) -> models.Dashboard:
    """Put a dashboard together.

    Args:
        uid: by which links find it.
        title: what stands above it.
        description: what it is.
        sections: the heading of a row, and the panels below it; they fill the grid from left to
            right. The first section needs no heading.
        variables: besides data source, job and instance.
    """
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_to_the_others())
        .with_variable(_data_source())
        .with_variable(
            # All of these jobs, not all jobs of Prometheus.
            variable(
                "job",
                "Job",
                f"label_values({BUILD}, job)",
                "Jobs of Prometheus whose targets have the exporter.",
                every=True,
                as_list=True,
            )
        )
        .with_variable(
            variable(
                "instance",
                "Instance",
                f'label_values({BUILD}{{job=~"$job"}}, {INSTANCE})',
                "Processes that are scraped.",
                every=True,
            )
        )
    )
    for choice in variables:
        made = made.with_variable(choice)
    for heading, panels in sections:
        if heading:
            made = made.with_row(dashboard.Row(heading))
        for panel in panels:
            made = made.with_panel(panel)
    built = made.build()
    built.annotations = events()
    for each in built.templating.list_val or []:
        # Of intervals alone; Grafana's types do not know them elsewhere.
        each.auto = each.auto_min = each.auto_count = None
    for number, panel_or_row in enumerate(built.panels or [], start=1):
        panel_or_row.id_val = number
    return built


def variable(  # noqa: PLR0913 -- a setting each
    name: str,
    label: str,
    query: str,
    description: str,
    *,
    every: bool,
    as_list: bool = False,
    pattern: str = "",
) -> dashboard.QueryVariable:
    """A choice among what Prometheus has.

    Args:
        name: by which queries refer to it.
        label: what stands beside it.
        query: of Grafana's data source for Prometheus, such as `label_values(metric, label)`.
        description: what is chosen.
        every: all may be chosen at once, and are at first.
        as_list: all stands for a list of the choices, not for anything.
        pattern: regular expression that the choices match.
    """
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=every)
        .include_all(include_all=every)
    )
    if pattern:
        made = made.regex(pattern)
    if every:
        made = made.current(models.VariableOption(text=["All"], value=["$__all"]))
    if every and not as_list:
        # Costs Prometheus nothing; a list of 500 names does.
        made = made.all_value(".*")
    return made


def _data_source() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _to_the_others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Hypertrace")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
