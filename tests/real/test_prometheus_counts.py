"""Counts that a real Prometheus has scraped: those of the applications, to the last call."""

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from hypertrace import TraceEvent, fan_out, set_trace_function
from hypertrace.integrations.entries import NAME
from hypertrace.testing import reset
from hypertrace_prometheus.demo.ledger import Ledger
from hypertrace_prometheus.demo.library import Library
from hypertrace_prometheus.demo.session import make_exporter
from hypertrace_prometheus.demo.workload import Workload


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


@dataclass
class Demo:
    """A demo that has done its work, and the Prometheus that scraped it since."""

    prometheus: Prometheus
    ledger: Ledger
    events: Counter[tuple[tuple[str, str], ...]]

    def counts(self, selector: str, label: str = "") -> dict[str, int]:
        """Ask Prometheus for the sum of `function_counter_total` by one label."""
        found = self.prometheus.query(f"sum by ({label}) (function_counter_total{{{selector}}})")
        return {labels.get(label, ""): int(value) for labels, value in found}


class Tally:
    """A trace function that counts events by the labels they should have; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[tuple[tuple[str, str], ...]] = Counter()

    def __call__(self, event: TraceEvent) -> None:
        _, package, path = event.caller.filename.rpartition("hypertrace_")
        labels = {
            "object_classname": event.object.class_name,
            "caller_functionname": event.caller.function_name,
            "caller_filename": package + path,
        }
        props = {"object": event.object.props, "caller": event.caller.props}
        if event.id is not None:
            labels["id"] = event.id
        if event.parent_object:
            labels["parent_object_classname"] = event.parent_object.class_name
            props["parent_object"] = event.parent_object.props
        for role, values in props.items():
            for name in (values or {}).keys() - {NAME}:  # which is no label of functions
                labels[f"{role}_props_{name}"] = str((values or {})[name])
        with self._lock:
            self.counts[tuple(sorted(labels.items()))] += 1


@pytest.fixture(scope="module")
def demo(each_prometheus: Callable[[int], Prometheus]) -> Iterator[Demo]:
    """Run the demo's application for 120 questions under the eyes of a Prometheus."""
    tally = Tally()
    with make_exporter(0) as exporter:
        assert exporter.port
        prometheus = each_prometheus(exporter.port)
        set_trace_function(fan_out(exporter, tally))
        library = Library()
        workload = Workload(library, questions=120)
        workload.start()
        workload.wait(60)
        workload.stop()
        reset()
        prometheus.wait_for_scrape("hypertrace")
        yield Demo(prometheus, library.ledger, tally.counts)


def test_every_series_is_what_was_traced(demo: Demo) -> None:
    """Each series, by all its labels, has the count of the events that a plain callable saw."""
    found = {}
    for labels, value in demo.prometheus.query("function_counter_total"):
        ours = {k: v for k, v in labels.items() if k not in {"__name__", "instance", "job"}}
        found[tuple(sorted(ours.items()))] = int(value)
    assert found == demo.events
    assert len(found) > 50


def test_counts_by_class_and_function(demo: Demo) -> None:
    """Calls of one method of one class are what the application says it did."""
    expected = {
        "Catalogue.volumes": "volume",
        "Library.ask": "question",
        "Library.shelve": "shelving",
        "Visitor.visit": "visit",
        "Highlighter.snippet": "snippet",
    }
    for method, entry in expected.items():
        class_name, function = method.split(".")
        selector = f'object_classname="{class_name}",caller_functionname="{function}"'
        assert demo.counts(selector) == {"": demo.ledger.total(entry)}, method


@pytest.mark.parametrize(
    ("class_name", "function", "prop", "entry"),
    [
        ("QueryCache", "get", "caller_props_outcome", "cache"),
        ("SearchEngine", "search", "caller_props_outcome", "search"),
        ("Parser", "_documents", "caller_props_kind", "docstring"),
        ("Shard", "_insert", "object_props_topic", "insert"),
        ("Parser", "parse", "caller_props_outcome", "parsing"),
        ("Shard", "replace", "object_props_topic", "replacement"),
    ],
)
def test_counts_by_prop(demo: Demo, class_name: str, function: str, prop: str, entry: str) -> None:
    """Calls by an allowed prop, of the call or of the object, are what the application did."""
    selector = f'object_classname="{class_name}",caller_functionname="{function}"'
    assert demo.counts(selector, prop) == demo.ledger.details(entry)


def test_counts_by_prop_of_the_parent(demo: Demo) -> None:
    """A shard's tokenizer is counted once for each text of the shard's topic."""
    selector = 'object_classname="Tokenizer",parent_object_classname="Shard"'
    by_topic = demo.counts(selector, "parent_object_props_topic")
    assert by_topic == demo.ledger.details("insert")


def test_counts_by_id(demo: Demo) -> None:
    """Lookups are distinguished from insertions into the same class by the id given to the call."""
    ledger = demo.ledger
    lookups = ledger.total("lookup hit") + ledger.total("lookup miss")
    assert demo.counts('object_classname="Shard"', "id") == {
        "insert": ledger.total("insert"),
        "lookup": lookups,
        "": ledger.total("replacement"),
    }


def test_counts_by_file(demo: Demo) -> None:
    """The file is the path below the import root, the same on every machine."""
    folder = "hypertrace_prometheus/demo"
    ledger = demo.ledger
    assert demo.counts('object_classname="QueryCache"', "caller_filename").keys() == {
        f"{folder}/search.py"
    }
    selector = f'caller_filename="{folder}/library.py"'
    assert demo.counts(selector) == {"": ledger.total("question") + ledger.total("shelving")}


def test_failures_are_what_the_library_could_not_answer(demo: Demo) -> None:
    """Exceptions by class are the questions without an answer, and the error ratio is theirs."""
    outcomes = demo.ledger.details("search")
    expected = {"NotFoundError": outcomes["not found"]}
    if outcomes.get("empty"):
        expected["EmptyQuestionError"] = outcomes["empty"]
    for function in ("Library.ask", "SearchEngine.search", "Visitor.ask"):
        class_name, name = function.split(".")
        selector = f'object_classname="{class_name}",caller_functionname="{name}"'
        found = demo.prometheus.query(
            f"sum by (exception) (function_exceptions_total{{{selector}}})"
        )
        assert {labels["exception"]: value for labels, value in found} == expected, function
        spans = f"function_duration_seconds_count{{{selector}"
        ((_, ratio),) = demo.prometheus.query(f'sum({spans},result="error"}}) / sum({spans}}})')
        assert ratio == pytest.approx(sum(expected.values()) / 120), function


def test_edges_are_who_called_whom(demo: Demo) -> None:
    """Questions went from visitors as entries to the library; volumes to parser and shards."""
    found = demo.prometheus.query("function_edges_total")
    edges = {
        (
            f"{labels['from_classname']}.{labels['from_functionname']}",
            f"{labels['to_classname']}.{labels['to_functionname']}",
        ): value
        for labels, value in found
    }
    questions, volumes = demo.ledger.total("question"), demo.ledger.total("shelving")
    assert edges["Visitor.visit", "Visitor.ask"] == questions
    assert edges["Visitor.ask", "Entry.other"] == questions
    assert edges["Entry.other", "Library.ask"] == questions
    assert edges["Entry.job", "Library.shelve"] == volumes
    assert edges["Library.ask", "SearchEngine.search"] == questions
    assert edges["SearchEngine.search", "Speller.correct"] == demo.ledger.total("spelling")
    assert edges["SearchEngine.search", "Ranker.best"] == demo.ledger.details("cache")["miss"]
    assert edges["Library.shelve", "Parser.parse"] == volumes
    assert edges["Library.shelve", "Shard.replace"] == volumes
    assert set(edges) - {("Ranker.best", "Index.lookup")} == {
        ("Visitor.visit", "Visitor.ask"),
        ("Visitor.ask", "Entry.other"),
        ("Entry.other", "Library.ask"),
        ("Entry.job", "Library.shelve"),
        ("Library.ask", "SearchEngine.search"),
        ("SearchEngine.search", "Speller.correct"),
        ("SearchEngine.search", "Ranker.best"),
        ("Library.shelve", "Parser.parse"),
        ("Library.shelve", "Shard.replace"),
    }


def test_nothing_is_open_when_all_is_done(demo: Demo) -> None:
    """The gauge of spans in progress is back at zero for every function."""
    found = demo.prometheus.query("function_in_progress")
    assert len(found) > 5
    assert {value for _, value in found} == {0}


@contextmanager
def _running(*program: str | Path, ready: str) -> Iterator[str]:
    """Run a Python program; give what it printed up to the line with `ready` in it."""
    command = [sys.executable, *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        printed = ""
        try:
            for line in process.stdout:
                printed += line
                if ready in line:
                    break
            yield printed
        finally:
            process.terminate()


def _port(printed: str) -> int:
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", printed)
    return int(port)


def _sum(prometheus: Prometheus, selector: str = "") -> int:
    ((_, value),) = prometheus.query(f"sum(function_counter_total{{{selector}}})")
    return int(value)


def test_the_demo_command_prints_what_prometheus_says(
    start_prometheus: Callable[[int], Prometheus],
) -> None:
    """The totals that `hypertrace demo` prints are the ones that were scraped."""
    program = ("-m", "hypertrace_prometheus", "demo", "--port", "0", "--questions", "20")
    with _running(*program, ready="All questions are asked") as printed:
        prometheus = start_prometheus(_port(printed))
        prometheus.wait_for_scrape("hypertrace")
        final = re.findall(r"([\d,]+) (calls traced|questions|texts indexed)", printed)
        totals = {what: int(count.replace(",", "")) for count, what in final}
        assert totals["calls traced"] == _sum(prometheus)
        assert (
            totals["questions"]
            == _sum(prometheus, 'object_classname="Library",caller_functionname="ask"')
            == 20
        )
        assert totals["texts indexed"] == _sum(prometheus, 'object_classname="Shard",id="insert"')


def test_the_shop_is_counted(root: Path, start_prometheus: Callable[[int], Prometheus]) -> None:
    """The example application shows its calls by class, function, file and props."""
    expected = {
        ("Shop", "serve", None, None): 5,
        ("Cart", "add", "web", None): 4,
        ("Cart", "add", "phone", None): 6,
        ("Cart", "total", "web", None): 3,
        ("Cart", "total", "phone", None): 2,
        ("Warehouse", "take", None, "taken"): 8,
        ("Warehouse", "take", None, "sold out"): 2,
    }
    with _running(root / "examples" / "shop.py", "--port", "0", ready="/metrics") as printed:
        prometheus = start_prometheus(_port(printed))
        prometheus.wait_for_scrape("hypertrace")
        found = prometheus.query('function_counter_total{caller_filename="shop.py"}')
    names = (
        "object_classname",
        "caller_functionname",
        "object_props_channel",
        "caller_props_outcome",
    )
    assert {tuple(map(labels.get, names)): value for labels, value in found} == expected
    assert {labels.get("parent_object_props_town") for labels, _ in found} == {None, "Bergen"}
