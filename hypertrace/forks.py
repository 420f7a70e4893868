"""Fork hooks: functions that run when the process forks, or when a forked child ends."""

from __future__ import annotations

import os
import sys
from _thread import get_native_id
from contextlib import suppress
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOMENT = 0.0001
_MOST_MOMENTS = 1_000

_BEFORE_QUEUES_CLOSE = 100
"""Priority among the finalizers of `multiprocessing`, whose queues close with 10."""


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Call a function in each child that is forked from now on, before `os.fork()` returns there.

    Other threads are gone in the child, and a lock that one of them held stays locked. What the
    function raises is printed and ignored, as `os.register_at_fork` does.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def around_fork(
    *,
    before: Callable[[], object],
    after_in_parent: Callable[[], object],
    after_in_child: Callable[[], object],
) -> None:
    """Call functions before each fork from now on, and after it in the parent and in the child."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
        )


def wait_for_system(thread_id: int | None) -> None:
    """Wait until the system counts a thread no more that has ended, which takes Linux a moment.

    A fork in that moment would make Python warn of a fork with threads.

    Args:
        thread_id: the native id of the thread; None if it never ran.
    """
    if thread_id in {None, get_native_id()}:  # the latter of a greenlet
        return
    task = f"/proc/self/task/{thread_id}"
    for _ in range(_MOST_MOMENTS):
        if not os.path.exists(task):  # noqa: PTH110 -- takes 2 µs
            return
        sleep(_MOMENT)


class ChildEnd:
    """A function that runs when a child of `multiprocessing` ends, if that is loaded.

    Forked by it, a process ends with `os._exit`: only its finalizers run, which the fork clears.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        """Prepare; `watch()` is to be called before each fork, and when there is what to do."""
        self._function = function
        self._finalizer: Any = None
        self._is_watching = False

    def watch(self) -> None:
        """Run the function at the end of children from now on, and of this process if it is one."""
        util, process = map(sys.modules.get, ("multiprocessing.util", "multiprocessing.process"))
        if util is None or process is None:
            return
        with suppress(AttributeError):  # another thread is just importing them
            self._watch(util, process)

    def _watch(self, util: Any, process: Any) -> None:
        if not self._is_watching:
            util.register_after_fork(self, lambda own: own._finalize(util))
            self._is_watching = True
        if process.parent_process() is not None:
            self._finalize(util)

    def _finalize(self, util: Any) -> None:
        if self._finalizer is None or not self._finalizer.still_active():
            self._finalizer = util.Finalize(None, self._function, exitpriority=_BEFORE_QUEUES_CLOSE)
