"""Comparison of a suite's runs, plain and traced, test by test."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .suites import Run, Suite, SuiteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .packages import Package

EXPLAINED = Path(__file__).parent / "explained.toml"
MISSING = "missing"


@dataclass(frozen=True)
class Change:
    """A test that ends differently while the package is traced."""

    test: str
    plain: str
    traced: str
    reason: str
    """What the suite said about it, in the run in which it failed."""

    def __str__(self) -> str:
        return f"{self.test}: {self.plain}, traced {self.traced}\n{self.reason}"


@dataclass(frozen=True)
class Result:
    """What came of the runs of one suite."""

    package: Package
    plain: list[Run]
    traced: list[Run]

    @property
    def changes(self) -> list[Change]:
        """The tests that changed; where there are several runs, in two of them."""
        found = [change for run in self.traced for change in _changes(self.plain, run)]
        times = Counter(change.test for change in found)
        least = min(2, len(self.traced))
        return list({one.test: one for one in found if times[one.test] >= least}.values())

    @property
    def cost(self) -> float:
        """The time that the processor worked, against that of plain runs."""
        return min(run.seconds for run in self.traced) / min(run.seconds for run in self.plain)

    @property
    def faults(self) -> list[str]:
        """What must not be: changes without a listed reason, errors inside tracing."""
        listed = explained().get(self.package.name, {})
        faults = [str(change) for change in self.changes if change.test not in listed]
        if swallowed := sum(run.swallowed for run in self.traced):
            faults.append(f"{self.package.name}: {swallowed} errors inside tracing")
        return faults


def compare(package: Package, rounds: int) -> Result:
    """Run a suite plain and traced, so often; once more if a test changed, as some vary.

    Raises:
        SuiteError: a process of it came to no end, or no test of it passes.
    """
    suite = Suite(package)
    result = Result(package, [], [])
    while len(result.plain) < rounds or (result.changes and len(result.plain) < max(rounds, 2)):
        result.plain.append(suite.run(traced=False))
        result.traced.append(suite.run(traced=True))
    if result.plain[0].passed == 0:
        raise SuiteError(f"no test of {package.name} passes: {result.plain[0].outcomes}")
    return result


def explained() -> Mapping[str, Mapping[str, str]]:
    """Return the reasons of changes that cannot be avoided, by the package and the test."""
    return tomllib.loads(EXPLAINED.read_text())


def _changes(plain: Sequence[Run], traced: Run) -> list[Change]:
    """Return the tests that ended in the traced run as in no plain one."""
    tests = dict.fromkeys(test for run in [*plain, traced] for test in run.outcomes)
    changes = []
    for test in tests:
        before = {run.outcomes.get(test, MISSING) for run in plain}
        after = traced.outcomes.get(test, MISSING)
        if after not in before:
            reasons = [run.reasons.get(test, "") for run in [traced, *plain]]
            changes.append(
                Change(test, "/".join(sorted(before)), after, next(filter(None, reasons), ""))
            )
    return changes
