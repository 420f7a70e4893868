"""Program that runs tests of CPython itself, with the code of all functions rewritten.

`python rewritten_standard_library.py {plain|rewritten} MODULE...` prints one JSON object: how many
tests ran, which ones failed, and how often each operator was used.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import json
import sys
import unittest
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.hypertrace.rewriting import Counts, functions_rewritten, speedups

if TYPE_CHECKING:
    from types import CodeType


def rewrite_all(record: object) -> None:
    """Rewrite the functions that are there, and those of modules that are imported later."""
    loader: Any = importlib.machinery.SourceFileLoader
    get_code = loader.get_code

    def rewritten(self: object, name: str) -> CodeType | None:
        code = get_code(self, name)
        return code and functions_rewritten(code, record)

    loader.get_code = rewritten
    own = __name__, "hypertrace", "tests.hypertrace"
    for function in gc.get_objects():
        if type(function) is FunctionType and not str(function.__module__).startswith(own):
            function.__code__ = speedups.rewrite(function.__code__, record)


class _Result(unittest.TestResult):
    def unexpected(self) -> list[str]:
        """Name the tests that did not pass."""
        return sorted(str(test) for test, _ in self.failures + self.errors)


def main() -> None:
    """Run the tests of some modules."""
    how, *modules = sys.argv[1:]
    counts = Counts()
    if how == "rewritten":
        rewrite_all(counts.record)
    result = _Result()
    suite = unittest.TestSuite()
    for module in modules:
        suite.addTests(
            unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
        )
    suite.run(result)
    found = {"run": result.testsRun, "failed": result.unexpected(), "seen": counts.values()}
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
