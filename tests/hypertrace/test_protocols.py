"""What a trace function is, to type checkers and at run time."""

from collections.abc import Callable, Hashable

import pytest

from hypertrace import BindableTraceFunction, TracedObject, TraceEvent, TraceFunction
from hypertrace._targets import is_bindable

METHODS = ("share_key", "bind", "bind_props")


class Bindable:
    """Has all methods, with names of its own for their arguments."""

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
    function = Bindable()
    setattr(function, missing, None)
    assert not is_bindable(function)


def test_the_protocol_asks_for_the_methods_that_are_looked_for() -> None:
    """What makes a trace function bindable at run time is what the protocol says."""
    assert {name for name in vars(BindableTraceFunction) if name in METHODS} == {*METHODS}
    own = {n for n, v in vars(BindableTraceFunction).items() if callable(v) and n[0] != "_"}
    assert own == {*METHODS}
