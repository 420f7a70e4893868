"""Runtime: figures of the process, of collections of garbage, and of event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import COMPILED, swallowed_errors
from hypertrace.integrations import event_loops, install, process, registry, uninstall
from hypertrace.metrics import Family, HistogramReading, Metrics
from hypertrace_prometheus.exposition.workers import NAMES

from ..running import LONG, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Points = Callable[[str], dict[tuple[str, ...], float]]

PAUSES = "cpython_gc_pause_seconds"
COLLECTIONS = "cpython_gc_collections_total"
LAGS = "asyncio_event_loop_lag_seconds"
LOOPS = "asyncio_event_loops"
TASKS = "asyncio_tasks"

compiled = pytest.mark.skipif(not COMPILED, reason="pauses need the compiled core")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let event loops get callbacks all the time."""
    monkeypatch.setattr(event_loops, "EVERY", 0.005)


def collections() -> list[int]:
    """Return how many collections there were, by the generation."""
    return [one["collections"] for one in gc.get_stats()]


def histograms(family: Family) -> list[HistogramReading]:
    """Return the distributions of a family."""
    return [one for one in family.values if isinstance(one, HistogramReading)]


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, without blocking the event loop."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        await asyncio.sleep(0.001)


# --- the process ------------------------------------------------------------------------


def test_the_figures_of_the_process_are_those_of_the_system(
    metrics: Metrics, points: Points
) -> None:
    """Each lies between what the system says before and after."""
    install("runtime")
    before = resource.getrusage(resource.RUSAGE_SELF)
    cpu = points("process_cpu_time_seconds_total")
    switches = points("process_context_switches_total")
    faults = points("process_paging_faults_total")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert before.ru_utime - 1e-6 <= cpu[("user",)] <= after.ru_utime + 1e-6
    assert before.ru_stime - 1e-6 <= cpu[("system",)] <= after.ru_stime + 1e-6
    assert before.ru_nvcsw <= switches[("voluntary",)] <= after.ru_nvcsw
    assert before.ru_nivcsw <= switches[("involuntary",)] <= after.ru_nivcsw
    assert before.ru_minflt <= faults[("minor",)] <= after.ru_minflt
    assert before.ru_majflt <= faults[("major",)] <= after.ru_majflt
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert points("process_unix_file_descriptor_limit") == {("0",): limit}


def test_files_threads_memory_and_time_follow_the_process(metrics: Metrics, points: Points) -> None:
    """What the application opens, starts and holds is seen, exactly where it can be."""
    install("runtime")
    names = [
        "process_unix_file_descriptor_count",
        "process_thread_count",
        "process_memory_usage_bytes",
        "process_memory_virtual_bytes",
        "process_uptime_seconds",
    ]
    before = [points(name)[("0",)] for name in names]
    files = [open(os.devnull) for _ in range(7)]  # noqa: PTH123, SIM115 -- closed below
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    held = bytearray(os.urandom(1)) * 50_000_000
    after = [points(name)[("0",)] for name in names]
    end.set()
    for thread in threads:
        thread.join()
    for file in files:
        file.close()
    rises = [now - then for now, then in zip(after, before, strict=True)]
    assert rises[:2] == [7, 3]
    assert rises[2] > 40_000_000
    assert rises[3] > 40_000_000
    assert 0 < rises[4] < LONG
    assert len(held) == 50_000_000


def test_the_time_since_the_start_is_right(metrics: Metrics, points: Points) -> None:
    """It agrees with the system's own, to its ticks."""
    psutil = pytest.importorskip("psutil")
    install("runtime")
    expected = time.time() - psutil.Process().create_time()
    assert points("process_uptime_seconds")[("0",)] == pytest.approx(expected, abs=2)


def test_no_name_is_one_that_prometheus_shows_already(metrics: Metrics) -> None:
    """The pages of an exporter have the figures of `prometheus_client` besides."""
    install("runtime")
    asyncio.run(asyncio.sleep(0))
    ours = {family.name.removesuffix("_total") for family in metrics.read().families}
    assert ours & NAMES == set()
    assert "process_cpu_time_seconds" in ours


def test_what_a_system_does_not_have_is_absent(
    metrics: Metrics, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc, `resource` and psutil nothing is zero, and nothing fails."""
    monkeypatch.setattr(process, "resource", None)
    monkeypatch.setattr(process, "_read", lambda path: b"")
    monkeypatch.setattr("os.listdir", _no_folder)
    monkeypatch.setitem(sys.modules, "psutil", None)
    before = swallowed_errors()
    install("runtime")
    found = {family.name: len([*family.points]) for family in metrics.read().families}
    assert found["process_cpu_time_seconds_total"] == 2  # every system has it
    absent = [name for name, number in found.items() if name.startswith("process_") and not number]
    assert len(absent) == 8
    assert swallowed_errors() == before


def test_psutil_stands_in_where_the_system_has_no_files(
    metrics: Metrics, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows: what it has is there."""
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(process, "_read", lambda path: b"")
    monkeypatch.setattr(process, "resource", None)
    own = psutil.Process()
    found = (
        process.resident_memory(),
        process.virtual_memory(),
        process.uptime(),
        process.context_switches(),
    )
    assert found[0] == pytest.approx(own.memory_info().rss, rel=0.5)
    assert found[1] == pytest.approx(own.memory_info().vms, rel=0.5)
    assert found[2] == pytest.approx(time.time() - own.create_time(), abs=2)
    assert found[3]["voluntary"] is not None
    monkeypatch.setattr("os.listdir", _no_folder)
    assert process.threads() is None or isinstance(process.threads(), int)


def _no_folder(path: str) -> list[str]:
    raise FileNotFoundError(path)


# --- garbage ----------------------------------------------------------------------------


@compiled
def test_each_collection_is_a_pause(metrics: Metrics, points: Points) -> None:
    """Pauses and collections are as many as the collector counts, by the generation."""
    install("runtime")
    gc.disable()
    try:
        before = collections()
        for generation, number in ((0, 5), (1, 3), (2, 2)):
            for _ in range(number):
                gc.collect(generation)
        found = points(PAUSES)
        after = collections()
        counted = points(COLLECTIONS)
    finally:
        gc.enable()
    rise = [now - then for now, then in zip(after, before, strict=True)]
    assert [found[(str(generation),)] for generation in range(3)] == rise == [5, 3, 2]
    assert [counted[(str(generation),)] for generation in range(3)] == after


@compiled
def test_a_storm_of_collections_in_threads_is_counted_exactly(
    metrics: Metrics, points: Points
) -> None:
    """Automatic ones, asked ones and those that finalizers ask for, in many threads."""
    install("runtime")
    before, threshold = collections(), gc.get_threshold()
    gc.set_threshold(10, 2, 2)

    class Node:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            gc.collect(0)

    def work() -> None:
        for number in range(300):
            [Node() for _ in range(5)]
            if number % 50 == 0:
                gc.collect()

    try:
        in_threads(*[work] * 4)
        gc.disable()
        after, found = collections(), points(PAUSES)
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    rise = [now - then for now, then in zip(after, before, strict=True)]
    assert sum(rise) > 100
    assert [found.get((str(generation),), 0) for generation in range(3)] == rise


@compiled
def test_pauses_are_as_long_as_collections(metrics: Metrics) -> None:
    """The sum lies within the time that the calls took."""
    install("runtime")
    kept = [[number] for number in range(200_000)]
    gc.disable()
    try:
        before = sum(one.sum for one in histograms(metrics.read().family(PAUSES)))
        started = time.perf_counter()
        gc.collect()
        took = time.perf_counter() - started
        total = sum(one.sum for one in histograms(metrics.read().family(PAUSES))) - before
    finally:
        gc.enable()
    assert took / 2 < total <= took
    assert kept


@compiled
def test_what_a_signal_handler_raises_reaches_the_application(metrics: Metrics) -> None:
    """Also during a collection: no Python code of this package runs in `gc.callbacks`."""
    install("runtime")
    callback = gc.callbacks[-1]
    assert type(callback).__name__ == "builtin_function_or_method"

    def stop(*_: object) -> None:
        raise KeyError("stop")

    kept = [[number] for number in range(100_000)]
    before = signal.signal(signal.SIGALRM, stop)
    try:
        for _ in range(20):
            with pytest.raises(KeyError, match="stop"):  # noqa: PT012 -- comes in one of them
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                while True:
                    gc.collect()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert kept


def test_collected_and_uncollectable_objects_are_counted(metrics: Metrics, points: Points) -> None:
    """They are what the collector says."""
    install("runtime")
    gc.collect()
    name = "cpython_gc_collected_objects_total"
    before = points(name)[("2",)]
    stats = gc.get_stats()[2]["collected"]
    for _ in range(10):
        _make_cycle()
    gc.collect()
    assert points(name)[("2",)] - before == gc.get_stats()[2]["collected"] - stats >= 10
    assert points("cpython_gc_uncollectable_objects_total") == {
        (str(generation),): gc.get_stats()[generation]["uncollectable"] for generation in range(3)
    }


def _make_cycle() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)


# --- installation -----------------------------------------------------------------------


def test_every_metrics_has_the_figures_and_none_is_kept(metrics: Metrics, points: Points) -> None:
    """Those made later, too; one that is gone takes its instruments with it."""
    install("runtime")
    install("runtime")
    later = Metrics(workers=False)
    gc.collect()
    assert len([*later.read().family("process_uptime_seconds").points]) == 1
    integration = runtime_integration()
    assert len(integration._held) >= 2
    number = len(integration._held)
    reference = weakref.ref(later)
    del later
    gc.collect()
    assert reference() is None
    assert len(integration._held) == number - 1
    if COMPILED:
        assert {len(one) for one in integration._timer.adders} == {number - 1}


def runtime_integration() -> Any:
    return registry._installed["runtime"]._integration


def test_uninstall_leaves_nothing(metrics: Metrics, points: Points) -> None:
    """Gauges have no value, counters stay, and the interpreter is as before; then it goes on."""
    callbacks, mark = [*gc.callbacks], asyncio.events._set_running_loop
    install("runtime")
    assert points("process_uptime_seconds")
    before = points(COLLECTIONS)
    uninstall("runtime")
    assert (gc.callbacks, asyncio._set_running_loop) == (callbacks, mark)
    assert asyncio.events._set_running_loop is mark
    gc.collect()
    assert points("process_uptime_seconds") == {}
    assert points(COLLECTIONS) == before
    install("runtime")
    gc.disable()
    try:
        assert [points(COLLECTIONS)[(str(g),)] for g in range(3)] == collections()
    finally:
        gc.enable()


def test_a_metric_of_the_application_wins(points: Points, metrics: Metrics) -> None:
    """One that has a name already costs that figure only, which is logged."""
    metrics.counter("asyncio_tasks_total", ["shop"])
    metrics.distribution(PAUSES, ["shop"])
    before = swallowed_errors()
    install("runtime")
    gc.collect()
    assert points("process_uptime_seconds")
    assert points(PAUSES) == {}
    assert swallowed_errors() - before == (2 if COMPILED else 1)


# --- event loops ------------------------------------------------------------------------


@pytest.mark.usefixtures("often")
def test_a_loop_and_its_tasks_are_seen_while_it_runs(metrics: Metrics, points: Points) -> None:
    """The loop is found without code in the application; afterwards there is none."""
    install("runtime")

    async def main() -> None:
        waiting = [asyncio.create_task(asyncio.sleep(LONG)) for _ in range(9)]
        await until(lambda: points(TASKS) == {("main", "0"): 10})
        assert points(LOOPS) == {("main", "0"): 1}
        await until(lambda: points(LAGS).get(("main",), 0) >= 3)
        for task in waiting:
            task.cancel()

    asyncio.run(main())
    assert points(LOOPS) == points(TASKS) == {}


@pytest.mark.usefixtures("often")
def test_a_blocked_loop_is_late(metrics: Metrics) -> None:
    """The lag is the time for which the loop was blocked, and each callback has its own."""
    install("runtime")

    async def main() -> None:
        await until(lambda: metrics.read().family(LAGS).points)
        time.sleep(0.3)  # noqa: ASYNC251 -- the fault that is measured
        await asyncio.sleep(0)

    asyncio.run(main())
    (lag,) = histograms(metrics.read().family(LAGS))
    assert lag.sum > 0.25
    assert sum(lag.counts[lag.bounds.index(0.1) + 1 :]) > 1


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Give a function that makes a loop, of each kind."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    made: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
    return made


@pytest.mark.usefixtures("often")
def test_many_loops_in_threads_are_seen(
    metrics: Metrics, points: Points, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Loops of threads are counted by thread, and all their tasks."""
    install("runtime")
    ready, end = threading.Barrier(5), threading.Event()

    async def other() -> None:
        ready.wait(LONG)
        while not end.is_set():  # noqa: ASYNC110 -- of another thread
            await asyncio.sleep(0.001)

    def run() -> None:
        loop = new_loop()
        loop.run_until_complete(other())
        loop.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(LONG)
    deadline = time.monotonic() + LONG
    while points(TASKS) != {("other", "0"): 4}:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert points(LOOPS) == {("other", "0"): 4}
    assert points(LAGS)[("other",)] > 0
    end.set()
    for thread in threads:
        thread.join(LONG)
    assert points(LOOPS) == {}


@pytest.mark.usefixtures("often")
def test_a_loop_is_neither_kept_nor_kept_from_ending(
    metrics: Metrics, points: Points, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """It ends when its work is done, runs again, can be closed, and is gone with its last name."""
    install("runtime")
    for _ in range(20):
        loop = new_loop()
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0.002))
        reference = weakref.ref(loop)
        loop.close()
        del loop
        gc.collect()
        assert reference() is None
    assert points(LOOPS) == {}


@pytest.mark.usefixtures("often")
def test_a_loop_that_runs_again_is_not_late(
    metrics: Metrics, points: Points, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The time between two runs of a loop is no lag."""
    install("runtime")
    loop = new_loop()
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0.02))
        time.sleep(0.1)
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()
    total = sum(one.sum for one in histograms(metrics.read().family(LAGS)))
    assert total < 0.1


@pytest.mark.usefixtures("often")
def test_what_leaves_a_loop_is_what_left_it_before(
    metrics: Metrics, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Results, exceptions and the refusal of a loop in a loop are unchanged."""
    install("runtime")
    loop = new_loop()

    async def fail() -> None:
        raise KeyError("own")

    async def nested() -> None:
        other, waiting = new_loop(), asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError, match="running"):
                other.run_until_complete(waiting)
        finally:
            waiting.close()
            other.close()

    with pytest.raises(KeyError, match="own"):
        loop.run_until_complete(fail())
    loop.run_until_complete(nested())
    assert loop.run_until_complete(asyncio.sleep(0, "result")) == "result"
    assert asyncio._get_running_loop() is None
    loop.close()


@pytest.mark.usefixtures("often")
def test_a_loop_that_runs_when_it_is_installed_is_seen(metrics: Metrics, points: Points) -> None:
    """As where a server imports the application inside of its loop; it may be uninstalled there."""

    async def main() -> None:
        install("runtime")
        await until(lambda: points(TASKS) == {("main", "0"): 1})
        uninstall("runtime")
        assert points(LOOPS) == {}

    asyncio.run(main())
    asyncio.run(asyncio.sleep(0))


def test_the_count_of_many_tasks_is_rare(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, points: Points
) -> None:
    """However many tasks there are, counting them takes a thousandth of the loop's time."""
    monkeypatch.setattr(event_loops, "EVERY", 0.001)
    install("runtime")
    counts = []
    all_tasks = asyncio.all_tasks

    def slow(loop: Any = None) -> Any:
        counts.append(1)
        time.sleep(0.01)
        return all_tasks(loop)

    async def main() -> None:
        monkeypatch.setattr(asyncio, "all_tasks", slow)
        await until(lambda: points(LAGS).get(("main",), 0) > 20)
        monkeypatch.setattr(asyncio, "all_tasks", all_tasks)

    asyncio.run(main())
    assert len(counts) == 1


# --- processes --------------------------------------------------------------------------


def run(program: str, *args: object, **environment: str) -> str:
    """Run a program, which must end well and write no error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


WORKERS = """
import asyncio, gc, os, resource, sys, time
from hypertrace.integrations import install
from hypertrace.metrics import Metrics

metrics = Metrics(workers=sys.argv[1])
install("runtime")

def number(name, *labels, worker=None):
    family = metrics.read(worker=worker).family(name)
    return {p.labels: getattr(p.value, "count", p.value) for p in family.points}.get(labels, 0)

def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime

gc.disable()
gc.collect()
pauses = number("cpython_gc_pause_seconds", "2") if sys.argv[2] == "compiled" else None
collections = number("cpython_gc_collections_total", "2")
before = gc.get_stats()[2]["collections"]
children = []
for n in range(1, 4):
    child = os.fork()
    if child == 0:
        for _ in range(n):
            gc.collect()
        deadline = time.process_time() + 0.2 * n
        while time.process_time() < deadline:
            pass
        assert number("cpython_gc_collections_total", "2", worker="self") == n
        if sys.argv[2] == "compiled":
            assert number("cpython_gc_pause_seconds", "2", worker="self") == n
        own = number("process_cpu_time_seconds_total", "user", worker="self")
        assert own <= cpu(resource.RUSAGE_SELF) < own + 0.5, own
        asyncio.run(asyncio.sleep(0.01))
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert gc.get_stats()[2]["collections"] == before
assert number("cpython_gc_collections_total", "2") - collections == 6
if sys.argv[2] == "compiled":
    assert number("cpython_gc_pause_seconds", "2") - pauses == 6
total = sum(number("process_cpu_time_seconds_total", mode) for mode in ("user", "system"))
spent = cpu(resource.RUSAGE_SELF) + cpu(resource.RUSAGE_CHILDREN)
assert 1.2 < total <= spent + 1e-3, (total, spent)
metrics.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_workers_count_for_themselves(tmp_path: Path) -> None:
    """Each begins at zero, and the application has the sum of all, also of those that are gone."""
    run(WORKERS, tmp_path / "run", "compiled" if COMPILED else "pure")


@pytest.mark.parametrize(
    "end",
    [
        "",
        "gc.collect()",
        "asyncio.run(asyncio.sleep(0.01))",
        "import atexit; atexit.register(gc.collect)",
        "sys.exit(0)",
        "threading.Thread(target=time.sleep, args=(20,), daemon=True).start()",
        "l = asyncio.new_event_loop(); threading.Thread(target=l.run_forever, daemon=True).start()",
    ],
)
def test_a_program_that_ends_at_once_ends_at_once(end: str) -> None:
    """It writes no error, and its last reading has the figures."""
    before = time.monotonic()
    out = run(f"""
import asyncio, gc, sys, threading, time
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.integrations import install

JsonLinesExporter(print, workers=False)
install("runtime")
{end}
""")
    assert time.monotonic() - before < 15
    assert '"process_cpu_time_seconds_total"' in out
    assert '"cpython_gc_collections_total"' in out


@pytest.mark.parametrize("first", ["uvloop", "asyncio", "hypertrace"])
def test_the_order_of_imports_does_not_matter(first: str) -> None:
    """A loop is found whether uvloop or asyncio is imported before the installation or after."""
    pytest.importorskip("uvloop")
    run(f"""
import {first}
import sys
from hypertrace.integrations import event_loops, install, uninstall
from hypertrace.metrics import Metrics

event_loops.EVERY = 0.005
metrics = Metrics(workers=False)
before = set(sys.modules)
install("runtime")
assert "uvloop" in before or "uvloop" not in sys.modules
import asyncio, uvloop

async def main():
    loops = None
    while not (loops and metrics.read().family("{TASKS}").points):
        loops = [p.value for p in metrics.read().family("{LOOPS}").points]
        await asyncio.sleep(0.001)
    assert loops == [1], loops

for _ in range(2):
    for loop in (uvloop.new_event_loop(), asyncio.new_event_loop()):
        loop.run_until_complete(main())
        loop.close()
    uninstall()
    install("runtime")
""")


def test_nothing_is_imported_for_it() -> None:
    """A program without asyncio and psutil stays one."""
    run("""
import sys
from hypertrace.integrations import install
from hypertrace.metrics import Metrics

before = set(sys.modules)
install("runtime")
Metrics(workers=False).read()
assert not {"asyncio", "uvloop", "psutil"} & (set(sys.modules) - before)
""")


def test_an_idle_application_stays_idle(tmp_path: Path) -> None:
    """A loop that does nothing, with all of this, takes a thousandth of a processor."""
    out = run("""
import asyncio, time
from hypertrace.integrations import install
from hypertrace.metrics import Metrics

metrics = Metrics(workers=False)
install("runtime")

async def main():
    await asyncio.sleep(0.5)
    began = time.process_time()
    await asyncio.sleep(5)
    print((time.process_time() - began) / 5)

asyncio.run(main())
""")
    assert float(out) < 0.003
