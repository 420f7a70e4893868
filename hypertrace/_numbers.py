"""The numbers of traced objects: 1, 2, 3 and so on for each class name."""

from __future__ import annotations

from itertools import count

MAX_NAMES = 10_000
"""Class names with a sequence of their own. Classes made at run time may have any number of names;
past this limit they share one sequence, so that an object's number stays its own."""

numbers: dict[str, count[int]] = {}
"""The sequences by class name; `next()` of one takes a number, in C, so no two threads get it."""

_others = count(1)


def numbers_for(class_name: str) -> count[int]:
    """Return the sequence of a class name, which is made if there is room."""
    if len(numbers) >= MAX_NAMES:
        return numbers.get(class_name, _others)
    return numbers.setdefault(class_name, count(1))


def reset() -> None:
    """Number from 1 again."""
    global _others  # noqa: PLW0603 -- starts anew
    _others = count(1)
    numbers.clear()
