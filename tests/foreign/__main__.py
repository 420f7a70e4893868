"""Program that runs the suites of all packages, plain and traced, and prints what changed.

`--write PAGE` puts the table between the marks in a page of the documentation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import hypertrace

from ..stress.figures import aligned, machine, written
from .comparison import Result, compare
from .packages import EVERY
from .suites import SuiteError

BEGIN, END = "<!-- foreign: begin -->", "<!-- foreign: end -->"
"""What stands around the table in the page."""

HEADS = ["package", "version", "tests", "functions traced", "spans", "changed", "CPU"]
ROUNDS = 2


def main() -> int:
    """Return 1 if a test changed without a reason, or a suite could not be run."""
    parser = argparse.ArgumentParser(prog="foreign", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="PACKAGE", help="only these")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each suite runs")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    options = parser.parse_args()
    if not hypertrace.COMPILED:
        sys.exit("hypertrace is installed without its compiled core; install a C compiler first")
    cells, is_good = [HEADS], True
    for package in EVERY:
        if options.names and package.name not in options.names:
            continue
        try:
            result = compare(package, options.rounds)
        except SuiteError as error:
            print(f"{package.name}: {error}", file=sys.stderr)
            is_good = False
            continue
        cells.append(row(result))
        print(aligned(cells[-1:]), flush=True)
        for fault in result.faults:
            print(fault, file=sys.stderr)
        is_good &= not result.faults
    print(machine(), aligned(cells), sep="\n")
    if options.write:
        page = written(options.write.read_text(), cells, BEGIN, END)
        options.write.write_text(page)
    return int(not is_good)


def row(result: Result) -> list[str]:
    """Return the cells of a suite in the table."""
    run = result.traced[-1]
    numbers = [len(run.outcomes), run.functions, run.spans, len(result.changes)]
    texts = [f"{number:,}".replace(",", " ") for number in numbers]
    return [result.package.name, result.package.version, *texts, f"{result.cost:.2f} times"]


if __name__ == "__main__":
    sys.exit(main())
