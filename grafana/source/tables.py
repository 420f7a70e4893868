"""Rows of labels and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .parts import NUMBER, Size, dressed, explorer, fixed, target
from .queries import CLASS, Query

_NUMBER_WIDTH, _GAUGE_WIDTH, _WORD_WIDTH = 110, 150, 90
"""In pixels."""
_WORDS = ("Kind", "Method", "Port", "Queue", "Severity")
"""Headings of columns whose texts are short."""


@dataclass(frozen=True)
class Column:
    """A column of numbers in a table."""

    name: str
    expression: str
    unit: str
    gauge: bool = False
    """Draw a bar behind the number."""
    nothing: str = ""
    """What stands where the number is NaN."""


def rows(
    title: str,
    description: str,
    names: Mapping[str, str],
    *columns: Column,
    size: Size,
    nothing: str = "",
) -> table.Panel:
    """Rows of labels and numbers of this moment, the highest of the first number on top.

    Args:
        title: what it shows.
        description: what to look for.
        names: labels that become columns, with what stands above them.
        columns: numbers; each has the labels of `names`.
        size: in the grid.
        nothing: what it says where there are no rows.
    """
    refs = [chr(ord("A") + number) for number in range(len(columns))]
    values = ["Value"] if len(refs) == 1 else [f"Value #{ref}" for ref in refs]
    shown = {**names, **dict(zip(values, (c.name for c in columns), strict=True))}
    panel = (
        dressed(table.Panel(), title, description, NUMBER, size, nothing)
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
        panel = panel.override_by_name(column.name, _settings(column))
    for heading in (each for each in names.values() if each in _WORDS):
        width = models.DynamicConfigValue("custom.width", _WORD_WIDTH)
        panel = panel.override_by_name(heading, [width])
    if CLASS in names:
        heading = names[CLASS]
        links = [explorer(f"${{__data.fields.{heading}}}").build()]
        panel = panel.override_by_name(heading, [models.DynamicConfigValue("links", links)])
    for ref, column in zip(refs, columns, strict=True):
        query = Query(column.expression, ref=ref)
        panel = panel.with_target(target(query).instant().format(PromQueryFormat.TABLE))
    return panel


def _settings(column: Column) -> list[models.DynamicConfigValue]:
    # Numbers have a fixed width, so that names have all the rest.
    width = _GAUGE_WIDTH if column.gauge else _NUMBER_WIDTH
    settings = [
        models.DynamicConfigValue("unit", column.unit),
        models.DynamicConfigValue("custom.width", width),
    ]
    if column.nothing:
        shown = models.ValueMappingResult(text=column.nothing, color="text")
        match = models.DashboardSpecialValueMapOptions(
            match=models.SpecialValueMatch.NULL_AND_NAN, result=shown
        )
        settings.append(models.DynamicConfigValue("mappings", [models.SpecialValueMap(match)]))
    if not column.gauge:
        return settings
    cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    return [
        *settings,
        models.DynamicConfigValue("custom.cellOptions", cell),
        models.DynamicConfigValue("color", fixed("blue").build()),
        models.DynamicConfigValue("min", 0),
    ]
