"""Tracing of what an application does: classes hold tracers, calls are counted by caller and props.

Importing this package loads none of its modules; each public name is loaded on first use.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._compiled import COMPILED as COMPILED
    from ._dispatch import clear_trace_function as clear_trace_function
    from ._dispatch import get_trace_function as get_trace_function
    from ._dispatch import set_trace_function as set_trace_function
    from ._failures import swallowed_errors as swallowed_errors
    from ._fan_out import fan_out as fan_out
    from ._guard import dropped_events as dropped_events
    from ._guard import suppress_tracing as suppress_tracing
    from ._guard import untraced as untraced
    from ._handlers import Handler as Handler
    from ._handlers import attach as attach
    from ._handlers import handlers as handlers
    from ._instrument import InstrumentedFunction as InstrumentedFunction
    from ._instrument import instrument as instrument
    from ._instrument import instrumented as instrumented
    from ._instrumentation import Instrumentation as Instrumentation
    from ._operations import current_entry as current_entry
    from ._paths import TracedCall as TracedCall
    from ._recorders import PropsRecorder as PropsRecorder
    from ._silent import silent_tracers as silent_tracers
    from ._span import Span as Span
    from ._tracer import Tracer as Tracer
    from .cells import Cell as Cell
    from .decorators import traced as traced
    from .events import Caller as Caller
    from .events import SpanEvent as SpanEvent
    from .events import TracedObject as TracedObject
    from .events import TraceEvent as TraceEvent
    from .events import Upstream as Upstream
    from .protocols import BindableTraceFunction as BindableTraceFunction
    from .protocols import SpanBindableTraceFunction as SpanBindableTraceFunction
    from .protocols import SpanRecorder as SpanRecorder
    from .protocols import TraceFunction as TraceFunction

__all__ = [  # noqa: RUF022 -- as sorted() has it
    "BindableTraceFunction",
    "COMPILED",
    "Caller",
    "Cell",
    "Handler",
    "Instrumentation",
    "InstrumentedFunction",
    "PropsRecorder",
    "Span",
    "SpanBindableTraceFunction",
    "SpanEvent",
    "SpanRecorder",
    "TraceEvent",
    "TraceFunction",
    "TracedCall",
    "TracedObject",
    "Tracer",
    "Upstream",
    "attach",
    "clear_trace_function",
    "current_entry",
    "dropped_events",
    "fan_out",
    "get_trace_function",
    "handlers",
    "instrument",
    "instrumented",
    "set_trace_function",
    "silent_tracers",
    "suppress_tracing",
    "swallowed_errors",
    "traced",
    "untraced",
]

__version__ = "0.1.0"

_HOME = {
    "BindableTraceFunction": "protocols",
    "Caller": "events",
    "Cell": "cells",
    "COMPILED": "_compiled",
    "Handler": "_handlers",
    "Instrumentation": "_instrumentation",
    "InstrumentedFunction": "_instrument",
    "PropsRecorder": "_recorders",
    "Span": "_span",
    "SpanBindableTraceFunction": "protocols",
    "SpanEvent": "events",
    "SpanRecorder": "protocols",
    "TraceEvent": "events",
    "TraceFunction": "protocols",
    "TracedCall": "_paths",
    "TracedObject": "events",
    "Tracer": "_tracer",
    "Upstream": "events",
    "attach": "_handlers",
    "current_entry": "_operations",
    "clear_trace_function": "_dispatch",
    "dropped_events": "_guard",
    "fan_out": "_fan_out",
    "get_trace_function": "_dispatch",
    "handlers": "_handlers",
    "set_trace_function": "_dispatch",
    "silent_tracers": "_silent",
    "instrument": "_instrument",
    "instrumented": "_instrument",
    "swallowed_errors": "_failures",
    "traced": "decorators",
    "suppress_tracing": "_guard",
    "untraced": "_guard",
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
