"""Code on the pages about integrations, with their libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..contracts.test_readme import PAGES, needed, run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("page", [*filter(needed, PAGES)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(
    page: Path, library: Callable[[str], Any], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Each page that says which libraries it needs runs with them."""
    for name in needed(page):
        library(name)
    run_python(page, tmp_path, free_port())
