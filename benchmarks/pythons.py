"""Cost of `trace()` and `@traced` on each Python: `python -m benchmarks.pythons INTERPRETER …`.

Each interpreter gets a virtual environment with this checkout and `prometheus_client` installed.
Each core is measured there in its own process, by `one_python`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from . import report
from .measure import COMPILED, CORES, FULL, QUICK, OnePython, Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .measure import Effort

    Found = tuple[list[OnePython], list[str]]
    """The figures, and what was not measured."""

_ROOT = Path(__file__).parent.parent
_CLASSIFIER = "Programming Language :: Python :: "


def main() -> None:
    """Measure, and print the tables alone."""
    parser = argparse.ArgumentParser(prog="benchmarks.pythons", description=__doc__)
    parser.add_argument("interpreters", nargs="+", metavar="INTERPRETER", help="path of a Python")
    parser.add_argument("--quick", action="store_true", help="take less time for each figure")
    options = parser.parse_args()
    figures, skipped = measured(options.interpreters, QUICK if options.quick else FULL)
    print(text(figures, skipped))


def text(figures: Sequence[OnePython], skipped: Sequence[str]) -> str:
    """Return the tables and what is not in them, for a terminal."""
    tables = [report.pythons_table(figures), report.traced_table(figures)]
    return "\n".join([*[report.aligned(each) for each in tables], *skipped])


def measured(interpreters: Sequence[str], effort: Effort) -> Found:
    """Return the figures, and what was not measured.

    Args:
        interpreters: paths of Pythons. One that fails is reported on stderr and left out.
        effort: how much time a figure may take.
    """
    figures: list[OnePython] = []
    skipped: list[str] = []
    if interpreters:
        with TemporaryDirectory() as folder:
            figures, skipped = _measured_in(Path(folder), interpreters, effort)
    present = {each.version.rpartition(".")[0] for each in figures}
    skipped += [
        f"Python {each}, which was not found" for each in _supported() if each not in present
    ]
    return figures, skipped


def _measured_in(scratch: Path, interpreters: Sequence[str], effort: Effort) -> Found:
    figures: list[OnePython] = []
    skipped: list[str] = []
    # The packages stay behind, so that the installed ones are imported.
    ignored = shutil.ignore_patterns("node", "__pycache__")
    shutil.copytree(_ROOT / "benchmarks", scratch / "benchmarks", ignore=ignored)
    sdist = _sdist(scratch / "dist")
    for number, interpreter in enumerate(interpreters):
        try:
            python = _environment(interpreter, scratch / f"environment-{number}", sdist)
            printed = {core: _printed(python, scratch, core, effort) for core in CORES}
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{interpreter}: {error}", file=sys.stderr)
            continue
        for core, found in printed.items():
            if found["compiled"] is (core == COMPILED):
                rows = [Row(**row) for row in found["rows"]]
                times = found["nanoseconds"]
                figures.append(OnePython(found["version"], core, **times, rows=rows))
            else:
                skipped.append(f"the {core} core on Python {found['version']}, not built there")
    return figures, skipped


def _supported() -> list[str]:
    """Return the versions of Python that the package is for, such as 3.11."""
    classifiers = metadata("hypertrace").get_all("Classifier") or []
    ends = [each.removeprefix(_CLASSIFIER) for each in classifiers]
    return [end for end in ends if end.replace(".", "").isdecimal()]


def _sdist(folder: Path) -> Path:
    _run([sys.executable, "-m", "build", "--sdist", "--outdir", str(folder), str(_ROOT)])
    return next(folder.iterdir())


def _environment(interpreter: str, folder: Path, sdist: Path) -> Path:
    """Return the Python of a new environment that has what `one_python` imports."""
    _run([interpreter, "-m", "venv", str(folder)])
    python = folder / "bin" / "python"
    peer = f"prometheus-client=={version('prometheus-client')}"  # the one of the other figures
    package = f"hypertrace[prometheus] @ {sdist.as_uri()}"
    _run([str(python), "-m", "pip", "install", "--quiet", package, peer])
    return python


def _printed(python: Path, folder: Path, core: str, effort: Effort) -> dict[str, Any]:
    command = [str(python), "-Es", "-m", f"{__package__}.one_python"]
    command += [str(effort.rounds), str(effort.turn)]
    found: dict[str, Any] = json.loads(_run(command, folder, HYPERTRACE_PURE_PYTHON=CORES[core]))
    return found


def _run(command: Sequence[str], folder: Path = _ROOT, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
    done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    main()
