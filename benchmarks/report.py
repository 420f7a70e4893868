"""Figures as a table, for a terminal and for the documentation."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import version
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .growth import Figure
    from .measure import OnePython, Row

    Rows = Mapping[str, Sequence[Row]]
    """The rows of each core."""

PACKAGES = (
    "prometheus-client",
    "datadog",
    "opentelemetry-sdk",
    "opentelemetry-exporter-prometheus",
    "statsd",
    "blinker",
    "goblinfish-metrics-trackers",
    "wrapt",
)
ALLOWANCE = 1.3
"""What a quick run may be past a promise by."""

_FROM_HERE_WHOLE = 100

_HEADS = ("what", "against", "its figure", "promise", "goal")
_PYTHON_HEADS = (
    "Python",
    "core",
    "`trace()`",
    "without the method",
    "an empty method",
    "ratio",
    "a bound `inc()`",
    "ratio",
)


def table(results: Rows) -> list[list[str]]:
    """Return the cells of the table, the heads first.

    Args:
        results: the rows of each core; all cores have the same rows, in the same order.
    """
    cores = list(results)
    heads = [_HEADS[0], *cores, *_HEADS[1:3]]
    heads += [f"ratio, {core}" if len(cores) > 1 else "ratio" for core in cores]
    return [[*heads, *_HEADS[3:], ""], *map(_line, zip(*results.values(), strict=True))]


def with_own(results: Rows, core: str, own: Sequence[Row]) -> Rows:
    """Return rows to which one core adds its own; the others' figures are left out."""
    blank = [replace(row, ours=nan) for row in own]
    return {each: [*rows, *(own if each == core else blank)] for each, rows in results.items()}


def _line(rows: Sequence[Row]) -> list[str]:
    row = rows[0]
    theirs = "" if row.theirs is None else _number(row.theirs, row.unit)
    ratios = [
        "" if each.theirs is None or isnan(each.ours) else _ratio(each.judged) for each in rows
    ]
    judged = rows[-1]
    bounds = [_bound(judged, judged.promise), _bound(judged, judged.goal)]
    ours = ["" if isnan(each.ours) else _number(each.ours, each.unit) for each in rows]
    return [row.what, *ours, row.peer or "", theirs, *ratios, *bounds, verdict(judged)]


def verdict(row: Row) -> str:
    """Return whether promise and goal are kept; by the last core, which is the fastest."""
    if row.promise is None or row.goal is None:
        return ""
    if row.judged > row.promise:
        return "BROKEN"
    return "kept" if row.judged > row.goal else "kept, and the goal"


def broken(rows: Iterable[Row], allowance: float = ALLOWANCE) -> list[Row]:
    """Return the rows that are past their promise, by more than an allowance."""
    return [row for row in rows if row.promise and row.judged > allowance * row.promise]


def pythons_table(by_python: Sequence[OnePython]) -> list[list[str]]:
    """Return the cells of the table of the Pythons, the heads first."""
    return [
        list(_PYTHON_HEADS),
        *[
            [
                each.version,
                each.core,
                _number(each.trace, "ns"),
                _number(each.trace - each.idle, "ns"),
                _number(each.empty, "ns"),
                _ratio(each.trace / each.empty),
                _number(each.bound, "ns"),
                _ratio(each.trace / each.bound),
            ]
            for each in by_python
        ],
    ]


def traced_table(by_python: Sequence[OnePython]) -> list[list[str]]:
    """Return the cells of the table of traced functions, the heads first: a column for a Python."""
    measured = [each for each in by_python if each.rows]
    heads = [_HEADS[0], _HEADS[1], *[each.version for each in measured], *_HEADS[3:], ""]
    return [heads, *map(_traced_line, zip(*[each.rows for each in measured], strict=True))]


def _traced_line(rows: Sequence[Row]) -> list[str]:
    promises = [_bound(row, row.promise) for row in rows]
    goals = [_bound(row, row.goal) for row in rows]
    verdicts = [verdict(row) for row in rows]
    worst = next((each for each in ("BROKEN", "kept") if each in verdicts), max(verdicts))
    bounds = [" or ".join(dict.fromkeys(filter(None, each))) for each in (promises, goals)]
    return [rows[0].what, rows[0].peer or "", *map(_judged, rows), *bounds, worst]


def _judged(row: Row) -> str:
    """Return our figure, the peer's and the ratio."""
    if row.theirs is None:
        return _number(row.ours, row.unit)
    figures = f"{_number(row.ours, row.unit)} / {_number(row.theirs, row.unit)}"
    return f"{figures}: {_ratio(row.judged)}"


def traced_section(by_python: Sequence[OnePython]) -> str:
    """Return the part of the page that is about traced functions on each Python."""
    measured = any(each.rows for each in by_python)
    return "\n\n".join([_TRACED, *([markdown(traced_table(by_python))] if measured else [])])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    plain = [[cell.replace("`", "") for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in plain
    ]
    return "\n".join(lines)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return a table for a page."""
    heads, *lines = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([heads, "|" + " --- |" * len(cells[0]), *lines])


def machine() -> str:
    """Return what the figures were taken on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    cores = f"{models[0]}, {len(models)} cores" if models else platform.machine()
    return f"{platform.python_implementation()} {platform.python_version()}, {cores}"


def page(
    results: Rows,
    skipped: Sequence[str],
    figures: Sequence[Figure],
    by_python: Sequence[OnePython],
    not_found: Sequence[str],
) -> str:
    """Return `docs/performance.md`.

    Args:
        results: the rows of each core.
        skipped: peers that were not measured.
        figures: how costs grow.
        by_python: the rows of each Python.
        not_found: Pythons and cores that were not measured.
    """
    versions = "; ".join(f"{name} {version(name)}" for name in PACKAGES)
    parts = [
        _INTRODUCTION,
        f"Taken on: {machine()}. Beside it: {versions}.",
        markdown(table(results)),
        *[f"Not measured: {what}" for what in skipped],
        _PYTHONS,
        *([markdown(pythons_table(by_python))] if by_python else []),
        *[f"Not measured: {what}" for what in not_found],
        traced_section(by_python),
        _GROWTH,
        *[f"![{title}](images/{image_name(title)})" for title, _, _ in figures],
        *[_growth_table(figure) for figure in figures],
        _HOW,
    ]
    return "\n\n".join(parts)


def image_name(title: str) -> str:
    """Return the file a figure is drawn to."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return f"growth-{'-'.join(words)}.svg"


def _growth_table(figure: Figure) -> str:
    title, grows, by_label = figure
    amounts = list(next(iter(by_label.values())))
    heads = [f"{title}, ns", *[f"{amount:_} {grows}".replace("_", " ") for amount in amounts]]
    lines = [
        [label, *[f"{points[amount]:.0f}" for amount in amounts]]
        for label, points in by_label.items()
    ]
    return markdown([heads, *lines])


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value < _FROM_HERE_WHOLE else f"{value:.0f} {unit}"


def _ratio(value: float) -> str:
    return f"1/{1 / value:.1f}" if value < 1 / 3 else f"{value:.2f}"


def _bound(row: Row, bound: float | None) -> str:
    if bound is None:
        return ""
    return "≤ " + (_number(bound, row.unit) if row.theirs is None else _exact_ratio(bound))


def _exact_ratio(bound: float) -> str:
    inverse = round(1 / bound, 6)
    return f"1/{inverse:.0f}" if bound <= 1 / 3 and inverse.is_integer() else f"{bound:g}"


_INTRODUCTION = """\
# What it costs

Every figure is taken beside what it is compared with, in the same process, in turns of half a
millisecond; each operation stands in its own method, whose call is part of the figure, for us
and for them. The ratios hold on other machines, the nanoseconds do not. `bash .ci/bench` measures
again and writes this page; `.ci/run` fails when a ratio is 1.3 times past its promise.

Counts are in memory here (`workers=False`). What sharing them among workers costs, the default,
stands in [workers.md](workers.md#what-it-costs): next to nothing with the compiled core, a fifth of
a `trace()` in pure Python.

## Beside others"""

_PYTHONS = """\
## On each Python

A counted `trace()` on each Python, installed with pip into a new environment. The operations of a
row take turns in the same process:

- `trace()`: a method whose only line is `self.tracer.trace()`;
- without the method: the same, less a method that does nothing;
- an empty method: a method whose only line calls one that does nothing and has the signature of
  `trace()`;
- a bound `inc()`: a method whose only line calls that of `prometheus_client`.

A ratio is the whole `trace()` divided by the figure before it."""

_TRACED = """\
## Traced functions on each Python

With the compiled core, in the same environments: our figure, that which it is compared with, and
their ratio. The method, the coroutine and the generator do nothing; the frames that an exception
leaves, and the generator that is closed early, are not traced. On CPython 3.12 to 3.14 these two
cost more while something else is traced: the interpreter reports them of all code or of none, and
nothing is promised about them. Where two promises are given, the first is that of CPython 3.11."""

_GROWTH = """\
## As things grow

Where a curve of ours rises, the processor's caches no longer hold what it touches."""

_HOW = """\
## How to read it

- "Counted" is all there is: the caller resolved, the labels of the object, its parent and their
  props in place, ready to be scraped.
- The peers count with as many labels, which the application gives them; autometrics runs in its own
  environment with a bound `inc()` beside it, by which its figure is scaled; the
  JavaScript original runs on Node.js with the same classes, props and labels.
- A promise is kept or broken by the ratio, or by the figure where it stands alone. The last column
  judges the compiled core; compare the ratio of the Python code with the promise yourself, where
  two of them lie on the line: `labels(…).inc()`, and `@traced` on a method.
- Memory is what `tracemalloc` sees over 10 000 objects that traced, or 10 000 series.
- Imports are timed in fresh interpreters, whose start is not part of the figure.
"""
