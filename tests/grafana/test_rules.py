"""Recording and alerting rules."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from hypertrace.metrics.names import Names
from hypertrace_prometheus.dashboards import objectives, rules
from hypertrace_prometheus.dashboards.objectives import Objective


def test_they_do_what_they_say(component: Callable[[str], str], root: Path) -> None:
    """Each rule, given series that are made up, records and alerts as rules.yml says."""
    command = [
        component("promtool"),
        "test",
        "rules",
        str(root / "tests" / "grafana" / "rules.yml"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_rule_is_tested(root: Path) -> None:
    """Each alert and each record is named in rules.yml."""
    tests = (root / "tests" / "grafana" / "rules.yml").read_text()
    names = [
        rule.get("alert") or rule["record"] for group in rules.groups() for rule in group["rules"]
    ]
    assert [name for name in names if name not in tests] == []


def test_where_there_are_entries_functions_are_silent() -> None:
    """One cause is one alert: that of the entry, and not of all functions that it passed."""
    alerts = [rule for group in rules.groups() for rule in group["rules"] if "alert" in rule]
    for name in ("HypertraceErrorRatio", "HypertraceSlow"):
        of_entries, of_functions = (rule["expr"] for rule in alerts if rule["alert"] == name)
        assert "unless" not in of_entries
        assert of_functions.endswith(" unless on (job) entry:entry_duration_seconds_count:rate5m")


def test_promtool_finds_nothing(component: Callable[[str], str], tmp_path: Path) -> None:
    """The rules for other names of metrics are valid, too, and name no metric otherwise."""
    path = tmp_path / "rules.yml"
    names = Names(prefix="shop_", counter_name="function_counter")
    made = rules.groups(names) + objectives.groups(
        [
            Objective("o", "function_duration_seconds", {"object_classname": "C"}, 0.9, 0.25),
            Objective("e", "entry_duration_seconds", {"kind": "http"}, 0.9, 0.25),
        ],
        names,
    )
    path.write_text(rules.text(made))
    run = subprocess.run(
        [component("promtool"), "check", "rules", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    text = path.read_text()
    assert "function_counter_total" not in text
    assert "class:function_counter:rate5m" in text
    assert "function:shop_function_duration_seconds:p95_5m" in text
    assert "class:shop_function_errors:ratio_rate5m > 0.05" in text
    assert "entry:shop_entry_errors:ratio_rate5m > 0.05" in text
    assert re.findall(r"(?<!shop_)\bfunction_(?!counter\b|bad\b)\w+", text) == []
    assert re.findall(r"(?<!shop_)\bentry_(?!bad\b)\w+", text) == []


def test_the_text_is_yaml() -> None:
    """What is written reads back as the same groups, quotes and all."""
    groups = [
        {
            "name": "it's",
            "rules": [
                {"record": "a:b", "expr": 'x{l="\'\\\\"} > 1', "labels": {"a": "b: c # d"}},
                {"alert": "A", "expr": "1", "for": "0m"},
            ],
        }
    ]
    assert yaml.safe_load(rules.text(groups)) == {"groups": groups}
