"""Suppression of events that tracing itself would cause: they are dropped and counted."""

from __future__ import annotations

import sys
from _thread import get_ident
from contextvars import ContextVar, copy_context

from .forks import after_fork_in_child
from .tallies import dropped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _T = TypeVar("_T")

MAX_DEPTH = 8
"""Depth of nested `limit_recursion` calls from which on events are dropped."""

active_suppressions: list[None] = []
"""One entry for each call, in any thread, that suppresses events now. It is almost always empty, so
the fast paths look here first and need not find out which thread or task they run in."""

_is_suppressed: ContextVar[bool] = ContextVar("hypertrace_is_suppressed", default=False)
"""Whether this thread, task or greenlet is inside `suppress_tracing`. Tasks inherit it: a task that
a trace function starts, for example to send events, stays suppressed until it ends."""


def dropped_events() -> int:
    """Return how many events were dropped because tracing itself caused them.

    Such events would count what the application did not do, or never end: for example a trace
    function that traces, or a prop whose `__str__` does. Any thread may call it.
    """
    return dropped.value


def drop_if_suppressed() -> bool:
    """Count an event as dropped if tracing is suppressed here; return whether it is."""
    if not _is_suppressed.get():
        recursion = _recursions.get(_runner()) if _recursions else None
        if recursion is None or not recursion.is_too_deep:
            return False
    dropped.increment()
    return True


def suppress_tracing(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function; events that it causes are dropped and counted in `dropped_events()`.

    For trace functions that run code of the application, such as the `__str__` of a value. Other
    code that runs in this thread or task during the call, such as a signal handler, is suppressed
    too, so do not use it for long calls. Other threads and tasks are not affected. The function
    runs in a copy of the context: context variables that it sets keep their old values outside.

    Args:
        function: the function to call.
        args: its arguments.

    Returns:
        The function's result. Its exceptions propagate.
    """
    try:
        active_suppressions.append(None)
        # The context itself is not changed, so nothing has to be changed back. Nor may it be: on
        # CPython 3.11 a finalizer may run inside another ContextVar.set(), which would crash.
        return copy_context().run(_run_suppressed, function, args)
    finally:
        del active_suppressions[-1:]


untraced = suppress_tracing
"""The former name of `suppress_tracing`."""


def limit_recursion(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function of a trace function, and suppress tracing if it recurses too deeply.

    Events of a finalizer or signal handler that runs during the call are still recorded. If the
    function traces itself, each event may cause several more: beyond a small depth all events are
    dropped, until the outermost call returns.
    """
    runner = _runner()
    recursion = _recursions.get(runner)
    if recursion is not None:
        return recursion.call(function, args)
    recursion = _Recursion()
    try:
        _recursions[runner] = recursion
        return function(*args)
    finally:
        try:
            _recursions.pop(runner, None)
        finally:
            if recursion.is_too_deep:
                del active_suppressions[-1:]


def reset() -> None:
    """Count from 0 again."""
    dropped.reset()


class _Recursion:
    """Calls of `limit_recursion` inside each other, in one thread or greenlet."""

    __slots__ = ("depth", "is_too_deep")

    def __init__(self) -> None:
        self.depth = 1
        self.is_too_deep = False

    def call(self, function: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        self.depth += 1
        try:
            if self.depth >= MAX_DEPTH and not self.is_too_deep:
                self.is_too_deep = True
                active_suppressions.append(None)
            return function(*args)
        finally:
            self.depth -= 1


_recursions: dict[int, _Recursion] = {}
"""By thread or greenlet. The calls contain no `await`, so tasks need not be distinguished."""


def _runner() -> int:
    greenlet = sys.modules.get("greenlet")
    return get_ident() if greenlet is None else id(greenlet.getcurrent())


def _run_suppressed(function: Callable[..., _T], args: tuple[Any, ...]) -> _T:
    _is_suppressed.set(True)
    return function(*args)


def _forget_other_threads() -> None:
    active_suppressions.clear()
    _recursions.clear()


after_fork_in_child(_forget_other_threads)
