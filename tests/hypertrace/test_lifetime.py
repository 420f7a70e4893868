"""Lifetimes: no object, class, code or frame lives longer because it is traced."""

import gc
import logging
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import TraceEvent, Tracer, set_trace_function, swallowed_errors
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def _no_log() -> Iterator[None]:
    logger = logging.getLogger("hypertrace")
    logger.disabled = True
    yield
    logger.disabled = False


class Traced:
    """Traces in its methods."""

    def __init__(self, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, {"topic": "a"}, parent=parent)

    def go(self) -> None:
        self.tracer.trace()
        self.tracer.trace("id")
        self.tracer.trace(peer=1)
        self.tracer.trace({"peer-id": 1})
        list(map(self.tracer.trace, ["a"]))
        [self.tracer.trace("b") for _ in range(2)]  # type: ignore[func-returns-value]


class Slotted:
    """Has slots, and takes weak references."""

    __slots__ = ("__weakref__", "died", "tracer")

    def __init__(self, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, {"topic": "a"}, parent=parent)

    go = Traced.go


class Bare:
    """Has slots, and allows no weak references: its finalizer reports its end."""

    __slots__ = ("died", "tracer")

    died: list[bool]

    def __init__(self, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, {"topic": "a"}, parent=parent)

    go = Traced.go

    def __del__(self) -> None:
        self.died.append(True)


def _watch(traced: Any) -> list[bool]:
    """Give a list that is filled when an object goes."""
    died: list[bool] = []
    if isinstance(traced, Bare):
        traced.died = died
    else:
        weakref.finalize(traced, died.append, True)
    return died


@pytest.mark.parametrize("class_", [Traced, Slotted, Bare])
def test_a_traced_object_goes_with_its_last_reference(class_: Any, counts: Counts) -> None:
    """Reference counting alone frees an object that holds a tracer, however much it traced."""
    for times in (0, 1, 100):
        traced = class_()
        died = _watch(traced)
        for _ in range(times):
            traced.go()
        assert died == []
        del traced
        assert died == [True]
    assert counts("object.class_name") == {class_.__name__: 707}


@pytest.mark.parametrize("class_", [Traced, Slotted, Bare])
def test_an_object_without_weak_references_has_no_ctx(class_: Any, counts: Counts) -> None:
    """The object is known as long as it lives where its class allows weak references."""
    traced = class_()
    assert traced.tracer.ctx is (None if class_ is Bare else traced)
    if class_ is Bare:
        traced.died = []
    tracer = traced.tracer
    del traced
    assert tracer.ctx is None
    tracer.trace()
    assert sum(counts("id").values()) == 1


def test_a_bare_tracer_does_not_keep_its_object(counts: Counts) -> None:
    """A tracer without props or parent keeps nothing either."""

    class Plain:
        def __init__(self) -> None:
            self.tracer = Tracer(self)

    for _ in range(3):
        traced = Plain()
        alive = weakref.ref(traced)
        traced.tracer.trace()
        assert traced.tracer.ctx is traced
        tracer = traced.tracer
        del traced
        assert alive() is tracer.ctx is None


@pytest.mark.parametrize("class_", [Traced, Slotted, Bare])
def test_a_child_does_not_keep_its_parent(class_: Any, counts: Counts) -> None:
    """A parent is released with its last reference; the child's events still name it."""
    parent = class_()
    died = _watch(parent)
    children = [Traced(parent.tracer), Traced()]
    children[1].tracer.set_parent(parent.tracer)
    for child in children:
        child.go()
    del parent
    assert died == [True]
    for child in children:
        child.go()
    assert counts("parent_object.class_name") == {class_.__name__: 28}


def test_a_parent_and_child_that_hold_each_other_through_tracers_go(counts: Counts) -> None:
    """Tracers that are each other's parents make no cycle."""
    one, two = Traced(), Traced()
    one.tracer.set_parent(two.tracer)
    two.tracer.set_parent(one.tracer)
    died = [_watch(one), _watch(two)]
    one.go()
    two.go()
    del one, two
    assert died == [[True], [True]]


@pytest.mark.usefixtures("_no_log")
def test_an_error_keeps_no_object() -> None:
    """A trace function that raises leaves no traceback behind that holds the application."""

    def fail(event: TraceEvent) -> None:
        raise LookupError(event)

    set_trace_function(fail)
    traced = Traced()
    died = _watch(traced)
    traced.go()
    assert swallowed_errors() == 7
    del traced
    assert died == [True]


def test_events_keep_no_object() -> None:
    """A list of events keeps neither objects nor parents."""
    with capture_events() as events:
        parent = Traced()
        traced = Traced(parent.tracer)
        died = [_watch(traced), _watch(parent)]
        traced.go()
    assert len(events) == 7
    del traced, parent
    assert died == [[True], [True]]


def test_no_frame_is_kept(counts: Counts) -> None:
    """After a call nothing refers to the locals of the function that traces."""
    tracer = Tracer("locals")

    def run() -> tuple[int, int, weakref.ref[Any]]:
        local = Traced()
        before = sys.getrefcount(local)
        for _ in range(3):
            tracer.trace()
            tracer.trace("id", peer=1)
        return before, sys.getrefcount(local), weakref.ref(local)

    before, after, alive = run()
    assert before == after
    assert alive() is None
    assert sum(counts("id").values()) == 6


def test_props_of_a_call_are_not_kept(make_counting: type[Any]) -> None:
    """Props that a trace function does not keep are released after the call."""

    class Value: ...

    class Forgetful(make_counting):  # type: ignore[misc]  # any class of the fixture
        def __call__(self, event: TraceEvent) -> None:
            pass

        def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
            return lambda props: None

    set_trace_function(Forgetful())
    tracer = Tracer("values")
    for _ in range(3):
        value = Value()
        alive = weakref.ref(value)
        tracer.trace(value=value)
        tracer.trace("id", {"value": value})
        del value
        assert alive() is None


def test_classes_made_at_run_time_can_be_collected(counts: Counts) -> None:
    """A class is released with its objects, although they traced and the class itself is traced."""
    classes = []
    for number in range(20):

        class Local(Traced):
            def go_on(self) -> None:
                self.tracer.trace()

        Local.__name__ = f"Local{number}"
        local = Local()
        local.go()
        local.go_on()
        Tracer(Local).trace()
        classes.append(weakref.ref(Local))
        del Local, local
    gc.collect()  # classes are cycles by themselves
    assert [alive() for alive in classes] == [None] * 20
    assert sum(counts("id").values()) == 20 * 9


def test_a_tracer_does_not_keep_the_class(counts: Counts) -> None:
    """A tracer that is kept keeps neither the object nor its class, and goes on tracing."""

    class Local(Traced): ...

    tracer, alive = Local().tracer, weakref.ref(Local)
    tracer.trace()
    del Local
    gc.collect()  # a class is a cycle by itself
    assert alive() is None
    tracer.trace()
    assert sum(counts("id").values()) == 2


def test_nothing_is_left_for_the_collector(counts: Counts) -> None:
    """Making, using and dropping traced objects makes no garbage that needs the collector."""
    Traced().go()
    gc.collect()
    for _ in range(100):
        Traced(Traced().tracer).go()
    assert gc.collect() == 0


def test_events_are_no_garbage() -> None:
    """Events are freed by reference counting."""
    with capture_events() as events:
        Traced().go()
        gc.collect()
        for _ in range(100):
            Traced(Traced().tracer).go()
        events.clear()
        assert gc.collect() == 0
