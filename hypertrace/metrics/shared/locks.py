"""Locks of a run directory: the process that leads, the one that folds, the leader's address.

They are POSIX locks of bytes of one file, which the kernel releases when a process ends, and which
a forked child does not inherit. Two properties of POSIX locks shape this module:

- A process loses its locks of a file when it closes any descriptor of it. So a process opens the
  file once, however many `Locks` it has.
- A process that sleeps for such a lock takes part in the kernel's search for deadlocks: another
  process, which sleeps for a lock of the application, could fail with EDEADLK. So no process ever
  sleeps for a lock here. It sleeps until the leader has ended, and tries.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from zlib import crc32

from hypertrace.forks import after_fork_in_child

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

FILE_NAME = "lock"

_LEADER, _FOLDER, _PROBE = range(3)
"""Bytes of the file. There is one for each other purpose behind `_FIRST`."""
_FIRST = 1_024

_FLAGS = os.O_RDWR | os.O_CREAT
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):  # Windows has none of them
    _FLAGS |= getattr(os, _name, 0)

_WIDTH = 320
"""Bytes of the address, with spaces behind it; a host name has at most 255."""

_HANDED_OVER = 0.5
"""Seconds after which a process that waits looks whether the leader stopped without ending."""
_UNSEEN = 0.25
"""The same where the end of the leader cannot be watched: on other systems, or in a container."""
_JUST_ENDED = 0.01

_FLOCK = struct.Struct("hhqqi4x")
"""Linux's `struct flock`: type, whence, start, length, pid."""


class Locks:
    """The locks of one user in this process: a metrics server, a push exporter, a storage.

    A process leads while at least one of its `Locks` does, so that one that stops does not take the
    lead from another. For each purpose there is a lead, as a process may export to one backend and
    not to another. Any thread and any signal handler may use them. In a forked child they are
    there, and none of them leads.

    Attributes:
        path: the lock file.
    """

    def __init__(self, directory: str) -> None:
        """Open the lock file of a run directory, and make it if it is missing.

        Args:
            directory: the run directory.

        Raises:
            OSError: the file cannot be opened, is no regular file, or its file system or this
                system has no such locks, or no room.
        """
        if sys.platform == "win32":
            raise OSError(errno.ENOTSUP, "this system has no locks of parts of files")
        self.path: str = os.path.join(directory, FILE_NAME)
        self._byte = _LEADER
        self._file: _LockFile | None = _opened(self.path)

    def another(self, purpose: str = "") -> Self:
        """Return locks of the same file for another user in this process.

        Args:
            purpose: what they lead in; empty for the same.
        """
        with _process().guard:
            other = type(self).__new__(type(self))
            other.path, other._file = self.path, self._opened
            other._byte = _FIRST + crc32(purpose.encode()) if purpose else self._byte
            other._opened.users += 1
        return other

    @property
    def is_leading(self) -> bool:
        """Whether these locks lead; another process then does not."""
        _process()
        return self._file is not None and self in self._file.leaders_of(self._byte)

    def try_lead(self) -> bool:
        """Lead unless another process does; return whether these locks lead now. Never waits."""
        with _process().guard:
            file, leaders = self._opened, self._opened.leaders_of(self._byte)
            if leaders or file.lock(self._byte):
                leaders.add(self)
            return bool(leaders)

    def wait_to_lead(self, interrupt: int | None = None) -> bool:
        """Wait until these locks lead; some milliseconds when the leader ends, even by SIGKILL.

        It takes half a second at most when the leader stops leading and lives on, and a quarter of
        a second where the end of the leader cannot be watched. The GIL is released meanwhile.

        Args:
            interrupt: a descriptor; once there is something to read from it, this returns.

        Returns:
            Whether they lead; False if it was interrupted.
        """
        while not self.try_lead():
            if _wait(self._leader(), interrupt):
                return False
        return True

    def stop_leading(self) -> None:
        """Let another process lead, unless other locks of this process do."""
        with _process().guard:
            file = self._file
            leaders = set() if file is None else file.leaders_of(self._byte)
            if file is not None and self in leaders:
                leaders.discard(self)
                if not leaders:
                    file.unlock(self._byte)

    @contextmanager
    def try_fold(self) -> Iterator[bool]:
        """Hold the lock of the process that folds in a block, unless it is held; never wait.

        Yields:
            Whether this thread holds it; then no other thread or process does.
        """
        _process()
        file = self._opened
        guard = file.fold_guard
        if not guard.acquire(blocking=False):
            yield False
            return
        held = False
        try:
            held = file.lock(_FOLDER)
        finally:
            if not held:
                guard.release()
        try:
            yield held
        finally:
            if held:
                file.unlock(_FOLDER)
                guard.release()

    @property
    def address(self) -> str:
        """Where the leader serves, as `host:port`; empty if it does not.

        It stays when the leader ends: the next leader serves at the same address.

        Raises:
            RuntimeError: it is set by locks that do not lead.
        """
        text = os.pread(self._opened.descriptor, _WIDTH, 0)
        return text.decode("utf-8", "replace").strip(" \n\0")

    @address.setter
    def address(self, address: str) -> None:
        if not self.is_leading:
            raise RuntimeError("only the process that leads publishes an address")
        line = f"{address:{_WIDTH - 1}}\n".encode("utf-8", "replace")
        os.pwrite(self._opened.descriptor, line[:_WIDTH], 0)

    def close(self) -> None:
        """Stop leading, and close the file if these are its last locks in this process."""
        self.stop_leading()
        with _process().guard:
            file, self._file = self._file, None
            if file is not None:
                _process().release(file)

    @property
    def _opened(self) -> _LockFile:
        if self._file is None:
            raise ValueError("these locks are closed")
        return self._file

    def _leader(self) -> int | None:
        """Return the pid of the process that leads, 0 if it cannot be known, None without one."""
        if not hasattr(os, "pidfd_open"):
            return 0
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(
            fcntl.fcntl(self._opened.descriptor, fcntl.F_GETLK, asked)
        )
        return None if kind == fcntl.F_UNLCK else max(0, pid)


class _LockFile:
    """An open lock file, in all processes that are forked from one."""

    def __init__(self, path: str, descriptor: int, key: tuple[int, int]) -> None:
        self.path = path
        self.descriptors = [descriptor]
        self.key = key
        self.users = 0
        self.renew()

    def renew(self) -> None:
        self.leaders: dict[int, set[Locks]] = {}
        self.fold_guard = threading.Lock()

    def leaders_of(self, byte: int) -> set[Locks]:
        """Return the locks of this process that lead by a byte."""
        return self.leaders.setdefault(byte, set())

    @property
    def descriptor(self) -> int:
        """The open file, opened again if the application closed it, as daemons do."""
        if not self.is_own(self.descriptors[0]):
            descriptor = os.open(self.path, _FLAGS & ~os.O_CREAT)
            if not self.is_own(descriptor):
                os.close(descriptor)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
            self.descriptors[0] = descriptor
            for byte, leaders in list(self.leaders.items()):
                if leaders and not self.lock(byte):  # another process leads meanwhile
                    leaders.clear()
        return self.descriptors[0]

    def is_own(self, descriptor: int) -> bool:
        """Whether a descriptor is of this file: the application may use its number."""
        try:
            found = os.fstat(descriptor)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.key

    def close(self) -> None:
        for descriptor in filter(self.is_own, self.descriptors):
            os.close(descriptor)

    def check(self) -> None:
        """Raise OSError if it is no regular file, or its file system has no locks or no room."""
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            raise OSError(errno.EINVAL, "the lock file is no regular file")
        if self.lock(_PROBE):
            self.unlock(_PROBE)
        if hasattr(os, "posix_fallocate"):  # the address has room on a disk that is full later
            os.posix_fallocate(self.descriptor, 0, _WIDTH)

    def lock(self, byte: int) -> bool:
        """Return whether this process has the lock now; threads of it do not exclude each other."""
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                return False
            raise
        return True

    def unlock(self, byte: int) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, byte)


class _Process:
    """The lock files that this process has open, and the lock of their lists."""

    def __init__(self, files: dict[tuple[int, int], _LockFile]) -> None:
        self.pid = os.getpid()
        # Held for moments, and by a signal handler while the thread that it interrupts holds it.
        self.guard = threading.RLock()
        self.files = files
        for file in files.values():
            file.renew()

    def opened(self, path: str) -> _LockFile:
        """Return a file, opened if it is not open yet; the guard is held."""
        with suppress(OSError):
            found = os.stat(path, follow_symlinks=False)
            if known := self.files.get((found.st_dev, found.st_ino)):
                return known
        descriptor = os.open(path, _FLAGS, 0o600)
        found = os.fstat(descriptor)
        key = found.st_dev, found.st_ino
        if known := self.files.get(key):  # it was renamed to this path a moment ago
            known.descriptors.append(descriptor)  # closing it would take the locks
            return known
        file = _LockFile(path, descriptor, key)
        try:
            file.check()
        except OSError:
            os.close(descriptor)
            raise
        self.files[key] = file
        return file

    def release(self, file: _LockFile) -> None:
        """Close a file if it has no user any more; the guard is held."""
        file.users -= 1
        if not file.users:
            del self.files[file.key]
            file.close()


_current = _Process({})


def _process() -> _Process:
    """Return what this process has open, also if it was forked without the hook (by uWSGI)."""
    if _current.pid != os.getpid():
        _renew()
    return _current


def _renew() -> None:
    """Forget what the parent leads, and locks that its other threads held at the fork."""
    global _current  # noqa: PLW0603 -- one for the process
    _current = _Process(_current.files)


def _opened(path: str) -> _LockFile:
    with _process().guard:
        file = _process().opened(path)
        file.users += 1
        return file


def _wait(leader: int | None, interrupt: int | None) -> bool:
    """Wait until a process has ended, or for a while; return whether there was an interrupt."""
    poll = select.poll()
    if interrupt is not None:
        poll.register(interrupt, select.POLLIN)
    seconds, watched = _UNSEEN, None
    if leader is None:
        seconds = 0.0
    elif leader:
        try:
            watched, seconds = os.pidfd_open(leader), _HANDED_OVER
            poll.register(watched, select.POLLIN)
        except ProcessLookupError:
            seconds = _JUST_ENDED
        except OSError:  # an old or a reduced kernel
            pass
    try:
        return any(descriptor == interrupt for descriptor, _ in poll.poll(seconds * 1000))
    finally:
        if watched is not None:
            os.close(watched)


after_fork_in_child(_renew)
