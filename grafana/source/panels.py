"""Panels of all kinds but graphs and tables: one function a kind."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    nodegraph,
    stat,
    statetimeline,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .parts import (
    CALLS,
    CALLS_A_SECOND,
    NUMBER,
    SECONDS,
    Limits,
    Size,
    asking,
    dressed,
    explorer_of_line,
    fixed,
    target,
    thresholds,
)
from .queries import Query

_NUMBER_SIZE = 30
"""In pixels, for all numbers: else each is as large as its panel allows."""


def number(  # noqa: PLR0913 -- a setting each
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    size: Size,
    limits: Limits | None = None,
    decimals: int | None = None,
    nothing: str = "0",
) -> stat.Panel:
    """One number, coloured if it has limits; its history is a graph elsewhere."""
    panel = (
        dressed(stat.Panel(), title, description, unit, size, nothing)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .text(common.VizTextDisplayOptions().value_size(_NUMBER_SIZE))
        .thresholds(thresholds(limits))
    )
    if limits is None:
        panel = panel.color_scheme(fixed("text"))
    if decimals is not None:
        panel = panel.decimals(decimals)
    return asking(panel, [query])


def bars(  # noqa: PLR0913 -- a setting each
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    size: Size,
    explore: bool = False,
    nothing: str = "",
) -> bargauge.Panel:
    """The values of this moment as bars, one below the other, longest first."""
    panel = (
        dressed(bargauge.Panel(), title, description, unit, size, nothing)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .value_mode(common_models.BarGaugeValueMode.TEXT)
        .name_placement(common_models.BarGaugeNamePlacement.LEFT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .min(0)
        .color_scheme(fixed("blue"))
    )
    if explore:
        panel = panel.data_links([explorer_of_line()])
    return panel.with_target(target(query).instant())


def heat(title: str, description: str, expression: str, *, size: Size) -> heatmap.Panel:
    """How many durations fell into which bucket, over time."""
    panel = (
        dressed(heatmap.Panel(), title, description, CALLS, size)
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
    return panel.with_target(target(Query(expression, "{{le}}")).format(PromQueryFormat.HEATMAP))


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
        dressed(nodegraph.Panel(), title, description, CALLS_A_SECOND, size)
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
        query = target(Query(expression, ref=ref)).instant()
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
    panel = dressed(statetimeline.Panel(), title, description, NUMBER, size)
    panel = (
        panel.mappings([models.ValueMap(options=mapped)])
        .show_value(common_models.VisibilityMode.NEVER)
        .row_height(0.7)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(show_legend=False))
    )
    return asking(panel, [query])
