"""Commands that installed packages bring."""

import sys
from pathlib import Path

import pytest

from hypertrace.cli.entry_points import installed
from hypertrace.cli.terminal import CommandError

from .conftest import COMMANDS, Install


@pytest.mark.usefixtures("greetings")
def test_the_name_is_that_of_the_entry_point() -> None:
    """A command has the name of its entry point, where a dot stands for a space."""
    commands = installed()
    assert {"greet", "greet all"} <= set(commands)
    assert list(commands) == sorted(commands)
    assert commands["greet all"].load().help == "say hello to all"


@pytest.mark.usefixtures("greetings")
def test_a_command_is_imported_when_it_is_loaded() -> None:
    """Finding the commands imports none of them."""
    sys.modules.pop("greetings_of_a_test", None)
    greet = installed()["greet"]
    assert "greetings_of_a_test" not in sys.modules
    greet.load()
    assert "greetings_of_a_test" in sys.modules


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (
            "raise ModuleNotFoundError('it needs more: pip install \"it[extra]\"')",
            'cannot run: it needs more: pip install "it[extra]"',
        ),
        ("import no_such_module", "cannot run: No module named 'no_such_module'"),
        ("1 / 0", "cannot run: loading {} raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot run: loading {} raised SystemExit: 3"),
        ("", "cannot run: loading {} raised AttributeError: "),
        ("COMMAND = 7", "cannot run: loading {} raised TypeError: it is no hypertrace.cli.command"),
        ("COMMAND", "cannot run: loading {} raised NameError: "),
        (
            "from hypertrace.cli.command import Command\nCOMMAND = Command(None, print, print)",
            "cannot run: loading {} raised TypeError: its help must be a str, not None",
        ),
        ("no Python", "cannot run: loading {} raised SyntaxError: "),
    ],
)
def test_a_command_that_cannot_be_loaded_says_why(
    module: str, reason: str, install: Install, request: pytest.FixtureRequest
) -> None:
    """Whatever loading a command raises is an error of this command, with the reason."""
    name = f"broken_{abs(hash(request.node.name))}"
    install("broken", {"break": f"{name}:COMMAND"}, {name: module})
    with pytest.raises(CommandError) as caught:
        installed()["break"].load()
    assert str(caught.value).startswith(reason.format(f"{name}:COMMAND"))


def test_a_name_that_two_packages_have_is_refused(install: Install) -> None:
    """A command that two packages bring is neither's, and both are named; their others work."""
    for package in ("one", "two"):
        name = f"commands_of_package_{package}"
        install(package, {"greet": f"{name}:GREET", package: f"{name}:GREET"}, {name: COMMANDS})
    commands = installed()
    with pytest.raises(CommandError, match=r"is in several packages: one, two; uninstall all but"):
        commands["greet"].load()
    assert commands["one"].load().help == commands["two"].load().help


def test_a_package_that_is_on_the_path_twice_is_one(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is found twice brings its commands once."""
    install("greetings", {"greet": "greetings_twice:GREET"}, {"greetings_twice": COMMANDS})
    (tmp_path / "greetings").rename(tmp_path / "again")
    install("greetings", {"greet": "greetings_twice:GREET"}, {"greetings_twice": COMMANDS})
    monkeypatch.syspath_prepend(tmp_path / "again")
    assert installed()["greet"].load().help.startswith("say hello")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[hypertrace.commands]\nbroken\n", b"[hypertrace.commands]\n= x:y\n"]
)
@pytest.mark.usefixtures("greetings")
def test_unreadable_metadata_cost_no_other_package_its_commands(
    content: bytes, install: Install, tmp_path: Path
) -> None:
    """A package whose entry points cannot be read does not keep the commands of others away."""
    install("other", {})
    (tmp_path / "other" / "other-1.0.dist-info" / "entry_points.txt").write_bytes(content)
    assert installed()["greet"].load().help.startswith("say hello")
