"""The command line: `hypertrace-prometheus`."""

import argparse
import errno
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from hypertrace import __version__
from hypertrace.metrics.declarations import CALLS, check_counter_name

from .dashboards import command as dashboards
from .dashboards import templates
from .dashboards.grafana import GrafanaError, push
from .demo import command as demo
from .demo.documents import NoVolumesError
from .exporter import PrometheusExporter

_DESCRIPTION = "See in Prometheus how often which method of which class is called, and from where."

_EPILOG = """\
examples:
  hypertrace-prometheus demo
      run an application with tracers in it; see http://127.0.0.1:4343/metrics
  hypertrace-prometheus demo --help
      all that the demo can do
  hypertrace-prometheus dashboards
      write Grafana dashboards and Prometheus rules into a folder
"""

_DEMO_DESCRIPTION = """\
Run an application with tracers in it, until Ctrl-C: a library that indexes the documentation of
Python's standard library on this machine, and visitors who search it. It needs no network. How
much there is to do rises and falls over two minutes, so that graphs have something to show.
"""

_DEMO_EPILOG = """\
examples:
  hypertrace-prometheus demo
      and say how Prometheus scrapes it, in a checkout of hypertrace as it is
  hypertrace-prometheus demo --port 0
      serve on any free port, and print which
  hypertrace-prometheus demo --duration 60
      end after a minute
  hypertrace-prometheus demo --questions 500
      stop working after 500 questions but go on serving, to compare numbers at leisure
"""

_PUSH = "dashboards push"

_DASHBOARDS_DESCRIPTION = """\
Write what shows the metrics: DIR/dashboards/*.json for Grafana, DIR/rules/*.yml for Prometheus.
`dashboards push` brings the dashboards into a Grafana that runs.
"""

_DASHBOARDS_EPILOG = """\
examples:
  hypertrace-prometheus dashboards --prop topic
      with panels for the prop `topic`, for PrometheusExporter(allowed_props=["topic"])
  hypertrace-prometheus dashboards . --objectives objectives.toml
      with alerts that tell when the budget of an objective burns
  hypertrace-prometheus dashboards push --url http://localhost:3000
      into Grafana, with the token of a service account in $GRAFANA_TOKEN
"""

_PUSH_DESCRIPTION = """\
Bring the dashboards into a Grafana that runs, in place of those of an earlier time. The token is
that of a service account with the role Editor (Administration, Users and access, Service accounts).
"""

_NEXT = """
In Grafana: Dashboards, New, Import, and choose the JSON files; or `hypertrace-prometheus dashboards
push`. In prometheus.yml: rule_files: ["{folder}/rules/*.yml"]\
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.

    A mistake in the arguments exits with code 2, as argparse has it. What fails later is told
    in one line on stderr, and the code is 1. An interrupt while it starts or ends gives 130.
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:2] == _PUSH.split():
        # argparse cannot tell a subcommand from a folder; as one word it can.
        words[:2] = [_PUSH]
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        arguments.command(arguments)
    except _CommandError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more, as in `demo | head`; the flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


class _CommandError(Exception):
    """What went wrong and what to do, in one line for the person at the keyboard."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hypertrace-prometheus",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hypertrace {__version__}")
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
        type=Path,
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
    parser.set_defaults(command=_dashboards)


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
        "--counter-name",
        default=CALLS.name,
        metavar="NAME",
        help="what the exporter calls the counter (default: %(default)s)",
    )


def _dashboards(arguments: argparse.Namespace) -> None:
    folder, objectives = arguments.folder, arguments.objectives
    with _told():
        check_counter_name(arguments.counter_name)
        made = dashboards.files(arguments.counter_name, arguments.props, objectives)
        dashboards.write(made, folder)
    _say(*(str(folder / name) for name in made), _NEXT.format(folder=folder.absolute().as_posix()))


def _push(arguments: argparse.Namespace) -> None:
    token = arguments.token or os.environ.get("GRAFANA_TOKEN")
    if not token:
        raise _CommandError("it needs a token: --token, or the environment variable GRAFANA_TOKEN")
    with _told():
        check_counter_name(arguments.counter_name)
        made = templates.dashboards(arguments.counter_name, arguments.props)
        _say(*push(made.values(), arguments.url, token, arguments.folder))


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a person can mend into a line for that person."""
    try:
        yield
    except OSError as error:
        raise _CommandError(f"{error.filename}: {error.strerror}") from error
    except (ValueError, GrafanaError) as error:
        raise _CommandError(str(error)) from error


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
            raise _CommandError(f"{error}; the demo needs a Python that has them") from error


def _exporter(host: str, port: int) -> PrometheusExporter:
    try:
        return demo.make_exporter(port, host)
    except ValueError as error:
        raise _CommandError(str(error)) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            way_out = "choose another with --port, or let --port 0 find a free one"
            raise _CommandError(f"port {port} of {host} is in use; {way_out}") from error
        raise _CommandError(error.strerror or str(error)) from error


_Number = TypeVar("_Number", int, float)


def _above_zero(kind: Callable[[str], _Number], text: str) -> _Number:
    with suppress(ValueError):
        number = kind(text)
        if 0 < number < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
