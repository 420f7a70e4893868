"""Line protocol: what a line says, and that no value can add to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from hypertrace.exporters.influx.lines import Batch, batches, field, lines, tag_key, tag_value
from hypertrace.metrics import ExponentialReading, HistogramReading, Reading, SummaryReading
from hypertrace.metrics.declarations import Declaration
from hypertrace.metrics.reading import Family
from hypertrace.metrics.series import Series

if TYPE_CHECKING:
    from hypertrace.metrics.declarations import Kind

HOSTILE = st.text(
    st.one_of(
        st.sampled_from('\\\n\r\t ,="#\x00\x7f\x85\u2028'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


def reading_of(value: Any, kind: Kind, labels: dict[str, str], **process: str) -> Reading:
    """Give a reading with one series."""
    declaration = Declaration(kind, "depth", description="")
    series = Series((tuple(labels.values()), ()))
    return Reading(1.5, [Family(declaration, tuple(labels), [series], [value])], process)


def line_of(value: Any, kind: Kind = "counter", **labels: str) -> str:
    """Give the line of a reading with one series."""
    return "".join(lines(reading_of(value, kind, labels), 17))


@pytest.mark.parametrize(
    ("kind", "value", "fields"),
    [
        ("counter", 3, "val=3i"),
        ("counter", 0.25, "val=0.25"),
        ("counter", 1e300, "val=1e+300"),
        ("gauge", 3, "val=3.0"),
        ("info", 1, "val=1i"),
        (
            "histogram",
            HistogramReading((-1.0, 0.1, 10.0), (1, 2, 0, 1), 2.0, {}),
            "count=4i,sum=2.0,mean=0.5,le_-1=1i,le_0.1=3i,le_10=3i",
        ),
        (
            "histogram",
            HistogramReading((0.1, 1.0, 10.0), (0, 2, 2, 0), 4.0, {}),
            "count=4i,sum=4.0,mean=1.0,min=0.1,max=10.0,le_0.1=0i,le_1=2i,le_10=4i",
        ),
        (
            "histogram",
            HistogramReading((0.1, 1.0), (2, 0, 0), 0.1, {}),
            "count=2i,sum=0.1,mean=0.05,max=0.1,le_0.1=2i,le_1=2i",
        ),
        (
            "summary",
            SummaryReading(2, 3.0, {0.5: 1.5, 0.999: math.nan}, {}),
            "count=2i,sum=3.0,mean=1.5,p50=1.5",
        ),
        ("summary", SummaryReading(0, 0.0, {0.99: 2.5}, {}), "count=0i,sum=0.0,p99=2.5"),
    ],
)
def test_a_kind_has_its_fields(kind: Kind, value: Any, fields: str) -> None:
    """Counts are integers, what may have a fraction is a float, also if it has none."""
    assert line_of(value, kind) == f"depth {fields} 17\n"


def test_a_native_histogram_has_quantiles() -> None:
    """They are within the error of its buckets; negative values and zeros count."""
    value = ExponentialReading(3, 1e-9, 1, {8: 7}, {8: 2}, 10.0, {})
    fields = parse_line(line_of(value, "histogram"))["fields"]
    assert (fields["count"], fields["sum"], fields["mean"]) == (10, 10.0, 1.0)
    assert fields["p50"] == fields["p90"] == fields["p99"] == pytest.approx(2, rel=0.1)
    assert (fields["min"], fields["max"]) == pytest.approx((-2, 2), rel=0.1)
    all_negative = ExponentialReading(3, 1e-9, 0, {}, {8: 2}, -4.0, {})
    assert parse_line(line_of(all_negative, "histogram"))["fields"]["p50"] == pytest.approx(
        -2, rel=0.1
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**63])
def test_a_number_that_influxdb_does_not_have_is_left_out(value: float) -> None:
    """A series that has no other is left out with it."""
    assert line_of(value, "counter") == ""


def test_tags_are_the_labels_that_have_a_value() -> None:
    """Those of the process are in each line; a label of the series wins over one of them."""
    reading = reading_of(
        1, "counter", {"id": "dial", "empty": "", "service": "a"}, service="b", version="1.4"
    )
    assert list(lines(reading, 17)) == ["depth,version=1.4,id=dial,service=a val=1i 17\n"]


def test_names_that_influxdb_reserves_are_others() -> None:
    """A tag cannot be called `time`."""
    assert line_of(1, time="noon", _field="x") == "depth,time_=noon,_field_=x val=1i 17\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b,c=d", r"a\ b\,c\=d"),
        ('"quoted"', '"quoted"'),
        (r"C:\dir\file", r"C:\dir\file"),
        ("at the end\\", "at\\ the\\ end/"),
        (r"\\server\share", r"/\server\share"),
        ("a\\,b", "a/\\,b"),
        ("a\nb\r\tc", "a\\ b\\ \\ c"),
        ("a\\\nb", "a/\\ b"),
        ("größer 日本 \U0001f600", "größer\\ 日本\\ \U0001f600"),
    ],
)
def test_a_tag_is_escaped(text: str, shown: str) -> None:
    """Or replaced, where receivers disagree on what an escape is."""
    assert tag_value(text) == tag_key(text) == shown


def documented(text: str) -> str:
    """Give a label's value as the documentation says that it arrives."""
    text = "".join(" " if ord(one) < 32 or ord(one) == 127 else one for one in text)
    return "".join(
        "/" if one == "\\" and (text[at + 1 : at + 2] or "\\") in ",= \\" else one
        for at, one in enumerate(text)
    )


@given(st.dictionaries(HOSTILE.filter(bool), HOSTILE, max_size=4), HOSTILE)
@example({"a": "\\"}, "\\")
@example({"a\\": "b"}, "")
def test_any_labels_come_back(labels: dict[str, str], process: str) -> None:
    """An independent parser finds each label, and one line."""
    reading = reading_of(7, "counter", labels, process_label=process)
    assume(len(labels) == len({documented(key) for key in labels}))
    (line,) = lines(reading, 17)
    assert line.count("\n") == 1
    assert line.endswith(" val=7i 17\n")
    expected = {documented(key): documented(value) for key, value in labels.items() if value}
    if process:
        expected["process_label"] = documented(process)
    expected = {f"{k}_" if k == "time" else k: v for k, v in expected.items()}
    found = parse_line(line)
    assert found["tags"] == expected
    assert (found["measurement"], found["fields"], found["time"]) == ("depth", {"val": 7}, 17)


@given(HOSTILE)
def test_any_text_of_a_field_comes_back(text: str) -> None:
    """With spaces for its control characters, and in one line."""
    line = f"depth val={field(text)} 17"
    assert "\n" not in line
    shown = "".join(" " if ord(one) < 32 or ord(one) == 127 else one for one in text)
    assert parse_line(line)["fields"] == {"val": shown}


def test_fields_have_the_types_of_the_protocol() -> None:
    """Truth values are no integers."""
    values = [field(value) for value in (True, False, 1, 1.0, -(2**63), 2**63 - 1)]
    assert values == ["true", "false", "1i", "1.0", "", f"{2**63 - 1}i"]


def test_half_a_character_does_not_stop_a_line() -> None:
    """A lone surrogate becomes a question mark."""
    (batch,) = batches([line_of(1, id="\ud800")], 100)
    assert batch.data == b"depth,id=? val=1i 17\n"


@given(st.lists(st.text("xé", max_size=20).map(lambda text: f"{text}\n")), st.integers(1, 50))
def test_batches_are_bounded_and_whole(given_lines: list[str], size: int) -> None:
    """A line is in one batch, in order; only a longer line is a batch above the size."""
    made = batches(given_lines, size)
    assert b"".join(batch.data for batch in made).decode() == "".join(given_lines)
    assert all(batch == Batch(batch.data, batch.data.count(b"\n")) for batch in made)
    assert all(len(batch.data) <= size or batch.lines == 1 for batch in made)
