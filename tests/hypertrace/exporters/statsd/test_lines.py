"""Lines of StatsD: what they say, that no label value breaks them, and how they fill packets."""

from __future__ import annotations

import collections
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.exporters.statsd.datadog import Environment
from hypertrace.exporters.statsd.lines import Encoder
from hypertrace.exporters.statsd.packets import pack
from hypertrace.metrics import (
    Counter,
    ExponentialReading,
    HistogramReading,
    Reading,
    SummaryReading,
)
from hypertrace.metrics.declarations import Declaration
from hypertrace.metrics.reading import Family
from hypertrace.metrics.samples import Sample
from hypertrace.metrics.series import Series

from .parsers import Metric, parse, parse_graphite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypertrace.exporters.statsd.lines import Tags
    from hypertrace.exporters.statsd.writer import Lines
    from hypertrace.metrics.declarations import Kind

EVERY_TAGS: tuple[Tags, ...] = ("none", "dogstatsd", "graphite")
LINE = re.compile(
    r"[\w.-]+(;[\w./-]+=[\w./-]+)*:-?[0-9.]+\|(c|g|ms|d)(\|@0\.[0-9]+)?(\|#[\w:,./-]+)?"
)


def reading_of(
    value: Any,
    kind: Kind = "counter",
    *,
    unit: str = "",
    names: tuple[str, ...] = ("queue",),
    values: tuple[str, ...] = ("mail",),
    common: Mapping[str, str] | None = None,
) -> Reading:
    """Give a reading with one series."""
    name = "wait_seconds" if unit == "seconds" else "depth"
    declaration = Declaration(kind, name, description="", unit=unit, labels=names)
    family = Family(declaration, names, [Series((values, ()))], [value])
    return Reading(1.5, [family], common or {})


def lines_of(
    reading: Reading, tags: Tags = "none", prefix: str = "", arrived: Mapping[object, float] = {}
) -> list[str]:
    """Encode a reading."""
    return [text.decode() for text in Encoder(prefix, tags).encode(reading, arrived).texts]


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (2.5, "2.5"), (4.0, "4"), (1e-7, "0.0000001"), (-2, "-2")]
)
def test_a_counter_is_a_number_without_an_exponent(value: float, text: str) -> None:
    """Receivers read `1e-07` as 1."""
    assert lines_of(reading_of(value)) == [f"depth.mail:{text}|c"]


@pytest.mark.parametrize("value", [0, 0.0, math.nan, math.inf])
def test_a_counter_that_has_nothing_to_add_is_left_out(value: float) -> None:
    """Nothing came in, or the amount is no number that a receiver could add."""
    assert lines_of(reading_of(value)) == []


def test_a_gauge_below_zero_is_set_in_two_steps_of_one_packet() -> None:
    """A sign means a difference, so that the gauge is first set to zero; both stay together."""
    (line,) = Encoder("", "none").encode(reading_of(-2.5, "gauge"), {}).texts
    assert line == b"depth.mail:0|g\ndepth.mail:-2.5|g"
    assert lines_of(reading_of(0, "gauge")) == ["depth.mail:0|g"]
    assert lines_of(reading_of(math.nan, "gauge")) == []


def test_labels_are_parts_of_the_name_or_tags() -> None:
    """Class, function and id come first in a name; a tag without a value is left out."""
    names = ("object_classname", "topic", "caller_functionname", "caller_filename", "id")
    reading = reading_of(
        1,
        names=names,
        values=("Swarm", "", "connect", "src/app.py", "dial"),
        common={"service": "shop", "topic": "x"},
    )
    (none, dogstatsd, graphite) = (lines_of(reading, tags, "a.b.")[0] for tags in EVERY_TAGS)
    assert none == "a.b.depth.Swarm.connect.dial._.src_app_py:1|c"
    assert dogstatsd == (
        "a.b.depth:1|c|#service:shop,object_classname:Swarm,caller_functionname:connect,"
        "caller_filename:src/app.py,id:dial"
    )
    assert graphite == (
        "a.b.depth;service=shop;object_classname=Swarm;caller_functionname=connect;"
        "caller_filename=src/app.py;id=dial:1|c"
    )


def test_an_info_needs_tags() -> None:
    """What an info says is in its labels; a name that changes with each version helps no one."""
    assert lines_of(reading_of(1, "info")) == []
    assert lines_of(reading_of(1, "info"), "dogstatsd") == ["depth:1|g|#queue:mail"]


def test_durations_are_timers_with_the_right_count_and_mean() -> None:
    """In milliseconds; each value is at the same place of its bucket, so that they add up."""
    value = HistogramReading((0.25, 0.75), (2, 1, 0), 0.75, {})
    reading = reading_of(value, "histogram", unit="seconds")
    assert lines_of(reading) == [
        "wait_milliseconds.mail:125|ms",
        "wait_milliseconds.mail:125|ms",
        "wait_milliseconds.mail:500|ms",
    ]
    assert lines_of(reading, "dogstatsd") == [
        "wait_milliseconds:125|d|@0.5|#queue:mail",
        "wait_milliseconds:500|d|#queue:mail",
    ]


def test_samples_are_sent_as_they_are() -> None:
    """Each in a line, or those of equal weight in one, in milliseconds, with nine digits."""
    value = HistogramReading((0.25, 0.75), (2, 1, 1), 2.612345723, {})
    reading = reading_of(value, "histogram", unit="seconds")
    sample = Sample(4, [0.1, 4.5e-8, 0.5, 2.01234567891])
    texts = [
        [text.decode() for text in Encoder("", tags).encode(reading, {}, lambda _: sample).texts]
        for tags in EVERY_TAGS
    ]
    values = ["100", "0.000045", "500", "2012.34568"]
    assert texts[0] == [f"wait_milliseconds.mail:{value}|ms" for value in values]
    assert texts[1] == [f"wait_milliseconds:{':'.join(values)}|d|#queue:mail"]
    assert texts[2] == [f"wait_milliseconds;queue=mail:{value}|ms" for value in values]


@given(
    values=st.lists(st.floats(0.001, 9e5), max_size=500),
    unsent=st.integers(0, 3),
    label=st.text("ab", max_size=1_500),
)
def test_lines_with_several_values_are_no_longer_than_a_packet(
    values: list[float], unsent: int, label: str
) -> None:
    """None is lost, none comes twice, and each line has one at least."""
    counts = (len(values) + unsent,)
    value = HistogramReading((), counts, sum(values) + unsent, {})
    reading = reading_of(value, "histogram", values=(label,))
    sample = Sample(len(values), values)
    lines = Encoder("", "dogstatsd").encode(reading, {}, lambda _: sample)
    found: list[float] = []
    amounts: collections.Counter[object] = collections.Counter()
    for text in lines.texts:
        (metric,) = parse(text)
        assert isinstance(metric, Metric)
        assert isinstance(metric.values, list)
        assert metric.kind == "d"
        assert len(text) <= 1432 or len(metric.values) == 1
        found += metric.values
    for (_, _, part), amount in lines.amounts(len(lines.texts)):
        amounts[part] += amount  # type: ignore[assignment]
    assert found[: len(values)] == [float(f"{value:.9g}") for value in values]
    assert amounts["more"] == counts[0]


@pytest.mark.parametrize("weight", [*range(1, 200), 1_000_003, 10**9 + 7])
def test_a_receiver_that_drops_fractions_counts_right(weight: int) -> None:
    """A Datadog agent takes the whole number of 1 / rate, which is not 48 for 49 values."""
    value = HistogramReading((), (weight,), 1.0 * weight, {})
    (line,) = lines_of(reading_of(value, "histogram", unit="seconds"), "dogstatsd")
    rate = re.search(r"@([0-9.]+)", line)
    assert int(1 / float(rate[1] if rate else 1)) == weight


@given(st.floats(-1e15, 1e15))
def test_a_value_has_nine_digits_and_no_exponent(value: float) -> None:
    """Receivers read `1e-07` as 1; what is below a millionth of a nanosecond may be 0."""
    reading = reading_of(HistogramReading((), (1,), value, {}), "histogram")
    encoder = Encoder("", "dogstatsd")
    (text,) = encoder.encode(reading, {}, lambda _: Sample(1, [value])).texts
    found = re.fullmatch(r"depth:(-?[0-9]+(?:\.[0-9]*[1-9])?)\|d\|#queue:mail", text.decode())
    assert found
    assert float(found[1]) == pytest.approx(value, rel=1e-8, abs=1e-12)


def test_other_histograms_are_totals_or_distributions_of_datadog() -> None:
    """Plain StatsD has no type for them."""
    value = HistogramReading((10.0,), (2, 1), 25.0, {})
    assert lines_of(reading_of(value, "histogram")) == [
        "depth.count.mail:3|c",
        "depth.sum.mail:25|c",
    ]
    assert lines_of(reading_of(value, "histogram"), "dogstatsd") == [
        "depth:5|d|@0.5|#queue:mail",
        "depth:15|d|#queue:mail",
    ]


def test_a_native_histogram_is_sent_by_powers_of_two() -> None:
    """Count and mean are right, too."""
    value = ExponentialReading(0, 0.001, 0, {1: 2, 3: 1}, {}, 8.5, {})
    (first, second) = lines_of(reading_of(value, "histogram", unit="seconds"), "dogstatsd")
    values = [float(line.split("|")[0].partition(":")[2]) for line in (first, second)]
    assert 2 * values[0] + values[1] == pytest.approx(8_500)


def test_a_summary_has_totals_and_quantiles() -> None:
    """Quantiles are gauges; one of which there was no value is left out."""
    value = SummaryReading(3, 4.5, {0.5: 1.25, 0.999: 2.5, 0.9: math.nan}, {})
    assert lines_of(reading_of(value, "summary"), "graphite") == [
        "depth.count;queue=mail:3|c",
        "depth.sum;queue=mail:4.5|c",
        "depth.p50;queue=mail:1.25|g",
        "depth.p99_9;queue=mail:2.5|g",
    ]


@pytest.mark.parametrize("tags", EVERY_TAGS)
@pytest.mark.parametrize(
    "value",
    [
        3,
        HistogramReading((0.5,), (41, 2), 13.5, {}),
        ExponentialReading(2, 0.1, 1, {-3: 7, 4: 50}, {}, 99.5, {}),
        SummaryReading(3, 4.5, {}, {}),
    ],
)
@pytest.mark.parametrize("unit", ["seconds", ""])
def test_what_has_arrived_is_not_sent_again(value: Any, unit: str, tags: Tags) -> None:
    """After an attempt that ended after any line, the rest has what is left, and nothing twice."""
    kind: Kind = "counter" if value == 3 else "histogram"
    kind = "summary" if isinstance(value, SummaryReading) else kind
    reading, encoder = reading_of(value, kind, unit=unit), Encoder("", tags)
    lines = encoder.encode(reading, {})
    whole = added(lines, len(lines.texts))
    for arrived in range(len(lines.texts) + 1):
        sums = added(lines, arrived)
        rest = encoder.encode(reading, sums)
        assert arrived < len(lines.texts) or not rest.texts
        sums.update(added(rest, len(rest.texts)))
        assert sums == pytest.approx(whole)


def added(lines: Lines, end: int) -> collections.Counter[object]:
    """Add up what the first lines say."""
    sums: collections.Counter[object] = collections.Counter()
    for part, amount in lines.amounts(end):
        sums[part] += amount  # type: ignore[assignment]
    return sums


HOSTILE = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("\n\r\0:|@#,;=~ .\u010a\u2028\x85"))
)


@pytest.mark.parametrize("tags", EVERY_TAGS)
@given(value=HOSTILE, common=HOSTILE)
def test_no_value_of_a_label_breaks_a_line(tags: Tags, value: str, common: str) -> None:
    """Whatever is in it, the line is one line of ASCII with one name and one value."""
    reading = reading_of(
        -1, "gauge", names=("queue", "to"), values=(value, "x"), common={f"a{common}": common}
    )
    (line,) = Encoder("shop", tags).encode(reading, {}).texts
    first, second = line.split(b"\n")
    assert first.replace(b":0|g", b":-1|g", 1) == second
    text = second.decode("ascii")
    assert LINE.fullmatch(text)
    if tags == "none":
        assert text.count(".") == 3  # the prefix, the metric, and two labels


NAMES = st.lists(HOSTILE.filter(bool), min_size=2, max_size=4, unique=True)


@given(names=NAMES, texts=st.tuples(*[HOSTILE] * 4), common=HOSTILE, value=st.floats(-9, 9))
def test_an_agent_finds_the_tags_that_have_a_value(
    names: list[str], texts: tuple[str, ...], common: str, value: float
) -> None:
    """With any names and values: one metric, with the replaced texts as its tags."""
    labels, values = tuple(names), texts[: len(names)]
    environment = Environment({"env": common}, "|c:in-7")
    reading = reading_of(value + 10, names=labels, values=values, common={"service": common})
    (line,) = Encoder("shop", "dogstatsd", environment).encode(reading, {}).texts
    (found,) = parse(line)
    assert isinstance(found, Metric)
    tags = [("env", common), ("service", common), *zip(labels, values, strict=True)]
    shown = [f"{replaced(name)}:{replaced(text)}" for name, text in tags if text]
    if not common:
        shown.insert(0, "env")
    assert found == Metric("shop.depth", [value + 10], "c", shown, 1, "|c:in-7")


@given(names=NAMES, texts=st.tuples(*[HOSTILE] * 4), common=HOSTILE)
def test_graphite_finds_the_tags_that_have_a_value(
    names: list[str], texts: tuple[str, ...], common: str
) -> None:
    """With any names and values, in one name."""
    labels, values = tuple(names), texts[: len(names)]
    reading = reading_of(3, names=labels, values=values, common={"service": common})
    (line,) = Encoder("shop", "graphite").encode(reading, {}).texts
    name, tags, value, kind = parse_graphite(line)
    pairs = [("service", common), *zip(labels, values, strict=True)]
    assert (name, value, kind) == ("shop.depth", "3", "c")
    assert tags == {replaced(name): replaced(text) for name, text in pairs if text}


def replaced(text: str) -> str:
    """Give a text as it is in a tag."""
    kept = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-"
    return "".join(character if character in kept else "_" for character in text)


@pytest.mark.parametrize("tags", ["none", "dogstatsd", "graphite"])
def test_tags_of_declared_metrics_stay_in_their_order(tags: Tags) -> None:
    """As in the standard formatter of Telemetry.Metrics, whatever they are called."""
    names = {"provider": "provider", "id": "id", "object_classname": "class"}
    declaration = Counter("logins_total", tags=names)
    family = Family(declaration, declaration.labels, [Series((("a", "b", "C"), ()))], [1])
    (line,) = lines_of(Reading(1.5, [family]), tags)
    assert (
        line
        == {
            "none": "logins_total.a.b.C:1|c",
            "dogstatsd": "logins_total:1|c|#provider:a,id:b,object_classname:C",
            "graphite": "logins_total;provider=a;id=b;object_classname=C:1|c",
        }[tags]
    )


def test_tags_win_over_those_of_the_process_and_of_the_environment() -> None:
    """So that a tag is there once."""
    environment = Environment({"env": "a", "queue": "a", "service": "a", "urgent": ""}, "|c:in-7")
    reading = reading_of(1, common={"service": "b", "queue": "b"})
    (line,) = Encoder("", "dogstatsd", environment).encode(reading, {}).texts
    assert line == b"depth:1|c|#env:a,service:b,urgent,queue:mail|c:in-7"
    assert lines_of(reading, "graphite") == ["depth;service=b;queue=mail:1|c"]
    for tags in ("graphite", "none"):
        assert Encoder("", tags, environment).encode(reading, {}).texts[0].count(b"env") == 0


@given(st.lists(st.binary(min_size=1, max_size=60).filter(lambda text: b"\n" not in text)))
def test_packets_are_filled_and_have_whole_lines(texts: list[bytes]) -> None:
    """A packet is only longer if it is a single line, and has no room for the next line."""
    packets = pack(texts, 50)
    starts = [0, *(packet.end for packet in packets)]
    for start, packet in zip(starts, packets, strict=False):
        assert packet.text == b"\n".join(texts[start : packet.end])
        assert len(packet.text) <= 50 or packet.end == start + 1
    assert starts[-1] == len(texts)
    for packet in packets[:-1]:
        assert len(packet.text) + 1 + len(texts[packet.end]) > 50


def test_a_line_that_no_receiver_can_read_is_in_no_packet() -> None:
    """Those around it are, and it counts as one of them."""
    texts = [b"a", b"b" * 8_192, b"c" * 8_193, b"d", b"e" * 8_193]
    packets = pack(texts, 10_000)
    assert packets == [(b"\n".join([texts[0], texts[1], texts[3]]), 5)]
    assert pack([texts[2]], 10_000) == []
    assert [packet.end for packet in pack(texts, 1_432)] == [1, 3, 5]


@pytest.mark.parametrize(
    ("prefix", "whole"), [("", ""), ("a", "a."), ("a.", "a."), ("a.b-c", "a.b-c."), ("a_", "a_")]
)
def test_a_dot_follows_a_prefix_that_has_no_end(prefix: str, whole: str) -> None:
    """As for InfluxDB, one that ends in `.` or `_` is used as it is."""
    assert Encoder(prefix, "none").prefix == whole


@pytest.mark.parametrize("prefix", ["a b", ".a", "a..b", "a:b", "å", "a\n"])
def test_a_prefix_that_is_no_name_is_refused(prefix: str) -> None:
    """The message names it."""
    with pytest.raises(ValueError, match="is no beginning of a name"):
        Encoder(prefix, "none")


def test_other_arguments_that_are_wrong_are_refused() -> None:
    """The message names the ones that there are."""
    with pytest.raises(ValueError, match="must be 'none', 'dogstatsd' or 'graphite', not 'x'"):
        Encoder("", "x")
    with pytest.raises(TypeError, match="prefix must be a str, not None"):
        Encoder(None, "none")  # type: ignore[arg-type]
