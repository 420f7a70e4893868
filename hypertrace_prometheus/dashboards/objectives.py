"""Service level objectives: a small file, and alerts for budgets that burn.

    [[objective]]
    name = "search"
    entry = "GET /search"      # and, or only: kind = "http"; or class and function of spans
    target = 0.999             # share of spans that are good
    latency = 0.25             # seconds; optional: slower ones are bad, too

An objective of 99.9 % leaves a budget of 0.1 % bad spans in 30 days. What matters is how many times
faster than allowed it burns, over a long window (so that it matters) and a short one (so that the
alert ends soon after the fault): https://sre.google/workbook/alerting-on-slos/
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.utils import floatToGoString

from hypertrace.metrics import labels
from hypertrace.metrics.aggregations import DEFAULT_BUCKETS, checked_bounds
from hypertrace.metrics.declarations import DURATIONS
from hypertrace.metrics.names import Names

from . import integrated
from .rules import Group, Rule


class _Burn(NamedTuple):
    """Speed at which a budget may burn over two windows, and the severity of its alert."""

    factor: float
    long: str
    short: str
    severity: str


BURNS = (
    _Burn(14.4, "1h", "5m", "page"),  # 2 % of the budget in an hour
    _Burn(6, "6h", "30m", "page"),  # 5 % in six hours
    _Burn(3, "1d", "2h", "ticket"),  # 10 % in a day
    _Burn(1, "3d", "6h", "ticket"),  # 10 % in three days
)
_DAYS = 30
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_OF_SPANS = {"class": labels.CLASS, "function": labels.FUNCTION}
_OF_ENTRIES = {"kind": integrated.KIND, "entry": integrated.ENTRY}
_KEYS = {"name", *_OF_SPANS, *_OF_ENTRIES, "target", "latency"}
_NAME = "objective"
_WORD = re.compile(r"[\w.-]+", re.ASCII)


class Objective(NamedTuple):
    """What share of some entries, or spans, is to be good."""

    name: str
    metric: str
    matchers: Mapping[str, str]
    target: float
    latency: float | None


def read(path: Path) -> list[Objective]:
    """Return the objectives that a TOML file declares.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, or an objective makes no sense; the message says which and why.
    """
    with path.open("rb") as file:
        try:
            declared = tomllib.load(file)
            return _objectives(declared)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: {error}") from error


def groups(objectives: Iterable[Objective], shown: Names | None = None) -> list[Group]:
    """Return the rules that watch objectives, a group each.

    Args:
        objectives: to watch.
        shown: what the exporter calls the metrics; None as by default.
    """
    shown = Names() if shown is None else shown
    return [
        {
            "name": f"hypertrace-slo-{objective.name}",
            "rules": _rules(objective, shown.of(objective.metric)),
        }
        for objective in objectives
    ]


def _objectives(declared: Mapping[str, Any]) -> list[Objective]:
    tables = declared.get("objective")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("it needs one [[objective]] or more")
    buckets = checked_bounds(declared.get("buckets", DEFAULT_BUCKETS))
    objectives = [_objective(table, buckets) for table in tables]
    if len({objective.name for objective in objectives}) < len(objectives):
        raise ValueError("each [[objective]] needs its own name")
    return objectives


def _objective(declared: Mapping[str, Any], buckets: Iterable[float]) -> Objective:
    name = declared.get("name")
    if unknown := declared.keys() - _KEYS:
        raise ValueError(f"objective {name!r} has {sorted(unknown)}; it takes {sorted(_KEYS)}")
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise ValueError(f"an objective's name has letters, digits, '.', '_', '-', unlike {name!r}")
    target, latency = declared.get("target"), declared.get("latency")
    if not isinstance(target, float) or not 0 < target < 1:
        raise ValueError(f"objective {name!r}: target is a share such as 0.999, not {target!r}")
    of_entries = _matchers(declared, _OF_ENTRIES)
    if of_entries:
        buckets = [*buckets, *integrated.ENTRY_BOUNDS]
    if latency is not None and latency not in buckets:
        bounds = ", ".join(f"{bound:g}" for bound in buckets)
        raise ValueError(
            f"objective {name!r}: latency {latency!r} is no bound of a bucket ({bounds}); take one "
            "of these, or put the exporter's own at the top of the file: buckets = [...]"
        )
    of_spans = _matchers(declared, _OF_SPANS)
    matchers = of_entries or of_spans
    if bool(of_entries) == bool(of_spans):
        raise ValueError(
            f"objective {name!r} needs an entry or a kind, or both; or else a class or a function"
        )
    if not all(isinstance(value, str) for value in matchers.values()):
        raise ValueError(f"objective {name!r} has {[*matchers.values()]}; give texts")
    metric = integrated.ENTRIES if of_entries else DURATIONS.name
    return Objective(name, metric, matchers, target, latency)


def _matchers(declared: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {label: declared[key] for key, label in names.items() if key in declared}


def _rules(objective: Objective, durations: str) -> list[Rule]:
    recording = [
        {
            "record": _record(objective, window),
            "expr": _bad_share(objective, durations, window),
            "labels": {_NAME: objective.name},
        }
        for window in _WINDOWS
    ]
    return recording + [_alert(objective, burn) for burn in BURNS]


def _record(objective: Objective, window: str) -> str:
    what = "entry" if objective.metric == integrated.ENTRIES else "function"
    return f"objective:{what}_bad:ratio_rate{window}"


def _bad_share(objective: Objective, durations: str, window: str) -> str:
    def spans(name: str, **more: str) -> str:
        matchers = {**objective.matchers, **more}
        inside = ", ".join(f'{key}="{_escaped(value)}"' for key, value in matchers.items())
        # Who cancels a call says nothing of its quality.
        spans = f'rate({name}{{{inside}, {labels.RESULT}!="cancelled"}}[{window}])'
        return f"sum by (job) ({spans})"

    every = spans(f"{durations}_count")
    if objective.latency is None:
        bad = spans(f"{durations}_count", **{labels.RESULT: "error"})
        return f"({bad} or 0 * {every}) / {every}"
    le = floatToGoString(objective.latency)  # type: ignore[no-untyped-call]
    good = spans(f"{durations}_bucket", **{labels.RESULT: "ok", "le": le})
    return f"1 - ({good} or 0 * {every}) / {every}"


def _alert(objective: Objective, burn: _Burn) -> Rule:
    limit = f"{burn.factor:g} * {1 - objective.target:.6g}"
    fast = [
        f'{_record(objective, window)}{{{_NAME}="{objective.name}"}} > {limit}'
        for window in (burn.long, burn.short)
    ]
    return {
        "alert": "HypertraceBudgetBurns",
        "expr": " and ".join(fast),
        "labels": {_NAME: objective.name, "severity": burn.severity, "window": burn.long},
        "annotations": {
            "summary": f"{objective.name}: {{{{ $value | humanizePercentage }}}} of the "
            f"{_noun(objective)} of the last {burn.long} were bad, the objective allows "
            f"{1 - objective.target:.4%}",
            "description": f"At this rate the budget of {_DAYS} days is used up in "
            f"{_DAYS / burn.factor:.2g} days or less.",
        },
    }


def _noun(objective: Objective) -> str:
    return "entries" if objective.metric == integrated.ENTRIES else "spans"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
