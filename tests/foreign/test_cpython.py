"""Tests of CPython, which end the same while modules of the standard library are traced."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from .packages import CPYTHON

if TYPE_CHECKING:
    from collections.abc import Callable

    from .comparison import Result
    from .packages import Package


def test_no_test_changes(compared: Callable[[Package], Result]) -> None:
    """Each test of some modules ends as it does without tracing."""
    if importlib.util.find_spec("test.test_json") is None:
        pytest.skip("this Python was installed without its tests")
    result = compared(CPYTHON)
    assert result.faults == []
    assert result.traced[0].spans > 100_000
