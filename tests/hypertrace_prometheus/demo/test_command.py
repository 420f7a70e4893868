"""Command `hypertrace demo`."""

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

from hypertrace import get_trace_function
from hypertrace.cli.main import main

URL = re.compile(r"http://127\.0\.0\.1:(\d+)/metrics")


class Terminal(io.StringIO):
    """A text stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def _program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in its own process, and see to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hypertrace", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that cannot import a module."""
    program = (
        f"import sys; sys.modules[{module!r}] = None; from hypertrace.cli.main import main; "
        "sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names the options and shows examples."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    taught = ("--port", "--host", "--duration", "examples:", "hypertrace demo --questions 500")
    assert [word for word in taught if word not in shown] == []


def test_the_list_of_commands_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`hypertrace` lists `demo`."""
    assert main([]) == 2
    assert "run an application with tracers in it" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["demo"], ["dashboards"], ["dashboards", "push"]])
def test_without_the_extra_a_command_says_what_to_install(command: list[str]) -> None:
    """Without `prometheus_client` a command is one line with the extra, and the code is 1."""
    run = _without("prometheus_client", *command)
    assert run.returncode == 1
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"hypertrace: {' '.join(command)} cannot run: ")
    assert line.endswith('pip install "hypertrace[prometheus]"')


def test_without_the_extra_the_help_says_what_to_install() -> None:
    """Without `prometheus_client`, `hypertrace --help` lists the commands and what they need."""
    run = _without("prometheus_client", "--help")
    assert run.returncode == 0
    assert run.stderr == ""
    missing = re.findall(r"cannot run: .* pip install \"hypertrace\[prometheus\]\"", run.stdout)
    assert len(missing) == 4


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


def test_a_busy_port_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_an_impossible_address_is_reported_in_one_line(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host or port that cannot be bound ends the demo with code 1 and one line that names it."""
    assert main(["demo", "--port", "0", option, value]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert value in captured.err


def test_a_python_without_its_sources_is_reported_in_one_line(
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


def test_the_banner_says_where_the_metrics_are_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The banner has the URL, the Prometheus command and the port, in lines of 80 characters."""
    main(["demo", "--port", "0", "--duration", "0.1"])
    banner = capsys.readouterr().out
    port = next(URL.finditer(banner))[1]
    # Where packages of Prometheus keep data by default, a person may not write.
    assert "prometheus --config.file=prometheus.yml --storage.tsdb.path=data" in banner
    assert "  hypertrace dashboards\n" in banner
    assert max(map(len, banner.split("Ends after")[0].splitlines())) <= 80
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
