"""Metrics page, as other programs than Prometheus judge it."""

import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

ACCEPT_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
AWKWARD = ("plain", 'a "quoted" one', "back\\slash", "two\nlines", "ünïcödé", "", "\\n", "}{ ,=")


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    """Give an exporter with a server that has counted, with awkward values among the props."""
    registry = CollectorRegistry()
    Counter("own", "Counted by the application itself.", registry=registry).inc(3)
    with PrometheusExporter(
        0,
        registry=registry,
        allowed_props=["topic", "step"],
        upstream=True,
        labels={"service.name": "shop", "note": AWKWARD[1]},
    ) as exporter:
        set_trace_function(exporter)
        for times, topic in enumerate(AWKWARD, start=1):
            parent = Tracer("Parent", {"topic": topic})
            tracer = Tracer("Child", {"topic": topic}, parent=parent)
            for step in range(times):
                tracer.trace("step", step=step)
                tracer.trace()
            with parent.span(), suppress(KeyError), tracer.span(step=topic):
                raise KeyError(topic)
        yield exporter


def _fetch(exporter: PrometheusExporter, accept: str = "*/*") -> str:
    assert exporter.url
    request = urllib.request.Request(exporter.url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _samples(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples that do not change: all but those of the process and the runtime."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith(("process_", "python_"))
    }


def test_promtool_finds_only_the_word_counter(
    exporter: PrometheusExporter, component: Callable[[str], str]
) -> None:
    """The page is flawless but for "counter" in `function_counter`, a name that is kept.

    It is the name that dashboards made for the JavaScript exporter ask for.
    """
    run = subprocess.run(
        [component("promtool"), "check", "metrics"],
        input=_fetch(exporter),
        capture_output=True,
        text=True,
        check=False,
    )
    findings = (run.stdout + run.stderr).splitlines()
    assert findings == ["function_counter_total metric name should not include type 'counter'"]


def test_all_ways_to_read_the_page_agree(exporter: PrometheusExporter) -> None:
    """Text, OpenMetrics and `prometheus_client`'s own rendering have the same numbers."""
    text = _samples(parse_text(_fetch(exporter)))
    openmetrics = parse_openmetrics(  # type: ignore[no-untyped-call]
        _fetch(exporter, ACCEPT_OPENMETRICS)
    )
    assert _samples(openmetrics) == text
    assert _samples(parse_text(generate_latest(exporter.registry).decode())) == text
    assert _samples(parse_text(exporter.metrics())) == text
    assert _samples(exporter.registry.collect()) == text
    assert text["own_total", ()] == 3


def test_awkward_values_come_back_as_they_were(exporter: PrometheusExporter) -> None:
    """Each prop's value is read back as it was traced; an empty one is no label at all."""
    found = _samples(parse_text(_fetch(exporter)))
    samples = [(name, dict(labels), value) for (name, labels), value in found.items()]
    counted = {
        labels.get("object_props_topic", ""): value
        for name, labels, value in samples
        if name == "function_counter_total"
        and labels["caller_functionname"] == "exporter"
        and labels["object_classname"] == "Child"
        and not {"id", "caller_props_step"} & set(labels)
    }
    # The span of the empty value has no step, and is counted with the calls.
    expected = {topic: times + (not topic) for times, topic in enumerate(AWKWARD, start=1)}
    assert counted == expected
    failed = {
        (labels.get("object_props_topic", ""), labels.get("caller_props_step", ""))
        for name, labels, _ in samples
        if name == "function_exceptions_total"
    }
    assert failed == {(topic, topic) for topic in AWKWARD}
