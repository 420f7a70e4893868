"""Durations in classic and in exponential buckets."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from functools import partial

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import ExponentialReading, HistogramReading, Metrics
from hypertrace.metrics.aggregations import Histogram
from hypertrace.metrics.exponential import SMALLEST, scale_of_schema
from hypertrace.metrics.native_histograms import NativeHistogram

from ...running import in_threads

BOUNDS = (0.1, 1.0, 10.0)
SCALE = scale_of_schema(3)


def histogram(*seconds: float) -> NativeHistogram:
    made = NativeHistogram((("a",), ("ok",)), BOUNDS)
    for each in seconds:
        made.add(each)
    return made


def exponential(reading: HistogramReading) -> ExponentialReading:
    assert reading.exponential is not None
    return reading.exponential


@pytest.mark.parametrize("spread", [0, 1, 20])
def test_every_duration_is_in_its_bucket(spread: int) -> None:
    """Over any number of folds, each exponential bucket has the durations that belong to it."""
    chance = random.Random(1)
    seconds = [10 ** chance.uniform(-spread, 1) for _ in range(1_000)]
    reading = exponential(histogram(*seconds).value)
    indices = Counter(SCALE.index_of(SCALE.key(each)) for each in seconds if each > SMALLEST)
    assert reading.positive == indices
    assert reading.zero_count == sum(each <= SMALLEST for each in seconds)
    assert (reading.schema, reading.zero_threshold) == (3, SMALLEST)
    assert reading.negative == {}


def test_limits_belong_to_the_bucket_below() -> None:
    """A power of two is in the bucket that it is the limit of, and the next float above is not."""
    reading = exponential(histogram(1.0, 2.0, math.nextafter(2.0, 3)).value)
    assert reading.positive == {0: 1, 8: 1, 9: 1}


def test_classic_buckets_are_those_of_other_histograms() -> None:
    """Buckets, sum and exemplars are the same as without exponential buckets."""
    native, plain = histogram(), Histogram((("a",), ("ok",)), BOUNDS)
    for seconds in (0.05, 0.1, 3.0, 30.0, *[0.2] * 300):
        native.add(seconds)
        plain.add(seconds)
    reading = native.value
    assert (reading.counts, reading.sum) == (plain.value.counts, plain.value.sum)
    native.remember(3.0, {"trace_id": "a"})
    assert native.value.exemplars.keys() == {2}


def test_what_is_no_duration_is_counted_as_zero() -> None:
    """A duration below zero, or that is no number, is one of 0 in both kinds of buckets."""
    reading = histogram(-1.0, math.nan, math.inf, 0.0, 1e300).value
    assert reading.counts == (5, 0, 0, 0)
    assert exponential(reading).zero_count == 5


def test_both_kinds_of_buckets_agree_at_every_moment() -> None:
    """While threads add, each reading has as many durations in the one kind as in the other."""
    made = histogram()
    readings: list[HistogramReading] = []

    def add(thread: int) -> None:
        for number in range(2_000):
            made.add(0.001 * (thread + 1) * (number % 50))
            if number % 20 == 0:
                readings.append(made.value)

    in_threads(*(partial(add, thread) for thread in range(4)))
    readings.append(made.value)
    assert readings[-1].count == 8_000
    for reading in readings:
        assert exponential(reading).count == reading.count
        assert exponential(reading).sum == reading.sum


def test_reset_starts_from_zero() -> None:
    """After a reset there is nothing in either kind of bucket, and adding goes on."""
    made = histogram(1.0)
    assert made.value.count == 1
    made.reset()
    assert (made.value.count, exponential(made.value).count) == (0, 0)
    made.add(4.0)
    assert exponential(made.value).positive == {16: 1}


def durations(metrics: Metrics) -> dict[str, HistogramReading]:
    """Give the durations of each result."""
    found = {}
    for labels, value in metrics.read().family("function_duration_seconds").points:
        assert isinstance(value, HistogramReading)
        found[labels[-1]] = value
    return found


class Shop:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def sell(self, *, fails: bool = False) -> None:
        with self.tracer.span():
            if fails:
                raise KeyError


def test_spans_are_counted_in_both() -> None:
    """`native_histograms=True` gives the durations of spans of every result both kinds."""
    metrics = Metrics(native_histograms=True)
    set_trace_function(metrics)
    shop = Shop()
    for _ in range(200):
        shop.sell()
    with pytest.raises(KeyError):
        shop.sell(fails=True)
    found = durations(metrics)
    assert {result: value.count for result, value in found.items()} == {"ok": 200, "error": 1}
    assert {result: exponential(value).count for result, value in found.items()} == {
        "ok": 200,
        "error": 1,
    }


def test_the_overflow_has_both() -> None:
    """Spans past the limit of series are in both kinds of buckets, too."""
    metrics = Metrics(native_histograms=True, max_series=1)
    set_trace_function(metrics)
    tracer = Tracer("X")
    for number in range(5):
        with tracer.span(str(number)):
            pass
    first, overflow = metrics.read().family("function_duration_seconds").values
    assert isinstance(first, HistogramReading)
    assert isinstance(overflow, HistogramReading)
    assert (exponential(first).count, exponential(overflow).count) == (1, 4)


def test_without_the_option_there_are_classic_buckets_alone() -> None:
    """Exponential buckets cost nothing where they are not asked for."""
    metrics = Metrics()
    set_trace_function(metrics)
    Shop().sell()
    assert durations(metrics)["ok"].exponential is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_from_zero() -> None:
    """Both kinds of buckets of a child have what it timed itself."""
    metrics = Metrics(native_histograms=True, workers=False)
    set_trace_function(metrics)
    shop = Shop()
    shop.sell()
    pid = os.fork()
    if not pid:
        try:
            shop.sell()
            value = durations(metrics)["ok"]
            os._exit((value.count, exponential(value).count) != (1, 1))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("seconds", [1e15, 2e15, 1e300])
def test_durations_that_cannot_be_are_zero_in_both(seconds: float) -> None:
    """A duration that is recorded past the longest one is 0 in both kinds of buckets."""
    metrics = Metrics(native_histograms=True)
    set_trace_function(metrics)
    Tracer("X").record(seconds)
    value = durations(metrics)["ok"]
    is_zero = seconds > 1e15
    assert (value.counts[0], exponential(value).zero_count) == (is_zero, is_zero)


def test_counts_are_shared() -> None:
    """As without exponential buckets, the counts are shared with workers where that is possible."""
    is_shared = Metrics(native_histograms=True).storage.is_shared
    assert is_shared == Metrics().storage.is_shared
