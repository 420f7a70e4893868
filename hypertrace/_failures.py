"""What happens to errors inside tracing: counted, logged, swallowed; or raised, if strict."""

from __future__ import annotations

from sys import is_finalizing

from ._guard import suppress_tracing
from .cells import Cell
from .rate_limit import RateLimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from logging import Logger

MAX_KINDS = 100
"""Kinds that are told apart; all others count as one."""

strict = False
"""Whether errors and misuse are raised instead; set with the trace function."""


def swallowed_errors() -> int:
    """Return how many errors tracing has swallowed in this process. Any thread may ask."""
    return _swallowed.value


def logger() -> Logger:
    """Return the logger of this package; `logging` is loaded here, not at import."""
    import logging

    return logging.getLogger("hypertrace")


def swallow(error: Exception, culprit: object) -> None:
    """Count an error that tracing raised, and log it with its traceback.

    The same kind of error (its type and what raised it) is logged once a minute at the most, with
    the number of those left out; nothing is logged while the interpreter goes down. What the log
    traces is dropped. Raises nothing; but where the trace function was set as strict, the error.

    Args:
        error: what was raised.
        culprit: the trace function, or what else failed; named in the log.
    """
    if strict:
        raise error
    try:
        _swallowed.increment()
        _report(error, culprit)
    except Exception:  # noqa: BLE001, S110 -- the interpreter goes down, and our globals are gone
        pass


def misuse(message: str) -> None:
    """Log a call that is wrong, each message once a minute at the most.

    Raises:
        TypeError: the trace function was set as strict.
    """
    if strict:
        raise TypeError(message)
    try:  # noqa: SIM105 -- that name could be gone, too
        _warn(message)
    except Exception:  # noqa: BLE001, S110 -- as above
        pass


def reset() -> None:
    """Forget what was logged and counted, and be strict no more."""
    global _others, _swallowed, strict  # noqa: PLW0603 -- the state of the process
    _swallowed = Cell()
    _others = RateLimit()
    _kinds.clear()
    strict = False


_swallowed = Cell()
_kinds: dict[Hashable, RateLimit] = {}
_others = RateLimit()


def _report(error: Exception, culprit: object) -> None:
    try:
        module, name = _names(culprit)
        key = type(error).__name__, module, name
        kind = _kinds.get(key) or _new_kind(key)
        if kind.allow() and not is_finalizing():
            suppress_tracing(_log_error, error, culprit, kind.take_suppressed())
    except Exception:  # noqa: BLE001 -- a broken log handler must not reach the application
        _swallowed.increment()


def _log_error(error: Exception, culprit: object, left_out: int) -> None:
    logger().error(
        "swallowed %s in %s; the application goes on (%d more of this kind not logged)",
        type(error).__name__,
        ".".join(_names(culprit)),
        left_out,
        exc_info=error,
    )


def _warn(message: str) -> None:
    try:
        kind = _kinds.get(message) or _new_kind(message)
        if kind.allow() and not is_finalizing():
            left_out = kind.take_suppressed()
            more = f" ({left_out} more of this kind not logged)" if left_out else ""
            suppress_tracing(logger().warning, "%s%s", message, more)
    except Exception:  # noqa: BLE001 -- as above
        _swallowed.increment()


def _new_kind(key: Hashable) -> RateLimit:
    return _others if len(_kinds) >= MAX_KINDS else _kinds.setdefault(key, RateLimit())


def _names(culprit: object) -> tuple[str, str]:
    module = getattr(culprit, "__module__", None) or type(culprit).__module__
    name = getattr(culprit, "__qualname__", None) or type(culprit).__qualname__
    return module, name
