"""Aggregations: calls, durations of spans, how they ended, how many are open."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics import HistogramReading
from hypertrace.metrics import aggregations as module
from hypertrace.metrics.aggregations import NO_SPANS, Calls, Count, Histogram, Spans, checked_bounds

from ...running import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

BOUNDS = (0.1, 1.0)
KEY = ("Cart",), ("a",)


def numbers(reading: HistogramReading) -> tuple[tuple[int, ...], float]:
    """Give the counts of the buckets, and the sum."""
    return reading.counts, reading.sum


def cumulative(reading: HistogramReading) -> list[int]:
    """Give how many values are up to each bound."""
    return list(accumulate(reading.counts))


class FloatOfItsOwn(float):
    """Adds and compares as it likes."""

    __slots__ = ()

    def __add__(self, _: object) -> Any:
        return "sum"

    __radd__ = __add__

    def __lt__(self, _: object) -> bool:
        raise RuntimeError("no order")


def in_thread(work: Callable[[], object]) -> None:
    """Run `work` in another thread, and wait for it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# --- histograms -------------------------------------------------------------------------


def test_a_duration_is_in_the_bucket_up_to_its_bound() -> None:
    """A bucket holds what is not above its bound, the bound itself among them."""
    histogram = Histogram(KEY, BOUNDS)
    for seconds in (0.0, 0.1, 0.1000001, 1.0, 1.5, 100.0):
        histogram.add(seconds)
    reading = histogram.value
    assert reading.bounds == BOUNDS
    assert cumulative(reading) == [2, 4, 6]
    assert reading.sum == pytest.approx(102.7000001)
    assert histogram.value.count == 6


def test_an_empty_histogram_can_be_read() -> None:
    """Without durations all buckets are empty."""
    assert Histogram(KEY, BOUNDS).value == HistogramReading(BOUNDS, (0, 0, 0), 0.0, {})


def test_what_was_read_does_not_change() -> None:
    """A reading stays as it is while the histogram goes on."""
    histogram = Histogram(KEY, BOUNDS)
    histogram.add(0.5)
    before = histogram.value
    histogram.add(0.5)
    assert cumulative(before) == [0, 1, 1]
    assert cumulative(histogram.value) == [0, 2, 2]


def test_buckets_agree_with_a_count_of_each_duration() -> None:
    """Folded in whatever portions, the buckets are what counting one by one gives."""
    rng = random.Random(1)
    histogram = Histogram(KEY, module.DEFAULT_BUCKETS)
    durations = [rng.choice((rng.expovariate(5), *module.DEFAULT_BUCKETS)) for _ in range(5_000)]
    for seconds in durations:
        histogram.add(seconds)
        if rng.random() < 0.01:
            histogram.fold()
    reading = histogram.value
    bounds = (*module.DEFAULT_BUCKETS, math.inf)
    assert cumulative(reading) == [sum(d <= bound for d in durations) for bound in bounds]
    assert reading.sum == pytest.approx(math.fsum(durations))


def test_the_buffer_is_bounded() -> None:
    """However many durations come in, only some hundred wait to be folded."""
    histogram = Histogram(KEY, BOUNDS)
    longest = 0
    for _ in range(10_000):
        histogram.add(0.5)
        longest = max(longest, len(histogram.buffer))
    assert 0 < longest <= 128
    assert histogram.value.count == 10_000
    assert histogram.buffer == []


def test_the_buffer_stays_the_same_list() -> None:
    """A caller that got the buffer may append to it at any later time."""
    histogram = Histogram(KEY, BOUNDS)
    append = histogram.buffer.append
    for _ in range(300):
        append(0.5)
        histogram.fold()
    append(2.0)
    assert cumulative(histogram.value) == [0, 300, 301]


def test_the_last_exemplar_of_a_bucket_is_kept() -> None:
    """Each bucket has the exemplar that came last, with its value and the time."""
    histogram = Histogram(KEY, BOUNDS)
    for number, seconds in enumerate((0.05, 0.5, 0.1, 7.0)):
        histogram.add(seconds)
        histogram.remember(seconds, {"n": str(number)})
    found = histogram.value.exemplars
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


@pytest.mark.parametrize("inner", ["fold", "value", "add", "append"])
def test_what_comes_in_between_a_fold_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    """A signal handler that adds, folds or reads in the midst of a fold loses nothing."""
    histogram = Histogram(KEY, BOUNDS)
    for _ in range(5):
        histogram.add(0.5)
    seen = []

    def come_in_between() -> None:
        histogram.buffer.append(2.0)
        if inner == "add":
            for _ in range(200):
                histogram.add(2.0)
        elif inner != "append":
            found = getattr(histogram, inner)
            seen.append(found() if inner == "fold" else found)

    _amid_a_fold(monkeypatch, come_in_between)
    histogram.fold()
    added = 201 if inner == "add" else 1
    assert cumulative(histogram.value) == [0, 5, 5 + added]
    assert histogram.value.sum == 2.5 + 2.0 * added
    if inner == "value":
        assert cumulative(seen[0]) == [0, 5, 6]
        assert seen[0].sum == 4.5


def test_a_fold_that_is_broken_off_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `KeyboardInterrupt` in the midst of a fold passes on, and the next fold does its work."""
    histogram = Histogram(KEY, BOUNDS)
    for _ in range(5):
        histogram.add(0.5)

    def interrupt() -> None:
        raise KeyboardInterrupt

    _amid_a_fold(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        histogram.fold()
    assert cumulative(histogram.value) == [0, 5, 5]
    in_thread(histogram.fold)


def _stuck_in_a_fold(
    monkeypatch: pytest.MonkeyPatch,
    histogram: Histogram,
    go_on: threading.Event,
    *,
    overtaking: bool = False,
) -> None:
    """Let a thread wait in the middle of a fold until an event is set.

    Args:
        monkeypatch: takes it back.
        histogram: what is folded.
        go_on: the event.
        overtaking: the next fold lets it go on, and is still in its midst when it has ended.
    """
    original: Callable[..., Any] = vars(module)["_ascending"]
    stuck, ended = threading.Event(), threading.Event()

    def fold() -> None:
        histogram.fold()
        ended.set()

    def ascending(taken: list[float]) -> Any:
        if threading.current_thread() is thread:
            stuck.set()
            assert go_on.wait(10)
        elif overtaking and not go_on.is_set():
            go_on.set()
            assert ended.wait(10)
        return original(taken)

    monkeypatch.setattr(module, "_ascending", ascending)
    thread = threading.Thread(target=fold, daemon=True)
    thread.start()
    assert stuck.wait(10)


def test_a_fold_that_hangs_delays_no_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread waits in the middle of a fold, others fold and read what is there.

    So a finalizer that runs there may wait for a lock whose holder traces or scrapes, and a child
    that is forked then finds nothing that is held.
    """
    histogram, go_on = Histogram(KEY, BOUNDS), threading.Event()
    for _ in range(5):
        histogram.add(0.5)
    _stuck_in_a_fold(monkeypatch, histogram, go_on)
    for _ in range(300):
        histogram.add(2.0)
    assert len(histogram.buffer) < 200
    assert cumulative(histogram.value) == [0, 5, 305]
    go_on.set()
    in_thread(histogram.fold)
    assert cumulative(histogram.value) == [0, 5, 305]
    assert histogram.value.sum == 602.5


def test_a_reader_whom_an_older_fold_overtakes_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading has what was added before it, also where a fold from before that is faster."""
    histogram = Histogram(KEY, BOUNDS)
    histogram.add(0.5)
    _stuck_in_a_fold(monkeypatch, histogram, threading.Event(), overtaking=True)
    histogram.add(2.0)
    assert cumulative(histogram.value) == [0, 1, 2]
    assert histogram.value.sum == 2.5


# --- odd durations ----------------------------------------------------------------------


class NoNumber:
    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __lt__(self, _: object) -> bool:
        raise RuntimeError("no order")


ODD: dict[str, Any] = {
    "NaN": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "negative": -5.0,
    "minus zero": -0.0,
    "more than a sum can bear": 1e308,
    "None": None,
    "text": "soon",
    "bytes": b"x",
    "complex": 1j,
    "huge int": 10**400,
    "no number": NoNumber(),
    "signaling NaN": Decimal("sNaN"),
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("place", [0, 50, 99])
def test_what_is_no_duration_counts_as_none(value: Any, place: int) -> None:
    """Whatever a clock or an event says, count and sum stay those of numbers from 0 up."""
    histogram = Histogram(KEY, BOUNDS)
    durations = [0.5] * 99
    durations.insert(place, value)
    histogram.buffer.extend(durations)
    assert histogram.fold()
    assert histogram.buffer == []
    assert numbers(histogram.value) == ((1, 99, 0), 49.5)
    for _ in range(200):
        histogram.add(value)
    assert numbers(histogram.value) == ((201, 99, 0), 49.5)


@pytest.mark.parametrize("value", [1, True, Decimal(1), Fraction(1), FloatOfItsOwn(1)], ids=repr)
def test_numbers_of_any_type_are_durations(value: Any) -> None:
    """What can be taken as a float is, alone and among others, and the sum stays a float."""
    histogram = Histogram(KEY, BOUNDS)
    histogram.add(value)
    histogram.fold()
    for seconds in (0.05, value, 2.0):
        histogram.add(seconds)
    reading = histogram.value
    assert cumulative(reading) == [1, 3, 4]
    assert reading.sum == 4.05
    assert type(reading.sum) is float


def test_the_sum_of_very_long_durations_is_finite() -> None:
    """The longest durations that are counted as they are have a sum that can be shown."""
    histogram = Histogram(KEY, BOUNDS)
    for _ in range(1_000):
        histogram.add(1e15)
    assert numbers(histogram.value) == ((0, 0, 1_000), 1e18)


def test_the_wall_clock_may_jump_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exemplar has the time that the clock shows, and nothing else depends on it."""
    histogram = Histogram(KEY, BOUNDS)
    for now in (1e9, -5.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        histogram.add(0.5)
        histogram.remember(0.5, {"n": "1"})
    assert histogram.value.exemplars[1].timestamp == -5.0
    assert cumulative(histogram.value) == [0, 2, 2]


# --- threads ----------------------------------------------------------------------------


def test_threads_that_append_fold_and_read_lose_nothing() -> None:
    """While threads add, each reading is consistent and has at least as much as the one before."""
    histogram = Histogram(KEY, BOUNDS)
    done = threading.Event()
    readings = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def add() -> None:
        for number in range(20_000):
            histogram.add(0.5 * (number % 4))

    def read() -> None:
        while not done.is_set():
            readings.append(histogram.value)

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
    assert cumulative(histogram.value) == [20_000, 60_000, 80_000]
    assert histogram.value.sum == 60_000.0
    readings.append(histogram.value)
    for before, after in pairwise(readings):
        assert all(a <= b for a, b in zip(cumulative(before), cumulative(after), strict=True))
        assert before.sum <= after.sum


# --- timings ----------------------------------------------------------------------------


def test_each_result_has_a_histogram_of_its_own() -> None:
    """Spans are distinguished by how they ended, and all are finished."""
    spans = Spans(KEY, BOUNDS)
    for result in ("ok", "error", "ok", "cancelled"):
        spans.started.increment()
        spans.end(result, 0.5)
    assert {r: h.value.count for r, h in spans.results.items()} == {
        "ok": 2,
        "error": 1,
        "cancelled": 1,
    }
    assert (spans.read().finished, spans.read().open) == (4, 0)


def test_open_spans_are_those_that_started_and_did_not_end() -> None:
    """Each start opens one, each end closes one, also where the end is only appended."""
    spans = Spans(KEY, BOUNDS)
    for _ in range(3):
        spans.started.increment()
    assert spans.read().open == 3
    spans.end("error", 0.5)
    spans.results["ok"].buffer.append(0.5)
    assert spans.read().open == 1


def test_a_span_that_moves_is_open_where_it_started() -> None:
    """A span that ends under other labels is closed where it started and finished where it ends."""
    here, there = Spans(KEY, BOUNDS), Spans(KEY, BOUNDS)
    here.started.increment()
    assert (here.read().open, there.read().open) == (1, 0)
    here.moved_to(there)
    there.end("ok", 0.5)
    assert (here.read().open, there.read().open) == (0, 0)
    assert (here.read().finished, there.read().finished) == (0, 1)


def test_no_reader_finds_fewer_than_none_open() -> None:
    """Read between any two steps of a span that moves, neither side is below zero."""
    here, there = Spans(KEY, BOUNDS), Spans(KEY, BOUNDS)
    seen = []
    here.started.increment()
    for step in (
        there._arrived.increment,
        here._left.increment,
        lambda: there.end("ok", 0.5),
    ):
        step()
        seen += [here.read().open, there.read().open]
    assert min(seen) == 0
    assert seen[-2:] == [0, 0]


def test_an_exemplar_is_kept_with_its_result() -> None:
    """An exemplar of a failed span is one of the failed."""
    spans = Spans(KEY, BOUNDS)
    spans.end("error", 0.5)
    spans.remember("error", 0.5, {"trace_id": "a"})
    assert spans.results["ok"].value.exemplars == {}
    assert spans.results["error"].value.exemplars[1].labels == {"trace_id": "a"}


def test_all_numbers_of_a_reading_agree() -> None:
    """One reading has the histograms that are not empty, and what started, ended and is open."""
    spans = Spans(KEY, BOUNDS)
    assert spans.read() == NO_SPANS
    spans.started.increment()
    spans.started.increment()
    spans.end("error", 0.5)
    ((histogram, value),), started, finished, still_open = spans.read()
    assert (histogram.labels, value.counts) == (("Cart", "a", "error"), (0, 1, 0))
    assert (started, finished, still_open) == (2, 1, 1)


# --- calls ------------------------------------------------------------------------------


def test_a_count_rises_by_one() -> None:
    """Each increment of the cell counts one."""
    count = Count(KEY)
    assert (count.value, count.labels) == (0, ("Cart", "a"))
    for _ in range(3):
        count.cell.increment()
    assert count.value == 3


def test_calls_are_counted() -> None:
    """Each increment of the cell is a call."""
    calls = Calls(KEY)
    assert calls.value == 0
    for _ in range(3):
        calls.cell.increment()
    assert calls.value == 3
    assert calls.read_spans() == NO_SPANS


def test_finished_spans_are_calls() -> None:
    """A span counts once it has ended, however it ended, besides the calls of `trace()`."""
    calls = Calls(KEY)
    calls.cell.increment()
    spans = calls.spans_in((1.0,))
    spans.started.increment()
    assert calls.value == 1
    for result in ("ok", "error", "cancelled", "ok"):
        spans.end(result, 0.5)
    assert calls.value == 5


def test_a_series_has_one_entry_for_its_calls_and_its_spans() -> None:
    """The spans of a series are made once, with the bounds that were asked for first."""
    calls = Calls(KEY)
    spans = calls.spans_in((1.0,))
    assert calls.spans_in((2.0,)) is spans is calls.spans
    spans.end("ok", 0.5)
    ((histogram, value),) = calls.read_spans().durations
    assert (histogram.key, value.bounds) == ((("Cart",), ("a", "ok")), (1.0,))


def test_threads_that_make_the_spans_of_a_series_use_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two threads that make the spans of a series at once, both record in those that stay."""
    both = threading.Barrier(2)
    original = module.Spans

    def meet(*arguments: Any) -> Spans:
        both.wait(10)
        return original(*arguments)

    monkeypatch.setattr(module, "Spans", meet)
    calls = Calls(KEY)
    in_threads(*[lambda: calls.spans_in((1.0,)).end("ok", 0.5)] * 2)
    assert calls.value == 2


def test_spans_made_in_the_middle_of_a_call_that_makes_them_are_the_same() -> None:
    """A tool may run Python between any two instructions, and so let another thread in."""
    seen = 0
    for instruction in range(1, 100):
        calls = Calls(KEY)
        seen = _interrupted(calls, instruction)
        assert calls.value == min(seen, instruction) // instruction + 1, instruction
    assert 10 < seen < 99


def _interrupted(calls: Calls, instruction: int) -> int:
    """Record a span, and another one in front of an instruction of `spans_in`.

    Returns:
        How many instructions there were.
    """
    seen = 0

    def at_instruction(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code is not Calls.spans_in.__code__:
            return None
        frame.f_trace_opcodes = True
        seen += event == "opcode"
        if event == "opcode" and seen == instruction:
            # What runs in a trace function is not traced.
            calls.spans_in((1.0,)).end("ok", 0.5)
        return at_instruction

    tracing = sys.gettrace()
    sys.settrace(at_instruction)
    try:
        spans = calls.spans_in((1.0,))
    finally:
        sys.settrace(tracing)
    spans.end("ok", 0.5)
    return seen


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
        ("123", TypeError, "x must be numbers of seconds, not '123'"),
        (["0.1", "1"], TypeError, "x must be numbers of seconds"),
        ([1, 10**400], ValueError, "x must be ascending numbers"),
        ([None], TypeError, "x must be numbers of seconds"),
    ],
    ids=str,
)
def test_bad_bounds_are_refused(buckets: Any, error: type[Exception], message: str) -> None:
    """What is no ascending sequence of positive numbers is refused, by the name it was given."""
    with pytest.raises(error, match=message):
        checked_bounds(buckets, "x")
