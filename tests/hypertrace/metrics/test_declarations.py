"""Declarations: what each metric is, and which names are taken."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hypertrace.metrics import Declaration, Metrics, declarations
from hypertrace.metrics.declarations import BUILT_IN, HEALTH, check_counter_name

ALL = (*BUILT_IN, *HEALTH)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_declaration_is_one_that_prometheus_takes(one: Declaration) -> None:
    """Name and labels are names, counters end in `_total`, and the description is a sentence."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", one.name)
    assert one.name.endswith("_total") == (one.kind == "counter")
    assert one.name.endswith("_info") == (one.kind == "info")
    assert not one.unit or one.name.endswith(f"_{one.unit}")
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in one.labels)
    assert re.fullmatch(r"[A-Z][^\n]*\.", one.description)


def test_no_two_declarations_have_one_name() -> None:
    """Each metric is described once."""
    assert len({one.name for one in ALL}) == len(ALL)


def test_a_declaration_is_immutable() -> None:
    """Without more, it has neither a unit nor labels."""
    one = Declaration("gauge", "x", description="X.")
    assert (one.kind, one.unit, one.labels) == ("gauge", "", ())
    with pytest.raises(AttributeError):
        one.name = "y"  # type: ignore[misc]


def test_the_labels_of_a_family_follow_its_declaration() -> None:
    """Those of a function come first where it has them, then the declared ones."""
    reading = Metrics(upstream=True, allowed_props=["topic"]).read()
    of_functions = reading.families[0].label_names
    for family in reading.families:
        own = family.declaration.labels
        assert family.label_names[len(family.label_names) - len(own) :] == own
        if family.declaration in BUILT_IN and family.name != declarations.EDGES.name:
            assert family.label_names == (*of_functions, *own)


@pytest.mark.parametrize("one", [one for one in ALL if one is not declarations.CALLS])
def test_the_counter_takes_no_name_of_another_metric(one: Declaration) -> None:
    """Whatever is declared is a name that the counter of calls may not have."""
    for name in (one.name, one.name.removesuffix("_total")):
        with pytest.raises(ValueError, match="begins like the metrics that the exporter has"):
            check_counter_name(name)
        with pytest.raises(ValueError, match="choose another"):
            Metrics(counter_name=name)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", ValueError, "counter_name '' is no name of a metric"),
        ("_total", ValueError, "counter_name '_total' is no name of a metric"),
        ("9x", ValueError, "counter_name '9x' .* no digit first"),
        ("a-b", ValueError, "counter_name 'a-b' is no name of a metric"),
        ("a b\n", ValueError, r"counter_name 'a b\\n' is no name"),
        ("größe", ValueError, "counter_name 'größe' is no name"),
        ("x_bucket", ValueError, "ends like a part of a metric of another type"),
        ("x_info", ValueError, "choose another end, '_total' if it only rises"),
        (None, TypeError, "counter_name must be a str, not None"),
        (b"x", TypeError, "counter_name must be a str, not b'x'"),
    ],
    ids=str,
)
def test_a_name_that_no_counter_can_have_is_refused(
    name: Any, error: type[Exception], message: str
) -> None:
    """The error says why, and what to do."""
    with pytest.raises(error, match=message):
        check_counter_name(name)


@pytest.mark.parametrize("name", ["calls_total", "calls", "function_calls_total", "_x", "X9"])
def test_any_other_name_is_taken(name: str) -> None:
    """A counter may have any name."""
    check_counter_name(name)
    assert Metrics(counter_name=name).read().families[0].name == name
