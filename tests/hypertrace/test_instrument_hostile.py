"""Instrumentation of hostile modules: looking for functions runs no code of the application."""

import enum
import functools
import importlib
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wrapt

from hypertrace import SpanEvent, _engines, instrument, instrumented, swallowed_errors, traced
from hypertrace.testing import capture_events

LAZY = '''
"""Lazy objects, as of frameworks: any access to them is an error, or has an effect."""

touched = []


class ImproperlyConfigured(Exception):
    pass


def _touch(*args, **kwargs):
    touched.append(args)
    raise ImproperlyConfigured


class Lazy:
    """Raises on any access, and says that it is of another class."""

    __getattribute__ = __getattr__ = __setattr__ = __call__ = _touch
    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __hash__ = _touch
    __instancecheck__ = __subclasscheck__ = __dir__ = __get__ = __reduce_ex__ = _touch


class Claims:
    """Says by a property that it is a function."""

    @property
    def __class__(self):
        _touch()

    @property
    def __wrapped__(self):
        _touch()

    @property
    def __dict__(self):
        _touch()

    def __call__(self):
        return 1


class Meta(type):
    """Lets nothing be read or asked."""

    __getattribute__ = __getattr__ = _touch
    __instancecheck__ = __subclasscheck__ = __call__ = __dir__ = __iter__ = __repr__ = _touch
    __eq__ = _touch
    __hash__ = type.__hash__


class Closed(metaclass=Meta):
    def method(self):
        return 1

    class Inner:
        def price(self):
            return 5


class Refuses(type):
    def __setattr__(cls, name, value):
        raise AttributeError("refused")


class Frozen(metaclass=Refuses):
    def method(self):
        return 1


class Ignores(type):
    def __setattr__(cls, name, value):
        pass


class Deaf(metaclass=Ignores):
    def method(self):
        return 1


lazy = Lazy()
claims = Claims()


def good():
    return 1


class Good:
    lazy = lazy
    claims = claims

    def method(self):
        return 1
'''


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


def _names(events: list[SpanEvent]) -> Counter[str]:
    return Counter(f"{event.object.class_name}.{event.caller.function_name}" for event in events)


def _module(name: str, source: str = "") -> Any:
    module = types.ModuleType(name)
    exec(source, vars(module))
    sys.modules[name] = module
    return module


@pytest.fixture(autouse=True)
def _modules(write: Callable[..., None]) -> Iterator[None]:
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if name.startswith("ho_"):
            del sys.modules[name]


@pytest.fixture
def lazy(write: Callable[..., None]) -> Any:
    write("ho_lazy", LAZY)
    return importlib.import_module("ho_lazy")


@pytest.mark.parametrize("target", ["ho_lazy", "ho_lazy:*", "ho_lazy:**.*", "ho_lazy:*.*"])
def test_nothing_is_asked_of_objects(target: str, lazy: Any, events: list[Any]) -> None:
    """Lazy objects and classes whose metaclass allows nothing are neither read nor called."""
    with instrument(target) as handle:
        assert lazy.touched == []
        assert lazy.good() == 1
        assert lazy.Good().method() == 1
        assert repr(dict(handle.skipped))
        assert repr(instrumented())
    assert lazy.touched == []
    assert _names(events).total() >= 1
    assert swallowed_errors() == 0


def test_what_refuses_is_skipped_and_the_rest_is_traced(lazy: Any, events: list[Any]) -> None:
    """A metaclass that refuses attributes, or ignores them, costs its own methods alone."""
    before = {name: dict(vars(vars(lazy)[name])) for name in ("Frozen", "Deaf")}
    with instrument("ho_lazy") as handle:
        assert {"ho_lazy:good", "ho_lazy:Good.method"} <= set(handle.names)
        for name, why in [("Frozen", "Refuses refuses"), ("Deaf", "Ignores refuses")]:
            method = f"ho_lazy:{name}.method"
            assert method in handle.names or why in handle.skipped[method]
            assert dict(vars(vars(lazy)[name])) == before[name]
        lazy.good()
        assert lazy.Frozen().method() == lazy.Deaf().method() == 1
    if _engines.name == "closures":
        with pytest.raises(TypeError, match=r"Refuses refuses .* of Frozen: refused"):
            instrument("ho_lazy:Frozen.method")


def test_members_of_enumerations_stay_members(events: list[Any]) -> None:
    """A member that can be called is no function; methods of the enumeration are traced."""
    module = _module("ho_enum")

    class Color(enum.Enum):
        RED = 1
        BLUE = 2

        def __call__(self) -> int:
            return 1

        def shout(self) -> str:
            return self.name.upper()

    Color.__module__ = Color.__call__.__module__ = Color.shout.__module__ = "ho_enum"
    Color.__qualname__ = "Color"
    module.Color = Color
    members = list(Color)
    with instrument("ho_enum") as handle:
        assert handle.names == ["ho_enum:Color.shout"]
        assert list(Color) == members
        assert Color.RED.shout() == "RED"
        assert Color(1) is Color.RED is Color["RED"]
        assert Color.RED() == 1
    assert len(events) == 1


def test_chains_of_wrapped_functions_may_be_circles(events: list[Any]) -> None:
    """A function that wraps itself, by others or directly, is traced."""
    module = _module(
        "ho_circle", "def one(): return 1\ndef two(): return 2\ndef three(): return 3\n"
    )
    module.one.__wrapped__ = module.two
    module.two.__wrapped__ = module.one
    with instrument("ho_circle") as handle:
        assert module.three() == 3
        assert handle.names == ["ho_circle:one", "ho_circle:two", "ho_circle:three"]
    assert swallowed_errors() == 0
    assert module.one() == 1


def test_a_module_may_compute_its_attributes(events: list[Any]) -> None:
    """Neither `__getattr__` of a module runs, nor that of its class, nor `__setattr__`."""
    ran: list[str] = []

    class Computed(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            raise RuntimeError(name)

        def __setattr__(self, name: str, value: object) -> None:
            ran.append(name)
            raise RuntimeError(name)

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            ran.append("__dict__")
            raise RuntimeError

    module = types.ModuleType("ho_computed")
    exec("def load(): return 1\ndef __getattr__(name): raise RuntimeError(name)\n", vars(module))
    load = module.load
    attributes = vars(module)
    module.__class__ = Computed
    sys.modules["ho_computed"] = module
    with instrument("ho_computed") as handle:
        assert handle.names == ["ho_computed:load"]
        attributes["load"]()
    with pytest.raises(ValueError, match="no function or method 'absent'"):
        instrument("ho_computed:absent")
    assert attributes["load"] is load
    assert ran == []
    assert len(events) == 1
    del sys.modules["ho_computed"]


def test_what_is_no_module_is_skipped(events: list[Any]) -> None:
    """`sys.modules` may hold any object, None, and names that are no text."""
    touched: list[str] = []

    class Object:
        def __getattribute__(self, name: str) -> Any:
            if name != "__spec__":
                touched.append(name)
            raise AttributeError(name)

        def load(self) -> int:
            return 1

    modules: Any = sys.modules
    module = _module("ho_any", "def load(): return 1\n")
    modules |= {"ho_any.object": Object(), "ho_any.none": None, 5: module}
    vars(module)[5] = load = lambda: 1
    try:
        with instrument("ho_any") as handle:
            assert handle.names == ["ho_any:load"]
            assert dict(handle.skipped) == {
                "ho_any.object": "is no module, but an object of Object"
            }
        with pytest.raises(ValueError, match=r"ho_any.object.*is no module"):
            instrument("ho_any.object:load")
    finally:
        del modules[5]
    assert vars(module)[5] is load
    assert touched == []


def test_proxies_are_not_resolved(events: list[Any]) -> None:
    """Proxies written in C and in Python have no object until the application asks for it."""
    made: list[int] = []

    class Local:
        def __getattr__(self, name: str) -> Any:
            made.append(1)
            return getattr(len, name)

        def __call__(self) -> int:
            return made.append(1) or 1  # type: ignore[func-returns-value]

    module = _module("ho_proxies", "def load(): return 1\nclass A:\n    def f(self): return 1\n")
    module.local = Local()
    module.A.local = Local()
    factories = [n for n in ("LazyObjectProxy", "lazy_import") if hasattr(wrapt, n)]
    if "LazyObjectProxy" in factories:
        lazy: Any = wrapt
        module.proxy = lazy.LazyObjectProxy(lambda: made.append(1))
        module.A.proxy = lazy.LazyObjectProxy(lambda: made.append(1))
    module.wrapped = wrapt.ObjectProxy(module.local)
    with instrument("ho_proxies") as handle:
        assert handle.names == ["ho_proxies:load", "ho_proxies:A.f"]
    assert made == []


def test_names_and_modules_may_be_anything(events: list[Any]) -> None:
    """`__module__` and `__wrapped__` of functions and classes may be objects of any kind."""
    module = _module(
        "ho_names",
        "def load(): return 1\ndef other(): return 1\nclass A:\n    def f(self): return 1\n",
    )
    module.load.__module__ = object()
    module.load.__wrapped__ = object()
    module.other.__module__ = "elsewhere"
    module.A.__module__ = 5
    with instrument("ho_names") as handle:
        assert handle.names == ["ho_names:load", "ho_names:other"]


class Framed(property):
    """A property with another constructor, and what its class gave it."""

    def __init__(self, function: Any, *, label: str) -> None:
        super().__init__(function)
        self.label = label

    def __set_name__(self, owner: type, name: str) -> None:
        self.named = name


class FramedClass(classmethod):  # type: ignore[type-arg]
    """A class method with an attribute."""

    label = ""


def test_descriptors_of_other_types_stay_the_objects_they_are(
    write: Callable[..., None], events: list[Any]
) -> None:
    """Subclasses of properties and methods are not made again, whether they are traced or not."""
    framed: Any = _module("ho_framed")
    framed.Framed, framed.FramedClass = Framed, FramedClass
    write(
        "ho_own",
        "import functools\nfrom ho_framed import Framed, FramedClass\n"
        "class A:\n"
        "    size = Framed(lambda self: 1, label='x')\n"
        "    @FramedClass\n    def kind(cls): return cls.__name__\n"
        "    @property\n    def plain(self): return 2\n",
    )
    module: Any = importlib.import_module("ho_own")
    cls = module.A
    size, kind = vars(cls)["size"], vars(cls)["kind"]
    with instrument("ho_own") as handle:
        assert vars(cls)["size"] is size
        assert vars(cls)["kind"] is kind
        assert (cls().size, cls.kind(), cls().plain) == (1, "A", 2)
        assert (size.label, size.named) == ("x", "size")
        in_place = "ho_own:A.size" in handle.names
        assert _names(events).total() == (3 if in_place else 1)
        if not in_place:
            assert "'Framed', a subclass of property" in handle.skipped["ho_own:A.size"]
            assert "'FramedClass', a subclass of classmethod" in handle.skipped["ho_own:A.kind"]
    if not in_place:
        for one in (size, kind):
            with pytest.raises(TypeError, match=r"a subclass of (property|classmethod)"):
                traced(one)
        with pytest.raises(TypeError, match="a subclass of property"):
            instrument("ho_own:A.size")


def test_a_descriptor_keeps_what_was_set_on_it(events: list[Any]) -> None:
    """Attributes of a static or class method are there while it is traced, and it is back then."""

    class A:
        @staticmethod
        def load() -> int:
            return 1

    vars(A)["load"].label = "x"
    A.__module__ = A.load.__module__ = "ho_marked"
    A.__qualname__ = "A"
    _module("ho_marked").A = A
    before = vars(A)["load"]
    with instrument("ho_marked"):
        assert vars(A)["load"].label == "x"
        assert A.load() == 1
    assert vars(A)["load"] is before
    assert len(events) == 1


def test_a_function_behind_a_cache_is_never_taken_from_it(events: list[Any]) -> None:
    """The cache stays the object that it is; what reaches the function is traced, if it can be."""
    module = _module("ho_cache", "def load(a): return a\n")
    module.load = functools.lru_cache(module.load)
    before = module.load
    with instrument("ho_cache") as handle:
        assert module.load is before
        assert [module.load(1), module.load(1)] == [1, 1]
        assert len(events) == len(handle.names)
        assert len(handle.names) + len(handle.skipped) == 1
    assert module.load.cache_info().hits == 1


def test_standard_modules_are_traced_at_once(events: list[Any]) -> None:
    """All of many modules are instrumented and restored, and work meanwhile."""
    program = """
import argparse, ast, configparser, ctypes, dataclasses, email.message, enum, fractions, json
import logging, multiprocessing.pool, pathlib, pickle, statistics, string, typing, unittest.mock
import sys
from hypertrace import instrument
modules = ["argparse", "configparser", "dataclasses", "email", "fractions", "json", "pathlib",
           "pickle", "statistics", "string", "unittest", "ctypes", "multiprocessing"]
def state():
    return {m: [(n, id(v)) for n, v in vars(sys.modules[m]).items()] for m in modules}
before = state()
handle = instrument(modules)
assert len(handle.names) > 500, len(handle.names)
assert json.loads(json.dumps({"a": [1, 2]})) == {"a": [1, 2]}
assert fractions.Fraction("1/3") + 1 == fractions.Fraction(4, 3)
assert pickle.loads(pickle.dumps(pathlib.Path("a"))) == pathlib.Path("a")
unittest.mock.MagicMock()().a
argparse.ArgumentParser().parse_args([])
handle.undo()
assert state() == before
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
