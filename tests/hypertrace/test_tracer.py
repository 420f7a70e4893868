"""Tracers: how they are made, their events, and what they never do."""

import json
import logging
from collections import Counter, UserDict
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import pytest

from hypertrace import (
    TraceEvent,
    Tracer,
    clear_trace_function,
    set_trace_function,
    swallowed_errors,
)
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


class Swarm:
    """Traces in every way a call can be made."""

    def __init__(self, props: Any = None, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, props, parent=parent)

    def connect(self) -> None:
        self.tracer.trace()

    def call(self, /, *args: Any, **kwargs: Any) -> None:
        self.tracer.trace(*args, **kwargs)


@pytest.fixture(params=[True, False], ids=["on", "off"])
def _on_and_off(request: pytest.FixtureRequest) -> None:
    if request.param:
        set_trace_function(print)


@pytest.fixture
def events() -> Iterator[list[TraceEvent]]:
    with capture_events() as captured:
        yield captured


def test_without_a_trace_function_all_tracers_are_one_disabled_object() -> None:
    """A tracer made while no trace function is set is shared, disabled and knows nothing."""
    tracer = Tracer(Swarm(), {"topic": "a"})
    assert tracer is Tracer("other")
    assert isinstance(tracer, Tracer)
    assert not tracer.enabled
    about = ("ctx", "class_name", "object_id", "props", "parent_object")
    assert [getattr(tracer, name) for name in about] == [None] * len(about)
    assert repr(tracer) == "<Tracer, disabled>"


def test_a_disabled_tracer_does_nothing() -> None:
    """A disabled tracer takes every call and delivers nothing, even once tracing is on."""
    tracer = Tracer("early")
    with capture_events() as captured:
        tracer.trace()
        tracer.trace("id", {"a": 1}, b=2)
        tracer.set_parent(Tracer("parent"))
        tracer.set_parent(None)
    assert captured == []
    assert tracer.parent_object is None


def test_an_enabled_tracer_reports_what_it_knows(events: list[TraceEvent]) -> None:
    """An enabled tracer knows its object, the class, the number and the props."""
    swarm = Swarm({"topic": "a"})
    tracer = swarm.tracer
    assert tracer.enabled
    assert tracer.ctx is swarm
    assert tracer.class_name == "Swarm"
    assert isinstance(tracer.object_id, int)
    assert tracer.props == {"topic": "a"}
    assert tracer.parent_object is None
    assert repr(tracer) == f"<Tracer of Swarm {tracer.object_id}>"


@pytest.mark.usefixtures("_on_and_off")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tracer(None), r"Tracer\(None\).*usually self"),
        (lambda: Tracer(None, {"a": 1}), r"Tracer\(None\)"),
        (lambda: Tracer("a", ["topic"]), "props must be a mapping .* not list"),  # type: ignore[arg-type]
        (lambda: Tracer("a", ""), "props must be a mapping .* not str"),  # type: ignore[arg-type]
        (lambda: Tracer("a", parent=Swarm()), "parent=other.tracer"),  # type: ignore[arg-type]
        (lambda: Tracer("a", parent="b"), "parent must be a Tracer or None, not str"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_of_the_tracer_raises(make: Callable[[], Tracer], message: str) -> None:
    """A tracer of nothing, props that are no mapping and a parent that is no tracer raise."""
    with pytest.raises(TypeError, match=message):
        make()


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("ctx", "name"),
    [
        (Swarm, "Swarm"),
        (json, "json"),
        ("startup", "startup"),
        (_Text("text"), "text"),
        (3, "int"),
        ((), "tuple"),
        (len, "builtin_function_or_method"),
    ],
)
def test_what_an_object_is_called(ctx: object, name: str, events: list[TraceEvent]) -> None:
    """A class and a module have their name, a string its value, the rest the name of its class."""
    Tracer(ctx).trace()
    assert events[0].object.class_name == name
    assert type(events[0].object.class_name) is str


def test_objects_are_numbered_within_their_class(events: list[TraceEvent]) -> None:
    """Objects of one class name count 1, 2, 3, each class name by itself."""

    class First: ...

    class Second: ...

    numbers = [Tracer(ctx()).object_id for ctx in (First, First, Second, First)]
    assert numbers == [1, 2, 1, 3]


def test_classes_of_the_same_name_share_their_numbers(counts: Counts) -> None:
    """Two classes of the same name are one name, and their objects differ by their numbers."""

    def make() -> type[Any]:
        class Twin:
            def __init__(self) -> None:
                self.tracer = Tracer(self)

            def go(self) -> None:
                self.tracer.trace()

        return Twin

    one, other = make()(), make()()
    one.go()
    other.go()
    other.go()
    assert counts("object.class_name", "caller.function_name") == {("Twin", "go"): 3}
    assert one.tracer.object_id != other.tracer.object_id


def test_numbers_stay_unique_past_the_names_remembered(
    events: list[TraceEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class names past the bound share one sequence: an object's number stays its own."""
    monkeypatch.setattr("hypertrace._object_ids.sequences", {})
    monkeypatch.setattr("hypertrace._object_ids.MAX_NAMES", 2)
    tracers = [Tracer(name) for name in ("a", "b", "c", "d", "c", "a")]
    numbers = [tracer.object_id for tracer in tracers]
    assert [numbers[0], numbers[1], numbers[5]] == [1, 1, 2]
    assert len({*numbers[2:5]}) == 3


def test_props_of_a_tracer_are_copied_and_read_only(events: list[TraceEvent]) -> None:
    """Changing the mapping later changes no event, and the tracer's copy cannot be changed."""
    props = {"topic": "a"}
    swarm = Swarm(props)
    props["topic"] = "b"
    swarm.connect()
    assert swarm.tracer.props == events[0].object.props == {"topic": "a"}
    for view in (swarm.tracer.props, events[0].object.props):
        with pytest.raises(TypeError):
            view["topic"] = "c"  # type: ignore[index]


@pytest.mark.parametrize("props", [None, {}, MappingProxyType({})])
def test_no_props_are_none(props: Any, events: list[TraceEvent]) -> None:
    """Where no props are given, or an empty mapping, there are none."""
    swarm = Swarm(props)
    swarm.call(None, props)
    assert swarm.tracer.props is None
    assert events[0].object.props is None
    assert events[0].caller.props is None


@pytest.mark.parametrize(
    ("args", "kwargs", "id_", "props"),
    [
        ((), {}, None, None),
        (("connect",), {}, "connect", None),
        ((), {"peer": 1}, None, {"peer": 1}),
        (("connect",), {"peer": 1}, "connect", {"peer": 1}),
        (({"peer-id": 1},), {}, None, {"peer-id": 1}),
        (({"peer-id": 1},), {"peer": 2}, None, {"peer-id": 1, "peer": 2}),
        (("connect", {"peer-id": 1}), {}, "connect", {"peer-id": 1}),
        (("connect", {"peer": 1, "q": 3}), {"peer": 2}, "connect", {"peer": 2, "q": 3}),
        ((None, UserDict(peer=1)), {}, None, {"peer": 1}),
        ((UserDict(peer=1),), {}, None, {"peer": 1}),
        ((), {"id": 1, "props": 2, "self": 3}, None, {"id": 1, "props": 2, "self": 3}),
        ((MappingProxyType({}),), {}, None, None),
    ],
)
def test_arguments_of_a_call(
    args: Any, kwargs: Any, id_: str | None, props: Any, counts: Counts
) -> None:
    """A call takes an id, a mapping, keywords (which win), or a mapping alone, again and again."""
    swarm = Swarm()
    for _ in range(3):
        swarm.call(*args, **kwargs)
    expected = None if props is None else tuple(sorted(props.items()))
    assert counts("id", "caller.props") == {(id_, expected): 3}


def test_calls_with_and_without_props_at_one_place_are_distinguished(counts: Counts) -> None:
    """A line that passes on whatever it is given counts each call as it was."""
    swarm = Swarm()
    for _ in range(3):
        for id_ in (None, "id"):
            swarm.call(id_)
            swarm.call(id_, peer=1)
    assert counts("id", "caller.props") == {
        (id_, props): 3 for id_ in (None, "id") for props in (None, (("peer", 1),))
    }


def test_props_of_a_call_are_copied(events: list[TraceEvent]) -> None:
    """Changing the mapping after the call changes no event."""
    props = {"peer": 1}
    swarm = Swarm()
    swarm.call(props)
    swarm.call("connect", props)
    props["peer"] = 2
    assert [event.caller.props for event in events] == [{"peer": 1}] * 2


def test_props_that_are_no_mapping_are_left_out(
    counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    """Props of a wrong type are logged once, and the call is counted without them."""
    swarm = Swarm()
    for _ in range(3):
        swarm.call("connect", ["peer"])
        swarm.call("connect", ["peer"], topic="a")
    assert counts("id", "caller.props") == {
        ("connect", None): 3,
        ("connect", (("topic", "a"),)): 3,
    }
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("hypertrace", "WARNING")
    ]
    assert "props of type list" in caplog.text


@pytest.mark.parametrize("id_", [1, True, 1.0, b"b", ["c"], {"d"}, ("e",), object, _Text("f")])
def test_an_id_that_is_no_string_arrives_as_it_is(id_: Any, counts: Counts) -> None:
    """An id of any type is counted, and distinguished from ids that it only equals."""
    swarm = Swarm()
    for _ in range(2):
        swarm.call(id_)
        swarm.call(id_, peer=1)
    events = counts("caller.props", "caller.function_name")
    assert events == {(None, "call"): 2, ((("peer", 1),), "call"): 2}


def test_ids_that_only_equal_each_other_are_not_merged(counts: Counts) -> None:
    """1, True and "1" are three ids."""
    swarm = Swarm()
    for id_ in (1, True, "1"):
        swarm.call(id_)
        swarm.call(id_)
    assert counts("id.__class__.__name__") == {"int": 2, "bool": 2, "str": 2}


class _Broken:
    def __hash__(self) -> int:
        raise ArithmeticError("no hash")

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("no comparison")

    def __repr__(self) -> str:
        return "broken"


def test_an_id_that_cannot_be_hashed_is_no_error_of_the_application(counts: Counts) -> None:
    """An id whose hash and comparison raise is counted, and the application sees nothing."""
    swarm = Swarm()
    for _ in range(2):
        swarm.call(_Broken())
    assert sum(counts("caller.function_name").values()) == 2


class _BrokenMapping(UserDict[str, object]):
    def keys(self) -> Any:
        raise ArithmeticError("no keys")


def test_a_mapping_that_raises_is_no_error_of_the_application(counts: Counts) -> None:
    """Props that cannot be read are swallowed and counted as an error."""
    Swarm().call("connect", _BrokenMapping(peer=1))
    assert swallowed_errors() == 1


def test_the_number_in_events_is_the_objects_own(make_numbering: type[Any]) -> None:
    """A trace function that distinguishes objects counts each under its own id."""
    numbering = make_numbering()
    set_trace_function(numbering)
    swarms = [Swarm() for _ in range(3)]
    for times, swarm in enumerate(swarms, 1):
        for _ in range(times):
            swarm.connect()
    assert numbering.counts("object.id") == {
        swarm.tracer.object_id: times for times, swarm in enumerate(swarms, 1)
    }


def test_a_subclass_of_tracer_is_made_of_itself(events: list[TraceEvent]) -> None:
    """A class derived from Tracer makes its own objects, which trace."""

    class Loud(Tracer):
        __slots__ = ()

    tracer = Loud("loud")
    tracer.trace()
    assert type(tracer) is Loud
    assert events[0].object.tracer is tracer
    clear_trace_function()
    assert not Loud("silent").enabled


def test_nothing_is_logged_by_good_use(counts: Counts, caplog: pytest.LogCaptureFixture) -> None:
    """Making and using tracers as documented logs nothing."""
    with caplog.at_level(logging.DEBUG):
        Swarm({"a": 1}, parent=Tracer("p")).call("id", {"b": 1}, c=2)
    assert caplog.records == []


def test_props_that_cannot_be_read_are_left_out(make_counting: type[Any]) -> None:
    """A mapping that raises when it is read costs the tracer its props, not the application."""

    class Broken(UserDict[str, int]):
        def __getitem__(self, key: str) -> int:
            raise RuntimeError

    set_trace_function(make_counting())
    tracer = Tracer("broken", Broken(a=1))
    assert tracer.enabled
    assert tracer.props is None
    assert swallowed_errors() == 1
