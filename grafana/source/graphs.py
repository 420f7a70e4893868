"""Lines over time."""

from collections.abc import Mapping

from grafana_foundation_sdk.builders import common, dashboard, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from .parts import (
    COUNTED,
    NUMBER,
    Limits,
    Size,
    asking,
    dressed,
    explorer_of_line,
    fixed,
    thresholds,
)
from .queries import Query

_FULL = 24


def graph(  # noqa: PLR0913 -- a setting each
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    size: Size,
    limits: Limits | None = None,
    stacked: bool = False,
    explore: bool = False,
    logarithmic: bool = False,
    at_least: float | None = None,
    label: str = "",
    whole: bool = False,
    nothing: str = "",
) -> timeseries.Panel:
    """Lines over time, named below them; beside them, the highest mean first, where it is wide.

    What is counted has its unit at the axis, not at each of its numbers.

    Args:
        title: what it shows.
        description: what to look for.
        queries: each gives at most `queries.TOP` lines.
        unit: of the values.
        size: in the grid.
        limits: above which a value is a warning, and bad; drawn as dashed lines.
        stacked: fill the lines, on top of each other.
        explore: a line leads to its class.
        logarithmic: so that microseconds and seconds can be seen in one graph.
        at_least: how far the axis goes, however low the values are.
        label: what the numbers at the axis are, if the unit does not say it.
        whole: no fractions at the axis.
        nothing: what it says where there are no lines, unless it is logarithmic or whole.
    """
    if unit.startswith(COUNTED):
        unit, label = NUMBER, unit.removeprefix(COUNTED)
    # It would stand in place of each number that an axis leaves out.
    words = "" if logarithmic or whole else nothing
    panel = dressed(timeseries.Panel(), title, description, unit, size, words)
    panel = (
        panel.color_scheme(_palette())
        .line_width(1)
        .fill_opacity(35 if stacked else 0)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(_legend(beside=size.width == _FULL))
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
    if label:
        panel = panel.axis_label(label)
    if whole:
        panel = panel.decimals(0)
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
    """Draw the line of this name dashed: it is there to compare with."""
    style = models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]})
    return panel.override_by_name(name, [style])


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
    # Below the lines a table has room for three names.
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
