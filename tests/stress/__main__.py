"""Program that runs the stress tests in full on both cores, and prints what they measured.

`--write PAGE` puts the table between the marks in a page of the documentation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hypertrace

from .figures import Figure, aligned, machine, table, written

CORES = {"compiled": "0", "pure Python": "1"}
"""A column each: what HYPERTRACE_PURE_PYTHON is for them."""

LIMIT = 900
"""Seconds after which pytest takes a test for hung; each program has its own limit."""


def main() -> int:
    """Return 1 if a test failed."""
    parser = argparse.ArgumentParser(prog="stress", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    options = parser.parse_args()
    if not hypertrace.COMPILED:
        sys.exit("hypertrace is installed without its compiled core; install a C compiler first")
    runs = {core: _run(pure) for core, pure in CORES.items()}
    cells = table({core: figures for core, (_, figures) in runs.items()})
    print(machine(), aligned(cells), sep="\n")
    if options.write:
        options.write.write_text(written(options.write.read_text(), cells))
    return int(any(failed for failed, _ in runs.values()))


def _run(pure: str) -> tuple[bool, list[Figure]]:
    """Run the tests on a core; return whether one failed, and what they measured."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        environment = {**os.environ, "HYPERTRACE_STRESS": "1", "HYPERTRACE_FIGURES": str(file)}
        # One after the other: two at once would measure each other.
        options = ["-n", "0", "-v", "-o", f"faulthandler_timeout={LIMIT}", "--durations", "5"]
        status = subprocess.call(
            [sys.executable, "-Im", "pytest", *options, str(Path(__file__).parent)],
            env={**environment, "HYPERTRACE_PURE_PYTHON": pure},
        )
        figures = [Figure(**each) for each in json.loads(file.read_text())]
    return bool(status), figures


if __name__ == "__main__":
    sys.exit(main())
