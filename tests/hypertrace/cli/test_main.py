"""Program `hypertrace`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hypertrace import __version__
from hypertrace.cli.main import main

from .conftest import COMMANDS, Install

NAMES = {"hypertrace": "hypertrace", "hypertrace_prometheus": "hypertrace-prometheus"}
"""The program's names, by the module that `python -m` runs."""


@pytest.mark.usefixtures("greetings")
def test_a_command_gets_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """A command is run with what it added to the parser, and gives exit code 0."""
    assert main(["greet", "Ada"]) == 0
    assert capsys.readouterr().out == "hello, Ada\n"


@pytest.mark.usefixtures("greetings")
def test_a_command_may_have_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A command of two words goes before the first word with the second as its argument."""
    assert main(["greet", "all"]) == 0
    assert main(["greet", "al"]) == 0
    assert capsys.readouterr().out == "hello, all\nhello, al\n"


def test_a_command_may_have_more_words(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the commands that the arguments begin with, the longest one is run."""
    install(
        "long", {"greet.them.all": "commands_of_long:GREET_ALL"}, {"commands_of_long": COMMANDS}
    )
    install("short", {"greet": "commands_of_short:GREET"}, {"commands_of_short": COMMANDS})
    assert main(["greet", "them", "all"]) == 0
    assert main(["greet", "them"]) == 0
    assert capsys.readouterr().out == "hello, all\nhello, them\n"


@pytest.mark.usefixtures("greetings")
def test_a_failure_of_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A `CommandError` is one line on stderr and the exit code 1."""
    assert main(["greet", "stranger"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "hypertrace: no stranger is here; give another name\n"


@pytest.mark.usefixtures("greetings")
def test_a_mistake_in_the_arguments_shows_the_usage_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An argument that the command does not have exits with code 2 and the command's usage."""
    with pytest.raises(SystemExit) as caught:
        main(["greet", "--loud"])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("usage: hypertrace greet [-h] [name]\n")
    assert shown.endswith("hypertrace greet: error: unrecognized arguments: --loud\n")


@pytest.mark.usefixtures("greetings")
def test_the_help_lists_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` has a line for each command, and examples."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    words = ("say hello, 100% of it", "greet all", "examples:", "http://127.0.0.1:4343/metrics")
    assert [word for word in words if word not in shown] == []


@pytest.mark.usefixtures("greetings")
def test_a_command_has_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` behind a command is that command's."""
    with pytest.raises(SystemExit) as caught:
        main(["greet", "--help"])
    assert caught.value.code == 0
    assert "Says hello." in capsys.readouterr().out


@pytest.mark.usefixtures("greetings")
def test_a_broken_command_breaks_no_other(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that cannot be loaded is listed with the reason, and harms no other."""
    raised = "raise ImportError('it needs\\x1b 100%s: pip install \"it[extra]\"')"
    install("broken", {"break": "broken_for_main:COMMAND"}, {"broken_for_main": raised})
    assert main(["break"]) == 1
    reason = r'cannot run: it needs\x1b 100%s: pip install "it[extra]"'
    assert capsys.readouterr().err == f"hypertrace: break {reason}\n"
    monkeypatch.setenv("COLUMNS", "100")
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert "say hello" in shown
    assert main(["greet"]) == 0


@pytest.mark.usefixtures("greetings")
def test_a_name_of_two_packages_is_one_line(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that two packages bring ends with code 1 and a line that names them."""
    install("others", {"greet": "others:GREET"})
    assert main(["greet"]) == 1
    assert capsys.readouterr().err.startswith(
        "hypertrace: greet is in several packages: greetings, others; uninstall "
    )


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help goes to stderr, and the exit code is 2."""
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is not installed exits with code 2 and a line that cites it."""
    with pytest.raises(SystemExit) as caught:
        main(["no-such-command"])
    assert caught.value.code == 2
    assert "invalid choice: 'no-such-command'" in capsys.readouterr().err


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version of hypertrace."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hypertrace {__version__}\n"


def test_the_version_needs_no_command(python: Callable[..., str]) -> None:
    """`--version` looks for no package and loads nothing third-party."""
    program = (
        "import sys; from hypertrace.cli.main import main; main(['--version']); "
        "print([n for n in ('wrapt', 'hypertrace_prometheus', 'prometheus_client', 'werkzeug') "
        "if n in sys.modules])"
    )
    assert python(program) == f"hypertrace {__version__}\n[]\n"


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("bin/hypertrace", "hypertrace"),
        ("bin/hypertrace-prometheus", "hypertrace-prometheus"),
        ("bin/hypertrace-prometheus.exe", "hypertrace-prometheus"),
        ("hypertrace/__main__.py", "hypertrace"),
        ("bin/pytest", "hypertrace"),
    ],
)
def test_the_program_is_called_what_it_was_started_by(
    started: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Help and messages have the name that the program was started by, if it has its own."""
    monkeypatch.setattr(sys, "argv", [started])
    assert main() == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"usage: {shown} ")
    assert f"  {shown} demo --help\n" in captured


@pytest.mark.parametrize("module", NAMES)
def test_the_packages_run_as_programs(module: str) -> None:
    """`python -m` with either package runs the program, under its name."""
    run = subprocess.run(
        [sys.executable, "-m", module], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert run.stderr.startswith(f"usage: {NAMES[module]} ")


@pytest.mark.parametrize(
    ("stdout", "reason", "unbuffered"),
    [
        (">&-", "is closed", ""),
        (">/dev/full", "No space left on device", ""),
        (">/dev/full", "No space left on device", "1"),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    ["--version", "--help", "dashboards --help", "demo --port 0", "dashboards folder"],
)
def test_an_output_that_takes_nothing_is_one_line(
    arguments: str, stdout: str, reason: str, unbuffered: str, tmp_path: Path
) -> None:
    """Where stdout is closed or full, the command ends with code 1 and one line on stderr."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    run = subprocess.run(
        ["sh", "-c", f'exec "$0" -m hypertrace {arguments} {stdout}', sys.executable],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("hypertrace: stdout ")
    assert reason in run.stderr


def test_without_an_error_output_the_code_remains(tmp_path: Path) -> None:
    """Where stderr is closed, too, a failure is the exit code alone."""
    command = 'exec "$0" -m hypertrace --version >&- 2>&-'
    run = subprocess.run(["sh", "-c", command, sys.executable], cwd=tmp_path, check=False)
    assert run.returncode == 1
