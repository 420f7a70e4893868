"""What tracing itself traces: dropped, and counted."""

from __future__ import annotations

import sys
from _thread import get_ident
from contextvars import ContextVar, copy_context

from .cells import Cell
from .forks import after_fork_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _T = TypeVar("_T")

MAX_DEPTH = 8
"""Calls of `nested` inside each other; what they trace in a deeper one is dropped."""

marks: list[None] = []
"""One for each call of any thread in which things are dropped. Nearly always empty: who traces
looks here first, so that he need not ask where he is."""

_is_untraced: ContextVar[bool] = ContextVar("hypertrace_is_untraced", default=False)
"""Whether this thread, task or greenlet is inside `untraced`. Tasks inherit it: one that a trace
function starts, to ship what it got, is its own doing for as long as it lives."""

_dropped = Cell()


def dropped_events() -> int:
    """Return how many events were dropped because tracing itself traced them. Any thread may ask.

    A trace function that traces, or the text of a prop that does, would be counted for what the
    application did not do, or would never end.
    """
    return _dropped.value


def is_dropped() -> bool:
    """Whether what is traced here and now is to be dropped; if so, it is counted."""
    if not _is_untraced.get():
        nesting = _nestings.get(_runner()) if _nestings else None
        if nesting is None or not nesting.is_too_deep:
            return False
    _dropped.increment()
    return True


def untraced(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function; what it traces is dropped, and counted in `dropped_events()`.

    For trace functions that run code of the application, such as the `__str__` of a value. What
    else runs in this thread or task meanwhile, as a signal handler does, is dropped as well, so it
    is not for what takes long. What other threads and tasks trace is not. The function runs in a
    copy of the context: what it sets there does not stay.

    Args:
        function: what to call.
        args: its arguments.

    Returns:
        What the function returns; what it raises passes.
    """
    try:
        marks.append(None)
        # Nothing is set in the context itself, so nothing stays set. Nor may it be: on CPython
        # 3.11 a finalizer may run inside of another ContextVar.set(), which does not survive it.
        return copy_context().run(_untraced, function, args)
    finally:
        del marks[-1:]


def nested(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function of a trace function that creates what it counts in.

    A finalizer or a signal handler that comes in meanwhile is heard. Where the function traces
    itself, that ends: past a small depth all is dropped, up to the end of the outermost call, since
    it would not only go deep, but multiply.
    """
    runner = _runner()
    nesting = _nestings.get(runner)
    if nesting is not None:
        return nesting.call(function, args)
    nesting = _Nesting()
    try:
        _nestings[runner] = nesting
        return function(*args)
    finally:
        try:
            _nestings.pop(runner, None)
        finally:
            if nesting.is_too_deep:
                del marks[-1:]


def reset() -> None:
    """Count from 0 again."""
    global _dropped  # noqa: PLW0603 -- the one counter of the process
    _dropped = Cell()


class _Nesting:
    """Calls of `nested` inside each other, by one thread or greenlet."""

    __slots__ = ("depth", "is_too_deep")

    def __init__(self) -> None:
        self.depth = 1
        self.is_too_deep = False

    def call(self, function: Callable[..., _T], args: tuple[Any, ...]) -> _T:
        self.depth += 1
        try:
            if self.depth >= MAX_DEPTH and not self.is_too_deep:
                self.is_too_deep = True
                marks.append(None)
            return function(*args)
        finally:
            self.depth -= 1


_nestings: dict[int, _Nesting] = {}
"""By who runs them. Nothing is awaited inside of them, so that tasks need not be told apart."""


def _runner() -> int:
    greenlet = sys.modules.get("greenlet")
    return get_ident() if greenlet is None else id(greenlet.getcurrent())


def _untraced(function: Callable[..., _T], args: tuple[Any, ...]) -> _T:
    _is_untraced.set(True)
    return function(*args)


def _forget_other_threads() -> None:
    marks.clear()
    _nestings.clear()


after_fork_in_child(_forget_other_threads)
