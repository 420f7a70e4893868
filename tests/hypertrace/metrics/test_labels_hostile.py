"""Hostile values, names and classes, and the label values that are made of them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    dropped_events,
    swallowed_errors,
)
from hypertrace.inspection import type_name
from hypertrace.metrics import HistogramReading, Metrics
from hypertrace.metrics.labels import Labeller, import_path

from ...hostile_values import VALUES, HostileStr, OfHostileMeta, hostile
from .readings import CALLS, COUNT, DURATIONS, EXCEPTIONS, OPEN, labels_of, values

if TYPE_CHECKING:
    from .conftest import Count

CALLER = Caller("f", "/srv/app.py", "app", 1, 1)
TOPIC = {"topic": "topic"}


# By name: what fails shows its arguments, and these cannot be shown.
@pytest.mark.parametrize("which", VALUES)
def test_a_hostile_value_is_shown_as_well_as_it_can_be(count: Count, which: str) -> None:
    """As a prop in any place and as an id it is counted under its text, which is a plain `str`."""
    metrics = count(allowed_props=["topic"])
    value, text = VALUES[which]
    tracer = Tracer("place", {"topic": value}, parent=Tracer("parent", {"topic": value}))
    for _ in range(2):
        tracer.trace(value, topic=value)
        with tracer.span(value, {"topic": value}):
            pass
    names = ("object_props_topic", "parent_object_props_topic", "caller_props_topic", "id")
    for name in (CALLS, COUNT):
        (labels,) = labels_of(metrics, name)
        assert [labels[name] for name in names] == [text] * 4
        assert {type(labels[name]) for name in names} == {str}
    assert type(Labeller(TOPIC, 256, object_ids=False).text(value)) is str


class Traces:
    """Traces whenever it is asked for its text."""

    def __init__(self) -> None:
        self.tracer = Tracer("text")

    def __str__(self) -> str:
        self.tracer.trace("text", topic=self)
        return "shown"


def test_a_value_that_traces_is_shown_and_not_counted(count: Count) -> None:
    """What the text of a value traces is dropped and counted as such: it comes to an end."""
    metrics, value = count(allowed_props=["topic"]), Traces()
    tracer = Tracer("place", {"topic": value})
    for _ in range(2):
        tracer.trace(None, topic=value)
    ((labels),) = labels_of(metrics)
    assert labels["object_classname"] == "place"
    assert labels["object_props_topic"] == labels["caller_props_topic"] == "shown"
    assert dropped_events() >= 2
    assert swallowed_errors() == 0


def test_an_exemplar_and_a_log_that_trace_are_not_counted(count: Count) -> None:
    """What the exemplar function or a log handler traces is dropped, not counted as the user's."""

    def trace() -> dict[str, str]:
        Tracer("inner").trace()
        return {"n": "1"}

    handler = logging.Handler()
    handler.emit = lambda _: trace()  # type: ignore[method-assign,assignment]
    logger = logging.getLogger("hypertrace.metrics")
    metrics = count(exemplar=trace, max_series=1)
    logger.addHandler(handler)
    try:
        for name in ("outer", "overflow"):
            with Tracer(name).span():
                pass
    finally:
        logger.removeHandler(handler)
    assert values(metrics, CALLS, "object_classname") == {("outer",): 1, ("<overflow>",): 1}
    assert dropped_events() == 3


def test_values_of_a_hostile_class_are_looked_up(count: Count) -> None:
    """A prop beside one that cannot be hashed, compared or asked for its class is still counted."""
    metrics, tracer = count(allowed_props=["topic"]), Tracer("place")
    for _ in range(3):
        for value in (OfHostileMeta(), "x", 1, True):
            tracer.trace(topic=value)
    assert values(metrics, CALLS, "caller_props_topic") == {
        (text,): 3 for text in ("<unprintable OfHostileMeta>", "x", "1", "True")
    }
    assert swallowed_errors() == 0


def test_hostile_names_of_files_and_modules_are_taken() -> None:
    """A code object or a module may have been given a subclass of str as text, or a NUL."""
    assert import_path(Caller("f", HostileStr("/srv/shop.py"), HostileStr("shop"))) == "shop.py"
    assert "/" not in import_path(Caller("f", "/srv/sh\0op.py", "other"))


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("<eval /srv/app/secret.py>", "<secret.py>"),
        ("</srv/app/template>", "<template>"),
        ("<string>", "<string>"),
        ("<stdin-7>-1", "<stdin>"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
        ("<", "<>"),
        ("<eval C:\\app\\secret.py>", "<secret.py>"),
        ("file:///srv/app/secret.py", "secret.py"),
        ("notebook-cell:/srv/app/secret.ipynb#1", "secret.ipynb#1"),
        ("C:\\Users\\me\\secret.py", "secret.py"),
        ("C:/Users/me/secret.py", "secret.py"),
        ("\\\\server\\share\\secret.py", "secret.py"),
        ("zip:/srv/lib.zip/app.py", "app.py"),
    ],
)
def test_what_is_no_file_shows_no_path(
    monkeypatch: pytest.MonkeyPatch, filename: str, path: str
) -> None:
    """Code that was made at run time may be called after a file, whose folder is not shown."""
    monkeypatch.syspath_prepend("")
    assert import_path(Caller("f", filename, "app")) == path


@pytest.mark.parametrize("result", ['"', "", None, [], 7, HostileStr("x"), "OK"], ids=type)
def test_a_result_that_no_span_has_is_an_error(result: Any) -> None:
    """An event that was made by hand with another result is counted among the failed."""
    metrics = Metrics()
    for _ in range(2):
        metrics(SpanEvent(None, TracedObject("A", 1), None, CALLER, 0.5, result))
    assert values(metrics, COUNT, "result") == {("error",): 2}


@pytest.mark.parametrize("exception", [KeyError("x"), OfHostileMeta, 7, "KeyError"], ids=type)
def test_an_exception_that_is_no_class_is_counted_by_its_type(exception: Any) -> None:
    """An event that was made by hand with an exception or any other object counts it."""
    metrics = Metrics()
    metrics(SpanEvent(None, TracedObject("A", 1), None, CALLER, 0.5, "error", exception))
    assert values(metrics, EXCEPTIONS, "exception") == {(type_name(exception),): 1}


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0, None, "soon", 1j], ids=repr)
def test_an_event_with_an_odd_duration_poisons_no_series(duration: Any) -> None:
    """It is counted as a span of no length; sum and buckets stay what they were otherwise."""
    metrics = Metrics(buckets=[1], exemplar=lambda: {"n": "1"})
    for seconds in (0.5, duration, 2.0):
        metrics(SpanEvent(None, TracedObject("A", 1), None, CALLER, seconds))
    ((_, value),) = metrics.read().family(DURATIONS).points
    assert isinstance(value, HistogramReading)
    assert (value.counts, value.sum) == ((2, 1), 2.5)
    assert all(exemplar.value >= 0 for exemplar in value.exemplars.values())
    assert values(metrics, OPEN) == {(): 0}


def test_an_odd_clock_poisons_no_series(count: Count, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was patched to say nonsense costs the durations it spoilt, and nothing else."""
    readings = iter([1.0, float("nan"), 1.0, float("-inf"), 2.0, 1.0])
    monkeypatch.setattr("hypertrace._span.clock", lambda: next(readings, 5.0))
    metrics, tracer = count(), Tracer("place")
    for _ in range(200):
        with tracer.span():
            pass
    ((_, value),) = metrics.read().family(DURATIONS).points
    assert isinstance(value, HistogramReading)
    assert value.counts[0] == value.count == 200
    assert value.sum == 0.0


class Counted(hostile(dict, "get", "__len__")):  # type: ignore[misc]
    """Props that can be looked up, and nothing else."""

    asked = 0

    def get(self, key: str) -> object:
        self.asked += 1
        return dict.get(self, key)


def test_many_props_cost_what_the_allow_list_costs() -> None:
    """Of ten thousand props in a call only those are looked at that are allowed."""
    metrics = Metrics(allowed_props=["topic"])
    props = Counted({f"prop {number}": number for number in range(10_000)} | {"topic": "a"})
    record = metrics.bind_props(TraceEvent(None, TracedObject("A", 1), None, CALLER))
    find = metrics.bind_span_props(TraceEvent(None, TracedObject("A", 1), None, CALLER))
    for _ in range(3):
        record(props)
        find(props).start()
    metrics(TraceEvent(None, TracedObject("A", 1), None, Caller("f", "a.py", "a", 1, 1, props)))
    assert props.asked <= 10
    for name in (CALLS, OPEN):
        assert {labels["caller_props_topic"] for labels in labels_of(metrics, name)} == {"a"}


def test_cancelled_and_exiting_code_is_not_held_up() -> None:
    """What must pass through a text's making passes: it is the application's own ending."""

    class Ends:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __str__(self) -> str:
            raise self.error

    for error in (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
        with pytest.raises(error):
            Labeller({}, 256, object_ids=False).text(Ends(error))
