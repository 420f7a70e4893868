"""Figures that the tests measured, as a table for a terminal and for the page of promises."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
"""What stands around the table in the page."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured."""

    subject: str
    """What the tests beside it are about."""
    name: str
    """What was measured."""
    value: float
    unit: str
    bound: str
    """What is promised of it."""


def table(results: Mapping[str, Iterable[Figure]]) -> list[list[str]]:
    """Return the cells of the table, the heads first: a row a figure, a column a core.

    Args:
        results: what was measured on each core. A figure taken several times shows its worst.
    """
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for core, figures in results.items():
        for figure in figures:
            row = rows.setdefault((figure.subject, figure.name), {})
            worse = min if figure.bound.startswith("≥") else max
            row[core] = worse(row.get(core, figure), figure, key=lambda each: each.value)
    lines = []
    for (subject, name), row in rows.items():
        measured = [_text(row[core]) if core in row else "" for core in results]
        lines.append([subject, name, next(iter(row.values())).bound, *measured])
    return [["about", "what", "promised", *results], *lines]


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(r, widths, strict=True)] for r in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return a table for a page."""
    heads, *lines = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([heads, "|" + " --- |" * len(cells[0]), *lines])


def machine() -> str:
    """Return what the figures were taken on."""
    return f"CPython {platform.python_version()} on {platform.system()} {platform.machine()}"


def written(page: str, cells: Sequence[Sequence[str]], begin: str = BEGIN, end: str = END) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{markdown(cells)}\n\n{machine()}.\n\n{end}{after}"


def _text(figure: Figure) -> str:
    value = figure.value
    digits = 0 if isinstance(value, int) or value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}".replace(",", " ") + f" {figure.unit}".rstrip()
