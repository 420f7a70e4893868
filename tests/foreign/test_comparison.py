"""Comparison of runs: it finds what tracing changes, in a suite that is written here."""

from __future__ import annotations

import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

import hypertrace

from . import suites
from .comparison import Result, compare
from .packages import Package
from .suites import Run, Suite, SuiteError

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
import sys

def caller():
    return sys._getframe(1).f_code.co_name

def items():
    yield from "abc"
"""
TESTS = """
import os, signal, sys, unittest
from shop import caller, items

class TestShop(unittest.TestCase):
    def test_caller(self):
        self.assertEqual(caller(), "test_caller")

    def test_items(self):
        self.assertEqual(list(items()), ["a", "b", "c"])

    @unittest.skip("it is not there yet")
    def test_skipped(self): ...

    @unittest.expectedFailure
    def test_known(self):
        self.fail()

    def test_wrong(self):
        self.fail("as before")

    def test_end(self):
        if os.path.exists("ends"):
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    unittest.main()
"""
ENDS = {
    "test_caller": "passed",
    "test_items": "passed",
    "test_skipped": "skipped",
    "test_known": "xfailed",
    "test_wrong": "failed",
    "test_end": "passed",
}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let every suite be the one above; give the folder of its files."""
    folder = tmp_path / "shop-1.0"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    (folder / "test_shop.py").write_text(TESTS)

    def packed(name: str, version: str) -> Path:
        with tarfile.open(tmp_path / "shop.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        return tmp_path / "shop.tar.gz"

    monkeypatch.setattr(suites, "source_distribution", packed)
    monkeypatch.setattr(suites.Suite, "_python", sys.executable)
    return folder


def _shop(runner: str) -> Package:
    arguments: tuple[str, ...] = () if runner == "test_shop.py" else ("test_shop.py",)
    if runner == "pytest":
        arguments += ("-p", "no:cacheprovider", "-p", "no:xdist")
    return Package("shop", "1.0", ("shop",), arguments=arguments, runner=runner)


RUNNERS = pytest.mark.parametrize("runner", ["pytest", "unittest", "test_shop.py"])


def _by_name(run: Run) -> dict[str, str]:
    return {test.rpartition("::")[2].rpartition(".")[2]: end for test, end in run.outcomes.items()}


@RUNNERS
@pytest.mark.usefixtures("sources")
def test_each_test_is_recorded(runner: str) -> None:
    """Each way of running a suite gives the outcome of each test, and what was traced."""
    plain, traced = (Suite(_shop(runner)).run(traced=traced) for traced in (False, True))
    assert _by_name(plain) == ENDS
    assert (plain.functions, plain.spans) == (0, 0)
    assert (traced.functions, traced.spans, traced.swallowed) == (2, 2, 0)
    assert any("as before" in reason for reason in plain.reasons.values())


@RUNNERS
@pytest.mark.usefixtures("sources")
def test_a_wrapper_is_found(runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a wrapper takes the place of a function, the test that looks at frames has changed."""
    monkeypatch.setenv("HYPERTRACE_PURE_PYTHON", "1")
    result = compare(_shop(runner), rounds=1)
    assert [(each.plain, each.traced) for each in result.changes] == [("passed", "failed")]
    assert "test_caller" in result.faults[0]


@pytest.mark.usefixtures("sources")
@pytest.mark.skipif(not hypertrace.COMPILED, reason="wrappers show in frames")
def test_without_a_wrapper_nothing_is_found() -> None:
    """Where functions are traced in place no test has changed."""
    result = compare(_shop("unittest"), rounds=1)
    assert result.changes == []


def test_a_process_that_dies_is_an_error(sources: Path) -> None:
    """A suite whose process is killed names the test that ran."""
    (sources / "ends").touch()
    with pytest.raises(SuiteError, match=r"ended with -9, in or after .*test_end"):
        Suite(_shop("unittest")).run(traced=False)


def test_a_suite_that_cannot_be_imported_is_an_error(sources: Path) -> None:
    """A suite of which no test passes is compared with nothing."""
    (sources / "test_shop.py").write_text("import nowhere")
    with pytest.raises(SuiteError, match="no test of shop passes"):
        compare(_shop("pytest"), rounds=1)


def test_a_test_that_varies_has_not_changed() -> None:
    """Of several runs a test has to end differently in two, and as in no plain one."""
    runs = [Run({"a": end, "b": "passed", "c": "passed"}) for end in ("passed", "failed")]
    traced = [Run({"a": "failed", "b": "failed"}), Run({"a": "passed", "b": "passed"})]
    changes = Result(_shop("pytest"), runs, traced).changes
    assert [(each.test, each.traced) for each in changes] == [("c", "missing")]


def test_what_is_explained_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is listed with its reason is shown, and fails nothing."""
    result = Result(_shop("pytest"), [Run({"a": "passed"})], [Run({"a": "failed"})])
    assert len(result.faults) == 1
    listed = {"shop": {"a": "it compares the address of a function's code"}}
    monkeypatch.setattr("tests.foreign.comparison.explained", lambda: listed)
    assert (result.faults, len(result.changes)) == ([], 1)
