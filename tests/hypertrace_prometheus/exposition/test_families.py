"""Families of hypertrace as `prometheus_client` takes them, and as text."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace.metrics import (
    Declaration,
    ExponentialReading,
    Family,
    HistogramReading,
    SummaryReading,
)
from hypertrace.metrics.aggregations import Histogram
from hypertrace.metrics.reading import Exemplar
from hypertrace.metrics.series import Series
from hypertrace_prometheus.exposition.families import FamilyMetric
from hypertrace_prometheus.exposition.label_texts import TextCache

from ..pages import parse_openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics.declarations import Kind


def declared(name: str = "x_total", kind: Kind = "counter") -> Declaration:
    return Declaration(kind, name, description="Help.")


def family(
    *values: tuple[tuple[str, ...], Any],
    names: tuple[str, ...] = ("name",),
    name: str = "x_total",
    kind: Kind = "counter",
) -> Family:
    """Give a family of some series: label values, and a value."""
    series = [Series((labels, ())) for labels, _ in values]
    return Family(declared(name, kind), names, series, [value for _, value in values])


def metric(one: Family) -> FamilyMetric:
    return FamilyMetric(one.declaration, lambda: one, TextCache())


def timed(*seconds: float, values: tuple[str, ...] = ("a",)) -> Histogram:
    """Give a histogram of what took so long."""
    histogram = Histogram((values, ("ok",)), (0.1, 1.0))
    for each in seconds:
        histogram.add(each)
    return histogram


def durations(*histograms: Histogram) -> FamilyMetric:
    names = (*(("name",) * len(histograms[0].key[0])), "result")
    values = [histogram.value for histogram in histograms]
    return metric(Family(declared("t_seconds", "histogram"), names, histograms, values))


def test_each_series_is_a_sample() -> None:
    """The samples have the labels themselves: escapes are for the text alone."""
    shown = metric(family((('x\\n"\n', "é}{,="), 2), names=("a", "b")))
    (sample,) = shown.samples
    assert sample[:3] == ("x_total", {"a": 'x\\n"\n', "b": "é}{,="}, 2)


def test_a_label_without_value_is_left_out() -> None:
    """Empty text stands for no value, in the samples and in the text."""
    shown = metric(family((("", "2"), 1), (("", ""), 3), names=("a", "b")))
    assert [(s.labels, s.value) for s in shown.samples] == [({"b": "2"}, 1), ({}, 3)]
    assert shown.text(openmetrics=False).splitlines()[2:] == ['x_total{b="2"} 1', "x_total{} 3"]


def test_samples_and_text_are_as_they_are_when_asked_for() -> None:
    """A family that was collected before shows what its reader reads then."""
    read = [family((("a",), 1))]
    counted = FamilyMetric(declared(), lambda: read[0], TextCache())
    assert [sample.value for sample in counted.samples] == [1]
    read[0] = family((("a",), 2))
    assert [sample.value for sample in counted.samples] == [2]
    assert counted.text(openmetrics=False).endswith('x_total{name="a"} 2\n')


@pytest.mark.parametrize(
    ("name", "openmetrics", "lines"),
    [
        ("x_total", False, ["# HELP x_total Help.", "# TYPE x_total counter"]),
        ("x_total", True, ["# HELP x Help.", "# TYPE x counter"]),
        ("x", False, ["# HELP x Help.", "# TYPE x counter"]),
        ("x", True, ["# HELP x Help.", "# TYPE x unknown"]),
    ],
)
def test_the_text_of_a_counter_keeps_its_name(
    name: str, openmetrics: bool, lines: list[str]
) -> None:
    """The lines have the counter's exact name; the head is what the format wants for it."""
    text = metric(family((("a",), 2), name=name)).text(openmetrics=openmetrics)
    assert text.splitlines() == [*lines, f'{name}{{name="a"}} 2']


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_of_a_gauge_keeps_its_name(openmetrics: bool) -> None:
    """A gauge is a gauge in both formats; without any label it has no braces."""
    shown = metric(family(((), 0), names=(), name="x", kind="gauge"))
    assert shown.text(openmetrics=openmetrics) == "# HELP x Help.\n# TYPE x gauge\nx 0\n"


@pytest.mark.parametrize(
    ("openmetrics", "head"),
    [
        (False, "# HELP x_info Help.\n# TYPE x_info gauge\n"),
        (True, "# HELP x Help.\n# TYPE x info\n"),
    ],
)
def test_an_info_is_a_gauge_of_one_in_text_format(openmetrics: bool, head: str) -> None:
    """Text format 0.0.4 has no infos; OpenMetrics has, named without the suffix."""
    shown = metric(family((("1.0",), 1), names=("version",), name="x_info", kind="info"))
    assert shown.text(openmetrics=openmetrics) == head + 'x_info{version="1.0"} 1\n'
    assert [(s.name, s.labels, s.value) for s in shown.samples] == [
        ("x_info", {"version": "1.0"}, 1)
    ]


def test_a_series_without_labels_can_be_read() -> None:
    """The text of a series none of whose labels has a value is still a line of the format."""
    (read,) = parse_text(metric(family((("",), 1))).text(openmetrics=False))
    assert [(s.name, s.labels, s.value) for s in read.samples] == [("x_total", {}, 1)]


def test_a_histogram_is_cumulative() -> None:
    """Each bucket holds all that is not above its bound, the bound itself among them."""
    shown = durations(timed(0.05, 0.1, 0.5, 3.0))
    labels = {"name": "a", "result": "ok"}
    assert [(s.name, s.labels, s.value) for s in shown.samples] == [
        ("t_seconds_bucket", labels | {"le": "0.1"}, 2),
        ("t_seconds_bucket", labels | {"le": "1.0"}, 3),
        ("t_seconds_bucket", labels | {"le": "+Inf"}, 4),
        ("t_seconds_count", labels, 4),
        ("t_seconds_sum", labels, 3.65),
    ]
    assert shown.text(openmetrics=False).splitlines()[2:] == [
        't_seconds_bucket{name="a",result="ok",le="0.1"} 2',
        't_seconds_bucket{name="a",result="ok",le="1.0"} 3',
        't_seconds_bucket{name="a",result="ok",le="+Inf"} 4',
        't_seconds_count{name="a",result="ok"} 4',
        't_seconds_sum{name="a",result="ok"} 3.65',
    ]


def test_histograms_of_different_bounds_share_a_family() -> None:
    """Each has buckets with its bounds."""
    other = Histogram((("b",), ("ok",)), (5.0,))
    other.add(0.5)
    lines = durations(timed(0.5), other).text(openmetrics=False).splitlines()
    assert [line for line in lines if "_bucket" in line] == [
        't_seconds_bucket{name="a",result="ok",le="0.1"} 0',
        't_seconds_bucket{name="a",result="ok",le="1.0"} 1',
        't_seconds_bucket{name="a",result="ok",le="+Inf"} 1',
        't_seconds_bucket{name="b",result="ok",le="5.0"} 1',
        't_seconds_bucket{name="b",result="ok",le="+Inf"} 1',
    ]


@pytest.mark.parametrize("value", ['a"\\\n', ""], ids=["awkward", "none"])
def test_the_text_of_a_histogram_can_be_read(value: str) -> None:
    """Both formats are read back by their parsers, with the labels as they were."""
    shown = durations(timed(0.5, 0.7, values=(value,)))
    openmetrics = shown.text(openmetrics=True) + "# EOF\n"
    for (read,) in (parse_text(shown.text(openmetrics=False)), parse_openmetrics(openmetrics)):
        assert read.type == "histogram"
        assert [(s.name, s.labels, s.value) for s in read.samples] == [
            (s.name, s.labels, s.value) for s in shown.samples
        ]
        assert read.samples[-2].labels == ({"name": value} if value else {}) | {"result": "ok"}


def test_exemplars_are_shown_in_openmetrics_alone() -> None:
    """An exemplar stands behind its bucket in OpenMetrics, and is a part of the sample."""
    histogram = timed(0.5)
    histogram.remember(0.5, {"trace_id": 'q"'})
    shown = durations(histogram)
    assert "trace_id" not in shown.text(openmetrics=False)
    (line,) = [line for line in shown.text(openmetrics=True).splitlines() if "trace_id" in line]
    bucket, exemplar = line.split(" # ")
    assert bucket == 't_seconds_bucket{name="a",result="ok",le="1.0"} 1'
    assert exemplar.startswith('{trace_id="q\\""} 0.5 ')
    with_exemplar = [(s.labels["le"], s.exemplar) for s in shown.samples if s.exemplar]
    ((bound, found),) = with_exemplar
    assert (bound, found.labels, found.value) == ("1.0", {"trace_id": 'q"'}, 0.5)


def test_an_exemplar_without_labels_can_be_read() -> None:
    """An exemplar whose label has no value is still one of the format."""
    histogram = timed(7.0, values=())
    value = replace(histogram.value, exemplars={2: Exemplar({"trace_id": ""}, 0.5, 1.25)})
    shown = metric(Family(declared("t", "histogram"), ("result",), [histogram], [value]))
    lines = shown.text(openmetrics=True).splitlines()
    assert 't_bucket{result="ok",le="+Inf"} 1 # {} 0.5 1.250' in lines


@pytest.mark.parametrize(
    ("name", "kind", "names"),
    [
        ("x_total", "counter", {"x_total"}),
        ("x", "counter", {"x"}),
        ("x", "gauge", {"x"}),
        ("x_info", "info", {"x_info"}),
        ("x", "histogram", {"x_bucket", "x_count", "x_sum"}),
        ("x", "summary", {"x", "x_count", "x_sum"}),
    ],
)
def test_a_family_knows_the_names_of_its_samples(name: str, kind: Kind, names: set[str]) -> None:
    """They are known without making a sample."""
    fail: Callable[[], Family] = dict[str, Family]().popitem  # type: ignore[assignment]
    assert FamilyMetric(declared(name, kind), fail, TextCache()).names == names


def test_a_histogram_knows_the_names_of_its_samples() -> None:
    """They are those that its samples, and its lines, have."""
    shown = durations(timed(0.5))
    assert shown.names == {sample.name for sample in shown.samples}
    assert shown.names == {line.split("{")[0] for line in shown.lines(openmetrics=False)}


# --- summaries and exponential buckets --------------------------------------------------


@pytest.mark.parametrize("names", [(), ("name",)])
def test_a_summary_is_shown_with_its_quantiles(names: tuple[str, ...]) -> None:
    """Text and samples have a series for each quantile, and count and sum."""
    reading = SummaryReading(4, 10.5, {0.5: 2.0, 0.99: math.nan}, {})
    labels = ("a",) * len(names)
    shown = metric(family((labels, reading), names=names, name="x", kind="summary"))
    ours = '{name="a"}' if names else ""
    start = '{name="a",' if names else "{"
    assert shown.lines(openmetrics=False) == [
        f'x{start}quantile="0.5"}} 2.0\n',
        f'x{start}quantile="0.99"}} NaN\n',
        f"x_count{ours} 4\n",
        f"x_sum{ours} 10.5\n",
    ]
    (parsed,) = parse_text(shown.text(openmetrics=False))
    assert repr(parsed.samples) == repr(shown.samples)
    (openmetrics,) = parse_openmetrics(shown.text(openmetrics=True) + "# EOF\n")
    assert repr(openmetrics.samples) == repr(shown.samples)


def test_exponential_buckets_are_shown_as_powers_of_two() -> None:
    """Text has no exponential buckets: it has classic ones with the same values."""
    reading = ExponentialReading(0, 0.5, 0, {0: 3, 2: 1}, {}, 6.0, {})
    shown = metric(family((("a",), reading), name="x", kind="histogram"))
    assert shown.lines(openmetrics=False) == [
        'x_bucket{name="a",le="1.0"} 3\n',
        'x_bucket{name="a",le="2.0"} 3\n',
        'x_bucket{name="a",le="4.0"} 4\n',
        'x_bucket{name="a",le="+Inf"} 4\n',
        'x_count{name="a"} 4\n',
        'x_sum{name="a"} 6.0\n',
    ]
    (parsed,) = parse_text(shown.text(openmetrics=False))
    assert parsed.samples == shown.samples


def test_a_histogram_without_labels_can_be_read() -> None:
    """The bound is then the only label of a bucket."""
    reading = HistogramReading((0.5,), (1, 2), 3.5, {})
    shown = metric(family(((), reading), names=(), name="x", kind="histogram"))
    for openmetrics, parse in ((False, parse_text), (True, parse_openmetrics)):
        end = "# EOF\n" if openmetrics else ""
        (parsed,) = parse(shown.text(openmetrics=openmetrics) + end)
        assert [s.labels for s in parsed.samples] == [{"le": "0.5"}, {"le": "+Inf"}, {}, {}]
