"""Collectors of a registry, one by one."""

from __future__ import annotations

import subprocess
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily

from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import collection
from hypertrace_prometheus.exposition.collection import collect
from hypertrace_prometheus.exposition.collector import ExporterCollector

from ..wire import needs_fork, no_thread_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from hypertrace_prometheus.exposition.collection import CollectorRun

WAIT = 10.0


class Given:
    """A collector of some families, that does something before each."""

    def __init__(self, *names: str, before: Callable[[str], object] = str) -> None:
        self.names = names
        self.before = before

    def collect(self) -> Iterator[Metric]:
        for name in self.names:
            self.before(name)
            yield GaugeMetricFamily(name, name, 1)


class Described(Given):
    """The same, with names that it declares."""

    def describe(self) -> list[Metric]:
        return [GaugeMetricFamily(name, name) for name in self.names]


class Hanging(Given):
    """A collector that gives a family, and then waits."""

    def __init__(self, name: str, proceed: threading.Event) -> None:
        super().__init__(f"{name}_a", f"{name}_b", before=self._wait)
        self.started = threading.Event()
        self.proceed = proceed

    def _wait(self, name: str) -> None:
        if name == self.names[-1]:
            self.started.set()
            assert self.proceed.wait(WAIT)


def registry_of(*collectors: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def names_of(registry: Any, **how: Any) -> list[str]:
    runs = collect(registry, lambda family, _: family.name, **how)
    return [name for run in runs for name in run.results]


def fail(name: str) -> None:
    raise RuntimeError(f"no {name}")


def fail_at_b(name: str) -> None:
    if name == "b":
        fail(name)


def exit_(name: str) -> None:
    raise SystemExit(name)


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    with PrometheusExporter(collect_defaults=False) as exporter:
        yield exporter


@pytest.fixture
def proceed() -> Iterator[threading.Event]:
    """Give what collectors that hang wait for; they are gone when the test is over."""
    proceed = threading.Event()
    yield proceed
    proceed.set()
    end_helpers()


def helpers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "hypertrace-metrics-collectors"]


def end_helpers() -> None:
    for thread in helpers():
        thread.join(WAIT)
    assert helpers() == []


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "PATIENCE", 0.4)
    monkeypatch.setattr(collection, "_STEP", 0.05)


def failures(exporter: PrometheusExporter) -> dict[str, int]:
    (ours,) = [c for c in exporter.registry._collector_to_names if type(c) is ExporterCollector]
    points = ours.failures.read().points
    return {name.split(".")[-1]: count for (name,), count in points if count}  # type: ignore[misc]


BAD = [
    (Given("x", before=fail), []),
    (Given("a", "b", "c", before=fail_at_b), ["a"]),
    (type("NoMetric", (), {"collect": lambda _: [7]})(), []),
    (type("NoList", (), {"collect": lambda _: None})(), []),
    (type("NoMethod", (), {"collect": None})(), []),
    (type("SaysItIsOurs", (), {"collect": None, "__class__": ExporterCollector})(), []),
]
IDS = ["all", "part", "no metric", "no list", "no method", "says it is ours"]


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize(("bad", "good"), BAD, ids=IDS)
def test_a_collector_that_fails_costs_its_own_metrics(
    exporter: PrometheusExporter,
    caplog: pytest.LogCaptureFixture,
    bounded: bool,
    bad: Any,
    good: list[str],
) -> None:
    """All other metrics are there, in their order, and what it gave before; it is counted."""
    without = names_of(exporter.registry)
    for collector in (Given("before"), bad, Given("after")):
        exporter.registry.register(collector)
    assert names_of(exporter.registry, bounded=bounded) == [*without, "before", *good, "after"]
    assert failures(exporter) == {type(bad).__name__: 1}
    assert len(caplog.records) == 1


def test_failures_are_not_reported_to_what_says_it_is_an_exporter() -> None:
    """A collector that only claims to be the exporter's is treated as any other."""
    assert names_of(registry_of(BAD[-1][0], Given("x", "y"))) == ["x", "y"]


@pytest.mark.parametrize("bounded", [False, True])
def test_a_family_that_cannot_be_taken_costs_itself(
    exporter: PrometheusExporter, bounded: bool
) -> None:
    """A family that cannot be converted costs itself; the others of the collector are shown."""
    exporter.registry.register(Given("a", "b", "c"))

    def convert(family: Metric, run: CollectorRun[str]) -> str:
        if family.name == "c":
            run.fail(ValueError("a part is missing"))
        fail_at_b(family.name)
        return family.name

    runs = collect(exporter.registry, convert, bounded=bounded)
    assert runs[-1].results == ["a", "c"]
    assert failures(exporter) == {"Given": 1}


def test_the_exporters_own_errors_are_raised(
    exporter: PrometheusExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the exporter itself is raised, so that no incomplete page is shown."""

    def convert(family: Metric, _: object) -> None:
        raise LookupError(family.name)

    with pytest.raises(LookupError):
        collect(exporter.registry, convert)
    monkeypatch.setattr(ExporterCollector, "page", lambda _: fail("page"))
    with pytest.raises(RuntimeError, match="no page"):
        collect(exporter.registry, convert)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_passes_through(error: type[BaseException]) -> None:
    """An exception that interrupts the thread ends the collection."""

    def interrupt(name: str) -> None:
        raise error

    collector = Given("x", before=interrupt)
    with pytest.raises(error):
        names_of(registry_of(collector))
    # And it is not taken to hang.
    collector.before = str
    assert names_of(registry_of(collector)) == ["x"]


def test_one_that_was_interrupted_before_it_began_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler that raises just before a collector runs leaves nothing behind."""
    registry = registry_of(Given("a"))

    class Interrupting(WeakValueDictionary[int, Any]):
        def __setitem__(self, key: int, value: Any) -> None:
            super().__setitem__(key, value)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        under_way = Interrupting()
        patch.setattr(collection, "_under_way", under_way)
        with pytest.raises(KeyboardInterrupt):
            names_of(registry)
    monkeypatch.setattr(collection, "PATIENCE", -1.0)
    monkeypatch.setattr(collection, "_under_way", WeakValueDictionary(under_way))
    assert names_of(registry) == ["a"]


def test_one_that_ends_its_thread_costs_its_own_metrics(exporter: PrometheusExporter) -> None:
    """`sys.exit()` in a collector that runs in a thread of ours does not cost the others."""
    for collector in (Given("x", before=exit_), Given("after")):
        exporter.registry.register(collector)
    assert names_of(exporter.registry, bounded=True)[-1] == "after"
    assert failures(exporter) == {"Given": 1}


@pytest.mark.usefixtures("_impatient")
def test_collectors_that_hang_are_given_up(
    exporter: PrometheusExporter, proceed: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are there, and what they gave before; the log shows where they stand."""
    without = names_of(exporter.registry)
    for collector in (Hanging("x", proceed), Hanging("y", proceed), Given("after")):
        exporter.registry.register(collector)
    assert names_of(exporter.registry, bounded=True) == [*without, "x_a", "y_a", "after"]
    assert failures(exporter) == {"Hanging": 2}
    assert "self.proceed.wait(WAIT)" in caplog.text


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("bounded", [False, True])
def test_one_that_hangs_is_not_started_again(
    exporter: PrometheusExporter, proceed: threading.Event, bounded: bool
) -> None:
    """A collector that hangs has one thread, whatever the number of scrapes, until it returns."""
    exporter.registry.register(Hanging("x", proceed))
    names_of(exporter.registry, bounded=True)
    for _ in range(5):
        assert "x_a" not in names_of(exporter.registry, bounded=bounded)
    assert len(helpers()) == 1
    assert failures(exporter) == {"Hanging": 6}
    proceed.set()
    end_helpers()
    assert names_of(exporter.registry, bounded=bounded)[-2:] == ["x_a", "x_b"]
    assert failures(exporter) == {"Hanging": 6}


def test_one_that_hangs_in_a_thread_of_the_application_is_left_alone(
    proceed: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a thread hangs in a collector, other threads leave that collector out."""
    hanging = Hanging("x", proceed)
    registry = registry_of(hanging, Given("after"))
    thread = threading.Thread(target=names_of, args=(registry,))
    thread.start()
    assert hanging.started.wait(WAIT)
    now = monotonic() + collection.PATIENCE
    monkeypatch.setattr(collection, "monotonic", lambda: now)
    assert names_of(registry) == ["after"]
    proceed.set()
    thread.join(WAIT)


@pytest.mark.usefixtures("_impatient")
def test_those_without_a_turn_are_missing(proceed: threading.Event) -> None:
    """Collectors that got no time are missing on this page, and are on the next one."""
    registry = registry_of(*(Hanging(f"x{n}", proceed) for n in range(20)), Given("last"))
    assert "last" not in names_of(registry, bounded=True)
    assert names_of(registry, bounded=True)[-1] != "last"
    proceed.set()
    end_helpers()
    assert names_of(registry, bounded=True)[-1] == "last"


@pytest.mark.usefixtures("_impatient")
def test_one_without_end_is_stopped(proceed: threading.Event) -> None:
    """A collector that gives families for ever is cut off, and its thread ends."""

    class Endless:
        def collect(self) -> Iterator[Metric]:
            while not proceed.wait(0.001):
                yield GaugeMetricFamily("x", "X.", 1)

    assert set(names_of(registry_of(Endless()), bounded=True)) == {"x"}
    end_helpers()


def test_without_foreign_collectors_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collectors of the exporter and the default ones run in the calling thread."""
    started: list[object] = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    registry = CollectorRegistry(target_info={"env": "test"})
    PrometheusExporter(registry=registry)
    names = names_of(registry, bounded=True)
    assert {"target", "process_threads", "python_info", "hypertrace_series"} <= set(names)
    assert started == []


def test_unbounded_collectors_run_in_the_calling_thread() -> None:
    """Unless it is wanted, nothing runs in another thread."""
    threads = []
    registry = registry_of(Given("x", before=lambda _: threads.append(threading.get_ident())))
    names_of(registry)
    names_of(registry, bounded=True)
    assert threads[0] == threading.get_ident() != threads[1]


def test_where_no_thread_can_start_they_run_in_the_calling_one() -> None:
    """A system without room for a thread gets its metrics all the same."""
    with no_thread_left():
        assert names_of(registry_of(Given("x", "y")), bounded=True) == ["x", "y"]


def test_the_families_of_the_application_come_first() -> None:
    """What a registry says of the application comes before all collectors."""
    registry = CollectorRegistry(target_info={"env": "test"})
    registry.register(Given("x"))
    assert names_of(registry) == ["target", "x"]


class OwnWay(CollectorRegistry):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("own_way", "Own way.", 1)
        yield from super().collect()


class Foreign:
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("foreign", "Foreign.", 1)


@pytest.mark.parametrize("bounded", [False, True])
def test_registries_of_other_kinds_are_asked_themselves(bounded: bool) -> None:
    """What is not `prometheus_client`'s registry collects in its own way."""
    assert names_of(Foreign(), bounded=bounded) == ["foreign"]
    registry = OwnWay()
    registry.register(Given("a", "b", before=fail_at_b))
    assert names_of(registry, bounded=bounded) == ["own_way", "a"]
    restricted = registry_of(Described("x", "y")).restricted_registry(["x"])
    assert names_of(restricted, bounded=bounded) == ["x"]


def test_prometheus_clients_own_collectors_are_asked_as_ever() -> None:
    """The families are those of the registry, in its order."""
    registry = CollectorRegistry(target_info={"env": "test"})
    Counter("jobs", "Jobs.", registry=registry).inc()
    for kind in (ProcessCollector, PlatformCollector, GCCollector):
        kind(registry=registry)
    theirs = [family.name for family in registry.collect()]
    assert names_of(registry) == names_of(registry, bounded=True) == theirs


FORK = """
import faulthandler, os, threading
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from hypertrace_prometheus.exposition import collection

collection.PATIENCE = 0.2
started, proceed = threading.Event(), threading.Event()

class Hanging:
    def collect(self):
        started.set()
        parent = os.getpid()
        while os.getpid() == parent and not forked:
            proceed.wait(0.01)
        return [GaugeMetricFamily("x", "X.", 1)]

def names():
    runs = collection.collect(registry, lambda family, _: family.name, bounded=True)
    return [name for run in runs for name in run.results]

forked = False
registry = CollectorRegistry()
registry.register(Hanging())
assert names() == []
with registry._lock:
    child = os.fork()
    forked = True
    if child == 0:
        faulthandler.dump_traceback_later(5, exit=True)
        # The lock is still held, as it would be by a thread that is not here.
        os._exit(0 if names() == ["x"] else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


GREENLETS = """
import faulthandler, time
faulthandler.dump_traceback_later(50, exit=True)
from hypertrace_prometheus import PrometheusExporter
# Modules that otherwise load when an exporter is made, after the patch.
import hypertrace_prometheus.exposition.collection
import hypertrace_prometheus.exposition.single_flight
import hypertrace_prometheus.http.server
from gevent import monkey
monkey.patch_all()
import gevent

class Waiting:
    def collect(self):
        gevent.sleep(0.1)
        return []

longest = 0.0

def work():
    global longest
    while True:
        start = time.monotonic()
        gevent.sleep(0.01)
        longest = max(longest, time.monotonic() - start)

exporter = PrometheusExporter(0)
exporter.registry.register(Waiting())
gevent.spawn(work)

def scrape(query):
    with gevent.socket.create_connection(("127.0.0.1", exporter.port)) as client:
        client.sendall(f"GET /metrics{query} HTTP/1.0\\r\\n\\r\\n".encode())
        return client.makefile("rb").read()

scrapes = [gevent.spawn(scrape, query) for query in ("", "", "?name[]=python_info")]
gevent.joinall(scrapes)
failed = b'failed_collections_total{collector="__main__.Waiting"} 0' not in scrapes[0].value
print([b"python_info" in each.value for each in scrapes], failed, longest < 2)
exporter.stop()
"""


def test_greenlets_wait_as_threads_do() -> None:
    """Patched by gevent after the import, a scrape that waits blocks no other greenlet."""
    pytest.importorskip("gevent")
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREENLETS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("[True, True, True] False True\n", "")


@needs_fork
def test_a_forked_child_asks_them_all() -> None:
    """A collector that hangs in the parent does not in a child, nor does the registry's lock."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.stdout, process.stderr.count("Traceback")) == ("0\n", 0)
