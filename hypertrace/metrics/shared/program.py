"""Program: the processes that count together, known by their root process or by their path."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

MOST_STEPS = 64
"""How many processes a walk to the root passes at most."""

_FORKED_WITHOUT_EXEC = 0x40
"""`PF_FORKNOEXEC`: the kernel sets it in a forked child, and removes it when that executes."""
_RELOADING = (b"WERKZEUG_RUN_MAIN=true", b"RUN_MAIN=true")
"""What the reloaders of Werkzeug and Django put into the environment of the child they start."""
_MULTIPROCESSING = (
    b"--multiprocessing-fork",
    b"from multiprocessing.spawn import ",
    b"from multiprocessing.forkserver import ",
)
"""Parts of arguments by which `multiprocessing` starts an interpreter."""


class ProcessId(NamedTuple):
    """A process, also after its pid was given to another one.

    Attributes:
        pid: its number in the pid namespace of this process.
        started: when it started, in clock ticks since boot; 0 if unknown.
    """

    pid: int
    started: int


class _Stat(NamedTuple):
    """The fields of /proc/PID/stat that are of use here."""

    pid: int
    state: bytes
    parent: int
    group: int
    session: int
    flags: int
    started: int
    start_of_stack: int
    """Where its stack begins, which each exec chooses at random; 0: not permitted to read."""

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.started)

    @property
    def is_running(self) -> bool:
        """Whether it is no zombie."""
        return self.state not in b"ZX"


def this_process() -> ProcessId:
    """Return the process that calls."""
    stat = _stat("self")
    pid = os.getpid()
    return ProcessId(pid, stat.started if stat is not None and stat.pid == pid else 0)


def is_alive(process: ProcessId) -> bool:
    """Return whether a process still runs. A zombie does not.

    Where start times are unknown, any process with the same pid is taken for it, and on systems
    that are not POSIX only the process that calls is alive.
    """
    if process.pid == os.getpid():
        return process.started in {0, this_process().started}
    stat = _stat(process.pid)
    if stat is not None:
        return stat.is_running and process.started in {0, stat.started}
    return not _has_proc() and _takes_signals(process.pid)


def root_process(*, upgrades: bool = True) -> ProcessId | None:
    """Return the root of this program: the process that all its processes descend from.

    A process belongs to the program of its parent if

    - it was forked without executing a program since,
    - `multiprocessing` started it, by whichever method,
    - it is the child of the reloader of Werkzeug, Flask or Django,
    - it is a master of gunicorn that the parent started to take its place (`upgrades`).

    All others are roots, such as what a shell or `subprocess` starts. A process whose parent is
    hidden or has ended is a root, too. Costs about 20 µs a process on the way.

    Returns:
        The root, this process at the least; None where that cannot be known: without /proc, or
        with a /proc that says too little or belongs to another pid namespace.
    """
    own = _stat("self")
    if own is None or own.pid != os.getpid() or not own.start_of_stack:
        return None
    top = _top(own, upgrades=upgrades)
    parent = _stat_of_multiprocessing_parent()
    # One that is younger has got the pid of the parent, which has ended.
    if parent is not None and parent.is_running and parent.started <= top.started:
        top = _top(parent, upgrades=upgrades)
    return top.process


def program_path() -> str:
    """Return the absolute path of the main module, or what is known of it.

    That is the same in all processes of a program, however they were started. Without a file, as
    with `python -c`, it is the first argument in the working directory; a command that is no file
    there is returned as it is.
    """
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str):
        arguments = getattr(sys, "argv", None)
        path = str(arguments[0]) if arguments else ""
        if path not in {"", "-c"} and os.sep not in path and not os.path.exists(path):
            return path
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory was removed
        return path


def program_of(pid: int) -> str:
    """Return what a process runs, without its arguments, such as `gunicorn`; empty if unknown."""
    words = [os.fsdecode(word) for word in _read(pid, "cmdline").split(b"\0") if word]
    if words and os.path.basename(words[0]).startswith("python"):
        names = [word for word in words[1:] if not word.startswith("-")]
        if names and "-c" not in words:
            words = names
    return os.path.basename(words[0]) if words else ""


def has_forked_children() -> bool:
    """Return whether this process has a living child that was forked and has executed nothing."""
    with suppress(OSError, ValueError):
        for thread in os.listdir("/proc/self/task"):
            for pid in _read("self", f"task/{thread}/children").split():
                child = _stat(int(pid))
                if child and child.flags & _FORKED_WITHOUT_EXEC and child.is_running:
                    return True
    return False


def _top(stat: _Stat, *, upgrades: bool) -> _Stat:
    """Return the last process that is reached from parent to parent."""
    # Forks leave this process the environment of the one that executed the program last.
    environment = _own_environment() if stat.pid == os.getpid() else None
    for _ in range(MOST_STEPS):
        parent = _stat(stat.parent) if stat.parent > 0 else None
        if parent is None:
            break
        if stat.flags & _FORKED_WITHOUT_EXEC:
            if not _is_copy(stat, parent):
                break
        else:
            variables = environment or _environment(stat.pid)
            if not _is_of_one_program(stat, parent, variables, upgrades=upgrades):
                break
            environment = None
        stat = parent
    return stat


def _is_of_one_program(
    child: _Stat, parent: _Stat, variables: AbstractSet[bytes], *, upgrades: bool
) -> bool:
    """Return whether a process that has executed a program belongs to the program of its parent.

    The parent may be another one than the one that started it: an orphan is given to init.
    """
    if upgrades and b"GUNICORN_PID=%d" % parent.pid in variables:
        return True
    return (
        (_is_of_multiprocessing(child.pid) or _is_reloaded(variables, _environment(parent.pid)))
        and child.session == parent.session
        and _program_file(child.pid) == _program_file(parent.pid) != ""
    )


def _is_copy(child: _Stat, parent: _Stat) -> bool:
    """Return whether `child`, which has executed nothing since, was forked from `parent`.

    It may have another parent by now: an orphan is given to init.
    """
    if child.start_of_stack and parent.start_of_stack:
        return child.start_of_stack == parent.start_of_stack and (
            _program_file(child.pid) == _program_file(parent.pid)
        )
    # A master that runs as root is not readable for workers that gave up its rights.
    return (child.group, child.session) == (parent.group, parent.session) or (
        _read(child.pid, "cmdline") == _read(parent.pid, "cmdline") != b""
    )


def _program_file(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _is_of_multiprocessing(pid: int) -> bool:
    arguments = _read(pid, "cmdline").split(b"\0")
    return any(part in argument for argument in arguments for part in _MULTIPROCESSING)


def _is_reloaded(variables: AbstractSet[bytes], inherited: AbstractSet[bytes]) -> bool:
    """Return whether a reloader started a process, and not the child of a reloader.

    A parent that has written a title over its environment has no variable in common.
    """
    return any(variable in variables and variable not in inherited for variable in _RELOADING) and (
        any(b"=" in variable for variable in variables & inherited)
    )


def _environment(pid: int) -> AbstractSet[bytes]:
    """Return the variables that a process was started with, if they are readable."""
    return set(_read(pid, "environ").split(b"\0"))


def _own_environment() -> AbstractSet[bytes]:
    """Return the variables of this process, which may have written a title over its first ones."""
    return {b"%s=%s" % variable for variable in os.environb.items()}


def _stat_of_multiprocessing_parent() -> _Stat | None:
    """Return the process that started this one, or one it was forked from, by `multiprocessing`.

    The parent that the system knows is another one with the start method "forkserver".
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    with suppress(Exception):  # another thread is just importing it
        parent = multiprocessing.parent_process()  # type: ignore[union-attr]
        return _stat(parent.pid)
    return None


def _stat(pid: int | str) -> _Stat | None:
    """Read what /proc says of a process; None if there is none, or it is hidden."""
    # The name in parentheses may have spaces and parentheses.
    before, _, after = _read(pid, "stat").rpartition(b")")
    fields = after.split()
    try:
        return _Stat(
            pid=int(before.split(maxsplit=1)[0]),
            state=fields[0],
            parent=int(fields[1]),
            group=int(fields[2]),
            session=int(fields[3]),
            flags=int(fields[6]),
            started=int(fields[19]),
            start_of_stack=int(fields[25]),
        )
    except (IndexError, ValueError):
        return None


def _read(pid: int | str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def _has_proc() -> bool:
    return _stat("self") is not None


def _takes_signals(pid: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is a real one
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
