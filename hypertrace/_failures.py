"""What happens to errors inside tracing: counted, logged, swallowed; or raised, if strict."""

from __future__ import annotations

from _thread import allocate_lock
from sys import is_finalizing
from time import monotonic

from ._guard import untraced
from .cells import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from logging import Logger

LOG_INTERVAL = 60.0
"""Seconds between two log lines about the same kind of error."""

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
    _others = _Kind()
    _kinds.clear()
    strict = False


class _Silence:
    """The time after a line; the first to take the `turn` when it is over logs the next one."""

    __slots__ = ("since", "turn")

    def __init__(self, since: float) -> None:
        self.since = since
        self.turn = allocate_lock()


class _Kind:
    """Lines of one kind, from any threads; nobody waits for another."""

    __slots__ = ("_left_out", "_silence", "_told")

    def __init__(self) -> None:
        self._left_out = Cell()
        self._told = 0
        self._silence = _Silence(float("-inf"))

    def may_log(self) -> bool:
        """Whether a line is due; if not, it is counted as left out."""
        now, silence = monotonic(), self._silence
        elapsed = now - silence.since
        # A clock that was set back ends the silence; one that gives no numbers keeps it.
        if elapsed >= LOG_INTERVAL or elapsed < 0:
            # In this order: who is interrupted in between loses one line, not all that follow.
            self._silence = _Silence(now)
            if silence.turn.acquire(blocking=False):
                return True
        self._left_out.increment()
        return False

    def take_left_out(self) -> int:
        """Return how many lines were left out since the last time."""
        before, self._told = self._told, self._left_out.value
        return self._told - before


_swallowed = Cell()
_kinds: dict[Hashable, _Kind] = {}
_others = _Kind()


def _report(error: Exception, culprit: object) -> None:
    try:
        module, name = _names(culprit)
        key = type(error).__name__, module, name
        kind = _kinds.get(key) or _new_kind(key)
        if kind.may_log() and not is_finalizing():
            untraced(_log_error, error, culprit, kind.take_left_out())
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
        if kind.may_log() and not is_finalizing():
            left_out = kind.take_left_out()
            more = f" ({left_out} more of this kind not logged)" if left_out else ""
            untraced(logger().warning, "%s%s", message, more)
    except Exception:  # noqa: BLE001 -- as above
        _swallowed.increment()


def _new_kind(key: Hashable) -> _Kind:
    return _others if len(_kinds) >= MAX_KINDS else _kinds.setdefault(key, _Kind())


def _names(culprit: object) -> tuple[str, str]:
    module = getattr(culprit, "__module__", None) or type(culprit).__module__
    name = getattr(culprit, "__qualname__", None) or type(culprit).__qualname__
    return module, name
