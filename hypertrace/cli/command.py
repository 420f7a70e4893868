"""Command: what a package implements to bring a subcommand of `hypertrace`.

The package names an instance in its `pyproject.toml`; the name of the entry point is the command's:

    [project.entry-points."hypertrace.commands"]
    greet = "greetings.command:GREET"
    "greet.all" = "greetings.command:GREET_ALL"

A dot stands for a space: the second one is `hypertrace greet all`. Only the command that is used
is loaded, except for `hypertrace --help`, which loads all of them.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand of `hypertrace`.

    Args:
        help: what the command does, in one line without an end; `hypertrace --help` shows it.
        configure: adds the command's arguments to its parser, and sets `description` and `epilog`,
            which are shown with the line breaks they have. `parser.prog` is the whole command, such
            as `hypertrace greet`. `parser.error()` and argparse's own errors exit with code 2.
        run: does the work, in the main thread, with the parsed arguments. It raises `CommandError`
            for a failure that the user can do something about: that is one line on stderr and
            the exit code 1. It raises `OSError` only where stdout cannot be written to, which is
            reported as that. Any other exception is a fault of the command, with a traceback.
    """

    help: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
