"""Process and garbage collector of each worker, on the page of any of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector, generate_latest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics.shared.program import ProcessId, this_process
from hypertrace.metrics.shared.snapshot import Dead, Snapshot, Worker
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import workers
from hypertrace_prometheus.exposition.workers import NAMES, WorkersMetrics

from ..pages import families_of

if TYPE_CHECKING:
    from pathlib import Path

    from hypertrace.metrics import Family

pytest.importorskip("fcntl", reason="this system has no file locks")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="this system has no /proc")

SETTING = """
import os, re, signal, sys
from prometheus_client import REGISTRY, ProcessCollector
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter(workers=sys.argv[1], **SETTINGS)
set_trace_function(exporter)
tracer = Tracer("worker")


def numbers(name, page=None):
    "Return the values of a metric by the worker."
    pattern = rf'^{name}{{worker="(\\d+)"}} (.+)$'
    found = re.findall(pattern, page or exporter.metrics(), re.MULTILINE)
    return {int(number): float(value) for number, value in found}


def value(name, **labels):
    text = ",".join(f'{label}="{one}"' for label, one in sorted(labels.items()))
    (found,) = re.findall(rf"^{name}{{{text}}} (.+)$", exporter.metrics(), re.MULTILINE)
    return float(found)


alive, held = os.pipe()


def start():
    "Fork a worker that counts once and then waits for the end of this process."
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        os.close(held)
        tracer.trace()
        os.write(done, b".")
        os.read(alive, 1)
        os._exit(0)
    os.read(ready, 1)
    return child


def kill(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def run(tmp_path: Path, program: str, **settings: object) -> None:
    text = f"SETTINGS = {settings}\n{SETTING}{program}"
    subprocess.run([sys.executable, "-c", text, str(tmp_path / "counts")], check=True, timeout=100)


@needs_proc
def test_each_worker_is_shown_with_its_number(tmp_path: Path) -> None:
    """Process metrics have the values of `prometheus_client`; a killed worker has none any more."""
    program = """
one, other = start(), start()
for name in (
    "process_start_time_seconds", "process_max_fds", "process_open_fds",
    "process_cpu_seconds_total", "process_virtual_memory_bytes", "process_resident_memory_bytes",
):
    theirs = []
    for child in (one, other):
        for family in ProcessCollector(pid=lambda: child, registry=None).collect():
            theirs += [sample.value for sample in family.samples if sample.name == name]
    assert numbers(name) == dict(zip((1, 2), theirs)), name
assert numbers("process_threads") == {1: 1, 2: 1}
assert value("hypertrace_workers", state="live") == 2
kill(one)
for name in ("process_start_time_seconds", "process_threads", "process_open_fds"):
    assert set(numbers(name)) == {2}
assert value("hypertrace_workers", state="live") == 1
assert value("hypertrace_workers", state="folded") == 1
third = start()
assert set(numbers("process_threads")) == {1, 2}
for child in (other, third):
    kill(child)
assert value("hypertrace_workers", state="live") == 0
assert value("hypertrace_workers", state="folded") == 3
assert 'function_counter_total{caller_filename="<string>"' in exporter.metrics()
"""
    run(tmp_path, program)


def test_each_worker_has_its_garbage(tmp_path: Path) -> None:
    """Collections are those of each worker, and go with it."""
    program = """
import gc
gc.disable()
one, other = start(), start()
names = "python_gc_collections_total", "python_gc_objects_collected_total"
for name in (*names, "python_gc_objects_uncollectable_total"):
    for worker in (1, 2):
        for generation in (0, 1, 2):
            assert value(name, worker=worker, generation=generation) == 0
for _ in range(3):
    gc.collect(1)
tracer.trace()  # this process becomes a worker, too
exporter.metrics()
assert value(names[0], worker=3, generation=1) == gc.get_stats()[1]["collections"] >= 3
assert value(names[1], worker=3, generation=1) == gc.get_stats()[1]["collected"]
kill(one)
kill(other)
assert not re.search(r'worker="[12]"', exporter.metrics())
"""
    run(tmp_path, program)


def test_a_process_that_counts_nothing_is_shown_while_there_is_no_worker(tmp_path: Path) -> None:
    """It is the worker 0 until another has counted, and again when that is gone."""
    program = """
import gc
assert set(numbers("process_threads")) == {0}
assert value("python_gc_collections_total", worker=0, generation=2) == (
    gc.get_stats()[2]["collections"]
)
child = start()
assert set(numbers("process_threads")) == {1}
assert 'worker="0"' not in exporter.metrics()
kill(child)
assert set(numbers("process_threads")) == {0}
tracer.trace()
assert set(numbers("process_threads")) == {1}
assert exporter.metrics().count("\\npython_info{") == 1
"""
    run(tmp_path, program)


def test_a_scrape_makes_no_worker(tmp_path: Path) -> None:
    """A process whose registry has a collector of the application does not count by being asked."""
    program = """
from prometheus_client import Counter
Counter("orders", "Orders.", registry=exporter.registry)
for _ in range(2):
    assert 'hypertrace_failed_collections_total{collector="prometheus_' in exporter.metrics()
    assert value("hypertrace_workers", state="live") == 0
"""
    run(tmp_path, program)


def test_without_defaults_there_are_none(tmp_path: Path) -> None:
    """`collect_defaults=False` shows how many workers there are, and no process."""
    program = """
tracer.trace()
assert not re.search(r"^(process|python)_", exporter.metrics(), re.MULTILINE)
assert value("hypertrace_workers", state="live") == 1
"""
    run(tmp_path, program, collect_defaults=False)


def test_counts_in_memory_have_no_worker() -> None:
    """In a process that counts for itself the metrics are those of `prometheus_client`."""
    with PrometheusExporter(workers=False) as exporter:
        page, theirs = exporter.metrics(), generate_latest(exporter.registry).decode()
    assert "worker" not in page
    assert families_of(page) == families_of(theirs)


def test_a_registry_that_has_those_of_one_process(tmp_path: Path) -> None:
    """On the page workers take the place of the process; `prometheus_client` shows the process."""
    with PrometheusExporter(registry=REGISTRY, workers=str(tmp_path / "counts")) as exporter:
        set_trace_function(exporter)
        Tracer("worker").trace()
        page, theirs = exporter.metrics(), generate_latest(REGISTRY).decode()
    assert set(families_of(page).values()) == set(families_of(theirs).values()) == {1}
    assert 'collector="prometheus_client' not in page  # none of them has failed
    lines = [line for line in page.splitlines() if line.startswith(("process_", "python_gc_"))]
    assert lines
    assert [line for line in lines if 'worker="' not in line] == []
    lines = re.findall(r"^(?:process|python_gc)_.*$", theirs, re.MULTILINE)
    # Threads are no metric of prometheus_client.
    assert {line.partition("{")[0] for line in lines if 'worker="' in line} == {"process_threads"}


def test_a_registry_with_another_prefix_keeps_it(tmp_path: Path) -> None:
    """Metrics of the process that the application has under its own prefix stay."""
    registry = CollectorRegistry()
    ProcessCollector(namespace="shop", registry=registry)
    with PrometheusExporter(registry=registry, workers=str(tmp_path / "counts")) as exporter:
        names = set(families_of(exporter.metrics()))
    assert {"shop_process_open_fds", "process_open_fds"} <= names or sys.platform != "linux"


def _snapshot(process: ProcessId, number: int = 1) -> Snapshot:
    worker = Worker("w-1-0", process.pid, process.started, number, is_alive=True, cells=b"")
    return Snapshot(Dead(0, frozenset(), b""), [worker])


def _names(families: list[Family]) -> set[str]:
    return {family.name for family in families}


@needs_proc
@pytest.mark.parametrize("change", [-1, 1])
def test_another_process_with_the_same_pid_is_not_shown(change: int) -> None:
    """A worker in another container, whose pid another process has here, has its garbage only."""
    me = this_process()
    assert "process_threads" in _names(WorkersMetrics().read(_snapshot(me)))
    found = WorkersMetrics().read(_snapshot(me._replace(started=me.started + change)))
    assert _names(found) == {f"{name}_total" for name in NAMES if name.startswith("python_gc_")}


def test_a_worker_without_number_is_left_out() -> None:
    """It gets a number with the next reading; until then it is not mixed up with another."""
    assert WorkersMetrics().read(_snapshot(this_process(), number=0)) == []


def test_a_process_beside_the_workers_is_never_shown() -> None:
    """What only serves what others share is none of them."""
    nothing = Snapshot.nothing()
    assert WorkersMetrics(shows_itself=False).read(nothing) == []
    assert {point.labels[0] for one in WorkersMetrics().read(nothing) for point in one.points} == {
        "0"
    }


@needs_proc
def test_what_the_system_keeps_secret_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process whose files and limits cannot be read, the rest is shown."""
    monkeypatch.setattr(workers, "_open_files", lambda _: None)
    monkeypatch.setattr(workers, "_most_files", lambda _: None)
    found = _names(WorkersMetrics().read(_snapshot(this_process())))
    assert "process_resident_memory_bytes" in found
    assert not {"process_open_fds", "process_max_fds"} & found


@needs_proc
def test_limits_are_read_from_a_file_where_the_system_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file has the same limit as the call, and a file of descriptors as many as the folder."""
    expected = workers._most_files(os.getpid())
    resource = pytest.importorskip("resource")

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refuse)
    assert workers._most_files(os.getpid()) == expected
    assert workers._most_files(0) is None


def test_without_proc_the_process_that_answers_has_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems other than Linux, the threads of Python are all that is known."""
    monkeypatch.setattr(workers, "_fields_of_stat", lambda _: None)
    monkeypatch.setattr(workers, "this_process", lambda: ProcessId(os.getpid(), 0))
    found = _names(WorkersMetrics().read(Snapshot.nothing()))
    assert {name for name in found if name.startswith("process_")} == {"process_threads"}
