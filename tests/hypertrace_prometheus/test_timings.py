"""How long the spans of a series took, how they ended, and how many are open."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace_prometheus import timings as module
from hypertrace_prometheus.timings import Histogram, Timings, checked_bounds

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = (0.1, 1.0)


def in_thread(work: Callable[[], object]) -> None:
    """Run `work` in another thread, and wait for it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# --- histograms -------------------------------------------------------------------------


def test_a_duration_is_in_the_bucket_up_to_its_bound() -> None:
    """A bucket holds what is not above its bound, the bound itself among them."""
    histogram = Histogram(BOUNDS)
    for seconds in (0.0, 0.1, 0.1000001, 1.0, 1.5, 100.0):
        histogram.add(seconds)
    snapshot = histogram.read()
    assert snapshot.bounds == BOUNDS
    assert snapshot.cumulative == [2, 4, 6]
    assert snapshot.total == pytest.approx(102.7000001)
    assert histogram.count == 6


def test_an_empty_histogram_can_be_read() -> None:
    """Without durations all buckets are empty."""
    assert Histogram(BOUNDS).read()[1:] == ([0, 0, 0], 0.0, {})


def test_what_was_read_does_not_change() -> None:
    """A snapshot stays as it is while the histogram goes on."""
    histogram = Histogram(BOUNDS)
    histogram.add(0.5)
    before = histogram.read()
    histogram.add(0.5)
    assert before.cumulative == [0, 1, 1]
    assert histogram.read().cumulative == [0, 2, 2]


def test_buckets_agree_with_a_count_of_each_duration() -> None:
    """Folded in whatever portions, the buckets are what counting one by one gives."""
    rng = random.Random(1)
    histogram = Histogram(module.DEFAULT_BUCKETS)
    durations = [rng.choice((rng.expovariate(5), *module.DEFAULT_BUCKETS)) for _ in range(5_000)]
    for seconds in durations:
        histogram.add(seconds)
        if rng.random() < 0.01:
            histogram.fold()
    snapshot = histogram.read()
    bounds = (*module.DEFAULT_BUCKETS, math.inf)
    assert snapshot.cumulative == [sum(d <= bound for d in durations) for bound in bounds]
    assert snapshot.total == pytest.approx(math.fsum(durations))


def test_the_buffer_is_bounded() -> None:
    """However many durations come in, only some hundred wait to be folded."""
    histogram = Histogram(BOUNDS)
    longest = 0
    for _ in range(10_000):
        histogram.add(0.5)
        longest = max(longest, len(histogram.buffer))
    assert 0 < longest <= 128
    assert histogram.count == 10_000
    assert histogram.buffer == []


def test_the_buffer_stays_the_same_list() -> None:
    """Who got the buffer may append to it for ever."""
    histogram = Histogram(BOUNDS)
    append = histogram.buffer.append
    for _ in range(300):
        append(0.5)
        histogram.fold()
    append(2.0)
    assert histogram.read().cumulative == [0, 300, 301]


def test_the_last_exemplar_of_a_bucket_is_kept() -> None:
    """Each bucket has the exemplar that came last, with its value and the time."""
    histogram = Histogram(BOUNDS)
    for number, seconds in enumerate((0.05, 0.5, 0.1, 7.0)):
        histogram.add(seconds)
        histogram.remember(seconds, {"n": str(number)})
    found = histogram.read().exemplars
    assert {bucket: (e.labels["n"], e.value) for bucket, e in found.items()} == {
        0: ("2", 0.1),
        1: ("1", 0.5),
        2: ("3", 7.0),
    }
    assert found[0].timestamp > 1_600_000_000


def _amid_a_fold(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """Let a signal handler or finalizer, so to say, run once in the midst of a fold."""
    original: Callable[..., int] = vars(module)["bisect_right"]
    pending = [run]

    def bisect_right(*arguments: Any) -> int:
        if pending:
            pending.pop()()
        return original(*arguments)

    monkeypatch.setattr(module, "bisect_right", bisect_right)


@pytest.mark.parametrize("inner", ["fold", "read", "add", "append"])
def test_what_comes_in_between_a_fold_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    """A signal handler that adds, folds or reads in the midst of a fold loses nothing."""
    histogram = Histogram(BOUNDS)
    for _ in range(5):
        histogram.add(0.5)
    seen = []

    def come_in_between() -> None:
        histogram.buffer.append(2.0)
        if inner == "add":
            for _ in range(200):
                histogram.add(2.0)
        elif inner != "append":
            seen.append(getattr(histogram, inner)())

    _amid_a_fold(monkeypatch, come_in_between)
    histogram.fold()
    added = 201 if inner == "add" else 1
    assert histogram.read().cumulative == [0, 5, 5 + added]
    assert histogram.read().total == 2.5 + 2.0 * added
    if inner == "read":
        assert seen[0].cumulative == [0, 0, 0]
        assert seen[0].total == 0


def test_a_fold_that_is_broken_off_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `KeyboardInterrupt` in the midst of a fold passes on, and the next fold does its work."""
    histogram = Histogram(BOUNDS)
    for _ in range(5):
        histogram.add(0.5)

    def interrupt() -> None:
        raise KeyboardInterrupt

    _amid_a_fold(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        histogram.fold()
    assert histogram.read().cumulative == [0, 5, 5]
    in_thread(histogram.fold)


@pytest.mark.parametrize("held", [False, True])
def test_a_forked_child_folds_what_its_parent_was_about_to(
    monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """A fork in the midst of a fold, or while the lock is held, leaves a child that can count."""
    histogram = Histogram(BOUNDS)
    for _ in range(5):
        histogram.add(0.5)
    counted: list[list[int]] = []

    def child() -> None:
        # What a child is: another process number, and what is run after a fork.
        monkeypatch.setattr(os, "getpid", lambda: -1)
        module._renew_lock()
        in_thread(lambda: counted.append(histogram.read().cumulative))
        monkeypatch.undo()

    if held:
        with module._lock:
            child()
    else:
        _amid_a_fold(monkeypatch, child)
        histogram.fold()
    assert counted == [[0, 5, 5]]


FORK = """
import faulthandler, os, threading
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter, timings

exporter = PrometheusExporter(collect_defaults=False)
set_trace_function(exporter)
tracer = Tracer("forked")

def work(times):
    for _ in range(times):
        with tracer.span():
            pass

def line(name):
    return [l for l in exporter.metrics().splitlines() if l.startswith(name)][0].split()[-1]

work(1)
held, forked = threading.Event(), threading.Event()

def hold():
    with timings._lock:
        held.set()
        forked.wait()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(10, exit=True)
    work(300)
    found = line("function_duration_seconds_count"), line("function_in_progress")
    os._exit(0 if found == ("301", "0") else 3)
forked.set()
holder.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), line("function_duration_seconds_count"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_real_fork_while_the_lock_is_held() -> None:
    """A child forked while another thread folds counts spans and scrapes itself."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("0 1\n", "")


def test_threads_that_append_fold_and_read_lose_nothing() -> None:
    """While threads add, each reading is consistent and has at least as much as the one before."""
    histogram = Histogram(BOUNDS)
    done = threading.Event()
    readings = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def add() -> None:
        for number in range(20_000):
            histogram.add(0.5 * (number % 4))

    def read() -> None:
        while not done.is_set():
            readings.append(histogram.read())

    try:
        reader = threading.Thread(target=read)
        adders = [threading.Thread(target=add) for _ in range(4)]
        for thread in (reader, *adders):
            thread.start()
        for thread in adders:
            thread.join()
        done.set()
        reader.join()
    finally:
        sys.setswitchinterval(interval)
    assert histogram.read().cumulative == [20_000, 60_000, 80_000]
    assert histogram.read().total == 60_000.0
    readings.append(histogram.read())
    for before, after in pairwise(readings):
        assert all(a <= b for a, b in zip(before.cumulative, after.cumulative, strict=True))
        assert before.total <= after.total


# --- timings ----------------------------------------------------------------------------


def test_each_result_has_a_histogram_of_its_own() -> None:
    """Spans are told apart by how they ended, and all are finished."""
    timings = Timings(BOUNDS)
    for result in ("ok", "error", "ok", "cancelled"):
        timings.started.increment()
        timings.end(result, 0.5)
    assert {r: h.count for r, h in timings.results.items()} == {"ok": 2, "error": 1, "cancelled": 1}
    assert (timings.finished, timings.open) == (4, 0)


def test_open_spans_are_those_that_started_and_did_not_end() -> None:
    """Each start opens one, each end closes one, also where the end is only appended."""
    timings = Timings(BOUNDS)
    for _ in range(3):
        timings.started.increment()
    assert timings.open == 3
    timings.end("error", 0.5)
    timings.results["ok"].buffer.append(0.5)
    assert timings.open == 1


def test_a_span_that_moves_is_open_where_it_started() -> None:
    """A span that ends under other labels is closed where it started and finished where it ends."""
    here, there = Timings(BOUNDS), Timings(BOUNDS)
    here.started.increment()
    assert (here.open, there.open) == (1, 0)
    here.moved_to(there)
    there.end("ok", 0.5)
    assert (here.open, there.open) == (0, 0)
    assert (here.finished, there.finished) == (0, 1)


def test_no_reader_finds_fewer_than_none_open() -> None:
    """Read between any two steps of a span that moves, neither side is below zero."""
    here, there = Timings(BOUNDS), Timings(BOUNDS)
    seen = []
    here.started.increment()
    for step in (
        there._arrived.increment,
        here._left.increment,
        lambda: there.end("ok", 0.5),
    ):
        step()
        seen += [here.open, there.open]
    assert min(seen) == 0
    assert seen[-2:] == [0, 0]


def test_an_exemplar_is_kept_with_its_result() -> None:
    """An exemplar of a failed span is one of the failed."""
    timings = Timings(BOUNDS)
    timings.end("error", 0.5)
    timings.remember("error", 0.5, {"trace_id": "a"})
    assert timings.results["ok"].read().exemplars == {}
    assert timings.results["error"].read().exemplars[1].labels == {"trace_id": "a"}


# --- bounds -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("buckets", "bounds"),
    [
        ([1, 2.5], (1.0, 2.5)),
        ((0.1, math.inf), (0.1,)),
        (range(1, 4), (1.0, 2.0, 3.0)),
        (module.DEFAULT_BUCKETS, module.DEFAULT_BUCKETS),
    ],
)
def test_bounds_are_numbers_without_infinity(buckets: Any, bounds: tuple[float, ...]) -> None:
    """Any ascending numbers will do; infinity may be given and is left out."""
    assert checked_bounds(buckets) == bounds


@pytest.mark.parametrize(
    ("buckets", "error", "message"),
    [
        ([], ValueError, r"x must be ascending numbers of seconds above zero, not \[\]"),
        ([math.inf], ValueError, "x must be ascending .* infinity is added by itself"),
        ([1, 1], ValueError, "ascending"),
        ([2, 1], ValueError, "ascending"),
        ([0, 1], ValueError, "above zero"),
        ([-1, 1], ValueError, "above zero"),
        ([math.nan], ValueError, "ascending"),
        ([0.1, math.nan, 1.0], ValueError, "ascending"),
        (5, TypeError, "x must be numbers of seconds, not 5"),
        (None, TypeError, "x must be numbers of seconds, not None"),
        (["a"], TypeError, r"x must be numbers of seconds, not \['a'\]"),
        ([None], TypeError, "x must be numbers of seconds"),
    ],
    ids=str,
)
def test_bad_bounds_are_refused(buckets: Any, error: type[Exception], message: str) -> None:
    """What is no ascending sequence of positive numbers is refused, by the name it was given."""
    with pytest.raises(error, match=message):
        checked_bounds(buckets, "x")
