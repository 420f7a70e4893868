"""Flushes of exporters: all of one `Metrics`, or of the process, at the same time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from hypertrace import Tracer
from hypertrace.exporters import flush, flushes
from hypertrace.metrics import Metrics, flushing
from hypertrace.rate_limit import RateLimit

from .recording import NEVER, SOON, Hanging, Recording, until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def fail() -> None:
    """Raise."""
    raise OSError("the network is down")


def test_a_handler_leaves_nothing_unsent(record: Callable[..., Recording]) -> None:
    """When the block or the function is left, all exporters of the metrics have sent."""
    metrics = Metrics()
    exporters = [record(metrics) for _ in range(3)]
    tracer = Tracer("object")

    @flushes
    def plain() -> None:
        tracer.trace()

    @flushes(timeout=SOON)
    async def coroutine() -> None:
        tracer.trace()

    with metrics.flushed():
        tracer.trace()
    assert [sum(one.calls()) for one in exporters] == [1] * 3
    plain()
    assert [sum(one.calls()) for one in exporters] == [2] * 3
    asyncio.run(coroutine())
    assert [sum(one.calls()) for one in exporters] == [3] * 3
    with flushes():
        tracer.trace()
    assert [sum(one.calls()) for one in exporters] == [4] * 3


def test_metrics_flush_their_own_exporters(record: Callable[..., Recording]) -> None:
    """Those of other `Metrics` are flushed by the functions for the whole process alone."""
    own, other = record(), record()
    assert own.forwards_to.flush()
    assert (own.sent, other.sent) == (1, 0)
    assert flush()
    assert (own.sent, other.sent) == (2, 1)


def test_one_that_hangs_does_not_keep_the_others(
    record: Callable[..., Recording],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those that can have sent within the time-out; the log says that not all have."""
    monkeypatch.setattr(flushing, "_log_limit", RateLimit())
    metrics, hanging = Metrics(), Hanging()
    stuck, failing, well = record(metrics), record(metrics), record(metrics)
    stuck.on_send, failing.on_send = hanging, fail
    tracer = Tracer("object")
    started = time.monotonic()
    with metrics.flushed(0.2):
        tracer.trace()
    assert time.monotonic() - started < 5
    until(lambda: sum(well.calls()) == 1)
    assert "Not all exporters have sent what came in within 0.2 seconds" in caplog.text
    failing.on_send = lambda: None
    hanging.released.set()
    assert metrics.flush(SOON)
    assert [sum(one.calls()) for one in (stuck, failing, well)] == [1, 1, 1]


def test_a_stopped_exporter_is_not_flushed(record: Callable[..., Recording]) -> None:
    """It does not make flushes of the others fail, and is not held."""
    metrics = Metrics()
    stopped, well = record(metrics), record(metrics)
    stopped.stop()
    assert metrics.flush()
    assert flush()
    assert (stopped.sent, well.sent) == (1, 2)
    last = metrics.read().family("hypertrace_export_last_success_timestamp_seconds")
    assert [labels for labels, _ in last.points] == [("Recording-2",)]


def test_an_exporter_may_flush_while_it_sends(record: Callable[..., Recording]) -> None:
    """It is not waited for by itself; the flush says that not all was sent."""
    exporter, results = record(), []
    exporter.on_send = lambda: results.append(exporter.forwards_to.flush(NEVER))
    assert exporter.flush(SOON)
    assert results == [False]


def test_their_health_is_in_every_reading(record: Callable[..., Recording]) -> None:
    """One exporter shows how the other one fares."""
    metrics = Metrics()
    well, failing = record(metrics), record(metrics)
    failing.on_send = fail
    for _ in range(3):
        assert not metrics.flush()
    assert well.flush()
    shown = {
        family.name.removeprefix("hypertrace_export_"): dict(family.points)
        for family in well.readings[-1].families
        if family.name.startswith("hypertrace_export_")
    }
    total = metrics.read().family("hypertrace_export_failed_total")
    assert dict(total.points) == {("Recording",): 0, ("Recording-2",): 3}
    assert shown["last_success_timestamp_seconds"].keys() == {("Recording",), ("Recording-2",)}
    assert (failing.failures, well.failures) == (3, 0)
    (seconds,) = [
        value
        for labels, value in metrics.read().family("hypertrace_export_seconds_total").points
        if labels == ("Recording",)
    ]
    assert isinstance(seconds, float)
    assert 0 < seconds < SOON
    well.count_bytes(10)
    well.count_dropped(2)
    assert dict(metrics.read().family("hypertrace_export_bytes_total").points)["Recording",] == 10
    assert well.dropped == 2


def test_a_subclass_may_send_totals() -> None:
    """For backends that take no differences."""

    class Totals(Recording):
        def changes(self, reading: object, previous: object) -> object:  # type: ignore[override]
            assert (previous is None) == (not self.readings)
            return reading

    with Totals() as exporter:
        for times in (1, 2, 3):
            exporter.forwards_to.counter(f"calls_{times}_total").inc()
            assert exporter.flush()
            names = {family.name for family in exporter.readings[-1].families if family.values}
            assert {f"calls_{one}_total" for one in range(1, times + 1)} <= names
