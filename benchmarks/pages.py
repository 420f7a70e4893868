"""Figures of integrations on the pages about them: between two comments, in each of these pages."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .report import machine, markdown, table

if TYPE_CHECKING:
    from pathlib import Path

    from .report import Rows

_FIGURES = re.compile(r"(<!-- figures: (.*) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
"""The first comment says what to show, as `request of Flask, task of Celery`."""
_ADDED = "time added to a "


def write(folder: Path, results: Rows) -> None:
    """Write the figures into all pages that ask for them.

    Args:
        folder: of the pages.
        results: the rows of each core.
    """
    for page in sorted(folder.glob("*.md")):
        text = page.read_text()
        shown = with_figures(text, results)
        if shown != text:
            page.write_text(shown)


def with_figures(text: str, results: Rows) -> str:
    """Return a page with the figures between its comments."""

    def filled(found: re.Match[str]) -> str:
        names = {f"{_ADDED}{name}" for name in found[2].split(", ")}
        chosen = {
            core: [
                replace(row, what=row.what.removeprefix(_ADDED))
                for row in rows
                if row.what in names
            ]
            for core, rows in results.items()
        }
        return f"{found[1]}\n{machine()}:\n\n{markdown(table(chosen))}\n\n{found[3]}"

    return _FIGURES.sub(filled, text)
