"""What happens to errors inside tracing: counted, logged, swallowed."""

from __future__ import annotations

from time import monotonic

from .cells import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

LOG_INTERVAL = 60.0
"""Seconds between two log lines about the same kind of error."""

_MAX_KINDS = 100

_swallowed = Cell()
_silent_until: dict[str, float] = {}
_suppressed: dict[str, int] = {}


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
    the number of those left out. Never raises.

    Args:
        error: what was raised.
        culprit: the trace function, or what else failed; named in the log.
    """
    _swallowed.increment()
    try:
        kind = f"{type(error).__name__} in {_name(culprit)}"
        if _may_log(kind):
            suppressed = _suppressed.pop(kind, 0)
            logger().error(
                "swallowed %s; the application goes on (%d more of this kind not logged)",
                kind,
                suppressed,
                exc_info=error,
            )
    except Exception:  # noqa: BLE001 -- a broken log handler must not reach the application
        _swallowed.increment()


def misuse(message: str) -> None:
    """Log a `trace()` that was called in a wrong way, each message once a minute at the most."""
    try:
        if _may_log(message):
            _suppressed.pop(message, None)
            logger().warning("%s", message)
    except Exception:  # noqa: BLE001 -- as above
        _swallowed.increment()


def reset() -> None:
    """Forget what was logged and counted."""
    global _swallowed  # noqa: PLW0603 -- the one counter of the process
    _swallowed = Cell()
    _silent_until.clear()
    _suppressed.clear()


def _may_log(kind: str) -> bool:
    now = monotonic()
    if now < _silent_until.get(kind, 0.0):
        _suppressed[kind] = _suppressed.get(kind, 0) + 1
        return False
    if len(_silent_until) >= _MAX_KINDS:
        _silent_until.clear()
        _suppressed.clear()
    _silent_until[kind] = now + LOG_INTERVAL
    return True


def _name(culprit: object) -> str:
    module = getattr(culprit, "__module__", None) or type(culprit).__module__
    name = getattr(culprit, "__qualname__", None) or type(culprit).__qualname__
    return f"{module}.{name}"
