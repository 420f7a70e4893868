"""Endings: how spans end, by the exceptions that end them, the results of calls, and rules."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ._failures import swallow
from ._guard import suppress_tracing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .events import Result

    Expected = type[BaseException] | Iterable[type[BaseException]]

_NO_ERRORS = (GeneratorExit, StopIteration, StopAsyncIteration)
"""Exceptions with which Python says that something is complete."""

_exit_code = vars(SystemExit)["code"].__get__
"""Reads the code of a `SystemExit`, whatever a subclass makes of the name."""


def class_of(exception: BaseException | type[BaseException]) -> type[BaseException]:
    """Return the class of an exception, or the class itself."""
    kind = type(exception)
    return exception if issubclass(kind, type) else kind  # type: ignore[return-value]


def result_of(exception: BaseException | type[BaseException]) -> Result:
    """Return the result of a span that an exception ended.

    Args:
        exception: the exception. Of a class alone it is not known with which code a program exits,
            so `SystemExit` is an error then.
    """
    kind = class_of(exception)
    if issubclass(kind, _cancellations()):
        return "cancelled"
    if issubclass(kind, _NO_ERRORS):
        return "ok"
    if issubclass(kind, SystemExit) and exception is not kind:
        code = _exit_code(exception)
        if code is None or (issubclass(type(code), int) and int.__eq__(code, 0)):
            return "ok"
    return "error"


class ErrorRules:
    """Rules of an application: which exceptions are no errors, and which results are some.

    Immutable; any thread may use it.
    """

    __slots__ = ("_error_if", "_expected", "_ok_if")

    def __init__(
        self,
        expected: Expected = (),
        error_if: Callable[[Any], object] | None = None,
        ok_if: Callable[[Any], object] | None = None,
    ) -> None:
        """Check the rules.

        Args:
            expected: exceptions that are no errors.
            error_if: returns whether a result is an error.
            ok_if: returns whether an exception is no error.

        Raises:
            TypeError: one is wrong; the message says what it must be.
        """
        self._expected = _checked_classes(expected)
        for name, function in (("error_if", error_if), ("ok_if", ok_if)):
            if function is not None and not callable(function):
                of = "result" if name == "error_if" else "error"
                raise TypeError(
                    f"{name} must be a function, as {name}=lambda {of}: ..., not {function!r}"
                )
        self._error_if = error_if
        self._ok_if = ok_if

    @property
    def needs_result(self) -> bool:
        """Whether results may be errors."""
        return self._error_if is not None

    def __bool__(self) -> bool:
        return bool(self._expected or self._error_if or self._ok_if)

    def accept(self, error: BaseException) -> bool:
        """Return whether an exception is no error. What the function raises is swallowed."""
        try:
            return suppress_tracing(self._accepts, error)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self._ok_if)
            return False

    def refuse(self, result: object) -> bool:
        """Return whether a result is an error. What the function raises is swallowed."""
        function = self._error_if
        if function is None:
            return False
        try:
            return suppress_tracing(lambda: bool(function(result)))
        except Exception as failure:  # noqa: BLE001 -- as above
            swallow(failure, function)
            return False

    def _accepts(self, error: BaseException) -> bool:
        if self._expected and issubclass(type(error), self._expected):
            return True
        return self._ok_if is not None and bool(self._ok_if(error))


def _checked_classes(expected: Any) -> tuple[type[BaseException], ...]:
    classes = (expected,) if isinstance(expected, type) else expected
    if isinstance(classes, Iterable) and not isinstance(classes, str):
        found = tuple(classes)
        if all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
            return found
    raise TypeError(
        f"expected must be classes of exceptions, as expected=(KeyError,), not {expected!r}"
    )


def _cancellations() -> tuple[type[BaseException], ...]:
    """Return the exceptions that cancel a task in the event loops that are loaded."""
    found: list[type[BaseException]] = []
    for module, name in (("asyncio", "CancelledError"), ("trio", "Cancelled")):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)
