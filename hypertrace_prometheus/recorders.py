"""Recorders for calls with props: from the values of the allowed ones to a cell, fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace import Cell

    from .series import CounterSeries

    Props = dict[str, object]
    PropsRecorder = Callable[[Props], object]
    CellFor = Callable[[Props], Cell]
    TextOf = Callable[[object], str]


def props_recorder(
    names: tuple[str, ...], cell_for: CellFor, series: CounterSeries, text: TextOf
) -> PropsRecorder:
    """Return a recorder that finds the cell for some props.

    It remembers the cells of values it has seen. Only strings that are their own text, and values
    left out, are remembered, and no overflow: so what it keeps is bounded by the series there are.

    Args:
        names: of the allowed props.
        cell_for: finds or makes the cell for props; it may be slow.
        series: where the cells come from.
        text: turns a value into the text of its label.
    """
    if not names:
        increment = cell_for({}).increment
        return lambda _: increment()

    known: dict[tuple[object, ...], Callable[[], object]] = {}

    def record(props: Props) -> None:
        values = tuple(map(props.get, names))
        try:
            increment = known[values]
        except Exception:  # noqa: BLE001 -- not seen yet, or a value that cannot be hashed
            increment = None
        if increment is None:
            increment = find(values, props)
        increment()

    def find(values: tuple[object, ...], props: Props) -> Callable[[], object]:
        cell = cell_for(props)
        if cell is not series.overflow and all(map(is_own_text, values)):
            known[values] = cell.increment
        return cell.increment

    def is_own_text(value: object) -> bool:
        return value is None or (type(value) is str and text(value) == value)

    return record
