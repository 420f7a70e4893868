"""Descriptors of an application: subclasses of properties and methods stay what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import instrument, swallowed_errors, traced

from .programs import ENGINE, capture_spans, in_place, names_of, replaced

if TYPE_CHECKING:
    from .programs import Program

DESCRIPTORS = '''
import functools

class Named(property):
    """A property that learns its name, and computes other attributes of it."""
    def __set_name__(self, owner, name):
        self.name, self.owner = name, owner.__name__
        self.key = f"{owner.__name__}.{name}"

class Cached(property):
    """A property with another constructor, as werkzeug's cached_property."""
    def __init__(self, fget, name=None, doc=None):
        super().__init__(fget, doc=doc)
        self.__name__ = name or fget.__name__
        self.slot = f"_cache_{self.__name__}"
    def __set__(self, instance, value):
        setattr(instance, self.slot, value)
    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        if not hasattr(instance, self.slot):
            setattr(instance, self.slot, self.fget(instance))
        return getattr(instance, self.slot)
    def __delete__(self, instance):
        delattr(instance, self.slot)

class Required(property):
    """A property whose constructor has a required keyword."""
    def __init__(self, fget, *, unit):
        super().__init__(fget)
        self.unit = unit
    def __get__(self, instance, owner=None):
        value = super().__get__(instance, owner)
        return value if instance is None else f"{value} {self.unit}"

class Slotted(property):
    __slots__ = ("hidden", "__doc__")  # the docstring of a getter is set on CPython 3.11
    def __init__(self, *args):
        super().__init__(*args)
        self.hidden = "hidden"

class OfClass(classmethod):
    def __set_name__(self, owner, name):
        self.label = f"{owner.__name__}.{name}"

class Loud(classmethod):
    def __new__(cls, function, *, prefix):
        return super().__new__(cls, function)
    def __init__(self, function, *, prefix):
        super().__init__(function)
        self.prefix = prefix
    def __get__(self, instance, owner=None):
        method = super().__get__(instance, owner)
        return lambda *args: self.prefix + method(*args)

class Static(staticmethod):
    def __new__(cls, function, *, label="static"):
        return super().__new__(cls, function)
    def __init__(self, function, *, label="static"):
        super().__init__(function)
        self.label = label

class Memo(functools.cached_property):
    def __init__(self, func, *, prefix):
        super().__init__(func)
        self.prefix = prefix
    def __set_name__(self, owner, name):
        super().__set_name__(owner, name)
        self.label = f"{owner.__name__}.{name}"

class Job:
    def __init__(self):
        self.value = 1

    @Named
    def named(self): return self.value
    @named.setter
    def named(self, value): self.value = value
    @named.deleter
    def named(self): self.value = 0

    @Cached
    def cached(self): return object()

    other = Cached(lambda self: self.value, name="another", doc="Say more.")
    required = Required(lambda self: self.value, unit="s")
    slotted = Slotted(lambda self: self.value)

    @OfClass
    def of_class(cls): return cls.__name__

    loud = Loud(lambda cls, text: text + cls.__name__, prefix="!")

    @Static
    def static(a): return a

    labelled = Static(lambda a: a, label="labelled")
    memo = Memo(lambda self: object(), prefix="p")

def use():
    job = Job()
    job.named = 5
    found = [job.named, job.required, job.slotted, job.other]
    del job.named
    found += [job.value, job.cached is job.cached, job._cache_cached is job.cached]
    job.cached = 7
    found += [job.cached, job.of_class(), Job.of_class(), Job.loud("a"), job.static(1)]
    found += [Job.labelled(2), job.memo is job.memo, vars(job)["memo"] is job.memo]
    return found

def described():
    static = {name: value for name, value in vars(Job).items() if not name.startswith("__")}
    found = {name: [type(value).__name__, value.__doc__] for name, value in static.items()}
    for name, value in static.items():
        found[name] += sorted((key, text) for key, text in getattr(value, "__dict__", {}).items()
                              if isinstance(text, str))
        found[name].append(getattr(value, "hidden", None))
    return found
'''
PROPERTIES = ("named", "cached", "other", "required", "slotted")
METHODS = ("of_class", "loud", "static", "labelled")
COUNTS = {"named": 3, "cached": 1, "of_class": 2, "static": 1}
LAMBDAS = 6  # other, required, slotted, loud, labelled and memo


@in_place
def test_their_state_and_behaviour_stay(program: Program) -> None:
    """What `__set_name__` or another constructor has set stays, as does what they do."""
    plain = program.load(DESCRIPTORS)
    expected, description = plain.use(), plain.described()
    shop = program.load(DESCRIPTORS)
    before = dict(vars(shop.Job))
    names = (*PROPERTIES, *METHODS, "memo")
    handles = [instrument(f"shop:Job.{name}") for name in names]
    with capture_spans() as events:
        assert shop.use() == expected
    assert shop.described() == description
    counts = names_of(events)
    assert counts.pop("<lambda>") == LAMBDAS
    assert counts == COUNTS
    for handle in handles:
        handle.undo()
    assert all(vars(shop.Job)[name] is before[name] for name in names)
    assert shop.use() == expected
    assert swallowed_errors() == 0


def test_a_decorator_keeps_them_too(program: Program) -> None:
    """The same for `@traced` of their class; closures leave them out."""
    plain = program.load(DESCRIPTORS)
    expected, description = plain.use(), plain.described()
    shop = program.load(DESCRIPTORS)
    traced(shop.Job)
    with capture_spans() as events:
        assert shop.use() == expected
    assert shop.described() == description
    counts = names_of(events)
    if ENGINE == "closures":
        assert counts == {}
    else:
        assert counts.pop("<lambda>") == LAMBDAS
        assert counts == COUNTS


@in_place
def test_in_place_they_are_the_same_objects(program: Program) -> None:
    """A descriptor is not replaced, so what else refers to it refers to what is traced."""
    shop = program.load(DESCRIPTORS)
    before = dict(vars(shop.Job))
    handles = [instrument(f"shop:Job.{name}") for name in (*PROPERTIES, *METHODS, "memo")]
    assert all(vars(shop.Job)[name] is value for name, value in before.items())
    for handle in handles:
        handle.undo()
    assert all(vars(shop.Job)[name] is value for name, value in before.items())


def test_a_whole_pattern_traces_each_of_them(program: Program) -> None:
    """None of them is left out by a pattern; closures leave all of them out."""
    expected = program.load(DESCRIPTORS).use()
    shop = program.load(DESCRIPTORS)
    with instrument("shop:Job.*") as handle, capture_spans() as events:
        assert shop.use() == expected
        names = {name.rpartition(".")[2] for name in handle.names}
    if ENGINE == "closures":
        assert (names, events) == (set(), [])
    else:
        assert names == {*PROPERTIES, *METHODS, "memo"}
        assert len(events) == LAMBDAS + sum(COUNTS.values())


@replaced
def test_none_of_them_is_made_again(program: Program) -> None:
    """Closures leave out those of other types, and say why: by patterns, names and decorators."""
    shop = program.load(DESCRIPTORS)
    expected, before = shop.use(), dict(vars(shop.Job))
    names = (*PROPERTIES, *METHODS, "memo")
    with instrument("shop:Job.*") as handle:
        traced(shop.Job)
        assert shop.use() == expected
        assert {name.rpartition(".")[2] for name in handle.skipped} >= set(names)
    for name in names:
        assert vars(shop.Job)[name] is before[name]
        with pytest.raises(TypeError, match="a subclass of"):
            instrument(f"shop:Job.{name}")


def test_a_descriptor_that_two_classes_share(program: Program) -> None:
    """One property object in two classes is traced where it was asked for, and stays one."""
    source = """
class Job:
    @property
    def size(self): return 1

class Other:
    size = vars(Job)["size"]
"""
    shop = program.load(source)
    with capture_spans() as events:
        handle = instrument("shop:Job.size")
        assert (shop.Job().size, shop.Other().size) == (1, 1)
        handle.undo()
        assert vars(shop.Job)["size"] is vars(shop.Other)["size"]
    classes: list[Any] = [event.object.class_name for event in events]
    assert "Job" in classes
