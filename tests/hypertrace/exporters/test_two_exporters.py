"""One `Metrics` with a Prometheus exporter and a JSON exporter: both say what the program did."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hypertrace import Tracer, fan_out, set_trace_function, traced
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics
from hypertrace_prometheus import PrometheusExporter

from .recording import SOON, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Labels = frozenset[tuple[str, str]]
    Numbers = defaultdict[str, Counter[Labels]]

THREADS, ROUNDS = 4, 400
NAMES = ("function_counter_total", "function_exceptions_total", "function_edges_total")
DURATIONS = "function_duration_seconds"
TALLIED = {"id", "object_props_topic", "caller_props_size", "result", "exception"}


@pytest.fixture(autouse=True)
def _switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


class Swarm:
    """What is traced; it keeps its own tally, by the labels that it sets."""

    def __init__(self, topic: str) -> None:
        self.tracer = Tracer(self, {"topic": topic})
        self.topic = ("object_props_topic", topic)
        self.calls: Counter[Labels] = Counter()
        self.spans: Counter[Labels] = Counter()
        self.exceptions: Counter[Labels] = Counter()

    def connect(self, size: str) -> None:
        self.tracer.trace("connect", size=size)
        self.calls[frozenset({self.topic, ("id", "connect"), ("caller_props_size", size)})] += 1

    def dial(self, size: str) -> None:
        labels = frozenset({self.topic, ("id", "dial"), ("caller_props_size", size)})
        with self.tracer.span("dial") as span:
            self.helper()
            span.set(size=size)
        self.calls[labels] += 1
        self.spans[labels | {("result", "ok")}] += 1

    def fail(self) -> None:
        labels = frozenset({self.topic, ("id", "fail")})
        self.calls[labels] += 1
        self.spans[labels | {("result", "error")}] += 1
        self.exceptions[labels | {("exception", "LookupError")}] += 1
        with self.tracer.span("fail"):
            raise LookupError

    @traced
    def helper(self) -> None:
        self.calls[frozenset({self.topic})] += 1
        self.spans[frozenset({self.topic, ("result", "ok")})] += 1

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(ROUNDS):
            size = chance.choice(["small", "large"])
            calls = self.connect, self.dial, lambda _: self.fail()
            with suppress(LookupError):
                chance.choice(calls)(size)


def of_page(page: str) -> Numbers:
    """Give the numbers on a page of Prometheus, by name and labels."""
    numbers: Numbers = defaultdict(Counter)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            numbers[sample.name][frozenset(sample.labels.items())] = sample.value  # type: ignore[assignment]
    return numbers


def of_lines(lines: list[str]) -> Numbers:
    """Give the sums over all lines, named and labelled as Prometheus does."""
    numbers: Numbers = defaultdict(Counter)
    for line in map(json.loads, lines):
        for point in line["metrics"]:
            labels = frozenset(point["labels"].items())
            if point["kind"] == "histogram":
                _add_histogram(numbers, point, labels)
            elif point["kind"] == "counter":
                numbers[point["name"]][labels] += point["value"]
            else:
                numbers[point["name"]][labels] = point["value"]
    return numbers


def _add_histogram(numbers: Numbers, point: dict[str, Any], labels: Labels) -> None:
    numbers[f"{point['name']}_count"][labels] += point["count"]
    numbers[f"{point['name']}_sum"][labels] += point["sum"]
    cumulative = 0
    for bound, count in point["buckets"]:
        cumulative += count
        le = "+Inf" if bound is None else str(float(bound))
        numbers[f"{point['name']}_bucket"][labels | {("le", le)}] += cumulative


def without_zeros(numbers: Counter[Labels]) -> dict[Labels, Any]:
    """Give the numbers that are not zero."""
    return {labels: value for labels, value in numbers.items() if value}


def tallied(numbers: Counter[Labels]) -> Counter[Labels]:
    """Give numbers by those labels that the program tallies by."""
    found: Counter[Labels] = Counter()
    for labels, value in numbers.items():
        found[frozenset(pair for pair in labels if pair[0] in TALLIED)] += value
    return found


def merged(tallies: list[Counter[Labels]]) -> Counter[Labels]:
    """Add up tallies."""
    return sum(tallies, Counter())


@pytest.mark.parametrize("set_up", ["the metrics", "one exporter", "both exporters"])
def test_both_exporters_say_what_the_program_did(set_up: str, tmp_path: Path) -> None:
    """Sums over all lines, the page of Prometheus and the program's own tally are the same."""
    metrics = Metrics(allowed_props=["topic", "size"], upstream=True)
    path = tmp_path / "lines"
    prometheus = PrometheusExporter(metrics=metrics, collect_defaults=False)
    json_lines = JsonLinesExporter(path, metrics=metrics, interval=0.002)
    functions: dict[str, Any] = {
        "the metrics": metrics,
        "one exporter": json_lines,
        "both exporters": fan_out(prometheus, json_lines),
    }
    set_trace_function(functions[set_up])
    swarms = [Swarm(f"topic {number % 2}") for number in range(THREADS)]
    threads = [
        threading.Thread(target=swarm.work, args=(seed,)) for seed, swarm in enumerate(swarms)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    until(lambda: json_lines.sent > 3)
    json_lines.stop()
    page, lines = of_page(prometheus.metrics()), of_lines(path.read_text().splitlines())
    prometheus.stop()

    sent = sum(page["hypertrace_export_sent_total"].values())
    assert sent == sum(lines["hypertrace_export_sent_total"].values()) + 1  # of the last line
    # Of an exporter that was stopped, the page has it no more.
    assert lines.keys() - page.keys() == {"hypertrace_export_last_success_timestamp_seconds"}
    assert page.keys() <= lines.keys()
    for name in page:
        if name.startswith("hypertrace_export_"):
            continue
        expected = without_zeros(lines[name])
        is_sum = name.endswith("_sum")  # floats, which were added in another order
        assert without_zeros(page[name]) == (pytest.approx(expected) if is_sum else expected), name
    assert tallied(lines[NAMES[0]]) == merged([swarm.calls for swarm in swarms])
    assert tallied(lines[NAMES[1]]) == merged([swarm.exceptions for swarm in swarms])
    assert tallied(lines[f"{DURATIONS}_count"]) == merged([swarm.spans for swarm in swarms])
    assert json_lines.failures == 0
