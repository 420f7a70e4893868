"""Page about the metrics, and what it says of each."""

import re
from pathlib import Path

import pytest

from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Declaration, Metrics
from hypertrace.metrics.declarations import EXPORTS
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.collector import APPLICATION
from hypertrace_prometheus.exposition.failures import FAILED

SHOWN = (
    *(family.declaration for family in Metrics(upstream=True).read().families),
    *EXPORTS,
    APPLICATION,
    FAILED,
)


def _table(root: Path) -> dict[str, str]:
    """Give the kind of each metric in the table of the page."""
    text = (root / "docs" / "prometheus.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \|$", text, re.MULTILINE)
    kinds = {one.kind for one in SHOWN}
    return {name: kind for name, kind in rows if kind in kinds}


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.name)
def test_a_declared_metric_is_on_the_page_with_its_kind(one: Declaration, root: Path) -> None:
    """Whatever a reading has, and thus a page, has a row in the table of metrics."""
    assert _table(root).get(one.name) == one.kind


def test_the_page_has_no_other_metric(root: Path) -> None:
    """Whatever has a row is on a page."""
    assert sorted(_table(root)) == sorted(one.name for one in SHOWN)


def test_an_exporter_names_and_describes_what_is_declared() -> None:
    """The families of a page have the names, kinds and descriptions of the declarations."""
    with (
        PrometheusExporter(collect_defaults=False, upstream=True) as exporter,
        JsonLinesExporter(str.encode, metrics=exporter.forwards_to),
    ):
        text = exporter.metrics()
        (collector,) = exporter.registry._collector_to_names
        described = [family.name for family in collector.describe()]  # type: ignore[attr-defined]
    helps = re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE)
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    declared = {one.name: one for one in SHOWN}
    assert [name for name, _ in helps] == list(types)
    for name, description in helps:
        assert description == declared[name].description
        assert types[name] == {"info": "gauge"}.get(declared[name].kind, declared[name].kind)
    assert described == [name.removesuffix("_total").removesuffix("_info") for name in types]
