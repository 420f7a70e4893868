"""Writers: functions that bring a line to a path, a file, a logger, or to another function."""

from __future__ import annotations

import inspect
import io
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Write: TypeAlias = Callable[[str], object]

_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
_AS_IT_IS = getattr(os, "O_BINARY", 0)
"""On Windows: else it changes line breaks."""


def writer_of(to: Any) -> Write:
    """Return a function that writes a line.

    Args:
        to: a path, a text file or anything else with `write(text)`, a logger, or a function of the
            line.

    Raises:
        OSError: the path cannot be opened.
        TypeError: it is none of these.
        ValueError: a file that is not open for writing.
    """
    if isinstance(to, str | os.PathLike):
        return _appender(to)
    if isinstance(to, type):
        raise TypeError(f"to must be an object, and {to.__name__} is a class: make one of it")
    if _can_be_called(getattr(to, "write", None)):
        return _file_writer(to)
    if _can_be_called(getattr(to, "info", None)):
        # Asked for each time: structlog makes the method as it is configured by then.
        return lambda line: to.info(line)  # noqa: PLW0108 -- as above
    if _can_be_called(to):
        return to  # type: ignore[no-any-return]  # what it returns is ignored
    raise TypeError(
        "to must be a path, a text file or anything else with write(), a logger, or a function of "
        f"the line that is no coroutine or generator function, not {to!r}"
    )


_NOT_RUN = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
"""Whether a function does nothing when it is called, and is to be awaited or iterated."""


def _can_be_called(function: Any) -> bool:
    """Whether a function does something when it is called."""
    called = getattr(function, "__call__", None)  # noqa: B004 -- the method itself is looked at
    return callable(function) and not any(
        is_kind(one) for is_kind in _NOT_RUN for one in (function, called)
    )


def _file_writer(file: Any) -> Write:
    if isinstance(file, io.RawIOBase | io.BufferedIOBase):
        raise TypeError(f"to must be a text file, and {file!r} takes bytes: open it as text")
    if isinstance(file, io.IOBase) and not file.writable():
        raise ValueError(f"to must be open for writing, which {file!r} is not")
    flush = getattr(file, "flush", None)

    def write(line: str) -> None:
        file.write(f"{line}\n")
        if callable(flush):
            flush()

    return write


def _appender(path: Any) -> Write:
    absolute = os.path.abspath(path)  # noqa: PTH100 -- the program may change its folder later
    os.close(_open(absolute))  # raises now what would fail later
    return lambda line: _append(absolute, f"{line}\n".encode())


def _open(path: str) -> int:
    # Without waiting for a reader, as a named pipe would.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_WAITING | _AS_IT_IS
    return os.open(path, flags, 0o666)


def _append(path: str, line: bytes) -> None:
    descriptor = _open(path)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            _append_to_file(descriptor, line if _ends_a_line(path) else b"\n" + line)
        else:
            _write_all(descriptor, line)
    finally:
        os.close(descriptor)


def _append_to_file(descriptor: int, line: bytes) -> None:
    # One system call for a whole line: those of several processes do not mix.
    written = os.write(descriptor, line)
    if written == len(line):
        return
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if end == os.fstat(descriptor).st_size:  # no other process has appended meanwhile
        os.ftruncate(descriptor, end - written)
    raise OSError(f"no room for a line of {len(line)} bytes")


def _ends_a_line(path: str) -> bool:
    """Whether a file is empty or ends in a line break, unlike after a process was killed.

    While another process writes, it may seem not to; then an empty line is written between the two.
    """
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 -- as fast as it gets
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    return True


def _write_all(descriptor: int, line: bytes) -> None:
    """Write to a pipe or a terminal, which may take a part at a time."""
    os.set_blocking(descriptor, True)
    while line:
        line = line[os.write(descriptor, line) :]
