"""Stats with a mapping: names with dots become metrics with labels, for every exporter."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from line_protocol_parser import parse_line
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import _stat_names, fan_out, set_trace_function
from hypertrace.exporters.influx.lines import lines as influx_lines
from hypertrace.exporters.statsd.lines import Encoder
from hypertrace.metrics import HistogramReading, Metrics, SummaryReading
from hypertrace.stats import Stats
from hypertrace.statsd_mapping.old_format import rules_in
from hypertrace.statsd_mapping.rules import Rules
from hypertrace.statsd_mapping.yaml_files import written
from hypertrace_prometheus import PrometheusExporter

from ..hostile_values import GivesNoStr, HostileStr, Liar
from ..running import in_threads
from .metrics.readings import values
from .statsd_mapping.lego import CONF, TABLE, Stat

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = {"match": "shop.*.paid.*", "name": "orders_paid", "labels": {"city": "$1", "by": "$2"}}
FIVE = {f"label_{n}": f"${n}" for n in range(1, 6)}


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics in memory."""
    return Metrics(workers=False)


def shop(metrics: Metrics, *rules: dict[str, Any], **defaults: Any) -> Stats:
    """Give a client with a mapping."""
    return Stats("shop", metrics, mapping={"mappings": rules, "defaults": defaults})


# --- Lego's table -----------------------------------------------------------------------


@pytest.fixture
def lego(tmp_path: Path) -> Path:
    """Give Lego's mapping in a file, as the command writes it."""
    file = tmp_path / "mapping.yml"
    file.write_text(written(rules_in(CONF.read_text(), "lego.conf")))
    return file


@pytest.mark.parametrize("environment", ["production", "staging"])
@pytest.mark.parametrize("stat", TABLE, ids=lambda stat: stat.stat)
def test_a_name_of_lego_is_a_series_for_every_exporter(
    metrics: Metrics, lego: Path, stat: Stat, environment: str
) -> None:
    """Each line of the table, at `/metrics`, as lines of StatsD, and for InfluxDB."""
    stat.call(Stats(f"lego.{environment}", metrics, mapping=lego))
    labels = stat.labels_in(environment)

    exporter = PrometheusExporter(None, metrics=metrics)
    found = [sample for family in parse_text(exporter.metrics()) for sample in family.samples]
    name = f"{stat.shown}_count" if stat.is_timing else stat.shown
    assert [(one.labels, one.value) for one in found if one.name == name] == [(labels, 1)]

    lines = [line.decode() for line in Encoder("", "dogstatsd").encode(metrics.read(), {}).texts]
    head, kind = (f"{stat.shown}.sum", "0.25|c") if stat.is_timing else (stat.shown, "1|c")
    (line,) = (one for one in lines if one.startswith(f"{head}:"))
    value, _, tags = line.removeprefix(f"{head}:").partition("|#")
    assert value == kind
    assert dict(pair.split(":") for pair in tags.split(",")) == labels

    points = [parse_line(line) for line in influx_lines(metrics.read(), 1)]
    (point,) = (one for one in points if one["measurement"] == stat.shown)
    assert point["tags"] == labels


def test_the_whole_table_comes_out_at_once(metrics: Metrics, lego: Path) -> None:
    """Each metric once, and nothing but these."""
    production, staging = (
        Stats(f"lego.{one}", metrics, mapping=lego) for one in ("production", "staging")
    )
    for stat in TABLE:
        stat.call(production)
        stat.call(staging)
    own = [one for one in metrics.read().families if not one.name.startswith(("function", "hyper"))]
    assert {family.name for family in own} == {stat.shown for stat in TABLE}
    assert sum(len(family.series) for family in own) == 2 * len(TABLE)
    events = values(metrics, "instance_event_total", "environment", "action")
    assert events["production", "create"] == events["staging", "delete"] == 1


def test_it_counts_where_the_trace_function_does(metrics: Metrics, lego: Path) -> None:
    """Made before that is set, as without a mapping."""
    client = Stats("lego.production", mapping=str(lego))
    client.incr("task.send_email")
    set_trace_function(metrics)
    client.incr("NewsFeed.reads")
    with client.pipeline() as pipe:
        pipe.incr("NewsFeed.reads")
    assert values(metrics, "feed_reads_total", "feed") == {("NewsFeed",): 2}


# --- what rules do ----------------------------------------------------------------------


def test_each_kind_of_call_is_mapped(metrics: Metrics) -> None:
    """Counters and sets have their ends, gauges and timings the name of the mapping."""
    client = shop(metrics, {"match": "shop.*.*", "name": "$2", "labels": {"city": "$1"}})
    client.incr("rome.orders", 2)
    client.decr("rome.orders")
    client.gauge("rome.depth", 5)
    client.gauge("rome.depth", -2, delta=True)
    client.timing("rome.latency", 500)
    client.set("rome.users", "ann")
    with client.timer("rome.step"):
        pass
    assert values(metrics, "orders_total", "city") == {("rome",): 2}
    assert values(metrics, "orders_decrements_total", "city") == {("rome",): 1}
    assert values(metrics, "depth", "city") == {("rome",): 3}
    assert values(metrics, "users_distinct", "city") == {("rome",): 1}
    latency = metrics.read().family("latency")
    assert (latency.kind, latency.unit) == ("summary", "seconds")
    (value,) = latency.values
    assert isinstance(value, SummaryReading)
    assert (value.count, value.sum, set(value.quantiles)) == (1, 0.5, {0.5, 0.9, 0.99})
    assert metrics.read().family("step").values[0].count == 1  # type: ignore[union-attr]


def test_a_counter_may_have_the_name_of_the_mapping() -> None:
    """With `names` of the metrics, for dashboards that ask for it."""
    metrics = Metrics(workers=False, names={"orders_paid_total": "orders_paid"})
    shop(metrics, ORDERS).incr("rome.paid.card")
    page = PrometheusExporter(None, metrics=metrics).metrics()
    assert 'orders_paid{by="card",city="rome"} 1.0' in page.splitlines()


def test_other_names_are_as_without_a_mapping(metrics: Metrics) -> None:
    """Of every kind."""
    client = shop(metrics, ORDERS)
    client.incr("orders.paid")
    client.timing("latency", 1000)
    client.set("users", 1)
    client.gauge("depth", 1)
    assert values(metrics, "shop_orders_paid_total") == {(): 1}
    assert metrics.read().family("shop_latency_seconds").kind == "histogram"
    assert values(metrics, "shop_users_distinct") == values(metrics, "shop_depth") == {(): 1}


def test_what_is_dropped_counts_nothing(metrics: Metrics) -> None:
    """Also with tags; a rule after the others may drop all the rest."""
    rest = {"match": ".", "match_type": "regex", "action": "drop"}
    client = shop(metrics, ORDERS, {"match": "shop.*.paid.card", "name": "x"}, rest)
    client.incr("rome.paid.card")
    before = len(metrics.read().families)
    client.incr("a")
    client.gauge("b", 1, tags={"x": "y"})
    client.timing("c", 1)
    client.set("d", 1)
    assert len(metrics.read().families) == before
    assert values(metrics, "orders_paid_total", "city", "by") == {("rome", "card"): 1}


def test_a_rule_may_be_for_one_type(metrics: Metrics) -> None:
    """Decrements are counters, sets are gauges and timings observers."""
    rules = [
        {"match": "shop.a", "name": f"as_{one}", "match_metric_type": one}
        for one in ("counter", "gauge", "observer")
    ]
    client = shop(metrics, *rules)
    client.incr("a")
    client.decr("a")
    client.gauge("a", 2)
    client.timing("a", 3000)
    names = {family.name for family in metrics.read().families if family.name.startswith("as_")}
    assert names == {"as_counter_total", "as_counter_decrements_total", "as_gauge", "as_observer"}


def test_timings_may_be_histograms(metrics: Metrics) -> None:
    """With the buckets of the rule, else those of the metrics."""
    own = {"match": "shop.a.*", "name": "own", "labels": {"x": "$1"}, "buckets": [1, 5]}
    client = shop(metrics, own, {"match": "shop.b", "name": "usual"}, observer_type="histogram")
    client.timing("a.b", 2000)
    client.timing("b", 2000)
    (value,) = metrics.read().family("own").values
    assert isinstance(value, HistogramReading)
    assert (value.bounds, value.counts, value.sum) == ((1, 5), (0, 1, 0), 2)
    (value,) = metrics.read().family("usual").values
    assert isinstance(value, HistogramReading)
    assert value.bounds == metrics.buckets


def test_values_are_scaled(metrics: Metrics) -> None:
    """Each kind of number; not the values of sets."""
    rule = {"match": "shop.*.kb", "name": "${1}_bytes", "scale": 1024}
    histogram = {**rule, "match": "shop.h.*", "name": "h", "observer_type": "histogram"}
    client = shop(metrics, histogram, rule)
    client.incr("sent.kb", 2)
    client.gauge("held.kb", 3)
    client.gauge("held.kb", 1, delta=True)
    client.timing("read.kb", 1000)
    client.timing("h.x", 1000)
    client.set("seen.kb", "a")
    client.incr("sent.kb", None)  # type: ignore[arg-type]
    client.incr("sent.kb", True)
    client.incr("sent.kb", 1, tags={})
    assert values(metrics, "sent_bytes_total") == {(): 3 * 1024}
    assert values(metrics, "held_bytes") == {(): 4 * 1024}
    assert metrics.read().family("read_bytes").values[0].sum == 1024  # type: ignore[union-attr]
    assert metrics.read().family("h").values[0].sum == 1024  # type: ignore[union-attr]
    assert metrics.read().family("read_bytes").unit == ""
    assert values(metrics, "seen_bytes_distinct") == {(): 1}
    assert values(metrics, "hypertrace_invalid_values_total", "metric")["sent_bytes_total",] == 2


@pytest.mark.parametrize(("honor", "city"), [(False, "rome"), (True, "pisa")])
def test_tags_and_labels_are_joined(metrics: Metrics, honor: bool, city: str) -> None:
    """The mapping wins, or with `honor_labels` the tags."""
    client = shop(metrics, {**ORDERS, "honor_labels": honor})
    client.incr("rome.paid.card", tags={"city": "pisa", "tier": "gold"})
    client.incr("rome.paid.card")
    assert values(metrics, "orders_paid_total", "city", "by", "tier") == {
        (city, "card", "gold"): 1,
        ("rome", "card", None): 1,
    }


def test_a_metric_has_the_labels_of_all_its_rules(metrics: Metrics) -> None:
    """Those that a rule does not give are empty, whichever comes first."""
    other = {"match": "shop.refunds.*", "name": "orders_paid", "labels": {"reason": "$1"}}
    client = shop(metrics, other, ORDERS)
    client.incr("refunds.late")
    client.incr("rome.paid.card")
    assert values(metrics, "orders_paid_total", "reason", "city", "by") == {
        ("late", None, None): 1,
        (None, "rome", "card"): 1,
    }


def test_the_help_of_a_rule_is_the_description(metrics: Metrics) -> None:
    """Else it names the metric."""
    client = shop(metrics, {**ORDERS, "help": "Orders."}, {"match": "shop.a.*", "name": "a"})
    client.incr("rome.paid.card")
    client.incr("a.b")
    assert metrics.read().family("orders_paid_total").description == "Orders."
    assert metrics.read().family("a_total").description == "a, by Stats."


def test_a_metric_that_is_there_is_used(metrics: Metrics) -> None:
    """With its buckets; labels that it does not have are ignored, and logged once."""
    metrics.distribution("latency", ["city"], buckets=(1, 10), unit="seconds")
    client = shop(
        metrics, {"match": "shop.*.x.*", "name": "latency", "labels": {"city": "$1", "b": "$2"}}
    )
    client.timing("rome.x.y", 5000)
    (value,) = metrics.read().family("latency").values
    assert isinstance(value, HistogramReading)
    assert value.counts == (0, 1, 0)


def test_sets_have_labels(metrics: Metrics) -> None:
    """Each series has its own values."""
    client = shop(metrics, {"match": "shop.*.users", "name": "users", "labels": {"city": "$1"}})
    for city, user in (("rome", 1), ("rome", 2), ("pisa", 1), ("rome", 1)):
        client.set(f"{city}.users", user)
    assert values(metrics, "users_distinct", "city") == {("rome",): 2, ("pisa",): 1}


def test_clients_with_and_without_a_mapping_share_metrics(metrics: Metrics) -> None:
    """Those that get one name."""
    Stats("", metrics).incr("a", tags={"x": "1"})
    Stats("", metrics, mapping=[{"match": "b.*", "name": "a", "labels": {"x": "$1"}}]).incr("b.2")
    assert values(metrics, "a_total", "x") == {("1",): 1, ("2",): 1}


def test_it_counts_in_every_metrics(metrics: Metrics) -> None:
    """Of several, each has its own series."""
    other = Metrics(workers=False)
    set_trace_function(fan_out(metrics, other))
    client = Stats("shop", mapping=[ORDERS])
    client.incr("rome.paid.card")
    for one in (metrics, other):
        assert values(one, "orders_paid_total", "city") == {("rome",): 1}


# --- nothing raises, nothing grows ------------------------------------------------------


def test_no_call_raises(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is given."""
    client = shop(
        metrics,
        {"match": "shop.*", "name": "x_${1}", "labels": {"a": "$1"}},
        {"match": "shop.s.*", "name": "s", "scale": 2},
    )
    strange: list[Any] = [None, [], object(), HostileStr("x"), GivesNoStr(), Liar(), "\ud800", b"x"]
    with caplog.at_level(logging.WARNING, "hypertrace.stats"):
        for one in strange:
            for call in (client.incr, client.decr, client.gauge, client.timing, client.set):
                call(one, 1)
                call("a", one)
                call("s.a", one)
                call("a", 1, tags=one)
                call("a", 1, tags={"a": one, one if type(one) is str else "b": 1})
    assert "a name is a text, not NoneType" in [one.getMessage() for one in caplog.records]


def test_a_name_that_gets_none_is_counted_without_the_mapping(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """And logged once."""
    rule = {"match": "shop.*", "name": "$1"}
    client = shop(metrics, rule)
    with caplog.at_level(logging.WARNING, "hypertrace.stats"):
        client.incr("")
        client.incr("")
    assert values(metrics, "shop__total") == {(): 2}
    (record,) = caplog.records
    assert "gets no name by mapping, rule 1" in record.getMessage()


def test_one_name_for_several_kinds_is_no_error(metrics: Metrics) -> None:
    """Each is counted, under a name that says more."""
    client = shop(metrics, {"match": "shop.*", "name": "a", "labels": {"x": "$1"}})
    client.gauge("b", 1)
    client.timing("b", 1000)
    client.set("b", 1)
    client.incr("b")
    names = {family.name for family in metrics.read().families if "x" in family.label_names}
    assert names == {"a", "a_seconds", "a_distinct", "stats_a_total"}


def test_names_that_prometheus_keeps_get_another_start(metrics: Metrics) -> None:
    """As without a mapping."""
    client = shop(metrics, {"match": "shop.*", "name": "process_$1"})
    client.incr("a")
    assert values(metrics, "stats_process_a_total") == {(): 1}


def test_metrics_of_a_mapping_are_bounded(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """Where their names have parts of names; names that are remembered are, too."""
    client = Stats(
        "",
        metrics,
        mapping=[
            {"match": "m.*", "name": "m_$1"},
            {"match": "l.*", "name": "l", "labels": {"x": "$1"}},
        ],
    )
    with caplog.at_level(logging.WARNING, "hypertrace.stats"):
        for number in range(_stat_names.MOST_METRICS + 10):
            client.incr(f"m.{number}")
    assert any("is left out" in record.getMessage() for record in caplog.records)
    assert len(metrics.read().families) < _stat_names.MOST_METRICS + 20


def test_names_that_are_remembered_are_bounded(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the limit all are found again, and nothing is lost."""
    monkeypatch.setattr(_stat_names, "_MOST_MAPPED", 10)
    client = shop(metrics, ORDERS)
    for number in range(100):
        client.incr(f"{number % 25}.paid.card")
    ((_, [names]),) = [client._found]
    assert isinstance(names, _stat_names.MappedNames)
    assert len(names._found) <= 10
    assert sum(values(metrics, "orders_paid_total", "city").values()) == 100


def test_a_name_is_matched_once(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind of call, whether a rule matches or not."""
    client = shop(metrics, ORDERS)
    matched = []
    match = Rules.match

    def counted(self: Rules, name: str, metric_type: Any) -> Any:
        matched.append(name)
        return match(self, name, metric_type)

    monkeypatch.setattr(Rules, "match", counted)
    for _ in range(5):
        client.incr("rome.paid.card")
        client.incr("rome.paid.card", tags={"city": "pisa"})
        client.incr("other")
    assert matched == ["shop.rome.paid.card", "shop.other"]


def test_threads_count_together(metrics: Metrics) -> None:
    """Also while names are found."""
    client = shop(metrics, ORDERS)

    def work() -> None:
        for number in range(500):
            client.incr(f"{number % 50}.paid.card")
            client.timing("latency", 1)

    in_threads(work, work, work)
    found = values(metrics, "orders_paid_total", "city")
    assert set(found.values()) == {30}


# --- wrong mappings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        (5, TypeError, "has the key 'mappings'"),
        ([{"match": "a"}], ValueError, "rule 1, match 'a': name is missing"),
        (
            [{"match": "a", "name": "b", "labels": {"job": "c"}}],
            ValueError,
            "label 'job' is called",
        ),
        ("none.yml", FileNotFoundError, "none.yml"),
    ],
)
def test_wrong_mappings_are_errors(mapping: Any, error: type[Exception], message: str) -> None:
    """Where the client is made."""
    with pytest.raises(error, match=message):
        Stats("shop", mapping=mapping)
