"""Exemplars on the OpenMetrics page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from hypertrace import Tracer
from hypertrace_prometheus.exposition.render import render

from ..pages import parse_openmetrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client.samples import Exemplar

    from hypertrace_prometheus import PrometheusExporter

    from ..running import Export


def exemplars(exporter: PrometheusExporter) -> list[Exemplar]:
    """Give the exemplars on the OpenMetrics page, as its strict parser reads them."""
    page = render(exporter.registry, openmetrics=True).decode()
    families = parse_openmetrics(page)
    found = [sample for family in families for sample in family.samples if sample.exemplar]
    assert {sample.name for sample in found} <= {"function_duration_seconds_bucket"}
    return [sample.exemplar for sample in found if sample.exemplar]


def run() -> None:
    with Tracer("here").span():
        pass


def test_a_span_inside_a_trace_of_opentelemetry_has_its_ids(
    export: Export, traces: TracerProvider
) -> None:
    """By default a span that ends inside a sampled span of OpenTelemetry is its exemplar."""
    exporter = export()
    with traces.get_tracer("test").start_as_current_span("request") as span:
        run()
    (exemplar,) = exemplars(exporter)
    context = span.get_span_context()
    assert exemplar.labels == {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
    assert 0 < exemplar.value < 1
    assert exemplar.timestamp


def test_any_function_can_name_the_exemplar(export: Export) -> None:
    """What the function returns is on the bucket of the span, in OpenMetrics alone."""
    numbers = iter(range(10))
    exporter = export(exemplar=lambda: {"trace_id": f"t-{next(numbers)}"})
    run()
    run()
    (exemplar,) = exemplars(exporter)
    assert exemplar.labels == {"trace_id": "t-1"}
    assert "t-1" not in exporter.metrics()


def test_values_of_exemplars_are_escaped(export: Export) -> None:
    """A value with a backslash and a newline comes back as it was; so does a number as its text."""
    # prometheus_client's parser cannot read a quote there; test_families.py looks at the text.
    exporter = export(exemplar=lambda: {"user": "a\\b\nc", "n": 7})
    run()
    assert [e.labels for e in exemplars(exporter)] == [{"user": "a\\b\nc", "n": "7"}]


def test_the_longest_exemplar_is_taken(export: Export) -> None:
    """128 characters, names and values together, are allowed."""
    exporter = export(exemplar=lambda: {"trace_id": "x" * 120})
    run()
    assert [e.labels for e in exemplars(exporter)] == [{"trace_id": "x" * 120}]
