"""What a panel of ours looks like: one function a kind, with the settings that differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
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
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .queries import CLASS

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

EXPLORER = "hypertrace-class-explorer"
_VARIABLES = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"

_WIDE = 12

GOOD, WARNING, BAD = "green", "orange", "red"


@dataclass(frozen=True)
class Size:
    """In the grid of a dashboard, which is 24 wide."""

    width: int
    height: int = 8


@dataclass(frozen=True)
class Query:
    """A question to Prometheus."""

    expression: str
    legend: str = ""
    ref: str = "A"


def graph(  # noqa: PLR0913 -- a setting each
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    size: Size,
    limits: tuple[float, float] | None = None,
    stacked: bool = False,
    explore: bool = False,
    legend_below: bool = False,
    logarithmic: bool = False,
    at_least: float | None = None,
) -> timeseries.Panel:
    """Lines over time, named beside them, the highest mean first; below them where it is narrow.

    Args:
        title: what it shows.
        description: what to look for.
        queries: each gives at most `queries.TOP` lines.
        unit: of the values.
        size: in the grid.
        limits: above which a value is a warning, and bad; drawn as dashed lines.
        stacked: fill the lines, on top of each other.
        explore: a line leads to its class.
        legend_below: name the lines below, where their names are long.
        logarithmic: so that microseconds and seconds can be seen in one graph.
        at_least: how far the axis goes, however low the values are.
    """
    panel = _dressed(timeseries.Panel(), title, description, unit, size)
    panel = (
        panel.color_scheme(_palette())
        .line_width(1)
        .fill_opacity(35 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(_legend(beside=size.width >= _WIDE and not legend_below))
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if logarithmic:
        scale = common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
        panel = panel.scale_distribution(scale)
    else:
        panel = panel.min(0)
    if at_least is not None:
        panel = panel.axis_soft_max(at_least)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if limits is not None:
        panel = panel.thresholds(_limits(limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    if explore:
        panel = panel.data_links([_explorer(f"${{__field.labels.{CLASS}}}")])
    return _asking(panel, queries)


def dashed(panel: timeseries.Panel, name: str) -> timeseries.Panel:
    """Draw the line of this name dashed and without a filling: it is there to compare with."""
    return panel.override_by_name(
        name,
        [
            models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}),
            models.DynamicConfigValue("custom.fillOpacity", 0),
        ],
    )


def colored(panel: timeseries.Panel, colors: Mapping[str, str]) -> timeseries.Panel:
    """Give lines of these names colours that mean something."""
    for name, color in colors.items():
        fixed = models.DynamicConfigValue("color", _fixed(color).build())
        panel = panel.override_by_name(name, [fixed])
    return panel


def number(  # noqa: PLR0913 -- a setting each
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    size: Size,
    limits: tuple[float, float] | None = None,
    low_is_bad: bool = False,
    graph_behind: bool = True,
    decimals: int | None = None,
) -> stat.Panel:
    """One number, with its history behind it; coloured if it has limits."""
    mode = common_models.BigValueGraphMode
    panel = (
        _dressed(stat.Panel(), title, description, unit, size)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .graph_mode(mode.AREA if graph_behind else mode.NONE)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .thresholds(_limits(limits, low_is_bad=low_is_bad))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _asking(panel, [query])


def bars(  # noqa: PLR0913 -- a setting each
    title: str, description: str, query: Query, *, unit: str, size: Size, explore: bool = False
) -> bargauge.Panel:
    """The values of this moment as bars, one below the other, longest first."""
    panel = (
        _dressed(bargauge.Panel(), title, description, unit, size)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .value_mode(common_models.BarGaugeValueMode.TEXT)
        .name_placement(common_models.BarGaugeNamePlacement.LEFT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .min(0)
        .color_scheme(_fixed("blue"))
    )
    if explore:
        panel = panel.data_links([_explorer(f"${{__field.labels.{CLASS}}}")])
    return panel.with_target(_target(query).instant())


@dataclass(frozen=True)
class Column:
    """A column of numbers in a table."""

    name: str
    expression: str
    unit: str
    gauge: bool = False
    """Draw a bar behind the number."""


def rows(
    title: str,
    description: str,
    names: Mapping[str, str],
    *columns: Column,
    size: Size,
) -> table.Panel:
    """Rows of labels and numbers of this moment, the highest of the first number on top.

    Args:
        title: what it shows.
        description: what to look for.
        names: labels that become columns, with what stands above them.
        columns: numbers; each has the labels of `names`.
        size: in the grid.
    """
    refs = [chr(ord("A") + number) for number in range(len(columns))]
    values = ["Value"] if len(refs) == 1 else [f"Value #{ref}" for ref in refs]
    shown = {**names, **dict(zip(values, (c.name for c in columns), strict=True))}
    panel = (
        _dressed(table.Panel(), title, description, NUMBER, size)
        .sort_by([common.TableSortByFieldState().display_name(columns[0].name).desc(desc=True)])
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(shown)},
                    "renameByName": shown,
                },
            )
        )
    )
    for column in columns:
        properties = [models.DynamicConfigValue("unit", column.unit)]
        if column.gauge:
            cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            properties += [
                models.DynamicConfigValue("custom.cellOptions", cell),
                models.DynamicConfigValue("color", _fixed("blue").build()),
                models.DynamicConfigValue("min", 0),
            ]
        panel = panel.override_by_name(column.name, properties)
    if CLASS in names:
        heading = names[CLASS]
        links = [_explorer(f"${{__data.fields.{heading}}}").build()]
        panel = panel.override_by_name(heading, [models.DynamicConfigValue("links", links)])
    for ref, column in zip(refs, columns, strict=True):
        query = Query(column.expression, ref=ref)
        panel = panel.with_target(_target(query).instant().format(PromQueryFormat.TABLE))
    return panel


def heat(title: str, description: str, expression: str, *, size: Size) -> heatmap.Panel:
    """How many durations fell into which bucket, over time."""
    panel = (
        _dressed(heatmap.Panel(), title, description, CALLS, size)
        .calculate(calculate=False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .exponent(0.5)
            .steps(64)
        )
        .cell_values(heatmap.CellValues().unit(CALLS))
        .y_axis(heatmap.YAxisConfig().unit(SECONDS))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .show_legend()
    )
    return panel.with_target(_target(Query(expression, "{{le}}")).format(PromQueryFormat.HEATMAP))


def net(title: str, description: str, nodes: str, edges: str, *, size: Size) -> nodegraph.Panel:
    """Boxes and arrows.

    Args:
        title: what it shows.
        description: what to look for.
        nodes: has the labels `id`, `title` and `subtitle`.
        edges: has the labels `id`, `source` and `target`.
        size: in the grid.
    """
    panel = (
        _dressed(nodegraph.Panel(), title, description, CALLS_A_SECOND, size)
        # Behind the number, as it is: this panel formats nothing.
        .nodes(nodegraph.NodeOptions().main_stat_unit("calls/s"))
        .edges(nodegraph.EdgeOptions().main_stat_unit("calls/s"))
        # The panel knows the number by this name. It looks at the names of fields, which no
        # renaming changes: that changes what is displayed.
        .with_transformation(
            models.DataTransformerConfig(
                id_val="calculateField",
                options={
                    "mode": "reduceRow",
                    "reduce": {"reducer": "sum"},
                    "alias": "mainstat",
                    "timeSeries": False,
                },
            )
        )
    )
    for ref, expression in (("nodes", nodes), ("edges", edges)):
        query = _target(Query(expression, ref=ref)).instant()
        panel = panel.with_target(query.format(PromQueryFormat.TABLE))
    return panel


def states(
    title: str, description: str, query: Query, texts: Sequence[tuple[str, str, str]], *, size: Size
) -> statetimeline.Panel:
    """Which state something was in, over time.

    Args:
        title: what it shows.
        description: what to look for.
        query: one line each.
        texts: a value, what it means, and its colour.
        size: in the grid.
    """
    mapped = {
        value: models.ValueMappingResult(text=text, color=color) for value, text, color in texts
    }
    panel = _dressed(statetimeline.Panel(), title, description, NUMBER, size)
    panel = (
        panel.mappings([models.ValueMap(options=mapped)])
        .show_value(common_models.VisibilityMode.NEVER)
        .row_height(0.7)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(show_legend=False))
    )
    return _asking(panel, [query])


def _dressed(panel: _P, title: str, description: str, unit: str, size: Size) -> _P:
    return (
        panel.title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(size.width)
        .height(size.height)
    )


def _asking(panel: _P, queries: Sequence[Query]) -> _P:
    for query in queries:
        panel = panel.with_target(_target(query).range())
    return panel


def _target(query: Query) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(query.ref).datasource(SOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _legend(*, beside: bool) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(show_legend=True)
    if not beside:
        return legend.display_mode(common_models.LegendDisplayMode.LIST).placement(
            common_models.LegendPlacement.BOTTOM
        )
    # Beside the lines there is room for ten names, below them for three.
    return (
        legend.display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.RIGHT)
        .calcs(["mean"])
        .sort_by("Mean")
        .sort_desc(sort_desc=True)
    )


def _limits(
    limits: tuple[float, float] | None, *, low_is_bad: bool = False
) -> dashboard.ThresholdsConfig:
    colors = [BAD, WARNING, GOOD] if low_is_bad else [GOOD, WARNING, BAD]
    values = [None, *(limits or ())]
    steps = [
        models.Threshold(value=value, color=color)
        for value, color in zip(values, colors, strict=False)
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _palette() -> dashboard.FieldColor:
    # Not by name: then two lines of a graph may have the same colour.
    return dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)


def _fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(color)


def _explorer(class_name: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink("Explore the class").url(
        f"/d/{EXPLORER}?{_VARIABLES}&var-class={class_name}"
    )
