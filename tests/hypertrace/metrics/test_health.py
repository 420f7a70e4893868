"""Health: what `Metrics` reports of itself in each reading."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import hypertrace
from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.metrics import Metrics, declarations

from .readings import values_in

if TYPE_CHECKING:
    from hypertrace.events import Result
    from hypertrace.metrics import Reading

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
CALLS, DURATIONS, EXCEPTIONS, _, EDGES = (one.name for one in declarations.BUILT_IN)


def by_metric(reading: Reading, declaration: declarations.Declaration) -> dict[str, float]:
    return {
        name: value for (name,), value in values_in(reading, declaration.name, "metric").items()
    }


def span(class_name: str, error: type[Exception] | None = None) -> SpanEvent:
    result: Result = "ok" if error is None else "error"
    return SpanEvent(None, TracedObject(class_name, 1), None, CALLER, 0.5, result, error)


def test_room_is_reported_of_each_metric() -> None:
    """How many series are held and may be held, and what went past that, by metric."""
    metrics = Metrics(max_series=2)
    empty = metrics.read()
    names = (CALLS, DURATIONS, EXCEPTIONS)
    assert by_metric(empty, declarations.SERIES) == dict.fromkeys(names, 0)
    assert by_metric(empty, declarations.SERIES_LIMIT) == dict.fromkeys(names, 2)
    assert by_metric(empty, declarations.OVERFLOWED) == dict.fromkeys(names, 0)
    metrics(TraceEvent(None, TracedObject("A", 1), None, CALLER))
    for class_name in ("B", "C", "C", "D"):
        metrics(span(class_name, KeyError))
    full = metrics.read()
    assert by_metric(full, declarations.SERIES) == {CALLS: 2, DURATIONS: 1, EXCEPTIONS: 2}
    assert by_metric(full, declarations.OVERFLOWED) == {CALLS: 3, DURATIONS: 3, EXCEPTIONS: 1}


def test_edges_have_their_room_where_they_are_counted() -> None:
    """With `upstream`, the room of edges is reported, too."""
    assert EDGES not in by_metric(Metrics().read(), declarations.SERIES)
    assert by_metric(Metrics(upstream=True).read(), declarations.SERIES)[EDGES] == 0


def test_the_counter_is_reported_by_its_name() -> None:
    """With another `counter_name`, the room of calls has that name."""
    health = by_metric(Metrics(counter_name="calls_total").read(), declarations.SERIES)
    assert list(health) == ["calls_total", DURATIONS, EXCEPTIONS]


def test_errors_and_dropped_events_are_those_of_the_process() -> None:
    """They are what `swallowed_errors()` and `dropped_events()` return, as whole numbers."""
    metrics, dropped = Metrics(), hypertrace.dropped_events()

    def fail(_: object) -> None:
        tracer.trace()
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fail)
    tracer = Tracer("here")
    for _ in range(3):
        tracer.trace()
    reading = metrics.read()
    for declaration, number in ((declarations.SWALLOWED, 3), (declarations.DROPPED, dropped + 3)):
        ((labels, value),) = reading.family(declaration.name).points
        assert (labels, value, type(value)) == ((), number, int)


def test_silent_tracers_are_reported_by_class() -> None:
    """Tracers made too early are counted by class; names cut to the same text are one series."""
    metrics = Metrics(max_label_length=64)
    family = metrics.read().family(declarations.SILENT.name)
    assert list(family.points) == []
    for name in ("Database", "Database", "x" * 70, "x" * 80):
        Tracer(name)
    set_trace_function(print)
    Tracer("enabled")
    points = list(metrics.read().family(declarations.SILENT.name).points)
    assert points == [(("Database",), 2), (("x" * 63 + "…",), 2)]


def test_the_build_is_reported() -> None:
    """The versions of hypertrace and of Python are labels of the value 1."""
    ((labels, value),) = Metrics().read().family(declarations.BUILD.name).points
    assert labels == (
        hypertrace.__version__,
        platform.python_version(),
        platform.python_implementation(),
    )
    assert value == 1


def test_its_series_are_the_same_in_every_reading() -> None:
    """Readers may keep what they made of them, as of any series."""
    metrics = Metrics()
    first, second = metrics.read(), metrics.read()
    for declaration in declarations.HEALTH:
        names = {family.name for family in first.families}
        if declaration.name in names:
            a, b = first.family(declaration.name), second.family(declaration.name)
            assert all(one is other for one, other in zip(a.series, b.series, strict=True))
