"""Command `hypertrace statsd-mapping`: its files, its applications and its failures."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hypertrace.cli.main import main

from .lego import CONF

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Counter, Distribution, Metrics

LOGINS = Counter("logins_total", tags=["provider"])
DECLARED = [LOGINS, Distribution("checkout_seconds", buckets=(1, 2))]
NAMES = ["a"]


class Inner:
    METRICS = Metrics(allowed_props=["topic"], prefix="app_")
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder with a module that declares metrics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERTRACE_WORKERS", "auto")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def write(name: str, text: str = MODULE) -> str:
    with open(f"{name}.py", "w") as file:  # noqa: PTH123 -- in the folder of the test
        file.write(text)
    return name


def mapping(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["statsd-mapping", *arguments]) == 0, capsys.readouterr().err
    rules: list[dict[str, Any]] = yaml.safe_load(capsys.readouterr().out)["mappings"]
    return rules


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["statsd-mapping", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def names(rules: list[dict[str, Any]]) -> set[str]:
    return {rule["name"] for rule in rules}


def test_a_file_in_the_old_format_becomes_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout."""
    rules = mapping(capsys, "--from", str(CONF))
    assert len(rules) == 27
    assert rules[0]["name"] == "feed_attr_cache"


def test_it_reads_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `-`."""
    stdin = io.TextIOWrapper(io.BytesIO(b'a.*\nname="b"\nc="$1"\n'))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert mapping(capsys, "--from", "-") == [{"match": "a.*", "name": "b", "labels": {"c": "$1"}}]


def test_it_writes_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And says so."""
    file = tmp_path / "mapping.yml"
    assert main(["statsd-mapping", "--from", str(CONF), "--output", str(file)]) == 0
    assert capsys.readouterr().out == f"Written: {file}\n"
    assert len(yaml.safe_load(file.read_text())["mappings"]) == 27


def test_the_metrics_of_functions_need_no_module(capsys: pytest.CaptureFixture[str]) -> None:
    """With allowed props, and behind the exporter's prefix."""
    rules = mapping(capsys, "--prefix", "shop", "--prop", "topic")
    (calls,) = (rule for rule in rules if rule["name"] == "function_counter_total")
    assert calls["match"].startswith("shop.function_counter_total.*.")
    assert calls["labels"]["object_classname"] == "${1}"
    assert "caller_props_topic" in calls["labels"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", {"logins_total", "checkout_seconds", "function_counter_total"}),
        (":DECLARED", {"logins_total", "checkout_seconds", "function_counter_total"}),
        (":LOGINS", {"logins_total", "function_counter_total"}),
        (":Inner.METRICS", {"app_function_counter_total"}),
    ],
)
def test_a_module_has_declarations_or_a_metrics(
    capsys: pytest.CaptureFixture[str], path: str, expected: set[str]
) -> None:
    """By the name of one, or all of them."""
    module = write("declares_some")
    found = names(mapping(capsys, "--declared", module + path))
    every = {"logins_total", "checkout_seconds", "function_counter_total"}
    assert found & (every | {"app_function_counter_total"}) == expected


def test_an_exporter_has_a_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name it is found, also beside its metrics."""
    text = """
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Counter, Metrics

metrics = Metrics(declared=[Counter("logins_total")])
exporter = JsonLinesExporter(lambda line: None, metrics=metrics)
exporter.stop()
"""
    module = write("exports", text)
    for path in ("", ":exporter"):
        assert "logins_total" in names(mapping(capsys, "--declared", module + path))


def test_it_shares_nothing_with_an_application_that_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever the environment says."""
    module = write("shares", "import os\nfrom hypertrace.metrics import Metrics\nm = Metrics()\n")
    mapping(capsys, "--declared", module)
    assert not sys.modules[module].m.storage.is_shared
    assert os.environ["HYPERTRACE_WORKERS"] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "none.conf"], "No such file or directory: none.conf"),
        (["--from", "bad.conf"], "bad.conf, line 2: 'name=b' is no label; write name=\"b\""),
        (["--from", "latin.conf"], "latin.conf, line 1: this is no text in UTF-8"),
        (["--from", str(CONF), "--output", "none/a.yml"], "No such file or directory: none/a.yml"),
        (["--prefix", "a b"], "prefix 'a b' is no beginning of a name"),
        (["--prefix", "1"], "prefix '1' is none that statsd_exporter takes"),
        (["--prop", "password"], "looks like a secret"),
        (["--declared", "no_such_module"], "there is no module 'no_such_module'"),
        (["--declared", "declares_some.none"], "there is no module 'declares_some.none'"),
        (["--declared", "declares_some:NONE"], "there is no 'NONE'"),
        (["--declared", "declares_some:NAMES"], "this is ['a']; it must be a Metrics"),
        (["--declared", "declares_some:Inner.METRICS", "--prop", "a"], "those of the Metrics"),
        (["--declared", "declares_none"], "has no Metrics, no exporter and no declarations"),
        (["--declared", "several"], "there are several Metrics; choose one, as several:a"),
        (["--declared", "broken"], "importing broken raised ZeroDivisionError"),
        (["--declared", "leaves"], "importing leaves raised SystemExit: 3"),
        (["--declared", "needs"], "importing needs raised ModuleNotFoundError: No module named"),
    ],
)
def test_failures_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Which says what to do."""
    write("declares_some")
    write("declares_none", "a = 1\n")
    write("several", "from hypertrace.metrics import Metrics\na, b = Metrics(), Metrics()\n")
    write("broken", "1 / 0\n")
    write("leaves", "raise SystemExit(3)\n")
    write("needs", "import no_such_library\n")
    (tmp_path / "bad.conf").write_text("a\nname=b\n")
    (tmp_path / "latin.conf").write_bytes(b"\xe4\n")
    reported = failure(capsys, *arguments)
    assert message in reported
    assert reported.count("\n") == 1


def test_a_file_excludes_what_is_for_own_names(capsys: pytest.CaptureFixture[str]) -> None:
    """As a mistake in the arguments."""
    with pytest.raises(SystemExit) as exit_:
        main(["statsd-mapping", "--from", str(CONF), "--prefix", "shop"])
    assert exit_.value.code == 2
    assert "--from reads a file" in capsys.readouterr().err


def test_its_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all that it does."""
    with pytest.raises(SystemExit):
        main(["statsd-mapping", "--help"])
    shown = capsys.readouterr().out
    for option in ("--from", "--declared", "--prop", "--prefix", "--output"):
        assert shown.count(option) > 1, option
