"""Definitions: a pattern traces the functions that a module defines, and touches nothing else."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import instrument, swallowed_errors

from .programs import capture_spans, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .programs import Program

OBJECTS = '''
import functools, operator, typing, types
from collections import namedtuple

T = typing.TypeVar("T")

class Sentinel:
    """A callable object."""
    def __call__(self): return "called"
    def __repr__(self): return "<sentinel>"

class Gen(typing.Generic[T]):
    def __init__(self): pass
    def first(self): return 1

missing = Sentinel()
missing.__module__ = __name__
UserId = typing.NewType("UserId", int)
Alias = Gen[int]
Either = typing.Union[int, str]
half = functools.partial(int, base=2)
getter = operator.itemgetter(0)
bound = [].append
strings = types.MethodType(lambda self: 1, "text")
echo = print
Point = namedtuple("Point", "x y")

class Job:
    cb = print
    kind = int
    inner = Sentinel()
    number = UserId
    alias = Alias
    getter = operator.itemgetter("a")
    half = functools.partialmethod(lambda self, a, b: (a, b), 1)
    table = {"a": print}
    def run(self): return "run"

def function(): return missing()
'''


def test_objects_that_can_be_called_stay(program: Program) -> None:
    """Sentinels, types, aliases and partials keep their identity, under every form of pattern."""
    shop = program.load(OBJECTS)
    before, of_class = dict(vars(shop)), dict(vars(shop.Job))
    functions = {"function", "run", "traced"}
    handles = [instrument("shop:*"), instrument("shop:Job.*"), instrument("shop:*.*")]
    changed = [name for name, value in before.items() if vars(shop)[name] is not value]
    changed += [name for name, value in of_class.items() if vars(shop.Job)[name] is not value]
    assert set(changed) <= functions
    assert repr(shop.missing) == "<sentinel>"
    assert (type(shop.missing), type(shop.Job.inner)) == (shop.Sentinel, shop.Sentinel)
    assert shop.Alias == shop.Gen[int]
    with capture_spans() as events:
        assert (shop.function(), shop.Job().run(), shop.UserId(1)) == ("called", "run", 1)
    counts = names_of(events)
    assert (counts["function"], counts["run"]) == (1, 1)
    for handle in handles:
        handle.undo()
    assert all(vars(shop)[name] is value for name, value in before.items())
    assert all(vars(shop.Job)[name] is value for name, value in of_class.items())


LAZY = '''
ran = []

class Lazy:
    """An object that connects when anything looks at it, as SimpleLazyObject."""
    def _setup(self, what):
        ran.append(what)
        raise RuntimeError(f"not configured: {what}")
    __class__ = property(lambda self: self._setup("__class__"))
    def __getattr__(self, name):
        self._setup(name)
    def __getattribute__(self, name):
        if name in ("_setup",):
            return object.__getattribute__(self, name)
        return object.__getattribute__(self, "_setup")(name)
    def __call__(self): self._setup("call")
    def __bool__(self): self._setup("bool")
    def __eq__(self, other): self._setup("==")
    def __hash__(self): self._setup("hash")
    def __repr__(self): self._setup("repr")
    def __len__(self): self._setup("len")
    def __instancecheck__(self, other): self._setup("isinstance")

class Meta(type):
    def __getattribute__(cls, name):
        if not name.startswith("__"):
            ran.append("Meta." + name)
        return super().__getattribute__(name)
    def __instancecheck__(cls, other):
        ran.append("isinstance")
        return True
    def __eq__(cls, other):
        ran.append("==")
        return NotImplemented
    __hash__ = type.__hash__

class Descriptor:
    def __get__(self, instance, owner=None):
        ran.append("__get__")
        raise RuntimeError("not configured")

settings = Lazy()

def __getattr__(name):
    ran.append("module." + name)
    raise AttributeError(name)

class Job(metaclass=Meta):
    settings = settings
    dynamic = Descriptor()
    @property
    def size(self): return 1
    def run(self): return "run"

def function(): return "function"
ran.clear()
'''


@pytest.mark.parametrize(
    "pattern", ["shop:*", "shop:Job.*", "shop:*.*", "shop:*.run", "shop:Job.run"]
)
def test_looking_for_names_runs_no_code_of_the_application(pattern: str, program: Program) -> None:
    """Lazy objects, descriptors, metaclasses and `__getattr__` are not called by a pattern."""
    shop = program.load(LAZY)
    with instrument(pattern) as handle:
        assert shop.ran == []
        assert handle.names != []
    assert shop.ran == []


def test_what_is_beside_a_lazy_object_is_traced(program: Program) -> None:
    """The functions and methods that the module defines are traced all the same."""
    shop = program.load(LAZY)
    with instrument("shop:*"), instrument("shop:*.*"), capture_spans() as events:
        assert (shop.function(), shop.Job().run(), shop.Job().size) == ("function", "run", 1)
    counts = names_of(events)
    assert (counts["function"], counts["run"], counts["size"]) == (1, 1, 1)
    assert swallowed_errors() == 0


STUBBORN = """
import array, collections, enum, typing, zlib

class Kind(enum.Enum):
    A = 1
    def __call__(self): return "called"
    def describe(self): return "described"

class Refusing(type):
    def __setattr__(cls, name, value):
        raise AttributeError(f"{name} cannot be set")
    def __delattr__(cls, name):
        raise AttributeError(f"{name} cannot be deleted")

class Closed(metaclass=Refusing):
    def run(self): return "closed"

class Array(array.array):
    def total(self): return sum(self)

Record = array.array
compress = zlib.compress

class Job:
    Nested = array.array
    kinds = Kind
    def run(self): return "run"

def function(): return "function"
"""


@pytest.mark.parametrize("pattern", ["shop:*.*", "shop:K*.*", "shop:Job.*", "shop:*"])
def test_what_cannot_be_set_refuses_no_pattern(pattern: str, program: Program) -> None:
    """An Enum that can be called, a closed metaclass and C classes leave the rest traced."""
    shop = program.load(STUBBORN)
    with instrument(pattern), capture_spans() as events:
        made = [shop.Kind.A.describe(), shop.Kind.A(), shop.Closed().run(), shop.Job().run()]
        assert [*made, shop.Array("i", [1, 2]).total(), shop.function()] == [
            "described", "called", "closed", "run", 3, "function",
        ]  # fmt: skip
        assert shop.Kind(1) is shop.Kind.A
    counts = names_of(events)
    expected = {
        "shop:*.*": {"describe": 1, "total": 1, "run": 1},
        "shop:K*.*": {"describe": 1},
        "shop:Job.*": {"run": 1},
        "shop:*": {"function": 1},
    }[pattern]
    assert {name: min(counts[name], number) for name, number in expected.items()} == expected


def test_undo_leaves_what_could_not_be_set(program: Program) -> None:
    """The end of a pattern that skipped something puts back all that it had traced."""
    shop = program.load(STUBBORN)
    classes = (shop.Kind, shop.Closed, shop.Array, shop.Job)
    before = [dict(type.__getattribute__(it, "__dict__")) for it in classes]
    instrument("shop:*.*").undo()
    for it, attributes in zip(classes, before, strict=True):
        assert dict(vars(it)) == attributes


@pytest.fixture
def encoder() -> Iterator[dict[str, Any]]:
    before = dict(vars(json.JSONEncoder))
    yield before
    assert dict(vars(json.JSONEncoder)) == before


LEAVING = """
import collections, json, logging
from json import dumps, JSONEncoder
from json import JSONDecoder as Imported

def function(): return dumps(1)

class Job:
    encoder = json.JSONEncoder
    decoder = json.JSONDecoder
    logger = logging.Logger
    class Inner:
        deepest = collections.OrderedDict
        encoder = json.JSONEncoder
        def run(self): return json.dumps([1], cls=self.encoder)
    def run(self): return self.encoder().encode([1])

class Mine(json.JSONEncoder):
    def default(self, it): return str(it)
"""


@pytest.mark.parametrize("pattern", ["shop:*", "shop:*.*", "shop:*.*.*", "shop:Job.*.*"])
def test_a_pattern_never_leaves_its_module(
    pattern: str, program: Program, encoder: dict[str, Any]
) -> None:
    """Classes and functions of others that a module refers to are not traced."""
    shop = program.load(LEAVING)
    others = (json.JSONEncoder, json.JSONDecoder, logging.Logger)
    before = [dict(vars(it)) for it in others]
    codes = [{n: getattr(f, "__code__", None) for n, f in vars(it).items()} for it in others]
    with instrument(pattern) as handle, capture_spans() as events:
        assert [dict(vars(it)) for it in others] == before
        assert [
            {n: getattr(f, "__code__", None) for n, f in vars(it).items()} for it in others
        ] == codes
        assert [json.dumps({"a": 1}), shop.Job().run(), shop.Job.Inner().run()] == [
            '{"a": 1}', "[1]", "[1]",
        ]  # fmt: skip
        assert shop.function() == "1"
        assert json.dumps([object], cls=shop.Mine).startswith("[")
    spans = {
        (event.object.class_name.rpartition(".")[2], event.caller.function_name) for event in events
    }
    mine = {("shop", "function"), ("Job", "run"), ("Inner", "run"), ("Mine", "default")}
    assert spans <= mine
    assert {"json", "logging"}.isdisjoint(name.partition(":")[0] for name in handle.names)
    assert not any("encoder" in name or "logger" in name for name in handle.names)


def test_a_subclass_counts_its_own_methods_alone(program: Program) -> None:
    """Methods that a class inherits from another module are not traced by `Class.*`."""
    shop = program.load(LEAVING)
    with instrument("shop:Mine.*"), capture_spans() as events:
        assert shop.Mine().encode([1]) == "[1]"
        assert json.dumps([1], cls=shop.Mine, indent=1) == "[\n 1\n]"
        assert shop.Mine().encode([shop]).startswith('["<module')
    assert names_of(events) == {"default": 1}
