"""Two sizes, programs in their own processes, and a table of what was measured."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pytest

import hypertrace

from .figures import Figure, aligned, table

T = TypeVar("T")

FULL = os.environ.get("HYPERTRACE_STRESS") == "1"
FIGURES_FILE = "HYPERTRACE_FIGURES"
"""Variable with the file that the figures are written to."""

CORE = "compiled" if hypertrace.COMPILED else "pure Python"


@pytest.fixture(scope="session")
def scale() -> Callable[[T, T], T]:
    """Give a function that chooses the first of two sizes; with HYPERTRACE_STRESS=1 the second."""
    return lambda quick, full: full if FULL else quick


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, Any]]:
    """Give a function that runs one of the programs beside this and returns what it found out.

    One that fails, hangs or writes to stderr fails the test.
    """
    # Not the current folder: what is tested may be installed elsewhere.
    path = [Path(hypertrace.__file__).parent.parent, Path(__file__).parent.parent]
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }

    def start(name: str, limit: float = 60, /, **arguments: Any) -> dict[str, Any]:
        command = [sys.executable, "-m", "stress.programs", name, str(limit)]
        done = subprocess.run(
            [*command, json.dumps(arguments)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit + 30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return start


@pytest.fixture
def figure(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[..., None]:
    """Give a function that notes what was measured, for the table; it asserts nothing."""
    subject = (request.module.__doc__ or "").partition(":")[0]

    def note(name: str, value: float, unit: str, bound: str) -> None:
        record_property("figure", asdict(Figure(subject, name, value, unit, bound)))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and write the figures to the file that the environment names."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    found = [
        value
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if not found:
        return
    terminalreporter.section("figures")
    terminalreporter.write_line(aligned(table({CORE: [Figure(**each) for each in found]})))
    if FIGURES_FILE in os.environ:
        Path(os.environ[FIGURES_FILE]).write_text(json.dumps(found))
