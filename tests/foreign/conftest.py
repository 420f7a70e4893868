"""Fixtures that compare the runs of a suite."""

from __future__ import annotations

import faulthandler
import os
from typing import TYPE_CHECKING

import pytest

import hypertrace

from .comparison import Result, compare
from .suites import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .packages import Package


@pytest.fixture
def compared() -> Callable[[Package], Result]:
    """Give a function that runs a suite plain and traced.

    Where it cannot be fetched the test is skipped; in CI it fails.
    """
    if not hypertrace.COMPILED:
        pytest.skip("without the compiled core traced functions are wrapped, which frames show")

    # The processes of a suite have limits, past that which pytest sets here.
    faulthandler.cancel_dump_traceback_later()

    def run(package: Package) -> Result:
        try:
            return compare(package, rounds=1)
        except UnavailableError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))

    return run
