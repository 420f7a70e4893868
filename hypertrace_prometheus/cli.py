"""The command line: `hypertrace-prometheus`."""

import argparse
import errno
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from hypertrace import __version__

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
"""

_DEMO_DESCRIPTION = """\
Run an application with tracers in it, until Ctrl-C: a library that indexes the documentation of
Python's standard library on this machine, and visitors who search it. It needs no network. How
much there is to do rises and falls over two minutes, so that graphs have something to show.
"""

_DEMO_EPILOG = """\
examples:
  hypertrace-prometheus demo
      in a checkout of hypertrace, `prometheus --config.file=prometheus.yml` scrapes it as it is
  hypertrace-prometheus demo --port 0
      serve on any free port, and print which
  hypertrace-prometheus demo --duration 60
      end after a minute
  hypertrace-prometheus demo --questions 500
      stop working after 500 questions but go on serving, to compare numbers at leisure
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.

    A mistake in the arguments exits with code 2, as argparse has it. What fails later is told
    in one line on stderr, and the code is 1. An interrupt while it starts or ends gives 130.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
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
    return parser


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
        return PrometheusExporter(port, host=host, allowed_props=demo.ALLOWED_PROPS)
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
