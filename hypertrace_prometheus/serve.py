"""Command `hypertrace serve`: exporters of what the workers of an application share."""

import argparse
import errno
import os
import signal
from contextlib import ExitStack
from pathlib import Path

from hypertrace.cli.command import Command
from hypertrace.cli.terminal import CommandError, say
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics
from hypertrace.metrics.shared.running import Running, running_programs
from hypertrace.metrics.shared.setting import VARIABLE, checked_workers

from .exporter import PrometheusExporter

_DEFAULT_PORT = 4343
_DEFAULT_INTERVAL = 10.0
_SIGNALS = {signal.SIGINT, signal.SIGTERM}

_DESCRIPTION = """\
Serve to Prometheus what the workers of an application share, from a process beside
them, until SIGTERM or Ctrl-C. The workers need no port, and what they counted is
served also while none of them runs. With --json-lines it is written to a file, too:
what came in, at an interval; what came in meanwhile when the command starts again.

Workers share their counts in a directory: without configuration one that goes with
the program; with workers="/srv/counts", or HYPERTRACE_WORKERS=/srv/counts in their
environment, the one given. Without DIRECTORY this takes HYPERTRACE_WORKERS if it is
a path, else the directory of the one program of this user that runs here.
"""

_EPILOG = """\
examples:
  %(prog)s
      serve the one program that runs here
  %(prog)s /srv/counts --port 9464
      serve what workers share with HYPERTRACE_WORKERS=/srv/counts
  %(prog)s --json-lines /var/log/shop/counts.jsonl --interval 60
      write a line of JSON each minute besides
  %(prog)s /counts --host 0.0.0.0
      as a container beside those of the workers: with Docker, a volume
      at /counts in each of them; with Kubernetes, a sidecar with an emptyDir. Set
      HYPERTRACE_WORKERS=/counts in the containers of the workers, and let all run as
      one user. The volume is of one machine: files of a network are not tried.
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("directory", metavar="DIRECTORY", nargs="?", help="where the workers share their counts")
    add(
        "--port",
        type=int,
        default=_DEFAULT_PORT,
        help="port to serve on, 0 for any free one (default: %(default)s)",
    )
    add("--host", default="127.0.0.1", help="address to serve on (default: %(default)s)")
    add("--path", default="/metrics", help="path of the metrics (default: %(default)s)")
    add("--json-lines", metavar="FILE", help="append what came in to a file, as lines of JSON")
    add(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=_DEFAULT_INTERVAL,
        help="between two of these lines (default: %(default)g)",
    )


def _run(arguments: argparse.Namespace) -> None:
    directory = _directory(arguments.directory)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # also in threads of exporters
    try:
        with ExitStack() as stack:
            metrics = _metrics(directory)
            stack.callback(metrics.close)
            exporter = stack.enter_context(_prometheus_exporter(metrics, arguments))
            if arguments.json_lines is not None:
                stack.enter_context(_json_lines_exporter(metrics, arguments))
            say(f"Serving at {exporter.url} what workers share in {directory}, until Ctrl-C")
            signal.sigwait(_SIGNALS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _metrics(directory: str) -> Metrics:
    os.environ[VARIABLE] = directory  # it wins over an argument
    try:
        metrics = Metrics(workers=directory)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not metrics.storage.is_shared:
        raise CommandError(f"{directory} cannot be used to share counts; the log says why")
    metrics.storage.is_observer = True
    return metrics


def _json_lines_exporter(metrics: Metrics, arguments: argparse.Namespace) -> JsonLinesExporter:
    file, interval = Path(arguments.json_lines).expanduser(), arguments.interval
    try:
        return JsonLinesExporter(file, metrics=metrics, interval=interval)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.strerror or error}: {file}") from error


def _prometheus_exporter(metrics: Metrics, arguments: argparse.Namespace) -> PrometheusExporter:
    try:
        return PrometheusExporter(
            arguments.port,
            metrics=metrics,
            host=arguments.host,
            path=arguments.path,
            strict_port=True,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"port {arguments.port} of {arguments.host} is in use, perhaps by one of the "
                "workers, which then serves the same; choose another with --port"
            ) from error
        raise CommandError(error.strerror or str(error)) from error


def _directory(given: str | None) -> str:
    """Return the run directory to serve.

    Raises:
        CommandError: it is not clear which.
    """
    if os.name != "posix":
        raise CommandError("processes share no counts on this system")
    try:
        if given is not None:
            return str(Path(given).expanduser().absolute())
        setting = checked_workers("auto")
        if isinstance(setting, str) and setting != "auto":
            return setting
    except ValueError as error:
        raise CommandError(str(error)) from error
    programs = running_programs()
    if len(programs) == 1:
        return programs[0].directory
    if programs:
        listed = "; ".join(map(_listed, programs))
        raise CommandError(f"several programs run here; name the directory of one: {listed}")
    raise CommandError(
        "no program of this user shares counts here; give the DIRECTORY that its workers have as "
        f"{VARIABLE}, or start it first"
    )


def _listed(program: Running) -> str:
    pids = ", ".join(map(str, program.pids))
    return f"{program.directory} ({program.program or 'unknown program'}, pid {pids})"


SERVE = Command(
    help="serve what the workers of an application share",
    configure=_configure,
    run=_run,
)
