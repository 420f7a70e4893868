"""Properties of trace functions: whether one can be set or bound, and which one receives events."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType

from ._naming import class_name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from .protocols import BindableTraceFunction, SpanBindableTraceFunction, TraceFunction

_MAX_FORWARDS = 10


def check_trace_function(function: TraceFunction, given_to: str = "set_trace_function") -> None:
    """Check that an object, and the one that it forwards to, can be called with an event.

    Args:
        function: the object.
        given_to: name of the function that was called with it.

    Raises:
        TypeError: one of them is not callable, a class, or a coroutine or generator function.
    """
    _check_callable(function, given_to)
    _check_callable(receiver_of(function), given_to)


def _check_callable(function: object, given_to: str) -> None:
    if not callable(function):
        raise TypeError(f"{given_to} takes a function of one event, not {function!r}")
    if issubclass(type(function), type):
        name = class_name_of(function)
        raise TypeError(
            f"a trace function is called with each event, and {name} is a class: make an instance "
            f"of it and pass that, as in {given_to}({name}(...))"
        )
    import inspect  # here, because it takes longer to load than the rest of this package

    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    is_function = issubclass(type(function), FunctionType | MethodType | partial)
    called = function if is_function else type(function).__call__
    if any(is_kind(called) for is_kind in kinds) or _is_marked_as_coroutine(function):
        raise TypeError(
            f"a trace function runs when it is called, and {function!r} has to be awaited or "
            "iterated; use a plain function, which may put the event into a queue"
        )


def _is_marked_as_coroutine(function: object) -> bool:
    """Whether an object is marked as a coroutine function, as an `AsyncMock` is."""
    import inspect  # as above

    with suppress(Exception):  # from the object's own `__getattr__`
        return inspect.iscoroutinefunction(function)
    return False


def receiver_of(function: TraceFunction) -> TraceFunction:
    """Return the trace function that receives the events; see `ForwardingTraceFunction`."""
    for _ in range(_MAX_FORWARDS):
        if not _has_attribute(function, "forwards_to"):
            break
        other = function.forwards_to  # type: ignore[attr-defined]  # as was just checked
        if not callable(other):  # an unrelated attribute of the same name
            break
        function = other
    return function


def _has_attribute(function: TraceFunction, name: str) -> bool:
    """Whether a trace function or its class has an attribute, other than one that a mock makes."""
    if hasattr(type(function), name):
        return True
    if issubclass(type(function), FunctionType):
        return False  # `functools.wraps` copies the attributes of what it wraps
    with suppress(Exception):  # from the object's own `__getattr__`
        return name in function.__dict__
    return False


def is_bindable(function: TraceFunction) -> TypeGuard[BindableTraceFunction]:
    """Whether a trace function offers all methods of `BindableTraceFunction`."""
    return _offers(function, "share_key", "bind", "bind_props")


def is_span_bindable(function: TraceFunction) -> TypeGuard[SpanBindableTraceFunction]:
    """Whether a trace function offers all methods of `SpanBindableTraceFunction`."""
    return is_bindable(function) and _offers(function, "bind_span", "bind_span_props")


def _offers(function: TraceFunction, *methods: str) -> bool:
    # Looked up in the class, as Python does for special methods: a mock has any attribute.
    return all(callable(getattr(type(function), name, None)) for name in methods)
