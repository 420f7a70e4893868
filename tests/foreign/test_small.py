"""Suites of small packages, which run the same while the package is traced."""

import pytest

from .comparison import compare
from .packages import SMALL, Package


@pytest.mark.parametrize("package", SMALL, ids=lambda package: package.name)
def test_no_test_changes(package: Package) -> None:
    """Each test of a package ends as it does without tracing, while all of the package is traced."""
    result = compare(package, rounds=1)
    assert [str(change) for change in result.unexplained] == []
    assert result.traced[0].spans > 1_000
    assert result.traced[0].swallowed == 0
