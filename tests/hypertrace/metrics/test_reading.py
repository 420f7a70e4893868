"""Readings: all families of one moment, and what came in between two of them."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Tracer, Upstream
from hypertrace.metrics import (
    Declaration,
    Exemplar,
    ExponentialReading,
    Family,
    HistogramReading,
    Metrics,
    Point,
    Reading,
    SummaryReading,
    declarations,
)
from hypertrace.metrics.exponential import scale_of_schema
from hypertrace.metrics.series import Series

from ...running import in_threads
from ...traced_classes import FILE, Cart, Shop
from .readings import CALLS, DURATIONS, EDGES, EXCEPTIONS, OPEN, values, values_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypertrace.metrics.declarations import Kind
    from hypertrace.metrics.reading import Value

    from .conftest import Count

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
OF_FUNCTION = (
    "object_classname",
    "parent_object_classname",
    "caller_functionname",
    "caller_filename",
    "id",
)
EDGE = ("from_classname", "from_functionname", "to_classname", "to_functionname")

Totals: TypeAlias = "Counter[Any]"


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


# --- what is in a reading ---------------------------------------------------------------


def test_a_reading_has_every_family_in_order() -> None:
    """Names, kinds, units and label names are those of the declarations, the counts' own last."""
    reading = Metrics(upstream=True).read()
    assert [(f.name, f.kind, f.unit, f.label_names) for f in reading.families] == [
        ("function_counter_total", "counter", "", OF_FUNCTION),
        ("function_duration_seconds", "histogram", "seconds", (*OF_FUNCTION, "result")),
        ("function_exceptions_total", "counter", "", (*OF_FUNCTION, "exception", "raised")),
        ("function_in_progress", "gauge", "", OF_FUNCTION),
        ("function_edges_total", "counter", "", ("object_classname", *EDGE)),
        ("hypertrace_series", "gauge", "", ("metric",)),
        ("hypertrace_series_limit", "gauge", "", ("metric",)),
        ("hypertrace_overflowed_updates_total", "counter", "", ("metric",)),
        ("hypertrace_swallowed_errors_total", "counter", "", ()),
        ("hypertrace_invalid_values_total", "counter", "", ("metric",)),
        ("hypertrace_dropped_events_total", "counter", "", ()),
        ("hypertrace_dropped_handler_events_total", "counter", "", ()),
        ("hypertrace_silent_tracers", "gauge", "", ("object_classname",)),
        ("hypertrace_workers", "gauge", "", ("state",)),
        ("hypertrace_build_info", "info", "", ("version", "python", "implementation")),
    ]
    declared = {one.name: one for one in (*declarations.BUILT_IN, *declarations.HEALTH)}
    for family in reading.families:
        assert family.declaration == declared[family.name]
        assert family.description == declared[family.name].description


def test_a_reading_says_when_it_was_taken() -> None:
    """Its time is between the moments before and after, in seconds since the epoch."""
    before = time.time()
    reading = Metrics().read()
    assert before <= reading.time <= time.time()


def test_a_family_that_is_not_counted_is_not_in_the_reading() -> None:
    """Without `upstream` there are no edges; all other families are there, also when empty."""
    with_edges, without = Metrics(upstream=True).read(), Metrics().read()
    names = [family.name for family in with_edges.families]
    assert [family.name for family in without.families] == [n for n in names if n != EDGES]
    assert {family.name: list(family.points) for family in without.families}[EXCEPTIONS] == []


def test_the_counter_has_the_name_that_it_was_given() -> None:
    """`counter_name` names the family of calls; all else of its declaration stays."""
    family = Metrics(counter_name="calls_total").read().families[0]
    assert (family.name, family.kind) == ("calls_total", "counter")
    assert family.description == declarations.CALLS.description


def test_a_point_has_the_values_of_all_labels(count: Count) -> None:
    """Label values are in the order of the label names, empty where there is none."""
    metrics = count(allowed_props=["topic"], object_ids=True)
    cart = Cart({"topic": 'a"b'})
    cart.tracer.trace("pay", topic="c")
    family = metrics.read().family(CALLS)
    where = "test_a_point_has_the_values_of_all_labels", __name__.replace(".", "/") + ".py"
    number = str(cart.tracer.object_id)
    assert list(family.points) == [
        Point(("Cart", number, 'a"b', "", "", "", *where, "pay", "c"), 1)
    ]
    assert len(family.label_names) == len(next(iter(family.points)).labels)


def test_a_point_of_each_kind_has_its_value() -> None:
    """Counters and gauges are whole numbers, durations a histogram with its bounds."""
    metrics = Metrics(buckets=[1, 2], upstream=True, exemplar=lambda: {"trace_id": "a"})
    outer = Upstream("Shop", "serve")
    cart = TracedObject("Cart", 1)
    metrics(SpanEvent("i", cart, None, CALLER, 1.5, "error", KeyError, outer))
    reading = metrics.read()
    labels = ("Cart", "", "f", "a.py", "i")
    assert list(reading.family(CALLS).points) == [(labels, 1)]
    assert list(reading.family(OPEN).points) == [(labels, 0)]
    assert list(reading.family(EXCEPTIONS).points) == [((*labels, "KeyError", "here"), 1)]
    assert list(reading.family(EDGES).points) == [(("", "Shop", "serve", "Cart", "f"), 1)]
    ((of_histogram, value),) = reading.family(DURATIONS).points
    assert of_histogram == (*labels, "error")
    assert isinstance(value, HistogramReading)
    assert (value.bounds, value.counts, value.sum, value.count) == ((1, 2), (0, 1, 0), 1.5, 1)
    assert value.exemplars[1][:2] == ({"trace_id": "a"}, 1.5)


def test_the_points_of_a_family_can_be_read_again(count: Count) -> None:
    """A family is not used up, and does not change while the program goes on."""
    metrics = count()
    Cart().add()
    family = metrics.read().family(CALLS)
    first = list(family.points)
    Cart().add()
    assert list(family.points) == first == [(("Cart", "", "add", FILE, ""), 1)]


def test_a_reading_names_the_families_it_has() -> None:
    """A family is found by its name; an unknown name is an error that lists those there are."""
    reading = Metrics().read()
    assert reading.family(CALLS) is reading.families[0]
    with pytest.raises(KeyError, match="no family 'calls'; there are function_counter_total, "):
        reading.family("calls")


def test_a_series_is_the_same_object_in_every_reading(count: Count) -> None:
    """Readers may keep what they made of a series, by the series itself."""
    metrics = count(upstream=True)

    def work() -> None:
        Shop().serve()
        with pytest.raises(KeyError):
            Cart().fail(KeyError())

    work()
    first = metrics.read()
    work()
    second = metrics.read()
    for family in first.families:
        again = second.family(family.name).series
        assert len(family.series) == len(again)
        assert all(map(lambda a, b: a is b, family.series, again)), family.name


def test_a_series_has_one_entry_for_its_calls_and_durations(count: Count) -> None:
    """Calls, durations and open spans of a call site are held under one key, rendered once."""
    metrics = count()
    for _ in range(3):
        Cart().add()
    (held,) = metrics._functions.calls._held.items()
    key, calls = held
    reading = metrics.read()
    assert list(reading.family(CALLS).series) == list(reading.family(OPEN).series) == [calls]
    (durations,) = reading.family(DURATIONS).series
    assert durations.key == (key[0], (*key[1], "ok"))
    assert durations.key[0] is calls.key[0]


def test_series_that_were_not_used_are_not_read(count: Count) -> None:
    """The overflow, and series whose spans are still open, have no count of calls."""
    metrics = count()
    with Cart().tracer.span():
        reading = metrics.read()
        assert list(reading.family(CALLS).points) == []
        assert list(reading.family(DURATIONS).points) == []
        assert [value for _, value in reading.family(OPEN).points] == [1]
    assert [value for _, value in metrics.read().family(CALLS).points] == [1]


# --- consistency ------------------------------------------------------------------------


def test_counts_and_durations_of_a_reading_agree(count: Count, switching: None) -> None:
    """While threads end spans, the calls of each series are the spans in its histograms."""
    metrics = count(allowed_props=["topic"], max_series=5, exemplar=None)
    done = threading.Event()
    readings: list[Reading] = []

    def read() -> None:
        while not done.is_set() or not readings:
            readings.append(metrics.read())
            done.wait(0.001)

    def work() -> None:
        cart = Cart()
        for number in range(2_000):
            with cart.tracer.span(topic=str(number % 8)) as span:
                if number % 10 == 0:
                    span.fail()
        left.append(work)
        if len(left) == 4:
            done.set()

    left: list[object] = []
    in_threads(read, *[work] * 4)
    for reading in [*readings, metrics.read()]:
        labels = ("object_classname", "caller_functionname", "caller_props_topic")
        ended = values_in(reading, f"{DURATIONS}_count", *labels)
        assert values_in(reading, CALLS, *labels) == ended
        assert min(values_in(reading, OPEN, *labels).values(), default=0) >= 0
        over = values_in(reading, CALLS, "object_classname").get(("<overflow>",), 0)
        health = values_in(reading, declarations.OVERFLOWED.name, "metric")
        assert health[CALLS,] == health[DURATIONS,] == over
    assert sum(values(metrics, CALLS).values()) == 8_000


# --- differences ------------------------------------------------------------------------


def added(total: Totals, difference: Reading) -> None:
    """Add what a difference says to totals, by name and labels."""
    for family in difference.families:
        if family.kind not in {"counter", "histogram"}:
            continue
        for labels, value in family.points:
            if isinstance(value, HistogramReading):
                assert min(value.counts) >= 0
                for bucket, number in enumerate(value.counts):
                    total[family.name, labels, bucket] += number
                total[family.name, labels, "sum"] += round(value.sum * 1000)
            else:
                assert isinstance(value, int | float)
                assert value >= 0
                total[family.name, labels] += int(value)


def test_a_difference_has_what_came_in_since(count: Count, span_clock: Any) -> None:
    """Counters and histograms are differences, gauges as they are; what stayed is left out."""
    metrics = count(buckets=[1, 2])
    cart, shop = Cart(), Tracer("Shop")
    shop.trace()
    for seconds in (0.5, 1.5):
        with cart.tracer.span("a"):
            span_clock.now += seconds
    first = metrics.read()
    with cart.tracer.span("a"):
        span_clock.now += 5
    with pytest.raises(KeyError):
        cart.fail(KeyError())
    open_span = shop.span("open")
    open_span.__enter__()
    second = metrics.read(since=first)
    open_span.__exit__(None, None, None)
    assert values_in(second, CALLS, "object_classname", "id") == {
        ("Cart", "a"): 1,
        ("Cart", None): 1,
    }
    points = list(second.family(DURATIONS).points)
    assert [(labels[-2:], v.counts, v.sum) for labels, v in points] == [  # type: ignore[union-attr]
        (("a", "ok"), (0, 0, 1), 5.0),
        (("", "error"), (1, 0, 0), 0.0),
    ]
    assert values_in(second, EXCEPTIONS, "exception") == {("KeyError",): 1}
    assert values_in(second, OPEN, "object_classname") == {("Cart",): 0, ("Shop",): 1}
    assert second.time >= first.time
    assert [family.name for family in second.families] == [f.name for f in first.families]
    limits = second.family(declarations.SERIES_LIMIT.name)
    assert list(limits.points) == list(first.family(declarations.SERIES_LIMIT.name).points)
    assert [value for _, value in second.family(declarations.BUILD.name).points] == [1]


def test_without_change_there_is_no_difference(count: Count) -> None:
    """Of counters and histograms no series is left."""
    metrics = count(upstream=True)
    Shop().serve()
    difference = metrics.read(since=metrics.read())
    for family in difference.families:
        if family.kind in {"counter", "histogram"}:
            assert list(family.points) == [], family.name


def test_a_difference_of_a_reading_is_that_of_metrics(count: Count) -> None:
    """`Reading.since` gives the same from two readings that were taken before."""
    metrics = count()
    first = metrics.read()
    Cart().add()
    second = metrics.read()
    assert values_in(second.since(first), CALLS) == values_in(metrics.read(since=first), CALLS)
    assert values_in(second.since(first), CALLS) == {(): 1}
    assert second.since(first).time == second.time


def test_a_family_that_is_new_is_whole() -> None:
    """What an earlier reading does not have is all that came in since."""
    declaration = Declaration("counter", "x_total", description="X.")
    now = Reading(2.0, [Family(declaration, (), [Series(((), ()))], [3])])
    (family,) = now.since(Reading(1.0)).families
    assert [value for _, value in family.points] == [3]


ONE, TWO = Series((("1",), ())), Series((("2",), ()))


def histogram(*counts: int, total: float = 0.0) -> HistogramReading:
    return HistogramReading((1.0,), counts, total, {0: Exemplar({"n": "1"}, 0.5, 1.0)})


@pytest.mark.parametrize(
    ("kind", "before", "now", "difference"),
    [
        ("counter", {ONE: 1, TWO: 2}, {ONE: 4, TWO: 2}, {ONE: 3}),
        ("counter", {ONE: 1}, {ONE: 1, TWO: 2}, {TWO: 2}),
        ("counter", {ONE: 1, TWO: 2}, {TWO: 5}, {TWO: 3}),
        ("gauge", {ONE: 1, TWO: 2}, {ONE: 1, TWO: 1}, {ONE: 1, TWO: 1}),
        (
            "histogram",
            {ONE: histogram(1, 2, total=5.0), TWO: histogram(1, 0, total=0.5)},
            {ONE: histogram(1, 5, total=25.0), TWO: histogram(1, 0, total=0.5)},
            {ONE: histogram(0, 3, total=20.0)},
        ),
        ("histogram", {}, {ONE: histogram(0, 1)}, {ONE: histogram(0, 1)}),
    ],
    ids=["changed", "new", "gone", "gauge", "histogram", "new histogram"],
)
def test_a_difference_is_that_of_each_series(
    kind: Kind,
    before: dict[Series, Value],
    now: dict[Series, Value],
    difference: dict[Series, Value],
) -> None:
    """A new series is whole, one that went is not there, one that did not change is left out."""
    declared = Declaration(kind, "x", description="X.")
    first = Family(declared, ("n",), list(before), list(before.values()))
    second = Family(declared, ("n",), list(now), list(now.values()))
    found = second.since(first)
    assert dict(zip(found.series, found.values, strict=True)) == difference
    assert (found.declaration, found.label_names) == (declared, ("n",))


def test_all_differences_add_up_to_the_totals(count: Count, switching: None) -> None:
    """Under threads that count, time, fail and nest spans, nothing is lost and nothing twice."""
    metrics = count(allowed_props=["topic"], max_series=12, upstream=True, buckets=[0.001, 1])
    done = threading.Event()
    sums: Totals = Counter()
    previous = metrics.read()
    added(sums, previous)

    def push() -> None:
        nonlocal previous
        while not done.is_set():
            reading = metrics.read()
            added(sums, reading.since(previous))
            previous = reading
            done.wait(0.001)

    def work() -> None:
        cart = Cart()
        for number in range(1_000):
            cart.tracer.trace(topic=str(number % 20))
            with cart.tracer.span("outer"), cart.tracer.span(topic=str(number % 3)) as span:
                span.set(topic=str(number % 2))
                if number % 10 == 0:
                    span.fail(KeyError())
            if number % 50 == 0:
                with pytest.raises(asyncio.CancelledError):
                    cart.fail(asyncio.CancelledError())
        left.append(work)
        if len(left) == 4:
            done.set()

    left: list[object] = []
    in_threads(push, *[work] * 4)
    last = metrics.read()
    added(sums, last.since(previous))
    total: Totals = Counter()
    added(total, last)
    # Sums of seconds are rounded: in parts they may differ by as many thousandths as there are.
    seconds = {key for key in total if key[-1] == "sum"}
    assert {k: v for k, v in sums.items() if v and k not in seconds} == {
        k: v for k, v in total.items() if v and k not in seconds
    }
    assert sum(values(metrics, CALLS).values()) == 4 * (3 * 1_000 + 20)
    assert sum(values(metrics, f"{DURATIONS}_count").values()) == 4 * (2 * 1_000 + 20)
    assert sum(values(metrics, EDGES).values()) == 4 * 1_000


def test_seconds_of_differences_add_up(count: Count, span_clock: Any) -> None:
    """The sums of the histograms of all differences are that of the whole."""
    metrics = count()
    tracer = Cart().tracer
    previous, seconds = metrics.read(), 0.0
    for number in range(50):
        with tracer.span():
            span_clock.now += number / 4
        reading = metrics.read()
        ((_, value),) = reading.since(previous).family(DURATIONS).points
        assert isinstance(value, HistogramReading)
        assert value.count == 1
        seconds, previous = seconds + value.sum, reading
    assert values(metrics, f"{DURATIONS}_sum") == {(): seconds}


def test_series_of_objects_that_went_do_not_make_differences_negative(count: Count) -> None:
    """With `object_ids`, series go with their object, and no difference is below zero."""
    metrics = count(object_ids=True)
    readings = []
    for _ in range(5):
        cart = Cart()
        for _ in range(3):
            cart.add()
        readings.append(metrics.read())
        del cart
    for before, after in pairwise(readings):
        assert set(values_in(after.since(before), CALLS).values()) == {3}


def test_an_event_that_metrics_get_is_in_the_next_reading() -> None:
    """There is nothing to flush: what was counted before is read."""
    metrics = Metrics()
    for number in range(1, 4):
        metrics(TraceEvent(None, TracedObject("A", 1), None, CALLER))
        assert values(metrics, CALLS) == {(): number}


def in_both(*values: float) -> HistogramReading:
    """Give a reading of values from 0.5 to 4, in classic buckets and in powers of two."""
    indices = Counter(math.ceil(math.log2(value)) for value in values)
    exponential = ExponentialReading(0, 0.0, 0, dict(indices), {}, sum(values), {})
    counts = (sum(value <= 1 for value in values), sum(value > 1 for value in values))
    return HistogramReading((1.0,), counts, sum(values), {}, exponential)


def test_exponential_buckets_add_up_like_the_classic_ones() -> None:
    """The sum and the difference of two readings have both kinds of buckets."""
    both = in_both(0.5, 2.0).plus(in_both(2.0, 4.0))
    assert both == in_both(0.5, 2.0, 2.0, 4.0)
    assert both.since(in_both(0.5, 2.0)) == in_both(2.0, 4.0)


def test_what_not_all_have_is_not_in_the_sum() -> None:
    """Without exponential buckets in one of two readings, the sum of them has none."""
    plain = HistogramReading((1.0,), (1, 0), 0.5, {})
    assert in_both(2.0).plus(plain).exponential is None
    assert plain.plus(in_both(2.0)).count == 2
    assert plain.plus(in_both(2.0)).exponential is None


def test_a_difference_to_a_reading_without_exponential_buckets_has_all_of_them() -> None:
    """Exponential buckets that are new are whole, as a family that is new."""
    plain = HistogramReading((1.0,), (0, 0), 0.0, {})
    assert in_both(2.0).since(plain) == in_both(2.0)


# --- native histograms and summaries ----------------------------------------------------


def native(
    zero: int, positive: dict[int, int], negative: dict[int, int], total: float
) -> ExponentialReading:
    return ExponentialReading(3, 1e-19, zero, positive, negative, total, {})


def test_native_histograms_add_up() -> None:
    """Buckets that one of them lacks are empty in it."""
    one, other = native(1, {1: 2, 5: 1}, {}, 3.5), native(2, {5: 4}, {0: 1}, -1.0)
    assert one.plus(other) == native(3, {1: 2, 5: 5}, {0: 1}, 2.5)
    assert one.plus(other).count == 11


def test_a_native_histogram_has_what_came_in_since() -> None:
    """The buckets that did not change are left out."""
    before, now = native(1, {1: 2, 5: 1}, {0: 1}, 3.5), native(1, {1: 2, 5: 4, 6: 1}, {0: 2}, 9.5)
    assert now.since(before) == native(0, {5: 3, 6: 1}, {0: 1}, 6.0)


def summary_of(window: dict[int, int], total: float) -> SummaryReading:
    return SummaryReading.of(sum(window.values()), total, (0.5, 0.9), window)


def test_summaries_add_up() -> None:
    """Counts and sums are added, and the quantiles are those of all values."""
    one, other = summary_of({2240: 9, 2300: 1}, 12.0), summary_of({2300: 9}, 30.0)
    assert one.plus(other) == summary_of({2240: 9, 2300: 10}, 42.0)


def test_a_summary_has_count_and_sum_of_what_came_in_since() -> None:
    """The quantiles are as they are now."""
    before, now = summary_of({2240: 9}, 9.0), summary_of({2240: 9, 2300: 3}, 19.0)
    assert now.since(before) == SummaryReading(3, 10.0, now.quantiles, now.window)


@pytest.mark.parametrize(
    ("kind", "before", "now", "difference"),
    [
        ("histogram", native(0, {1: 2}, {}, 3.5), native(0, {1: 2}, {}, 3.5), None),
        (
            "histogram",
            native(0, {1: 2}, {}, 3.5),
            native(0, {1: 3}, {}, 4.5),
            native(0, {1: 1}, {}, 1.0),
        ),
        ("summary", summary_of({}, 0.0), summary_of({}, 0.0), None),
        ("summary", summary_of({1: 1}, 2.0), summary_of({1: 1}, 2.0), None),
        (
            "summary",
            SummaryReading.of(5, 2.0, (0.5,), {1: 1}),
            SummaryReading.of(5, 2.0, (0.5,), {1: 2}),
            SummaryReading.of(0, 0.0, (0.5,), {1: 2}),
        ),
    ],
)
def test_a_family_has_the_series_that_changed(
    kind: Kind, before: Value, now: Value, difference: Value | None
) -> None:
    """Native histograms and summaries that are as they were are left out of a difference."""
    series = [Series(((), ()))]
    declaration = Declaration(kind, "x", description="Help.")
    earlier, later = (Family(declaration, (), series, [value]) for value in (before, now))
    changed = later.since(earlier)
    assert list(changed.values) == ([] if difference is None else [difference])


def test_exponential_buckets_become_powers_of_two() -> None:
    """Every value is in the classic bucket that it belongs to, from the smallest to the largest."""
    values = (0.3, 0.5, 0.51, 1.0, 1.5, 7.0, 0.0, -0.6, -3.0)
    scale = scale_of_schema(3)
    keys = Counter(map(scale.key, values))
    positive = {scale.index_of(key): count for key, count in keys.items() if key > 0}
    negative = {scale.index_of(key): count for key, count in keys.items() if key < 0}
    exemplar = Exemplar({"trace_id": "a"}, 7.0, 1.0)
    reading = ExponentialReading(3, 0.001, 1, positive, negative, 7.21, {23: exemplar})
    classic = reading.classic()
    assert classic.bounds == (-2.0, -1.0, -0.5, 0.001, 0.5, 1.0, 2.0, 4.0, 8.0)
    assert classic.counts == (1, 0, 1, 1, 2, 2, 1, 0, 1, 0)
    assert (classic.sum, classic.exemplars) == (7.21, {8: exemplar})
    assert classic.exponential is reading


def test_no_exponential_buckets_become_no_buckets() -> None:
    """Without values there is the bucket up to infinity alone."""
    classic = ExponentialReading(3, 0.001, 0, {}, {}, 0.0, {}).classic()
    assert (classic.bounds, classic.counts) == ((), (0,))
