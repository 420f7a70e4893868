"""Callers: function, file, line and column of each place that Python runs code from."""

import asyncio
import contextlib
import functools
import gc
import sys
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hypertrace import Tracer

Counts = Callable[..., Counter[Any]]

# From 3.12 on a comprehension is a part of the function that contains it.
COMPREHENSIONS_ARE_FUNCTIONS = sys.version_info < (3, 12)


def _decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Base(ABC):
    """Traces in methods that others inherit."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)
        self.trace: Callable[[], object] = self.tracer.trace

    def inherited(self) -> None:
        self.tracer.trace()

    def extended(self) -> None:
        self.tracer.trace()

    @abstractmethod
    def implemented(self) -> None:
        self.tracer.trace()


class Swarm(Base):
    """Traces in every kind of method."""

    def implemented(self) -> None:
        super().implemented()

    def method(self) -> None:
        self.tracer.trace()

    def with_lambda(self) -> None:
        function: Callable[[], None] = lambda: self.tracer.trace()  # noqa: E731, PLW0108 -- the kind that is tested
        function()

    def with_comprehensions(self) -> None:
        trace = self.trace
        [trace() for _ in range(1)]
        {trace() for _ in range(1)}
        {i: trace() for i in range(1)}

    def with_generator_expression(self) -> None:
        list(self.trace() for _ in range(1))  # noqa: C400 -- the kind that is tested

    def with_local_function(self) -> None:
        def inner() -> None:
            self.tracer.trace()

        inner()

    def with_callbacks(self) -> None:
        def key(number: int) -> int:
            self.tracer.trace()
            return number

        sorted([2, 1], key=key)
        list(map(key, [1]))
        functools.partial(key, 1)()
        functools.reduce(lambda _, number: key(number), [1, 2])

    def with_tracer_as_callback(self) -> None:
        sorted(["a"], key=self.tracer.trace)  # type: ignore[arg-type]
        deque(map(self.tracer.trace, ["a", "b"]))
        functools.partial(self.tracer.trace, "a")()

    def generator(self) -> Iterator[int]:
        self.tracer.trace()
        yield 1

    async def coroutine(self) -> None:
        await asyncio.sleep(0)
        self.tracer.trace()

    async def async_generator(self) -> AsyncIterator[int]:
        self.tracer.trace()
        yield 1

    @property
    def property(self) -> None:
        self.tracer.trace()

    @functools.cached_property
    def cached_property(self) -> None:
        self.tracer.trace()

    @staticmethod
    def static_method(swarm: "Swarm") -> None:
        swarm.tracer.trace()

    @classmethod
    def class_method(cls, swarm: "Swarm") -> None:
        swarm.tracer.trace()

    @_decorated
    def decorated(self) -> None:
        self.tracer.trace()

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        self.tracer.trace()
        yield

    def __len__(self) -> int:
        self.tracer.trace()
        return 1

    def __del__(self) -> None:
        self.tracer.trace()


class Derived(Swarm):
    """Inherits everything, and adds to one method."""

    def extended(self) -> None:
        super().extended()
        self.tracer.trace()


async def _consume(swarm: Swarm) -> None:
    async for _ in swarm.async_generator():
        pass


def _enter(swarm: Swarm) -> None:
    with swarm.context():
        pass


def _in(part: str) -> str:
    return f".<locals>.{part}" if COMPREHENSIONS_ARE_FUNCTIONS else ""


CALLS: dict[str, tuple[Callable[[Any], object], dict[str, int]]] = {
    "method": (lambda s: s.method(), {"method": 1}),
    "lambda": (lambda s: s.with_lambda(), {"with_lambda.<locals>.<lambda>": 1}),
    "comprehensions": (
        lambda s: s.with_comprehensions(),
        dict(
            Counter(
                f"with_comprehensions{_in(part)}"
                for part in ("<listcomp>", "<setcomp>", "<dictcomp>")
            )
        ),
    ),
    "generator expression": (
        lambda s: s.with_generator_expression(),
        {"with_generator_expression.<locals>.<genexpr>": 1},
    ),
    "local function": (
        lambda s: s.with_local_function(),
        {"with_local_function.<locals>.inner": 1},
    ),
    "callbacks": (lambda s: s.with_callbacks(), {"with_callbacks.<locals>.key": 5}),
    "tracer as callback": (lambda s: s.with_tracer_as_callback(), {"with_tracer_as_callback": 4}),
    "generator": (lambda s: list(s.generator()), {"generator": 1}),
    "coroutine": (lambda s: asyncio.run(s.coroutine()), {"coroutine": 1}),
    "async generator": (lambda s: asyncio.run(_consume(s)), {"async_generator": 1}),
    "property": (lambda s: s.property, {"property": 1}),
    "cached property": (lambda s: s.cached_property, {"cached_property": 1}),
    "static method": (lambda s: s.static_method(s), {"static_method": 1}),
    "class method": (lambda s: s.class_method(s), {"class_method": 1}),
    "decorated": (lambda s: s.decorated(), {"decorated": 1}),
    "context manager": (_enter, {"context": 1}),
    "inherited": (lambda s: s.inherited(), {"inherited": 1}),
    "super": (lambda s: s.implemented(), {"implemented": 1}),
    "special": (len, {"__len__": 1}),
}


@pytest.mark.parametrize("class_", [Swarm, Derived])
@pytest.mark.parametrize("kind", CALLS)
def test_every_kind_of_callable_is_named(kind: str, class_: type[Swarm], counts: Counts) -> None:
    """A function is named by its qualified name without the class, also where it is inherited."""
    call, expected = CALLS[kind]
    swarm = class_()
    for _ in range(3):
        vars(swarm).pop("cached_property", None)
        call(swarm)
    name = class_.__name__
    assert counts("object.class_name", "caller.function_name") == {
        (name, function): 3 * times for function, times in expected.items()
    }
    assert set(counts("caller.filename")) == {__file__}
    assert set(counts("caller.module")) == {__name__}


def test_an_extended_method_and_its_base_are_two_places(counts: Counts) -> None:
    """A method and the one it extends have the same name, and different lines."""
    swarm = Derived()
    swarm.extended()
    swarm.extended()
    assert counts("caller.function_name") == {"extended": 4}
    assert sorted(counts("caller.line").values()) == [2, 2]


def test_del_is_a_place(counts: Counts) -> None:
    """A finalizer that runs while its object goes is counted."""
    for _ in range(3):
        Swarm()
        gc.collect(0)
    assert counts("caller.function_name") == {"__del__": 3}


class Outer:
    """Has a class in it."""

    tracer: Tracer

    class Inner:
        def __init__(self) -> None:
            self.tracer = Tracer(self)

        def method(self, tracer: Tracer) -> None:
            tracer.trace()


def test_nested_and_local_classes_are_left_out_of_the_name(counts: Counts) -> None:
    """The name loses the object's own class however deep it stands, and no other class."""

    class Local:
        def __init__(self) -> None:
            self.tracer = Tracer(self)

        def method(self) -> None:
            self.tracer.trace()

    inner = Outer.Inner()
    inner.method(inner.tracer)
    inner.method(Tracer(Outer()))
    inner.method(Tracer("text"))
    Local().method()
    assert counts("object.class_name", "caller.function_name") == {
        ("Inner", "method"): 1,
        ("Outer", "Inner.method"): 1,
        ("text", "Outer.Inner.method"): 1,
        ("Local", "method"): 1,
    }


def test_a_class_body_is_a_place(counts: Counts) -> None:
    """The body of a class runs under the qualified name of the class."""
    tracer = Tracer("body")

    class Body:
        tracer.trace()

    name = "test_a_class_body_is_a_place.<locals>.Body"
    assert counts("caller.function_name") == {name: 1}
    assert Body.__qualname__ == name


def test_a_plain_function_keeps_its_name(counts: Counts) -> None:
    """A function that is in no class of the object has its whole qualified name."""
    _decorated(lambda swarm: swarm.tracer.trace())(Swarm())
    name = "test_a_plain_function_keeps_its_name.<locals>.<lambda>"
    assert counts("caller.function_name") == {name: 1, "__del__": 1}


def test_the_same_id_in_two_methods_is_two_places(counts: Counts) -> None:
    """Calls with the same id and props, but in two places, are never merged."""

    class Same:
        def __init__(self) -> None:
            self.tracer = Tracer(self)

        def one(self) -> None:
            self.tracer.trace("same", peer=1)

        def two(self) -> None:
            self.tracer.trace("same", peer=1)

    same = Same()
    for _ in range(3):
        same.one()
        same.two()
    assert counts("id", "caller.function_name") == {("same", "one"): 3, ("same", "two"): 3}


def test_the_upstream_function_is_not_the_caller(counts: Counts) -> None:
    """Wherever a method is called from, the place is the line that traces."""
    swarm = Swarm()
    swarm.method()
    _decorated(Swarm.method)(swarm)
    list(map(Swarm.method, [swarm]))
    assert counts("caller.function_name") == {"method": 3}
    assert len(counts("caller.line")) == 1


def test_interleaved_coroutines_are_distinguished(counts: Counts) -> None:
    """Tasks that take turns are counted each at its own place."""
    swarm = Swarm()

    async def run() -> None:
        await asyncio.gather(*(swarm.coroutine() for _ in range(50)), *map(_consume, [swarm] * 50))

    asyncio.run(run())
    assert counts("caller.function_name") == {"coroutine": 50, "async_generator": 50}
