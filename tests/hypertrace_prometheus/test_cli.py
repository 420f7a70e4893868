"""The command line."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypertrace import __version__, get_trace_function
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.cli import main

URL = re.compile(r"http://127\.0\.0\.1:(\d+)/metrics")


class Terminal(io.StringIO):
    """A text stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def _program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a process of its own, and see to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hypertrace_prometheus", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "taught"),
    [
        (["--help"], ["demo", "dashboards push", "examples:", "http://127.0.0.1:4343/metrics"]),
        (
            ["dashboards", "--help"],
            ["DIR", "--prop", "--counter-name", "--objectives", "examples:"],
        ),
        (["dashboards", "push", "--help"], ["--url", "--token", "GRAFANA_TOKEN", "--folder"]),
        (["demo", "--help"], ["--port", "--host", "--duration", "examples:", "--questions 500"]),
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


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help goes to stderr, and the exit code is 2."""
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version of hypertrace."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hypertrace {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--duration", "0"],
        ["--duration", "nan"],
        ["--duration", "inf"],
        ["--questions", "0"],
        ["--questions", "many"],
    ],
)
def test_a_wrong_number_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A number out of range ends the program with code 2 and a line that cites it."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", *arguments])
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {arguments[0]}: {arguments[1]!r} is no number above 0" in last


def test_a_busy_port_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use ends the demo with code 1, one line, and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"port {port} " in captured.err
    assert "--port 0" in captured.err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--host", "192.0.2.1"), ("--host", "no.such.invalid"), ("--port", "65536")],
)
def test_an_address_that_cannot_be_is_told_in_one_line(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host or port that cannot be bound ends the demo with code 1 and one line that names it."""
    assert main(["demo", "--port", "0", option, value]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert value in captured.err


def test_a_python_without_its_sources_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the standard library has no source files, the demo ends with code 1 and one line."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert main(["demo", "--port", "0"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert str(tmp_path) in captured.err


def test_the_demo_ends_after_its_duration(capsys: pytest.CaptureFixture[str]) -> None:
    """`--duration` ends the demo with code 0, a summary, and tracing off again."""
    assert main(["demo", "--port", "0", "--duration", "0.5"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Ends after 0.5 s." in captured.out
    assert re.search(r"\d+  Shard\._insert", captured.out)
    assert get_trace_function() is None


def test_the_banner_tells_where_the_metrics_are_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first lines name the URL, the Prometheus command and the port it has to scrape."""
    main(["demo", "--port", "0", "--duration", "0.1"])
    banner = capsys.readouterr().out
    port = next(URL.finditer(banner))[1]
    # Where packages of Prometheus keep data by default, a person may not write.
    assert "prometheus --config.file=prometheus.yml --storage.tsdb.path=data" in banner
    assert "hypertrace-prometheus dashboards" in banner
    assert f"write {port} in place of 4343" in banner


def test_a_terminal_gets_one_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the line of counts rewrites itself and is no wider than the terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    main(["demo", "--port", "0", "--duration", "2.5"])
    (live,) = [line for line in terminal.getvalue().split("\n") if "\r" in line]
    shown = live.split("\r")[1:]
    assert len(shown) >= 2
    assert {len(text) for text in shown} == {59}
    assert all("calls traced" in text for text in shown)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_demo_cleanly(how: signal.Signals) -> None:
    """Ctrl-C and SIGTERM give exit code 0, a summary, and nothing on stderr."""
    with _program("demo", "--port", "0") as process:
        assert process.stdout
        for line in process.stdout:
            if "Stop with Ctrl-C" in line:
                break
        process.send_signal(how)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "The most called functions" in out
    assert err == ""


def test_after_its_questions_the_demo_goes_on_serving() -> None:
    """`--questions` stops the work; what the page says then is what the demo printed."""
    with _program("demo", "--port", "0", "--questions", "10") as process:
        assert process.stdout
        printed = ""
        for line in process.stdout:
            printed += line
            if "All questions are asked" in line:
                break
        with urllib.request.urlopen(next(URL.finditer(printed))[0], timeout=10) as answer:
            page = answer.read().decode()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    (asked,) = (
        line
        for line in page.splitlines()
        if line.startswith("function_counter_total{")
        and '="ask",object_classname="Library"' in line
    )
    assert asked.endswith("} 10")
    assert "10 questions" in printed
    assert process.returncode == 0


def test_a_reader_that_goes_away_is_no_error_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closed pipe, as of `demo | head`, ends the demo with code 1 and nothing on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["demo", "--port", "0"]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("stdout", "reason", "unbuffered"),
    [
        (">&-", "is closed", ""),
        (">/dev/full", "No space left on device", ""),
        (">/dev/full", "No space left on device", "1"),
    ],
)
@pytest.mark.parametrize(
    "arguments", ["--version", "dashboards --help", "demo --port 0", "dashboards folder"]
)
def test_an_output_that_takes_nothing_is_one_line(
    arguments: str, stdout: str, reason: str, unbuffered: str, tmp_path: Path
) -> None:
    """Where stdout is closed or full, the command ends with code 1 and one line on stderr."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    run = subprocess.run(
        ["sh", "-c", f'exec "$0" -m hypertrace_prometheus {arguments} {stdout}', sys.executable],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("hypertrace-prometheus: stdout ")
    assert reason in run.stderr


def test_without_an_error_output_the_code_remains(tmp_path: Path) -> None:
    """Where stderr is closed, too, a failure is the exit code alone."""
    command = 'exec "$0" -m hypertrace_prometheus dashboards folder >&- 2>&-'
    run = subprocess.run(["sh", "-c", command, sys.executable], cwd=tmp_path, check=False)
    assert run.returncode == 1


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
        told = capsys.readouterr().out.splitlines()
        assert found == sorted(told[:6])
        # Prometheus looks for it from where prometheus.yml is, wherever that may be.
        assert told[-1].endswith(f'rule_files: ["{tmp_path}/hypertrace-dashboards/rules/*.yml"]')
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--prop", "a-b", "--prop", "a_b"], "'a-b' and 'a_b'"),
        (["--counter-name", "no name"], "'no name'"),
        (["--objectives", "missing.toml"], "missing.toml: No such file"),
        (["README.md/below"], "README.md"),
    ],
)
def test_dashboards_that_cannot_be_are_told_in_one_line(
    options: list[str],
    told: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistake in the options, or a folder that cannot be written, gives code 1 and one line."""
    monkeypatch.chdir(root)
    assert main(["dashboards", *options]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert told in captured.err


def test_the_exporters_refusal_of_a_prop_is_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prop that the exporter refuses is refused with its words, unless it is allowed as there."""
    with pytest.raises(ValueError, match="looks like a secret") as refused:
        PrometheusExporter(collect_defaults=False, allowed_props=["password"])
    options = [str(tmp_path / "new"), "--prop", "password"]
    assert main(["dashboards", *options]) == 1
    assert capsys.readouterr().err == f"hypertrace-prometheus: {refused.value}\n"
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
    assert f"did you mean `hypertrace-prometheus dashboards {meant}`" in last
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
    assert captured.err.startswith(f"hypertrace-prometheus: {declared}: ")
    assert captured.err.count("\n") == 1
