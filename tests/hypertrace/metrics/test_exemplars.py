"""Exemplars: what leads from a bucket of a histogram to the trace of a span in it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from hypertrace import Tracer, fan_out, set_trace_function, swallowed_errors
from hypertrace.metrics import HistogramReading, Metrics
from hypertrace.metrics.exemplars import checked, is_never, opentelemetry_exemplar

from .readings import COUNT, DURATIONS, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Exemplar

    from .conftest import Count


def exemplars(metrics: Metrics) -> list[Exemplar]:
    """Give all exemplars of one reading."""
    points = list(metrics.read().family(DURATIONS).points)
    return [
        exemplar
        for point in points
        if isinstance(point.value, HistogramReading)
        for exemplar in point.value.exemplars.values()
    ]


def run() -> None:
    with Tracer("here").span():
        pass


# --- OpenTelemetry ----------------------------------------------------------------------


def test_a_span_inside_a_trace_of_opentelemetry_has_its_ids(
    count: Count, traces: TracerProvider
) -> None:
    """By default a span that ends inside a sampled span of OpenTelemetry is its exemplar."""
    metrics = count()
    with traces.get_tracer("test").start_as_current_span("request") as span:
        run()
    (exemplar,) = exemplars(metrics)
    context = span.get_span_context()
    assert exemplar.labels == {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
    assert 0 < exemplar.value < 1
    assert exemplar.timestamp


def test_a_span_outside_of_any_trace_has_none(count: Count, traces: TracerProvider) -> None:
    """OpenTelemetry may be in use: without a current span there is no exemplar."""
    metrics = count()
    run()
    assert exemplars(metrics) == []
    assert values(metrics, COUNT, "result") == {("ok",): 1}


def test_a_trace_that_is_not_sampled_has_none(count: Count, traces: TracerProvider) -> None:
    """What OpenTelemetry does not keep is nothing to lead to."""
    metrics = count()
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    with tracer.start_as_current_span("request"):
        assert opentelemetry_exemplar() is None
        run()
    assert exemplars(metrics) == []
    assert values(metrics, COUNT, "result") == {("ok",): 1}


def test_opentelemetry_is_not_loaded_for_it() -> None:
    """As long as the application does not use OpenTelemetry, it is not loaded."""
    code = (
        "import sys\n"
        "from hypertrace.metrics.exemplars import is_never, opentelemetry_exemplar\n"
        "print(is_never(opentelemetry_exemplar), opentelemetry_exemplar())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True None\n[]\n"


def test_opentelemetry_is_found_once_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, traces: TracerProvider
) -> None:
    """Whether there may be exemplars is known from what the application has imported."""
    assert not is_never(opentelemetry_exemplar)
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert is_never(opentelemetry_exemplar)
    assert opentelemetry_exemplar() is None


def test_opentelemetry_is_not_asked_before_it_has_a_tracer_provider() -> None:
    """Many libraries load it: spans cost what they cost without it until there can be traces."""
    code = (
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from hypertrace.metrics.exemplars import is_never, opentelemetry_exemplar\n"
        "print(is_never(opentelemetry_exemplar), opentelemetry_exemplar())\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "print(is_never(opentelemetry_exemplar))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True None\nFalse\n"


# --- any function -----------------------------------------------------------------------


def test_any_function_can_name_the_exemplar(count: Count) -> None:
    """What the function returns is on the bucket of the span, the last of each."""
    numbers = iter(range(10))
    metrics = count(exemplar=lambda: {"trace_id": f"t-{next(numbers)}"})
    run()
    run()
    (exemplar,) = exemplars(metrics)
    assert exemplar.labels == {"trace_id": "t-1"}


def test_values_of_exemplars_are_text(count: Count) -> None:
    """A value comes as it is, a number as its text; escapes are for the pages."""
    metrics = count(exemplar=lambda: {"user": 'a\\b\nc"', "n": 7})
    run()
    assert [e.labels for e in exemplars(metrics)] == [{"user": 'a\\b\nc"', "n": "7"}]


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_function_may_have_none(count: Count, nothing: dict[str, str] | None) -> None:
    """None, or no labels, is no exemplar."""
    metrics = count(exemplar=lambda: nothing)
    run()
    assert exemplars(metrics) == []
    assert values(metrics, COUNT, "result") == {("ok",): 1}
    assert swallowed_errors() == 0


def test_exemplars_can_be_switched_off(count: Count, traces: TracerProvider) -> None:
    """With None there are none, also inside a trace of OpenTelemetry."""
    metrics = count(exemplar=None)
    with traces.get_tracer("test").start_as_current_span("request"):
        run()
    assert exemplars(metrics) == []
    assert values(metrics, COUNT, "result") == {("ok",): 1}


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
        lambda: {"trace_id": "a\0b"},
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
        "NUL",
        "unprintable",
        "str",
        "int",
    ],
)
def test_a_bad_exemplar_is_swallowed(count: Count, function: Callable[[], Any]) -> None:
    """What is no exemplar is counted as an error of tracing; the span is counted all the same."""
    metrics = count(exemplar=function)
    for _ in range(3):
        run()
    assert exemplars(metrics) == []
    assert values(metrics, COUNT, "result") == {("ok",): 3}
    assert swallowed_errors() == 3


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_the_longest_exemplar_is_taken(count: Count) -> None:
    """128 characters, names and values together, are allowed."""
    metrics = count(exemplar=lambda: {"trace_id": "x" * 120})
    run()
    assert [e.labels for e in exemplars(metrics)] == [{"trace_id": "x" * 120}]


def test_a_failed_span_has_its_exemplar(count: Count) -> None:
    """The slow and the failed are what one looks for: each result has its own exemplars."""
    metrics = count(exemplar=lambda: {"trace_id": "a"})
    with Tracer("here").span() as span:
        span.fail()
    run()
    assert len(exemplars(metrics)) == 2


def test_beside_a_plain_function_there_are_exemplars(count: Count) -> None:
    """`Metrics` that get events have exemplars, too."""
    metrics = count(exemplar=lambda: {"trace_id": "a"})
    set_trace_function(fan_out(metrics, lambda _: None))
    run()
    assert [e.labels for e in exemplars(metrics)] == [{"trace_id": "a"}]


@pytest.mark.parametrize("function", ["trace_id", {"trace_id": "a"}, 7])
def test_an_exemplar_that_is_no_function_is_refused(function: Any) -> None:
    """A mistake in the settings raises at once."""
    with pytest.raises(TypeError, match="exemplar must be a function without arguments or None"):
        Metrics(exemplar=function)


def test_what_is_checked_is_text() -> None:
    """Names and values are shown as their text."""
    assert checked({"n": 7}) == {"n": "7"}  # type: ignore[dict-item]
    assert checked(None) is None
    assert is_never(None)
    assert not is_never(dict)
