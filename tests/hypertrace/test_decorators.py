"""Decorator `@traced`: it adds spans and changes nothing else."""

import abc
import asyncio
import copy
import dataclasses
import enum
import functools
import inspect
import math
import pickle
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType
from typing import Any, Protocol, runtime_checkable

import pytest

from hypertrace import (
    SpanEvent,
    Tracer,
    _engines,
    clear_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.testing import capture_events


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


def function(a: int, *rest: int, b: "str" = "b", **more: float) -> str:
    """Do something."""
    return f"{a}{b}"


async def coroutine(a: int, b: "str" = "b") -> str:
    """Do something later."""
    return f"{a}{b}"


def generator(a: int, b: "str" = "b") -> Iterator[str]:
    """Do something again and again."""
    yield f"{a}{b}"


async def async_generator(a: int, b: "str" = "b") -> AsyncIterator[str]:
    """Do something again and again, later."""
    yield f"{a}{b}"


FUNCTIONS: list[Any] = [function, coroutine, generator, async_generator]

traced_function = traced(lambda a: a)
traced_function.__qualname__ = traced_function.__name__ = "traced_function"


@traced
async def traced_coroutine(a: int) -> int:
    return a


@traced
def traced_generator(a: int) -> Iterator[int]:
    yield a


@traced
class Swarm:
    """A class with something of everything."""

    limit = 5

    def __init__(self, topic: str = "a") -> None:
        self.topic = topic

    def connect(self, peer: str = "b") -> str:
        """Connect."""
        return self.topic + peer

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    def static(a: int) -> int:
        return a

    @property
    def size(self) -> str:
        """Return the size."""
        return self.topic

    @size.setter
    def size(self, value: str) -> None:
        self.topic = value

    @size.deleter
    def size(self) -> None:
        self.topic = ""

    @functools.cached_property
    def cached(self) -> str:
        """Be computed once."""
        return self.topic + "!"

    async def wait(self) -> str:
        return self.topic

    @classmethod
    async def wait_of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    async def wait_static(a: int) -> int:
        return a

    def steps(self) -> Iterator[str]:
        yield self.topic

    async def async_steps(self) -> AsyncIterator[str]:
        yield self.topic

    def _private(self) -> str:
        return self.topic


class Child(Swarm):
    def connect(self, peer: str = "c") -> str:
        return "child " + super().connect(peer)


def _names(events: list[SpanEvent]) -> list[str]:
    return [event.caller.function_name for event in events]


# --- functions stay what they are -------------------------------------------------------------


@pytest.mark.parametrize("own", FUNCTIONS)
def test_what_a_function_says_of_itself_stays(own: Any) -> None:
    """Name, module, docstring, annotations, defaults and signature are those of the function."""
    it = traced(own)
    assert (it is own) is (_engines.name != "closures")
    names = (
        "__name__",
        "__qualname__",
        "__module__",
        "__doc__",
        "__annotations__",
    )
    assert [getattr(it, name) for name in names] == [getattr(own, name) for name in names]
    assert inspect.unwrap(it) is own
    assert inspect.signature(it) == inspect.signature(own)
    assert typing.get_type_hints(it) == typing.get_type_hints(own)
    assert inspect.getsource(it) == inspect.getsource(own)
    assert isinstance(it, FunctionType)
    assert inspect.isfunction(it)


KINDS: list[Callable[[Any], bool]] = [
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
]
if sys.version_info < (3, 14):  # deprecated since
    KINDS.append(asyncio.iscoroutinefunction)


@pytest.mark.parametrize("own", [*FUNCTIONS, functools.partial(coroutine)])
def test_the_kind_of_a_function_stays(own: Any) -> None:
    """Asked whether it is a coroutine or generator function, it gives the same answer."""
    it = traced(own)
    for is_kind in KINDS:
        assert is_kind(it) is is_kind(own)
        assert is_kind(functools.partial(it)) is is_kind(functools.partial(own))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="functions can be marked since 3.12")
@pytest.mark.parametrize("first", ["mark", "trace"])
def test_a_mark_of_a_coroutine_function_stays(first: str) -> None:
    """A function that is marked as a coroutine function is one, marked before or after."""

    def plain() -> Any:
        return asyncio.sleep(0, "value")

    mark: Any = vars(inspect)["markcoroutinefunction"]
    it = traced(mark(plain)) if first == "mark" else mark(traced(plain))
    assert inspect.iscoroutinefunction(it)
    assert inspect.iscoroutinefunction(functools.partial(it))
    assert asyncio.run(it()) == "value"


@pytest.mark.parametrize("name", ["wait", "wait_of_class", "wait_static", "steps", "async_steps"])
def test_the_kind_of_a_method_stays(name: str) -> None:
    """Methods are of their kind, asked of the class and of the object."""
    kinds = {
        "steps": inspect.isgeneratorfunction,
        "async_steps": inspect.isasyncgenfunction,
    }
    is_kind = kinds.get(name, inspect.iscoroutinefunction)
    for holder in (Swarm, Swarm()):
        assert is_kind(getattr(holder, name))
    assert inspect.ismethod(getattr(Swarm(), name)) is (name != "wait_static")


@pytest.mark.parametrize("own", FUNCTIONS)
@pytest.mark.parametrize("args", [(), (1, 2, 3, 4)], ids=["too few", "too many"])
def test_wrong_arguments_raise_as_without(
    own: Any, args: tuple[int, ...], events: list[Any]
) -> None:
    """The same TypeError comes from the call itself."""
    if own is function and args:
        pytest.skip("takes any number")
    with pytest.raises(TypeError) as expected:
        own(*args)
    with pytest.raises(TypeError) as raised:
        traced(own)(*args)
    assert str(raised.value) == str(expected.value)


def test_attributes_of_a_function_stay() -> None:
    """Attributes that other code sets on a function exist on the traced one."""

    def marked() -> None:
        pass

    marked.marker = 1  # type: ignore[attr-defined]
    assert traced(marked).marker == 1  # type: ignore[attr-defined]


def test_equal_methods_stay_equal() -> None:
    """Bound methods compare and hash as methods do."""
    one, other = Swarm(), Swarm()
    for name in ("connect", "wait", "steps", "of_class"):
        assert getattr(one, name) == getattr(one, name)
        assert hash(getattr(one, name)) == hash(getattr(one, name))
        if name != "of_class":
            assert getattr(one, name) != getattr(other, name)


# --- pickling and copying ---------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "it",
    [
        traced_function,
        traced_coroutine,
        traced_generator,
        Swarm,
        Swarm.static,
        Swarm.wait_static,
        Swarm.of_class,
        Swarm.wait_of_class,
        Swarm.connect,
    ],
    ids=lambda it: it.__qualname__,
)
def test_what_has_a_name_is_pickled_by_it(it: Any, protocol: int) -> None:
    """Functions, classes and methods of classes come out of a pickle as what they are."""
    assert pickle.loads(pickle.dumps(it, protocol)) == it


@pytest.mark.parametrize("name", ["connect", "wait", "steps", "async_steps"])
def test_methods_of_objects_are_pickled_with_them(name: str) -> None:
    """A bound method comes out of a pickle bound to a copy of its object."""
    for it in (getattr(Swarm("topic"), name), copy.deepcopy(getattr(Swarm("topic"), name))):
        loaded = pickle.loads(pickle.dumps(it))
        assert loaded.__self__.topic == "topic"
        assert loaded.__self__ is not it.__self__
        assert loaded.__name__ == name
    unbound = getattr(Swarm, name)
    if name != "connect":  # a plain function is copied as such
        assert pickle.loads(pickle.dumps(unbound)) == unbound


def test_functions_are_copied_as_themselves() -> None:
    """A copy of a function is the function, and of a method one that is equal."""
    for it in (traced_function, traced_coroutine, traced_generator, Swarm.wait, Swarm.connect):
        assert copy.copy(it) == it
        assert copy.deepcopy(it) == it
    assert copy.copy(traced_coroutine) is copy.deepcopy(traced_coroutine) is traced_coroutine
    method = Swarm("a").wait
    assert copy.copy(method) == method
    assert copy.deepcopy({"handler": traced_coroutine}) == {"handler": traced_coroutine}


class Adder:
    """A callable object with a state."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, other: int) -> int:
        return self.number + other


def test_other_callables_are_copied_with_their_state(events: list[Any]) -> None:
    """A copy of a traced object is a traced copy; a pickled one is what it was before."""
    adder = traced(Adder(1))
    assert isinstance(adder, Adder)
    for copied in (copy.copy(adder), copy.deepcopy(adder)):
        copied.number = 10
        assert (copied(1), adder(1)) == (11, 2)
    assert len(events) == 4
    assert pickle.loads(pickle.dumps(adder))(1) == 2
    partial = traced(functools.partial(function, 1))
    assert pickle.loads(pickle.dumps(partial))() == partial() == "1b"


def test_objects_of_a_traced_class_are_pickled_and_copied() -> None:
    """Objects come out with their state, and their methods are traced."""
    swarm = Swarm("topic")
    assert swarm.cached == "topic!"
    copies = (pickle.loads(pickle.dumps(swarm)), copy.copy(swarm), copy.deepcopy(swarm))
    with capture_events() as events:
        assert [(c.connect(), c.cached) for c in copies] == [("topicb", "topic!")] * 3
    assert _names(events) == ["connect"] * 3  # type: ignore[arg-type]


# --- descriptors ------------------------------------------------------------------------------


def test_each_part_of_a_class_is_one_span(events: list[Any]) -> None:
    """Public methods, class and static methods, and properties are traced, private ones are not."""
    swarm = Swarm()
    assert swarm.connect() == "ab"
    assert Swarm.connect(swarm, "c") == "ac"
    assert Swarm.of_class() == swarm.of_class() == "Swarm"
    assert Swarm.static(1) == swarm.static(1) == 1
    assert list(swarm.steps()) == ["a"]
    assert swarm._private() == "a"

    async def main() -> None:
        assert await swarm.wait() == "a"
        assert await Swarm.wait(swarm) == "a"
        assert await swarm.wait_of_class() == await Swarm.wait_of_class() == "Swarm"
        assert await swarm.wait_static(1) == await Swarm.wait_static(1) == 1
        assert [item async for item in swarm.async_steps()] == ["a"]

    asyncio.run(main())
    assert _names(events) == [
        *["connect"] * 2,
        *["of_class"] * 2,
        *["static"] * 2,
        "steps",
        *["wait"] * 2,
        *["wait_of_class"] * 2,
        *["wait_static"] * 2,
        "async_steps",
    ]
    assert {event.object.class_name for event in events} == {"Swarm"}
    assert swallowed_errors() == 0


def test_a_property_is_read_written_and_deleted(events: list[Any]) -> None:
    """All accessors of a property are traced, and its docstring stays."""
    swarm = Swarm()
    swarm.size = "big"
    assert swarm.size == "big"
    del swarm.size
    assert swarm.topic == ""
    assert _names(events) == ["size"] * 3
    assert Swarm.size.__doc__ == "Return the size."
    assert isinstance(vars(Swarm)["size"], property)


def test_a_property_of_one_s_own_docstring_keeps_it() -> None:
    """A docstring that is not the getter's is kept, and a property may lack accessors."""

    @traced
    class Odd:
        only_written = property(None, lambda self, value: None, doc="Cannot be read.")

    assert Odd.only_written.__doc__ == "Cannot be read."
    Odd().only_written = 1
    with pytest.raises(AttributeError):
        Odd().only_written  # noqa: B018


def test_a_cached_property_is_computed_once(events: list[Any]) -> None:
    """A cached property knows its name, also where it is replaced after its class was made."""

    class Own:
        @traced  # type: ignore[prop-decorator]
        @functools.cached_property
        def cached(self) -> object:
            return object()

    swarm, own = Swarm(), Own()
    assert swarm.cached is swarm.cached == "a!"
    assert own.cached is own.cached
    assert _names(events) == ["cached", "cached"]
    assert Swarm.cached.__doc__ == "Be computed once."


class Loud(property):
    """A property of one's own, as frameworks have."""


class Memo(functools.cached_property[Any]):
    """A cached property of one's own, with a state and another signature."""

    def __init__(self, func: Any, *, prefix: str) -> None:
        super().__init__(func)
        self.prefix = prefix


def test_descriptors_of_one_s_own_stay_so(
    events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Subclasses of properties are never made again: what cannot be traced is left out, or refused.

    How to make one is not known, nor what it got from its class.
    """
    loud, memo = Loud(lambda self: 1), Memo(lambda self: 2, prefix="x")

    @traced
    class Own:
        first = loud
        second = memo

        def third(self) -> int:
            return 3

    assert vars(Own)["first"] is loud
    assert vars(Own)["second"] is memo
    own = Own()
    assert (own.first, own.second, own.third()) == (1, 2, 3)
    assert "third" in [event.caller.function_name for event in events]
    if len(events) == 1:  # the functions were not traced where they are
        assert [message.split(":")[0] for message in caplog.messages] == [
            f"@traced leaves out {Own.__qualname__}.{name}" for name in ("first", "second")
        ]
        with pytest.raises(TypeError, match="'Loud', a subclass of property"):
            traced(loud)


def test_abstract_methods_stay_abstract(events: list[Any]) -> None:
    """`abstractmethod` above or below `@traced` does what it does alone."""

    class Base(abc.ABC):
        @traced
        @abc.abstractmethod
        def above(self) -> int:
            return 1

        @abc.abstractmethod
        @traced
        def below(self) -> int:
            return 2

        @abc.abstractmethod
        @traced
        async def waits(self) -> int:
            return 3

        @traced  # type: ignore[prop-decorator]
        @property
        @abc.abstractmethod
        def size(self) -> int:
            return 4

        @classmethod
        @abc.abstractmethod
        def of_class(cls) -> int:
            return 5

    whole = traced(Base)
    assert whole.__abstractmethods__ == {"above", "below", "waits", "size", "of_class"}
    with pytest.raises(TypeError, match="abstract"):
        whole()  # type: ignore[abstract]

    class Concrete(Base):
        size = 4

        def above(self) -> int:
            return super().above()

        def below(self) -> int:
            return super().below()

        async def waits(self) -> int:
            return await super().waits()

        @classmethod
        def of_class(cls) -> int:
            return super().of_class()

    one = Concrete()
    assert (one.above(), one.below(), one.of_class(), asyncio.run(one.waits())) == (1, 2, 5, 3)
    assert {event.object.class_name for event in events} == {"Concrete"}
    assert _names(events) == ["above", "below", "of_class", "waits"]


# --- classes ----------------------------------------------------------------------------------


def test_a_class_is_changed_in_place() -> None:
    """A class stays the class it is, with its name, docstring and other attributes."""

    class Own:
        """Have a docstring."""

        limit = 5

        def method(self) -> None:
            pass

    assert traced(Own) is Own
    assert isinstance(Own(), Own)
    assert (Own.__name__, Own.__doc__, Own.limit) == ("Own", "Have a docstring.", 5)
    assert type(vars(Own)["method"]) is FunctionType


def test_subclasses_inherit_override_and_call_super(events: list[Any]) -> None:
    """A subclass has the traced methods, and `super()` finds them."""
    child = Child()
    assert child.connect() == "child ac"
    assert child.size == "a"
    assert Child.of_class() == "Child"
    assert asyncio.run(child.wait()) == "a"
    assert _names(events) == ["connect", "size", "of_class", "wait"]
    assert {event.object.class_name for event in events} == {"Child"}


def test_what_is_included_and_excluded(events: list[Any]) -> None:
    """Patterns choose the methods, excluding wins, and a single pattern needs no list."""

    def make() -> Any:
        class Own:
            def get_a(self) -> None: ...
            def get_b(self) -> None: ...
            def put(self) -> None: ...
            def _hidden(self) -> None: ...

        return Own

    def called(cls: Any) -> list[str]:
        events.clear()
        own = cls()
        for name in ("get_a", "get_b", "put", "_hidden"):
            getattr(own, name)()
        return _names(events)

    assert called(traced(make())) == ["get_a", "get_b", "put"]
    assert called(traced(include=["get_*"])(make())) == ["get_a", "get_b"]
    assert called(traced(include="get_*")(make())) == ["get_a", "get_b"]
    assert called(traced(exclude=["get_b", "_*"])(make())) == ["get_a", "put"]
    assert called(traced(exclude="get_*")(make())) == ["put", "_hidden"]
    assert called(traced(exclude=())(make())) == ["get_a", "get_b", "put", "_hidden"]
    assert called(traced(include=iter(["put"]))(make())) == ["put"]


def test_a_class_without_a_method_to_trace_is_refused() -> None:
    """The message names the patterns and the methods there are."""

    class Own:
        def connect(self) -> None: ...

    with pytest.raises(ValueError, match=r"include=\('get_\*',\).*it has: connect"):
        traced(include=["get_*"])(Own)
    with pytest.raises(ValueError, match="it has: none"):
        traced(type("Empty", (), {}))


def test_a_class_is_traced_wholly_or_not_at_all() -> None:
    """If one method cannot be traced as requested, none is."""

    class Own:
        def has(self, peer: str) -> None: ...
        def lacks(self) -> None: ...

    before = dict(vars(Own))
    with pytest.raises(ValueError, match="lacks"):
        traced(prop_from={"peer": "args.peer"})(Own)
    assert dict(vars(Own)) == before


def test_what_is_traced_already_is_left_alone(events: list[Any]) -> None:
    """A method that is already traced keeps its span, and nothing is traced twice."""

    @traced
    class Own:
        @traced("own")
        def method(self) -> None: ...
        @traced("own")
        async def wait(self) -> None: ...
        @traced("own")  # type: ignore[prop-decorator]
        @property
        def size(self) -> int:
            return 1

        @functools.lru_cache  # noqa: B019
        @traced("own")
        def cached(self) -> int:
            return 2

    own = traced(Own)()
    own.method()
    asyncio.run(own.wait())
    assert (own.size, own.cached(), own.cached()) == (1, 2, 2)
    assert [event.id for event in events] == ["own"] * 4


def test_a_decorator_in_between_does_not_hide_a_span(events: list[Any]) -> None:
    """Spans inside and outside of another decorator are two, though it copies all attributes."""

    def twice(function: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(function)
        def wrapper() -> None:
            function()
            function()

        return wrapper

    @traced("outer")
    @twice
    @traced("inner")
    def call() -> None: ...

    call()
    assert [event.id for event in events] == ["inner", "inner", "outer"]


def test_classes_of_every_kind(events: list[Any]) -> None:
    """Slots, dataclasses, enums, named tuples and protocols work as without spans."""

    @traced
    class Slots:
        __slots__ = ("a",)

        def __init__(self) -> None:
            self.a = 1

        def method(self) -> int:
            return self.a

    @traced
    @dataclasses.dataclass(frozen=True, slots=True)
    class Data:
        a: int = 2

        def method(self) -> int:
            return self.a

    @dataclasses.dataclass(order=True)
    @traced
    class Ordered:
        a: int = 3

        def method(self) -> int:
            return self.a

    @traced
    class Color(enum.Enum):
        RED = 4

        def method(self) -> int:
            return self.value

    @traced
    class Pair(typing.NamedTuple):
        a: int = 5

        def method(self) -> int:
            return self.a

    @traced
    @runtime_checkable
    class Runs(Protocol):
        def method(self) -> int: ...

    made = [Slots(), Data(), Ordered(), Color.RED, Pair()]
    assert [one.method() for one in made] == [1, 2, 3, 4, 5]  # type: ignore[attr-defined]
    assert Data(1) == Data(1)
    assert Ordered(1) < Ordered(2)
    assert list(Color) == [Color.RED]
    assert all(isinstance(one, Runs) for one in made)
    assert not hasattr(made[0], "__dict__")
    assert [event.object.class_name for event in events] == [
        "Slots",
        "Data",
        "Ordered",
        "Color",
        "Pair",
    ]


# --- other decorators -------------------------------------------------------------------------


def test_a_cache_around_and_inside(events: list[Any]) -> None:
    """A cache above `@traced` hides hits from it, one below does not, and keeps its methods."""

    @functools.lru_cache
    @traced("below")
    def below(a: int) -> int:
        return a

    @traced("above")
    @functools.lru_cache
    def above(a: int) -> int:
        return a

    for call in (below, above):
        assert [call(1), call(1)] == [1, 1]
        assert call.cache_info().hits == 1
    assert [event.id for event in events] == ["below", "above", "above"]
    assert events[1].caller.function_name == above.__qualname__
    assert events[1].caller.filename == __file__


def test_single_dispatch_above_and_below(events: list[Any]) -> None:
    """Generic functions are traced as a whole or in their parts, and can be registered with."""

    @traced("whole")
    @functools.singledispatch
    def whole(a: object) -> str:
        return "object"

    @whole.register
    def _(a: int) -> str:
        return "int"

    @functools.singledispatch
    @traced("part")
    def part(a: object) -> str:
        return "object"

    @part.register
    @traced("int part")
    def _(a: int) -> str:
        return "int"

    assert [whole("a"), whole(1), part("a"), part(1)] == ["object", "int", "object", "int"]
    assert [event.id for event in events] == ["whole", "whole", "part", "int part"]


def test_callables_that_are_no_functions(events: list[Any]) -> None:
    """Functions in C, bound methods, partials and objects are traced with their arguments."""
    swarm = Adder(1)

    def bound(self: Adder, other: int) -> int:
        return self.number * other

    method: Callable[[int], int] = bound.__get__(swarm)
    assert traced(prop_from={"n": "args.x"})(math.sqrt)(4) == 2
    assert traced(prop_from={"n": "args.other"})(method)(3) == 3
    assert traced(prop_from={"n": "args.other"})(Adder(1))(2) == 3
    assert traced(prop_from={"n": "args.other"})(functools.partial(bound, swarm))(5) == 5
    assert traced(len)("abc") == 3
    assert traced("items".upper)() == "ITEMS"
    assert [event.caller.props for event in events] == [
        {"n": 4},
        {"n": 3},
        {"n": 2},
        {"n": 5},
        None,
        None,
    ]
    assert swallowed_errors() == 0


@pytest.mark.parametrize("it", [7, object(), functools.partialmethod(function), [function]])
def test_what_cannot_be_called_is_refused(it: Any) -> None:
    """The message names what was given."""
    with pytest.raises(TypeError, match=r"cannot trace .* it is not callable"):
        traced(it)
    with pytest.raises(TypeError, match="cannot trace"):
        traced("id")(it)


# --- arguments of the decorator ---------------------------------------------------------------


def test_bare_and_with_arguments(events: list[Any]) -> None:
    """All forms of the decorator trace."""
    for decorate in (
        traced,
        traced(),
        traced("id"),
        traced("id", props={"a": 1}),
        traced(prop_from={"a": "result"}),
    ):
        assert decorate(lambda: 1)() == 1
    assert [(e.id, e.caller.props) for e in events] == [
        (None, None),
        (None, None),
        ("id", None),
        ("id", {"a": 1}),
        (None, {"a": 1}),
    ]


def test_props_of_the_result_of_every_kind(events: list[Any]) -> None:
    """The result of a call is what it returns in the end: not a coroutine or generator."""
    from_result = traced(prop_from={"r": "result"})

    @from_result
    async def waits() -> int:
        return 1

    @from_result
    def steps() -> Any:
        yield 0
        return 2

    @from_result
    async def async_steps() -> AsyncIterator[int]:
        yield 0

    class Adds:
        def __call__(self) -> int:
            return 3

    async def main() -> None:
        await waits()
        async for _ in async_steps():
            pass

    asyncio.run(main())
    list(steps())
    from_result(Adds())()
    assert [event.caller.props for event in events] == [{"r": 1}, None, {"r": 2}, {"r": 3}]


def test_a_mistake_in_the_arguments_is_reported_at_once() -> None:
    """A wrong path raises where it is written."""
    with pytest.raises(ValueError, match="it has: a, b"):
        traced(prop_from={"x": "args.pear"})(coroutine)


def test_switched_off_a_call_is_the_function_s_own(events: list[Any]) -> None:
    """Without a trace function results and exceptions are the same, and there is no event."""
    clear_trace_function()
    swarm = Swarm()
    assert (swarm.connect(), swarm.size, Swarm.static(1)) == ("ab", "a", 1)
    assert traced(len)("abc") == 3
    with pytest.raises(LookupError):
        traced(_raise)()
    assert events == []


def _raise() -> None:
    raise LookupError


def test_the_tracer_of_the_object_is_used_by_a_traced_class(events: list[Any]) -> None:
    """A class decorator uses the tracers of objects, too, once they are there."""

    @traced(exclude=())
    class Own:
        def __init__(self) -> None:
            self.tracer = Tracer(self, {"topic": "a"})

        def method(self) -> None: ...

    Own().method()
    assert [(e.caller.function_name, e.object.props) for e in events] == [
        ("__init__", None),
        ("method", {"topic": "a"}),
    ]
