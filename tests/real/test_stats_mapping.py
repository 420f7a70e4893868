"""Names of Lego's code in a real Prometheus: each line of its table is a series with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypertrace.stats import Stats
from hypertrace.statsd_mapping.old_format import rules_in
from hypertrace_prometheus import PrometheusExporter

from ..hypertrace.statsd_mapping.lego import CONF, TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Prometheus, StartPrometheus

ENVIRONMENTS = ("production", "staging")


@pytest.fixture(scope="module")
def prometheus(each_prometheus: StartPrometheus) -> Iterator[Prometheus]:
    """Give a Prometheus that has scraped what Lego counts, in both environments."""
    with PrometheusExporter(0, workers=False) as exporter:
        assert exporter.port
        rules = rules_in(CONF.read_text(), "lego.conf")
        for environment in ENVIRONMENTS:
            client = Stats(f"lego.{environment}", exporter.forwards_to, mapping=rules)
            for stat in TABLE:
                stat.call(client)
        found = each_prometheus(exporter.port)
        found.wait_for_scrape("hypertrace")
        yield found


def test_each_line_of_the_table_is_a_series(prometheus: Prometheus) -> None:
    """With the value and the labels that its mapping gives it, and none of its names left."""
    for stat in TABLE:
        name = f"{stat.shown}_count" if stat.is_timing else stat.shown
        for environment in ENVIRONMENTS:
            labels = stat.labels_in(environment)
            selector = ",".join(f'{label}="{value}"' for label, value in labels.items())
            ((shown, value),) = prometheus.query(f"{name}{{{selector}}}")
            assert (value, labels.items() <= shown.items()) == (1, True), stat
    assert prometheus.query('count({__name__=~"lego.*"})') == []


def test_questions_that_dotted_names_have_no_answer_to(prometheus: Prometheus) -> None:
    """Sums by what was a part of a name, and quantiles of seconds."""
    by_action = prometheus.query("sum by (action) (instance_event_total)")
    assert {shown["action"]: value for shown, value in by_action} == {
        "create": 2,
        "update": 2,
        "delete": 2,
    }
    quantiles = prometheus.query('request_latency{environment="production",quantile="0.9"}')
    assert [value for _, value in quantiles] == [pytest.approx(0.25, rel=0.01)]
