"""Inspection of values without running their code."""

from typing import Any

import pytest

from hypertrace.inspection import are_texts, type_name

from ..hostile_values import HostileStr, OfHostileMeta, named


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OfHostileMeta, "OfHostileMeta"),
        (OfHostileMeta(), "OfHostileMeta"),
        (named(HostileStr("Name")), "Name"),
        (KeyError, "KeyError"),
        (7, "int"),
        (type, "type"),
    ],
    ids=["class", "object", "hostile name", "exception", "int", "type"],
)
def test_the_name_of_a_type_cannot_be_forged(kind: Any, name: str) -> None:
    """The name of a type is the one that CPython holds, whatever its metaclass defines."""
    assert type_name(kind) == name
    assert type(type_name(kind)) is str


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), True),
        (("a", None, ""), True),
        (("a", 1), False),
        ((b"a",), False),
        ((HostileStr("a"),), False),
        ((OfHostileMeta(), None), False),
    ],
    ids=["none", "texts", "int", "bytes", "hostile text", "hostile class"],
)
def test_only_exact_strings_and_none_are_texts(values: tuple[Any, ...], expected: bool) -> None:
    """Values are texts if all are exact strings or None; the values' own code does not run."""
    assert are_texts(values) is expected
