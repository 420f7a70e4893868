"""Removal of run directories in which no process is left."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING

from .keys import is_gone, is_ours, name_of_gone, root_of
from .program import is_alive

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from .program import ProcessId

MOST_SWEPT = 64
"""How many run directories without a living root a newcomer looks into."""
YOUNG = 10.0
"""Seconds for which an unlocked file or directory may be one that is just being made."""
RESTART = 60.0
"""Seconds in which a program may be without any process, where its root is unknown."""
SEEN_EMPTY = stat.S_ISVTX
"""The bit of the mode that marks a directory in which a sweep has found no process."""

_WORKER_FILES = ("w-", ".w-")


def sweep(user: str) -> None:
    """Remove run directories in which no process is left, and aliases that lead nowhere."""
    with suppress(OSError):
        with os.scandir(user) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        aliases = _aliases(user)
        living = {
            target
            for alias, target in aliases
            if (root := root_of(alias)) is not None and is_alive(root)
        }
        now = time()
        candidates = sorted(
            (status.st_mtime, name, status)
            for name, status in found
            if stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and status.st_mtime < now - YOUNG
            and name not in living
            and _may_be_dead(name)
        )
        for _, name, status in candidates[:MOST_SWEPT]:
            _sweep_one(user, name, status, now)
        for alias, target in aliases:
            _remove_alias(user, alias, target)


def _sweep_one(user: str, name: str, status: os.stat_result, now: float) -> None:
    """Remove a directory, at the second look if the root of its program is unknown."""
    if root_of(name) is not None or is_gone(name):
        remove(user, name)
    elif not status.st_mode & SEEN_EMPTY:
        if not _is_in_use(os.path.join(user, name)):
            with suppress(OSError):
                os.utime(os.path.join(user, name), follow_symlinks=False)
                os.chmod(os.path.join(user, name), 0o700 | SEEN_EMPTY)
    elif status.st_mtime < now - RESTART:
        remove(user, name)


def _may_be_dead(name: str) -> bool:
    root = root_of(name)
    if root is not None:
        return not is_alive(root)
    return is_ours(name)


def _target(alias: str) -> str:
    try:
        return os.readlink(alias)
    except OSError:
        return ""


def alias_roots(user: str, name: str) -> list[ProcessId]:
    """Return the roots, living and dead, that have taken the place of the one in a name."""
    roots = [root_of(alias) for alias, target in _aliases(user) if target == name]
    return [root for root in roots if root is not None]


def _aliases(user: str) -> list[tuple[str, str]]:
    """Return the names of all aliases, and the names that they stand for."""
    with suppress(OSError), os.scandir(user) as entries:
        return [(entry.name, _target(entry.path)) for entry in entries if entry.is_symlink()]
    return []


def _remove_alias(user: str, alias: str, target: str) -> None:
    root = root_of(alias)
    has_ended = root is None or not is_alive(root)
    if has_ended and not os.path.lexists(os.path.join(user, target)):
        with suppress(OSError):
            os.unlink(os.path.join(user, alias))


def remove(user: str, name: str, *, ignored: str | None = None) -> bool:
    """Remove a directory in which no process is left, and return whether it is gone.

    It is renamed first, so that no process finds it any more, and then looked into once more.
    """
    path, gone = os.path.join(user, name), os.path.join(user, name_of_gone())
    if _is_in_use(path, ignored=ignored):
        return False
    try:
        os.rename(path, gone)
    except OSError:
        return not os.path.lexists(path)
    if _is_in_use(gone, ignored=ignored):
        with suppress(OSError):  # a newcomer has made another one just now
            os.rename(gone, path)
        return False
    with suppress(OSError):
        opened = _open_directory(gone)
        try:
            for entry in os.listdir(opened):
                with suppress(OSError):
                    os.unlink(entry, dir_fd=opened)
        finally:
            os.close(opened)
        os.rmdir(gone)
    for alias, target in _aliases(user):
        if target == name:
            _remove_alias(user, alias, target)
    return True


def living_files(path: str) -> list[str]:
    """Return the names of the files in a run directory that their processes have locked."""
    with suppress(OSError):
        opened = _open_directory(path)
        try:
            names = [name for name in os.listdir(opened) if name.startswith(_WORKER_FILES[0])]
            return [name for name in names if _is_locked(name, opened)]
        finally:
            os.close(opened)
    return []


def _is_in_use(path: str, *, ignored: str | None = None) -> bool:
    """Return whether a process has locked its file, or may be about to; True if unknown."""
    try:
        opened = _open_directory(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return any(
            _is_locked(entry, opened)
            for entry in os.listdir(opened)
            if entry.startswith(_WORKER_FILES) and entry not in {ignored, f".{ignored}"}
        )
    except OSError:
        return True
    finally:
        os.close(opened)


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_locked(name: str, directory: int) -> bool:
    try:
        opened = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        if name.startswith(".") and os.fstat(opened).st_mtime > time() - YOUNG:
            return True  # made just now, and perhaps not locked yet
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(opened)
    return False
