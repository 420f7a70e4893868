"""Page about the costs, and the figures of each Python on it."""

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

OPERATIONS = {"trace", "idle", "empty", "bound"}


@pytest.fixture
def pythons(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import what measures each Python; it needs none of the peers."""
    monkeypatch.syspath_prepend(str(root))
    return importlib.import_module("benchmarks.pythons")


@pytest.fixture
def report(pythons: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import what writes the page, as if all peers were installed."""
    found: ModuleType = pythons.report
    monkeypatch.setattr(found, "version", lambda _: "1.0")
    return found


@pytest.mark.parametrize("pure", ["1", "0"])
def test_a_python_is_measured_with_little_installed(root: Path, pure: str) -> None:
    """The program that runs on each Python needs one peer, and says which core it measured."""
    program = [sys.executable, "-m", "benchmarks.one_python", "2", "0.0001"]
    environment = {**os.environ, "HYPERTRACE_PURE_PYTHON": pure}
    printed = subprocess.run(
        program, cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout
    found = json.loads(printed)
    is_built = find_spec("hypertrace._speedups") is not None
    assert found["compiled"] is (pure == "0" and is_built)
    assert found["version"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert found["nanoseconds"].keys() == OPERATIONS
    assert min(found["nanoseconds"].values()) > 0
    assert bool(found["rows"]) is found["compiled"]


def test_the_page_has_a_row_for_each_core_of_each_python(
    pythons: ModuleType, report: ModuleType
) -> None:
    """A row has the whole `trace()`, what it adds to the method, and both ratios."""
    rows = [
        pythons.OnePython("3.13.1", "pure Python", trace=300, idle=30, empty=75, bound=400),
        pythons.OnePython("3.14.2", "compiled", trace=50, idle=20, empty=100, bound=200),
    ]
    page = report.page({}, [], [], rows, ["Python 3.15, which was not found"])
    assert "| 3.13.1 | pure Python | 300 ns | 270 ns | 75 ns | 4.00 | 400 ns | 0.75 |" in page
    assert "| 3.14.2 | compiled | 50 ns | 30 ns | 100 ns | 0.50 | 200 ns | 1/4.0 |" in page
    assert "Not measured: Python 3.15, which was not found" in page


def test_the_page_has_a_column_of_traced_functions_for_each_python(
    pythons: ModuleType, report: ModuleType
) -> None:
    """A cell has both figures and the ratio; one broken promise breaks the line."""
    off, step = "a call, off", "a step"
    bare = {"peer": "a bare call", "theirs": 20.0}
    rows = [
        [pythons.Row(off, 40.0, **bare, promise=2.2, goal=2.0), pythons.Row(step, 90.0)],
        [pythons.Row(off, 30.0, **bare, promise=1.1, goal=1.05), pythons.Row(step, 70.0)],
    ]
    times = {"trace": 50, "idle": 20, "empty": 100, "bound": 200}
    figures = [
        pythons.OnePython("3.11.7", "pure Python", **times),
        pythons.OnePython("3.11.7", "compiled", **times, rows=rows[0]),
        pythons.OnePython("3.13.0", "compiled", **times, rows=rows[1]),
    ]
    section = report.traced_section(figures)
    assert "| what | against | 3.11.7 | 3.13.0 | promise | goal |  |" in section
    assert (
        "| a call, off | a bare call | 40 ns / 20 ns: 2.00 | 30 ns / 20 ns: 1.50 "
        "| ≤ 2.2 or ≤ 1.1 | ≤ 2 or ≤ 1.05 | BROKEN |"
    ) in section
    assert "| a step |  | 90 ns | 70 ns |  |  |  |" in section
    assert section in report.page({}, [], [], figures, [])
    kept, broken = rows
    assert report.broken([*kept, *broken], 1) == [broken[0]]


def test_the_page_names_each_python_that_was_not_measured(
    pythons: ModuleType, report: ModuleType
) -> None:
    """Where no interpreter is given, the page says of each supported version that it is missing."""
    figures, skipped = pythons.measured([], None)
    page = report.page({}, [], [], figures, skipped)
    classifiers = metadata("hypertrace").get_all("Classifier") or []
    versions = [each.split(" :: ")[-1] for each in classifiers if ":: Python :: 3." in each]
    assert "3.11" in versions
    for version in versions:
        assert f"Not measured: Python {version}," in page
    assert "| Python |" not in page
