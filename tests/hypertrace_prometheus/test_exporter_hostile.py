"""Hostile values, names and classes on the page, as the parsers of both formats read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.metrics.labels import Labeller
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.render import render

from ..hostile_values import VALUES, GivesHostileStr
from .pages import parse_openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.samples import Sample


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    """Give an exporter that counts, with one allowed prop."""
    with PrometheusExporter(collect_defaults=False, allowed_props=["topic"]) as exporter:
        set_trace_function(exporter)
        yield exporter


def read(exporter: PrometheusExporter) -> list[list[Sample]]:
    """Give the samples of a page, as the parsers of both formats read them."""
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    families = (
        parse_text(exporter.metrics()),
        parse_openmetrics(openmetrics),
    )
    return [[sample for family in page for sample in family.samples] for page in families]


def pages(exporter: PrometheusExporter, name: str) -> list[list[dict[str, str]]]:
    """Give the labels of the samples of a name, in both formats."""
    return [[s.labels for s in page if s.name == name] for page in read(exporter)]


# By name: what fails shows its arguments, and these cannot be shown.
@pytest.mark.parametrize("which", VALUES)
def test_a_hostile_value_is_shown_as_well_as_it_can_be(
    exporter: PrometheusExporter, which: str
) -> None:
    """As a prop in any place and as an id it is counted, and both parsers read it back."""
    value, text = VALUES[which]
    tracer = Tracer("place", {"topic": value}, parent=Tracer("parent", {"topic": value}))
    for _ in range(2):
        tracer.trace(value, topic=value)
        with tracer.span(value, {"topic": value}):
            pass
    names = ("object_props_topic", "parent_object_props_topic", "caller_props_topic", "id")
    for name in ("function_counter_total", "function_duration_seconds_count"):
        for (labels,) in pages(exporter, name):
            assert [labels[name] for name in names] == [text] * 4


# Those that mean something to a format or a parser, and some that do not.
_CHARACTERS = '"\\\n\r\0 {}=,#<>ab1é…\x7f\x85\u2028\ud800\udfff😀'
_texts = st.lists(st.sampled_from(_CHARACTERS), max_size=12).map("".join)


def _exception(name: str) -> type[Exception]:
    return type(name, (Exception,), {})


@settings(deadline=None, max_examples=25)
@given(_texts, _texts, _texts, _texts, st.binary(max_size=20), _texts)
def test_whatever_is_traced_is_read_back(
    class_name: str, function: str, trace_id: str, prop: str, binary: bytes, exception: str
) -> None:
    """Classes, functions, ids, props and exceptions of any name come back from both parsers."""
    exporter = PrometheusExporter(collect_defaults=False, allowed_props=["topic"])
    text = Labeller({}, 256, object_ids=False).text
    caller = Caller(function, "/srv/app.py", "app", 1, 1, {"topic": prop})
    traced = TracedObject(class_name, 1, {"topic": binary})
    parent = TracedObject(prop, 1, {"topic": class_name})
    exporter(TraceEvent(trace_id, traced, parent, caller))
    try:
        kind = _exception(exception)
    except (ValueError, UnicodeEncodeError):  # no name that Python takes
        kind = KeyError
    exporter(SpanEvent(trace_id, traced, parent, caller, 0.5, "error", kind))
    labels = {
        "object_classname": text(class_name),
        "object_props_topic": text(binary),
        "parent_object_classname": text(prop),
        "parent_object_props_topic": text(class_name),
        "caller_functionname": text(function),
        "caller_filename": "app.py",
        "caller_props_topic": text(prop),
        "id": text(trace_id),
    }
    for page in read(exporter):
        for name, more in (
            ("function_counter_total", {}),
            ("function_duration_seconds_count", {"result": "error"}),
            ("function_exceptions_total", {"exception": text(kind.__name__), "raised": "here"}),
        ):
            expected = {name: value for name, value in (labels | more).items() if value}
            assert [sample.labels for sample in page if sample.name == name] == [expected]


# prometheus_client's parser of OpenMetrics cannot read a quote in an exemplar, and an exemplar with
# a NUL is refused.
_exemplar_texts = st.text(list(set(_CHARACTERS) - set('"\0\ud800\udfff')), max_size=30)


@settings(deadline=None, max_examples=25)
@given(_exemplar_texts)
def test_exemplars_are_read_back(value: str) -> None:
    """The labels of an exemplar come back from the parser of OpenMetrics."""
    exporter = PrometheusExporter(collect_defaults=False, exemplar=lambda: {"trace_id": value})
    caller = Caller("f", "/srv/app.py", "app", 1, 1)
    exporter(SpanEvent(None, TracedObject("A", 1), None, caller, 0.5))
    page = render(exporter.registry, openmetrics=True).decode()
    families = parse_openmetrics(page)
    found = [s.exemplar.labels for f in families for s in f.samples if s.exemplar]
    assert found == [{"trace_id": value} if value else {}]


def test_an_exemplar_of_a_hostile_text_is_shown() -> None:
    """What an object gives as its text is shown as plain text."""
    value: Any = GivesHostileStr()
    exporter = PrometheusExporter(collect_defaults=False, exemplar=lambda: {"user": value})
    caller = Caller("f", "/srv/app.py", "app", 1, 1)
    exporter(SpanEvent(None, TracedObject("A", 1), None, caller, 0.5))
    page = render(exporter.registry, openmetrics=True).decode()
    assert '# {user="of \\"its\\" own"} 0.5 ' in page


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0, None, "soon", 1j], ids=repr)
def test_an_event_with_an_odd_duration_poisons_no_series(duration: Any) -> None:
    """It is counted as a span of no length; sum and buckets stay what they were otherwise."""
    with PrometheusExporter(
        collect_defaults=False, buckets=[1], exemplar=lambda: {"n": "1"}
    ) as exporter:
        caller = Caller("f", "/srv/app.py", "app", 1, 1)
        for seconds in (0.5, duration, 2.0):
            exporter(SpanEvent(None, TracedObject("A", 1), None, caller, seconds))
        page = render(exporter.registry, openmetrics=True).decode()
        families = parse_openmetrics(page)
        (family,) = [f for f in families if f.name == "function_duration_seconds"]
        assert [sample.value for sample in family.samples] == [2, 3, 3, 2.5]
        assert all(s.exemplar.value >= 0 for s in family.samples if s.exemplar)
        assert exporter.metrics().count("function_in_progress{") == 1
