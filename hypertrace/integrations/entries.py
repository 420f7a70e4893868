"""Entries: spans in which work begins, as requests, jobs, messages and commands, and their metric.

`entry_duration_seconds` by kind, name and result, from the start of an entry to its end: of all
that people or other systems wait for, and of no span inside it. Integrations make the entries of
their libraries; `entry("command", "import")` makes those of an application itself, and these are
in `entries_in_progress` meanwhile.

Each operation that is an entry has the id `entry.KIND` and a prop `entry_name`. One that begins
inside another entry, as a job that a request runs at once, is a part of that one, and not counted
here: its time is in the other's. Work that goes on when the entry has ended is an entry again.
"""

from __future__ import annotations

import inspect
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from hypertrace._endings import ErrorRules
from hypertrace._operations import Operations
from hypertrace.metrics import Distribution, declare

from .gauges import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from hypertrace._endings import Expected
    from hypertrace._operations import Operation
    from hypertrace.events import Result

    _Function = TypeVar("_Function", bound=Callable[..., Any])

Kind = Literal["http", "job", "websocket", "command", "other"]

NAME = "entry_name"
"""The prop of an event that names the entry."""

LONG = (30, 60, 300, 900, 3600)
"""Bounds of buckets beyond the usual ones: jobs and commands take up to hours."""

DURATIONS = Distribution(
    "entry_duration_seconds",
    id="entry.*",
    tags={"kind": "id", "name": f"call.{NAME}", "result": "result"},
    tag_values={"kind": lambda kind: kind.removeprefix("entry.")},
    buckets_above=LONG,
    description="Requests, jobs, messages and commands, from their start to their end.",
)

_ACTIVE = Gauge(
    "entries_in_progress", ("kind", "name"), "Entries of `entry()` that are under way now."
)
_KINDS: tuple[Kind, ...] = get_args(Kind)
_FUNCTIONS = inspect.isfunction, inspect.ismethod, inspect.isbuiltin
_OPERATIONS = {kind: Operations("Entry", kind, entry=kind) for kind in _KINDS}


def declare_entries() -> None:
    """Declare the metric of entries for every `Metrics`; again does nothing."""
    declare(DURATIONS)


def entry(
    kind: Kind,
    name: str = "",
    *,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
) -> Entry:
    """Return an entry: a block, or a decorator, in which work begins.

    Use it where no integration does, as in a loop that takes messages from a socket::

        with entry("other", "reading"): ...

        @entry("command", "import")
        def main(): ...

    Nothing is raised into the block, and exceptions pass. While tracing is off it does nothing.

    Args:
        kind: what it is.
        name: one of few names, never a number or a path. Without one it is that of the function
            that is decorated, and of a command that of the program.
        expected: exceptions that are no errors, as in `hypertrace.traced`.
        error_if: of a decorated function: returns whether its result is an error.
        ok_if: returns whether an exception is no error.

    Raises:
        ValueError: there is no such kind.
        TypeError: the name is no text, or a rule of what is an error is wrong.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}, not {kind!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, as 'import', not {name!r}")
    declare_entries()
    if not name and kind == "command":
        name = _program()
    return Entry(kind, name, ErrorRules(expected, error_if, ok_if))


class Entry:
    """One entry, for one block; or a decorator, for each call of a function.

    Attributes:
        name: of the entry; it may be set in the block, when it is known.
    """

    def __init__(self, kind: Kind, name: str, rules: ErrorRules) -> None:
        """Make an entry that has not begun; `entry()` describes the arguments."""
        self._kind: Kind = kind
        self._name = name
        self._rules = rules
        self._operation: Operation | None = None
        self._result: Result = "ok"

    @property
    def name(self) -> str:
        """The name of the entry."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self._operation is not None and not self._operation.has_ended:
            self._operation.entry_name = name

    def fail(self) -> None:
        """Let the entry end as an error, although the block handles the exception."""
        self._result = "error"

    def __enter__(self) -> Self:
        self._result = "ok"
        active = _ACTIVE.adders(self._kind, self._name)
        self._operation = _OPERATIONS[self._kind].start(active)
        self._operation.entry_name = self._name
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        operation, self._operation = self._operation, None
        if operation is not None:
            if error is not None:
                operation.leave_context_if_collecting()
                error = None if self._rules.accept(error) else error
            operation.end({NAME: self._name}, self._result if error is None else "ok", error)

    def __call__(self, function: _Function) -> _Function:
        """Return a function each of whose calls is an entry.

        Args:
            function: a function or coroutine function.

        Raises:
            TypeError: it is none, as a class or a generator function, which returns at once: use
                `with entry(…):` in it.
        """
        is_function = any(is_kind(function) for is_kind in _FUNCTIONS)
        if not is_function or _is_generator(function):
            raise TypeError(
                f"entry() decorates functions and coroutine functions, not {function!r}; "
                "use `with entry(...):` inside"
            )
        name = self._name or function.__qualname__

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with Entry(self._kind, name, self._rules) as one:
                return one._checked(function(*args, **kwargs))

        @wraps(function)
        async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
            with Entry(self._kind, name, self._rules) as one:
                return one._checked(await function(*args, **kwargs))

        made: Any = run_coroutine if inspect.iscoroutinefunction(function) else run
        return made  # type: ignore[no-any-return]  # it has the signature of the function

    def _checked(self, result: Any) -> Any:
        if self._rules.refuse(result):
            self.fail()
        return result


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _program() -> str:
    path = Path(sys.argv[0] if sys.argv else "")
    return path.parent.name if path.name == "__main__.py" else path.stem
