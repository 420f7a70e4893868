"""Spans on the pages of an exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace_prometheus.exposition.render import render

from ..traced_classes import Cart, Shop
from .pages import BUCKET, COUNT, EDGES, EXCEPTIONS, OPEN, SUM, parse_openmetrics, values

if TYPE_CHECKING:
    from ..running import Clock
    from .running import Export


def test_a_span_is_a_cumulative_histogram(export: Export, span_clock: Clock) -> None:
    """The buckets of a page are cumulative, with their sum and count."""
    exporter = export(buckets=[0.1, 1, 10])
    for seconds in (0.05, 0.5, 0.7, 5.0, 50.0):
        with Cart().tracer.span():
            span_clock.now += seconds
    assert values(exporter, BUCKET, "le") == {
        ("0.1",): 1,
        ("1.0",): 3,
        ("10.0",): 4,
        ("+Inf",): 5,
    }
    assert values(exporter, COUNT) == {(): 5}
    assert values(exporter, SUM)[()] == pytest.approx(56.25)


def test_there_are_no_edges_by_default(export: Export) -> None:
    """Without `upstream` the page does not name the edges."""
    exporter = export()
    Shop().serve()
    assert "edges" not in exporter.metrics()


def test_the_page_has_what_the_collector_gives(export: Export) -> None:
    """`prometheus_client`, asked for the same registry, gives the same samples of every metric."""
    exporter = export(allowed_props=["topic"], max_series=4, upstream=True)
    cart = Cart()
    with cart.tracer.span("outer"):
        for topic in ("a", 'b"\n\\', None, "c", "d"):
            cart.add(topic=topic)
            with pytest.raises(KeyError):
                cart.fail(KeyError(), topic=topic)
    theirs = generate_latest(exporter.registry).decode()
    ours = [(f.name, f.type, f.samples) for f in parse_text(exporter.metrics())]
    assert ours == [(f.name, f.type, f.samples) for f in parse_text(theirs)]
    assert {BUCKET, EXCEPTIONS, OPEN, EDGES} <= {s.name for f in ours for s in f[2]}


def test_openmetrics_is_read_by_its_strict_parser(export: Export) -> None:
    """All metrics of spans keep the rules of OpenMetrics."""
    exporter = export(upstream=True, max_series=3, exemplar=lambda: {"trace_id": "a"})
    Shop().serve()
    for number in range(4):
        with pytest.raises(KeyError):
            Cart().fail(KeyError())
        Cart().add(str(number))
    page = render(exporter.registry, openmetrics=True).decode()
    types = {family.name: family.type for family in parse_openmetrics(page)}
    assert {name: kind for name, kind in types.items() if name.startswith("function_")} == {
        "function_counter": "counter",
        "function_duration_seconds": "histogram",
        "function_exceptions": "counter",
        "function_in_progress": "gauge",
        "function_edges": "counter",
    }
