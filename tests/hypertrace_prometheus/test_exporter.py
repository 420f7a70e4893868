"""The trace function that counts for Prometheus."""

from __future__ import annotations

import enum
import gc
import socket
import sys
import threading
import tracemalloc
from collections import Counter as Tally
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Tracer, clear_trace_function, fan_out, set_trace_function, swallowed_errors
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from prometheus_client.core import Metric

    from hypertrace import TraceEvent

    class Export(Protocol):
        def __call__(self, *arguments: Any, **settings: Any) -> PrometheusExporter: ...


# Where this file was imported from: the label of every call in it.
FILE = __name__.replace(".", "/") + ".py"
OVERFLOW = {"object_classname": "<overflow>"}


class Network:
    def __init__(self, **props: object) -> None:
        self.tracer = Tracer(self, props)


class Swarm:
    def __init__(self, props: Any = None, parent: Network | None = None) -> None:
        self.tracer = Tracer(self, props, parent=parent.tracer if parent else None)

    def connect(self, *arguments: Any, **props: Any) -> None:
        self.tracer.trace(*arguments, **props)

    def plain(self) -> None:
        self.tracer.trace()


class Color(enum.StrEnum):
    RED = "red"


class Unprintable:
    """Raises for whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no comparison")

    def __format__(self, _: str) -> str:
        raise RuntimeError("no format")

    def __len__(self) -> int:
        raise RuntimeError("no length")


@pytest.fixture
def export() -> Iterator[Export]:
    """Give a function that makes an exporter, sets it, and stops it at the end of the test."""
    made = []

    def make(*arguments: Any, **settings: Any) -> PrometheusExporter:
        exporter = PrometheusExporter(*arguments, **{"collect_defaults": False} | settings)
        made.append(exporter)
        set_trace_function(exporter)
        return exporter

    yield make
    for exporter in made:
        exporter.stop()


def parse_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def samples_of(page: str) -> list[tuple[dict[str, str], float]]:
    found = [sample for family in parse_text(page) for sample in family.samples]
    return [(s.labels, s.value) for s in found if s.name == "function_counter_total"]


def samples(exporter: PrometheusExporter) -> list[tuple[dict[str, str], float]]:
    return samples_of(exporter.metrics())


def only(exporter: PrometheusExporter) -> dict[str, str]:
    ((labels, _),) = samples(exporter)
    return labels


def by(name: str, exporter: PrometheusExporter) -> dict[str | None, float]:
    """Sum up the counts by the values of one label."""
    counts: dict[str | None, float] = {}
    for labels, value in samples(exporter):
        counts[labels.get(name)] = counts.get(labels.get(name), 0) + value
    return counts


def total(exporter: PrometheusExporter) -> float:
    return sum(value for _, value in samples(exporter))


def families_of(text: str) -> Tally[str]:
    return Tally(line.split()[2] for line in text.splitlines() if line.startswith("# TYPE "))


def run_threads(number: int, work: Callable[[int], None]) -> None:
    """Run `work` in threads that start together."""
    start = threading.Barrier(number)

    def run(index: int) -> None:
        start.wait()
        work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- labels -----------------------------------------------------------------------------


def test_a_call_is_counted_by_class_function_and_file(export: Export) -> None:
    """A bare `trace()` has three labels, and each call of the method adds one."""
    exporter = export()
    swarm = Swarm()
    for _ in range(5):
        swarm.connect()
    labels = {
        "object_classname": "Swarm",
        "caller_functionname": "connect",
        "caller_filename": FILE,
    }
    assert samples(exporter) == [(labels, 5)]


def test_all_that_is_known_becomes_a_label(export: Export) -> None:
    """Id, parent and the allowed props of object, parent and call are labels."""
    exporter = export(allowed_props=["topic", "peer-id"], object_ids=True)
    network = Network(topic="all", secret="s")
    swarm = Swarm({"topic": "books", "other": 1}, network)
    swarm.connect("dial", {"peer-id": "p", "password": "x"}, topic="now")
    assert only(exporter) == {
        "object_classname": "Swarm",
        "object_id": str(swarm.tracer.object_id),
        "object_props_topic": "books",
        "caller_functionname": "connect",
        "caller_filename": FILE,
        "caller_props_topic": "now",
        "caller_props_peer_id": "p",
        "id": "dial",
        "parent_object_classname": "Network",
        "parent_object_id": str(network.tracer.object_id),
        "parent_object_props_topic": "all",
    }


def test_nothing_is_allowed_by_default(export: Export) -> None:
    """Without allowed props no value of a prop gets out."""
    exporter = export()
    Swarm({"topic": "secret"}, Network(topic="secret")).connect(topic="secret")
    assert "secret" not in exporter.metrics()


def test_a_parent_can_be_changed_and_removed(export: Export) -> None:
    """Later calls have the labels of the new parent, or none."""
    exporter = export(allowed_props=["topic"])
    swarm = Swarm(None, Network(topic="a"))
    swarm.connect()
    swarm.tracer.set_parent(Network(topic="b").tracer)
    swarm.connect()
    swarm.connect()
    swarm.tracer.set_parent(None)
    swarm.connect()
    assert by("parent_object_props_topic", exporter) == {"a": 1, "b": 2, None: 1}
    assert by("parent_object_classname", exporter) == {"Network": 3, None: 1}


def test_objects_with_equal_labels_share_a_series(export: Export) -> None:
    """Without object_ids it makes no difference which object was called."""
    exporter = export(allowed_props=["topic"])
    for topic in ("a", "b", "a"):
        Swarm({"topic": topic}).connect()
    assert by("object_props_topic", exporter) == {"a": 2, "b": 1}
    assert len(samples(exporter)) == 2


def test_ids_tell_calls_of_one_line_apart(export: Export) -> None:
    """The id given to a call is a label, and two methods with one id are not merged."""
    exporter = export()
    swarm = Swarm()
    for trace_id in ("a", "b", "a"):
        swarm.connect(trace_id)
    swarm.tracer.trace("a")
    assert by("id", exporter) == {"a": 3, "b": 1}
    assert len(samples(exporter)) == 3


def test_values_that_are_equal_but_other_texts_are_other_series(export: Export) -> None:
    """1, True and 1.0 are told apart, the first time and every time."""
    exporter = export(allowed_props=["topic"])
    swarm = Swarm()
    for _ in range(3):
        for value in (1, True, 1.0, "1", Color.RED, "red", b"red", None, ""):
            swarm.connect(topic=value)
    assert by("caller_props_topic", exporter) == {
        "1": 6,
        "True": 3,
        "1.0": 3,
        "red": 9,
        None: 6,
    }
    assert len(samples(exporter)) == 5


def test_ids_that_are_equal_but_other_texts_are_other_series(export: Export) -> None:
    """An id of a wrong type is counted under its text, every time."""
    exporter = export()
    swarm = Swarm()
    for _ in range(3):
        for value in (1, True, 1.0, "1", ["x"]):
            swarm.connect(value)
    assert by("id", exporter) == {"1": 6, "True": 3, "1.0": 3, "['x']": 3}


@pytest.mark.parametrize(
    "value",
    ["\ud800", "a\nb", 'a"b', "a\\b", "a\0b", "é" * 10_000_000, b"\xff" * 10_000_000, b"\\"],
    ids=["surrogate", "newline", "quote", "backslash", "NUL", "10 MB", "10 MB of bytes", "bytes"],
)
def test_awkward_values_leave_a_page_that_can_be_read(export: Export, value: str | bytes) -> None:
    """After any value in any place, both formats are read back with that value in them."""
    exporter = export(allowed_props=["topic"])
    for _ in range(2):
        Swarm({"topic": value}, Network(topic=value)).connect(value, topic=value)
    expected = exporter._labeller.text(value)
    assert len(expected) <= 256
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    for families in (parse_text(exporter.metrics()), parse_openmetrics(openmetrics)):
        (sample,) = [s for f in families for s in f.samples if s.name == "function_counter_total"]
        assert sample.value == 2
        for name in ("object_props_topic", "parent_object_props_topic", "caller_props_topic"):
            assert sample.labels[name] == expected
    assert swallowed_errors() == 0


def test_values_that_raise_are_counted(export: Export) -> None:
    """A value that can do nothing but raise is counted as unprintable, wherever it stands."""
    exporter = export(allowed_props=["topic"])
    value = Unprintable()
    swarm = Swarm({"topic": value}, Network(topic=value))
    for _ in range(2):
        swarm.connect(topic=value)
    swarm.connect({"topic": value})
    labels = only(exporter)
    for name in ("object_props_topic", "parent_object_props_topic", "caller_props_topic"):
        assert labels[name] == "<unprintable Unprintable>"
    assert total(exporter) == 3
    assert swallowed_errors() == 0


def test_label_values_are_cut_at_the_length_set(export: Export) -> None:
    """`max_label_length` bounds every label made of a value."""
    exporter = export(allowed_props=["topic"], max_label_length=16)
    for _ in range(2):
        Swarm({"topic": "o" * 99}).connect("i" * 99, topic="c" * 99)
    labels = only(exporter)
    assert labels["object_props_topic"] == "o" * 15 + "…"
    assert labels["caller_props_topic"] == "c" * 15 + "…"
    assert labels["id"] == "i" * 15 + "…"


def test_an_event_counts_like_the_call_it_tells_of(export: Export) -> None:
    """Called with an event, as a plain trace function is, an exporter counts the same series."""
    exporter = export(allowed_props=["topic"])
    plain = PrometheusExporter(collect_defaults=False, allowed_props=["topic"])

    def forward(event: TraceEvent) -> None:
        plain(event)

    swarm = Swarm({"topic": "a"}, Network(topic="b"))
    for function in (exporter, forward):
        set_trace_function(function)
        for _ in range(2):
            swarm.connect("x", topic="c")
            swarm.connect()
            swarm.plain()
    assert sorted(samples(exporter), key=str) == sorted(samples(plain), key=str)
    assert total(plain) == 6


# --- registries -------------------------------------------------------------------------


@pytest.mark.parametrize("registry", [REGISTRY, CollectorRegistry()], ids=["REGISTRY", "fresh"])
def test_an_exporter_shares_the_page_with_the_application(
    export: Export, registry: CollectorRegistry
) -> None:
    """On any registry the application's own metrics come out of the same page, each once."""
    orders = Counter("orders", "Orders.", registry=registry)
    orders.inc(2)
    try:
        exporter = export(registry=registry, collect_defaults=True)
        assert exporter.registry is registry
        Swarm().connect()
        text = exporter.metrics()
        openmetrics = render(registry, openmetrics=True).decode()
    finally:
        registry.unregister(orders)
    families = families_of(text)
    assert {"orders_total", "function_counter_total", "hypertrace_series"} <= set(families)
    assert {"python_info", "python_gc_objects_collected_total"} <= set(families)
    assert set(families.values()) == {1}
    assert "orders_total 2.0" in text
    assert {f.name for f in parse_openmetrics(openmetrics)} >= {"orders", "function_counter"}


def test_the_page_has_what_the_collector_gives(export: Export) -> None:
    """`prometheus_client`, asked for the same registry, gives the same samples."""
    exporter = export(allowed_props=["topic"], max_series=3)
    swarm = Swarm()
    for topic in ("a", 'b"\n\\', None, "c", "a"):
        swarm.connect(topic=topic)
    theirs = generate_latest(exporter.registry).decode()
    assert [family.samples for family in parse_text(exporter.metrics())] == [
        family.samples for family in parse_text(theirs)
    ]


@pytest.mark.parametrize("name", ["calls_total", "calls", "_x9"])
def test_the_counter_is_called_as_it_was_named(export: Export, name: str) -> None:
    """`counter_name` is the exact name in both formats, also one that OpenMetrics calls unknown."""
    exporter = export(counter_name=name)
    Swarm().connect()
    assert f"# TYPE {name} counter\n" in exporter.metrics()
    assert f"\n{name}{{" in exporter.metrics()
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    (family,) = [f for f in parse_openmetrics(openmetrics) if f.name == name.removesuffix("_total")]
    assert family.type == ("counter" if name.endswith("_total") else "unknown")
    assert [sample.name for sample in family.samples] == [name]


def test_default_metrics_come_by_default() -> None:
    """Metrics of process, platform and garbage collector are there unless they are not wanted."""
    with PrometheusExporter() as exporter:
        names = set(families_of(exporter.metrics()))
    assert {"python_info", "python_gc_collections_total"} <= names
    assert "process_cpu_seconds_total" in names or sys.platform != "linux"
    with PrometheusExporter(collect_defaults=False) as exporter:
        names = set(families_of(exporter.metrics()))
    assert not {name for name in names if name.startswith(("python_", "process_"))}


def test_default_metrics_that_are_there_are_not_added() -> None:
    """Of the default metrics only those are registered that the registry does not have yet."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    before = generate_latest(registry).decode()
    with PrometheusExporter(registry=registry) as exporter:
        families = families_of(exporter.metrics())
    assert "python_gc_collections_total" in families
    assert set(families.values()) == {1}
    assert families_of(generate_latest(registry).decode()) == families_of(before)


def test_default_metrics_of_the_default_registry_stay_when_an_exporter_goes() -> None:
    """What `prometheus_client` had registered itself is not taken off by `stop()`."""
    before = families_of(generate_latest(REGISTRY).decode())
    with PrometheusExporter(registry=REGISTRY):
        pass
    assert families_of(generate_latest(REGISTRY).decode()) == before


def test_exporters_on_two_registries_have_both_all_metrics() -> None:
    """The default metrics are on each of two registries."""
    with PrometheusExporter() as one, PrometheusExporter() as other:
        assert families_of(one.metrics()) == families_of(other.metrics())


def test_a_registry_that_has_the_metrics_is_refused(free_port: Callable[[], int]) -> None:
    """A second exporter on one registry raises, says what to do, and leaves nothing behind."""
    port = free_port()
    with PrometheusExporter() as first:
        before = families_of(first.metrics())
        with pytest.raises(ValueError, match=r"stop\(\) the exporter .* use another registry"):
            PrometheusExporter(port, registry=first.registry)
        assert families_of(first.metrics()) == before
    with PrometheusExporter(port, registry=first.registry) as again:
        assert families_of(again.metrics()) == before


def test_a_registry_that_has_a_metric_of_that_name_is_refused() -> None:
    """A metric of the application with the counter's name raises, and another name helps."""
    registry = CollectorRegistry()
    Counter("function_counter", "Of the application.", registry=registry)
    before = generate_latest(registry)
    with pytest.raises(ValueError, match=r"function_counter.* another registry"):
        PrometheusExporter(registry=registry)
    assert generate_latest(registry).splitlines()[:2] == before.splitlines()[:2]
    assert families_of(generate_latest(registry).decode()) == families_of(before.decode())
    PrometheusExporter(registry=registry, counter_name="calls_total").stop()


def test_a_busy_port_leaves_nothing_behind(free_port: Callable[[], int]) -> None:
    """When the port is taken, the error names it and the registry is as it was."""
    registry = CollectorRegistry()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}"):
            PrometheusExporter(port, registry=registry)
    assert generate_latest(registry) == b""
    PrometheusExporter(port, registry=registry).stop()


# --- the server -------------------------------------------------------------------------


def test_without_a_port_there_is_no_server() -> None:
    """An exporter without a port starts no thread, and has neither port nor address."""
    before = threading.active_count()
    with PrometheusExporter() as exporter:
        assert threading.active_count() == before
        assert exporter.port is None
        assert exporter.url is None


def test_the_server_is_known_while_it_runs() -> None:
    """Port and address are told until the exporter is stopped."""
    exporter = PrometheusExporter(0)
    assert exporter.port
    assert exporter.url == f"http://127.0.0.1:{exporter.port}/metrics"
    port = exporter.port
    exporter.stop()
    assert exporter.port is None
    assert exporter.url is None
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_an_exporter_can_be_stopped_twice() -> None:
    """`stop()` takes the metrics off the registry; again, or after the block, it does nothing."""
    with PrometheusExporter(0) as exporter:
        assert "function_counter_total" in families_of(exporter.metrics())
        exporter.stop()
        assert exporter.metrics() == ""
        exporter.stop()
    exporter.stop()
    assert exporter.metrics() == ""


def test_an_exporter_can_be_stopped_by_several_threads() -> None:
    """Threads that stop one exporter at once all come back, and it is stopped."""
    failed = []
    for _ in range(20):
        exporter = PrometheusExporter()

        def stop(_: int, exporter: PrometheusExporter = exporter) -> None:
            try:
                exporter.stop()
            except Exception as error:  # noqa: BLE001 -- told by the test
                failed.append(error)

        run_threads(4, stop)
        assert exporter.metrics() == ""
    assert failed == []


# --- its life as a trace function -------------------------------------------------------


def test_a_stopped_exporter_may_still_be_called(export: Export) -> None:
    """Tracers that go on after `stop()` see nothing of it; old call sites and new ones."""
    exporter = export()
    swarm = Swarm()
    swarm.connect()
    exporter.stop()
    swarm.connect()
    swarm.plain()
    Swarm().connect("new")
    assert exporter.metrics() == ""
    assert swallowed_errors() == 0


def test_one_exporter_can_replace_another(export: Export) -> None:
    """From then on the new one counts, and the old one keeps what it had."""
    registry = CollectorRegistry()
    first = export(registry=registry)
    swarm = Swarm()
    swarm.connect()
    assert total(first) == 1
    first.stop()
    second = export(registry=registry, allowed_props=["topic"])
    for _ in range(2):
        swarm.connect(topic="a")
    assert by("caller_props_topic", second) == {"a": 2}
    clear_trace_function()
    swarm.connect(topic="a")
    set_trace_function(second)
    swarm.connect(topic="a")
    assert total(second) == 3


def test_two_exporters_at_once(export: Export) -> None:
    """Through `fan_out` both count all, each with its own labels."""
    bare, rich = export(), export(allowed_props=["topic"])
    set_trace_function(fan_out(bare, rich))
    swarm = Swarm()
    for topic in ("a", "b", "a"):
        swarm.connect(topic=topic)
        swarm.plain()
    assert by("caller_props_topic", bare) == {None: 6}
    assert by("caller_props_topic", rich) == {"a": 2, "b": 1, None: 3}


def test_two_exporters_of_which_one_tells_objects_apart(export: Export) -> None:
    """Through `fan_out`, too, calls are counted under the object they were made on."""
    bare, rich = export(), export(object_ids=True)
    set_trace_function(fan_out(bare, rich))
    swarms = [Swarm() for _ in range(3)]
    for number, swarm in enumerate(swarms, 1):
        for _ in range(number):
            swarm.connect()
    assert total(bare) == 6
    assert by("object_id", rich) == {
        str(swarm.tracer.object_id): number for number, swarm in enumerate(swarms, 1)
    }


def test_an_exporter_beside_a_plain_function(export: Export) -> None:
    """Through `fan_out` an exporter counts beside any callable, also one that raises."""
    exporter = export(allowed_props=["topic"])
    events: list[TraceEvent] = []

    def fail(_: TraceEvent) -> None:
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fan_out(fail, exporter, events.append))
    swarm = Swarm()
    for topic in ("a", "b", "a"):
        swarm.connect(topic=topic)
    assert by("caller_props_topic", exporter) == {"a": 2, "b": 1}
    assert len(events) == swallowed_errors() == 3


# --- bounds -----------------------------------------------------------------------------


def test_past_the_limit_totals_stay_true(export: Export, caplog: pytest.LogCaptureFixture) -> None:
    """What does not fit is counted in the overflow, and the log tells once what to look at."""
    exporter = export(allowed_props=["topic"], max_series=5)
    swarm = Swarm()
    for number in range(20):
        for _ in range(2):
            swarm.connect(topic=str(number))
    assert total(exporter) == 40
    assert samples(exporter)[-1] == (OVERFLOW, 30)
    assert by("caller_props_topic", exporter) == {None: 30} | {str(n): 2 for n in range(5)}
    (record,) = caplog.records
    line = Swarm.connect.__code__.co_firstlineno + 1
    for part in (
        "function_counter_total",
        "caller_props_topic (5 values in the last 5",
        f"{FILE}:{line}:",
    ):
        assert part in record.getMessage()


def _grow(work: Callable[[int], object]) -> int:
    """Return by how many bytes 2 000 more calls of `work` grow the memory in use."""
    for number in range(3_000):
        work(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(3_000, 5_000):
            work(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_labels_of_objects_without_bound_are_held_in_bounds(export: Export) -> None:
    """Thousands of objects, each with labels of its own, leave the limit and no more."""
    exporter = export(allowed_props=["topic"], max_series=100)

    def work(number: int) -> None:
        swarm = Swarm({"topic": f"topic-{number}"})
        swarm.connect()
        swarm.connect(topic="x")

    # The tables of the core may be made anew; 100 bytes an object would be 200 000.
    assert _grow(work) < 100_000
    assert total(exporter) == 10_000
    assert len(exporter._share_keys) <= 100
    assert samples(exporter)[-1] == (OVERFLOW, 10_000 - 100)


def test_props_of_calls_without_bound_are_held_in_bounds(export: Export) -> None:
    """Thousands of values at one call leave the limit and no more."""
    exporter = export(allowed_props=["topic"], max_series=100)
    swarm = Swarm()
    assert _grow(lambda number: swarm.connect(topic=f"topic-{number}")) < 100_000
    assert total(exporter) == 5_000
    assert samples(exporter)[-1] == (OVERFLOW, 4_900)


def test_values_that_look_the_same_are_held_in_bounds(export: Export) -> None:
    """Thousands of values that are cut to one text leave one series and nothing else."""
    exporter = export(allowed_props=["topic"], max_label_length=16)
    swarm = Swarm()
    assert _grow(lambda number: swarm.connect(topic="\udcff" * 9 + f"{number:05}")) < 100_000
    assert len(samples(exporter)) == 1
    assert total(exporter) == 5_000


def test_props_of_an_object_do_not_outlive_it(export: Export) -> None:
    """A value that was traced is freed with the object whose prop it was, however it was called."""
    export(allowed_props=["topic"])

    class Value:
        def __str__(self) -> str:
            return "value"

    class Held:
        def __init__(self, value: Value) -> None:
            self.tracer = Tracer(self, {"topic": value, "other": value})

        def run(self, parent: Swarm) -> None:
            self.tracer.set_parent(parent.tracer)
            self.tracer.trace()
            self.tracer.trace("id")
            self.tracer.trace(topic="x")
            self.tracer.trace(None, {"topic": "x"})

    value, parent_value = Value(), Value()
    held, parent = Held(value), Swarm({"topic": parent_value})
    gone: list[ref[Any]] = [ref(value), ref(parent_value), ref(held), ref(parent)]
    gc.disable()
    try:
        held.run(parent)
        del value, parent_value, held, parent
        assert [reference() for reference in gone] == [None] * 4
    finally:
        gc.enable()


# --- objects told apart -----------------------------------------------------------------


def test_series_of_objects_that_are_gone_are_dropped(export: Export) -> None:
    """At the next scrape only living objects have series, and theirs are exact."""
    exporter = export(object_ids=True, allowed_props=["topic"])
    living = Swarm()
    numbers = []
    for _ in range(200):
        swarm = Swarm()
        swarm.connect()
        swarm.connect(topic="a")
        living.connect()
        living.connect(topic="a")
        numbers.append(swarm.tracer.object_id)
        del swarm
    assert len(set(numbers)) == 200
    assert by("object_id", exporter) == {str(living.tracer.object_id): 400}
    del living
    assert samples(exporter) == []


def test_objects_that_come_and_go_leave_nothing(export: Export) -> None:
    """Thousands of objects that are told apart leave no memory in use once they are gone."""
    exporter = export(object_ids=True, allowed_props=["topic"])

    def work(number: int) -> None:
        swarm = Swarm()
        swarm.connect()
        swarm.connect(topic="x")

    assert _grow(work) < 100_000
    assert samples(exporter) == []


def test_the_room_of_objects_that_are_gone_is_used_again(export: Export) -> None:
    """With as many objects alive as there is room, none is ever counted in the overflow."""
    exporter = export(object_ids=True, max_series=2)
    living = Swarm()
    for _ in range(50):
        living.connect()
        Swarm().connect()
    assert by("object_id", exporter) == {str(living.tracer.object_id): 50}
    assert "<overflow>" not in exporter.metrics()


def test_objects_past_the_limit_are_counted_in_the_overflow(export: Export) -> None:
    """Objects that find no room are counted together, and stay so: totals are true."""
    exporter = export(object_ids=True, max_series=2)
    swarms = [Swarm() for _ in range(5)]
    for _ in range(3):
        for swarm in swarms:
            swarm.connect()
    assert samples(exporter)[-1] == (OVERFLOW, 9)
    assert total(exporter) == 15


def test_an_event_that_outlives_its_object_is_taken(export: Export) -> None:
    """An event that is handed over late, when its object is gone, raises nothing."""
    events: list[TraceEvent] = []
    exporter = export(object_ids=True)
    set_trace_function(events.append)
    Swarm().connect()
    for event in events:
        exporter(event)
    assert samples(exporter) == []


# --- threads, finalizers, forks ---------------------------------------------------------


def test_threads_that_race_for_series_count_exactly(export: Export) -> None:
    """Sixteen threads that make 500 series where 50 have room lose no count."""
    exporter = export(allowed_props=["topic"], max_series=50)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:

        def work(index: int) -> None:
            swarm = Swarm()
            for number in range(5_000):
                swarm.connect(topic=str((number + 31 * index) % 500))

        run_threads(16, work)
    finally:
        sys.setswitchinterval(interval)
    assert total(exporter) == 16 * 5_000
    assert len(samples(exporter)) == 51
    assert swallowed_errors() == 0


def test_no_count_goes_down_between_scrapes(export: Export) -> None:
    """While threads count and make series, each scrape has every series with at least as much."""
    exporter = export(allowed_props=["topic"])
    done = threading.Event()
    pages, counted = [], []

    def work(index: int) -> None:
        if index == 0:
            pages.extend([exporter.metrics() for _ in range(20)])
            done.set()
            return
        swarm, number = Swarm(), 0
        while not done.is_set():
            swarm.connect(topic=str(number % 100))
            swarm.plain()
            number += 1
        counted.append(2 * number)

    run_threads(4, work)
    pages.append(exporter.metrics())
    before: dict[str, float] = {}
    for page in pages:
        now = {str(sorted(labels.items())): value for labels, value in samples_of(page)}
        assert all(now[series] >= value for series, value in before.items())
        before = now
    assert total(exporter) == sum(counted) > 0


def test_objects_that_come_and_go_in_threads(export: Export) -> None:
    """Objects die in some threads while others scrape: no error, and living ones stay exact."""
    exporter = export(object_ids=True)
    living = Swarm()
    done = threading.Event()
    failed = []

    def work(index: int) -> None:
        try:
            if index < 2:
                while not done.is_set():
                    exporter.metrics()
                return
            for _ in range(1_000):
                Swarm().connect()
                living.connect()
        except Exception as error:  # noqa: BLE001 -- told by the test
            failed.append(error)
        finally:
            done.set()

    run_threads(4, work)
    assert failed == []
    assert swallowed_errors() == 0
    assert by("object_id", exporter) == {str(living.tracer.object_id): 2_000}


def test_finalizers_that_trace_during_a_scrape(export: Export) -> None:
    """Objects that trace as they are collected, in the midst of a scrape, are all counted."""
    exporter = export(allowed_props=["topic"])
    threshold = gc.get_threshold()
    made = ended = 0

    class Ghost:
        def __init__(self) -> None:
            nonlocal made
            made += 1
            self.tracer = Tracer(self)
            self.cycle = self

        def __del__(self) -> None:
            nonlocal ended
            ended += 1
            self.tracer.trace(topic=str(ended))
            if made < 500:
                Ghost()

    swarm = Swarm()
    for number in range(500):
        swarm.connect(topic=str(number))
    gc.collect()
    gc.disable()
    Ghost()
    try:
        gc.set_threshold(5)
        gc.enable()
        for _ in range(3):
            exporter.metrics()
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
        made = 500
        gc.collect()
    assert ended > 20
    assert by("object_classname", exporter) == {"Swarm": 500, "Ghost": ended}
    assert swallowed_errors() == 0


# --- mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"allowed_props": "topic"}, TypeError, r"several names: \['topic'\], not 'topic'"),
        ({"allowed_props": ["topic", ""]}, ValueError, "allowed_props has an empty name"),
        ({"allowed_props": [7]}, TypeError, r"allowed_props must be names \(str\), not 7"),
        ({"allowed_props": ["a", "a"]}, ValueError, "'a' and 'a' would both become"),
        (
            {"allowed_props": ["user-id", "user_id"]},
            ValueError,
            "'user-id' and 'user_id' would both become the label object_props_user_id",
        ),
        ({"counter_name": ""}, ValueError, "counter_name '' is no name of a metric"),
        ({"counter_name": "9x"}, ValueError, "counter_name '9x' .* no digit first"),
        ({"counter_name": "a-b"}, ValueError, "counter_name 'a-b' is no name of a metric"),
        ({"counter_name": "a b\n"}, ValueError, r"counter_name 'a b\\n' is no name"),
        ({"counter_name": "größe"}, ValueError, "counter_name 'größe' is no name"),
        ({"counter_name": "_total"}, ValueError, "counter_name '_total' is no name of a metric"),
        ({"counter_name": None}, TypeError, "counter_name must be a str, not None"),
        ({"counter_name": b"x"}, TypeError, "counter_name must be a str, not b'x'"),
        ({"port": -1}, ValueError, "port must be from 0 to 65535 .*, not -1"),
        ({"port": 65_536}, ValueError, "port must be from 0 to 65535 .*, not 65536"),
        ({"port": True}, TypeError, "port must be an int from 0 to 65535, not True"),
        ({"port": "4343"}, TypeError, "port must be an int from 0 to 65535, not '4343'"),
        ({"port": 4343.0}, TypeError, "port must be an int from 0 to 65535, not 4343.0"),
        ({"port": 0, "host": ""}, ValueError, "host must not be empty"),
        ({"port": 0, "host": None}, TypeError, "host must be a str"),
        ({"max_series": 0}, ValueError, "max_series must be 1 or more, not 0"),
        ({"max_series": -5}, ValueError, "max_series must be 1 or more, not -5"),
        ({"max_series": "10"}, TypeError, "max_series must be an int, not '10'"),
        ({"max_series": True}, TypeError, "max_series must be an int, not True"),
        ({"max_series": 1e4}, TypeError, "max_series must be an int, not 10000.0"),
        ({"max_series": None}, TypeError, "max_series must be an int, not None"),
        ({"max_label_length": 15}, ValueError, "max_label_length must be 16 or more, not 15"),
        ({"max_label_length": "16"}, TypeError, "max_label_length must be an int, not '16'"),
    ],
    ids=str,
)
def test_a_mistake_in_the_settings_raises_at_once(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A bad argument is refused, the message says what was wrong, and nothing is left behind."""
    registry = CollectorRegistry()
    with pytest.raises(error, match=message):
        PrometheusExporter(registry=registry, **settings)
    assert generate_latest(registry) == b""


def test_settings_are_given_by_name() -> None:
    """All but the port are keyword arguments, so that a call can be read."""
    with pytest.raises(TypeError, match="positional"):
        PrometheusExporter(0, "127.0.0.1")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "name",
    [
        "hypertrace_series",
        "python_info",
        "process_calls_total",
        "function_duration_seconds",
        "function_duration_seconds_count",
        "function_exceptions",
        "function_in_progress",
        "function_edges_total",
    ],
)
def test_a_counter_is_not_named_like_another_metric_of_the_page(name: str) -> None:
    """A counter's name that begins like those of the exporter's other metrics is refused."""
    with pytest.raises(ValueError, match="begins like"):
        PrometheusExporter(counter_name=name)
