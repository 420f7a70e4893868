"""Instruments: what code counts without tracers, its labels and limits, threads and workers."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import weakref
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import COMPILED
from hypertrace.metrics import Counter, Metrics
from hypertrace.number_cells import GaugeCell, HistogramCell, NumberCell
from hypertrace_prometheus import PrometheusExporter

from ....hostile_values import GivesNoStr, HostileStr, Liar, OfHostileMeta, fail
from ....running import in_child, in_threads
from ..readings import OVERFLOW, rows, samples, values, values_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Make

INVALID = "hypertrace_invalid_values_total"


def invalid(metrics: Metrics) -> dict[Any, float]:
    """Return how many values were invalid, by metric."""
    return {metric: value for (metric,), value in values(metrics, INVALID, "metric").items()}


def test_a_counter_adds_amounts_by_labels(metrics: Metrics) -> None:
    """One without an amount, and any finite amount from zero up."""
    orders = metrics.counter("orders_total", ["country"], description="Orders.")
    orders.inc(country="de")
    orders.inc(2.5, country="de")
    orders.inc(0, country="fr")
    orders.labels(country="fr").inc(4)
    family = metrics.read().family("orders_total")
    assert (family.kind, family.label_names, family.description) == (
        "counter",
        ("country",),
        "Orders.",
    )
    assert values(metrics, "orders_total", "country") == {("de",): 3.5, ("fr",): 4}


def test_a_gauge_is_set_and_changed(metrics: Metrics) -> None:
    """It has no value before, and may be below zero."""
    depth = metrics.gauge("depth", ["queue"], unit="messages")
    assert metrics.read().family("depth").values == []
    depth.set(5, queue="mail")
    depth.inc(queue="mail")
    depth.dec(2.5, queue="mail")
    depth.dec(queue="new")
    bound = depth.labels(queue="bound")
    bound.set(1)
    bound.inc(3)
    bound.dec()
    assert values(metrics, "depth", "queue") == {("mail",): 3.5, ("new",): -1, ("bound",): 3}


def test_a_distribution_counts_in_buckets(metrics: Metrics) -> None:
    """In its own, of either sign, or in those of the metrics, which are seconds."""
    sizes = metrics.distribution("payload_bytes", ["kind"], buckets=(-1, 10, 100), unit="bytes")
    for size in (-5, 10, 11, 1e9):
        sizes.observe(size, kind="json")
    sizes.labels(kind="xml").observe(3)
    reading: dict[Any, Any] = dict(metrics.read().family("payload_bytes").points)
    assert reading["json",].bounds == (-1, 10, 100)
    assert reading["json",].counts == (1, 1, 1, 1)
    assert reading["xml",].counts == (0, 1, 0, 0)
    latency = metrics.distribution("latency_seconds")
    latency.observe(0.3)
    assert metrics.read().family("latency_seconds").unit == "seconds"
    assert latency.metric.buckets is None  # type: ignore[attr-defined]


def test_a_native_distribution_needs_no_buckets(metrics: Metrics) -> None:
    """Its buckets are exponential, for values of any size."""
    sizes = metrics.distribution("payload_bytes", ["kind"], native=True, unit="bytes")
    sizes.observe(1000, kind="json")
    sizes.labels(kind="json").observe(-3)
    sizes.observe("x", kind="json")  # type: ignore[arg-type]
    (point,) = metrics.read().family("payload_bytes").points
    reading: Any = point.value
    assert (reading.count, reading.sum) == (2, 997)
    assert invalid(metrics) == {"payload_bytes": 1}


def test_a_summary_has_quantiles(metrics: Metrics) -> None:
    """Of the values of a sliding window."""
    sizes = metrics.summary("payload_bytes", ["kind"], quantiles=(0.5, 1), max_age=60, unit="bytes")
    for size in range(1, 102):
        sizes.observe(size, kind="json")
    sizes.labels(kind="json").observe(None)  # type: ignore[arg-type]
    (point,) = metrics.read().family("payload_bytes").points
    reading: Any = point.value
    assert (reading.count, reading.sum) == (101, 5151)
    assert reading.quantiles == {0.5: pytest.approx(51, rel=0.01), 1: pytest.approx(101, rel=0.01)}
    assert invalid(metrics) == {"payload_bytes": 1}
    assert metrics.instrument("payload_bytes") is sizes
    with pytest.raises(ValueError, match=r"max_age was 60\.0, and is now 5\.0"):
        metrics.summary("payload_bytes", ["kind"], quantiles=(0.5, 1), max_age=5, unit="bytes")


def test_a_distribution_times_blocks_and_functions(metrics: Metrics) -> None:
    """The seconds of each are observed with the labels."""
    latency = metrics.distribution("latency_seconds", ["step"])
    with latency.time(step="load"):
        pass

    @latency.labels(step="save").time()
    def save() -> str:
        return "saved"

    assert [save(), save()] == ["saved", "saved"]
    counts = values(metrics, "latency_seconds_count", "step")
    assert counts == {("load",): 1, ("save",): 2}


def test_asking_again_gives_the_same_object(metrics: Metrics) -> None:
    """For each kind; so modules need not pass it around."""
    for ask in (metrics.counter, metrics.gauge, metrics.distribution):
        name = f"{ask.__name__}_total" if ask == metrics.counter else ask.__name__
        first: Any = ask(name, ["a"])
        assert ask(name, ("a",)) is first
        assert first.labels(a="x") is first.labels(a="x")


def test_instruments_show_what_they_are(metrics: Metrics) -> None:
    """The name, the labels, and whether a gauge that is read is gone."""
    counter = metrics.counter("orders_total", ["country"])
    assert repr(counter) == "<CounterInstrument 'orders_total', labels ['country']>"
    gauge = metrics.gauge("depth", {"queue": "mail"}, read=int)
    assert repr(gauge) == "<PullGauge 'depth', labels {'queue': 'mail'}>"
    gauge.stop()
    assert repr(gauge) == "<PullGauge 'depth', labels {'queue': 'mail'}, stopped>"
    mapping = metrics.gauge("threads", ["state"], read=dict)
    assert repr(mapping) == "<PullGauge 'threads', labels ['state']>"


def test_a_metric_that_differs_is_an_error_that_shows_how(metrics: Metrics) -> None:
    """Also one of another kind, or one that counts events."""
    metrics.counter("orders_total", ["country"])
    with pytest.raises(ValueError, match=r"orders_total is there already, and differs: tags was"):
        metrics.counter("orders_total", ["city"])
    with pytest.raises(ValueError, match=r"description was not given, and is now 'Orders\.'"):
        metrics.counter("orders_total", ["country"], description="Orders.")
    with pytest.raises(ValueError, match="orders is there already, and differs"):
        metrics.gauge("orders", ["country"])
    with pytest.raises(ValueError, match="orders_total is an instrument already"):
        metrics.declare(Counter("orders_total", of="Shop.order"))
    metrics.declare(Counter("logins_total", of="Auth.login"))
    with pytest.raises(ValueError, match="logins_total is declared already, and counts events"):
        metrics.counter("logins_total")


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m.counter("orders"), ValueError, "must end in '_total'"),
        (lambda m: m.gauge("orders_total"), ValueError, "ends in '_total'"),
        (lambda m: m.counter("a b_total"), ValueError, "no name of a metric"),
        (lambda m: m.counter("hypertrace_x_total"), ValueError, "begins like"),
        (lambda m: m.counter("function_counter_total"), ValueError, "function_counter_total"),
        (lambda m: m.counter("x_total", ["password"]), ValueError, "secret"),
        (lambda m: m.counter("x_total", ["le"]), ValueError, "belongs to Prometheus"),
        (lambda m: m.counter("x_total", "country"), TypeError, r"names, as \['country'\], not"),
        (lambda m: m.gauge("x", len), TypeError, "is read=, not"),
        (lambda m: m.counter("x_total", {"a": "b"}), TypeError, "get their values"),
        (lambda m: m.gauge("x", {"a": "b"}), TypeError, "with read="),
        (lambda m: m.counter("x_total", max_series=0), ValueError, "1 or more"),
        (lambda m: m.gauge("x", workers="most"), ValueError, "is one of"),
        (lambda m: m.distribution("x", unit="bytes"), ValueError, "buckets is missing"),
        (lambda m: m.distribution("x", buckets=(2, 1)), ValueError, "must ascend"),
    ],
)
def test_a_wrong_declaration_is_an_error(
    metrics: Metrics, ask: Callable[[Any], object], error: type[Exception], message: str
) -> None:
    """It names the value and the way out."""
    with pytest.raises(error, match=message):
        ask(metrics)


def test_missing_and_unknown_labels_raise_nothing(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing label is empty text; an unknown one is ignored, and logged once."""
    orders = metrics.counter("orders_total", ["country", "city"])
    with caplog.at_level(logging.WARNING, "hypertrace.metrics"):
        for _ in range(3):
            orders.inc()
            orders.inc(city="Ulm", town="Ulm")
            orders.inc(city="Ulm", country="de", town=None)
            orders.inc(city=None)
    assert values(metrics, "orders_total", "country", "city") == {
        (None, None): 6,
        (None, "Ulm"): 3,
        ("de", "Ulm"): 3,
    }
    assert [record.getMessage() for record in caplog.records] == [
        "orders_total has no label 'town', which is ignored; it has 'country', 'city'"
    ]


def test_labels_may_be_called_like_arguments(metrics: Metrics) -> None:
    """No name of a label collides with a parameter."""
    counter = metrics.counter("x_total", ["self", "amount", "labels"])
    counter.inc(2, self="a", amount="b", labels="c")
    counter.labels(self="a", amount="b", labels="c").inc()
    assert values(metrics, "x_total", "self", "amount", "labels") == {("a", "b", "c"): 3}


def test_values_of_any_type_become_text(metrics: Metrics) -> None:
    """Equal values with different texts have different series; hostile ones raise nothing."""
    counter = metrics.counter("x_total", ["tag"])
    for value in (1, True, 1.0, "1", b"1", Liar()):
        counter.inc(tag=value)
        counter.inc(tag=value)
    found = values(metrics, "x_total", "tag")
    assert found == {("1",): 6, ("True",): 2, ("1.0",): 2, ("text",): 2}
    for hostile in (HostileStr("h"), GivesNoStr(), OfHostileMeta(), object):
        counter.inc(tag=hostile)
    assert sum(values(metrics, "x_total").values()) == 16


def test_names_of_labels_raise_nothing(metrics: Metrics) -> None:
    """Also those of a subclass of `str`, which `**labels` may have."""

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__
        __eq__ = fail

    counter = metrics.counter("x_total", ["tag"])
    labels = {Name("tag"): "a"}
    counter.inc(2, **labels)
    counter.labels(**labels).inc()
    assert values(metrics, "x_total", "tag") == {("a",): 3}


NO_NUMBERS = {
    "text": "3",
    "NaN": math.nan,
    "infinite": math.inf,
    "None": None,
    "bool": True,
    "huge": 10**400,
    "list": [1],
    "liar": Liar(),
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_finite_number_is_counted_and_not_raised(metrics: Metrics, value: Any) -> None:
    """It changes nothing but `hypertrace_invalid_values_total`; bound or not."""
    counter = metrics.counter("c_total")
    gauge = metrics.gauge("g")
    sizes = metrics.distribution("d_seconds")
    for call in (counter.inc, counter.labels().inc, sizes.observe, sizes.labels().observe):
        call(value)
    for call in (gauge.set, gauge.inc, gauge.labels().set, gauge.labels().inc):
        call(value)
    assert invalid(metrics) == {"c_total": 2, "g": 4, "d_seconds": 2}
    reading = metrics.read()
    found = [row for row in rows(reading) if row[0] in {"c_total", "g", "d_seconds_count"}]
    assert not any(value for _, _, value in found)


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_no_number_is_taken_from_a_gauge_if_there_is_none(metrics: Metrics, value: Any) -> None:
    """It is counted, too."""
    gauge = metrics.gauge("g")
    gauge.dec(value)
    gauge.labels().dec(value)
    assert invalid(metrics) == {"g": 2}
    assert values(metrics, "g") == {}


def test_a_counter_does_not_fall(metrics: Metrics) -> None:
    """A negative amount is invalid."""
    counter = metrics.counter("c_total")
    counter.inc(3)
    counter.inc(-1)
    counter.labels().inc(-0.5)
    assert values(metrics, "c_total") == {(): 3}
    assert invalid(metrics) == {"c_total": 2}


def test_other_numbers_count(metrics: Metrics) -> None:
    """Decimals and fractions, as finite numbers."""
    counter = metrics.counter("c_total")
    counter.inc(Decimal("0.5"))  # type: ignore[arg-type]
    counter.labels().inc(Fraction(1, 4))
    metrics.gauge("g").dec(Decimal(2))  # type: ignore[arg-type]
    assert values(metrics, "c_total") == {(): 0.75}
    assert values(metrics, "g") == {(): -2}
    assert invalid(metrics) == {}


def test_series_are_bounded(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """Past the limit one series counts all; one warning names the line."""
    counter = metrics.counter("c_total", ["user"], max_series=3)
    with caplog.at_level(logging.WARNING, "hypertrace.metrics"):
        for user in range(10):
            counter.inc(2, user=f"u{user}")
    assert values(metrics, "c_total", "user") == {
        ("u0",): 2,
        ("u1",): 2,
        ("u2",): 2,
        (OVERFLOW,): 14,
    }
    (record,) = caplog.records
    assert "c_total holds 3 series, its limit" in record.getMessage()
    assert "test_instruments.py:" in record.getMessage()
    assert len(counter._index.known) <= 3
    usage = values(metrics, "hypertrace_overflowed_updates_total", "metric")
    assert usage["c_total",] == 7


def test_bound_children_are_the_methods_of_cells(metrics: Metrics) -> None:
    """So the hot path of the compiled core runs no Python."""
    inc = metrics.counter("c_total").labels().inc
    observe = metrics.distribution("d_seconds").labels().observe
    assign = metrics.gauge("g").labels().set
    if COMPILED:
        assert type(inc.__self__) is NumberCell  # type: ignore[attr-defined]
        assert type(observe.__self__) is HistogramCell  # type: ignore[attr-defined]
        assert type(assign.__self__) is GaugeCell  # type: ignore[attr-defined]


def test_no_amount_is_lost_among_threads(metrics: Metrics) -> None:
    """Bound or not, with labels that all threads make at the same time."""
    counter = metrics.counter("c_total", ["tag"])
    sizes = metrics.distribution("d_seconds")
    gauge = metrics.gauge("g")

    def work() -> None:
        bound, observe = counter.labels(tag="bound").inc, sizes.labels().observe
        for number in range(1_000):
            bound(2)
            observe(0.25)
            counter.inc(tag=str(number % 50))
            gauge.inc(0.5)

    in_threads(*[work] * 4)
    found = values(metrics, "c_total", "tag")
    assert found.pop(("bound",)) == 8_000
    assert set(found.values()) == {80}
    assert values(metrics, "d_seconds_count") == {(): 4_000}
    assert values(metrics, "d_seconds_sum") == {(): 1_000}
    assert values(metrics, "g") == {(): 2_000}


def test_no_amount_is_lost_to_signals(metrics: Metrics) -> None:
    """A handler that runs in the middle of a call counts, too, also in series that are new."""
    counter, gauge = metrics.counter("c_total", ["tag"]), metrics.gauge("g")
    sizes = metrics.distribution("d_seconds")
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        counter.inc(0.5, tag="handled")
        counter.inc(tag=str(handled % 100))
        gauge.inc()
        sizes.observe(1)
        signal.setitimer(signal.ITIMER_REAL, 1e-4)  # not before: handlers would nest without end

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4)
    try:
        while handled < 300:
            counter.inc(0.5, tag="called")
            counter.inc(tag=str(handled % 100))
            gauge.dec()
            sizes.observe(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = values(metrics, "c_total", "tag")
    called = 2 * found.pop(("called",))
    assert found.pop(("handled",)) == handled / 2
    assert sum(found.values()) == called + handled
    assert values(metrics, "g") == {(): handled - called}
    assert values(metrics, "d_seconds_count") == {(): handled + called}


def test_no_amount_is_lost_to_finalizers(metrics: Metrics) -> None:
    """The garbage collector may run one while a series is made."""
    counter = metrics.counter("c_total", ["tag"])

    class Cycle:
        def __init__(self, number: int) -> None:
            self.itself = self
            self.tag = str(number % 50)

        def __del__(self) -> None:
            counter.inc(tag=self.tag)

    threshold = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for number in range(2_000):
            Cycle(number)
            counter.inc(tag=str(number % 70))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert sum(values(metrics, "c_total").values()) == 4_000


def test_a_forked_child_counts_for_itself_in_memory() -> None:
    """From zero, also with what was bound before."""
    metrics = Metrics(workers=False)
    counter, gauge = metrics.counter("c_total"), metrics.gauge("g")
    bound = counter.labels().inc
    bound(5)
    gauge.set(5)

    def work() -> None:
        bound(2)
        counter.inc()
        assert values(metrics, "c_total") == {(): 3}
        assert values(metrics, "g") == {}

    in_child(work)
    assert values(metrics, "c_total") == {(): 5}


def test_forked_workers_add_up(worker: Make) -> None:
    """Counters and distributions of those that are gone stay; gauges are those of the living."""
    metrics = worker()
    counter = metrics.counter("c_total", ["tag"])
    sizes, gauge = metrics.distribution("d_seconds"), metrics.gauge("g")
    bound = counter.labels(tag="a").inc
    bound(5)
    sizes.observe(1)
    gauge.set(5)

    def work() -> None:
        bound(2)
        counter.inc(tag="b")
        sizes.observe(2)
        gauge.set(7)
        assert values(metrics, "g") == {(): 12}
        assert values_in(metrics.read(worker="self"), "c_total") == {(): 3}

    in_child(work)
    assert values(metrics, "c_total", "tag") == {("a",): 7, ("b",): 1}
    assert values(metrics, "d_seconds_sum") == {(): 3}
    assert values(metrics, "g") == {(): 5}


def test_a_worker_that_is_killed_leaves_its_counts(worker: Make) -> None:
    """Those of counters and distributions, to the last one; its gauges go with it."""
    metrics = worker()
    counter, sizes = metrics.counter("c_total"), metrics.distribution("d_seconds")
    gauge = metrics.gauge("g")
    child = os.fork()
    if child == 0:
        inc, observe = counter.labels().inc, sizes.labels().observe
        for _ in range(1_000):
            inc(0.5)
            observe(2)
            gauge.inc()
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    counter.inc()
    assert values(metrics, "c_total") == {(): 501}
    assert values(metrics, "d_seconds_sum") == {(): 2_000}
    assert values(metrics, "g") == {}


@pytest.mark.parametrize(
    ("mode", "shown"), [("sum", 9), ("max", 7), ("min", 2), ("mean", 4.5), ("latest", 7)]
)
def test_gauges_of_workers_become_one(worker: Make, mode: Any, shown: float) -> None:
    """By the mode of the gauge."""
    one, other = worker(), worker()
    one.gauge("g", workers=mode).set(2)
    other.gauge("g", workers=mode).set(7)
    assert values(one, "g") == values(other, "g") == {(): shown}


def test_each_worker_may_have_its_gauge(worker: Make) -> None:
    """With the label `worker`."""
    one, other = worker(), worker()
    one.gauge("g", workers="each").set(2)
    other.gauge("g", workers="each").set(7)
    one.read()  # gives both their numbers
    assert sorted(values(one, "g", "worker").values()) == [2, 7]


def test_every_exporter_shows_instruments() -> None:
    """They are families of the metrics, as all others."""
    metrics = Metrics(workers=False)
    metrics.counter("orders_total", ["country"], description="Orders.").inc(2, country="de")
    metrics.distribution("d_seconds", ["step"], buckets=(1, 2)).observe(1.5, step="load")
    with PrometheusExporter(port=None, metrics=metrics) as exporter:
        page = exporter.metrics()
    assert 'orders_total{country="de"} 2.0' in page
    assert 'd_seconds_bucket{step="load",le="2.0"} 1\n' in page


def test_instruments_do_not_keep_the_metrics() -> None:
    """Code that holds a bound child holds no more than its series."""
    metrics = Metrics(workers=False)
    inc = metrics.counter("c_total").labels().inc
    gone = weakref.ref(metrics)
    del metrics
    gc.collect()
    inc()
    assert gone() is None


def test_a_reading_has_the_differences(metrics: Metrics) -> None:
    """A push exporter sends what came in."""
    counter = metrics.counter("c_total")
    counter.inc(2)
    before = metrics.read()
    counter.inc(0.5)
    assert values_in(metrics.read(before), "c_total") == {(): 0.5}
    assert samples(metrics, "c_total") == [({}, 2.5)]
