"""Edges: which function's spans are inside which."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from hypertrace import Tracer

from ...traced_classes import Cart, Shop
from .readings import COUNT, EDGES, OVERFLOW, values

if TYPE_CHECKING:
    from .conftest import Count


EDGE = ("from_classname", "from_functionname", "to_classname", "to_functionname")


def test_edges_show_callers_and_callees(count: Count) -> None:
    """Each span inside another one adds to the edge between their functions; others add to none."""
    metrics = count(upstream=True)
    shop = Shop()
    for _ in range(3):
        shop.serve()
    shop.cart.add()
    assert values(metrics, EDGES, *EDGE) == {("Shop", "serve", "Cart", "add"): 6}
    assert values(metrics, COUNT, "object_classname") == {("Shop",): 3, ("Cart",): 7}


def test_failed_spans_are_edges(count: Count) -> None:
    """An edge is counted however the inner span ends."""
    metrics = count(upstream=True)
    shop, cart = Shop(), Cart()
    with shop.tracer.span(), pytest.raises(KeyError):
        cart.fail(KeyError())
    assert values(metrics, EDGES, "from_classname", "to_functionname") == {("Shop", "fail"): 1}


def test_there_are_no_edges_by_default(count: Count) -> None:
    """Without `upstream` no edge is counted, and there is no family of them."""
    metrics = count()
    Shop().serve()
    assert EDGES not in {family.name for family in metrics.read().families}


def test_edges_are_bounded(count: Count) -> None:
    """Past `max_series` edges are counted in the overflow, and their total stays true."""
    metrics = count(upstream=True, max_series=3)
    outer = Tracer("outer")
    with outer.span():
        for number in range(10):
            with Tracer(f"inner-{number}").span():
                pass
    found = values(metrics, EDGES, "to_classname", "object_classname")
    assert found == {(None, OVERFLOW): 7} | {(f"inner-{n}", None): 1 for n in range(3)}


def test_edges_go_with_no_object(count: Count) -> None:
    """Edges are between functions, so they stay when an object goes, also with `object_ids`."""
    metrics = count(object_ids=True, upstream=True)
    for _ in range(5):
        Shop().serve()
    gc.collect()
    assert values(metrics, EDGES, *EDGE) == {("Shop", "serve", "Cart", "add"): 10}
    assert values(metrics, COUNT) == {}
