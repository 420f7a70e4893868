"""Configurations in deploy/: each parses, and has only keys that the program documents."""

from __future__ import annotations

import configparser
import re
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hypertrace.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
DOCS = DEPLOY.parent / "docs"

TELEGRAF: dict[str, dict[str, type]] = {
    "influxdb_listener": {"service_address": str, "database_tag": str},
    "prometheus": {"urls": list, "metric_version": int, "timeout": str},
    "socket_listener": {"service_address": str, "socket_mode": str, "data_format": str},
    "statsd": {
        "protocol": str,
        "service_address": str,
        "templates": list,
        "delete_counters": bool,
        "delete_gauges": bool,
        "percentiles": list,
    },
}
"""Of plugins/inputs/NAME/sample.conf in Telegraf 1.39: the keys that we use, and their types."""

AGGREGATION: dict[str, type] = {
    "match": str,
    "interval": str,
    "without": list,
    "outputs": list,
    "keep_metric_names": bool,
    "staleness_interval": str,
    "ignore_first_sample_interval": str,
}
"""Of the stream aggregation of VictoriaMetrics 1.145."""

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def _links() -> str:
    return "".join(page.read_text() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_page_leads_to_each_file(path: Path) -> None:
    """And each begins with a comment that says what it is and how it is used."""
    assert f"deploy/{path.relative_to(DEPLOY).as_posix()}" in _links() or (
        path.name == "jobs.rules.yml" and "jobs.rules.yml" in _links()
    )
    assert path.read_text().startswith("# ")


def test_every_file_that_a_page_names_is_there() -> None:
    """No link to deploy/ leads nowhere."""
    names = set(re.findall(r"deploy/([\w./-]+\w)", _links()))
    assert {name for name in names if not (DEPLOY / name).exists()} == set()


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("telegraf/*.conf")), ids=lambda path: path.name)
def test_telegraf_knows_all_keys(path: Path) -> None:
    """Each file is TOML with one plugin, and keys and types of its documentation."""
    parsed = tomllib.loads(path.read_text())
    assert parsed.keys() == {"inputs"}
    ((plugin, (settings,)),) = parsed["inputs"].items()
    assert plugin == path.stem
    known = TELEGRAF[plugin]
    assert {key: type(value) for key, value in settings.items()} == known


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("telegraf/*.conf")), ids=lambda path: path.name)
def test_telegraf_and_the_exporter_have_one_address(path: Path) -> None:
    """The address in the call that the file begins with is the one below."""
    text = path.read_text()
    (settings,) = next(iter(tomllib.loads(text)["inputs"].values()))
    call = re.search(r"\w+Exporter\((.*?)\)", text)
    assert call is not None
    address = settings.get("service_address", settings.get("urls", [""])[0])
    place = re.sub(r"^\w+://", "", address).removesuffix("/metrics").removeprefix("127.0.0.1:")
    assert place in call[1]


def test_the_templates_of_telegraf_name_all_labels() -> None:
    """In the order in which the exporter makes parts of the name of them."""
    ((settings,),) = tomllib.loads((DEPLOY / "telegraf" / "statsd.conf").read_text())[
        "inputs"
    ].values()
    templates = dict(template.split() for template in settings["templates"])
    assert templates.pop("shop.*") == ".measurement*"
    families = {
        f"shop.{family.name.replace('_seconds', '_milliseconds')}.*": family.label_names
        for family in Metrics(workers=False).read().families
    }
    first = ["object_classname", "caller_functionname", "id"]
    for metric, template in templates.items():
        rest = [name for name in families[metric] if name not in first]
        assert template.split(".") == ["", "measurement", *first, *rest]


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yml")), ids=lambda path: path.name)
def test_all_yaml_parses(path: Path) -> None:
    """Each has a mapping or a list."""
    assert isinstance(yaml.safe_load(path.read_text()), dict | list)


def test_the_stream_aggregation_has_only_keys_that_there_are() -> None:
    """With the types that they have; a real VictoriaMetrics reads it in another test."""
    rules: list[dict[str, Any]] = yaml.safe_load(
        (DEPLOY / "stream_aggregation" / "runs.yml").read_text()
    )
    for rule in rules:
        assert {key: type(value) for key, value in rule.items()}.items() <= AGGREGATION.items()
    assert [rule["outputs"] for rule in rules] == [["total"], ["last"]]


@pytest.mark.parametrize("path", ["pushgateway/prometheus.yml"])
def test_promtool_accepts_the_configuration_of_prometheus(
    path: str, component: Callable[[str], str]
) -> None:
    """With its rules."""
    subprocess.run([component("promtool"), "check", "config", DEPLOY / path], check=True)


@pytest.mark.parametrize("name", ["prometheus-agent.yml", "vmagent.yml"])
def test_promtool_accepts_the_configurations_of_agents(
    name: str, component: Callable[[str], str]
) -> None:
    """As those of Prometheus in agent mode; vmagent reads the same format."""
    path = DEPLOY / "remote_write" / name
    subprocess.run([component("promtool"), "check", "config", "--agent", path], check=True)


def test_a_password_of_the_remote_write_may_be_put_in(tmp_path: Path) -> None:
    """What stands there as a comment is YAML of the same list."""
    text = (DEPLOY / "remote_write" / "prometheus-agent.yml").read_text()
    uncommented = re.sub(r"^    # (url|basic_auth)", r"    \1", text, flags=re.MULTILINE)
    uncommented = uncommented.replace("  - url: http://127.0.0.1:9090/api/v1/write\n", "  -\n")
    (remote,) = yaml.safe_load(uncommented)["remote_write"]
    assert remote.keys() == {"url", "basic_auth"}
    assert remote["basic_auth"].keys() == {"username", "password_file"}


def test_the_unit_of_node_exporter_is_one() -> None:
    """Its folder is that of the page, and made before the start."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(DEPLOY / "node_exporter" / "node_exporter.service")
    assert unit.sections() == ["Unit", "Service", "Install"]
    folder = "/var/lib/prometheus/node-exporter"
    assert f"--collector.textfile.directory={folder} " in unit["Service"]["ExecStart"]
    assert unit["Service"]["ExecStartPre"].endswith(folder)
    assert folder in (DOCS / "pushgateway.md").read_text()


RULE_TESTS = """
rule_files: [jobs.rules.yml]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      - series: jobs_last_success_timestamp_seconds{job="jobs",job_name="late"}
        values: 0x50
      - series: jobs_last_success_timestamp_seconds{job="jobs",job_name="good"}
        values: 0+3600x50
      - series: jobs_last_run_timestamp_seconds{job="jobs",job_name="good"}
        values: 0+3600x50
      - series: jobs_last_run_timestamp_seconds{job="jobs",job_name="never"}
        values: 3600x50
    alert_rule_test:
      - eval_time: 25h
        alertname: JobHasNotSucceeded
        exp_alerts: []
      - eval_time: 26h
        alertname: JobHasNotSucceeded
        exp_alerts:
          - exp_labels: { severity: warning, job_name: late }
            exp_annotations: { summary: late has not succeeded for 1d 2h 0m 0s }
      - eval_time: 26h
        alertname: JobHasNeverSucceeded
        exp_alerts:
          - exp_labels: { severity: warning, job_name: never }
            exp_annotations: { summary: "never has run, and has never succeeded" }
"""


def test_the_alerts_for_jobs_fire_when_they_should(
    component: Callable[[str], str], tmp_path: Path
) -> None:
    """After 25 hours without a success, and for a job that never had one."""
    rules = DEPLOY / "pushgateway" / "jobs.rules.yml"
    (tmp_path / rules.name).write_text(rules.read_text())
    (tmp_path / "test.yml").write_text(RULE_TESTS)
    run = subprocess.run(
        [component("promtool"), "test", "rules", tmp_path / "test.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
