"""From spans and calls to the series of the metrics, through tracers as an application has them."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    Tracer,
    clear_trace_function,
    fan_out,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hypertrace import TraceEvent

    Export = Callable[..., PrometheusExporter]
    Values = dict[tuple[Any, ...], float]

FILE = __name__.replace(".", "/") + ".py"
CALLS = "function_counter_total"
COUNT = "function_duration_seconds_count"
SUM = "function_duration_seconds_sum"
BUCKET = "function_duration_seconds_bucket"
EXCEPTIONS = "function_exceptions_total"
OPEN = "function_in_progress"
EDGES = "function_edges_total"
OVERFLOW = "<overflow>"


class Cart:
    def __init__(self, props: Any = None, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, props, parent=parent)

    def add(self, *arguments: Any, **props: Any) -> None:
        with self.tracer.span(*arguments, **props):
            pass

    def fail(self, error: BaseException, **props: Any) -> None:
        with self.tracer.span(**props):
            raise error


class Clock:
    """A clock that is put on by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let all spans be measured with a clock that only the test puts on."""
    clock = Clock()
    monkeypatch.setattr("hypertrace._span.clock", clock)
    return clock


@pytest.fixture
def export() -> Iterator[Export]:
    """Give a function that makes an exporter, sets it, and stops it at the end of the test."""
    made = []

    def make(**settings: Any) -> PrometheusExporter:
        exporter = PrometheusExporter(collect_defaults=False, **settings)
        made.append(exporter)
        set_trace_function(exporter)
        return exporter

    yield make
    for exporter in made:
        exporter.stop()


def values_in(page: str, name: str, *labels: str) -> Values:
    """Sum up the samples of a name on a page, by the values of some labels."""
    found: Values = defaultdict(float)
    for family in parse_text(page):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels.get(label) for label in labels)] += sample.value
    return dict(found)


def values(exporter: PrometheusExporter, name: str, *labels: str) -> Values:
    return values_in(exporter.metrics(), name, *labels)


def in_threads(number: int, work: Callable[[], object]) -> None:
    """Run `work` in threads that start together."""
    start = threading.Barrier(number)

    def run() -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- durations, results, exceptions -----------------------------------------------------


def test_a_span_is_counted_in_buckets(export: Export, clock: Clock) -> None:
    """Durations are in cumulative buckets, with their sum and count, under the call's labels."""
    exporter = export(buckets=[0.1, 1, 10], allowed_props=["topic"])
    cart = Cart({"topic": "a"}, Tracer("shop", {"topic": "b"}))
    for seconds in (0.05, 0.5, 0.7, 5.0, 50.0):
        with cart.tracer.span("pay", topic="c"):
            clock.now += seconds
    assert values(exporter, BUCKET, "le") == {
        ("0.1",): 1,
        ("1.0",): 3,
        ("10.0",): 4,
        ("+Inf",): 5,
    }
    assert values(exporter, COUNT) == {(): 5}
    assert values(exporter, SUM)[()] == pytest.approx(56.25)
    (series,) = [s for f in parse_text(exporter.metrics()) for s in f.samples if s.name == SUM]
    assert series.labels == {
        "object_classname": "Cart",
        "object_props_topic": "a",
        "parent_object_classname": "shop",
        "parent_object_props_topic": "b",
        "caller_functionname": "test_a_span_is_counted_in_buckets",
        "caller_filename": FILE,
        "caller_props_topic": "c",
        "id": "pay",
        "result": "ok",
    }


def test_each_result_is_counted_for_itself(export: Export, clock: Clock) -> None:
    """Spans that end well, fail, are cancelled or handle a failure are told apart."""
    exporter = export()
    cart = Cart()
    errors = (KeyError(), ValueError(), asyncio.CancelledError(), GeneratorExit(), SystemExit())
    for error in errors:
        with pytest.raises(type(error)):
            cart.fail(error)
    cart.add()
    with cart.tracer.span() as span:
        clock.now += 2
        span.fail(OSError("handled"))
    with cart.tracer.span() as span:
        span.fail()
    assert values(exporter, COUNT, "result", "caller_functionname") == {
        ("error", "fail"): 3,
        ("cancelled", "fail"): 2,
        ("ok", "add"): 1,
        ("error", "test_each_result_is_counted_for_itself"): 2,
    }
    assert values(exporter, SUM, "result") == {("error",): 2, ("cancelled",): 0, ("ok",): 0}
    assert values(exporter, EXCEPTIONS, "exception") == {
        (name,): 1
        for name in (
            "KeyError",
            "ValueError",
            "CancelledError",
            "GeneratorExit",
            "SystemExit",
            "OSError",
        )
    }
    assert set(values(exporter, OPEN, "caller_functionname").values()) == {0}


def test_an_exception_has_the_labels_of_the_call(export: Export) -> None:
    """An exception is counted under the labels of its span, and by its class."""
    exporter = export(allowed_props=["topic"])
    for topic in ("a", "b", "a"):
        with pytest.raises(KeyError):
            Cart().fail(KeyError(), topic=topic)
    labels = ("object_classname", "caller_functionname", "caller_props_topic", "exception")
    assert values(exporter, EXCEPTIONS, *labels) == {
        ("Cart", "fail", "a", "KeyError"): 2,
        ("Cart", "fail", "b", "KeyError"): 1,
    }


def test_the_counter_counts_spans_and_calls(export: Export) -> None:
    """A span is a call once it has ended, in the same series as a `trace()` with its labels."""
    exporter = export(allowed_props=["topic"])
    tracer = Cart().tracer
    with tracer.span("a"):
        tracer.trace("a")
        assert values(exporter, CALLS, "id") == {("a",): 1}
    for topic in ("x", "y", "x"):
        with tracer.span("a", topic=topic):
            tracer.trace("a", topic=topic)
    assert values(exporter, CALLS, "id", "caller_props_topic") == {
        ("a", None): 2,
        ("a", "x"): 4,
        ("a", "y"): 2,
    }
    assert values(exporter, COUNT) == {(): 4}


def test_what_is_traced_by_a_decorator_is_timed(export: Export) -> None:
    """`@traced` gives the same metrics as a span in the function would."""
    exporter = export()

    @traced("x")
    def work() -> None:
        pass

    work()
    work()
    labels = ("object_classname", "caller_functionname", "caller_filename", "id", "result")
    name = "test_what_is_traced_by_a_decorator_is_timed.<locals>.work"
    assert values(exporter, COUNT, *labels) == {(__name__, name, FILE, "x", "ok"): 2}


def test_the_page_has_what_the_collector_gives(export: Export) -> None:
    """`prometheus_client`, asked for the same registry, gives the same samples of every metric."""
    exporter = export(allowed_props=["topic"], max_series=4, upstream=True)
    cart = Cart()
    with cart.tracer.span("outer"):
        for topic in ("a", 'b"\n\\', None, "c", "d"):
            cart.add(topic=topic)
            with pytest.raises(KeyError):
                cart.fail(KeyError(), topic=topic)
    theirs = generate_latest(exporter.registry).decode()
    ours = [(f.name, f.type, f.samples) for f in parse_text(exporter.metrics())]
    assert ours == [(f.name, f.type, f.samples) for f in parse_text(theirs)]
    assert {BUCKET, EXCEPTIONS, OPEN, EDGES} <= {s.name for f in ours for s in f[2]}


# --- in progress ------------------------------------------------------------------------


def test_open_spans_are_in_progress(export: Export) -> None:
    """The gauge tells how many spans of a series are open, and is 0 when all have ended."""
    exporter = export()
    tracer = Cart().tracer
    spans = [tracer.span("a") for _ in range(3)]
    assert values(exporter, OPEN) == {}
    for number, span in enumerate(spans, 1):
        span.__enter__()
        assert values(exporter, OPEN, "id") == {("a",): number}
    for number, span in enumerate(spans, 1):
        span.__exit__(None, None, None)
        assert values(exporter, OPEN, "id") == {("a",): 3 - number}


@pytest.mark.parametrize(
    "error",
    [None, KeyError(), asyncio.CancelledError(), GeneratorExit(), SystemExit()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("start_props", [{}, {"topic": "a"}], ids=["bare", "with props"])
@pytest.mark.parametrize("set_props", [{}, {"topic": "b"}, {"other": 1}], ids=["", "b", "other"])
def test_the_gauge_goes_back_after_any_ending(
    export: Export,
    error: BaseException | None,
    start_props: dict[str, str],
    set_props: dict[str, str],
) -> None:
    """However a span ends, and whatever props were set, the gauge is where it was, everywhere."""
    exporter = export(allowed_props=["topic"])
    tracer = Cart().tracer
    with tracer.span():
        before = values(exporter, OPEN, "caller_functionname", "caller_props_topic")
        for _ in range(2):
            with suppress(BaseException), tracer.span(**start_props) as span:
                topic = start_props.get("topic")
                assert values(exporter, OPEN, "caller_props_topic")[topic,] >= 1
                if set_props:
                    span.set(set_props)
                if error is not None:
                    raise error
        after = values(exporter, OPEN, "caller_functionname", "caller_props_topic")
    assert {series: value for series, value in after.items() if value} == before
    assert set(values(exporter, OPEN, "caller_props_topic").values()) == {0}
    topic = {**start_props, **set_props}.get("topic")
    result = "ok" if error is None else exporter_result(error)
    expected = {(topic, result): 2.0}
    expected[None, "ok"] = expected.get((None, "ok"), 0) + 1
    assert values(exporter, COUNT, "caller_props_topic", "result") == expected


def exporter_result(error: BaseException) -> str:
    cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return "cancelled" if cancelled else "error"


def test_the_gauge_goes_back_when_tracing_ends_meanwhile(export: Export) -> None:
    """A span that is open when the trace function goes still ends where it started."""
    first = export()
    tracer = Cart().tracer
    with tracer.span():
        clear_trace_function()
    with tracer.span():
        pass
    second = export()
    with tracer.span():
        set_trace_function(first)
    assert [set(values(e, OPEN).values()) for e in (first, second)] == [{0}, {0}]
    assert [values(e, COUNT) for e in (first, second)] == [{(): 1}, {(): 1}]


def test_the_gauge_is_never_below_zero(export: Export) -> None:
    """While threads start, change and end spans, no scrape finds fewer than none open."""
    exporter = export(allowed_props=["topic"])
    done = threading.Event()
    found: list[float] = []

    def scrape() -> None:
        while not done.is_set():
            found.extend(values(exporter, OPEN, "caller_props_topic").values())

    def work() -> None:
        tracer = Cart().tracer
        for number in range(1_500):
            with tracer.span(topic=str(number % 3)) as span:
                span.set(topic=str(number % 2))
            with tracer.span(), tracer.span("inner") as span:
                span.set(topic="0")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        scraper = threading.Thread(target=scrape)
        scraper.start()
        in_threads(4, work)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        scraper.join()
    assert min(found) == 0
    assert max(found) >= 1
    assert set(values(exporter, OPEN).values()) == {0}
    assert values(exporter, COUNT) == {(): 4 * 1_500 * 3}


# --- edges ------------------------------------------------------------------------------


class Shop:
    def __init__(self) -> None:
        self.tracer = Tracer(self)
        self.cart = Cart()

    def serve(self) -> None:
        with self.tracer.span():
            self.cart.add()
            self.cart.add()
            self.cart.tracer.trace()


EDGE = ("from_classname", "from_functionname", "to_classname", "to_functionname")


def test_edges_tell_who_calls_whom(export: Export) -> None:
    """Each span inside another one adds to the edge between their functions; others add to none."""
    exporter = export(upstream=True)
    shop = Shop()
    for _ in range(3):
        shop.serve()
    shop.cart.add()
    assert values(exporter, EDGES, *EDGE) == {("Shop", "serve", "Cart", "add"): 6}
    assert values(exporter, COUNT, "object_classname") == {("Shop",): 3, ("Cart",): 7}


def test_failed_spans_are_edges(export: Export) -> None:
    """An edge is counted however the inner span ends."""
    exporter = export(upstream=True)
    shop, cart = Shop(), Cart()
    with shop.tracer.span(), pytest.raises(KeyError):
        cart.fail(KeyError())
    assert values(exporter, EDGES, "from_classname", "to_functionname") == {("Shop", "fail"): 1}


def test_there_are_no_edges_by_default(export: Export) -> None:
    """Without `upstream` nobody counts edges, and the page does not name them."""
    exporter = export()
    Shop().serve()
    assert "edges" not in exporter.metrics()


def test_edges_are_bounded(export: Export) -> None:
    """Past `max_series` edges are counted in the overflow, and their total stays true."""
    exporter = export(upstream=True, max_series=3)
    outer = Tracer("outer")
    with outer.span():
        for number in range(10):
            with Tracer(f"inner-{number}").span():
                pass
    found = values(exporter, EDGES, "to_classname", "object_classname")
    assert found == {(None, OVERFLOW): 7} | {(f"inner-{n}", None): 1 for n in range(3)}


# --- buckets ----------------------------------------------------------------------------


def bounds(exporter: PrometheusExporter, name: str) -> list[str]:
    """Give the bounds of the buckets of a class."""
    page = values(exporter, BUCKET, "object_classname", "le")
    return [le for class_name, le in page if class_name == name]


def test_buckets_can_be_set_by_class_and_by_id(export: Export) -> None:
    """Buckets of an id win over those of a class, and those over the buckets for all."""
    exporter = export(buckets=[1], buckets_for={"Cart": [2], "pay": [3, 4], "unused": [9]})
    tracers = {name: Tracer(name) for name in ("Cart", "Shop")}
    for tracer in tracers.values():
        for trace_id in (None, "pay", "other"):
            with tracer.span(trace_id):
                pass
    found = values(exporter, BUCKET, "object_classname", "id", "le")
    assert set(found) == {
        ("Cart", None, "2.0"),
        ("Cart", None, "+Inf"),
        ("Cart", "other", "2.0"),
        ("Cart", "other", "+Inf"),
        ("Shop", None, "1.0"),
        ("Shop", None, "+Inf"),
        ("Shop", "other", "1.0"),
        ("Shop", "other", "+Inf"),
        *((name, "pay", le) for name in tracers for le in ("3.0", "4.0", "+Inf")),
    }


def test_the_overflow_has_the_buckets_for_all(export: Export) -> None:
    """Where series of different buckets end up together, the general ones count."""
    exporter = export(buckets=[1, 2], buckets_for={"b": [5]}, max_series=1)
    for name in ("a", "b"):
        with Tracer(name).span():
            pass
    assert bounds(exporter, OVERFLOW) == ["1.0", "2.0", "+Inf"]


def test_there_are_buckets_by_default(export: Export) -> None:
    """Without any setting they reach from half a millisecond to ten seconds."""
    exporter = export()
    Cart().add()
    assert bounds(exporter, "Cart")[0] == "0.0005"
    assert bounds(exporter, "Cart")[-2:] == ["10.0", "+Inf"]
    assert len(bounds(exporter, "Cart")) == 15


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"buckets": [2, 1]}, ValueError, r"buckets must be ascending .*, not \[2, 1\]"),
        ({"buckets": []}, ValueError, r"buckets must be ascending .*, not \[\]"),
        ({"buckets": 5}, TypeError, "buckets must be numbers of seconds, not 5"),
        ({"buckets_for": {"Cart": [-1]}}, ValueError, r"buckets_for\['Cart'\] must be ascending"),
        ({"buckets_for": {"Cart": 1}}, TypeError, r"buckets_for\['Cart'\] must be numbers of sec"),
        ({"buckets_for": {Cart: [1]}}, TypeError, "buckets_for must map names .*Cart"),
        ({"buckets_for": [1, 2]}, TypeError, r"buckets_for must map names .* not \[1, 2\]"),
        ({"buckets_for": "Cart"}, TypeError, "buckets_for must map names .* not 'Cart'"),
    ],
    ids=str,
)
def test_bad_buckets_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A mistake in the buckets raises at once, and the message says in which of them."""
    with pytest.raises(error, match=message):
        PrometheusExporter(**settings)


# --- bounds -----------------------------------------------------------------------------


def test_past_the_limit_totals_of_spans_stay_true(export: Export, clock: Clock) -> None:
    """What finds no room is counted in the overflow, in the counter, histogram and gauge alike."""
    exporter = export(allowed_props=["topic"], max_series=3, upstream=True)
    cart = Cart()
    with cart.tracer.span("outer"):
        for number in range(10):
            with cart.tracer.span(topic=str(number)) as span:
                clock.now += 1
                assert sum(values(exporter, OPEN).values()) == 2
                if number % 2:
                    span.set(topic="changed")
            with pytest.raises(KeyError):
                cart.fail(KeyError(), topic=str(number))
    assert sum(values(exporter, CALLS).values()) == 21
    assert values(exporter, COUNT, "result") == {("ok",): 11, ("error",): 10}
    assert values(exporter, SUM, "result") == {("ok",): 20, ("error",): 0}
    assert values(exporter, EXCEPTIONS, "exception").keys() == {("KeyError",), (None,)}
    assert sum(values(exporter, EXCEPTIONS).values()) == 10
    assert sum(values(exporter, EDGES).values()) == 20
    assert set(values(exporter, OPEN).values()) == {0}
    assert (
        values(exporter, CALLS, "object_classname")[OVERFLOW,]
        == (values(exporter, COUNT, "object_classname")[OVERFLOW,])
    )


def test_calls_take_no_room_twice(export: Export) -> None:
    """A series that has calls alone can have spans, too, at the limit."""
    exporter = export(max_series=2)
    tracers = [Tracer(name) for name in ("a", "b", "c")]
    for tracer in tracers:
        tracer.trace()
    for tracer in tracers:
        with tracer.span():
            pass
    assert values(exporter, CALLS, "object_classname") == {("a",): 2, ("b",): 2, (OVERFLOW,): 2}
    assert values(exporter, COUNT, "object_classname") == {("a",): 1, ("b",): 1, (OVERFLOW,): 1}


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


@pytest.mark.parametrize("upstream", [False, True])
def test_spans_leave_no_memory_in_use(export: Export, upstream: bool) -> None:
    """Thousands of spans with props without bound, and no scrape, leave the limit and no more."""
    exporter = export(
        allowed_props=["topic"], max_series=50, upstream=upstream, exemplar=lambda: {"n": "1"}
    )
    cart = Cart()

    def work(number: int) -> None:
        cart.add()
        cart.add("id", topic=f"topic-{number}")
        with cart.tracer.span() as span:
            span.set(topic=f"other-{number}")

    # 100 bytes a span would be 600 000.
    assert _grow(work) < 60_000
    assert values(exporter, COUNT) == {(): 15_000}


# --- objects told apart -----------------------------------------------------------------


def test_series_of_spans_go_with_their_object(export: Export) -> None:
    """With `object_ids`, the series of an object that is gone are dropped, those of spans too."""
    exporter = export(object_ids=True, allowed_props=["topic"], upstream=True)

    def work(cart: Cart) -> None:
        cart.add()
        cart.add(topic="a")
        with pytest.raises(KeyError):
            cart.fail(KeyError())
        with cart.tracer.span("outer"):
            cart.add()

    living = Cart()
    for _ in range(50):
        work(Cart())
        work(living)
    number = str(living.tracer.object_id)
    gc.collect()  # what pytest.raises() caught refers to the frames
    for name, total in ((CALLS, 250), (COUNT, 250), (EXCEPTIONS, 50), (OPEN, 0)):
        assert values(exporter, name, "object_id") == {(number,): total}, name
    del living
    gc.collect()
    for name in (CALLS, COUNT, EXCEPTIONS, OPEN):
        assert values(exporter, name) == {}, name


def test_edges_go_with_no_object(export: Export) -> None:
    """Edges are between functions, so they stay when an object goes, also with `object_ids`."""
    exporter = export(object_ids=True, upstream=True)
    for _ in range(5):
        Shop().serve()
    gc.collect()
    assert values(exporter, EDGES, *EDGE) == {("Shop", "serve", "Cart", "add"): 10}
    assert values(exporter, COUNT) == {}


def test_an_open_span_keeps_the_series_of_its_object(export: Export) -> None:
    """A span that outlives its object is counted until it has ended."""
    exporter = export(object_ids=True)
    cart = Cart()
    span = cart.tracer.span()
    with span:
        del cart
        gc.collect()
        assert values(exporter, OPEN) == {(): 1}
    assert values(exporter, COUNT) == {(): 1}
    del span
    assert values(exporter, COUNT) == {}


# --- as one of several, and by events ---------------------------------------------------


def test_two_exporters_both_have_all_spans(export: Export, clock: Clock) -> None:
    """Through `fan_out` each exporter counts every span, with its own labels and buckets."""
    bare, rich = export(buckets=[1]), export(buckets=[5], allowed_props=["topic"], upstream=True)
    set_trace_function(fan_out(bare, rich))
    cart = Cart()
    with cart.tracer.span("outer"):
        assert [values(e, OPEN) for e in (bare, rich)] == [{(): 1}, {(): 1}]
        for topic in ("a", "b", "a"):
            with cart.tracer.span(topic=topic) as span:
                clock.now += 2
                span.set(topic="z" if topic == "b" else topic)
        with pytest.raises(KeyError):
            cart.fail(KeyError())
    assert values(bare, CALLS, "caller_props_topic") == {(None,): 5}
    assert values(rich, COUNT, "caller_props_topic") == {("a",): 2, ("z",): 1, (None,): 2}
    for exporter in (bare, rich):
        assert values(exporter, COUNT, "result") == {("ok",): 4, ("error",): 1}
        assert values(exporter, SUM, "result") == {("ok",): 12, ("error",): 0}
        assert values(exporter, EXCEPTIONS, "exception") == {("KeyError",): 1}
        assert set(values(exporter, OPEN).values()) == {0}
    assert values(bare, BUCKET, "le") == {("1.0",): 1, ("+Inf",): 5}
    assert values(rich, BUCKET, "le") == {("5.0",): 4, ("+Inf",): 5}
    assert values(rich, EDGES) == {(): 4}


def test_an_exporter_beside_a_plain_function_has_all_spans(export: Export) -> None:
    """Through `fan_out` with any callable, also one that raises, spans are counted as events."""
    exporter = export(allowed_props=["topic"], upstream=True)
    events: list[TraceEvent] = []

    def fail(_: TraceEvent) -> None:
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fan_out(fail, exporter, events.append))
    cart = Cart()
    with cart.tracer.span():
        cart.add(topic="a")
        with pytest.raises(KeyError):
            cart.fail(KeyError())
    assert values(exporter, COUNT, "result") == {("ok",): 2, ("error",): 1}
    assert values(exporter, CALLS, "caller_props_topic") == {("a",): 1, (None,): 2}
    assert values(exporter, EXCEPTIONS) == {(): 1}
    assert values(exporter, EDGES) == {(): 2}
    assert set(values(exporter, OPEN).values()) == {0}
    assert len(events) == swallowed_errors() == 3


def test_an_event_counts_like_the_span_it_tells_of(export: Export, clock: Clock) -> None:
    """Called with events, an exporter has the same page as one that binds its recorders."""
    settings = {"allowed_props": ["topic"], "upstream": True, "buckets": [1, 2]}
    bound, plain = export(**settings), export(**settings)

    def forward(event: TraceEvent) -> None:
        plain(event)

    shop, cart = Shop(), Cart({"topic": "a"})
    for function in (bound, forward):
        set_trace_function(function)
        for _ in range(2):
            shop.serve()
            cart.tracer.trace(topic="b")
            with cart.tracer.span(topic="b") as span:
                clock.now += 1.5
                span.set(topic="c")
            with pytest.raises(KeyError):
                cart.fail(KeyError())
    for name in (CALLS, COUNT, SUM, BUCKET, EXCEPTIONS, EDGES):
        labels = ("object_classname", "id", "caller_props_topic", "result", "le", "exception")
        assert values(bound, name, *labels) == values(plain, name, *labels), name
    assert sum(values(plain, CALLS).values()) == 2 * (4 + 3)
    assert set(values(plain, OPEN).values()) == {0}


def test_an_event_made_by_hand_is_taken(export: Export) -> None:
    """What somebody else measured can be handed to the exporter as an event."""
    exporter = export()
    caller = Caller("pay", "shop/cart.py", "shop.cart")
    event = SpanEvent("x", TracedObject("Cart", 1), None, caller, 0.3, "error", OSError)
    exporter(event)
    labels = ("object_classname", "caller_functionname", "caller_filename", "id", "result")
    assert values(exporter, SUM, *labels) == {("Cart", "pay", "shop/cart.py", "x", "error"): 0.3}
    assert values(exporter, EXCEPTIONS, "exception") == {("OSError",): 1}


# --- threads ----------------------------------------------------------------------------


def _buckets_add_up(page: str) -> None:
    labels = ("object_classname", "caller_functionname", "id", "result")
    counts = values_in(page, COUNT, *labels)
    buckets: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for series, value in values_in(page, BUCKET, *labels, "le").items():
        buckets[series[:-1]].append(value)
    assert counts.keys() == buckets.keys()
    for series, count in counts.items():
        assert buckets[series] == sorted(buckets[series])
        assert buckets[series][-1] == count


def _nothing_went_down(pages: Iterable[str]) -> None:
    before: Values = {}
    labels = ("object_classname", "caller_functionname", "id", "result", "le", "exception")
    for page in pages:
        now = {
            (name, *series): value
            for name in (CALLS, COUNT, SUM, BUCKET, EXCEPTIONS)
            for series, value in values_in(page, name, *labels).items()
        }
        assert all(now[series] >= value for series, value in before.items())
        before = now


def test_threads_count_spans_exactly(export: Export) -> None:
    """8 threads time 10 000 spans each while others scrape: nothing is lost, nothing goes down."""
    exporter = export()
    done = threading.Event()
    scraped: list[list[str]] = [[], []]

    def scrape(pages: list[str]) -> None:
        while not done.is_set() and len(pages) < 50:  # to read them takes longer
            pages.append(exporter.metrics())
            done.wait(0.002)

    def work() -> None:
        cart = Cart()
        for number in range(5_000):
            with cart.tracer.span():
                pass
            with cart.tracer.span("id") as span:
                if number % 100 == 0:
                    span.fail()

    scrapers = [threading.Thread(target=scrape, args=(pages,)) for pages in scraped]
    for scraper in scrapers:
        scraper.start()
    in_threads(8, work)
    done.set()
    for scraper in scrapers:
        scraper.join()
    assert values(exporter, CALLS, "id") == {(None,): 40_000, ("id",): 40_000}
    assert values(exporter, COUNT, "id", "result") == {
        (None, "ok"): 40_000,
        ("id", "ok"): 39_600,
        ("id", "error"): 400,
    }
    assert set(values(exporter, OPEN).values()) == {0}
    for pages in scraped:
        assert len(pages) > 1
        pages.append(exporter.metrics())
        for page in pages:
            _buckets_add_up(page)
        _nothing_went_down(pages)
    assert swallowed_errors() == 0


def test_buffers_are_bounded_without_a_scrape(export: Export) -> None:
    """However many spans end before the first scrape, only some hundred durations wait."""
    exporter = export()
    cart = Cart()
    longest = 0
    cart.add()
    buffers = [timings.results["ok"].buffer for _, timings in list(exporter.timings.items())]
    for _ in range(4_999):
        cart.add()
        longest = max(longest, *map(len, buffers))
    assert 0 < longest <= 200
    assert values(exporter, COUNT) == {(): 5_000}


def test_openmetrics_is_read_by_its_strict_parser(export: Export) -> None:
    """All metrics of spans keep the rules of OpenMetrics."""
    exporter = export(upstream=True, max_series=3, exemplar=lambda: {"trace_id": "a"})
    Shop().serve()
    for number in range(4):
        with pytest.raises(KeyError):
            Cart().fail(KeyError())
        Cart().add(str(number))
    page = render(exporter.registry, openmetrics=True).decode()
    families = openmetrics_parser.text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
    types = {family.name: family.type for family in families}
    assert {name: kind for name, kind in types.items() if name.startswith("function_")} == {
        "function_counter": "counter",
        "function_duration_seconds": "histogram",
        "function_exceptions": "counter",
        "function_in_progress": "gauge",
        "function_edges": "counter",
    }
