"""Exemplars: what leads from a bucket of a histogram to the trace of a span in it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client.openmetrics import parser as openmetrics_parser

from hypertrace import Tracer, fan_out, set_trace_function, swallowed_errors
from hypertrace.metrics.exemplars import checked, is_never, opentelemetry_exemplar
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.render import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.samples import Exemplar

    from .running import Export


def exemplars(exporter: PrometheusExporter) -> list[Exemplar]:
    """Give the exemplars on the OpenMetrics page, as its strict parser reads them."""
    page = render(exporter.registry, openmetrics=True).decode()
    families = openmetrics_parser.text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
    found = [sample for family in families for sample in family.samples if sample.exemplar]
    assert {sample.name for sample in found} <= {"function_duration_seconds_bucket"}
    return [sample.exemplar for sample in found]


def count(exporter: PrometheusExporter) -> float | None:
    labels = {
        "object_classname": "here",
        "caller_functionname": "run",
        "caller_filename": __name__.replace(".", "/") + ".py",
    }
    name = "function_duration_seconds_count"
    return exporter.registry.get_sample_value(name, labels | {"result": "ok"})


def run() -> None:
    with Tracer("here").span():
        pass


# --- OpenTelemetry ----------------------------------------------------------------------


def test_a_span_inside_a_trace_of_opentelemetry_has_its_ids(export: Export) -> None:
    """By default a span that ends inside a sampled span of OpenTelemetry is its exemplar."""
    exporter = export()
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        run()
    (exemplar,) = exemplars(exporter)
    context = span.get_span_context()
    assert exemplar.labels == {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
    assert 0 < exemplar.value < 1
    assert exemplar.timestamp


def test_a_span_outside_of_any_trace_has_none(export: Export) -> None:
    """OpenTelemetry may be loaded: without a current span there is no exemplar."""
    exporter = export()
    run()
    assert exemplars(exporter) == []
    assert count(exporter) == 1


def test_a_trace_that_is_not_sampled_has_none(export: Export) -> None:
    """What OpenTelemetry does not keep is nothing to lead to."""
    exporter = export()
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    with tracer.start_as_current_span("request"):
        assert opentelemetry_exemplar() is None
        run()
    assert exemplars(exporter) == []
    assert count(exporter) == 1


def test_opentelemetry_is_not_loaded_for_it() -> None:
    """As long as the application does not use OpenTelemetry, nobody loads it."""
    code = (
        "import sys\n"
        "from hypertrace.metrics.exemplars import is_never, opentelemetry_exemplar\n"
        "print(is_never(opentelemetry_exemplar), opentelemetry_exemplar())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True None\n[]\n"


def test_opentelemetry_is_found_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there may be exemplars is known from what the application has imported."""
    assert not is_never(opentelemetry_exemplar)
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert is_never(opentelemetry_exemplar)
    assert opentelemetry_exemplar() is None


# --- any function -----------------------------------------------------------------------


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


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_function_may_have_none(export: Export, nothing: dict[str, str] | None) -> None:
    """None, or no labels, is no exemplar."""
    exporter = export(exemplar=lambda: nothing)
    run()
    assert exemplars(exporter) == []
    assert count(exporter) == 1
    assert swallowed_errors() == 0


def test_exemplars_can_be_switched_off(export: Export) -> None:
    """With None there are none, also inside a trace of OpenTelemetry."""
    exporter = export(exemplar=None)
    with TracerProvider().get_tracer("test").start_as_current_span("request"):
        run()
    assert exemplars(exporter) == []
    assert count(exporter) == 1


def _fail() -> dict[str, str]:
    raise RuntimeError("a mistake of the application")


@pytest.mark.parametrize(
    "function",
    [
        _fail,
        lambda: {"trace_id": "x" * 121},
        lambda: {"trace-id": "x"},
        lambda: {"": "x"},
        lambda: {"__trace_id": "x"},
        lambda: {"trace_id": "\ud800"},
        lambda: {"trace_id": Unprintable()},
        lambda: "trace_id",
        lambda: 7,
    ],
    ids=[
        "raises",
        "long",
        "bad name",
        "no name",
        "reserved name",
        "surrogate",
        "unprintable",
        "str",
        "int",
    ],
)
def test_a_bad_exemplar_is_swallowed(export: Export, function: Callable[[], Any]) -> None:
    """What is no exemplar is counted as an error of tracing; the span is counted all the same."""
    exporter = export(exemplar=function)
    for _ in range(3):
        run()
    assert exemplars(exporter) == []
    assert count(exporter) == 3
    assert swallowed_errors() == 3


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_the_longest_exemplar_is_taken(export: Export) -> None:
    """128 characters, names and values together, are allowed."""
    exporter = export(exemplar=lambda: {"trace_id": "x" * 120})
    run()
    assert [e.labels for e in exemplars(exporter)] == [{"trace_id": "x" * 120}]


def test_a_failed_span_has_its_exemplar(export: Export) -> None:
    """The slow and the failed are what one looks for: each result has exemplars of its own."""
    exporter = export(exemplar=lambda: {"trace_id": "a"})
    with Tracer("here").span() as span:
        span.fail()
    run()
    assert len(exemplars(exporter)) == 2


def test_beside_a_plain_function_there_are_exemplars(export: Export) -> None:
    """An exporter that gets events has exemplars, too."""
    exporter = export(exemplar=lambda: {"trace_id": "a"})
    set_trace_function(fan_out(exporter, lambda _: None))
    run()
    assert [e.labels for e in exemplars(exporter)] == [{"trace_id": "a"}]


@pytest.mark.parametrize("function", ["trace_id", {"trace_id": "a"}, 7])
def test_an_exemplar_that_is_no_function_is_refused(function: Any) -> None:
    """A mistake in the settings raises at once."""
    with pytest.raises(TypeError, match="exemplar must be a function without arguments or None"):
        PrometheusExporter(exemplar=function)


def test_what_is_checked_is_text() -> None:
    """Names and values are shown as their text."""
    assert checked({"n": 7}) == {"n": "7"}  # type: ignore[dict-item]
    assert checked(None) is None
    assert is_never(None)
    assert not is_never(dict)
