"""See what an application does: hold a tracer in a class, count its calls by caller and props.

Importing this package loads nothing else; each public name is loaded when first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._dispatch import (
        clear_trace_function as clear_trace_function,
    )
    from ._dispatch import (
        fan_out as fan_out,
    )
    from ._dispatch import (
        get_trace_function as get_trace_function,
    )
    from ._dispatch import (
        set_trace_function as set_trace_function,
    )
    from ._failures import swallowed_errors as swallowed_errors
    from ._tracer import Tracer as Tracer
    from .cells import Cell as Cell
    from .events import Caller as Caller
    from .events import TracedObject as TracedObject
    from .events import TraceEvent as TraceEvent
    from .protocols import (
        BindableTraceFunction as BindableTraceFunction,
    )
    from .protocols import (
        TraceFunction as TraceFunction,
    )

__all__ = [
    "BindableTraceFunction",
    "Caller",
    "Cell",
    "TraceEvent",
    "TraceFunction",
    "TracedObject",
    "Tracer",
    "clear_trace_function",
    "fan_out",
    "get_trace_function",
    "set_trace_function",
    "swallowed_errors",
]

__version__ = "0.1.0"

_HOME = {
    "BindableTraceFunction": "protocols",
    "Caller": "events",
    "Cell": "cells",
    "TraceEvent": "events",
    "TraceFunction": "protocols",
    "TracedObject": "events",
    "Tracer": "_tracer",
    "clear_trace_function": "_dispatch",
    "fan_out": "_dispatch",
    "get_trace_function": "_dispatch",
    "set_trace_function": "_dispatch",
    "swallowed_errors": "_failures",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use and keep it (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
