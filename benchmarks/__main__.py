"""Command that takes the figures and prints the table: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import hypertrace

from . import pages, peers, pythons, report
from .measure import COMPILED, CORES, FULL, PURE, QUICK, Effort, Row, best_of, rows_of

PROMISES = (
    "tracing_off",
    "counting",
    "ids_and_props",
    "spans",
    "declared",
    "decorated",
    "instrumenting",
    "creating",
    "scraping",
    "pushing",
    "memory",
    "importing",
)
"""The files whose promises every core keeps, in the order of the table."""

OWN = ("compiled", "rest_of_program", "integrations")
"""The files whose promises the compiled core keeps."""

PROCESSES = {"integrations": 3}
"""In how many processes a file is measured, if not in one. What a long operation takes longer
depends on the memory that a process got: the best figures count."""

DOCS = Path(__file__).parent.parent / "docs"


def main() -> int:
    """Return 1 if a promise is broken: in a quick run by more than the allowance."""
    options = _options()
    effort = QUICK if options.quick else FULL
    skipped = [] if options.quick else _skipped()
    allowance = report.ALLOWANCE if options.quick else 1
    cores = CORES if hypertrace.COMPILED else {PURE: CORES[PURE]}
    by_python = pythons.measured(options.python, effort)
    results: report.Rows = {
        core: [r for n in options.names for r in _apart(n, effort, core)] for core in cores
    }
    broken = [row for rows in results.values() for row in report.broken(rows, allowance)]
    if COMPILED in cores and options.names == PROMISES:
        own = [row for name in OWN for row in _apart(name, effort, COMPILED)]
        broken += report.broken(own, allowance)
        results = report.with_own(results, COMPILED, own)
    broken += [row for each in by_python[0] for row in report.broken(each.rows, allowance)]
    print(report.machine(), report.aligned(report.table(results)), *skipped, sep="\n")
    if options.python:
        print(pythons.text(*by_python))
    if options.write and COMPILED in cores:
        pages.write(DOCS, results[COMPILED])
    if options.write and options.names == PROMISES:
        _write(results, skipped, by_python)
    for row in broken:
        print(f"FAILED: {row.what}: {row.judged:.3g}, promised {row.promise:.3g}", file=sys.stderr)
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=PROMISES, metavar="NAME", help="of the files")
    parser.add_argument("--quick", action="store_true", help="only what promises are made about")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="an interpreter to measure trace() and @traced on, too; may be given several times",
    )
    parser.add_argument("--write", action="store_true", help="write the pages in docs, too")
    return parser.parse_args()


def _apart(name: str, effort: Effort, core: str) -> list[Row]:
    """Return the rows of a file, taken in its own processes: none leaves another anything."""
    os.environ["HYPERTRACE_PURE_PYTHON"] = CORES[core]
    spawn = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(PROCESSES.get(name, 1)):
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
            runs.append(process.submit(rows_of, name, effort).result())
    return [best_of(rows) for rows in zip(*runs, strict=True)]


def _skipped() -> list[str]:
    skipped = []
    if not peers.AUTOMETRICS_PYTHON.exists():
        skipped.append("autometrics, which has no environment here; `bash .ci/bench` makes one")
    if not peers.node():
        skipped.append("the JavaScript original; install Node.js and npm, then `bash .ci/bench`")
    return skipped


def _write(results: report.Rows, skipped: list[str], by_python: pythons.Found) -> None:
    # Late: only this needs matplotlib.
    from . import growth, plots  # noqa: PLC0415

    figures = list(growth.figures())
    images = DOCS / "images"
    images.mkdir(exist_ok=True)
    for figure in figures:
        plots.draw(figure, images)
    (DOCS / "performance.md").write_text(report.page(results, skipped, figures, *by_python))


if __name__ == "__main__":
    sys.exit(main())
