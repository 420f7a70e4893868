"""Declared: metrics that come and go while an application traces."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import (
    Caller,
    PropsRecorder,
    TracedObject,
    TraceEvent,
    Tracer,
    fan_out,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace._dispatch import rebind
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, declare
from hypertrace.metrics.declared import declared as module
from hypertrace.metrics.declared.sites import MAX_KNOWN

from ....running import in_threads
from ...conftest import needs_fork
from .model import invalid_of, points_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LOGINS = Counter("logins_total", tags=["country"])


def pay(tracer: Tracer, **props: Any) -> None:
    """Trace at one call site."""
    tracer.trace(**props)


def work(tracer: Tracer, **props: Any) -> None:
    """Trace a span at one call site."""
    with tracer.span(**props):
        pass


def counted(**options: Any) -> Metrics:
    """Return metrics that are set as trace function."""
    metrics = Metrics(**{"workers": False} | options)
    set_trace_function(metrics)
    return metrics


def most_known() -> int:
    """Return how many combinations of values a recorder remembers."""
    recorders = [one for one in gc.get_objects() if type(one) is PropsRecorder]
    return max(len(one.known) for one in recorders)


@pytest.mark.parametrize("through", ["alone", "fan-out", "events"])
def test_metrics_come_and_go_at_the_next_event(through: str) -> None:
    """Declaring and undeclaring take effect at the next event of a call site that is bound."""
    metrics, seen = Metrics(workers=False), list[object]()
    other = Metrics(workers=False) if through == "fan-out" else seen.append
    set_trace_function(metrics if through == "alone" else fan_out(metrics, other))
    tracer = Tracer("Cart")
    for _ in range(3):
        pay(tracer, country="de")
        work(tracer, country="de")
    metrics.declare(LOGINS)
    for _ in range(2):
        pay(tracer, country="de")
        work(tracer, country="de")
    assert points_of(metrics, "logins_total") == {("de",): 4}
    metrics.undeclare("logins_total")
    pay(tracer, country="de")
    with pytest.raises(KeyError):
        metrics.read().family("logins_total")
    metrics.declare(LOGINS)
    pay(tracer, country="de")
    assert points_of(metrics, "logins_total") == {("de",): 5}


def test_a_metric_declared_for_all_is_recorded_by_each() -> None:
    """Those that there are record it, and those that are made later."""
    one = Metrics(workers=False)
    declare(LOGINS)
    other = Metrics(workers=False)
    set_trace_function(fan_out(one, other))
    pay(Tracer("Cart"), country="fr")
    assert points_of(one, "logins_total") == points_of(other, "logins_total") == {("fr",): 1}


def test_a_name_has_one_declaration() -> None:
    """Another metric of the name is refused, and then none of them is declared."""
    metrics = Metrics(declared=[LOGINS], workers=False)
    metrics.declare(Counter("logins_total", tags=["country"]))
    more = Counter("more_total")
    for name in ("logins_total", "logins"):
        wrong: Any = Counter(name) if name.endswith("total") else LastValue(name, value="x")
        with pytest.raises(ValueError, match="logins_total"):
            metrics.declare(more, wrong)
    with pytest.raises(KeyError):
        metrics.read().family("more_total")
    with pytest.raises(ValueError, match="shown as"):
        Metrics(declared=[Counter("calls_total")], counter_name="calls_total", workers=False)
    with pytest.raises(TypeError, match="takes Counter"):
        metrics.declare("logins_total")  # type: ignore[arg-type]


def test_what_is_no_list_of_metrics_is_refused() -> None:
    """The error says what is wanted."""
    wrong: Any
    for wrong in (LOGINS, 7, None):
        with pytest.raises(TypeError, match=r"declared must be a list of metrics, as \[Counter"):
            Metrics(declared=wrong)


def test_what_is_not_declared_cannot_be_undeclared() -> None:
    """The error names what is declared."""
    metrics = Metrics(declared=[LOGINS], workers=False)
    for name in ("logins", "others_total"):
        with pytest.raises(LookupError, match="there are logins_total"):
            metrics.undeclare(name)


def test_the_same_name_may_be_declared_otherwise_later() -> None:
    """After it was undeclared, a metric with other labels starts at zero."""
    metrics = counted(declared=[LOGINS])
    pay(Tracer("Cart"), country="de")
    metrics.undeclare("logins_total")
    metrics.declare(Counter("logins_total", tags=["tier"]))
    pay(Tracer("Cart", {"tier": "gold"}), country="de")
    assert points_of(metrics, "logins_total") == {("gold",): 1}


def test_call_sites_that_no_metric_matches_have_the_recorders_they_always_had() -> None:
    """Fifty metrics that are about other events change nothing of what is bound."""
    others = [Counter(f"o{n}_total", of="Other.*", tags=["a"]) for n in range(50)]
    # Without exemplars: another test may have loaded OpenTelemetry.
    plain = Metrics(exemplar=None, workers=False)
    declared = Metrics(declared=others, exemplar=None, workers=False)
    event = TraceEvent(None, TracedObject("Cart", 1), None, Caller("pay", "shop.py"))
    assert declared.share_key(event.object, None) == plain.share_key(event.object, None)
    for name in ("bind", "bind_props", "bind_span"):
        one, other = getattr(plain, name)(event), getattr(declared, name)(event)
        assert type(one) is type(other)
        assert type(getattr(one, "__self__", None)) is type(getattr(other, "__self__", None))
    for metrics in (plain, declared):
        assert isinstance(metrics.bind_span(event).durations, list)


def test_metrics_come_before_those_of_the_counting() -> None:
    """The families of declared metrics follow the built-in ones, with how much room they take."""
    metrics = counted(declared=[LOGINS, Sum("paid_total", value="size")], max_series=7)
    pay(Tracer("Cart"), country="de", size=3)
    names = [family.name for family in metrics.read().families]
    assert names[4:7] == ["logins_total", "paid_total", "hypertrace_series"]
    held = {point.labels[0]: point.value for point in metrics.read().family(names[6]).points}
    assert (held["logins_total"], held["paid_total"]) == (1, 1)
    since = metrics.read()
    pay(Tracer("Cart"), country="de", size=4)
    later = metrics.read(since)
    assert [point.value for point in later.family("logins_total").points] == [1]
    assert [point.value for point in later.family("paid_total").points] == [4.0]


@pytest.mark.parametrize("kind", ["trace", "span"])
def test_a_metric_is_bounded_by_its_own_limit(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is past `max_series` is in one series, with one warning, and no value is kept."""
    metrics = counted(
        declared=[
            Counter("logins_total", tags=["country"], max_series=3),
            Sum("paid_total", value="size", tags=["country"], max_series=2),
            Distribution("took_seconds", tags=["country"], max_series=3),
        ]
    )
    tracer, record = Tracer("Cart"), pay if kind == "trace" else work
    with caplog.at_level(logging.WARNING, "hypertrace.metrics"):
        for n in range(10):
            for _ in range(2):
                record(tracer, country=f"c{n}", size=1)
    logins = points_of(metrics, "logins_total")
    assert logins == {("c0",): 2, ("c1",): 2, ("c2",): 2, ("<overflow>",): 14}
    paid = points_of(metrics, "paid_total")
    assert paid == {("c0",): 2, ("c1",): 2, ("<overflow>",): 16}
    if kind == "span":
        took = points_of(metrics, "took_seconds")
        assert {labels: sum(counts) for labels, (counts, _) in took.items()} == logins
    overflowed = metrics.read().family("hypertrace_overflowed_updates_total").points
    assert {p.labels[0]: p.value for p in overflowed}["logins_total"] == 14
    warned = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    assert sorted(map(str, warned))[:2] == ["logins_total", "paid_total"]


def test_a_call_site_remembers_a_bounded_number_of_combinations() -> None:
    """Two props with many values combine to more than there are series: no more are kept."""
    metrics = counted(declared=[Counter("a_total", tags=["a"]), Counter("b_total", tags=["b"])])
    tracer, many = Tracer("Cart"), 40
    for n in range(many * many):
        pay(tracer, a=f"a{n % many}", b=f"b{n // many}")
    assert 0 < most_known() <= MAX_KNOWN < many * many
    assert set(points_of(metrics, "a_total").values()) == {many}
    assert set(points_of(metrics, "b_total").values()) == {many}


def test_an_overflow_is_not_remembered() -> None:
    """What is past the limit of one metric is found again at each event, and takes no memory."""
    gc.collect()
    metrics = counted(declared=[Counter("a_total", tags=["a"], max_series=3)])
    tracer = Tracer("Cart")
    for n in range(50):
        pay(tracer, a=f"a{n}")
    assert most_known() == 3
    assert points_of(metrics, "a_total")["<overflow>",] == 47


def test_shared_recorders_keep_no_object() -> None:
    """A metric that calls no function keeps neither an object nor its props."""
    metrics = counted(
        declared=[
            Counter("a_total", tags=["tier", "a"]),
            Sum("b_total", value="size", tags={"tier": "object.tier"}),
            Distribution("took_seconds", tags=["tier"]),
        ]
    )

    class Value:
        def __str__(self) -> str:
            return "gold"

    tracer = Tracer("Cart", {"tier": Value(), "size": 2})
    props: Any = tracer.props
    kept = weakref.ref(props["tier"])
    del props
    pay(tracer, a="x")
    pay(tracer)
    work(tracer)
    del tracer
    gc.collect()
    assert kept() is None
    assert points_of(metrics, "b_total") == {("gold",): 6.0}


def test_functions_get_the_event_of_the_object_itself() -> None:
    """Objects with equal labels share no recorders where a function is called with events."""

    def number(event: TraceEvent) -> object:
        return (event.object.props or {})["n"]

    metrics = counted(declared=[Sum("seen_total", value=number)])
    for n in range(5):
        tracer = Tracer("Cart", {"n": n})
        pay(tracer)
        pay(tracer, x=1)
        work(tracer)
    assert points_of(metrics, "seen_total") == {(): 30.0}


def test_a_function_that_fails_for_a_moment_is_called_again() -> None:
    """What a function raised is not remembered: the next event with the same values is recorded."""
    fails = [True]

    def text(value: object) -> str:
        if fails:
            raise ValueError(value)
        return str(value)

    metrics = counted(
        declared=[
            Counter("a_total", tags=["a"], tag_values={"a": text}),
            Counter("b_total", tags={"b": "object.b"}, tag_values={"b": text}),
        ]
    )
    tracer = Tracer("Cart", {"b": "x"})
    for record in (pay, work):
        fails[:] = [True]
        record(tracer, a="x")
        record(tracer, a="x")
        fails.clear()
        record(tracer, a="x")
    assert points_of(metrics, "a_total") == {("x",): 2}
    assert points_of(metrics, "b_total") == {("x",): 2}
    assert swallowed_errors() > 0


def test_generators_and_coroutines_measure_how_long_they_ran() -> None:
    """`busy` is a measurement of functions that are suspended, and of no block."""
    metrics = counted(
        declared=[
            Distribution("busy_seconds", value="busy", tags=["function"], buckets=[60]),
            Distribution("took_seconds", tags=["function"], buckets=[60]),
            Counter("ends_total", tags=["result"]),
        ]
    )

    @traced
    def numbers() -> Generator[int, None, None]:
        yield from range(3)

    assert list(numbers()) == [0, 1, 2]
    next(unfinished := numbers())
    unfinished.close()
    work(Tracer("Cart"))
    busy, took = points_of(metrics, "busy_seconds"), points_of(metrics, "took_seconds")
    assert [counts for counts, _ in busy.values()] == [(2, 0)]
    assert sorted(counts for counts, _ in took.values()) == [(1, 0), (2, 0)]
    assert points_of(metrics, "ends_total") == {("ok",): 3}


def test_series_of_an_object_go_and_declared_ones_stay() -> None:
    """With `object_ids` the built-in series go with the object; declared metrics have no such."""
    metrics = counted(declared=[LOGINS, Distribution("took_seconds")], object_ids=True)
    for _ in range(3):
        tracer = Tracer("Cart")
        pay(tracer, country="de")
        work(tracer, country="de")
        del tracer
    gc.collect()
    assert list(metrics.read().family("function_counter_total").points) == []
    assert points_of(metrics, "logins_total") == {("de",): 6}
    assert sum(points_of(metrics, "took_seconds")[()][0]) == 3


def test_values_that_are_no_numbers_are_counted() -> None:
    """Each counts as an invalid value of its metric, and as nothing else."""
    metrics = counted(declared=[Sum("paid_total", value="size"), LastValue("size", value="size")])
    tracer = Tracer("Cart")
    for size in ("8", -1, True, float("nan"), None, 10**400, [1]):
        pay(tracer, size=size)
    assert (invalid_of(metrics, "paid_total"), invalid_of(metrics, "size")) == (6, 5)
    assert points_of(metrics, "size") == {(): -1.0}
    assert points_of(metrics, "paid_total") == {}


def test_threads_lose_nothing_while_metrics_come_and_go() -> None:
    """Counters and distributions are exact while other threads declare and undeclare."""
    metrics = counted(
        declared=[LOGINS, Distribution("took_seconds", tags=["country"]), Sum("n_total", value="n")]
    )
    tracer, rounds, done = Tracer("Cart"), 2_000, threading.Event()

    def trace() -> None:
        for _ in range(rounds):
            pay(tracer, country="de")
            pay(tracer, country="fr", n=2)
            work(tracer, country="de")
            work(tracer)

    def change() -> None:
        other = Counter("others_total", tags=["country"])
        while not done.is_set():
            metrics.declare(other)
            metrics.read()
            metrics.undeclare("others_total")

    changing = threading.Thread(target=change)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        changing.start()
        in_threads(*[trace] * 4)
    finally:
        done.set()
        changing.join()
        sys.setswitchinterval(before)
    total = 4 * rounds
    expected = {("de",): 2 * total, ("fr",): total, ("",): total}
    assert points_of(metrics, "logins_total") == expected
    took = points_of(metrics, "took_seconds")
    assert {key: sum(counts) for key, (counts, _) in took.items()} == {("de",): total, ("",): total}
    assert points_of(metrics, "n_total") == {(): 2.0 * total}
    assert swallowed_errors() == 0


@needs_fork
@pytest.mark.parametrize("shared", [False, True])
def test_a_forked_child_counts_from_zero_in_all_kinds(tmp_path: Path, shared: bool) -> None:
    """A child starts from zero, may declare more, and the sums of all workers are exact."""
    metrics = counted(
        declared=[
            LOGINS,
            Sum("n_total", value="n"),
            LastValue("latest", value="n", workers="max"),
            Distribution("took_seconds", tags=["country"]),
        ],
        workers=str(tmp_path) if shared else False,
    )
    tracer = Tracer("Cart")
    events(tracer, 1)
    for n in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                metrics.declare(Counter("more_total"))
                events(tracer, n + 2)
                own = metrics.read(worker="self")
                status = int(own.family("n_total").points.__next__().value != 3 * (n + 2))
                metrics.close()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        metrics.read()  # so that the next child knows what this one has declared
    events(tracer, 4)
    metrics.declare(Counter("more_total"))
    events(tracer, 5)
    rounds = 1 + 2 + 3 + 4 + 5 if shared else 1 + 4 + 5
    assert points_of(metrics, "logins_total") == {("de",): 2 * rounds, ("",): rounds}
    assert points_of(metrics, "n_total") == {(): 3.0 * rounds}
    assert points_of(metrics, "latest") == {(): 3.0}
    took = points_of(metrics, "took_seconds")
    assert {key: sum(counts) for key, (counts, _) in took.items()} == {("de",): rounds}
    assert points_of(metrics, "more_total") == {(): 3 * (2 + 3 + 5 if shared else 5)}
    metrics.close()


def events(tracer: Tracer, rounds: int) -> None:
    """Trace three events a round."""
    for _ in range(rounds):
        pay(tracer, country="de")
        pay(tracer, n=3)
        work(tracer, country="de")


def test_a_metric_is_in_force_for_each_thread_that_has_declared_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also for one that finds it declared by another, which is not done with it."""
    metrics, tracer = counted(), Tracer("Cart")
    pay(tracer)

    def second() -> None:
        metrics.declare(LOGINS)
        pay(tracer)

    thread = threading.Thread(target=second)

    def is_waiting() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return frame is not None and frame.f_code.co_filename == module.__file__

    def rebind_while_another_declares() -> None:
        thread.start()
        while thread.is_alive() and not is_waiting():
            pass
        rebind()

    monkeypatch.setattr(module, "rebind", rebind_while_another_declares)
    metrics.declare(LOGINS)
    thread.join()
    assert points_of(metrics, "logins_total") == {("",): 1}


def test_what_was_interrupted_can_be_declared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the exception of a signal handler."""
    metrics, tracer = counted(), Tracer("Cart")
    pay(tracer)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "rebind", interrupted)
        with pytest.raises(KeyboardInterrupt):
            metrics.declare(LOGINS)
    metrics.declare(LOGINS)
    pay(tracer)
    assert points_of(metrics, "logins_total") == {("",): 1}
