"""Protocols of trace functions, for type checkers and at run time."""

from collections.abc import Callable, Hashable
from typing import ClassVar
from unittest.mock import MagicMock, Mock

import pytest

from hypertrace import (
    BindableTraceFunction,
    TracedObject,
    TraceEvent,
    TraceFunction,
    Tracer,
    set_trace_function,
)
from hypertrace._trace_functions import is_bindable

METHODS = ("share_key", "bind", "bind_props")


class Bindable:
    """Has all methods, with other names for their arguments."""

    def __call__(self, happened: TraceEvent) -> int:
        return 0

    def share_key(self, which: TracedObject, parent: TracedObject | None) -> Hashable:
        return which.class_name

    def bind(self, happened: TraceEvent) -> Callable[[], object]:
        return int

    def bind_props(self, happened: TraceEvent) -> Callable[[dict[str, object]], object]:
        return len


def _function(event: TraceEvent) -> None: ...


def test_any_callable_with_one_event_is_a_trace_function() -> None:
    """Functions, methods and lambdas are trace functions that cannot be bound."""
    events: list[TraceEvent] = []
    functions: list[TraceFunction] = [_function, events.append, lambda event: event.id, print]
    assert [is_bindable(function) for function in functions] == [False] * 4


def test_what_has_all_methods_can_be_bound() -> None:
    """To a type checker and at run time it is the methods that count, not the class."""
    function: BindableTraceFunction = Bindable()
    also: TraceFunction = function
    assert is_bindable(also)


@pytest.mark.parametrize("missing", METHODS)
def test_what_lacks_a_method_cannot_be_bound(missing: str) -> None:
    """A trace function without one of the methods, or where it is no method, gets events."""
    function: TraceFunction = type("Lacking", (Bindable,), {missing: None})()
    assert not is_bindable(function)


@pytest.mark.parametrize("kind", [Mock, MagicMock])
def test_what_makes_up_attributes_gets_events(kind: type[Mock]) -> None:
    """A mock is called like any callable, though it has every method it is asked for."""
    function = kind()
    set_trace_function(function)
    tracer = Tracer("a")
    tracer.trace()
    tracer.trace("id", a=1)
    with tracer.span("span"):
        pass
    assert [call.args[0].id for call in function.call_args_list] == [None, "id", "span"]


def test_what_fails_to_make_up_attributes_gets_events() -> None:
    """A trace function whose `__getattr__` raises can be set, and is called."""

    class Curious:
        ids: ClassVar[list[str | None]] = []

        def __getattr__(self, name: str) -> object:
            raise ArithmeticError(name)

        def __call__(self, event: TraceEvent) -> None:
            self.ids.append(event.id)

    set_trace_function(Curious())
    Tracer("a").trace("id")
    assert Curious.ids == ["id"]


def test_the_protocol_asks_for_the_methods_that_are_looked_for() -> None:
    """Trace functions are bindable at run time if they have the methods of the protocol."""
    assert {name for name in vars(BindableTraceFunction) if name in METHODS} == {*METHODS}
    own = {n for n, v in vars(BindableTraceFunction).items() if callable(v) and n[0] != "_"}
    assert own == {*METHODS}
