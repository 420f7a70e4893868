"""Metrics with a prefix and other names: a real Prometheus draws them as it does the usual ones."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hypertrace import fan_out, set_trace_function
from hypertrace.metrics.names import Names
from hypertrace.testing import reset
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.dashboards import rules
from hypertrace_prometheus.dashboards.templates import dashboards
from hypertrace_prometheus.demo.library import Library
from hypertrace_prometheus.demo.workload import Workload

from .conftest import StartPrometheus
from .test_dashboards import Scraped

PREFIX = "shop_"
NAMES = {
    "function_counter_total": "shop_calls_total",
    "function_exceptions_total": "failures_total",
}
LABELS = {"service": "shop", "version": "1.4"}
JOB = "named"


@pytest.fixture(scope="module")
def scraped(each_prometheus: StartPrometheus) -> Iterator[Scraped]:
    """Run the demo's application with two exporters, of which one has other names."""
    with (
        PrometheusExporter(0, upstream=True, workers=False) as usual,
        PrometheusExporter(
            0, upstream=True, workers=False, prefix=PREFIX, names=NAMES, labels=LABELS
        ) as named,
        ExitStack() as at_end,
    ):
        assert usual.port
        set_trace_function(fan_out(usual, named))
        workload = Workload(Library())
        at_end.callback(workload.stop)  # also if this Prometheus is not here
        workload.start()
        targets = f'[{{targets: ["127.0.0.1:{named.port}"]}}]'
        job = f"\n  - job_name: {JOB}\n    static_configs: {targets}\n"
        prometheus = each_prometheus(usual.port, jobs=job)
        prometheus.wait_for_scrape("hypertrace")
        started = time.time()
        for watched in range(6):
            prometheus.wait_for_scrape("hypertrace")
            prometheus.wait_for_scrape(JOB)
            if watched == 3:  # so that both have seen the same in the end, and twice
                workload.stop()
        ended = time.time()
        reset()
        yield Scraped(prometheus, usual, started, ended)


def _expressions(names: Names | None = None) -> list[str]:
    panels = [
        target["expr"]
        for dashboard in dashboards(names).values()
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    return panels + [
        rule["expr"] for group in rules.groups(names) for rule in group["rules"] if "record" in rule
    ]


def test_dashboards_and_rules_show_the_same(scraped: Scraped) -> None:
    """Each query answers, or not, as the usual one does."""
    usual, named = _expressions(), _expressions(Names(prefix=PREFIX, names=NAMES))
    shown = 0
    for before, after in zip(usual, named, strict=True):
        if before != after:
            expected = _has_answer(scraped, before, "hypertrace")
            assert _has_answer(scraped, after, JOB) == expected, after
            shown += expected
    assert shown > 30


def test_labels_of_the_process_are_on_the_target(scraped: Scraped) -> None:
    """`target_info` has them, no series of a function does, and a query joins the two."""
    (target,) = scraped.answers("target_info")
    assert {name: target[0].get(name) for name in (*LABELS, "job")} == {**LABELS, "job": JOB}
    assert scraped.answers("hypertrace_application_info{service='shop'}")
    assert scraped.answers("shop_calls_total")
    assert scraped.answers("shop_calls_total{service!=''}") == []
    joined = "shop_calls_total * on (job, instance) group_left (version) target_info"
    assert {labels["version"] for labels, _ in scraped.answers(joined)} == {"1.4"}


def _has_answer(scraped: Scraped, expression: str, job: str) -> bool:
    """Return whether an expression has an answer for a job."""
    answer = scraped.answers(expression, job=job)
    return bool([labels for labels, _ in answer if labels.get("job", job) == job])
