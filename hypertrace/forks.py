"""Fork hooks: functions that run when the process forks, on systems that can fork."""

from __future__ import annotations

import os
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_MOMENT = 0.0001
_MOST_MOMENTS = 1_000


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


def wait_for_system(thread: threading.Thread) -> None:
    """Wait until the system counts a thread no more that has ended, which takes Linux a moment.

    A fork in that moment would make Python warn of a fork with threads.
    """
    from threading import get_native_id

    if thread.native_id == get_native_id():  # a greenlet
        return
    task = f"/proc/self/task/{thread.native_id}"
    for _ in range(_MOST_MOMENTS):
        if not os.path.exists(task):  # noqa: PTH110 -- takes 2 µs
            return
        sleep(_MOMENT)
