"""Open file: a descriptor that the application may close, and whose number it may use again.

A program that becomes a daemon closes all descriptors, also those that it did not open. What has
the number afterwards belongs to the application: it must be neither written nor closed.
"""

from __future__ import annotations

import errno
import fcntl
import os


class OpenFile:
    """A file that is opened again if its descriptor was closed.

    Attributes:
        path: where it is opened again.
    """

    def __init__(self, path: str, flags: int) -> None:
        """Open a file.

        Args:
            path: where it is.
            flags: as of `os.open`; a new file can be read and written by its owner.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = path
        self._flags = flags | getattr(os, "O_CLOEXEC", 0)
        self._number = os.open(path, self._flags, 0o600)
        self._identity: tuple[int, int, int] | None = _identity(self._number)

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still of this file."""
        try:
            return _identity(self._number) == self._identity
        except OSError:
            return False

    @property
    def number(self) -> int:
        """The descriptor.

        Raises:
            OSError: the application closed it, and the file is not at its path any more; or this
                was closed.
        """
        if not self.is_open:
            self._open_again()
        return self._number

    def close(self) -> None:
        """Close the file, unless the application did. May be called more than once."""
        if self._identity is not None and self.is_open:
            os.close(self._number)
        self._identity = None

    def _open_again(self) -> None:
        if self._identity is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        number = os.open(self.path, self._flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC))
        if _identity(number) != self._identity:
            os.close(number)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self._number = number


def _identity(number: int) -> tuple[int, int, int]:
    """Return which file a descriptor is of, and how it was opened: a process may have several."""
    status = os.fstat(number)
    mode = fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
    return status.st_dev, status.st_ino, mode
