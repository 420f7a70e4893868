"""Files of segments as tests look at them, and programs that have a segment."""

from __future__ import annotations

import fcntl
import gc
import os
import struct
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypertrace.metrics.shared.segment import HEAD_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running(code: str, *arguments: object, before: Any = ()) -> Iterator[Any]:
    """Run a program in its own session with pipes to it, and end it.

    Args:
        code: of the program.
        arguments: of the program.
        before: words of a command that starts it.
    """
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        [*before, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def cells_in(path: Path) -> tuple[int, ...]:
    """Return the cells of a file as integers."""
    data = path.read_bytes()[HEAD_SIZE:]
    return struct.unpack(f"{len(data) // 8}Q", data)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def file_of(pid: object, folder: Path) -> Path:
    """Return the file of a process."""
    (found,) = folder.glob(f"w-{pid}-*")
    return found


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return [path.name for path in folder.iterdir()]


def open_files() -> int:
    """Return how many files this process has open, without those of objects that wait to go.

    Sockets, pipes and files of the system do not count: threads of earlier tests may close theirs.
    """
    gc.collect()
    paths = []
    for name in names_in(Path("/dev/fd")):
        with suppress(OSError):  # that of the listing itself
            paths.append(os.readlink(f"/dev/fd/{name}"))
    return sum(path.startswith("/") and not path.startswith(("/dev/", "/proc/")) for path in paths)
