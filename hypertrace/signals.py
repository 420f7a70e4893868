"""Signals: a function that is called before SIGTERM ends the process."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
from contextlib import suppress

from ._compiled import speedups
from .forks import around_fork, wait_for_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

THREAD_NAME = "hypertrace-signals"

_FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for the thread to end."""
_FIRST_PROCESS = 1
"""Pid of the first process of a container, which Linux ends by no signal without a handler."""

_IS_COMPILED = hasattr(speedups, "watch_sigterm")


def before_sigterm(function: Callable[[], object], seconds: float) -> bool:
    """Call a function when SIGTERM comes, and then let the signal end the process as it would.

    Python calls signal handlers between two steps of the main thread. With the compiled core a
    thread calls the function instead, whatever the main thread does; a second SIGTERM then ends the
    process if the function has not returned in time. Forked children do the same, other programs
    do not. A handler that the program sets later takes its place; one that calls or restores what
    was there before calls this.

    To be called in the main thread; a second call replaces the first one.

    Args:
        function: is called once, without arguments, and raises nothing.
        seconds: that it takes at the most.

    Returns:
        Whether it will be called; False if SIGTERM is handled or ignored already.

    Raises:
        RuntimeError: this is not the main thread, or the system has no thread left.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals are handled in the main thread: call this there")
    now = signal.getsignal(signal.SIGTERM)
    if now is not signal.SIG_DFL and not isinstance(now, _Handler):
        return False
    if _IS_COMPILED and now is signal.SIG_DFL and not speedups.is_sigterm_free():  # type: ignore[union-attr]
        return False  # C code handles it
    signal.signal(signal.SIGTERM, _Handler(function))
    if _IS_COMPILED:
        _watcher.watch(function, seconds)
    return True


class _Handler:
    """A signal handler of Python that calls a function, and lets the signal end the process."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._ending: int | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self._ending == os.getpid():
            return  # it came twice, as from `timeout`, which signals the process and its group
        self._ending = os.getpid()
        try:
            self._function()
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            if os.getpid() == _FIRST_PROCESS:
                self._ending = None
                signal.signal(number, self)


class _Watcher:
    """The thread that waits for the byte that the compiled handler sends."""

    def __init__(self) -> None:
        self._function: Callable[[], object] | None = None
        self._seconds = 0.0
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None

    def watch(self, function: Callable[[], object], seconds: float) -> None:
        """Call a function from now on."""
        self._end()
        self._function, self._seconds = function, seconds
        self._begin()

    def before_fork(self) -> None:
        """Let the thread end."""
        if self._function is not None:
            self._end()

    def after_fork_in_parent(self) -> None:
        """Start the thread again."""
        if self._function is not None and self._thread is None:
            with suppress(RuntimeError):  # the system has no thread left
                self._start()

    def after_fork_in_child(self) -> None:
        """Watch in the child."""
        if self._function is not None and speedups.is_sigterm_free():  # type: ignore[union-attr]
            with suppress(RuntimeError, OSError):  # no thread or descriptor is left
                self._begin()

    def _begin(self) -> None:
        # Sockets, since libraries that make greenlets of threads can wait for them.
        sockets = socket.socketpair()
        speedups.watch_sigterm(sockets[1].fileno(), self._seconds)  # type: ignore[union-attr]
        self._sockets = sockets  # those before are closed now
        self._start()

    def _start(self) -> None:
        if self._sockets is not None:
            arguments = self._sockets[0], self._function
            self._thread = threading.Thread(
                target=_wait, args=arguments, name=THREAD_NAME, daemon=True
            )
            self._thread.start()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None and self._sockets is not None:
            with suppress(OSError):
                self._sockets[1].send(b"e")
            thread.join(_FORK_TIMEOUT)
            if not thread.is_alive():
                wait_for_system(thread.native_id)


def _wait(reader: socket.socket, function: Callable[[], object]) -> None:
    with suppress(OSError):  # the program has closed all its descriptors, as daemons do
        while reader.recv(1) == b"s":
            try:
                function()
            finally:
                speedups.end_by_sigterm()  # type: ignore[union-attr]


_watcher = _Watcher()
if _IS_COMPILED:
    around_fork(
        before=_watcher.before_fork,
        after_in_parent=_watcher.after_fork_in_parent,
        after_in_child=_watcher.after_fork_in_child,
    )
    # The thread does not run while the interpreter ends.
    atexit.register(speedups.unwatch_sigterm)  # type: ignore[union-attr]
