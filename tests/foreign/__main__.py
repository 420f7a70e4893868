"""Program that runs the suites of all packages, plain and traced, and prints what changed.

`--write PAGE` puts the figures into the table between the marks in a page of the documentation.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
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
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the figures into this page")
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
        ends = Counter(result.plain[0].outcomes.values())
        print(*cells[-1], dict(ends), sep="  ", flush=True)
        print(*result.faults, sep="\n", end="", file=sys.stderr)
        is_good &= not result.faults
        if options.write:  # at once: the whole takes long
            options.write.write_text(updated(options.write.read_text(), cells[-1]))
    print(machine(), aligned(cells), sep="\n")
    return int(not is_good)


def row(result: Result) -> list[str]:
    """Return the cells of a suite in the table."""
    run = result.traced[-1]
    numbers = [len(run.outcomes), run.functions, run.spans, len(result.changes)]
    texts = [f"{number:,}".replace(",", " ") for number in numbers]
    return [result.package.name, result.package.version, *texts, f"{result.cost:.2f} times"]


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of the table in a page, by the package."""
    _, _, rest = page.partition(BEGIN)
    table, _, _ = rest.partition(END)
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:2] == "| "]
    return {cells[0]: cells for cells in lines[2:]}  # below the heads and a rule


def updated(page: str, new: list[str]) -> str:
    """Return a page with a row of the table in place of what it had of the package."""
    known = rows(page) | {new[0]: new}
    ordered = [known[package.name] for package in EVERY if package.name in known]
    return written(page, [HEADS, *ordered], BEGIN, END)


if __name__ == "__main__":
    sys.exit(main())
