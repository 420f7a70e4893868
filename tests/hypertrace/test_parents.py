"""Parents of tracers, as part of events."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import TraceEvent, Tracer
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


class Swarm:
    def __init__(self, props: Any = None, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, props, parent=parent)

    def connect(self) -> None:
        self.tracer.trace()


@pytest.fixture
def events() -> Iterator[list[TraceEvent]]:
    with capture_events() as captured:
        yield captured


def test_a_child_has_its_parent_in_its_events(counts: Counts) -> None:
    """Events of a child carry class and props of its parent."""
    parent = Swarm({"topic": "p"})
    child = Swarm({"topic": "c"}, parent=parent.tracer)
    for _ in range(3):
        child.connect()
    parent.connect()
    assert counts("object.props", "parent_object.class_name", "parent_object.props") == {
        ((("topic", "c"),), "Swarm", (("topic", "p"),)): 3,
        ((("topic", "p"),), None, None): 1,
    }


def test_the_parent_in_an_event_is_the_parents_object(events: list[TraceEvent]) -> None:
    """An event has id, object and tracer of the parent."""
    parent = Swarm()
    child = Swarm(parent=parent.tracer)
    child.connect()
    described = events[0].parent_object
    assert described is not None
    assert (described.id, described.ctx) == (parent.tracer.object_id, parent)
    assert described.tracer is parent.tracer
    assert child.tracer.parent_object is described


def test_set_parent_holds_for_later_events(counts: Counts) -> None:
    """Events carry the parent that is set when they happen: another, none, and back."""
    one, two = Tracer("one"), Tracer("two")
    children = [Swarm(parent=one), Swarm()]
    for parent in (None, one, two, None, one):
        for child in children:
            child.tracer.set_parent(parent)
            child.connect()
            child.connect()
    assert counts("parent_object.class_name") == {None: 8, "one": 8, "two": 4}


def test_set_parent_touches_no_other_tracer(counts: Counts) -> None:
    """After one tracer's parent was changed, other and later tracers keep having theirs."""
    first, other = Swarm(), Swarm()
    for swarm in (first, other):
        swarm.connect()
    first.tracer.set_parent(Tracer("parent"))
    for swarm in (first, other, Swarm()):
        swarm.connect()
    assert counts("parent_object.class_name") == {None: 4, "parent": 1}


@pytest.mark.parametrize("parent", [Swarm, "parent", 1])
def test_set_parent_takes_tracers_alone(parent: Any, events: list[TraceEvent]) -> None:
    """A parent that is no tracer raises, and the old one stays."""
    child = Swarm(parent=Tracer("parent"))
    with pytest.raises(TypeError, match="parent must be a Tracer or None"):
        child.tracer.set_parent(parent)
    child.connect()
    assert events[0].parent_object is not None


def test_a_disabled_parent_is_no_parent() -> None:
    """A parent made before tracing was on is left out."""
    early = Swarm()
    with capture_events() as captured:
        child = Swarm(parent=early.tracer)
        child.connect()
        child.tracer.set_parent(early.tracer)
        child.connect()
    assert [event.parent_object for event in captured] == [None, None]
