"""Suites of small packages, which end the same while all of the package is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .packages import SMALL, Package

if TYPE_CHECKING:
    from collections.abc import Callable

    from .comparison import Result


@pytest.mark.parametrize("package", SMALL, ids=lambda package: package.name)
def test_no_test_changes(package: Package, compared: Callable[[Package], Result]) -> None:
    """Each test of the package ends as it does without tracing."""
    result = compared(package)
    assert result.faults == []
    assert result.traced[0].spans > 1_000
