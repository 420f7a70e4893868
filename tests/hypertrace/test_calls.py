"""Objects and tracers for which the calls of a traced function are recorded."""

import functools
import gc
import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import (
    SpanEvent,
    Tracer,
    _calls,
    clear_trace_function,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.testing import capture_events
from hypertrace_prometheus import PrometheusExporter


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


class Plain:
    @traced
    def method(self) -> None:
        pass

    @traced
    @classmethod
    def of_class(cls) -> None:
        pass

    @traced
    @staticmethod
    def static(*args: object) -> None:
        pass


class Child(Plain):
    pass


class Holder(Plain):
    def __init__(self, name: str = "tracer", parent: Tracer | None = None) -> None:
        setattr(self, name, Tracer(self, {"topic": "a"}, parent=parent))


class Slotted(Plain):
    __slots__ = ("tracer",)

    def __init__(self) -> None:
        self.tracer = Tracer(self, {"topic": "slot"})


class SlottedPrivate:
    __slots__ = ("_tracer",)

    def __init__(self) -> None:
        self._tracer = Tracer(self, {"topic": "slot"})

    @traced
    def method(self) -> None:
        pass


class SlottedProxy(SlottedPrivate):
    """Has no `__dict__`, and a `__getattr__` for missing attributes."""

    __slots__ = ("tracer",)

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


@traced
def function() -> None:
    pass


def _about(event: SpanEvent) -> tuple[object, ...]:
    return event.object.class_name, event.caller.function_name, event.object.props


def test_without_a_tracer_a_method_is_traced_for_its_class(events: list[Any]) -> None:
    """The class of the object counts, also for inherited methods; the function has no prefix."""
    Plain().method()
    Child().method()
    Child.of_class()
    Child().of_class()
    assert [_about(event) for event in events] == [
        ("Plain", "method", None),
        ("Child", "method", None),
        ("Child", "of_class", None),
        ("Child", "of_class", None),
    ]
    assert events[0].object.ctx is Plain
    assert events[0].parent_object is None


def test_a_static_method_is_traced_for_the_class_it_stands_in(events: list[Any]) -> None:
    """A static method knows no subclass, whatever its arguments are."""
    Plain.static()
    Child.static()
    Child().static(Holder(), 1)
    assert [_about(event) for event in events] == [("Plain", "static", None)] * 3


def test_a_function_is_traced_for_its_module(events: list[Any]) -> None:
    """A function without a class is counted under the name of its module."""
    function()

    @traced
    def local() -> None:
        pass

    local()
    assert [_about(event)[0] for event in events] == [__name__, __name__]
    assert [event.caller.function_name for event in events] == ["function", local.__qualname__]
    code = inspect.unwrap(local).__code__
    assert (events[1].caller.filename, events[1].caller.line) == (__file__, code.co_firstlineno)


@pytest.mark.parametrize("name", ["tracer", "_tracer"])
def test_a_held_tracer_is_used(name: str, events: list[Any]) -> None:
    """An object's own tracer gives its number, props and parent."""
    holder = Holder(name, parent=Tracer("parent"))
    holder.method()
    (event,) = events
    assert _about(event) == ("Holder", "method", {"topic": "a"})
    assert event.object.ctx is holder
    assert event.object.id == getattr(holder, name).object_id
    assert event.parent_object.class_name == "parent"


@pytest.mark.parametrize("make", [Slotted, SlottedPrivate, SlottedProxy])
def test_a_tracer_in_a_slot_is_used(make: Callable[[], Any], events: list[Any]) -> None:
    """A tracer is found in a slot as well, and a slot that is not set is no error."""
    make().method()
    empty: Any = object.__new__(type(make()))
    empty.method()
    assert [event.object.props for event in events] == [{"topic": "slot"}, None]
    assert swallowed_errors() == 0


def test_a_tracer_of_the_class_is_used(events: list[Any]) -> None:
    """A tracer that the class holds serves all its objects, and the class itself."""

    class Swarm:
        tracer = Tracer("the class", {"topic": "shared"})

        @traced
        def method(self) -> None:
            pass

        @traced
        @classmethod
        def of_class(cls) -> None:
            pass

    Swarm().method()
    Swarm.of_class()
    assert [_about(event)[0] for event in events] == ["the class"] * 2


def test_a_tracer_that_is_another_library_s_is_left_alone(events: list[Any]) -> None:
    """An attribute `tracer` that is no tracer of hypertrace is ignored; `_tracer` is used next."""

    class Swarm(Plain):
        def __init__(self) -> None:
            self.tracer = "another library's"
            self._tracer = Tracer(self, {"topic": "ours"})

    Swarm().method()
    assert events[0].object.props == {"topic": "ours"}


def test_a_disabled_tracer_is_passed_over() -> None:
    """An object made before the trace function was set is traced by its class."""
    early = Holder()
    with capture_events() as events:
        early.method()
        Holder().method()
    assert [event.object.props for event in events] == [None, {"topic": "a"}]


def test_looking_for_a_tracer_runs_no_code_of_the_class(events: list[Any]) -> None:
    """Neither properties nor `__getattr__` of a traced class are called for it."""

    class Meta(type):
        def __getattr__(cls, name: str) -> object:
            raise AssertionError(name)

    class Curious(Plain, metaclass=Meta):
        __slots__ = ()

        @property
        def tracer(self) -> object:
            raise AssertionError("tracer")

        @property  # type: ignore[misc]  # of an object it can be set
        def __class__(self) -> type:
            raise AssertionError("__class__")

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    class Slots(metaclass=Meta):
        __slots__ = ()

        @traced
        def method(self) -> None:
            pass

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    Curious().method()
    Curious.of_class()
    Slots().method()
    assert len(events) == 3
    assert swallowed_errors() == 0


def test_a_method_used_by_another_class_is_a_function(events: list[Any]) -> None:
    """A method that is called on what is no object of its class counts for its own class."""
    Plain.method("no Plain")  # type: ignore[arg-type]
    assert _about(events[0]) == ("Plain", "method", None)


def test_functions_that_one_decorator_made_are_distinguished() -> None:
    """Functions that have their code in common are counted each under its own name."""

    def same(function: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(function)
        def wrapper() -> None:
            function()

        return wrapper

    class Swarm:
        pass

    def first() -> None:
        pass

    def second() -> None:
        pass

    exporter = PrometheusExporter(collect_defaults=False)
    set_trace_function(exporter)
    for call in (traced(same(first)), traced(same(second)), traced(same(second))):
        call()
    text = exporter.metrics()
    lines = [line for line in text.splitlines() if line.startswith("function_counter_total{")]
    assert ["first" in line and line.endswith(" 1") for line in lines] == [True, False]
    assert "second" in lines[1]
    assert lines[1].endswith(" 2")
    first_line = first.__code__.co_firstlineno
    with capture_events() as events:
        traced(same(first))()
    assert events[0].caller.line == first_line


def test_a_partial_is_named_by_what_it_calls(events: list[Any]) -> None:
    """The place of a partial is that of its function."""

    def connect(peer: str) -> None:
        pass

    traced(functools.partial(functools.partial(connect), "a"))()
    assert events[0].caller.function_name == connect.__qualname__
    assert events[0].caller.line == connect.__code__.co_firstlineno


def test_props_and_paths_make_the_props_of_each_span(events: list[Any]) -> None:
    """Props are those given, then from arguments, then from the result: the later ones win."""

    @traced(
        "id",
        props={"a": 1, "b": 1},
        prop_from={"b": "args.x", "c": "result.real", "none": "result.missing"},
    )
    def call(x: int) -> int:
        return x + 1

    assert call(2) == 3
    assert call(x=5) == 6
    assert [(e.id, e.caller.props) for e in events] == [
        ("id", {"a": 1, "b": 2, "c": 3}),
        ("id", {"a": 1, "b": 5, "c": 6}),
    ]


def test_nothing_is_asked_of_a_result_while_tracing_is_off() -> None:
    """Without a trace function neither arguments nor results are looked at."""

    class Touchy:
        @property
        def status(self) -> str:
            raise AssertionError("touched")

    @traced(prop_from={"a": "args.x.status", "b": "result.status"})
    def call(x: Touchy) -> Touchy:
        return x

    @traced(prop_from={"b": "result.status"})
    async def coroutine(x: Touchy) -> Touchy:
        return x

    call(Touchy())
    with pytest.raises(StopIteration):
        coroutine(Touchy()).send(None)
    assert swallowed_errors() == 0


def test_a_trace_function_that_fails_to_bind_costs_the_event_alone() -> None:
    """A call goes on without a span if none can be made."""

    class Failing:
        def __call__(self, event: object) -> None:
            raise LookupError

        def share_key(self, *_: object) -> None:
            raise LookupError

        bind = bind_props = bind_span = bind_span_props = share_key

    set_trace_function(Failing())

    @traced
    def generator() -> Iterator[int]:
        yield 1

    Plain().method()
    function()
    assert list(generator()) == [1]
    assert swallowed_errors() == 3


def test_switched_on_and_off_calls_follow(events: list[Any]) -> None:
    """Decorated code looks at the trace function at each call, also one made before it was set."""
    plain, holder = Plain(), Holder()
    plain.method()
    clear_trace_function()
    plain.method()
    holder.method()
    other: list[Any] = []
    set_trace_function(other.append)
    holder.method()
    plain.method()
    assert len(events) == 1
    assert [_about(event)[0] for event in other] == ["Holder", "Plain"]


@pytest.mark.parametrize("kind", ["plain", "exporter", "object ids"])
def test_a_traced_class_is_freed_with_its_last_user(kind: str) -> None:
    """Cached facts about a class are released with the class."""
    set_trace_function(
        (lambda _: None)
        if kind == "plain"
        else PrometheusExporter(collect_defaults=False, object_ids=kind == "object ids")
    )

    def make() -> weakref.ref[type]:
        class Local(Plain):
            pass

        Local().method()
        assert id(Local) in _calls._classes
        return weakref.ref(Local)

    before = len(_calls._classes)
    gone = make()
    gc.collect()  # a class is part of a reference cycle
    assert gone() is None
    assert len(_calls._classes) <= before
