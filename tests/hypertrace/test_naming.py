"""Names of objects and functions in events."""

import json
from collections import UserString
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hypertrace._naming import class_name_of, class_names, without_class


class _Colour(Enum):
    RED = 1


class _Meta(type): ...


class _Made(metaclass=_Meta): ...


@pytest.mark.parametrize(
    ("ctx", "name"),
    [
        (int, "int"),
        (_Made, "_Made"),
        (_Meta, "_Meta"),
        (_Made(), "_Made"),
        (_Colour.RED, "_Colour"),
        (json, "json"),
        (ModuleType("made.up"), "made.up"),
        ("", ""),
        ("any text", "any text"),
        (UserString("text"), "UserString"),
        (type("Point", (tuple,), {})(), "Point"),
        (SimpleNamespace(), "SimpleNamespace"),
        (class_name_of, "function"),
        (b"", "bytes"),
    ],
)
def test_an_object_has_a_class_name(ctx: Any, name: str) -> None:
    """Classes and modules have their own name, strings their value, the rest that of its class."""
    assert class_name_of(ctx) == name


class Base: ...


class Derived(Base):
    class Nested(Base): ...


def test_class_names_are_those_of_the_class_and_its_bases() -> None:
    """A class has its qualified names in the order of method resolution."""
    assert class_names(Derived.Nested) == ("Derived.Nested", "Base", "object")
    assert class_names(None) == ()


@pytest.mark.parametrize(
    ("qualname", "expected"),
    [
        ("Derived.go", "go"),
        ("Base.go", "go"),
        ("Derived.Nested.go", "Nested.go"),
        ("Derived.go.<locals>.<lambda>", "go.<locals>.<lambda>"),
        ("DerivedToo.go", "DerivedToo.go"),
        ("Other.Derived.go", "Other.Derived.go"),
        ("Derived", "Derived"),
        ("go", "go"),
        ("<module>", "<module>"),
    ],
)
def test_a_function_is_named_without_the_objects_class(qualname: str, expected: str) -> None:
    """The prefix of the object's class or of a base is left out, and nothing else."""
    assert without_class(qualname, class_names(Derived)) == expected


def test_the_first_class_that_fits_is_left_out() -> None:
    """Of a class and its bases the first that is a prefix is left out, once."""
    assert without_class("A.A.go", ("A", "A.A")) == "A.go"
    assert without_class("A.A.go", ("A.A", "A")) == "go"
