"""The command line: `hypertrace-prometheus`."""

import argparse
import errno
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hypertrace import __version__
from hypertrace.metrics.declarations import CALLS, check_counter_name

from .dashboards import command as dashboards
from .dashboards import templates
from .dashboards.grafana import GrafanaError, push
from .demo import command as demo
from .demo.documents import NoVolumesError
from .exporter import PrometheusExporter
from .terminal import CommandError, discard_output, report_failure, say

_DESCRIPTION = "See in Prometheus how often which method of which class is called, and from where."

_EPILOG = """\
examples:
  %(prog)s demo
      run an application with tracers in it; see http://127.0.0.1:4343/metrics
  %(prog)s demo --help
      all that the demo can do
  %(prog)s dashboards
      write Grafana dashboards and Prometheus rules into a folder
"""

_DEMO_DESCRIPTION = """\
Run an application with tracers in it, until Ctrl-C: a library that indexes the documentation of
Python's standard library on this machine, and visitors who search it. It needs no network. How
much there is to do rises and falls over two minutes, so that graphs have something to show.
"""

_DEMO_EPILOG = """\
examples:
  %(prog)s
      and say how Prometheus scrapes it, in a checkout of hypertrace as it is
  %(prog)s --port 0
      serve on any free port, and print which
  %(prog)s --duration 60
      end after a minute
  %(prog)s --questions 500
      stop working after 500 questions but go on serving, to compare numbers at leisure
"""

_PUSH = "dashboards push"

_DASHBOARDS_DESCRIPTION = """\
Write what shows the metrics: DIR/dashboards/*.json for Grafana, DIR/rules/*.yml for Prometheus.
`dashboards push` brings the dashboards into a Grafana that runs.
"""

_DASHBOARDS_EPILOG = """\
examples:
  %(prog)s --prop topic
      with panels for the prop `topic`, for PrometheusExporter(allowed_props=["topic"])
  %(prog)s . --objectives objectives.toml
      with alerts that tell when the budget of an objective burns
  %(prog)s push --url http://localhost:3000
      into Grafana, with the token of a service account in $GRAFANA_TOKEN
"""

_PUSH_DESCRIPTION = """\
Bring the dashboards into a Grafana that runs, in place of those of an earlier time. The token is
that of a service account with the role Editor (Administration, Users and access, Service accounts).
"""

_NEXT = """
In Grafana: Dashboards, New, Import, and choose the JSON files; or `{prog} push`.
In prometheus.yml: rule_files: ["{folder}/rules/*.yml"]\
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.

    A mistake in the arguments exits with code 2, as argparse has it. A later failure is one line on
    stderr and the code 1; so is a stdout that is closed or full. An interrupt while it starts or
    ends gives 130.
    """
    parser = _parser()
    if sys.stdout is None:  # closed before Python started, as by `>&-`
        return report_failure(
            parser.prog, "stdout is closed; to see no output, send it to /dev/null"
        )
    try:
        try:
            return _run(parser, list(sys.argv[1:] if argv is None else argv))
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
        return report_failure(
            parser.prog, f"stdout cannot be written to: {error.strerror or error}"
        )


def _run(parser: argparse.ArgumentParser, words: list[str]) -> int:
    if words[:2] == _PUSH.split():
        # argparse cannot tell a subcommand from a folder; as one word it can.
        words[:2] = [_PUSH]
    arguments = parser.parse_args(words)
    if arguments.version:
        say(f"hypertrace {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        arguments.command(arguments)
    except CommandError as error:
        return report_failure(parser.prog, error)
    return 0


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        """Raise the errors of stdout that argparse ignores."""
        if file is None:
            sys.stdout.write(self.format_help())
        else:
            super().print_help(file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hypertrace-prometheus",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Not argparse's action, which ignores errors of stdout, too.
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_demo(
        commands.add_parser(
            "demo",
            help="run an application with tracers in it, to see what hypertrace shows",
            description=_DEMO_DESCRIPTION,
            epilog=_DEMO_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _add_dashboards(
        commands.add_parser(
            "dashboards",
            help="write Grafana dashboards and Prometheus rules into a folder",
            description=_DASHBOARDS_DESCRIPTION,
            epilog=_DASHBOARDS_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _add_push(
        commands.add_parser(
            _PUSH, help="bring the dashboards into a Grafana", description=_PUSH_DESCRIPTION
        )
    )
    return parser


def _add_dashboards(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "folder",
        metavar="DIR",
        nargs="?",
        type=partial(_folder, parser.prog),
        default=Path("hypertrace-dashboards"),
        help="where to write (default: %(default)s)",
    )
    add(
        "--objectives",
        type=Path,
        metavar="FILE",
        help="TOML with service level objectives, to make alerts of",
    )
    _add_adaptations(parser)
    parser.set_defaults(command=partial(_dashboards, parser.prog))


def _add_push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--url", default="http://localhost:3000", help="of the Grafana (default: %(default)s)")
    add("--token", help="of a service account (default: the environment variable GRAFANA_TOKEN)")
    add("--folder", metavar="UID", help="folder of Grafana they go to (default: General)")
    _add_adaptations(parser)
    parser.set_defaults(command=_push)


def _add_adaptations(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--prop",
        dest="props",
        action="append",
        default=[],
        metavar="NAME",
        help="an allowed prop of the exporter, to get a panel; may be given several times",
    )
    add(
        "--unsafe-prop",
        dest="unsafe_props",
        action="append",
        default=[],
        metavar="NAME",
        help="a prop given with --prop that the exporter has in its unsafe_props, too",
    )
    add(
        "--counter-name",
        default=CALLS.name,
        metavar="NAME",
        help="what the exporter calls the counter (default: %(default)s)",
    )


def _folder(prog: str, text: str) -> Path:
    """Return a folder to write into, but refuse a word that is more likely a subcommand."""
    path = Path(text)
    if not text:
        raise argparse.ArgumentTypeError("its name is empty; for the current folder write .")
    meant = _likely_word(path) if path.name == text else None
    if meant is not None:
        raise argparse.ArgumentTypeError(
            f"{text!r} looks like a subcommand; did you mean `{prog} {meant}`, with any options "
            f"after it? for a folder of this name write ./{text}"
        )
    return path


def _likely_word(path: Path) -> str | None:
    word = path.name.lower()
    if word == "help":
        return "--help"
    is_near = bool(get_close_matches(word, ["push"], cutoff=0.5)) and not path.exists()
    return "push" if is_near or word == "push" else None


def _dashboards(prog: str, arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    with _told():
        check_counter_name(arguments.counter_name)
        made = dashboards.files(
            arguments.counter_name, arguments.props, arguments.objectives, arguments.unsafe_props
        )
        dashboards.write(made, folder)
    advice = _NEXT.format(prog=prog, folder=folder.absolute().as_posix())
    say(*(str(folder / name) for name in made), *advice.split("\n"))


def _push(arguments: argparse.Namespace) -> None:
    token = arguments.token or os.environ.get("GRAFANA_TOKEN")
    if not token:
        raise CommandError("it needs a token: --token, or the environment variable GRAFANA_TOKEN")
    with _told():
        check_counter_name(arguments.counter_name)
        made = templates.dashboards(arguments.counter_name, arguments.props, arguments.unsafe_props)
        addresses = push(made.values(), arguments.url, token, arguments.folder)
    say(*addresses)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a person can mend into a line for that person."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = "" if error.filename is None else f"{error.filename}: "
        raise CommandError(where + reason) from error
    except (ValueError, GrafanaError) as error:
        raise CommandError(str(error)) from error


def _add_demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--port",
        type=int,
        default=demo.DEFAULT_PORT,
        help="port to serve on, 0 for any free one (default: %(default)s)",
    )
    add("--host", default="127.0.0.1", help="address to serve on (default: %(default)s)")
    add(
        "--duration",
        type=partial(_above_zero, float),
        default=math.inf,
        metavar="S",
        help="end after S seconds",
    )
    add(
        "--questions",
        type=partial(_above_zero, int),
        metavar="N",
        help="stop working after N questions",
    )
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> None:
    duration, questions = arguments.duration, arguments.questions
    with _exporter(arguments.host, arguments.port) as exporter:
        try:
            demo.run(exporter, sys.stdout, duration=duration, questions=questions)
        except NoVolumesError as error:
            raise CommandError(f"{error}; the demo needs a Python that has them") from error


def _exporter(host: str, port: int) -> PrometheusExporter:
    try:
        return demo.make_exporter(port, host)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            way_out = "choose another with --port, or let --port 0 find a free one"
            raise CommandError(f"port {port} of {host} is in use; {way_out}") from error
        raise CommandError(error.strerror or str(error)) from error


_Number = TypeVar("_Number", int, float)


def _above_zero(kind: Callable[[str], _Number], text: str) -> _Number:
    with suppress(ValueError):
        number = kind(text)
        if 0 < number < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
