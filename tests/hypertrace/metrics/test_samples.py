"""Samples: which values are kept of the series of metrics, and for whom."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Caller, SpanEvent, TracedObject, Tracer, set_trace_function
from hypertrace.metrics import Distribution, Metrics
from hypertrace.metrics.samples import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.metrics.samples import Samples
    from hypertrace.metrics.series import Series

    from .conftest import Count

CALLER = Caller("dial", "app.py", "app", 1, 1)
SWARM = TracedObject("Swarm", 1)


class Swarm:
    """What is timed."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def dial(self) -> None:
        with self.tracer.span("dial"):
            pass

    def fail(self) -> None:
        with self.tracer.span("dial") as span:
            span.fail()


@pytest.fixture
def sampled() -> Iterator[Callable[[Metrics, int], Samples]]:
    """Give a function that keeps the values of metrics, until the test ends."""
    made: list[Samples] = []

    def sample(metrics: Metrics, room: int = 1_000) -> Samples:
        made.append(metrics.sample(room))
        return made[-1]

    yield sample
    for samples in made:
        samples.close()


def taken(metrics: Metrics, samples: Samples) -> dict[tuple[str, ...], list[float]]:
    """Take the values of all series with values in buckets: by metric, and result if it has one."""
    found: dict[tuple[str, ...], list[float]] = {}
    for family in metrics.read().families:
        if family.kind == "histogram":
            for series in family.series:
                sample = samples.take(series)
                assert sample.seen == len(sample.values)
                name = (family.name, *series.labels[-1:]) if len(series.labels) > 3 else ()
                found.setdefault(name or (family.name,), []).extend(sample.values)
    return found


def ended(metrics: Metrics, *durations: float, result: Any = "ok") -> None:
    """Record spans that ended."""
    for seconds in durations:
        metrics(SpanEvent("dial", SWARM, None, CALLER, seconds, result, None))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("workers", [False, True])
def test_durations_are_kept_as_they_came(
    workers: bool, native: bool, tmp_path: Path, sampled: Callable[..., Samples]
) -> None:
    """Of series that are there already and of later ones, in memory and in files."""
    place = str(tmp_path / "run") if workers else False
    metrics = Metrics(workers=place, native_histograms=native)
    ended(metrics, 1.0)
    samples = sampled(metrics)
    ended(metrics, 0.25, 0.5)
    ended(metrics, 2.0, 1e-6, result="error")
    name = "function_duration_seconds"
    # What was buffered in memory before is among them.
    expected = [0.25, 0.5] if workers else [0.25, 0.5, 1.0]
    assert taken(metrics, samples) == {
        (name, "ok"): expected,
        (name, "error"): [2.0, 1e-6] if workers else [1e-6, 2.0],
    }
    assert set(map(tuple, taken(metrics, samples).values())) != {()}  # not sent yet
    samples.sent()
    ended(metrics, 4.0)
    assert taken(metrics, samples) == {(name, "ok"): [4.0], (name, "error"): []}
    metrics.close()


@pytest.mark.parametrize("workers", [False, True])
def test_durations_of_real_spans_add_up(
    workers: bool, count: Count, tmp_path: Path, sampled: Callable[..., Samples]
) -> None:
    """Those of the compiled path, too: as many as were counted, with the same sum."""
    metrics = count(
        workers=str(tmp_path / "run") if workers else False,
        declared=[
            Distribution("dialled_seconds", of="Swarm.*", buckets=(0.1, 1.0)),
            Distribution(
                "dialled_milliseconds", of="Swarm.*", unit=("seconds", "milliseconds"), native=True
            ),
        ],
    )
    samples = sampled(metrics)
    swarm = Swarm()
    for _ in range(300):
        swarm.dial()
        swarm.fail()
    reading = metrics.read()
    sums: Counter[str] = Counter()
    for family in reading.families:
        if family.kind == "histogram":
            for series, value in zip(family.series, family.values, strict=True):
                sample = samples.take(series)
                assert sample.seen == len(sample.values) == value.count  # type: ignore[union-attr]
                assert sum(sample.values) == pytest.approx(value.sum)  # type: ignore[union-attr]
                sums[family.name] += sample.seen
    assert sums == {
        "function_duration_seconds": 600,
        "dialled_seconds": 600,
        "dialled_milliseconds": 600,
    }
    metrics.close()


def test_values_of_an_instrument_are_kept(sampled: Callable[..., Samples]) -> None:
    """Also where code holds what adds them since before."""
    metrics = Metrics(workers=False)
    instrument = metrics.distribution("size_bytes")
    observe = instrument.observe
    observe(1)
    samples = sampled(metrics)
    observe(2)
    instrument.observe(3.5)
    assert taken(metrics, samples) == {("size_bytes",): [2.0, 3.5]}


def test_nothing_is_kept_without_an_exporter_that_wants_it() -> None:
    """Neither before nor after it, also of other metrics that came meanwhile."""
    metrics, swarm = Metrics(workers=False), Swarm

    def kept() -> set[bool]:
        found = {series.samples is not None for series in metrics.histograms()}
        return found | {series.samples is not None for series in other.histograms()}

    other = Metrics(workers=False)
    ended(metrics, 1.0)
    metrics.distribution("size_bytes").observe(1)
    assert kept() == {False}
    first, second = metrics.sample(10), metrics.sample(20)
    ended(metrics, 1.0, result="error")
    ended(other, 1.0)
    assert kept() == {True}
    first.close()
    assert kept() == {True}
    second.close()
    assert kept() == {False}
    ended(other, 1.0, result="cancelled")
    assert kept() == {False}
    assert swarm is Swarm


def test_each_of_two_exporters_gets_all(sampled: Callable[..., Samples]) -> None:
    """Whichever takes first, and whichever sends more often."""
    metrics = Metrics(workers=False)
    often, rarely = sampled(metrics), sampled(metrics, 5)
    all_of_them: list[float] = []
    name = ("function_duration_seconds", "ok")
    for number in range(4):
        ended(metrics, float(number))
        all_of_them += taken(metrics, often)[name]
        often.sent()
    assert all_of_them == [0, 1, 2, 3]
    assert taken(metrics, rarely)[name] == [0, 1, 2, 3]
    for number in range(100):
        ended(metrics, float(number))
        taken(metrics, often)
        often.sent()
    (series,) = metrics.histograms()
    sample = rarely.take(series)
    assert (sample.seen, len(sample.values)) == (104, 5)


def test_what_was_not_sent_is_taken_again(sampled: Callable[..., Samples]) -> None:
    """With what came since, up to the room that there is: then each for more than one."""
    metrics = Metrics(workers=False)
    samples = sampled(metrics, 40)
    ended(metrics, 1.0, 2.0)
    (series,) = metrics.histograms()
    _ = series.value
    assert samples.take(series) == (2, [1.0, 2.0])
    ended(metrics, 3.0)
    _ = series.value
    assert samples.take(series) == (3, [1.0, 2.0, 3.0])
    for _ in range(50):
        ended(metrics, *[1.0] * 10)
        _ = series.value
        samples.take(series)
    sample = samples.take(series)
    assert (sample.seen, len(sample.values)) == (503, 40)
    samples.sent()
    assert samples.take(series) == NOTHING


def last_series(metrics: Metrics) -> Series:
    """Give the one that was made last."""
    return metrics.read().family("function_duration_seconds").series[-1]


def test_values_of_series_that_are_gone_are_forgotten(sampled: Callable[..., Samples]) -> None:
    """Where each object has series, there are ever new ones while a receiver is down."""
    metrics = Metrics(workers=False)
    samples = sampled(metrics)
    for number in range(10):
        swarm = TracedObject(f"Swarm{number}", 1)
        metrics(SpanEvent("dial", swarm, None, CALLER, 1.0, "ok", None))
        samples.begin()
        assert samples.take(last_series(metrics)).seen == 1
    assert len(samples._taken) + len(samples._earlier) <= 2
    samples.begin()
    assert samples.take(last_series(metrics)).seen == 1  # not sent yet


def test_a_series_without_values_of_this_process_has_none(
    tmp_path: Path, sampled: Callable[..., Samples]
) -> None:
    """Such as those in which other workers alone have counted."""
    path = str(tmp_path / "run")
    reader, worker = Metrics(workers=path), Metrics(workers=path, name="x")
    samples = sampled(reader)
    child = os.fork() if hasattr(os, "fork") else pytest.skip("this system does not fork")
    if not child:
        ended(reader, 1.0)
        reader.distribution("size_bytes").observe(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    families = [family for family in reader.read().families if family.kind == "histogram"]
    assert [value.count for family in families for value in family.values] == [1, 1]  # type: ignore[union-attr]
    assert [samples.take(series) for family in families for series in family.series] == [
        NOTHING,
        NOTHING,
    ]
    reader.close()
    worker.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_none_of_its_parent(sampled: Callable[..., Samples]) -> None:
    """It keeps its own from then on; those of the parent stay."""
    metrics = Metrics(workers=False)
    samples = sampled(metrics)
    ended(metrics, 1.0)
    instrument = metrics.distribution("size_bytes")
    instrument.observe(1)
    name = ("function_duration_seconds", "ok")
    child = os.fork()
    if not child:
        try:
            ended(metrics, 2.0)
            instrument.observe(2)
            is_right = taken(metrics, samples) == {name: [2.0], ("size_bytes",): [2.0]}
        finally:
            os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert taken(metrics, samples) == {name: [1.0], ("size_bytes",): [1.0]}


def test_a_trace_function_that_is_replaced_leaves_samples_alone(
    sampled: Callable[..., Samples],
) -> None:
    """Tracers that are bound again add to the same."""
    metrics = Metrics(workers=False)
    set_trace_function(metrics)
    samples, swarm = sampled(metrics), Swarm()
    swarm.dial()
    set_trace_function(Metrics(workers=False))
    swarm.dial()
    set_trace_function(metrics)
    swarm.dial()
    (values,) = taken(metrics, samples).values()
    assert len(values) == 2
