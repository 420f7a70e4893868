"""Port holder: the program that listens on a port of this machine, as far as Linux shows it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 0.2
"""Time that a search may take, on a machine with very many processes."""

_PROC = Path("/proc")
_TABLES = "net/tcp", "net/tcp6"
_LISTENS = "0A"


def port_holder(port: int) -> str | None:
    """Return the program that listens on a port, as in `nginx (pid 42)`; None if it is not known.

    It is known on Linux, if this process may look at the other one: that is the same user's, or
    this process runs as root. It takes 0.2 seconds at the most.
    """
    deadline = monotonic() + _SECONDS
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    if not sockets:
        return None
    for pid in _pids():
        if monotonic() > deadline:
            return None
        if _has_one_open(pid, sockets):
            return _described(pid)
    return None


def _listeners(port: int) -> Iterator[str]:
    """Give the inodes of the sockets that listen on a port, at any address."""
    for table in _TABLES:
        lines: list[str] = []
        with suppress(OSError):
            lines = (_PROC / "self" / table).read_text().splitlines()[1:]
        for line in lines:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                yield inode


def _pids() -> list[int]:
    """Return the processes, this one first, and parents before those they forked as a rule."""
    with suppress(OSError):
        others = sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 -- names
        return [os.getpid(), *others]
    return []


def _has_one_open(pid: int, sockets: set[str]) -> bool:
    folder = f"{_PROC}/{pid}/fd"
    with suppress(OSError):  # it has ended, or is another user's
        for name in os.listdir(folder):  # noqa: PTH208 -- names
            with suppress(OSError):  # it was closed meanwhile
                if os.readlink(f"{folder}/{name}") in sockets:  # noqa: PTH115 -- takes 2 µs
                    return True
    return False


def _described(pid: int) -> str:
    if pid == os.getpid():
        return "this process itself"
    name = "a program"
    with suppress(OSError):
        name = (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    return f"{name} (pid {pid})"
