"""Figures of integrations on the pages about them: between two comments, in each of these pages."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .measure import COMPILED
from .report import machine, markdown, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .measure import Row

_FIGURES = re.compile(r"(<!-- figures: (.*) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
"""The first comment says what to show, as `request of Flask, task of Celery`."""
_ADDED = "time added to a "


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write the figures into all pages that ask for them.

    Args:
        folder: of the pages.
        rows: of the compiled core; pages that ask for others stay as they are.
    """
    for page in sorted(folder.glob("*.md")):
        text = page.read_text()
        shown = with_figures(text, rows)
        if shown != text:
            page.write_text(shown)


def with_figures(text: str, rows: Sequence[Row]) -> str:
    """Return a page with the figures between its comments."""

    def filled(found: re.Match[str]) -> str:
        names = {f"{_ADDED}{name}" for name in found[2].split(", ")}
        shown = [
            replace(row, what=row.what.removeprefix(_ADDED)) for row in rows if row.what in names
        ]
        if not shown:
            return found[0]
        return f"{found[1]}\n{machine()}:\n\n{markdown(table({COMPILED: shown}))}\n\n{found[3]}"

    return _FIGURES.sub(filled, text)
