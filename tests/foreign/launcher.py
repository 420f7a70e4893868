"""Launcher of a third-party suite, which records the outcome of each test; a program.

It runs in the environment of the suite, and imports nothing of these tests. Its argument is JSON:
`runner` is `pytest`, or a module or script that uses unittest; `arguments` are its own. With
`patterns` what they name is traced; without them hypertrace is not even imported. `path` has what
may be imported besides. `record` is the file to which a line of JSON is added for each test, and
one at the end.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPEN, WRITE, CLOSE = os.open, os.write, os.close
"""A suite may replace those of the module."""

WORST = ["failed", "error", "unexpected success", "xfailed", "skipped", "passed"]
"""Outcomes of the parts of one test: the first of these is that of the test."""


class Record:
    """The file to which outcomes are written; a line each, so that a crash leaves the others."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._process = os.getpid()
        self._parts: dict[str, list[tuple[str, str]]] = {}

    def write(self, **fields: Any) -> None:
        if os.getpid() != self._process:  # a forked child that goes on in the suite
            return
        descriptor = OPEN(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        WRITE(descriptor, json.dumps(fields).encode() + b"\n")
        CLOSE(descriptor)

    def start(self, test: str) -> None:
        self._parts[test] = []
        self.write(start=test)

    def part(self, test: str, outcome: str, reason: str = "") -> None:
        """Note the outcome of a part of a test: of its setup, of itself, of a subtest."""
        self._parts.setdefault(test, []).append((outcome, reason))

    def end(self, test: str, usual: str = "passed") -> None:
        parts = self._parts.pop(test, [])
        outcome, reason = min(parts or [(usual, "")], key=lambda part: WORST.index(part[0]))
        self.write(test=test, outcome=outcome, reason=reason[-4_000:])


class PytestPlugin:
    """A plugin that gives the reports of pytest to a record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._record.start(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "unexpected success"
        elif report.failed and report.when != "call":
            outcome = "error"
        self._record.part(report.nodeid, outcome, report.longreprtext if report.failed else "")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._record.end(nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._record.part(report.nodeid, "error", report.longreprtext)
            self._record.end(report.nodeid)


def run_pytest(record: Record, arguments: Sequence[str]) -> int:
    import pytest  # noqa: PLC0415 -- after what is traced

    return pytest.main(list(arguments), plugins=[PytestPlugin(record)])


def record_unittest(record: Record) -> None:
    """Let the results of unittest be recorded, whatever makes them."""
    import unittest  # noqa: PLC0415 -- after what is traced

    class Recorded(unittest.TextTestResult):
        def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
            record.start(test.id())
            super().startTest(test)

        def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
            super().stopTest(test)
            record.end(test.id())

        def addSubTest(self, test: Any, subtest: Any, error: Any) -> None:  # noqa: N802
            super().addSubTest(test, subtest, error)
            if error is not None:
                record.part(test.id(), "failed", _text(error))

        def addError(self, test: Any, error: Any) -> None:  # noqa: N802
            super().addError(test, error)
            record.part(test.id(), "error", _text(error))
            if not isinstance(test, unittest.TestCase):  # the setup of a class or module
                record.end(test.id())

        def addFailure(self, test: Any, error: Any) -> None:  # noqa: N802
            super().addFailure(test, error)
            record.part(test.id(), "failed", _text(error))

        def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
            super().addSkip(test, reason)
            record.part(test.id(), "skipped")
            if not isinstance(test, unittest.TestCase):
                record.end(test.id())

        def addExpectedFailure(self, test: Any, error: Any) -> None:  # noqa: N802
            super().addExpectedFailure(test, error)
            record.part(test.id(), "xfailed")

        def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
            super().addUnexpectedSuccess(test)
            record.part(test.id(), "unexpected success")

    runner: Any = unittest.TextTestRunner
    make = runner._makeResult

    def make_recorded(self: Any) -> Any:  # a runner may have a class of results
        result = make(self)
        result.__class__ = type("Result", (Recorded, type(result)), {})
        return result

    runner._makeResult = make_recorded


def _text(error: Any) -> str:
    return "".join(traceback.format_exception(*error))


def trace(patterns: Sequence[str], exclude: Sequence[str]) -> Callable[[], dict[str, Any]]:
    """Trace what the patterns name; return a function that says what was traced until now."""
    from hypertrace import (  # noqa: PLC0415 -- a plain run goes without it
        dropped_events,
        instrument,
        set_trace_function,
        swallowed_errors,
    )
    from hypertrace.metrics import Metrics  # noqa: PLC0415 -- as above

    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    handle = instrument(patterns, exclude=exclude)

    def found() -> dict[str, Any]:
        durations: list[Any] = list(metrics.read().family("function_duration_seconds").values)
        return {
            "functions": len(handle.names),
            "spans": sum(value.count for value in durations),
            "swallowed": swallowed_errors(),
            "dropped": dropped_events(),
        }

    return found


def main() -> Any:
    given = json.loads(sys.argv[1])
    sys.path += given["path"]
    # As with `python -m`: in place of the folder of this file.
    sys.path[0] = str(Path.cwd())
    record = Record(given["record"])
    if given["patterns"]:
        import hypertrace.metrics  # noqa: F401, PLC0415 -- what it takes is no part of the suite's
    start = seconds()
    found = trace(given["patterns"], given["exclude"]) if given["patterns"] else dict
    runner, arguments = given["runner"], given["arguments"]
    status: Any = None
    try:
        if runner == "pytest":
            status = run_pytest(record, arguments)
        else:
            record_unittest(record)
            sys.argv[:] = [runner, *arguments]
            if runner.endswith(".py"):
                runpy.run_path(runner, run_name="__main__")
            else:
                runpy.run_module(runner, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code
    record.write(seconds=seconds() - start, **found())
    return status


def seconds() -> float:
    """Return the time that the processor has worked for this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
