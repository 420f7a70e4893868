"""Commands `hypertrace dashboards` and `hypertrace dashboards push`."""

import io
import sys
from pathlib import Path

import pytest

from hypertrace.cli.main import main
from hypertrace_prometheus import PrometheusExporter


@pytest.mark.parametrize(
    ("arguments", "taught"),
    [
        (
            ["dashboards", "--help"],
            ["DIR", "--prop", "--prefix", "--name", "--counter-name", "--objectives", "examples:"],
        ),
        (["dashboards", "push", "--help"], ["--url", "--token", "GRAFANA_TOKEN", "--folder"]),
    ],
)
def test_help_teaches(
    arguments: list[str], taught: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` names the options and shows examples."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert [word for word in taught if word not in shown] == []


def test_the_list_of_commands_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    """`hypertrace` lists `dashboards` and `dashboards push`."""
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert "write Grafana dashboards and Prometheus rules" in shown
    assert "\n    dashboards push" in shown
    assert "bring the dashboards into a Grafana" in shown


@pytest.mark.parametrize("prog", ["hypertrace", "hypertrace-prometheus"])
def test_the_advice_names_the_program_that_runs(
    prog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What to do next begins with the name that the program was started by."""
    assert main(["dashboards", str(tmp_path)], prog=prog) == 0
    assert f"; or `{prog} dashboards push`.\n" in capsys.readouterr().out


def test_a_name_cannot_control_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in the name of a file are escaped, on stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    assert main(["dashboards", "new\x1b[2J\x9b\u202e"]) == 0
    assert r"new\x1b[2J\x9b\u202e/rules/hypertrace.yml" in capsys.readouterr().out.splitlines()
    assert main(["dashboards", "--objectives", "missing\x1b[2J\n"]) == 1
    assert r": missing\x1b[2J\n: No such file" in capsys.readouterr().err


def test_a_name_is_shown_on_any_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Characters that stdout cannot encode are escaped; so are bytes of a name that are no text."""
    monkeypatch.chdir(tmp_path)
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    assert main(["dashboards", "g\u00e4nse\udcff"]) == 0
    written.seek(0)
    assert r"g\xe4nse\udcff/rules/hypertrace.yml" in written.read().splitlines()
    assert capsys.readouterr().err == ""


def test_dashboards_and_rules_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dashboards` writes a folder, over one of an earlier time, and prints what to do with it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("hypertrace-dashboards")
    for _ in range(2):
        assert main(["dashboards"]) == 0
        found = sorted(str(path) for path in folder.rglob("*.*"))
        printed = capsys.readouterr().out.splitlines()
        assert len(found) == 11
        assert found == sorted(printed[:11])
        # Prometheus looks for it from where prometheus.yml is, wherever that may be.
        assert printed[-1].endswith(f'rule_files: ["{tmp_path}/hypertrace-dashboards/rules/*.yml"]')
    assert {path.suffix for path in folder.rglob("*.*")} == {".json", ".yml"}


def test_dashboards_are_those_that_the_options_ask_for(tmp_path: Path) -> None:
    """Props, the counter's name and objectives are in what is written."""
    declared = tmp_path / "objectives.toml"
    declared.write_text('[[objective]]\nname = "o"\nclass = "C"\ntarget = 0.9\n')
    options = ["--prop", "topic", "--counter-name", "calls", "--objectives", str(declared)]
    assert main(["dashboards", str(tmp_path / "new" / "folder"), *options]) == 0
    made = {path.name: path.read_text() for path in (tmp_path / "new").rglob("*.*")}
    assert "Calls by topic" in made["class-explorer.json"]
    assert "function_counter_total" not in "".join(made.values())
    assert "rate(calls[5m])" in made["hypertrace.yml"]
    assert "'hypertrace-slo-o'" in made["hypertrace-objectives.yml"]


def test_dashboards_have_the_names_of_the_exporter(tmp_path: Path) -> None:
    """Queries, rules and objectives ask for what an exporter with the same names shows."""
    declared = tmp_path / "objectives.toml"
    declared.write_text('[[objective]]\nname = "o"\nclass = "C"\ntarget = 0.9\n')
    options = ["--prefix", "shop_", "--name", "function_counter_total=calls_total"]
    options += ["--name", "function_exceptions_total=failures_total"]
    folder = tmp_path / "new"
    assert main(["dashboards", str(folder), *options, "--objectives", str(declared)]) == 0
    made = {path.name: path.read_text() for path in folder.rglob("*.*")}
    assert "calls_total{" in made["overview.json"]
    assert "failures_total{" in made["class-explorer.json"]
    assert "rate(calls_total[5m])" in made["hypertrace.yml"]
    assert "rate(shop_function_duration_seconds_count{" in made["hypertrace-objectives.yml"]


def test_a_name_without_its_new_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """`--name` without `=` gives code 2, and shows how it is written."""
    with pytest.raises(SystemExit) as caught:
        main(["dashboards", "--name", "calls"])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "'calls' is no pair of names; write function_counter_total=calls_total" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prop", "a-b", "--prop", "a_b"], "'a-b' and 'a_b'"),
        (["--counter-name", "no name"], "'no name'"),
        (["--prefix", "shop"], "let it end in '_': 'shop_'"),
        (["--name", "function_calls_total=x"], "no metric is called so"),
        (["--counter-name", "a", "--name", "function_counter_total=b"], "give one"),
        (["--objectives", "missing.toml"], "missing.toml: No such file"),
        (["README.md/below"], "README.md"),
    ],
)
def test_impossible_dashboards_are_reported_in_one_line(
    options: list[str],
    message: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistake in the options, or a folder that cannot be written, gives code 1 and one line."""
    monkeypatch.chdir(root)
    assert main(["dashboards", *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_the_exporters_refusal_of_a_prop_is_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prop that the exporter refuses is refused with its words, unless it is allowed as there."""
    with pytest.raises(ValueError, match="looks like a secret") as refused:
        PrometheusExporter(collect_defaults=False, allowed_props=["password"])
    options = [str(tmp_path / "new"), "--prop", "password"]
    assert main(["dashboards", *options]) == 1
    assert capsys.readouterr().err == f"hypertrace: {refused.value}\n"
    assert not (tmp_path / "new").exists()
    assert main(["dashboards", *options, "--unsafe-prop", "password"]) == 0
    explorer = (tmp_path / "new" / "dashboards" / "class-explorer.json").read_text()
    assert "Calls by password" in explorer


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["pul"], "push"),
        (["psuh"], "push"),
        (["Push"], "push"),
        (["--prop", "x", "push"], "push"),
        (["--", "push"], "push"),
        (["help"], "--help"),
    ],
)
def test_a_mistyped_subcommand_is_no_folder(
    arguments: list[str],
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A word that looks like a subcommand gives code 2 and the likely word, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["dashboards", *arguments])
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"did you mean `hypertrace dashboards {meant}`" in last
    assert f"write ./{arguments[-1]}" in last
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty DIR, as of a variable that is not set, is not the current folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["dashboards", ""])
    assert caught.value.code == 2
    assert "its name is empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["./push", "new", "pull"])
def test_a_folder_may_have_any_name(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path with a slash, a word like no subcommand, and a folder that is there are written to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pull").mkdir()
    assert main(["dashboards", folder]) == 0
    assert (tmp_path / folder / "rules" / "hypertrace.yml").exists()


@pytest.mark.parametrize("value", ["1", "[" * 100_000], ids=["no table", "too deep"])
def test_objectives_that_make_no_sense_are_one_line(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that declares no objectives gives code 1 and one line that names it."""
    declared = tmp_path / "objectives.toml"
    declared.write_text(f"objective = {value}\n")
    assert main(["dashboards", str(tmp_path / "new"), "--objectives", str(declared)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"hypertrace: {declared}: ")
    assert captured.err.count("\n") == 1
