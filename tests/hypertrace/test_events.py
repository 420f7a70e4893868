"""Events, with which trace functions are called."""

import copy
import weakref

import pytest

from hypertrace import Caller, TracedObject, TraceEvent, Tracer
from hypertrace.testing import capture_events


class Swarm:
    def __init__(self) -> None:
        self.tracer = Tracer(self, {"topic": "a"})

    def connect(self) -> None:
        self.tracer.trace("connect", peer=1)


def _event() -> TraceEvent:
    traced = TracedObject("Swarm", 1, {"topic": "a"})
    parent = TracedObject("Parent", 2)
    return TraceEvent("connect", traced, parent, Caller("go", "swarm.py", "swarm", 3, 4, {"p": 1}))


def test_events_can_be_made_by_hand() -> None:
    """Events can be made of their parts, as for tests of a trace function."""
    event = _event()
    assert (event.id, event.object.class_name, event.object.id) == ("connect", "Swarm", 1)
    assert event.object.props == {"topic": "a"}
    assert event.parent_object is not None
    assert (event.parent_object.class_name, event.parent_object.props) == ("Parent", None)
    caller = event.caller
    assert (caller.function_name, caller.filename, caller.module) == ("go", "swarm.py", "swarm")
    assert (caller.line, caller.column, caller.props) == (3, 4, {"p": 1})


def test_parts_that_are_not_known_are_empty() -> None:
    """An object and a caller can be made of what is known of them."""
    traced, caller = TracedObject("Swarm", 1), Caller("go", "swarm.py")
    assert (traced.props, traced.ctx, traced.tracer) == (None, None, None)
    assert (caller.module, caller.line, caller.column, caller.props) == (None, 0, 0, None)


def test_the_text_of_an_event_has_everything() -> None:
    """An event shows its id, objects and place."""
    assert repr(_event()) == (
        "TraceEvent(id='connect', object=TracedObject('Swarm', id=1, props={'topic': 'a'}), "
        "parent_object=TracedObject('Parent', id=2, props=None), "
        "caller=Caller('go', 'swarm.py:3:4', props={'p': 1}))"
    )


def test_props_of_an_object_are_read_only() -> None:
    """An object's props cannot be changed through an event."""
    props = _event().object.props
    assert props is not None
    with pytest.raises(TypeError):
        props["topic"] = "b"  # type: ignore[index]


def test_an_event_takes_no_other_attributes() -> None:
    """Parts of events have slots, so that a misspelt name is an error."""
    event = _event()
    for part in (event, event.object, event.caller):
        with pytest.raises(AttributeError):
            part.classname = "x"  # type: ignore[union-attr]


def test_an_event_refers_to_the_object_and_its_tracer() -> None:
    """While the object lives, an event leads to it and to its tracer."""
    with capture_events() as captured:
        swarm = Swarm()
        swarm.connect()
    assert captured[0].object.ctx is swarm
    assert captured[0].object.tracer is swarm.tracer


def test_an_event_keeps_nothing_alive() -> None:
    """An event that is kept keeps neither the object nor its tracer."""
    with capture_events() as captured:
        swarm = Swarm()
        swarm.connect()
    alive = weakref.ref(swarm)
    del swarm
    assert alive() is None
    assert captured[0].object.ctx is None
    assert captured[0].object.tracer is None
    assert captured[0].object.props == {"topic": "a"}


def test_a_string_stays_the_object_of_its_tracer() -> None:
    """A traced name is kept, since it is not released like an object."""
    with capture_events() as captured:
        Tracer("startup").trace()
    assert captured[0].object.ctx == "startup"


def test_copies_of_an_event_are_equal_in_their_parts() -> None:
    """A shallow copy of an event has the same parts."""
    event = _event()
    twin = copy.copy(event)
    assert twin is not event
    assert twin.caller is event.caller
