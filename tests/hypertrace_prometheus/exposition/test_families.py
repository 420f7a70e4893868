"""Metric families whose text is written from label texts that were rendered before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Caller
from hypertrace.metrics.aggregations import Exemplar, Timings
from hypertrace.metrics.labels import render
from hypertrace.metrics.series import SeriesTable
from hypertrace_prometheus.exposition.families import Row, SeriesFamily, histogram_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)


def row(name: str, labels: str, value: float, exemplar: Exemplar | None = None) -> Row:
    return name, labels, value, exemplar


def family(*rows: Row, name: str = "x_total", kind: str = "counter") -> SeriesFamily:
    return SeriesFamily(name, kind, "Help.", lambda: rows)


def timed(*seconds: float, labels: dict[str, str] | None = None) -> SeriesTable[Timings]:
    """Give a table with one series that took so long."""
    table = SeriesTable("t_seconds", 10, lambda _: Timings((0.1, 1.0)))
    timings = table.get({"name": "a"} if labels is None else labels, CALLER)
    for each in seconds:
        timings.end("ok", each)
    return table


def histogram(table: SeriesTable[Timings]) -> SeriesFamily:
    return SeriesFamily(
        "t_seconds", "histogram", "Help.", lambda: histogram_rows(table, "t_seconds")
    )


def test_each_row_is_a_sample() -> None:
    """The samples have the labels themselves: escapes are for the text alone."""
    text = render({"a": 'x\\n"\n', "b": "é}{,="})
    (sample,) = family(row("x_total", text, 2)).samples
    assert sample[:3] == ("x_total", {"a": 'x\\n"\n', "b": "é}{,="}, 2)


def test_samples_and_text_are_as_they_are_when_asked_for() -> None:
    """A family that was collected before shows what was counted since."""
    rows = [row("x_total", 'name="a"', 1)]
    counted = SeriesFamily("x_total", "counter", "Help.", lambda: rows)
    assert [sample.value for sample in counted.samples] == [1]
    rows[0] = row("x_total", 'name="a"', 2)
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
    text = family(row(name, 'name="a"', 2), name=name).text(openmetrics=openmetrics)
    assert text.splitlines() == [*lines, f'{name}{{name="a"}} 2']


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_of_a_gauge_keeps_its_name(openmetrics: bool) -> None:
    """A gauge is a gauge in both formats."""
    text = family(row("x", "", 0), name="x", kind="gauge").text(openmetrics=openmetrics)
    assert text == "# HELP x Help.\n# TYPE x gauge\nx{} 0\n"


def test_a_row_without_labels_can_be_read() -> None:
    """The text of a series that has no label at all is still a line of the format."""
    (read,) = parse_text(family(row("x_total", "", 1)).text(openmetrics=False))
    assert [(s.name, s.labels, s.value) for s in read.samples] == [("x_total", {}, 1)]


def test_a_histogram_is_cumulative() -> None:
    """Each bucket holds all that is not above its bound, the bound itself among them."""
    rows = [row[:3] for row in histogram_rows(timed(0.05, 0.1, 0.5, 3.0), "t_seconds")]
    assert rows == [
        ("t_seconds_bucket", 'name="a",result="ok",le="0.1"', 2),
        ("t_seconds_bucket", 'name="a",result="ok",le="1.0"', 3),
        ("t_seconds_bucket", 'name="a",result="ok",le="+Inf"', 4),
        ("t_seconds_count", 'name="a",result="ok"', 4),
        ("t_seconds_sum", 'name="a",result="ok"', 3.65),
    ]


def test_each_result_has_a_histogram() -> None:
    """A result is shown from its first span on."""
    table = timed()
    assert list(histogram_rows(table, "t")) == []
    for timings in (table.get({"name": "a"}, CALLER), table.overflow):
        timings.end("error", 0.5)
    counts = [row[1:3] for row in histogram_rows(table, "t") if row[0] == "t_count"]
    assert counts == [
        ('name="a",result="error"', 1),
        ('object_classname="<overflow>",result="error"', 1),
    ]


@pytest.mark.parametrize("labels", [{"name": 'a"\\\n'}, {}], ids=["awkward", "none"])
def test_the_text_of_a_histogram_can_be_read(labels: dict[str, str]) -> None:
    """Both formats are read back by their parsers, with the labels as they were."""
    shown = histogram(timed(0.5, 0.7, labels=labels))
    openmetrics = shown.text(openmetrics=True) + "# EOF\n"
    for (read,) in (
        parse_text(shown.text(openmetrics=False)),
        openmetrics_parser.text_string_to_metric_families(openmetrics),  # type: ignore[no-untyped-call]
    ):
        assert read.type == "histogram"
        assert [(s.name, s.labels, s.value) for s in read.samples] == [
            (s.name, s.labels, s.value) for s in shown.samples
        ]
        assert read.samples[-2].labels == labels | {"result": "ok"}


def test_exemplars_are_shown_in_openmetrics_alone() -> None:
    """An exemplar stands behind its bucket in OpenMetrics, and is a part of the sample."""
    table = timed(0.5)
    table.get({"name": "a"}, CALLER).remember("ok", 0.5, {"trace_id": 'q"'})
    shown = histogram(table)
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
    line = row("t_bucket", 'le="+Inf"', 1, Exemplar({"trace_id": ""}, 0.5, 1.25))
    text = family(line, name="t", kind="histogram").text(openmetrics=True)
    assert text.endswith('t_bucket{le="+Inf"} 1 # {} 0.5 1.250\n')


def test_a_family_can_be_restricted_to_names() -> None:
    """Only rows of those names are left, and none is made where no name can be among them."""
    made = []

    def rows() -> Iterator[Row]:
        made.append(True)
        yield "x_sum", "", 1, None
        yield "x_count", "", 2, None

    of_two = SeriesFamily("x", "histogram", "Help.", rows)
    lines = of_two.restricted({"x_sum", "y"}).lines(openmetrics=False)
    assert lines[1:] == ["x_sum{} 1\n"]
    assert len(made) == 1
    assert of_two.restricted({"y", "X_sum"}).lines(openmetrics=False)[1:] == []
    assert len(made) == 1
