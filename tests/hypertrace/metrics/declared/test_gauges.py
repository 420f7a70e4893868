"""Pull gauges: when they are read, how long they live, and what failures cost."""

from __future__ import annotations

import gc
import logging
import math
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Tracer, dropped_events, set_trace_function, swallowed_errors
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics
from hypertrace.metrics.declared import gauges
from hypertrace.metrics.declared.gauges import THREAD_NAME, PullCounter
from hypertrace.periodic import PeriodicThread
from hypertrace_prometheus import PrometheusExporter

from ....running import LONG, in_child, in_threads
from ..readings import values, values_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Make

SWALLOWED = "hypertrace_swallowed_errors_total"


class Box:
    """An object with a size, which can be referred to weakly."""

    def __init__(self, size: float = 0) -> None:
        self.content = size

    def size(self) -> float:
        return self.content


class Hanging:
    """A function that returns when the test says so."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        self.go.wait(LONG)
        return 1


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """Give a function that hangs until the test ends, with little patience for it."""
    monkeypatch.setattr(gauges, "PATIENCE", 0.3)
    monkeypatch.setattr(gauges, "_STEP", 0.05)
    function = Hanging()
    yield function
    function.go.set()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let workers read their gauges for others all the time."""
    monkeypatch.setattr(gauges, "INTERVAL", 0.01)
    end_thread()
    yield
    end_thread()


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let workers read their gauges for others only when the test does."""
    monkeypatch.setattr(gauges, "INTERVAL", threading.TIMEOUT_MAX)
    end_thread()
    yield
    monkeypatch.undo()
    end_thread()


def end_thread() -> None:
    """End the thread that reads gauges for other workers; the next gauge starts one."""
    publisher = gauges._publisher
    publisher.before_fork()
    until(lambda: not threads())
    publisher._is_needed = False
    publisher._thread = PeriodicThread(gauges._publish, gauges.INTERVAL, THREAD_NAME)
    publisher.has_forked = False


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def fail() -> Any:
    raise ZeroDivisionError


def threads(name: str = THREAD_NAME) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_gauge_is_read_when_the_metrics_are(metrics: Metrics) -> None:
    """It has the value of that moment."""
    waiting: queue.Queue[int] = queue.Queue()
    metrics.gauge("queue_depth", {"queue": "mail"}, read=waiting.qsize, description="Waiting.")
    assert values(metrics, "queue_depth", "queue") == {("mail",): 0}
    waiting.put(1)
    waiting.put(2)
    assert values(metrics, "queue_depth", "queue") == {("mail",): 2}
    family = metrics.read().family("queue_depth")
    assert (family.kind, family.description) == ("gauge", "Waiting.")


def test_every_exporter_shows_it() -> None:
    """Those that are read, and those that push."""
    metrics = Metrics(workers=False)
    box = Box(3)
    metrics.gauge("box_size", read=box.size)
    lines: list[str] = []
    with JsonLinesExporter(lines.append, metrics=metrics, interval=1000) as exporter:
        assert exporter.flush()
    assert any('"box_size"' in line for line in lines)
    with PrometheusExporter(port=None, metrics=metrics) as prometheus:
        assert "box_size 3.0\n" in prometheus.metrics()


def test_several_have_different_tags(metrics: Metrics) -> None:
    """One name, one family; equal tags are an error until the first is stopped."""
    one, other = Box(1), Box(2)
    first = metrics.gauge("size", {"box": "one"}, read=one.size)
    metrics.gauge("size", {"box": "other"}, read=other.size)
    assert values(metrics, "size", "box") == {("one",): 1, ("other",): 2}
    with pytest.raises(ValueError, match=r"size with the tags \{'box': 'one'\} is read already"):
        metrics.gauge("size", {"box": "one"}, read=other.size)
    first.stop()
    metrics.gauge("size", {"box": "one"}, read=other.size)
    assert values(metrics, "size", "box") == {("one",): 2, ("other",): 2}


def test_a_mapping_has_a_value_for_each_tag(metrics: Metrics) -> None:
    """With what is not in it any more, or None, gone."""
    depths: dict[Any, float | None] = {"mail": 1, 7: 2}
    metrics.gauge("depth", ["queue"], read=lambda: depths)
    assert values(metrics, "depth", "queue") == {("mail",): 1, ("7",): 2}
    depths.update({"mail": None, 7: 3, "new": 0})
    assert values(metrics, "depth", "queue") == {("7",): 3, ("new",): 0}
    depths.clear()
    assert values(metrics, "depth", "queue") == {}


def test_several_tags_are_tuples(metrics: Metrics) -> None:
    """A mapping has them as keys."""
    metrics.gauge("depth", ["queue", "state"], read=lambda: {("mail", "new"): 1, ("sms", None): 2})
    assert values(metrics, "depth", "queue", "state") == {("mail", "new"): 1, ("sms", None): 2}


def test_an_object_that_is_gone_takes_its_gauge_with_it(metrics: Metrics) -> None:
    """The gauge does not keep it."""
    box = Box(1)
    handle = metrics.gauge("size", read=box.size)
    gone = weakref.ref(box)
    assert values(metrics, "size") == {(): 1}
    del box
    gc.collect()
    assert gone() is None
    assert handle.is_stopped
    assert values(metrics, "size") == {}


def test_the_object_of_a_method_in_c_is_not_kept(metrics: Metrics) -> None:
    """As that of a method in Python."""
    items = {1, 2, 3}
    metrics.gauge("items", read=items.__len__)
    assert values(metrics, "items") == {(): 3}
    gone = weakref.ref(items)
    del items
    gc.collect()
    assert gone() is None
    assert values(metrics, "items") == {}


def test_functions_and_objects_without_weak_references_are_kept(metrics: Metrics) -> None:
    """Until they are stopped."""
    metrics.gauge("listed", read=[1, 2].__len__)
    metrics.gauge("processors", read=os.cpu_count)
    metrics.gauge("answer", read=lambda: 42)
    gc.collect()
    assert values(metrics, "listed") == {(): 2}
    assert values(metrics, "processors") == {(): os.cpu_count()}
    assert values(metrics, "answer") == {(): 42}


def test_a_handle_removes_the_gauge(metrics: Metrics) -> None:
    """By `stop()`, any number of times, or at the end of a block."""
    box = Box(1)
    with metrics.gauge("size", read=box.size) as handle:
        assert values(metrics, "size") == {(): 1}
        assert not handle.is_stopped
    assert handle.is_stopped
    assert values(metrics, "size") == {}
    handle.stop()
    assert metrics.read().family("size").values == []


def test_a_gauge_that_raises_costs_itself_only(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no value, is counted, and logged once a minute at the most."""
    broken = Box(1)
    metrics.gauge("size", read=Box(1).size)
    metrics.gauge("broken", read=broken.size)
    fine = Box(2)
    metrics.gauge("fine", read=fine.size)
    assert values(metrics, "broken") == {(): 1}
    broken.size = fail  # type: ignore[method-assign]  # the gauge has the function of the class
    assert values(metrics, "broken") == {(): 1}
    metrics.gauge("failing", read=fail)
    with caplog.at_level(logging.ERROR, "hypertrace.metrics"):
        for number in (1, 2):
            assert values(metrics, "failing") == {}
            assert swallowed_errors() == number
    assert values(metrics, "fine") == {(): 2}
    (record,) = caplog.records
    assert "The gauge failing could not be read" in record.getMessage()
    assert record.exc_info
    assert values(metrics, SWALLOWED) == {(): 4}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_exception_ends_anything(metrics: Metrics, error: type[BaseException]) -> None:
    """Those that end programs are failures, too."""

    def end() -> int:
        raise error

    metrics.gauge("ending", read=end)
    fine = Box(1)
    metrics.gauge("fine", read=fine.size)
    assert values(metrics, "fine") == {(): 1}
    assert swallowed_errors() == 1


@pytest.mark.parametrize(
    "value", ["3", math.nan, math.inf, True, 10**400, [1], object()], ids=range(7)
)
def test_no_number_is_no_value(metrics: Metrics, value: Any) -> None:
    """It is counted as invalid; the value before is gone."""
    box = Box(1)
    metrics.gauge("size", read=box.size)
    assert values(metrics, "size") == {(): 1}
    box.content = value
    assert values(metrics, "size") == {}
    invalid = values(metrics, "hypertrace_invalid_values_total", "metric")
    assert invalid["size",] >= 1


def test_none_is_no_value_now(metrics: Metrics) -> None:
    """And no error."""
    box = Box(None)  # type: ignore[arg-type]
    metrics.gauge("size", read=box.size)
    assert values(metrics, "size") == {}
    assert values(metrics, "hypertrace_invalid_values_total") == {}
    assert swallowed_errors() == 0


@pytest.mark.parametrize("found", [3, {("a", "b"): 1}, {(): 1}])
def test_no_mapping_of_the_tags_is_a_failure(metrics: Metrics, found: Any) -> None:
    """As what a function raises."""
    metrics.gauge("size", ["box"], read=lambda: found)
    assert values(metrics, "size") == {}
    assert swallowed_errors() == 1


def test_a_gauge_that_hangs_costs_itself_only(
    metrics: Metrics, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for once, and no second thread enters it; when it returns it is read again."""
    metrics.gauge("hanging", read=hanging)
    fine = Box(2)
    metrics.gauge("fine", read=fine.size)
    with caplog.at_level(logging.ERROR, "hypertrace.metrics"):
        reading = metrics.read()
    assert values_in(reading, "fine") == {(): 2}
    assert values_in(reading, "hanging") == {}
    assert "in __call__" in (caplog.records[0].exc_text or str(caplog.records[0].exc_info))
    started = time.monotonic()
    assert values(metrics, "fine") == {(): 2}
    assert time.monotonic() - started < gauges.PATIENCE
    assert hanging.calls == 1
    assert swallowed_errors() == 2
    hanging.go.set()
    until(lambda: values(metrics, "hanging") == {(): 1})


def test_many_gauges_that_hang_are_waited_for_together(metrics: Metrics, hanging: Hanging) -> None:
    """The last one is read, too, if there is time."""
    for number in range(3):
        metrics.gauge("hanging", {"number": number}, read=hanging)
    fine = Box(2)
    metrics.gauge("fine", read=fine.size)
    assert values(metrics, "fine") == {(): 2}


def test_what_hangs_has_no_older_value(metrics: Metrics, hanging: Hanging) -> None:
    """A value that does not move looks as if all were well."""
    hanging.go.set()
    metrics.gauge("hanging", read=hanging)
    assert values(metrics, "hanging") == {(): 1}
    hanging.go.clear()
    assert values(metrics, "hanging") == {}


def test_a_gauge_may_read_the_metrics(metrics: Metrics) -> None:
    """It does not wait for itself."""
    metrics.counter("c_total").inc(5)
    metrics.gauge("counted", read=lambda: values(metrics, "c_total")[()])
    assert values(metrics, "counted") == {(): 5}


def test_what_a_gauge_traces_is_dropped() -> None:
    """The application did not do it."""
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    box = Box(1)
    tracer = Tracer(box)

    def read() -> int:
        tracer.trace()
        return 1

    metrics.gauge("size", read=read)
    assert values(metrics, "size") == {(): 1}
    assert values(metrics, "function_counter_total") == {}
    assert dropped_events() == 2


def test_many_threads_may_read_at_once(metrics: Metrics) -> None:
    """All get the value."""
    box = Box(3)
    metrics.gauge("size", read=box.size)

    def work() -> None:
        for _ in range(20):
            assert values(metrics, "size") == {(): 3}

    in_threads(*[work] * 4)


def test_gauges_are_read_without_threads_too(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has none left, or the interpreter ends, in the thread that reads.

    That is so for those that have returned before: others may hang.
    """

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    box = Box(3)
    metrics.gauge("size", read=box.size)
    assert values(metrics, "size") == {(): 3}
    box.content = 4
    with monkeypatch.context() as patches:
        patches.setattr(threading.Thread, "start", refuse)
        with metrics.gauge("hanging", read=threading.Event().wait):
            assert values(metrics, "size") == {(): 4}
        metrics.gauge("new", read=lambda: 5)
        assert values(metrics, "new") == {}
    assert values(metrics, "new") == {(): 5}


def test_series_of_a_gauge_are_bounded(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """What is past the limit has no value, since a sum of gauges would be none."""
    found = {number: number for number in range(5)}
    with caplog.at_level(logging.WARNING, "hypertrace.metrics"):
        metrics.gauge("size", ["box"], read=lambda: found, max_series=2)
        assert values(metrics, "size", "box") == {("0",): 0, ("1",): 1}
    assert "size holds 2 series, its limit" in caplog.text


@pytest.mark.parametrize("read", [3, Box])
def test_what_is_no_function_is_refused(metrics: Metrics, read: Any) -> None:
    """Or at least fails when it is read."""
    if callable(read):
        metrics.gauge("size", read=read)
        assert values(metrics, "size") == {}
    else:
        with pytest.raises(TypeError, match="read must be a function without arguments"):
            metrics.gauge("size", read=read)


def test_a_coroutine_function_is_refused(metrics: Metrics) -> None:
    """The error says what to give."""

    async def read() -> int:
        return 1

    with pytest.raises(TypeError, match="read must be a plain function"):
        metrics.gauge("size", read=read)  # type: ignore[arg-type]


def test_gauges_in_memory_need_no_lasting_thread() -> None:
    """A thread is there while the metrics are read."""
    metrics = Metrics(workers=False)
    box = Box(3)
    metrics.gauge("size", read=box.size)
    assert values(metrics, "size") == {(): 3}
    until(lambda: not threads(gauges.READER_NAME))


@pytest.mark.usefixtures("often")
def test_workers_read_their_gauges_for_each_other(worker: Make) -> None:
    """A thread does; the values are those of the living workers."""
    one, other = worker(), worker()
    boxes = Box(1), Box(2)
    one.gauge("size", read=boxes[0].size)
    handle = other.gauge("size", read=boxes[1].size)
    until(lambda: values(one, "size") == {(): 3})
    boxes[1].content = 5
    until(lambda: values(one, "size") == {(): 6})
    handle.stop()
    assert values(one, "size") == {(): 1}


@pytest.mark.usefixtures("often")
def test_a_forked_worker_reads_its_own(worker: Make) -> None:
    """Its thread starts again, as does that of the parent; when it is gone, so is its value."""
    metrics = worker()
    box = Box(1)
    metrics.gauge("size", read=box.size)
    assert len(threads()) == 1
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        box.content = 10
        os.write(ready[1], bytes([len(threads())]))
        os.read(done[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"\x01"
        assert len(threads()) == 1
        until(lambda: values(metrics, "size") == {(): 11})
    finally:
        os.write(done[1], b"x")
        os.waitpid(child, 0)
    assert values(metrics, "size") == {(): 1}


@pytest.mark.usefixtures("never")
def test_a_process_that_forks_and_counts_nothing_reads_none(worker: Make) -> None:
    """As a server that has loaded the application and forks workers; it does once it counts."""
    metrics = worker()
    box = Box(1)
    metrics.gauge("size", read=box.size)
    in_child(lambda: None)
    gauges._publish()
    assert not metrics.storage.is_worker
    metrics.counter("orders_total").inc()
    gauges._publish()
    assert metrics.read(worker="self").family("size").values == [1]


def test_a_forked_child_waits_for_no_thread_of_its_parent(hanging: Hanging) -> None:
    """A gauge that hangs in the parent is read in the child."""
    metrics = Metrics(workers=False)
    metrics.gauge("hanging", read=hanging)
    assert values(metrics, "hanging") == {}

    def work() -> None:
        hanging.go = threading.Event()
        hanging.go.set()
        assert values(metrics, "hanging") == {(): 1}

    in_child(work)


def read_total(metrics: Metrics, read: Callable[[], object]) -> Any:
    """Let a counter have the totals that a function returns."""
    counter = metrics.counter("seconds_total", ["mode"])
    return metrics._declared.read_gauge(counter, read, ["mode"], PullCounter)  # type: ignore[arg-type]  # as wrong ones may be


def test_a_counter_follows_a_total(metrics: Metrics) -> None:
    """It has what the total has, whose sums of floats may differ by their last digit."""
    totals: dict[str, Any] = {"user": 0, "system": None}
    handle = read_total(metrics, lambda: totals)
    assert values(metrics, "seconds_total", "mode") == {("user",): 0}
    for number in range(1, 1000):
        totals["user"] = number * 0.1
        totals["system"] = number
        found = values(metrics, "seconds_total", "mode")
        assert found == {("user",): pytest.approx(number * 0.1), ("system",): number}
    assert values(metrics, "hypertrace_invalid_values_total") == {}
    handle.stop()
    totals["system"] += 1
    assert values(metrics, "seconds_total", "mode")[("system",)] == 999
    read_total(metrics, lambda: totals)
    assert values(metrics, "seconds_total", "mode")[("system",)] == 1000


def test_a_total_that_fails_leaves_the_counter(metrics: Metrics) -> None:
    """It stays as it was, and the failure is counted."""
    totals: dict[str, Any] = {"user": 3}
    read_total(metrics, lambda: totals)
    assert values(metrics, "seconds_total", "mode") == {("user",): 3}
    before = swallowed_errors()
    totals["user"] = "many"
    assert values(metrics, "seconds_total", "mode") == {("user",): 3}
    assert swallowed_errors() - before == 1


AT_EXIT = """
import sys, threading
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics

metrics = Metrics(workers=False)
exporter = JsonLinesExporter(print, metrics=metrics, interval=1000)
metrics.counter("orders_total").inc(3)
size = metrics.gauge("size", read=lambda: 42)
exporter.flush()
metrics.counter("orders_total").inc(3)
if "hang" in sys.argv:
    never = threading.Event()
    metrics.gauge("hanging", read=never.wait)
"""


@pytest.mark.parametrize("how", ["", "hang"])
def test_gauges_are_in_the_last_reading_at_exit(how: str) -> None:
    """Also where the interpreter starts no thread any more; one that hangs costs no count."""
    program = [sys.executable, "-c", AT_EXIT, how]
    run = subprocess.run(program, capture_output=True, text=True, check=True, timeout=LONG)
    _, last = run.stdout.splitlines()
    assert '"orders_total"' in last
    assert '"size"' in last


def test_gauges_do_not_keep_the_metrics() -> None:
    """Nor does the thread that reads them."""
    metrics = Metrics(workers=False)
    metrics.gauge("answer", read=lambda: 42)
    metrics.read()
    until(lambda: not threads(gauges.READER_NAME))
    gone = weakref.ref(metrics)
    del metrics
    gc.collect()
    assert gone() is None
