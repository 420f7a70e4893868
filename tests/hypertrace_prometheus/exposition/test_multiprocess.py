"""Metrics of `prometheus_client` in multiprocess mode: of all processes, each once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ..wire import needs_fork

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_fork

SETTING = """
import os, re, signal, sys
from collections import Counter as Tally
from prometheus_client import (
    REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families as parsed
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

registry = {"default": REGISTRY}.get(sys.argv[2]) or CollectorRegistry()
orders = Counter("orders", "Orders.", ["shop"], registry=registry)
stock = Gauge("stock", "Stock.", registry=registry, multiprocess_mode="livesum")
age = Gauge("age", "Age.", registry=registry)
sizes = Histogram("sizes", "Sizes.", registry=registry, buckets=(1, 2))
times = Summary("times", "Times.", registry=registry)
Info("app", "Version.", registry=registry).info({"version": "7"})
exporter = PrometheusExporter(registry=registry, workers=sys.argv[1])
set_trace_function(exporter)
tracer = Tracer("worker")


def work(number):
    tracer.trace()
    orders.labels("here").inc(number)
    stock.set(number)
    age.set(number)
    sizes.observe(number)
    times.observe(number)


def start(number):
    child = os.fork()
    if not child:
        work(number)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def theirs():
    collected = CollectorRegistry()
    MultiProcessCollector(collected)
    return {family.name: family for family in parsed(generate_latest(collected).decode())}


def ours():
    page = exporter.metrics()
    heads = Tally(re.findall("^# TYPE (.+) ", page, re.MULTILINE))
    assert set(heads.values()) == {1}, heads
    return {family.name: family for family in parsed(page)}


def samples(family):
    return sorted((one.name, sorted(one.labels.items()), one.value) for one in family.samples)
"""


def run(tmp_path: Path, program: str, *arguments: str, variable: str) -> None:
    folder = tmp_path / "multiprocess"
    folder.mkdir(exist_ok=True)
    environment = {name: one for name, one in os.environ.items() if "multiproc" not in name.lower()}
    subprocess.run(
        [sys.executable, "-c", SETTING + program, str(tmp_path / "counts"), *arguments],
        env={**environment, variable: str(folder)} if variable else environment,
        check=True,
        timeout=100,
    )


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
@pytest.mark.parametrize("registry", ["default", "other"])
def test_they_are_of_all_processes(tmp_path: Path, registry: str, variable: str) -> None:
    """The page has what `MultiProcessCollector` gives, once, and the counts of the workers."""
    program = """
for number in (1, 2, 3):
    start(number)
work(4)
found, expected = ours(), theirs()
assert {"orders", "stock", "age", "sizes", "times"} <= set(expected)
for name, family in expected.items():
    assert (family.type, samples(family)) == (found[name].type, samples(found[name])), name
assert ("orders_total", [("shop", "here")], 10) in samples(found["orders"])
assert samples(found["stock"]) == [("stock", [], 10)]
(counted,) = found["function_counter"].samples
assert counted.value == 4
assert samples(found["app_info"])[0][1] == [("version", "7")]
assert found["process_threads"].samples[0].labels == {"worker": "1"}
"""
    run(tmp_path, program, registry, variable=variable)


def test_a_registry_that_has_the_collector_keeps_it(tmp_path: Path) -> None:
    """What the application collects itself is not collected again."""
    program = """
MultiProcessCollector(registry)
start(1)
work(2)
found = ours()
for name, family in theirs().items():
    assert samples(family) == samples(found[name]), name
assert "MultiprocessMetrics" not in exporter.metrics()
"""
    run(tmp_path, program, "other", variable="PROMETHEUS_MULTIPROC_DIR")


def test_an_exporter_on_a_registry_of_its_own_has_none(tmp_path: Path) -> None:
    """Metrics of another registry are not on the page."""
    program = """
work(1)
other = PrometheusExporter(workers=sys.argv[1] + "-other")
assert "orders" not in other.metrics()
"""
    run(tmp_path, program, "default", variable="PROMETHEUS_MULTIPROC_DIR")


def test_without_the_mode_the_registry_is_shown(tmp_path: Path) -> None:
    """Otherwise the metrics are those of the process that answers."""
    program = """
start(1)
work(2)
assert ("orders_total", [("shop", "here")], 2) in samples(ours()["orders"])
"""
    run(tmp_path, program, "default", variable="")


def test_a_folder_that_was_removed_costs_these_metrics_only(tmp_path: Path) -> None:
    """The page goes out without them, and says which collector failed."""
    program = """
import logging, shutil
logging.disable()
work(1)
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
page = exporter.metrics()
assert "orders" not in page
assert re.search(r'failed_collections_total{collector="[a-z_.]+MultiprocessMetrics"} 1', page), page
assert "function_counter_total{" in page
"""
    run(tmp_path, program, "default", variable="PROMETHEUS_MULTIPROC_DIR")
