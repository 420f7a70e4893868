"""How an exception ends a span."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Result


def ending(error: BaseException | None) -> tuple[Result, type[BaseException] | None]:
    """Return the result that an exception, or none, stands for, and its class."""
    if error is None:
        return "ok", None
    return "cancelled" if isinstance(error, _cancellations()) else "error", type(error)


def _cancellations() -> tuple[type[BaseException], ...]:
    """Return what stands for a cancellation in the event loops that are loaded."""
    found: list[type[BaseException]] = [GeneratorExit]
    for module, name in (("asyncio", "CancelledError"), ("trio", "Cancelled")):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)
