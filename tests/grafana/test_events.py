"""Events on the time axes: what series that are made up make of them."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypertrace_prometheus.dashboards.templates import dashboards

EVENTS = {
    event["name"]: event["expr"]
    for event in dashboards()["overview"]["annotations"]["list"]
    if "expr" in event
}

Check = Callable[[str, dict[str, str], dict[str, list[dict[str, Any]]]], str]


@pytest.fixture
def check(component: Callable[[str], str], tmp_path: Path) -> Check:
    """Give a function that returns what promtool says of an event's series at some times."""

    def run(name: str, series: dict[str, str], expected: dict[str, list[dict[str, Any]]]) -> str:
        expression = re.sub(r"\$(job|instance)", ".*", EVENTS[name])
        test = {
            "interval": "1m",
            "input_series": [{"series": key, "values": text} for key, text in series.items()],
            "promql_expr_test": [
                {"expr": expression, "eval_time": time, "exp_samples": samples}
                for time, samples in expected.items()
            ],
        }
        path = tmp_path / "test.yml"
        path.write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}))
        command = [component("promtool"), "test", "rules", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return run


def test_another_version_is_a_deploy(check: Check) -> None:
    """A version that was not there is an event for five minutes; the first one of all is none."""
    info = 'hypertrace_application_info{job="a", instance="%s", version="%s"}'
    said = check(
        "Deploys",
        {info % (1, "1.4"): "1x20 _x20", info % (1, "1.5"): "_x20 1x20"},
        {
            "2m": [],
            "23m": [{"labels": '{job="a", version="1.5"}', "value": 1}],
            "35m": [],
        },
    )
    assert said == ""


def test_another_start_is_a_restart(check: Check) -> None:
    """The start of a target's oldest process is an event; that of a younger worker is none."""
    started = 'process_start_time_seconds{job="a", instance="1", worker="%s"}'
    said = check(
        "Restarts",
        {
            started % 1: "100x20 1300x20",
            started % 2: "100x10 700x10 1300x20",
            'hypertrace_build_info{job="a", instance="1"}': "1x40",
            # Without hypertrace.
            'process_start_time_seconds{job="b", instance="2"}': "100x40",
        },
        {
            "15m": [{"labels": '{job="a", instance="1"}', "value": 100_000}],
            "30m": [{"labels": '{job="a", instance="1"}', "value": 1_300_000}],
        },
    )
    assert said == ""


def test_an_alert_is_an_event_while_it_fires(check: Check) -> None:
    """Alerts of a process and of all are events; those that are only pending are none."""
    alert = 'ALERTS{job="a", alertname="%s", alertstate="%s"}'
    said = check(
        "Alerts",
        {alert % ("Slow", "firing"): "1x10", alert % ("Silent", "pending"): "1x10"},
        {"5m": [{"labels": '{alertname="Slow"}', "value": 1}]},
    )
    assert said == ""
