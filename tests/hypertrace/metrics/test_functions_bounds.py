"""Bounds of what `Metrics` holds of calls, and its release with the objects."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any
from weakref import ref

from hypertrace import Tracer, set_trace_function, traced

from ...running import growth
from ...traced_classes import FILE, Swarm
from .readings import by, labels_of, samples, total

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from hypertrace import TraceEvent

    from .conftest import Count

OVERFLOW = {"object_classname": "<overflow>"}


def test_past_the_limit_totals_stay_true(count: Count, caplog: pytest.LogCaptureFixture) -> None:
    """Calls that do not fit count in the overflow, and the log says once what to look at."""
    metrics = count(allowed_props=["topic"], max_series=5)
    swarm = Swarm()
    for number in range(20):
        for _ in range(2):
            swarm.connect(topic=str(number))
    assert total(metrics) == 40
    assert samples(metrics)[-1] == (OVERFLOW, 30)
    assert by("caller_props_topic", metrics) == {None: 30} | {str(n): 2 for n in range(5)}
    (record,) = caplog.records
    line = Swarm.connect.__code__.co_firstlineno + 1
    for part in (
        "function_counter_total",
        "caller_props_topic (5 values in the last 5",
        f"{FILE}:{line}:",
    ):
        assert part in record.getMessage()


def test_labels_of_objects_without_bound_are_held_in_bounds(count: Count) -> None:
    """Thousands of objects, each with its own labels, leave the limit and no more."""
    metrics = count(allowed_props=["topic"], max_series=100)

    def work(number: int) -> None:
        swarm = Swarm({"topic": f"topic-{number}"})
        swarm.connect()
        swarm.connect(topic="x")

    # The tables of the core may be made again; 100 bytes an object would be 200 000.
    assert growth(work) < 100_000
    assert total(metrics) == 10_000
    assert len(metrics._functions._share_keys) <= 100
    assert samples(metrics)[-1] == (OVERFLOW, 10_000 - 100)


def test_props_of_calls_without_bound_are_held_in_bounds(count: Count) -> None:
    """Thousands of values at one call leave the limit and no more."""
    metrics = count(allowed_props=["topic"], max_series=100)
    swarm = Swarm()
    assert growth(lambda number: swarm.connect(topic=f"topic-{number}")) < 100_000
    assert total(metrics) == 5_000
    assert samples(metrics)[-1] == (OVERFLOW, 4_900)


def test_values_that_look_the_same_are_held_in_bounds(count: Count) -> None:
    """Thousands of values that are cut to one text leave one series and nothing else."""
    metrics = count(allowed_props=["topic"], max_label_length=16)
    swarm = Swarm()
    assert growth(lambda number: swarm.connect(topic="\udcff" * 9 + f"{number:05}")) < 100_000
    assert len(samples(metrics)) == 1
    assert total(metrics) == 5_000


def test_props_of_an_object_do_not_outlive_it(count: Count) -> None:
    """A value that was traced is freed with the object whose prop it was, however it was called."""
    count(allowed_props=["topic"])

    class Value:
        def __str__(self) -> str:
            return "value"

    class Held:
        def __init__(self, value: Value) -> None:
            self.tracer = Tracer(self, {"topic": value, "other": value})

        def run(self, parent: Swarm) -> None:
            self.tracer.set_parent(parent.tracer)
            self.tracer.trace()
            self.tracer.trace("id")
            self.tracer.trace(topic="x")
            self.tracer.trace(None, {"topic": "x"})

    value, parent_value = Value(), Value()
    held, parent = Held(value), Swarm({"topic": parent_value})
    gone: list[ref[Any]] = [ref(value), ref(parent_value), ref(held), ref(parent)]
    gc.disable()
    try:
        held.run(parent)
        del value, parent_value, held, parent
        assert [reference() for reference in gone] == [None] * 4
    finally:
        gc.enable()


def test_series_of_objects_that_are_gone_are_dropped(count: Count) -> None:
    """At the next scrape only living objects have series, and theirs are exact."""
    metrics = count(object_ids=True, allowed_props=["topic"])
    living = Swarm()
    numbers = []
    for _ in range(200):
        swarm = Swarm()
        swarm.connect()
        swarm.connect(topic="a")
        living.connect()
        living.connect(topic="a")
        numbers.append(swarm.tracer.object_id)
        del swarm
    assert len(set(numbers)) == 200
    assert by("object_id", metrics) == {str(living.tracer.object_id): 400}
    del living
    assert samples(metrics) == []


def test_what_numbers_no_object_keeps_its_series(count: Count) -> None:
    """Functions that are decorated again share a series, which none of them takes along."""
    metrics = count(object_ids=True)

    def make() -> Callable[[], None]:
        @traced
        def work() -> None:
            pass

        return work

    first, second = make(), make()
    first()
    second()
    del first
    gc.collect()
    second()
    assert total(metrics) == 3
    del second
    gc.collect()
    make()()
    assert total(metrics) == 4
    assert len(samples(metrics)) == 1


def test_objects_that_come_and_go_leave_nothing(count: Count) -> None:
    """Thousands of distinguished objects leave no memory in use once they are gone."""
    metrics = count(object_ids=True, allowed_props=["topic"])

    def work(number: int) -> None:
        swarm = Swarm()
        swarm.connect()
        swarm.connect(topic="x")

    assert growth(work) < 100_000
    assert samples(metrics) == []


def test_the_room_of_objects_that_are_gone_is_used_again(count: Count) -> None:
    """With as many objects alive as there is room, none is ever counted in the overflow."""
    metrics = count(object_ids=True, max_series=2)
    living = Swarm()
    for _ in range(50):
        living.connect()
        Swarm().connect()
    assert by("object_id", metrics) == {str(living.tracer.object_id): 50}
    assert OVERFLOW not in labels_of(metrics)


def test_objects_past_the_limit_are_counted_in_the_overflow(count: Count) -> None:
    """Objects that find no room are counted together, and stay so: totals are true."""
    metrics = count(object_ids=True, max_series=2)
    swarms = [Swarm() for _ in range(5)]
    for _ in range(3):
        for swarm in swarms:
            swarm.connect()
    assert samples(metrics)[-1] == (OVERFLOW, 9)
    assert total(metrics) == 15


def test_an_event_that_outlives_its_object_is_taken(count: Count) -> None:
    """An event that is handed over late, when its object is gone, raises nothing."""
    events: list[TraceEvent] = []
    metrics = count(object_ids=True)
    set_trace_function(events.append)
    Swarm().connect()
    for event in events:
        metrics(event)
    assert samples(metrics) == []
