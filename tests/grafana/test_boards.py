"""Dashboards as a person gets them: every panel explained, every query valid, all linked."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import promql_parser
import pytest

from hypertrace import integrations
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.integrations.gauges import Gauge
from hypertrace.metrics.declarations import Declaration
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.dashboards import integrated, objectives, rules
from hypertrace_prometheus.dashboards.templates import dashboards

BOARDS = dashboards(props=["topic"])
PANELS = [
    pytest.param(board, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
PLAIN_UNITS = {"short"}
OF_GRAFANA = {"__range", "__rate_interval", "__url_time_range", "1"}
NOT_SHOWN = {"http_server_request_duration_native_seconds"}
"""A native histogram, which a user asks for and Prometheus may not have turned on."""
LINES = {"timeseries", "bargauge", "state-timeline"}
LINK = re.compile(r"\$\{(\w+)[^}]*\}")

Dashboard = dict[str, Any]


def _expressions() -> Iterator[str]:
    for board in BOARDS.values():
        yield from (event["expr"] for event in _events(board))
        for panel in board["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))
    declared = [
        objectives.Objective("o", metric, {label: 'a"b\\c'}, 0.999, 0.25)
        for metric, label in (
            ("function_duration_seconds", "object_classname"),
            (integrated.ENTRIES, integrated.ENTRY),
        )
    ]
    for group in [*rules.groups(), *objectives.groups(declared)]:
        yield from (rule["expr"] for rule in group["rules"])


def _events(board: Dashboard) -> list[Dashboard]:
    """Return the events on the time axis that are asked of Prometheus."""
    return [each for each in board["annotations"]["list"] if "expr" in each]


def _variables(board: Dashboard) -> set[str]:
    return {variable["name"] for variable in board["templating"]["list"]}


@pytest.mark.parametrize("expression", sorted(set(_expressions())))
def test_every_query_parses(expression: str) -> None:
    """Each query is PromQL, once durations and labels stand in the place of variables."""
    text = re.sub(r"\$__\w+", "5m", expression).replace("$prop", "object_props_topic")
    promql_parser.parse(text)


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_panel_says_what_to_look_for(board: Dashboard, panel: Dashboard) -> None:
    """Each panel has a title, a description of some length, a unit and a query."""
    assert panel["title"]
    assert len(panel["description"]) > 60
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_query_goes_to_the_chosen_targets(board: Dashboard, panel: Dashboard) -> None:
    """Each query asks the data source, job and instance that are chosen, with known variables."""
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        used = set(re.findall(r"\$(\w+)", target["expr"]))
        assert {"job", "instance"} <= used <= _variables(board) | OF_GRAFANA
        # An alert of all processes has no instance.
        selectors = re.findall(r"\w+\{[^}]*\}", target["expr"].replace("$instance|", "$instance"))
        assert all('job=~"$job", instance=~"$instance"' in each for each in selectors)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_single_choice_is_no_pattern(board: Dashboard) -> None:
    """Grafana escapes choices for patterns only where there may be several."""
    asked = set(re.findall(r'=~\\"\$(\w+)', json.dumps(board)))
    several = {each["name"] for each in board["templating"]["list"] if each.get("multi")}
    assert {"job", "instance"} <= asked <= several


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_line_has_a_name(board: Dashboard, panel: Dashboard) -> None:
    """Where there may be several lines or bars, each has its own legend."""
    if panel["type"] in LINES:
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_links_lead_to_a_dashboard_and_carry_variables(board: Dashboard, panel: Dashboard) -> None:
    """A link of a panel leads to one of the dashboards, and takes job, instance and time along."""
    uids = {board["uid"]: board for board in BOARDS.values()}
    for url in re.findall(r'"url": "([^"]*)"', json.dumps(panel)):
        parts = urlsplit(url)
        target = uids[parts.path.removeprefix("/d/")]
        carried = set(LINK.findall(url)) - {"__field", "__data", "__url_time_range"}
        assert carried == {"datasource", "job", "instance"}
        assert "${__url_time_range}" in url
        assert set(re.findall(r"var-(\w+)=", url)) <= _variables(target)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_dashboard_links_to_the_others(board: Dashboard) -> None:
    """All dashboards have the tag that the list of links on each of them asks for."""
    (link,) = board["links"]
    assert link["type"] == "dashboards"
    assert link["includeVars"]
    assert link["keepTime"]
    assert all(set(link["tags"]) <= set(each["tags"]) for each in BOARDS.values())


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_deploys_restarts_and_alerts_are_on_every_time_axis(board: Dashboard) -> None:
    """Each dashboard has the events of the chosen targets, and those that are marked by hand."""
    names = [each["name"] for each in board["annotations"]["list"]]
    assert names == ["Deploys", "Marked deploys", "Restarts", "Alerts"]
    for event in _events(board):
        assert event["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert set(re.findall(r"\$(\w+)", event["expr"])) == {"job", "instance"}


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_unit_in_words_stands_at_the_axis_once(board: Dashboard, panel: Dashboard) -> None:
    """The numbers at the axis of a graph have no words, and what is counted is named beside."""
    if panel["type"] == "timeseries":
        settings = panel["fieldConfig"]["defaults"]
        assert ":" not in settings["unit"]
        assert settings["unit"] not in PLAIN_UNITS or settings["custom"]["axisLabel"]
        assert settings["custom"]["fillOpacity"] == 0 or "stacking" in settings["custom"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_first_variables_are_everywhere_the_same(board: Dashboard) -> None:
    """Data source, job and instance can be chosen, in this order."""
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names[:3] == ["datasource", "job", "instance"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_lie_beside_each_other(board: Dashboard) -> None:
    """No two panels of a dashboard overlap, none leaves the grid, and each has its own number."""
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_each_dashboard_has_an_address_of_its_own() -> None:
    """The uids differ, are as long as Grafana takes them, and no dashboard brings a number."""
    uids = [board["uid"] for board in BOARDS.values()]
    assert len(set(uids)) == len(uids) == 10
    assert all(8 <= len(uid) <= 40 for uid in uids)
    assert all(board.get("id") is None for board in BOARDS.values())


def test_every_metric_of_the_exporter_is_shown() -> None:
    """Some panel asks for each family that the exporter exposes."""
    with (
        PrometheusExporter(collect_defaults=False, upstream=True) as exporter,
        JsonLinesExporter(str.encode, metrics=exporter.forwards_to),
    ):
        exposed = re.findall(r"^# TYPE (\w+)", exporter.metrics(), re.MULTILINE)
    asked = " ".join(
        target["expr"]
        for board in BOARDS.values()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    )
    assert len(exposed) > 10
    assert [name for name in exposed if name not in asked] == []


def test_every_metric_of_the_integrations_is_shown() -> None:
    """Some panel asks for each metric that an integration declares, and all that are renamed."""
    found = set(integrated.METRICS)
    for module in pkgutil.iter_modules(integrations.__path__):
        values = vars(importlib.import_module(f"{integrations.__name__}.{module.name}")).values()
        found |= {one.name for one in values if isinstance(one, Declaration)}
        found |= {one._name for one in values if isinstance(one, Gauge)}
    found -= NOT_SHOWN
    asked = " ".join(_expressions())
    assert [name for name in sorted(found) if not re.search(rf"\b{name}(_\w+)?{{", asked)] == []
    assert found == set(integrated.METRICS)


def test_metrics_and_labels_are_the_exporters() -> None:
    """No query asks for a label that no metric and no Prometheus has."""
    known = {
        "job", "instance", "le", "object_classname", "caller_functionname", "caller_filename", "id",
        "parent_object_classname", "result", "exception", "from_classname", "from_functionname",
        "to_classname", "to_functionname", "metric", "version", "implementation", "generation",
        "python", "collector", "exporter", "worker", "title", "subtitle", "source", "target",
        "object_props_topic", "parent_object_props_topic", "caller_props_topic", "$prop",
        "alertname", "severity", "objective", "kind", "name", "service_version", "class", "",
    }  # fmt: skip
    known |= {value for value in vars(integrated).values() if isinstance(value, str)}
    asked = {
        name
        for expression in _expressions()
        for names in re.findall(r"(?:by|on) \(([^)]*)\)", expression)
        for name in names.split(", ")
    }
    assert asked <= known
