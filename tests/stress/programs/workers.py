"""Risks of counts that several processes share."""

import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from hypertrace import SpanEvent, TracedObject, TraceEvent, clear_trace_function
from hypertrace.events import Caller
from hypertrace.metrics import HistogramReading, Metrics
from hypertrace.metrics.shared import snapshot as snapshots
from hypertrace.metrics.shared.storage import SharedStorage

from .tools import until, watch_by_alarm

SECONDS = 0.25
"""Duration of each span: sums of it have no rounding."""
DURATIONS = "function_duration_seconds"
CALLS = "function_counter_total"
PATIENCE = 20


def _metrics(folder: str, **options: Any) -> Metrics:
    clear_trace_function()
    return Metrics(workers=folder, allowed_props=["peer"], **options)


def _event(name: str = "connect", peer: str | None = None, *, span: bool = False) -> Any:
    caller = Caller(name, "swarm.py", "swarm", 1, 1, {} if peer is None else {"peer": peer})
    traced = TracedObject("Swarm", 1)
    if span:
        return SpanEvent(None, traced, None, caller, SECONDS)
    return TraceEvent(None, traced, None, caller)


def _values(metrics: Metrics, name: str = CALLS) -> dict[tuple[str, ...], Any]:
    return {point.labels: point.value for point in metrics.read().family(name).points}


def _total(metrics: Metrics) -> int:
    return int(sum(_values(metrics).values()))


class Tallies:
    """What processes report of what they do, in memory that outlives them: two numbers each."""

    def __init__(self, processes: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, processes * 16)).cast("Q")

    def begin(self, process: int) -> None:
        self._cells[2 * process] += 1

    def end(self, process: int) -> None:
        self._cells[2 * process + 1] += 1

    @property
    def window(self) -> tuple[int, int]:
        """How often something ended, and how often it began: what was killed is in between."""
        return sum(self._cells[1::2]), sum(self._cells[::2])


def _forked(work: Callable[[], object]) -> int:
    """Start a child; it ends with 0 if the work returns."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 -- shown, and reported by the exit code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@contextmanager
def _killing(children: list[int]) -> Iterator[list[int]]:
    try:
        yield children
    finally:
        for child in children:
            _kill(child)


def kills(workers: int, killed: int, scrapers: int) -> dict[str, Any]:
    """Kill workers and scrapers at random; compare the sums with what the workers say.

    Args:
        workers: how many count at once.
        killed: how many of them are killed.
        scrapers: how many processes read and fold at once; as many are killed in all.
    """
    watch_by_alarm(600)
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder)
        calls, spans = Tallies(workers + killed), Tallies(workers + killed)
        numbers = count()

        def start_worker() -> int:
            number = next(numbers)
            return _forked(lambda: _count_for_ever(metrics, calls, spans, number))

        def start_scraper() -> int:
            return _forked(lambda: [metrics.read() for _ in count()])

        pool = [start_worker() for _ in range(workers)]
        readers = [start_scraper() for _ in range(scrapers)]
        before, fell = 0, 0
        for round_ in range(killed):
            time.sleep(draw.random() * 0.02)
            place = draw.randrange(workers)
            _kill(pool[place])
            pool[place] = start_worker()
            if readers and round_ % max(1, killed // scrapers) == 0:
                place = draw.randrange(scrapers)
                _kill(readers[place])
                readers[place] = start_scraper()
            total = _total(metrics)
            fell += total < before
            before = total
        for child in (*pool, *readers):
            _kill(child)
        total = _total(metrics)
        histograms = _values(metrics, DURATIONS).values()
        spans_read = sum(histogram.count for histogram in histograms)
        names = _workers_in(folder)
        metrics.close()
    begun = calls.window[1] + spans.window[1]
    return {
        "missing": max(0, calls.window[0] + spans.window[0] - total),
        "too_many": max(0, total - begun),
        "spans": spans.window[0] <= spans_read <= spans.window[1],
        "fell": fell,
        "sums": [one.sum == one.count * SECONDS for one in histograms],
        "files": len(names),
        "counted": total,
    }


def _count_for_ever(metrics: Metrics, calls: Tallies, spans: Tallies, number: int) -> NoReturn:
    increment = metrics.bind(_event())
    recorder = metrics.bind_span(_event("join", span=True))
    durations = recorder.durations
    while True:
        calls.begin(number)
        increment()
        calls.end(number)
        spans.begin(number)
        recorder.start()
        if durations is None:
            recorder.end(_event("join", span=True))
        else:
            durations.append(SECONDS)
        spans.end(number)


# --- folding ------------------------------------------------------------------------------

KILLED_AT = ("write", "before the renaming", "after the renaming", "after one removal")


def folders(times: int) -> dict[str, Any]:
    """Kill the process that folds at each of its steps; compare the sums before and after."""
    watch_by_alarm(600)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder)
        expected = 0
        for number in range(times):
            for step in KILLED_AT:
                for counted in (1, 2, 3):
                    child = _forked(partial(_count, metrics, counted))
                    assert os.waitpid(child, 0)[1] == 0
                    expected += counted
                child = _forked(partial(_fold_and_end, folder, step))
                _, status = os.waitpid(child, 0)
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, step
                totals = [_peeked(folder), _total(metrics), _total(metrics)]
                if totals != [expected] * 3:
                    wrong.append([number, step, expected, totals])
        left = _workers_in(folder)
        metrics.close()
    return {"wrong": wrong, "left": left}


def _count(metrics: Metrics, calls: int) -> None:
    increment = metrics.bind(_event())
    for _ in range(calls):
        increment()


def _peeked(folder: str) -> int:
    """Return the sum of a process that reads and folds nothing."""
    reader = SharedStorage(_directory(folder))
    found = snapshots.take(folder, reader._layout_of_all)
    cells = snapshots.added(
        [found.dead.cells, *(worker.cells for worker in found.workers)], bytes(reader.layout)
    )
    reader.close()
    return sum(memoryview(cells).cast("Q")[: len(reader.layout)])


def _directory(folder: str) -> Any:
    from hypertrace.metrics.shared.directory import RunDirectory  # noqa: PLC0415

    return RunDirectory(folder, is_kept=True, root=None)


def _fold_and_end(folder: str, step: str) -> None:
    """Fold, and be killed at a step of it."""

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def one_step_later(function: Callable[..., object]) -> Callable[..., None]:
        def work(*arguments: object) -> None:
            function(*arguments)
            killed()

        return work

    storage = SharedStorage(_directory(folder))
    if step == "write":
        snapshots._write_dead = killed  # type: ignore[assignment]
    elif step == "before the renaming":
        os.rename = killed  # type: ignore[assignment]
    elif step == "after the renaming":
        os.rename = one_step_later(os.rename)
    else:
        os.unlink = one_step_later(os.unlink)
    snapshots.fold(folder, storage._layout_of_all)


# --- churn --------------------------------------------------------------------------------


def churn(restarts: int, series: int, *, scraped: bool) -> dict[str, Any]:
    """Restart a worker by `kill -9` again and again.

    Args:
        restarts: how often.
        series: how many each worker counts in.
        scraped: read after every tenth restart.
    """
    watch_by_alarm(600)
    most, counted, seconds, sizes = 0, 0, [], []
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as folder:
        metrics = _metrics(folder)

        def work() -> None:
            for number in range(series):
                metrics.bind_props(_event("meet", str(number)))({"peer": str(number)})
            os.kill(os.getpid(), signal.SIGKILL)

        for number in range(1, restarts + 1):
            os.waitpid(_forked(work), 0)
            counted += series
            most = max(most, len(_workers_in(folder)))
            if scraped and number % 10 == 0:
                start = time.perf_counter()
                total = _total(metrics)
                seconds.append(time.perf_counter() - start)
                assert total == counted, (total, counted)
                sizes.append((len(_workers_in(folder)), _bytes_in(folder)))
        total = _total(metrics)
        left, size = len(_workers_in(folder)), _bytes_in(folder)
        metrics.close()
    tenth = max(1, len(seconds) // 10)
    return {
        "missing": counted - total,
        "most": most,
        "left": left,
        "bytes": size,
        "grew": sizes[-1][1] - sizes[0][1] if sizes else 0,
        "slower": min(seconds[-tenth:]) / min(seconds[:tenth]) if seconds else 0,
    }


def programs(restarts: int) -> dict[str, Any]:
    """Start a program again and again that shares by a path, and is killed; nothing reads."""
    watch_by_alarm(600)
    code = (
        "import os, sys\n"
        "from stress.programs.workers import _count, _metrics\n"
        "_count(_metrics(sys.argv[1]), 1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    most = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(restarts):
            subprocess.run([sys.executable, "-c", code, folder], check=False)
            most = max(most, len(_workers_in(folder)))
        metrics = _metrics(folder)
        total = _total(metrics)
        metrics.close()
    return {"missing": restarts - total, "most": most}


def _workers_in(folder: str) -> list[str]:
    names = [path.name for path in Path(folder).iterdir()]
    return [name for name in names if name.startswith((".w-", "w-"))]


def _bytes_in(folder: str) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(folder))


# --- forks --------------------------------------------------------------------------------


def forks(times: int, threads: int) -> dict[str, Any]:
    """Fork while threads make series; each child makes some, counts, and ends."""
    watch_by_alarm(PATIENCE + times)
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder, max_series=10**6)
        made = [count() for _ in range(threads)]
        over = threading.Event()

        def make(thread: int) -> None:
            record = metrics.bind_props(_event("meet", ""))
            draw = random.Random(thread)
            while not over.is_set():
                record({"peer": str(draw.randrange(20_000))})
                metrics(_event("join", span=True))
                next(made[thread])

        def in_child() -> None:
            signal.alarm(PATIENCE)
            record = metrics.bind_props(_event("meet", ""))
            for number in range(20):
                record({"peer": f"{os.getpid()} {number}"})
                metrics(_event("join", span=True))

        running = [threading.Thread(target=make, args=(thread,)) for thread in range(threads)]
        for thread in running:
            thread.start()
        ends = []
        for _ in range(times):
            time.sleep(0.005)  # for the threads to be somewhere else than at the last fork
            _, status = os.waitpid(_forked(in_child), 0)
            ends.append(os.waitstatus_to_exitcode(status))
        over.set()
        for thread in running:
            thread.join()
        counted = 2 * sum(map(next, made)) + 40 * times
        total = _total(metrics)
        spans = sum(one.count for one in _values(metrics, DURATIONS).values())
        metrics.close()
    return {
        "hung": ends.count(-signal.SIGALRM),
        "failed": sum(end not in {0, -signal.SIGALRM} for end in ends),
        "missing": counted - total,
        "spans": counted // 2 - spans,
    }


# --- reading ------------------------------------------------------------------------------


def torn(readings: int, workers: int) -> dict[str, Any]:
    """Read histograms while workers write them as fast as they can, and are killed."""
    watch_by_alarm(600)
    wrong, before, fell, open_ = [], 0, 0, set()
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder)

        def write() -> None:
            recorders = [metrics.bind_span(_event(name, span=True)) for name in "abcd"]
            while True:
                for recorder in recorders:
                    recorder.start()
                    recorder.durations.append(SECONDS)  # type: ignore[union-attr]

        with _killing([_forked(write) for _ in range(workers)]) as pool:
            until(lambda: len(_values(metrics, DURATIONS)) == 4, PATIENCE)
            for number in range(readings):
                if number % max(1, readings // 10) == 0:
                    _kill(pool.pop(0))
                    pool.append(_forked(write))
                histograms: list[HistogramReading] = [*_values(metrics, DURATIONS).values()]
                count_ = sum(one.count for one in histograms)
                fell += count_ < before
                before = count_
                wrong += [
                    [one.count, one.sum]
                    for one in histograms
                    if one.sum != one.count * SECONDS or sum(one.counts) != one.count
                ]
                open_ |= {v for v in _values(metrics, "function_in_progress").values() if v < 0}
        metrics.close()
    return {"wrong": wrong[:5], "fell": fell, "negative": sorted(open_)}


def limits(workers: int, wanted: int, limit: int) -> dict[str, Any]:
    """Let workers make more series than there may be, all at once, each in its own order."""
    watch_by_alarm(600)
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder, max_series=limit)
        reading, writing = os.pipe()

        def work(number: int) -> None:
            os.read(reading, 1)
            peers = [str(peer) for peer in range(wanted)]
            random.Random(number).shuffle(peers)
            record = metrics.bind_props(_event("meet", ""))
            for peer in peers:
                record({"peer": peer})
            seen = _values(metrics)
            os.write(answers, struct.pack("<Q", len(seen)))

        asked, answers = os.pipe()
        pool = [_forked(partial(work, number)) for number in range(workers)]
        os.write(writing, b"x" * workers)
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in pool]
        seen = {*struct.unpack(f"<{workers}Q", os.read(asked, workers * 8))}
        values = _values(metrics)
        overflow = sum(value for labels, value in values.items() if labels[0] == "<overflow>")
        metrics.close()
    held = len(values) - 1
    return {
        "ends": ends,
        "held": held,
        "seen": sorted(seen),
        "missing": workers * wanted - int(sum(values.values())),
        "overflow": int(overflow),
        "least": workers * (wanted - limit),
    }


def stopped(scrapes: int) -> dict[str, Any]:
    """Read while a worker is stopped by SIGSTOP at some step, and other workers are killed."""
    watch_by_alarm(600)
    seconds, folded = [], 0
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder)
        calls, spans = Tallies(1), Tallies(1)
        worker = _forked(lambda: _count_for_ever(metrics, calls, spans, 0))
        with _killing([worker]):
            until(lambda: calls.window[0] > 100, PATIENCE)
            os.kill(worker, signal.SIGSTOP)
            until(lambda: Path(f"/proc/{worker}/stat").read_text().split()[2] == "T", PATIENCE)
            least, most = (sum(pair) for pair in zip(calls.window, spans.window, strict=True))
            totals = set()
            for number in range(scrapes):
                assert os.waitpid(_forked(lambda: _count(metrics, 1)), 0)[1] == 0
                start = time.perf_counter()
                totals.add(_total(metrics) - number - 1)
                seconds.append(time.perf_counter() - start)
                folded += not any(f"w-{worker}-" in name for name in _workers_in(folder))
            os.kill(worker, signal.SIGCONT)
            until(lambda: calls.window[0] > least + 100, PATIENCE)
        total = _total(metrics) - scrapes
        window = [sum(pair) for pair in zip(calls.window, spans.window, strict=True)]
        metrics.close()
    return {
        "right": len(totals) == 1 and least <= totals.pop() <= most,
        "folded": folded,
        "slowest": max(seconds),
        "after": window[0] <= total <= window[1],
    }


def descriptors(series: int) -> dict[str, Any]:
    """Count in many series where no file can be made; return how many descriptors that takes."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = _metrics(folder)
        before = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        record = metrics.bind_props(_event("meet", ""))
        for number in range(series):
            record({"peer": str(number)})
        left = len(list(Path("/proc/self/fd").iterdir())) - before
        total = _total(metrics)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    return {"descriptors": left, "missing": series - total}
