"""Command `hypertrace statsd-mapping`."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hypertrace.cli.command import Command
from hypertrace.cli.terminal import CommandError, say
from hypertrace.exporters.exporter import Exporter
from hypertrace.metrics import DeclaredMetric, Metrics

from .old_format import rules_in
from .own_names import own_rules
from .yaml_files import text_of, written

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

_DESCRIPTION = """\
Write a mapping for statsd_exporter (--statsd.mapping-config), which turns dotted
names of StatsD into metrics of Prometheus with labels.

Without --from it is the mapping of the names that StatsdExporter sends: those of
the metrics of functions, and with --declared those of an application's metrics,
too. With --from, a mapping in the format from before it was YAML is written in
today's.

hypertrace reads such a file itself, without statsd_exporter: where code counts
with the calls of a StatsD client, Stats("shop", mapping="mapping.yml").
"""

_EPILOG = """\
examples:
  %(prog)s --from lego.conf --output mapping.yml
      in today's format; with --from - it reads stdin
  %(prog)s --prefix shop --prop topic
      for StatsdExporter(prefix="shop", allowed_props=["topic"])
  %(prog)s --prefix shop --tags dogstatsd
      for StatsdExporter(prefix="shop", tags="dogstatsd"), whose labels need no rules,
      for names without the prefix, and histograms of seconds in the same buckets
  %(prog)s --prefix shop --declared shop.metrics:DECLARED
      with the metrics that the list DECLARED of the module shop.metrics has
  %(prog)s --prefix shop --declared shop.metrics:METRICS
      for all that a Metrics counts, or the one that an exporter reads

The module is imported from the current folder, or from where Python finds it: all
that it does when it is imported happens.
"""


def _configure(parser: ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--from", dest="old", metavar="FILE", help="mapping in the old format; - is stdin")
    add(
        "--declared",
        metavar="MODULE[:NAME]",
        help="where metrics are declared: a Metrics, an exporter, declarations or a list of them; "
        "without NAME the Metrics of the module, else all its declarations",
    )
    add(
        "--prop",
        dest="props",
        action="append",
        default=[],
        metavar="NAME",
        help="an allowed prop of the exporter; may be given several times",
    )
    add("--prefix", default="", help="the prefix of the exporter, as shop (default: none)")
    add(
        "--tags",
        choices=("none", "dogstatsd"),
        default="none",
        help="the tags of the exporter (default: %(default)s)",
    )
    add("--output", type=Path, metavar="FILE", help="where to write (default: stdout)")
    parser.set_defaults(parser=parser)


def _run(arguments: Namespace) -> None:
    of_exporter = (arguments.declared, arguments.props, arguments.prefix, arguments.tags != "none")
    if arguments.old is not None and any(of_exporter):
        arguments.parser.error("--from reads a file, and takes none of the options of an exporter")
    try:
        text = _mapping(arguments)
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    if arguments.output is None:
        say(*text.splitlines())
        return
    with _reported(arguments.output):
        arguments.output.write_text(text, encoding="utf-8")
    say(f"Written: {arguments.output}")


def _mapping(arguments: Namespace) -> str:
    if arguments.old is not None:
        file = "stdin" if arguments.old == "-" else arguments.old
        return written(rules_in(_text(arguments.old, file), file))
    metrics = _metrics(arguments.declared, arguments.props)
    comment = "For the names that StatsdExporter sends, by `hypertrace statsd-mapping`."
    return written(own_rules(metrics, arguments.prefix, arguments.tags), comment)


def _text(path: str, file: str) -> str:
    if path == "-":
        return text_of(sys.stdin.buffer.read(), file)
    with _reported(Path(path)):
        return text_of(Path(path).read_bytes(), file)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{error.strerror or error}: {path}") from error


def _metrics(declared: str | None, props: list[str]) -> Metrics:
    """Return metrics to read, which count nothing."""
    # It wins over what a module says: nothing is shared with an application that runs.
    os.environ["HYPERTRACE_WORKERS"] = "0"
    found = None if declared is None else _found(declared)
    if not isinstance(found, Metrics):
        return Metrics(declared=found or (), allowed_props=props, upstream=True)
    if props:
        raise CommandError(f"--prop {props[0]}: the props are those of the Metrics; leave it out")
    return found


def _found(declared: str) -> Metrics | list[DeclaredMetric]:
    """Return what a module has.

    Raises:
        CommandError: there is no such module, or nothing to read in it.
    """
    module_name, _, path = declared.partition(":")
    module: Any = _imported(module_name)
    if not path:
        return _all_of(module, declared)
    found = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise CommandError(f"--declared {declared}: there is no {name!r} in {found!r}")
        found = getattr(found, name)
    metrics = _metrics_of(found)
    if metrics is not None:
        return metrics
    declarations = _declarations_of(found)
    if not declarations:
        raise CommandError(
            f"--declared {declared}: this is {found!r}; it must be a Metrics, an exporter, a "
            "declaration as Counter(…), or a list of these"
        )
    return declarations


def _imported(name: str) -> object:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise CommandError(
                f"--declared: there is no module {error.name!r}; run this in the folder that it is "
                "imported from"
            ) from error
        raise CommandError(
            f"--declared: importing {name} raised {type(error).__name__}: {error}"
        ) from error


def _all_of(module: object, declared: str) -> Metrics | list[DeclaredMetric]:
    values = vars(module).items()
    metrics = {name: found for name, one in values if (found := _metrics_of(one)) is not None}
    if len(set(metrics.values())) > 1:
        raise CommandError(
            f"--declared {declared}: there are several Metrics; choose one, as "
            f"{declared}:{next(iter(metrics))} (there are {', '.join(metrics)})"
        )
    if metrics:
        return next(iter(metrics.values()))
    declarations = dict.fromkeys(each for _, one in values for each in _declarations_of(one))
    if not declarations:
        raise CommandError(
            f"--declared {declared}: the module has no Metrics, no exporter and no declarations; "
            "name one that has"
        )
    return [*declarations]


def _metrics_of(value: object) -> Metrics | None:
    kind = type(value)  # not isinstance(): it would run a lazy object of the application
    if issubclass(kind, Exporter):
        return cast("Exporter", value).forwards_to
    return cast("Metrics", value) if issubclass(kind, Metrics) else None


def _declarations_of(value: object) -> list[DeclaredMetric]:
    several = value if type(value) in {list, tuple, set, frozenset} else [value]
    return [one for one in several if issubclass(type(one), DeclaredMetric)]  # type: ignore[attr-defined]


MAPPING = Command(
    help="write a mapping for statsd_exporter",
    configure=_configure,
    run=_run,
)
