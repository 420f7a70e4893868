"""Own names: what `StatsdExporter` sends has its labels again behind statsd_exporter."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.statsd.lines import Encoder, path_text, tag_text
from hypertrace.metrics import (
    Counter,
    Distribution,
    ExponentialReading,
    Family,
    HistogramReading,
    LastValue,
    Metrics,
    Reading,
    Sum,
    Summary,
    SummaryReading,
)
from hypertrace.metrics.series import Series
from hypertrace.statsd_mapping.own_names import own_rules
from hypertrace.statsd_mapping.yaml_files import written

from .statsd_exporter import Sample, received

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypertrace.exporters.statsd.lines import Tags

LABELS = st.text(st.sampled_from("aZ09_-./:|@#, ;=$*\"'\\\n\x00üŁ日😀"), max_size=6)
PREFIXES = ["", "shop", "shop.prod-1.", "shop_"]


def metrics_of(**options: Any) -> Metrics:
    return Metrics(
        declared=[
            Counter("logins_total", of="Auth.login", tags=["result", "provider"]),
            Sum("sent_bytes_total", of="Auth.*", value="size", unit="bytes"),
            LastValue("queue_depth", of="Queue.*", value="depth", tags=["queue"]),
            Distribution("checkout_seconds", of="Shop.*", buckets=(0.5, 2.5), tags=["class", "id"]),
            Distribution("basket_items", value="items", buckets=(1, 10), tags=["shop"]),
            Distribution("wait_seconds", native=True, tags=["shop"]),
            Summary("payload_bytes", value="size", unit="bytes", quantiles=(0.5, 0.999)),
            Summary("latency_seconds", tags=["id", "function"], quantiles=(0, 1)),
        ],
        allowed_props=["topic", "user-agent"],
        upstream=True,
        workers=False,
        **options,
    )


def mapping_of(metrics: Metrics, prefix: str, tags: Tags = "none") -> dict[str, Any]:
    mapping: dict[str, Any] = yaml.safe_load(written(own_rules(metrics, prefix, tags)))
    return mapping


@cache
def everything(prefix: str, tags: Tags) -> tuple[list[Family], dict[str, Any]]:
    """Give all families, and the mapping of what is sent of them."""
    metrics = metrics_of()
    return [*metrics.read().families], mapping_of(metrics, prefix, tags)


def values_for(family: Family) -> Any:
    """Make values of the kind of a metric."""
    numbers = st.integers(1, 50)
    if family.kind == "histogram" and getattr(family.declaration, "native", False):
        return numbers.map(lambda n: ExponentialReading(3, 0.001, 0, {n: 1}, {}, 2.0, {}))
    if family.kind == "histogram":
        return numbers.map(lambda n: HistogramReading((0.5, 2.5), (n, 0, 1), n / 2, {}))
    if family.kind == "summary":
        return numbers.map(lambda n: SummaryReading(n, 2.5 * n, {0.5: n, 0.999: 7.5}, {}))
    return numbers


@st.composite
def readings(draw: st.DrawFn, families: list[Family]) -> Reading:
    """Make readings of some metrics with any label values."""
    found = []
    for family in draw(st.lists(st.sampled_from(families), unique_by=lambda one: one.name)):
        labels = draw(st.tuples(*[LABELS for _ in family.label_names]))
        value = draw(values_for(family))
        if family.name == "latency_seconds":
            value = SummaryReading(value.count, value.sum, {0.0: 1.0, 1.0: 9.0}, {})
        found.append(
            Family(family.declaration, family.label_names, [Series((labels, ()))], [value])
        )
    return Reading(0.0, found)


def expected_of(reading: Reading, tags: Tags) -> Iterator[tuple[Sample, float]]:
    """Give the series that Prometheus is to have, each with its value, or its number of values."""
    for family in reading.families:
        for point in family.points:
            pairs = zip(family.label_names, point.labels, strict=True)
            if tags == "none":
                labels = frozenset((name, path_text(value)) for name, value in pairs)
            else:
                labels = frozenset((name, tag_text(value)) for name, value in pairs if value)
            value = point.value
            if isinstance(value, int | float):
                if family.kind != "info" or tags == "dogstatsd":
                    yield Sample(family.name, labels), value
            elif is_timer(reading, family.name, tags):
                yield Sample(family.name, labels), value.count
            else:
                yield Sample(f"{family.name}_count", labels), value.count
                yield Sample(f"{family.name}_sum", labels), value.sum
                for at, found in getattr(value, "quantiles", {}).items():
                    yield Sample(family.name, labels | {("quantile", str(float(at)))}), found


def lines_of(reading: Reading, prefix: str, tags: Tags = "none") -> list[str]:
    lines = Encoder(prefix, tags).encode(reading, {}).texts
    return [text for line in lines for text in line.decode().split("\n")]


def is_timer(reading: Reading, name: str, tags: Tags) -> bool:
    family = next((one for one in reading.families if one.name == name), None)
    if family is None or family.kind != "histogram":
        return False
    return family.unit == "seconds" or tags == "dogstatsd"


@pytest.mark.parametrize("tags", ["none", "dogstatsd"])
@pytest.mark.parametrize("prefix", PREFIXES)
@given(data=st.data())
def test_labels_come_back(prefix: str, tags: Tags, data: st.DataObject) -> None:
    """Of any values, of each kind of metric, as far as characters are not replaced."""
    families, mapping = everything(prefix, tags)
    reading = data.draw(readings(families))
    found = received(mapping, lines_of(reading, prefix, tags))
    shown = {
        sample: len(values) if is_timer(reading, sample.name, tags) else values[-1]
        for sample, values in found.items()
    }
    assert shown == pytest.approx(dict(expected_of(reading, tags)))


def test_what_a_program_does_comes_back() -> None:
    """Counts, durations in seconds and the metrics of the counting itself."""
    metrics = metrics_of()
    set_trace_function(metrics)

    class Shop:
        def __init__(self, topic: str) -> None:
            self.tracer = Tracer(self, {"topic": topic})

        def checkout(self) -> None:
            with self.tracer.span("pay", {"shop": "main", "items": 3, "size": 10}):
                self.tracer.trace("card")

    for topic in ("books.de", "music", "", "books.de"):
        Shop(topic).checkout()
    reading = metrics.read()
    mapping = mapping_of(metrics, "shop")
    found = received(mapping, lines_of(reading, "shop"))
    calls = {
        sample: value[-1]
        for sample, value in found.items()
        if sample.name == "function_counter_total"
    }
    by_topic = {
        (dict(sample.labels)["object_props_topic"], dict(sample.labels)["id"]): value
        for sample, value in calls.items()
    }
    assert by_topic["books_de", "card"] == 2
    assert by_topic["music", "pay"] == by_topic["_", "card"] == 1
    timers = [values for sample, values in found.items() if sample.name == "checkout_seconds"]
    assert sum(map(len, timers)) == 4
    seconds = math.fsum(value for values in timers for value in values)
    readings_of = cast("list[HistogramReading]", reading.family("checkout_seconds").values)
    assert seconds == pytest.approx(math.fsum(one.sum for one in readings_of), abs=1e-5)


def test_every_metric_has_a_rule() -> None:
    """Also those of the counting itself; each rule is for one type."""
    metrics = metrics_of(prefix="app_", names={"function_counter_total": "calls_total"})
    rules = own_rules(metrics, "shop")
    names = {rule["name"] for rule in rules}
    families = [family for family in metrics.read().families if family.kind != "info"]
    for family in families:
        assert names & {family.name, f"{family.name}_count"}, family.name
    assert "calls_total" in names
    assert all(rule["match_metric_type"] in ("counter", "gauge", "observer") for rule in rules)


def test_durations_are_histograms_in_the_same_buckets() -> None:
    """Those of the declaration, else those of the metrics."""
    rules = {rule["name"]: rule for rule in own_rules(metrics_of(buckets=(1, 2)), "shop")}
    checkout, calls = rules["checkout_seconds"], rules["function_duration_seconds"]
    assert checkout["match"] == "shop.checkout_milliseconds.*.*"
    assert checkout["observer_type"] == calls["observer_type"] == "histogram"
    assert checkout["histogram_options"] == {"buckets": [0.5, 2.5]}
    assert calls["histogram_options"] == {"buckets": [1.0, 2.0]}


def test_quantiles_are_gauges_with_a_label() -> None:
    """Named as those of a summary."""
    rules = {rule["match"]: rule for rule in own_rules(metrics_of())}
    assert rules["payload_bytes.p99_9"]["labels"] == {"quantile": "0.999"}
    assert rules["payload_bytes.p99_9"]["name"] == "payload_bytes"
    assert rules["payload_bytes.count"]["name"] == "payload_bytes_count"


@pytest.mark.parametrize("prefix", ["1shop", "shop.-a"])
def test_a_prefix_that_statsd_exporter_refuses_is_an_error(prefix: str) -> None:
    """Since no rule can have it."""
    with pytest.raises(ValueError, match="none that statsd_exporter takes"):
        own_rules(metrics_of(), prefix)


def test_a_prefix_that_is_none_is_an_error() -> None:
    """As for the exporter."""
    with pytest.raises(ValueError, match="is no beginning of a name"):
        own_rules(metrics_of(), "a b")
