"""Stats: the calls of a StatsD client, the names they count under, and where they count."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import statsd

from hypertrace import (
    _stat_names,
    clear_trace_function,
    fan_out,
    set_trace_function,
    stats,
)
from hypertrace.metrics import Metrics, distinct
from hypertrace.stats import Stats
from hypertrace_prometheus import PrometheusExporter

from ..hostile_values import GivesNoStr, HostileStr, Liar
from ..running import in_threads
from .metrics.readings import values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..running import Clock


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics in memory."""
    return Metrics(workers=False)


@pytest.fixture
def client(metrics: Metrics) -> Stats:
    """Give a client that counts there."""
    return Stats("shop", metrics)


def test_it_has_the_calls_of_the_statsd_client() -> None:
    """With the same parameters in the same order, and more behind."""
    for name in ("incr", "decr", "gauge", "timing", "timer", "set", "pipeline", "close"):
        theirs = inspect.signature(getattr(statsd.StatsClient, name)).parameters
        ours = inspect.signature(getattr(Stats, name)).parameters
        assert list(ours)[: len(theirs)] == list(theirs), name
        for parameter in theirs:
            assert ours[parameter].default == theirs[parameter].default, name
    timers = statsd.client.timer.Timer, stats.StatTimer
    for name in ("start", "stop", "send", "__call__", "__enter__", "__exit__"):
        theirs, ours = (inspect.signature(getattr(one, name)).parameters for one in timers)
        assert name.startswith("__") or list(ours) == list(theirs), name


def test_counters_rise(metrics: Metrics, client: Stats) -> None:
    """By one, or by a count; sampling changes nothing."""
    client.incr("orders.paid")
    client.incr("orders.paid", 2, rate=0.001)
    client.incr("orders.paid", count=0.5)
    assert values(metrics, "shop_orders_paid_total") == {(): 3.5}
    description = metrics.read().family("shop_orders_paid_total").description
    assert description == "shop.orders.paid, by Stats."


def test_decrements_have_a_separate_counter(metrics: Metrics, client: Stats) -> None:
    """Since counters only rise; a negative increment is one, and the other way round."""
    client.incr("users")
    client.decr("users", 3)
    client.incr("users", -1)
    client.decr("users", -4)
    assert values(metrics, "shop_users_total") == {(): 5}
    assert values(metrics, "shop_users_decrements_total") == {(): 4}


def test_gauges_are_set_or_changed(metrics: Metrics, client: Stats) -> None:
    """`delta` adds to the value before."""
    client.gauge("depth", 5)
    client.gauge("depth", -2, delta=True)
    client.gauge("level", -7)
    client.gauge("level", 2, 1, True)
    assert values(metrics, "shop_depth") == {(): 3}
    assert values(metrics, "shop_level") == {(): -5}


def test_timings_are_seconds(metrics: Metrics, client: Stats) -> None:
    """Given as milliseconds, or as a `timedelta`."""
    client.timing("request.latency", 250)
    client.timing("request.latency", timedelta(seconds=1.5))
    family = metrics.read().family("shop_request_latency_seconds")
    assert (family.kind, family.unit) == ("histogram", "seconds")
    assert values(metrics, "shop_request_latency_seconds_sum") == {(): 1.75}
    assert values(metrics, "shop_request_latency_seconds_count") == {(): 2}


def test_a_timer_times_blocks_and_functions(
    metrics: Metrics, client: Stats, span_clock: Clock
) -> None:
    """As a context manager and as a decorator, also of coroutines and generators."""
    with client.timer("step") as timer:
        span_clock.now += 2
        assert timer.ms is None
    assert timer.ms == 2000

    @client.timer("step")
    def call() -> str:
        span_clock.now += 1
        return "done"

    @client.timer("step")
    async def wait() -> str:
        span_clock.now += 3
        await asyncio.sleep(0)
        return "waited"

    @client.timer("step")
    def pages() -> Iterator[int]:
        for page in range(2):
            span_clock.now += 2
            yield page

    assert (call(), asyncio.run(wait()), [*pages()]) == ("done", "waited", [0, 1])
    assert inspect.iscoroutinefunction(wait)
    assert inspect.isgeneratorfunction(pages)
    assert values(metrics, "shop_step_seconds_sum") == {(): 10}
    assert values(metrics, "shop_step_seconds_count") == {(): 4}


def test_a_timer_can_be_started_and_stopped(
    metrics: Metrics, client: Stats, span_clock: Clock
) -> None:
    """As that of the statsd client, with the same errors."""
    timer = client.timer("step")
    with pytest.raises(RuntimeError, match="not started"):
        timer.stop()
    with pytest.raises(RuntimeError, match="no time"):
        timer.send()
    timer.start()
    span_clock.now += 0.5
    assert timer.stop(send=False) is timer
    assert timer.ms == 500
    assert values(metrics, "shop_step_seconds_sum") == {}
    timer.send()
    with pytest.raises(RuntimeError, match="counted already"):
        timer.send()
    assert values(metrics, "shop_step_seconds_sum") == {(): 0.5}


def test_a_set_countsdistinct(
    metrics: Metrics, client: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the last minute; a value that comes again counts on."""
    now = [100.0]
    monkeypatch.setattr(distinct, "monotonic", lambda: now[0])
    for user in ("a", "b", "a", 1, "1", 2.0):
        client.set("users", user)
    assert values(metrics, "shop_users_distinct") == {(): 4}
    now[0] += distinct.WINDOW / 2
    client.set("users", "a")
    now[0] += distinct.WINDOW / 2 + 1
    assert values(metrics, "shop_users_distinct") == {(): 1}
    now[0] += distinct.WINDOW
    assert values(metrics, "shop_users_distinct") == {(): 0}


@pytest.mark.parametrize("count", [1_000, 5_000, 100_000])
def test_large_sets_are_estimated_and_bounded(metrics: Metrics, client: Stats, count: int) -> None:
    """Up to 1 024 values exactly, beyond within some percent."""
    for number in range(count):
        client.set("users", number)
    (found,) = values(metrics, "shop_users_distinct").values()
    assert found == pytest.approx(count, rel=0.15 if count > 1_024 else 0)
    held = _stat_names.names_in(metrics)._found["shop_users_distinct", "_values"]
    assert len(held._held) <= 1_024


def test_sets_have_tags(metrics: Metrics, client: Stats) -> None:
    """Each set of label values has its own values."""
    for shop, user in (("a", 1), ("a", 2), ("b", 1)):
        client.set("users", user, tags={"shop": shop})
    assert values(metrics, "shop_users_distinct", "shop") == {("a",): 2, ("b",): 1}


def test_two_clients_share_what_has_one_name(metrics: Metrics) -> None:
    """As two modules have it, each with its own."""
    one, other = Stats("shop", metrics), Stats("shop", metrics)
    one.incr("a")
    other.incr("a")
    one.set("users", 1)
    other.set("users", 2)
    Stats("", metrics).incr("shop.a")
    assert values(metrics, "shop_a_total") == {(): 3}
    assert values(metrics, "shop_users_distinct") == {(): 2}


def test_a_pipeline_counts_at_once(metrics: Metrics, client: Stats) -> None:
    """It has all calls, as a context manager or with `send()`."""
    with client.pipeline() as pipe:
        pipe.incr("a")
        pipe.timing("b", 1)
        with pipe.pipeline() as inner, inner.timer("c"):
            inner.decr("a")
        pipe.gauge("d", 3)
        pipe.set("e", 1)
        assert values(metrics, "shop_a_total") == {(): 1}
    pipe.send()
    assert values(metrics, "shop_a_decrements_total") == {(): 1}
    assert values(metrics, "shop_c_seconds_count") == {(): 1}
    assert values(metrics, "shop_d") == {(): 3}


def test_tags_are_labels(metrics: Metrics, client: Stats) -> None:
    """The first call says which there are."""
    client.incr("orders", tags={"country": "de", "user-kind": "new"})
    client.incr("orders", 2, tags={"country": "fr"})
    client.timing("t", 5, tags={"country": "fr"})
    client.gauge("g", 5, tags={"country": "fr"})
    assert values(metrics, "shop_orders_total", "country", "user_kind") == {
        ("de", "new"): 1,
        ("fr", None): 2,
    }
    assert values(metrics, "shop_t_seconds_count", "country") == {("fr",): 1}
    assert values(metrics, "shop_g", "country") == {("fr",): 5}


NAMES = [
    ("incr", "orders.paid", "orders_paid_total"),
    ("incr", "a-b c/d", "a_b_c_d_total"),
    ("incr", "requests.total", "requests_total"),
    ("incr", "404", "_404_total"),
    ("incr", "retry.count", "retry_count_total"),
    ("incr", "process.started", "stats_process_started_total"),
    ("incr", "", "__total"),
    ("gauge", "queue.depth", "queue_depth"),
    ("gauge", "queue.count", "queue_count_value"),
    ("gauge", "disk.total", "disk_total_value"),
    ("gauge", "task.seconds", "task_seconds"),
    ("gauge", "python.threads", "stats_python_threads"),
    ("timing", "task.send_email", "task_send_email_seconds_count"),
    ("timing", "task.seconds", "task_seconds_count"),
    ("set", "users", "users_distinct"),
]


@pytest.mark.parametrize(("call", "stat", "name"), NAMES)
def test_names_are_those_that_prometheus_takes(
    metrics: Metrics, call: str, stat: str, name: str
) -> None:
    """By the documented rule."""
    count = getattr(Stats(metrics=metrics), call)
    count(stat) if call == "incr" else count(stat, 1)
    assert values(metrics, name) == {(): 1}


def test_one_name_of_two_kinds_counts_twice(metrics: Metrics) -> None:
    """The second kind gets another name."""
    client = Stats(metrics=metrics)
    client.incr("jobs")
    client.gauge("jobs", 5)
    client.timing("jobs", 1)
    client.gauge("loads", 5)
    client.incr("loads")
    assert values(metrics, "jobs_total") == {(): 1}
    assert values(metrics, "jobs_value") == {(): 5}
    assert values(metrics, "jobs_seconds_count") == {(): 1}
    assert values(metrics, "loads") == {(): 5}
    assert values(metrics, "stats_loads_total") == {(): 1}


def test_instruments_that_are_there_are_used(metrics: Metrics, client: Stats) -> None:
    """So code can give buckets and a description before."""
    metrics.distribution("shop_t_seconds", ["a"], buckets=(60, 600), description="Long.")
    client.timing("t", 90_000, tags={"a": "x"})
    family = metrics.read().family("shop_t_seconds")
    (point,) = family.points
    assert family.description == "Long."
    assert point.value.counts == (0, 1, 0)  # type: ignore[union-attr]


def test_it_counts_where_the_trace_function_does(metrics: Metrics) -> None:
    """Found at each call; nothing is counted while there is none."""
    client = Stats("shop")
    client.incr("a")
    set_trace_function(metrics)
    client.incr("a")
    other = Metrics(workers=False)
    set_trace_function(fan_out(PrometheusExporter(port=None, metrics=other), metrics, print))
    client.incr("a")
    clear_trace_function()
    client.incr("a")
    assert values(metrics, "shop_a_total") == {(): 2}
    assert values(other, "shop_a_total") == {(): 1}


def test_a_trace_function_that_is_gone_is_not_kept_for_long() -> None:
    """Until the next call."""
    client = Stats("shop")
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    client.incr("a")
    client.set("b", 1)
    gone = weakref.ref(metrics)
    clear_trace_function()
    client.incr("a")
    del metrics
    gc.collect()
    assert gone() is None


HOSTILE: list[Any] = [None, "x", float("nan"), [1], Liar(), GivesNoStr(), HostileStr("h"), {"a": 1}]


def test_no_call_raises(metrics: Metrics, client: Stats, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be counted is logged once, or counted as invalid."""
    with caplog.at_level(logging.WARNING, "hypertrace.stats"):
        for value in HOSTILE:
            client.incr("a", value)
            client.decr("a", value)
            client.gauge("b", value)
            client.gauge("b", value, delta=True)
            client.timing("c", value)
            client.set("d", value)
            client.incr(value)
            client.incr("e", tags=value)
            client.incr("f", tags={"a": value})
            client.set("g", 1, tags={"a": value})
    assert values(metrics, "shop_a_total") == {}
    invalid = values(metrics, "hypertrace_invalid_values_total", "metric")
    assert invalid["shop_a_total",] >= 10
    messages = [record.getMessage() for record in caplog.records]
    assert "a name is a text, not NoneType" in messages
    assert "tags map names of labels to values, not list" in messages
    assert len(messages) == len(set(messages))


@pytest.mark.parametrize("tags", [{"password": "x"}, {"le": "1"}, {"1": "2"}, {"": 1}])
def test_labels_that_cannot_be_are_logged(
    metrics: Metrics, client: Stats, tags: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The calls with them count nothing."""
    with caplog.at_level(logging.WARNING, "hypertrace.stats"):
        client.incr("a", tags=tags)
        client.incr("a", tags=tags)
    (record,) = caplog.records
    assert "'shop.a' cannot be counted:" in record.getMessage()


def test_the_number_of_names_is_bounded(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """A name with an id in it would make a metric each."""
    client = Stats(metrics=metrics)
    with caplog.at_level(logging.WARNING, "hypertrace.stats"):
        for number in range(_stat_names.MOST_METRICS + 10):
            client.incr(f"user.{number}")
            client.set("users", number, tags={"user": number})
    (record,) = (one for one in caplog.records if "is left out" in one.getMessage())
    assert "give what differs as tags=" in record.getMessage()
    assert len(metrics.read().families) < _stat_names.MOST_METRICS + 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("localhost", 8125), "no host and port"), ((8125,), "prefix must be a text")],
)
def test_wrong_arguments_are_errors(arguments: Any, message: str) -> None:
    """That say what is meant."""
    with pytest.raises(TypeError, match=message):
        Stats(*arguments)


def test_no_prefix_is_none(metrics: Metrics) -> None:
    """As the statsd client has it."""
    Stats(prefix=None, metrics=metrics).incr("a")  # type: ignore[arg-type]
    assert values(metrics, "a_total") == {(): 1}


def test_threads_make_one_metric(metrics: Metrics) -> None:
    """Also with tags that differ, at the same time."""
    client = Stats("shop", metrics)

    def work(label: str) -> None:
        for number in range(200):
            client.incr(f"a{number}", tags={label: "x"})
            client.set(f"s{number % 3}", number)

    in_threads(*[lambda label=label: work(label) for label in "abcd"])
    for number in range(200):
        assert values(metrics, f"shop_a{number}_total") == {(): 4}


def test_a_forked_child_starts_with_empty_sets(metrics: Metrics, client: Stats) -> None:
    """As with all counts in memory."""
    client.set("users", 1)
    child = os.fork()
    if child == 0:
        client.set("users", 2)
        os._exit(values(metrics, "shop_users_distinct") != {(): 1})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert values(metrics, "shop_users_distinct") == {(): 1}
