"""Program `hypertrace`: from its arguments to a command, and from a failure to an exit code."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypertrace import __version__

from .entry_points import Installed, installed
from .terminal import CommandError, discard_output, printable, report_failure, say

_ALIASES = ("hypertrace-prometheus",)
"""Old names of the program, which are installed beside it."""

_DESCRIPTION = """\
See what a Python application does while it runs: which method of which class is
called, how often, and from where.
"""

_EPILOG = """\
examples:
  %(prog)s demo
      run an application with tracers in it; see http://127.0.0.1:4343/metrics
  %(prog)s demo --help
      all that the demo can do
  %(prog)s dashboards
      write Grafana dashboards and Prometheus rules into a folder
"""


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.
        prog: the program's name in help and messages; by default the one that the process was
            started by, if that is one of its names, else `hypertrace`.

    A mistake in the arguments exits with code 2, as argparse has it. A later failure is one line on
    stderr and the code 1; so is a stdout that is closed or full. An interrupt while it starts or
    ends gives 130.
    """
    prog = prog or _own_name()
    if sys.stdout is None:  # closed before Python started, as by `>&-`
        return report_failure(prog, "stdout is closed; to see no output, send it to /dev/null")
    try:
        try:
            return _run(prog, list(sys.argv[1:] if argv is None else argv))
        finally:
            # Also when argparse exits: an error at Python's own last flush is a traceback.
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader went away, as in `demo | head`
        discard_output()
        return 1
    except OSError as error:
        # An error of any other file, of a port or of a server is a CommandError.
        discard_output()
        return report_failure(prog, f"stdout cannot be written to: {error.strerror or error}")


def _own_name() -> str:
    name = Path("".join(sys.argv[:1])).stem
    return name if name in _ALIASES else "hypertrace"


def _run(prog: str, words: list[str]) -> int:
    if words[:1] == ["--version"]:
        say(f"hypertrace {__version__}")
        return 0
    commands = installed()
    most = max((name.count(" ") + 1 for name in commands), default=0)
    for count in range(min(most, len(words)), 0, -1):  # `dashboards push` before `dashboards`
        name = " ".join(words[:count])
        if name in commands:
            return _run_command(prog, name, commands[name], words[count:])
    parser = _overview(prog, commands)
    parser.parse_args(words)
    parser.print_help(sys.stderr)
    return 2


def _run_command(prog: str, name: str, found: Installed, words: Sequence[str]) -> int:
    try:
        command = found.load()
    except CommandError as error:
        return report_failure(prog, f"{name} {error}")
    parser = _Parser(prog=f"{prog} {name}", formatter_class=argparse.RawDescriptionHelpFormatter)
    command.configure(parser)
    arguments = parser.parse_args(words)
    try:
        command.run(arguments)
    except CommandError as error:
        return report_failure(prog, error)
    return 0


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        """Raise the errors of stdout that argparse ignores."""
        if file is None:
            sys.stdout.write(self.format_help())
        else:
            super().print_help(file)


def _overview(prog: str, commands: Mapping[str, Installed]) -> argparse.ArgumentParser:
    """Return the parser of arguments that begin with no command; its help lists the commands."""
    parser = _Parser(
        prog=prog,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Only for the help: argparse's own action ignores errors of stdout.
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    listing = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in commands.items():
        listing.add_parser(name, help=_summary(command).replace("%", "%%"))
    return parser


def _summary(command: Installed) -> str:
    try:
        text = command.load().help
    except CommandError as error:
        text = str(error)
    return printable(text, sys.stdout)
