"""Guard of the functions in declarations: no events from inside, and no errors to the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypertrace import suppress_tracing
from hypertrace._failures import swallow

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace import TraceEvent

    from .kinds import DeclaredMetric

FAILED: Final = object()
"""What a function that raised returns."""


def guarded(function: Callable[..., object], argument: object, culprit: object = None) -> object:
    """Return what a function returns, or `FAILED` if it raises, which is counted and logged.

    Args:
        function: of the application, or one that runs its code.
        argument: the function is called with it, in `suppress_tracing`.
        culprit: is named in the log; the function itself by default.

    Raises:
        Exception: what the function raised, if the trace function was set as strict.
    """
    try:
        return suppress_tracing(function, argument)
    except Exception as error:  # noqa: BLE001 -- functions of an application may raise anything
        swallow(error, function if culprit is None else culprit)
        return FAILED


def is_kept(metric: DeclaredMetric, event: TraceEvent) -> bool:
    """Return whether `keep` and `drop` of a metric leave an event in. Never raises, as `guarded`.

    Functions whose results have no truth value count as functions that raise.
    """
    if metric.keep is not None and _truth(metric.keep, event) is not True:
        return False
    return metric.drop is None or _truth(metric.drop, event) is False


def _truth(function: Callable[[TraceEvent], object], event: TraceEvent) -> object:
    return guarded(lambda event: bool(function(event)), event, function)
