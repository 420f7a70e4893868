"""Lines over time."""

from collections.abc import Mapping

from grafana_foundation_sdk.builders import common, dashboard, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from .parts import Limits, Size, asking, dressed, explorer_of_line, fixed, thresholds
from .queries import Query

_WIDE = 12


def graph(  # noqa: PLR0913 -- a setting each
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    size: Size,
    limits: Limits | None = None,
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
    panel = dressed(timeseries.Panel(), title, description, unit, size)
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
        panel = panel.thresholds(thresholds(limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    if explore:
        panel = panel.data_links([explorer_of_line()])
    return asking(panel, queries)


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
        setting = models.DynamicConfigValue("color", fixed(color).build())
        panel = panel.override_by_name(name, [setting])
    return panel


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


def _palette() -> dashboard.FieldColor:
    # Not by name: then two lines of a graph may have the same colour.
    return dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)
