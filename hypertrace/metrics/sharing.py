"""Sharing: the choice between counts in memory, and counts that all workers share."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from hypertrace import suppress_tracing
from hypertrace.segments import CAN_SHARE

from .shared.setting import checked_workers
from .storage import MemoryStorage

if TYPE_CHECKING:
    import os

    from .storage import Storage

_logger = logging.getLogger("hypertrace.metrics")


def make_storage(
    *,
    workers: bool | str | os.PathLike[str],
    name: str,
    object_ids: bool,
) -> Storage:
    """Return the storage of a new `Metrics`; that in memory where counts cannot be shared.

    Args:
        workers: as in `Metrics`.
        name: as in `Metrics`.
        object_ids: series go with their objects, which files cannot follow.

    Raises:
        ValueError: sharing is asked for, and excluded by another argument; or as
            `checked_workers` raises it.
        TypeError: as `checked_workers` raises it.
    """
    choice = checked_workers(workers)
    if object_ids and choice not in {False, "auto"}:
        raise ValueError(
            f"object_ids=True excludes workers={choice!r}: the series of an object are dropped "
            "with it, and other processes could not follow; pass workers=False, or no object_ids"
        )
    if choice is False or object_ids:
        return MemoryStorage()
    if not CAN_SHARE:
        return _unshared("without a GIL, counts in files are exact only with the compiled core")
    try:
        from .shared.storage import open_storage
    except ImportError as error:  # of `fcntl`, which Windows does not have
        return _unshared(f"this system has no file locks ({error})")
    try:
        return open_storage(choice, name=name)
    except OSError as error:
        return _unshared(str(error))


def _unshared(reason: str) -> MemoryStorage:
    """Return a storage in memory that says why it does not share."""
    problem = (
        "Counts are in the memory of this process and not shared with other workers of the "
        f"application: {reason}. To share them, let HYPERTRACE_WORKERS name a directory that all "
        "workers can write to; to count in memory without this line, set it to 0"
    )
    _report(problem)
    return MemoryStorage(problem)


@lru_cache(maxsize=64)
def _report(problem: str) -> None:
    """Log once for each reason why counts are not shared."""
    with suppress(Exception):  # a broken log handler must not end the application
        suppress_tracing(_logger.warning, "%s", problem)
