"""Patterns select events by class, function and trace id; one that matches nothing is an error."""

from typing import Any

import pytest

from hypertrace import Caller, TracedObject, TraceEvent
from hypertrace.patterns import EventPattern

from ..hostile_values import HostileStr


def event(class_name: str, function_name: str, id: object = None) -> TraceEvent:
    caller = Caller(function_name, "app.py")
    return TraceEvent(id, TracedObject(class_name, 1), None, caller)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "class_name", "function_name", "expected"),
    [
        (None, "Auth", "login", True),
        ("Auth.login", "Auth", "login", True),
        ("Auth.login", "Auth", "login_again", False),
        ("Auth.login", "AuthXlogin", "f", False),
        ("Auth.*", "Auth", "login", True),
        ("Auth.*", "Auth", "login.<locals>.retry", True),
        ("Auth.*", "auth", "login", False),
        ("auth.LOGIN", "Auth", "login", False),
        ("*", "Auth", "login", True),
        ("*.login", "Auth", "login", True),
        ("Auth?login", "Auth", "login", True),
        ("Auth.[lx]*", "Auth", "login", True),
        ("Auth.[!l]*", "Auth", "login", False),
        ("Auth.<lambda>", "Auth", "<lambda>", True),
        ("*", "line\nbreak", "login", True),
        ("A+.f(", "A+", "f(", True),
        ("Cart.a??", "Cart", "add", True),
        ("Cart.a??", "Cart", "ad", False),
        ("*.add", "shop.Cart", "Inner.add", True),
    ],
)
def test_of_is_a_pattern_on_class_and_function(
    of: str | None, class_name: str, function_name: str, *, expected: bool
) -> None:
    """Case counts, and `*` matches dots and line breaks, too."""
    assert EventPattern(of).matches(event(class_name, function_name)) is expected


@pytest.mark.parametrize(
    ("id", "of_event", "expected"),
    [
        (None, None, True),
        (None, "upload", True),
        ("upload", "upload", True),
        ("up*", "upload", True),
        ("UP*", "upload", False),
        ("", None, True),
        ("", "upload", False),
        ("?*", None, False),
        ("1", 1, True),
    ],
)
def test_id_is_a_pattern_on_the_trace_id(
    id: str | None, of_event: object, *, expected: bool
) -> None:
    """The id of an event without one is empty."""
    assert EventPattern(id=id).matches(event("Auth", "login", of_event)) is expected


def test_names_may_be_of_any_subclass_of_str() -> None:
    """Their methods are not called."""
    hostile = event(HostileStr("Cart"), HostileStr("add"), HostileStr("upload"))
    assert EventPattern("Cart.*", "up*").matches(hostile)


def test_both_must_match() -> None:
    """A pattern on names and on the id selects what both select."""
    pattern = EventPattern("Auth.*", "upload")

    assert pattern.matches(event("Auth", "login", "upload"))
    assert not pattern.matches(event("Auth", "login", "download"))
    assert not pattern.matches(event("Shop", "login", "upload"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"of": ""}, ["of=''", "leave it out"]),
        ({"of": " Auth.*"}, ["of=' Auth.*'", "write 'Auth.*'"]),
        ({"of": "a?"}, ["of='a?'", "'*'"]),
        ({"of": "Auth"}, ["of='Auth'", "'Auth.*'", "'*.Auth'"]),
        ({"of": "Auth.[z-a]"}, ["of='Auth.[z-a]'", "'[a-z]'"]),
        ({"id": "[z-a]"}, ["id='[z-a]'"]),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_the_way_out(
    arguments: dict[str, Any], words: list[str]
) -> None:
    """The message names the value, and what to write."""
    with pytest.raises(ValueError, match="can match nothing") as raised:
        EventPattern(**arguments)

    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize("argument", ["of", "id"])
@pytest.mark.parametrize("value", [3, b"Auth.*", ["Auth.*"]])
def test_a_pattern_of_another_type_is_an_error_that_names_it(argument: str, value: Any) -> None:
    """Patterns are texts."""
    with pytest.raises(TypeError, match=f"{argument} must be a pattern") as raised:
        EventPattern(**{argument: value})

    assert repr(value) in str(raised.value)
