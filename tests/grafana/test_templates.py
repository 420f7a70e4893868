"""Dashboards for any names of metrics and any props."""

import json
import re

import pytest

from hypertrace.metrics.names import Names
from hypertrace_prometheus.dashboards import integrated
from hypertrace_prometheus.dashboards.templates import Dashboard, dashboards


def _panels(*props: str) -> dict[str, Dashboard]:
    explorer = dashboards(props=props)["class-explorer"]
    return {panel["title"]: panel for panel in explorer["panels"]}


def test_there_are_ten() -> None:
    """Each dashboard has the name of its file."""
    assert list(dashboards()) == [
        "call-graph",
        "class-explorer",
        "exporter-health",
        "http",
        "jobs",
        "outgoing-calls",
        "overview",
        "process",
        "runtime",
        "sql",
    ]


def test_metrics_of_integrations_are_called_as_the_user_calls_them() -> None:
    """A prefix, or another name, is that of the metrics of integrations, too."""
    names = Names(prefix="shop_", names={"jobs_total": "work_total"})
    text = json.dumps(dashboards(names))
    for name in integrated.METRICS:
        assert not re.search(rf"(?<!shop_)\b{name}(_bucket|_count|_sum)?{{", text), name
    assert "shop_entry_duration_seconds_bucket{" in text
    assert "work_total{" in text
    assert "process_start_time_seconds{" in text


def test_the_counter_is_called_as_the_user_calls_it() -> None:
    """Another name of the counter takes the place of the default everywhere."""
    text = json.dumps(dashboards(Names(counter_name="my_calls")))
    assert "my_calls{" in text
    assert "function_counter_total" not in text


def test_metrics_are_called_as_the_user_calls_them() -> None:
    """Prefix and names are in every query; nothing asks for a metric of functions otherwise."""
    names = {"function_duration_seconds": "took", "function_edges_total": "edges_of_function"}
    text = json.dumps(dashboards(Names(prefix="shop_", names=names)))
    for name in ("took_bucket", "took_count", "edges_of_function", "shop_function_in_progress"):
        assert f"{name}{{" in text
    assert re.findall(r"(?<!shop_)\bfunction_[a-z]+_[a-z_]+", text) == []
    assert "hypertrace_series{" in text


def test_a_prop_gets_a_panel() -> None:
    """The class explorer has one panel more, for the object, its parent and the call."""
    panel = _panels("user-id")["Calls by user_id"]
    labels = [f"{prefix}_props_user_id" for prefix in ("object", "parent_object", "caller")]
    for label, target in zip(labels, panel["targets"], strict=True):
        assert f"sum by ({label})" in target["expr"]
        assert target["legendFormat"].startswith(f"{{{{{label}}}}} (")
        assert "$prop" not in json.dumps(target)
    assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"]
    assert "repeat" not in panel


def test_panels_of_props_come_in_order_below_the_others() -> None:
    """Four props fill a line of three panels and begin another; nothing else moves."""
    before = _panels()
    added = [panel for title, panel in _panels(*"abcd").items() if title not in before]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in added]
    top = places[0][1]
    height = added[0]["gridPos"]["h"]
    assert places == [(0, top), (8, top), (16, top), (0, top + height)]
    assert top == max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in before.values())


@pytest.mark.parametrize("props", [("",), ("user-id", "user_id")])
def test_props_that_the_exporter_refuses_are_refused(props: tuple[str, ...]) -> None:
    """A prop without a name, or two that become one label, raise as in the exporter."""
    with pytest.raises(ValueError, match="allowed_props"):
        dashboards(props=props)
