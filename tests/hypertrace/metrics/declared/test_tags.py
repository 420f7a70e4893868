"""Tags: the labels of a declared metric, and their texts for an event."""

from __future__ import annotations

from typing import Any

import pytest

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, swallowed_errors
from hypertrace.metrics import Counter
from hypertrace.metrics.declared.tags import MetricTags
from hypertrace.metrics.labels import Labeller

from ....hostile_values import fail

CALL = {"size": 1, "tier": "gold", "none": None}
OBJECT = {"size": 2, "shop": "north", "none": "object"}
PARENT = {"size": 3, "shop": "south", "town": "Bern"}


def event(props: dict[str, Any] | None = None, *, is_span: bool = False) -> TraceEvent:
    """Give an event of a cart in a shop."""
    parts = (
        "upload",
        TracedObject("Cart", 1, OBJECT),
        TracedObject("Shop", 1, PARENT),
        Caller("add", "/srv/cart.py", "cart", 1, 1, props),
    )
    return (
        SpanEvent(*parts, 0.5, "error", KeyError, raised="here") if is_span else TraceEvent(*parts)
    )


def tags_of(tags: Any, tag_values: Any = None, *, length: int = 16) -> MetricTags:
    metric = Counter("x_total", tags=tags, tag_values=tag_values)
    return MetricTags(metric, Labeller({}, length, object_ids=False))


def texts(tags: MetricTags, one: TraceEvent) -> tuple[str, ...] | None:
    """Give the texts of an event, which are those of its call site, however they are asked for."""
    site = tags.at(event())
    found = tags.values_of(one)
    assert site.values_of(one) == found
    if not any(tag.path.is_of_end for tag in tags._tags):
        assert site.values(one.caller.props) == found
    return found


@pytest.mark.parametrize(
    ("path", "of_trace", "of_call", "of_span", "looks_at"),
    [
        ("class", "Cart", "Cart", "Cart", ()),
        ("function", "add", "add", "add", ()),
        ("file", "cart.py", "cart.py", "cart.py", ()),
        ("id", "upload", "upload", "upload", ()),
        ("result", "", "", "error", ()),
        ("exception", "", "", "KeyError", ()),
        ("raised", "", "", "here", ()),
        ("call.size", "", "1", "1", ("size",)),
        ("call.town", "", "", "", ("town",)),
        ("object.size", "2", "2", "2", ()),
        ("object.town", "", "", "", ()),
        ("parent.size", "3", "3", "3", ()),
        ("parent.tier", "", "", "", ()),
        ("size", "2", "1", "1", ("size",)),
        ("tier", "", "gold", "gold", ("tier",)),
        ("shop", "north", "north", "north", ("shop",)),
        ("town", "Bern", "Bern", "Bern", ("town",)),
        ("none", "object", "object", "object", ("none",)),
        ("other", "", "", "", ("other",)),
    ],
)
def test_a_tag_is_found_where_its_path_looks(
    path: str, of_trace: str, of_call: str, of_span: str, looks_at: tuple[str, ...]
) -> None:
    """A fact, one place, or the call's props, then the object's, then the parent's."""
    tags = tags_of({"label": path})
    assert tags.label_names == ("label",)
    assert texts(tags, event()) == (of_trace,)
    assert texts(tags, event(CALL)) == (of_call,)
    assert texts(tags, event(CALL, is_span=True)) == (of_span,)
    assert tags.names_of_call_props == tags.at(event()).names_of_call_props == looks_at


def test_tags_are_in_the_order_in_which_they_were_declared() -> None:
    """A prop that two labels show is looked up once."""
    tags = tags_of({"b": "size", "result": "result", "a": "call.size", "town": "object.town"})
    assert tags.label_names == ("b", "result", "a", "town")
    assert tags.names_of_call_props == ("size",)
    assert texts(tags, event(CALL, is_span=True)) == ("1", "error", "1", "")
    assert tags.at(event()).values(None) == ("2", "", "", "")


def test_texts_are_those_of_labels() -> None:
    """They are cut, and what cannot be shown says so."""
    one = event({"a": "x" * 99, "b": b"\xff", "c": type("Bad", (), {"__str__": fail})()})
    tags = tags_of(["a", "b", "c"], length=18)
    assert texts(tags, one) == ("x" * 17 + "…", "\\xff", "<unprintable Bad>")
    assert swallowed_errors() == 0


def test_values_become_texts_by_a_mapping() -> None:
    """Values that it does not have stay, absent ones are empty."""
    tags = tags_of(["code"], {"code": {200: "ok", "x": "y"}})
    shown = [texts(tags, event({"code": code})) for code in (200, "x", 404, [1], None)]
    assert shown == [("ok",), ("y",), ("404",), ("[1]",), ("",)]


def test_values_become_texts_by_a_function() -> None:
    """It gets the value itself, and never an absent one."""
    tags = tags_of(["code", "class"], {"code": lambda code: code // 100, "class": str.lower})
    assert texts(tags, event({"code": 404})) == ("4", "cart")
    assert texts(tags, event()) == ("", "cart")
    assert texts(tags_of(["code"], {"code": lambda code: None}), event({"code": 1})) == ("",)


@pytest.mark.parametrize("path", ["call.size", "object.size", "size", "class"])
def test_a_function_that_raises_leaves_the_event_out(path: str) -> None:
    """Each time this is counted as a swallowed error."""
    tags = tags_of({"a": path, "b": "id"}, {"a": fail})
    assert tags.values_of(event(CALL)) is None
    assert swallowed_errors() == 1
    assert tags.at(event()).values(CALL) is None


def test_the_code_of_a_value_runs_guarded() -> None:
    """Also its `__hash__`, where a mapping looks it up."""
    bad = type("Bad", (), {"__hash__": fail})()
    assert texts(tags_of(["a"], {"a": {1: "one"}}), event({"a": bad})) is None
    assert swallowed_errors() > 0


def test_objects_with_the_same_texts_have_equal_keys() -> None:
    """Props that no tag looks at make no difference, those of the call none either."""
    tags = tags_of(["shop", "result", "class"])
    traced = [TracedObject("Cart", n, {"shop": s, "n": n}) for n, s in enumerate("aab")]
    keys = [tags.of_objects(one, None) for one in traced]
    assert keys[0] == keys[1] != keys[2]
    parent = TracedObject("Shop", 1, {"shop": "b"})
    assert tags.of_objects(TracedObject("Cart", 1), parent) == keys[2]
    assert hash(keys[0]) == hash(keys[1])
