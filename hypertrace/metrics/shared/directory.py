"""Run directory: where the processes of one program keep their files; found, or made, or removed.

The directories of one user lie in `hypertrace-UID`, which only that user can enter. A symbolic link
among them is an alias: the name that a run would have by its present root process, which has taken
the place of the one in the name of the directory.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from .keys import has_root, name_of_path, name_of_root
from .program import has_forked_children, is_alive, root_process, this_process
from .removal import SEEN_EMPTY, alias_roots, remove, sweep
from .setting import VARIABLE, checked_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .program import ProcessId

__all__ = [
    "NotShared",
    "RunDirectory",
    "again",
    "checked_workers",
    "find",
    "keep_linked",
    "remove_if_last",
    "user_directories",
]

_OWN = 0o700
"""Mode of a directory that only its owner can enter."""
_TRIES = 5
"""How often a directory is made that others remove at the same time."""


class NotShared(OSError):  # noqa: N818 -- a result rather than a fault: counting goes on in memory
    """No run directory can be used; the text says why, for each place that was tried."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run directory that exists, as far as this process has seen.

    Attributes:
        path: where it is.
        is_kept: whether the user named it, and it stays when the last process ends.
        root: the process whose end ends the run; None if kept, or unknown.
        name: the argument of `find`.
        ordinal: how many directories of this name this process, or one that it was forked from,
            had found before.
    """

    path: str
    is_kept: bool
    root: ProcessId | None
    name: str = ""
    ordinal: int = 0


class _Key(NamedTuple):
    """The name of a run directory, and the names by which it is found from now on."""

    name: str
    root: ProcessId | None
    aliases: tuple[str, ...] = ()


_ordinals: dict[tuple[str, str], count[int]] = {}
_root: ProcessId | None = None
"""The root of the last directory; forked children keep it after their parent has ended."""


def find(workers: bool | str | os.PathLike[str], *, name: str) -> RunDirectory | None:  # noqa: FBT001 -- as users write it
    """Find the run directory of this program, and make it if it is not there.

    All processes of the program that call this with the same arguments and in the same order get
    the same directory, also when they start at once. The first process also removes directories of
    programs that have ended. `HYPERTRACE_WORKERS` wins over `workers`.

    The directory may be removed between this call and the first file in it, by a process of the
    program that ends: then use `again`.

    Args:
        workers: see `checked_workers`.
        name: distinguishes exporters, such as "0.0.0.0:4343". With a path it makes no difference:
            the first directory of a process is the path, and further ones are `2`, `3`… in it.

    Returns:
        The directory, or None if `workers` is False: count in memory.

    Raises:
        TypeError: as `checked_workers`.
        ValueError: as `checked_workers`.
        NotShared: there is no place for the directory, or "auto" cannot know which processes belong
            to this program. Count in memory, and say so once.
    """
    checked = checked_workers(workers)
    if checked is False:
        return None
    kind = checked if isinstance(checked, str) else "True"
    is_path = kind not in {"auto", "True"}
    # One step each: neither other threads nor a fork come in between.
    ordinal = next(_ordinals.setdefault((kind, "" if is_path else name), count()))
    if sys.platform == "win32":
        raise NotShared("processes do not share counts on Windows")
    if is_path:
        return _kept(kind, name, ordinal)
    key = (
        _auto_key(name, ordinal)
        if kind == "auto"
        else _Key(name_of_path(name, ordinal), root_process())
    )
    return RunDirectory(
        _found_or_made(key), is_kept=False, root=key.root, name=name, ordinal=ordinal
    )


def again(directory: RunDirectory) -> RunDirectory:
    """Find or make a directory once more that was removed, under the same key.

    Raises:
        NotShared: there is no place for it any more.
    """
    if directory.is_kept:
        _make_kept(directory.path)
        return directory
    name = os.path.basename(directory.path)
    path = _found_or_made(_Key(name, directory.root))
    return RunDirectory(
        path, is_kept=False, root=directory.root, name=directory.name, ordinal=directory.ordinal
    )


def keep_linked(directory: RunDirectory) -> None:
    """Leave an alias if the root of this process is not the one of the directory any more.

    So it is in a program that has become a daemon after it found the directory: what it starts from
    now on finds the directory by the alias. Call it now and then. Never raises; costs about 0.1 ms.
    """
    if directory.is_kept or not has_root(os.path.basename(directory.path)):
        return
    root = root_process()
    if root is not None and root != directory.root:
        _leave_aliases(directory.path, (name_of_root(root, directory.name, directory.ordinal),))


def remove_if_last(directory: RunDirectory, own_file: str | None) -> bool:
    """Remove the directory if this process, which ends, is the last one of the program.

    It is not the last one while another process has locked its file, or the root of the run lives
    and is another process: that one may start more. Never raises.

    Args:
        directory: what `find` returned.
        own_file: name of the file of this process, which this process may still have locked.

    Returns:
        Whether the directory is gone.
    """
    if directory.is_kept:
        return False
    own = this_process()
    parent, name = os.path.split(directory.path)
    if directory.root is not None and directory.root != own and is_alive(directory.root):
        return False
    if any(root != own and is_alive(root) for root in alias_roots(parent, name)):
        return False
    if has_forked_children():  # they are about to lock their files
        return False
    return remove(parent, name, ignored=own_file)


def user_directories() -> list[str]:
    """Return the directories that have this user's run directories in them, where there are any."""
    users = [os.path.join(base, f"hypertrace-{os.geteuid()}") for base in _bases([])]
    return [user for user in users if _is_own(user)]


def _is_own(path: str) -> bool:
    try:
        _check(path)
    except OSError:
        return False
    return True


def _auto_key(name: str, ordinal: int) -> _Key:
    global _root  # noqa: PLW0603 -- one for the process
    root = _root
    if root is None or not is_alive(root):
        root = root_process()
    if root is None:
        raise NotShared(
            "which processes belong to this program cannot be known without /proc; "
            f"workers=True or a path, as argument or as {VARIABLE}, shares their counts"
        )
    _root = root
    own = root_process(upgrades=False)
    key = name_of_root(root, name, ordinal)
    aliases = {name_of_root(own, name, ordinal)} - {key} if own is not None else ()
    return _Key(key, root, tuple(aliases))


def _kept(path: str, name: str, ordinal: int) -> RunDirectory:
    if ordinal:
        path = os.path.join(path, str(ordinal + 1))
    _make_kept(path)
    return RunDirectory(path, is_kept=True, root=None, name=name, ordinal=ordinal)


def _make_kept(path: str) -> None:
    try:
        os.makedirs(path, _OWN, exist_ok=True)
    except OSError as error:
        raise NotShared(f"{path}: {error.strerror}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise NotShared(f"{path}: not writable")


def _found_or_made(key: _Key) -> str:
    """Return the path of the directory. All processes get the same, whichever places they can use.

    Only a full disk ends the search: it may be full for one process and not for the next.
    """
    reasons: list[str] = []
    users = [os.path.join(base, f"hypertrace-{os.geteuid()}") for base in _bases(reasons)]
    for user in users:
        path = _joined(user, key.name)
        if path is not None:
            _leave_aliases(path, key.aliases)
            return path
    for user in users:
        try:
            path = _made(user, key.name)
        except OSError as error:
            reasons.append(_reason(error, user))
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                break
        else:
            _leave_aliases(path, key.aliases)
            return path
    raise NotShared("no directory for the files that processes share: " + "; ".join(reasons))


def _made(user: str, name: str) -> str:
    """Make a directory and return its path, or the one that another process has just made."""
    _make(user)
    for _ in range(_TRIES):
        name = _meant(user, name)
        is_new = _make(os.path.join(user, name))
        path = _joined(user, name)
        if path is not None:
            if is_new:
                sweep(user)
            return path
    raise NotShared(f"{user}: the directory was removed as often as it was made")


def _bases(reasons: list[str]) -> Iterator[str]:
    """Yield the places in which run directories can be, and add the reasons against others."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]  # noqa: S108 -- made with care
    try:
        found = tempfile.gettempdir()
        if found == _working_directory():  # which `tempfile` takes if it finds no other
            reasons.append("no temporary directory is writable")
        else:
            candidates.append(found)
    except OSError as error:
        reasons.append(str(error.strerror))
    for base in dict.fromkeys(candidates):
        if not os.path.isabs(base):
            continue
        try:
            mode = os.stat(base).st_mode
        except OSError as error:
            reasons.append(_reason(error, base))
            continue
        if not stat.S_ISDIR(mode):
            reasons.append(f"{base}: not a directory")
        elif mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            reasons.append(f"{base}: others can rename what is in it (mode {mode & 0o7777:o})")
        else:
            yield base


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _reason(error: OSError, path: str) -> str:
    return str(error) if isinstance(error, NotShared) else f"{path}: {error.strerror}"


def _make(path: str) -> bool:
    """Make a directory if it is not there, and return whether it was not."""
    try:
        os.mkdir(path, _OWN)
    except FileExistsError:
        _check(path)
        return False
    return True


def _check(path: str) -> None:
    """Raise if a directory is not this user's alone."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotShared(f"{path}: not a directory")
    if found.st_uid != os.geteuid():
        raise NotShared(f"{path}: belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) & 0o777 != _OWN:
        raise NotShared(f"{path}: has mode {stat.S_IMODE(found.st_mode):o}, not 700")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise NotShared(f"{path}: not writable")


def _joined(user: str, name: str) -> str | None:
    """Return the path of a directory that can be used, directly or by an alias."""
    try:
        _check(user)
        path = os.path.join(user, _meant(user, name))
        _check(path)
        # A sweep that has looked into it before does not remove it now.
        os.utime(path, follow_symlinks=False)
        if os.lstat(path).st_mode & SEEN_EMPTY:
            os.chmod(path, _OWN)  # this user's directory, in one that no other user can enter
    except OSError:
        return None
    return path


def _meant(user: str, name: str) -> str:
    """Return the name that an alias stands for, and any other name as it is."""
    try:
        target = os.readlink(os.path.join(user, name))
    except OSError:
        return name
    return target if has_root(target) else name


def _leave_aliases(path: str, aliases: tuple[str, ...]) -> None:
    user, name = os.path.split(path)
    for alias in aliases:
        if alias != name:
            with suppress(OSError):  # it is there already
                os.symlink(name, os.path.join(user, alias))
