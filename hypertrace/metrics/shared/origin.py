"""Origin file: where and when the counts in a run directory began, as all workers know it."""

from __future__ import annotations

import os
from contextlib import suppress

from hypertrace.metrics.storage import Origin

_FILE_NAME = "origin"


def settled_origin(directory: str, proposed: Origin) -> Origin:
    """Return the origin that a run directory has, which is the proposed one if it has none yet.

    Where the file can be neither read nor written, it is the proposed one.

    Args:
        directory: the run directory.
        proposed: to be written.
    """
    path = os.path.join(directory, _FILE_NAME)
    found = _read(path)
    if found is None:
        with suppress(OSError):
            _write(path, proposed)
        found = _read(path)
    return proposed if found is None else found


def _read(path: str) -> Origin | None:
    try:
        with open(path, encoding="ascii") as file:
            id, time = file.read().split()
        return Origin(id, float(time))
    except (OSError, ValueError):
        return None


def _write(path: str, origin: Origin) -> None:
    """Write the file unless it is there: whole at once, so that no process reads a part of it."""
    unfinished = f"{path}.{origin.id}"
    try:
        with open(unfinished, "x", encoding="ascii") as file:
            file.write(f"{origin.id} {origin.time!r}\n")
        os.link(unfinished, path)
    finally:
        with suppress(OSError):
            os.unlink(unfinished)
