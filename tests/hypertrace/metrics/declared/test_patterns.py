"""Patterns: which events a declared metric is about."""

from __future__ import annotations

import pytest

from hypertrace.metrics.declared.patterns import Pattern

from ....hostile_values import HostileStr


@pytest.mark.parametrize(
    ("of", "class_name", "function_name", "is_match"),
    [
        (None, "Cart", "add", True),
        ("Cart.add", "Cart", "add", True),
        ("Cart.add", "Cart", "add_all", False),
        ("cart.add", "Cart", "add", False),
        ("Cart.*", "Cart", "add", True),
        ("Cart.*", "Shop", "add", False),
        ("*", "shop.cart", "<module>", True),
        ("*.add", "shop.Cart", "add", True),
        ("*.add", "Cart", "Inner.add", True),
        ("Cart.a??", "Cart", "add", True),
        ("Cart.a??", "Cart", "ad", False),
        ("[CS]*.add", "Shop", "add", True),
        ("[!C]*.add", "Cart", "add", False),
        ("Cart.f.<locals>.g", "Cart", "f.<locals>.g", True),
        ("Cart?add", "Cart", "add", True),
        ("Cart.*", "Cart", "two\nlines", True),
        ("Car", "Cart", "add", None),
    ],
)
def test_a_pattern_is_about_the_class_and_the_function(
    of: str | None, class_name: str, function_name: str, is_match: bool | None
) -> None:
    """It is that of a shell, about all of `Class.function`; `*` matches dots, too."""
    if is_match is None:
        with pytest.raises(ValueError, match="can match nothing"):
            Pattern(of, None)
    else:
        assert Pattern(of, None).matches(class_name, function_name, None) is is_match


@pytest.mark.parametrize(
    ("id", "trace_id", "is_match"),
    [
        (None, None, True),
        (None, "a", True),
        ("", None, True),
        ("", "a", False),
        ("up*", "upload", True),
        ("up*", None, False),
        ("*", None, True),
        ("?*", None, False),
        ("5", 5, True),
    ],
)
def test_a_pattern_is_about_the_trace_id(id: str | None, trace_id: object, is_match: bool) -> None:
    """An event without one has the empty text."""
    assert Pattern(None, id).matches("Cart", "add", trace_id) is is_match


def test_both_patterns_must_match() -> None:
    """One alone is not enough, and names may be of any subclass of str."""
    pattern = Pattern("Cart.*", "up*")
    assert pattern.matches(HostileStr("Cart"), HostileStr("add"), HostileStr("upload"))
    assert not pattern.matches("Cart", "add", "load")
    assert not pattern.matches("Shop", "add", "upload")
