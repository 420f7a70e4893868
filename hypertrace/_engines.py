"""Engine that traces Python functions where they are, without a change that code can see.

CPython 3.12 and later send events of the function's code object to the compiled core. CPython 3.11
runs other bytecode, with hooks in between. Elsewhere, and in what has no code object, closures
replace the function.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import TYPE_CHECKING

from . import _dispatch
from ._compiled import gil_enabled, speedups
from ._span import NO_SPAN, Span
from ._stepping import SteppedSpan
from .forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Literal

    from ._calls import Record, TracedCalls

    Name = Literal["monitoring", "bytecode", "closures"]


def _engine() -> Name:
    if speedups is None or not gil_enabled():
        return "closures"
    if hasattr(speedups, "rewrite"):
        return "bytecode"
    return "monitoring" if hasattr(speedups, "trace_function") else "closures"


name: Name = _engine()
"""The engine of this process."""

_core: Any = speedups


def is_possible(function: object) -> bool:
    """Return whether a callable can be traced where it is.

    A plain function that is marked as a coroutine function cannot: its result is awaited later.
    """
    if name == "closures" or type(function) is not FunctionType:
        return False
    is_marked = inspect.iscoroutinefunction(function)
    return not is_marked or bool(function.__code__.co_flags & inspect.CO_COROUTINE)


def trace_in_place(
    function: FunctionType, calls: TracedCalls, within: type | None = None
) -> Callable[[], None] | None:
    """Trace a function where it is.

    One that is traced already stays traced as it is, until each `undo` was called.

    Args:
        function: the function, for which `is_possible` returned True.
        calls: opens the spans of its calls.
        within: only calls whose first argument is an object of this class, or the class or one
            derived from it, are traced; None for all.

    Returns:
        `undo`, which ends the tracing; calls that are running then end their spans. None if the
        function cannot be traced: other tools use all that the interpreter has for it, or its
        bytecode is not what the compiler makes.
    """
    record = _core.record_of(function, within)
    if record is None:
        record = calls.record(function.__code__, within)
        if not _core.trace_function(function, record):
            return None
    record.holders += 1
    return _Undo(function, record)


class _Undo:
    """Ends the tracing of a function for one that wanted it; called again, does nothing."""

    __slots__ = ("_code", "_record")

    def __init__(self, function: FunctionType, record: Record) -> None:
        self._code = function.__code__
        self._record: Record = record

    def __call__(self) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        while record.moved_to is not None:
            record, self._code = record.moved_to
        record.holders -= 1
        if record.holders == 0:
            record.is_ending = True
            _core.tidy_code(self._code)


def _move(function: FunctionType, code: CodeType) -> None:
    """Trace a function in the code that it is about to get."""
    for record in _core.records_of(function):
        moved = record.calls.record(code, record.within)
        moved.holders = record.holders
        record.moved_to = moved, code
        record.is_ending = True
        _core.trace_function(function, moved, code)
    _core.tidy_code(function.__code__)


if name != "closures":
    _core.trace_calls(Span, SteppedSpan, NO_SPAN)
    if name == "monitoring":
        _core.watch_code(_move)
        _dispatch.after_update.append(_core.switch_events)
    after_fork_in_child(_core.forget_other_threads)
