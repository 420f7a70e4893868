"""What an exporter shows to a registry of `prometheus_client`."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_text

import hypertrace
from hypertrace import Caller, Tracer, set_trace_function
from hypertrace_prometheus.collector import CounterFamily, ExporterCollector
from hypertrace_prometheus.series import CounterSeries

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)


def counted(name: str = "x_total", limit: int = 10, **counts: int) -> CounterSeries:
    series = CounterSeries(name, limit)
    for label, count in counts.items():
        for _ in range(count):
            series.cell({"name": label}, CALLER).increment()
    return series


def registry_of(series: CounterSeries) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ExporterCollector(series))
    return registry


def test_each_series_is_a_sample() -> None:
    """A family has one sample a series, with its labels and its count."""
    samples = CounterFamily(counted(a=2, b=1), "Help.").samples
    assert [(s.name, s.labels, s.value) for s in samples] == [
        ("x_total", {"name": "a"}, 2),
        ("x_total", {"name": "b"}, 1),
    ]


def test_labels_of_samples_are_as_they_were() -> None:
    """Escapes are for the text alone: a sample has the values themselves."""
    series = CounterSeries("x_total", 10)
    series.cell({"a": 'x\\n"\n', "b": "é}{,="}, CALLER).increment()
    (sample,) = CounterFamily(series, "Help.").samples
    assert sample.labels == {"a": 'x\\n"\n', "b": "é}{,="}


def test_samples_are_as_they_are_when_asked_for() -> None:
    """A family that was collected before shows what was counted since."""
    series = counted(a=1)
    family = CounterFamily(series, "Help.")
    series.cell({"name": "a"}, CALLER).increment()
    assert [sample.value for sample in family.samples] == [2]


def test_the_overflow_is_a_sample_once_it_is_used() -> None:
    """Updates past the limit are shown under the class `<overflow>`, and not before there are."""
    assert len(CounterFamily(counted(limit=1, a=1), "Help.").samples) == 1
    samples = CounterFamily(counted(limit=1, a=1, b=2, c=1), "Help.").samples
    assert samples[-1].labels == {"object_classname": "<overflow>"}
    assert samples[-1].value == 3


@pytest.mark.parametrize(
    ("counter_name", "openmetrics", "lines"),
    [
        ("x_total", False, ["# HELP x_total Help.", "# TYPE x_total counter"]),
        ("x_total", True, ["# HELP x Help.", "# TYPE x counter"]),
        ("x", False, ["# HELP x Help.", "# TYPE x counter"]),
        ("x", True, ["# HELP x Help.", "# TYPE x unknown"]),
    ],
)
def test_the_text_keeps_the_name(counter_name: str, openmetrics: bool, lines: list[str]) -> None:
    """The lines have the counter's exact name; the head is what the format wants for it."""
    text = CounterFamily(counted(counter_name, a=2), "Help.").text(openmetrics=openmetrics)
    assert text.splitlines() == [*lines, f'{counter_name}{{name="a"}} 2']


def test_a_series_without_labels_can_be_read() -> None:
    """The text of a series that has no label at all is still a line of the format."""
    series = CounterSeries("x_total", 10)
    series.cell({}, CALLER).increment()
    (family,) = parse_text(CounterFamily(series, "Help.").text(openmetrics=False))
    assert [(s.name, s.labels, s.value) for s in family.samples] == [("x_total", {}, 1)]


def test_a_registry_can_be_restricted_to_the_counter() -> None:
    """Asked for one name, a registry gives that family alone."""
    page = generate_latest(registry_of(counted(a=2)).restricted_registry(["x_total"])).decode()
    assert [line for line in page.splitlines() if line[0] != "#"] == ['x_total{name="a"} 2.0']


@pytest.mark.parametrize("name", ["x_total", "x"])
def test_a_registry_refuses_the_same_names_twice(name: str) -> None:
    """The collector describes itself, so that a registry knows its names."""
    registry = registry_of(counted(name))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(ExporterCollector(counted(name)))


def _health(series: CounterSeries) -> dict[str, Sample]:
    samples = [s for family in registry_of(series).collect() for s in family.samples]
    return {sample.name: sample for sample in samples if sample.name.startswith("hypertrace_")}


def test_the_health_metrics_tell_of_the_series() -> None:
    """Series held, their limit and what went past it are shown, of each metric."""
    health = _health(counted(limit=2, a=1, b=1, c=3))
    of_metric = {"metric": "x_total"}
    assert (health["hypertrace_series"].labels, health["hypertrace_series"].value) == (of_metric, 2)
    limit = health["hypertrace_series_limit"]
    assert (limit.labels, limit.value) == (of_metric, 2)
    overflowed = health["hypertrace_overflowed_updates_total"]
    assert (overflowed.labels, overflowed.value) == (of_metric, 3)


def test_the_health_metrics_tell_of_swallowed_errors() -> None:
    """Errors of trace functions are counted, whoever raised them."""
    assert _health(counted())["hypertrace_swallowed_errors_total"].value == 0

    def fail(_: object) -> None:
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fail)
    tracer = Tracer("here")
    for _ in range(3):
        tracer.trace()
    assert _health(counted())["hypertrace_swallowed_errors_total"].value == 3


def test_the_health_metrics_tell_the_versions() -> None:
    """The version of hypertrace and the Python it runs on are labels of an info metric."""
    info = _health(counted())["hypertrace_build_info"]
    assert info.value == 1
    assert info.labels == {
        "version": hypertrace.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
    }
