"""Label of entries: the series of the functions, by the entry that a thread or task works for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace._operations import Operation, Operations
from hypertrace.metrics import Counter, Metrics
from hypertrace.metrics.recorders import EntryRecorder
from hypertrace_prometheus import PrometheusExporter

from .readings import CALLS, COUNT, EXCEPTIONS, OPEN, values

REQUESTS = Operations("Http", "request", entry="http")


class Shop:
    """Traces in each way."""

    def __init__(self) -> None:
        self.tracer = Tracer(self, {"tier": "gold"})

    def work(self) -> None:
        self.tracer.trace("call")
        self.tracer.trace("props", item="tea")
        with self.tracer.span("span"):
            pass
        with suppress(KeyError), self.tracer.span("fails", item="tea"):
            raise KeyError


@pytest.fixture(params=["plain", "declared"])
def metrics(request: pytest.FixtureRequest) -> Metrics:
    """Give metrics with the label, and with a declared metric of the same events."""
    declared = [Counter("works_total", of="Shop.work", tags=["item"])]
    made = Metrics(
        entry_label=True,
        allowed_props=["item"],
        declared=declared if request.param == "declared" else [],
        workers=False,
    )
    set_trace_function(made)
    return made


def _start(name: str) -> Operation:
    operation = REQUESTS.start()
    operation.entry_name = name
    return operation


def _of_shop(metrics: Metrics, name: str) -> dict[tuple[Any, ...], float]:
    found = values(metrics, name, "object_classname", "entry", "id")
    return {labels[1:]: value for labels, value in found.items() if labels[0] == "Shop"}


IDS = ("call", "props", "span", "fails")


def test_calls_and_spans_are_counted_by_entry(metrics: Metrics) -> None:
    """Each call and each end of a span is counted under the entry of its time."""
    shop = Shop()
    shop.work()
    for name in ("GET /", "GET /cart", "GET /"):
        operation = _start(name)
        for _ in range(3):
            shop.work()
        operation.end({})
    calls = _of_shop(metrics, CALLS)
    for entry, times in ((None, 1), ("GET /", 6), ("GET /cart", 3)):
        assert {id: calls[entry, id] for id in IDS} == dict.fromkeys(IDS, times)
        assert _of_shop(metrics, COUNT)[entry, "span"] == times
        assert _of_shop(metrics, EXCEPTIONS)[entry, "fails"] == times
    assert set(_of_shop(metrics, OPEN).values()) == {0}
    assert hypertrace.swallowed_errors() == 0


def test_an_entry_has_its_own_name(metrics: Metrics) -> None:
    """The event of the entry itself is counted under its name."""
    _start("GET /").end({})
    assert values(metrics, CALLS, "object_classname", "entry") == {("Http", "GET /"): 1}


def test_a_name_that_is_known_later(metrics: Metrics) -> None:
    """A span ends under the name that is known then, and is in progress without one."""
    tracer = Tracer("Shop")
    operation = _start("GET")
    tracer.trace()
    with tracer.span("span"):
        assert _of_shop(metrics, OPEN) == {(None, "span"): 1}
        operation.entry_name = "GET /items/{id}"
    tracer.trace()
    operation.end({})
    assert _of_shop(metrics, CALLS) == {
        ("GET", None): 1,
        ("GET /items/{id}", None): 1,
        ("GET /items/{id}", "span"): 1,
    }
    assert _of_shop(metrics, OPEN)[None, "span"] == 0


def test_tasks_and_threads(metrics: Metrics) -> None:
    """Each counts under its own entry, however they take turns."""
    shop = Shop()

    async def task(name: str) -> None:
        operation = _start(name)
        for _ in range(10):
            with shop.tracer.span("slow"):
                shop.work()
                await asyncio.sleep(0)
        operation.end({})

    async def run() -> None:
        await asyncio.gather(*(task(f"task {number}") for number in range(5)))

    def thread(name: str) -> None:
        operation = _start(name)
        for _ in range(10):
            with shop.tracer.span("slow"):
                shop.work()
        operation.end({})

    asyncio.run(run())
    threads = [Thread(target=thread, args=(f"thread {number}",)) for number in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    calls = _of_shop(metrics, CALLS)
    names = [f"{kind} {number}" for kind in ("task", "thread") for number in range(5)]
    assert {name: calls[name, "slow"] for name in names} == dict.fromkeys(names, 10)
    assert {name: calls[name, "call"] for name in names} == dict.fromkeys(names, 10)


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit of series all are counted in one, and a call site remembers so many."""
    monkeypatch.setattr("hypertrace.metrics.recorders._MOST_ENTRIES", 10)
    metrics = Metrics(entry_label=True, max_series=20, workers=False)
    set_trace_function(metrics)
    tracer = Tracer("Shop")
    for number in range(100):
        operation = _start(f"GET /{number}")
        tracer.trace()
        operation.end({})
    calls = values(metrics, CALLS, "object_classname")
    assert sum(calls.values()) == 200
    assert calls["<overflow>",] > 0
    family = metrics.read().family(CALLS)
    assert len(list(family.points)) <= 21


def test_a_recorder_keeps_few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, a call site forgets all and starts again."""
    monkeypatch.setattr("hypertrace.metrics.recorders._MOST_ENTRIES", 3)
    bound: list[int] = []
    recorder = EntryRecorder(lambda: lambda: bound.append(1))
    set_trace_function(Metrics(workers=False))
    for name in "abcdef":
        operation = _start(name)
        recorder.record()
        operation.end({})
        assert len(recorder._by_entry) <= 3
    assert len(bound) == 6


def test_the_exporter_has_it_too() -> None:
    """`PrometheusExporter(entry_label=True)` shows it, and without it there is no label."""
    for entry_label in (True, False):
        exporter = PrometheusExporter(None, entry_label=entry_label)
        set_trace_function(exporter)
        operation = _start("GET /")
        Tracer("Shop").trace()
        operation.end({})
        assert ('entry="GET /"' in exporter.metrics()) is entry_label


def test_without_the_label_a_call_stays_in_c() -> None:
    """The recorder of a call is the cell itself when the label is off."""
    metrics = Metrics(workers=False)
    seen: list[Any] = []
    set_trace_function(seen.append)
    Tracer("Shop").trace()
    assert type(metrics.bind(seen[0]).__self__) is hypertrace.Cell  # type: ignore[attr-defined]
