"""Packages that bring commands, as the command line sees them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Install = Callable[..., None]

COMMANDS = """\
import argparse
from hypertrace.cli.command import Command
from hypertrace.cli.terminal import CommandError, say

def configure(parser):
    parser.description = "Says hello."
    parser.add_argument("name", nargs="?", default="you")

def run(arguments):
    if arguments.name == "stranger":
        raise CommandError("no stranger is here; give another name")
    say(f"hello, {arguments.name}")

GREET = Command(help="say hello, 100% of it", configure=configure, run=run)
GREET_ALL = Command(
    help="say hello to all", configure=lambda parser: None, run=lambda arguments: say("hello, all")
)
NO_COMMAND = run
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that installs a package with entry points and modules."""

    def install(
        package: str, entry_points: Mapping[str, str], modules: Mapping[str, str] | None = None
    ) -> None:
        folder = tmp_path / package
        metadata = folder / f"{package}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0")
        lines = (f"{name} = {value}" for name, value in entry_points.items())
        (metadata / "entry_points.txt").write_text(
            "\n".join(("[console_scripts]", "x = y:z", "[hypertrace.commands]", *lines))
        )
        for name, text in (modules or {}).items():
            (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(folder)

    return install


@pytest.fixture
def greetings(install: Install) -> None:
    """Install a package with the commands `greet` and `greet all`."""
    entry_points = {
        "greet": "greetings_of_a_test:GREET",
        "greet.all": "greetings_of_a_test:GREET_ALL",
    }
    install("greetings", entry_points, {"greetings_of_a_test": COMMANDS})
