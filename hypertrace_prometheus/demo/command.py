"""Command `hypertrace demo`."""

import argparse
import errno
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from hypertrace.cli.command import Command
from hypertrace.cli.terminal import CommandError
from hypertrace_prometheus.exporter import PrometheusExporter

from . import session
from .documents import NoVolumesError

_DESCRIPTION = """\
Run an application with tracers in it, until Ctrl-C: a library that indexes the
documentation of Python's standard library on this machine, and visitors who
search it. It needs no network. How much there is to do rises and falls over two
minutes, so that graphs have something to show.
"""

_EPILOG = """\
examples:
  %(prog)s
      and print how Prometheus scrapes it, with the prometheus.yml of a checkout
  %(prog)s --port 0
      serve on any free port, and print which
  %(prog)s --duration 60
      end after a minute
  %(prog)s --questions 500
      stop working after 500 questions but go on serving, to compare the numbers
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add(
        "--port",
        type=int,
        default=session.DEFAULT_PORT,
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


def _run(arguments: argparse.Namespace) -> None:
    duration, questions = arguments.duration, arguments.questions
    with _exporter(arguments.host, arguments.port) as exporter:
        try:
            session.run(exporter, sys.stdout, duration=duration, questions=questions)
        except NoVolumesError as error:
            raise CommandError(f"{error}; the demo needs a Python that has them") from error


def _exporter(host: str, port: int) -> PrometheusExporter:
    try:
        return session.make_exporter(port, host)
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


DEMO = Command(
    help="run an application with tracers in it, to see what hypertrace shows",
    configure=_configure,
    run=_run,
)
