"""Errors raised while tracing: counted, logged and swallowed, or raised if strict."""

from __future__ import annotations

from sys import is_finalizing

from ._guard import suppress_tracing
from .rate_limit import RateLimit
from .tallies import swallowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from logging import Logger

MAX_KINDS = 100
"""Kinds of errors that are distinguished; all others count as one."""

strict = False
"""Whether errors and wrong calls are raised instead; set with the trace function."""


def swallowed_errors() -> int:
    """Return how many errors tracing has swallowed in this process. Any thread may call it."""
    return swallowed.value


def logger() -> Logger:
    """Return the logger of this package; `logging` is loaded here, not at import."""
    import logging

    return logging.getLogger("hypertrace")


def swallow(error: Exception, culprit: object) -> None:
    """Count an error that was raised while tracing, and log it with its traceback.

    The same kind of error (its type and what raised it) is logged at most once a minute, with the
    number of errors not logged; nothing is logged while the interpreter shuts down. Events that
    logging causes are dropped.

    Args:
        error: the exception.
        culprit: the object that raised it, such as the trace function; named in the log.

    Raises:
        Exception: the error, if the trace function was set as strict; nothing otherwise.
    """
    if strict:
        raise error
    try:  # noqa: SIM105 -- `suppress` could be gone, too
        count_and_log(error, culprit)
    except Exception:  # noqa: BLE001, S110 -- the interpreter shuts down; our globals are gone
        pass


def count_and_log(error: BaseException, culprit: object) -> None:
    """Do as `swallow`, also if strict: for threads in which no caller would get the error."""
    swallowed.increment()
    _report(error, culprit)


def misuse(message: str) -> None:
    """Log a wrong call, each message at most once a minute.

    Raises:
        TypeError: the trace function was set as strict.
    """
    if strict:
        raise TypeError(message)
    try:  # noqa: SIM105 -- as above
        _warn(message)
    except Exception:  # noqa: BLE001, S110 -- as above
        pass


def reset() -> None:
    """Count from 0 again, forget the kinds of errors logged, and end strictness."""
    global _others, strict  # noqa: PLW0603 -- the state of the process
    swallowed.reset()
    _others = RateLimit()
    _kinds.clear()
    strict = False


_kinds: dict[Hashable, RateLimit] = {}
_others = RateLimit()


def _report(error: BaseException, culprit: object) -> None:
    try:
        module, name = _names(culprit)
        key = type(error).__name__, module, name
        kind = _kinds.get(key) or _new_kind(key)
        if kind.allow() and not is_finalizing():
            suppress_tracing(_log_error, error, culprit, kind.take_suppressed())
    except Exception:  # noqa: BLE001 -- a broken log handler must not reach the application
        swallowed.increment()


def _log_error(error: BaseException, culprit: object, not_logged: int) -> None:
    logger().error(
        "swallowed %s in %s; the application goes on (%d more of this kind not logged)",
        type(error).__name__,
        ".".join(_names(culprit)),
        not_logged,
        exc_info=error,
    )


def _warn(message: str) -> None:
    try:
        kind = _kinds.get(message) or _new_kind(message)
        if kind.allow() and not is_finalizing():
            not_logged = kind.take_suppressed()
            more = f" ({not_logged} more of this kind not logged)" if not_logged else ""
            suppress_tracing(logger().warning, "%s%s", message, more)
    except Exception:  # noqa: BLE001 -- as above
        swallowed.increment()


def _new_kind(key: Hashable) -> RateLimit:
    return _others if len(_kinds) >= MAX_KINDS else _kinds.setdefault(key, RateLimit())


def _names(culprit: object) -> tuple[str, str]:
    module = getattr(culprit, "__module__", None) or type(culprit).__module__
    name = getattr(culprit, "__qualname__", None) or type(culprit).__qualname__
    return module, name
