"""Run directory: where the processes of one program keep their files; found, made and removed.

The directories of one user lie in `hypertrace-UID`, which only that user can enter. The name of a
run directory is the key of the run:

- `a-PID-STARTED-NAMESPACE-DIGEST` with `workers="auto"`: the root process of the program, in
  hexadecimal, and the pid namespace in which its pid counts;
- `p-DIGEST` with `workers=True`: the program's path;
- `gone-RANDOM`: one that is just being removed.

A symbolic link among them is an alias: the name that the run would have by its present root
process, which has taken the place of the one in the name of the directory.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from secrets import token_hex
from time import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from .program import (
    ProcessId,
    has_forked_children,
    is_alive,
    program_path,
    root_process,
    this_process,
)

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "HYPERTRACE_WORKERS"
"""The environment variable that wins over the argument `workers`."""

MOST_SWEPT = 64
"""How many run directories without a living root a newcomer looks into."""
YOUNG = 10.0
"""Seconds for which an unlocked file or directory may be one that is just being made."""
RESTART = 60.0
"""Seconds in which a program may be without any process, where its root is unknown."""

_ACCEPTED = 'accepted are "auto", True, False, and the absolute path of a directory'
_ACCEPTED_TEXT = (
    "accepted are auto, 1, true, yes, on, 0, false, no, off, and the absolute path of a directory"
)
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}

_AUTO_NAME = re.compile(r"a-([0-9a-f]{1,16})-([0-9a-f]{1,16})-([0-9a-f]{8})-[0-9a-f]{24}")
_PATH_NAME = re.compile(r"p-[0-9a-f]{24}")
_GONE_NAME = re.compile(r"gone-[0-9a-f]{16}")
_WORKER_FILES = ("w-", ".w-")
_SEEN_EMPTY = stat.S_ISVTX
"""The bit of the mode that marks a directory in which a sweep has found no process."""


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


_ordinals: dict[tuple[str, str], int] = {}
_root: ProcessId | None = None
"""The root of the last directory; forked children keep it after their parent has ended."""
_lock = threading.Lock()


def checked_workers(value: object) -> bool | Literal["auto"] | str:  # noqa: PYI051 -- it says more
    """Return what `workers` is set to, by the environment or by the argument.

    Args:
        value: the argument `workers`. It is checked also where the variable wins.

    Returns:
        "auto", True, False, or an absolute path.

    Raises:
        TypeError: the argument is neither a bool nor a path.
        ValueError: the argument or `HYPERTRACE_WORKERS` is not among what is accepted.
    """
    checked = _checked_argument(value)
    text = os.environ.get(VARIABLE)
    if text is None:
        return checked
    word = text.strip().lower()
    if word == "auto":
        return "auto"
    if word in _TRUE | _FALSE:
        return word in _TRUE
    return _checked_path(text, f"{VARIABLE}={text!r}", _ACCEPTED_TEXT)


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
    with _lock:
        counter = (kind, "" if is_path else name)
        ordinal = _ordinals.get(counter, 0)
        _ordinals[counter] = ordinal + 1
    if fcntl is None:
        raise NotShared("processes do not share counts on Windows")
    if is_path:
        return _kept(kind, name, ordinal)
    key = _auto_key(name, ordinal) if kind == "auto" else _path_key(name, ordinal)
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
    now on finds the directory by the alias. Never raises; costs about 20 µs.
    """
    if directory.is_kept or not _AUTO_NAME.fullmatch(os.path.basename(directory.path)):
        return
    if directory.root is not None and not is_alive(directory.root):
        root = root_process()
        if root is not None:
            _leave_aliases(directory.path, (_auto_name(root, directory.name, directory.ordinal),))


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
    if any(root != own and is_alive(root) for root in _alias_roots(parent, name)):
        return False
    if has_forked_children():  # they are about to lock their files
        return False
    return _remove(parent, name, ignored=own_file)


# --- what the user sets -------------------------------------------------------------------


def _checked_argument(value: object) -> bool | str:
    if isinstance(value, bool) or value == "auto":
        return value  # type: ignore[return-value]
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"workers={value!r}: {_ACCEPTED}, not {type(value).__name__}")
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"workers={value!r}: {_ACCEPTED}, as str and not as bytes")
    return _checked_path(path, f"workers={value!r}", _ACCEPTED)


def _checked_path(text: str, where: str, accepted: str) -> str:
    path = os.path.expanduser(text)
    if not text.strip():
        raise ValueError(f"{where} is empty; {accepted}")
    if "\0" in path:
        raise ValueError(f"{where} has a null character; {accepted}")
    if not os.path.isabs(path):
        raise ValueError(f"{where} is no absolute path; {accepted}")
    return os.path.normpath(path)


# --- keys ---------------------------------------------------------------------------------


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
    key = _auto_name(root, name, ordinal)
    aliases = {_auto_name(own, name, ordinal)} - {key} if own is not None else ()
    return _Key(key, root, tuple(aliases))


def _auto_name(root: ProcessId, name: str, ordinal: int) -> str:
    digest = _digest(_namespace(), os.geteuid(), *root, name, ordinal)
    return f"a-{root.pid:x}-{root.started:x}-{_namespace()}-{digest}"


def _path_key(name: str, ordinal: int) -> _Key:
    return _Key(f"p-{_digest(os.geteuid(), program_path(), name, ordinal)}", root_process())


def _digest(*parts: object, size: int = 12) -> str:
    return blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


def _namespace() -> str:
    """Return a digest that is the same where a pid means the same process."""
    return _namespace_of(os.getpid())


@cache
def _namespace_of(pid: int) -> str:  # noqa: ARG001 -- a forked child may be in another one
    parts = ["", ""]
    with suppress(OSError):
        parts[0] = os.readlink("/proc/self/ns/pid")
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        parts[1] = file.read()
    return _digest(*parts, size=4)


# --- finding and making -------------------------------------------------------------------


def _kept(path: str, name: str, ordinal: int) -> RunDirectory:
    if ordinal:
        path = os.path.join(path, str(ordinal + 1))
    _make_kept(path)
    return RunDirectory(path, is_kept=True, root=None, name=name, ordinal=ordinal)


def _make_kept(path: str) -> None:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
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
            _make(user)
            made = _make(os.path.join(user, key.name))
        except OSError as error:
            reasons.append(_reason(error, user))
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                break
            continue
        path = _joined(user, key.name)
        if path is None:
            reasons.append(f"{user}: the directory was removed at once")
            continue
        _leave_aliases(path, key.aliases)
        if made:
            _sweep(user, key.name)
        return path
    raise NotShared("no directory for the files that processes share: " + "; ".join(reasons))


def _bases(reasons: list[str]) -> Iterator[str]:
    """Yield the places in which run directories can be, and add the reasons against others."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]  # noqa: S108 -- made with care
    with suppress(OSError):
        candidates.append(tempfile.gettempdir())
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


def _reason(error: OSError, path: str) -> str:
    return str(error) if isinstance(error, NotShared) else f"{path}: {error.strerror}"


def _make(path: str) -> bool:
    """Make a directory if it is not there, and return whether it was not."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        _check(path)
        return False
    except OSError as error:
        # A read-only file system says so, even if the directory is there.
        if error.errno not in {errno.EROFS, errno.EACCES} or not os.path.lexists(path):
            raise
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
    if stat.S_IMODE(found.st_mode) & 0o777 != 0o700:
        raise NotShared(f"{path}: has mode {stat.S_IMODE(found.st_mode):o}, not 700")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise NotShared(f"{path}: not writable")


def _joined(user: str, name: str) -> str | None:
    """Return the path of a directory that can be used, directly or by an alias."""
    path = os.path.join(user, name)
    try:
        _check(user)
        if stat.S_ISLNK(os.lstat(path).st_mode):
            target = os.readlink(path)
            if not _AUTO_NAME.fullmatch(target):
                return None
            path = os.path.join(user, target)
        _check(path)
        # A sweep that has looked into it before does not remove it now.
        os.utime(path, follow_symlinks=False)
        if os.lstat(path).st_mode & _SEEN_EMPTY:
            os.chmod(path, 0o700)  # this user's directory, in one that no other user can enter
    except OSError:
        return None
    return path


def _leave_aliases(path: str, aliases: tuple[str, ...]) -> None:
    user, name = os.path.split(path)
    for alias in aliases:
        if alias != name:
            with suppress(OSError):  # it is there already
                os.symlink(name, os.path.join(user, alias))


# --- removing -----------------------------------------------------------------------------


def _sweep(user: str, own_name: str) -> None:
    """Remove run directories in which no process is left, and aliases that lead nowhere."""
    with suppress(OSError):
        with os.scandir(user) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        aliases = [name for name, status in found if stat.S_ISLNK(status.st_mode)]
        targets = {alias: _target(os.path.join(user, alias)) for alias in aliases}
        living = {
            targets[alias]
            for alias in aliases
            if (root := _root_in_name(alias)) is not None and is_alive(root)
        }
        now = time()
        candidates = sorted(
            (status.st_mtime, name, status)
            for name, status in found
            if stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and status.st_mtime < now - YOUNG
            and name != own_name
            and name not in living
            and _may_be_dead(name)
        )
        for _, name, status in candidates[:MOST_SWEPT]:
            _sweep_one(user, name, status, now)
        for alias in aliases:
            _remove_alias(user, alias, targets[alias])


def _sweep_one(user: str, name: str, status: os.stat_result, now: float) -> None:
    """Remove a directory, at the second look if the root of its program is unknown."""
    if _root_in_name(name) is not None or _GONE_NAME.fullmatch(name):
        _remove(user, name)
    elif not status.st_mode & _SEEN_EMPTY:
        if not _is_in_use(os.path.join(user, name)):
            with suppress(OSError):
                os.utime(os.path.join(user, name), follow_symlinks=False)
                os.chmod(os.path.join(user, name), 0o700 | _SEEN_EMPTY)
    elif status.st_mtime < now - RESTART:
        _remove(user, name)


def _may_be_dead(name: str) -> bool:
    root = _root_in_name(name)
    if root is not None:
        return not is_alive(root)
    return any(pattern.fullmatch(name) for pattern in (_AUTO_NAME, _PATH_NAME, _GONE_NAME))


def _root_in_name(name: str) -> ProcessId | None:
    """Return the root of the run, if its pid means something here."""
    match = _AUTO_NAME.fullmatch(name)
    if match is None or match[3] != _namespace():
        return None
    return ProcessId(int(match[1], 16), int(match[2], 16))


def _target(alias: str) -> str:
    try:
        return os.readlink(alias)
    except OSError:
        return ""


def _alias_roots(user: str, name: str) -> Iterator[ProcessId]:
    with suppress(OSError), os.scandir(user) as entries:
        for entry in entries:
            if entry.is_symlink() and _target(entry.path) == name:
                root = _root_in_name(entry.name)
                if root is not None:
                    yield root


def _remove_alias(user: str, alias: str, target: str) -> None:
    root = _root_in_name(alias)
    has_ended = root is None or not is_alive(root)
    if has_ended and not os.path.lexists(os.path.join(user, target)):
        with suppress(OSError):
            os.unlink(os.path.join(user, alias))


def _remove(user: str, name: str, *, ignored: str | None = None) -> bool:
    """Remove a directory in which no process is left, and return whether it is gone.

    It is renamed first, so that no process finds it any more, and then looked into once more.
    """
    path, gone = os.path.join(user, name), os.path.join(user, f"gone-{token_hex(8)}")
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
    with suppress(OSError), os.scandir(user) as entries:
        for entry in entries:
            if entry.is_symlink() and _target(entry.path) == name:
                _remove_alias(user, entry.name, name)
    return True


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
    assert fcntl is not None
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
