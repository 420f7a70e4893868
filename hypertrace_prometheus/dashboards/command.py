"""Commands `hypertrace dashboards` and `hypertrace dashboards push`."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from hypertrace.cli.command import Command
from hypertrace.cli.terminal import CommandError, say
from hypertrace.metrics.declarations import CALLS
from hypertrace.metrics.names import Names

from . import templates
from .files import files, write
from .grafana import GrafanaError, push

_DESCRIPTION = """\
Write what shows the metrics: DIR/dashboards/*.json for Grafana, and
DIR/rules/*.yml for Prometheus. `%(prog)s push` brings the dashboards
into a Grafana that runs.
"""

_EPILOG = """\
examples:
  %(prog)s --prop topic
      with panels for `topic`, for PrometheusExporter(allowed_props=["topic"])
  %(prog)s --prefix shop_ --name function_counter_total=shop_calls_total
      for an exporter with the same prefix= and names=
  %(prog)s . --objectives objectives.toml
      with alerts for service level objectives
  %(prog)s push --url http://localhost:3000
      into Grafana, with the token of a service account in $GRAFANA_TOKEN
"""

_PUSH_DESCRIPTION = """\
Bring the dashboards into a Grafana that runs, in place of those that an earlier
push brought. The token is that of a service account with the role Editor
(Administration, Users and access, Service accounts).
"""

_NEXT = """
In Grafana: Dashboards, New, Import, and choose the JSON files; or `{prog} push`.
In prometheus.yml: rule_files: ["{folder}/rules/*.yml"]\
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
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
    parser.set_defaults(prog=parser.prog)


def _configure_push(parser: argparse.ArgumentParser) -> None:
    parser.description = _PUSH_DESCRIPTION
    add = parser.add_argument
    add("--url", default="http://localhost:3000", help="of the Grafana (default: %(default)s)")
    add("--token", help="of a service account (default: the environment variable GRAFANA_TOKEN)")
    add("--folder", metavar="UID", help="folder of Grafana they go to (default: General)")
    _add_adaptations(parser)


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
        "--prefix",
        default="",
        help="what the exporter puts before the names of metrics, as shop_ (default: nothing)",
    )
    add(
        "--name",
        dest="names",
        action="append",
        default=[],
        type=_pair,
        metavar="OLD=NEW",
        help="what the exporter calls a metric instead; may be given several times",
    )
    add(
        "--counter-name",
        default=CALLS.name,
        metavar="NAME",
        help="what the exporter calls the counter (default: %(default)s)",
    )


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pair of names; write {CALLS.name}=calls_total"
        )
    return old, new


def _shown(arguments: argparse.Namespace) -> Names:
    return Names(
        prefix=arguments.prefix,
        names=dict(arguments.names),
        counter_name=arguments.counter_name,
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


def _run(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    with _failures():
        shown = _shown(arguments)
        made = files(shown, arguments.props, arguments.objectives, arguments.unsafe_props)
        write(made, folder)
    advice = _NEXT.format(prog=arguments.prog, folder=folder.absolute().as_posix())
    say(*(str(folder / name) for name in made), *advice.split("\n"))


def _run_push(arguments: argparse.Namespace) -> None:
    token = arguments.token or os.environ.get("GRAFANA_TOKEN")
    if not token:
        raise CommandError(
            "a token is missing: give --token, or set the environment variable GRAFANA_TOKEN"
        )
    with _failures():
        made = templates.dashboards(_shown(arguments), arguments.props, arguments.unsafe_props)
        addresses = push(made.values(), arguments.url, token, arguments.folder)
    say(*addresses)


@contextmanager
def _failures() -> Iterator[None]:
    """Raise as `CommandError` what the user can do something about."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = "" if error.filename is None else f"{error.filename}: "
        raise CommandError(where + reason) from error
    except (ValueError, GrafanaError) as error:
        raise CommandError(str(error)) from error


DASHBOARDS = Command(
    help="write Grafana dashboards and Prometheus rules into a folder",
    configure=_configure,
    run=_run,
)
PUSH = Command(help="bring the dashboards into a Grafana", configure=_configure_push, run=_run_push)
