"""Object ids: sequences 1, 2, 3 and so on, one for each class name."""

from __future__ import annotations

from itertools import count

MAX_NAMES = 10_000
"""Class names that have their own sequence. Classes made at run time may have any number of names.
Beyond this limit they share one sequence, so the ids of two objects of a class still differ."""

sequences: dict[str, count[int]] = {}
"""By class name. `next()` of a sequence runs in C, so no two threads get the same id."""

_shared = count(1)


def sequence_for(class_name: str) -> count[int]:
    """Return the sequence of a class name. It is made if the limit allows."""
    if len(sequences) >= MAX_NAMES:
        return sequences.get(class_name, _shared)
    return sequences.setdefault(class_name, count(1))


def reset() -> None:
    """Start again from 1."""
    global _shared  # noqa: PLW0603 -- the state of the process
    _shared = count(1)
    sequences.clear()
