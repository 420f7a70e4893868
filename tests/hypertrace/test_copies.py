"""Copies and pickles of objects that hold a tracer, of tracers, events and spans."""

import copy
import dataclasses
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hypertrace
from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    Upstream,
    clear_trace_function,
    set_trace_function,
    swallowed_errors,
)
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Swarm:
    def __init__(self, topic: object = "a", parent: Tracer | None = None) -> None:
        self.peers = [1, 2]
        self.tracer = Tracer(self, {"topic": topic}, parent=parent)

    def go(self) -> None:
        self.tracer.trace()


class Slotted:
    __slots__ = ("peers", "tracer")

    def __init__(self) -> None:
        self.peers = [1, 2]
        self.tracer = Tracer(self)

    go = Swarm.go


@dataclasses.dataclass
class Data:
    name: str
    tracer: Tracer = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.tracer = Tracer(self)

    go = Swarm.go


class Unhashable(type):
    def __eq__(cls, other: object) -> bool:
        raise ArithmeticError

    def __hash__(cls) -> int:
        raise ArithmeticError


class Unwilling(metaclass=Unhashable):
    """Can be neither copied nor pickled, nor shown; nor can its class be hashed."""

    def __reduce__(self) -> str:
        raise TypeError("not to be copied")

    def __str__(self) -> str:
        raise ArithmeticError


def _pickled(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj))


@pytest.mark.parametrize("class_", [Swarm, Slotted, lambda: Data("one")])
@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
def test_the_copy_of_an_object_has_a_tracer_of_its_own(
    class_: Any, copied: Callable[[Any], Any], counts: Counts
) -> None:
    """Other attributes of the object are copied as usual; the copy's tracer has its own id."""
    original = class_()
    other = copied(original)
    assert type(other) is type(original)
    assert getattr(other, "peers", None) == getattr(original, "peers", None)
    assert other.tracer is not original.tracer
    assert isinstance(other.tracer, Tracer)
    assert (original.tracer.object_id, other.tracer.object_id) == (1, 2)
    assert other.tracer.class_name == original.tracer.class_name
    assert other.tracer.props == original.tracer.props
    original.go()
    other.go()
    assert counts("caller.function_name").total() == 2
    assert set(counts("caller.function_name")) == {"go" if class_ is Swarm else "Swarm.go"}


def test_a_deep_copy_belongs_to_the_copied_object(counts: Counts) -> None:
    """In a deep copy of an object the tracer's object is the copy; alone, it stays what it was."""
    original = Swarm()
    other = copy.deepcopy(original)
    assert other.tracer.ctx is other
    assert original.tracer.ctx is original
    assert copy.deepcopy(original.tracer).ctx is original
    both = copy.deepcopy([original, original.tracer])
    assert both == [both[0], both[0].tracer]  # type: ignore[attr-defined]


def test_a_copy_of_an_object_shares_its_tracer(counts: Counts) -> None:
    """`copy.copy` shares all that an object holds; a copied tracer is another tracer."""
    original = Swarm()
    assert copy.copy(original).tracer is original.tracer
    other = copy.copy(original.tracer)
    assert (other.object_id, other.class_name, other.ctx) == (2, "Swarm", original)
    other.trace()
    assert counts("object.class_name") == {"Swarm": 1}


def test_replace_makes_a_tracer_like_any_other(counts: Counts) -> None:
    """`dataclasses.replace` makes a new object, whose tracer has its own id."""
    other = dataclasses.replace(Data("one"), name="two")
    assert (other.name, other.tracer.object_id, other.tracer.ctx) == ("two", 2, other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_is_data(protocol: int, counts: Counts) -> None:
    """A pickled tracer brings its names, props and parent, and nothing of what it was made of."""
    parent = Swarm("parent")
    topic = [threading.Lock(), Unwilling()]
    tracer = Tracer(Swarm("x"), {"lock": topic[0], "bad": topic[1], "n": 1.5}, parent=parent.tracer)
    loaded = pickle.loads(pickle.dumps(tracer, protocol))
    assert (loaded.class_name, loaded.ctx) == ("Swarm", None)
    assert loaded.props is not None
    assert loaded.props["n"] == 1.5
    assert loaded.props["bad"] == "<unprintable Unwilling>"
    assert str(loaded.props["lock"]).startswith("<unlocked _thread.lock object")
    assert loaded.parent_object.class_name == "Swarm"
    assert loaded.parent_object.props == {"topic": "parent"}
    assert swallowed_errors() == 0


def test_what_cannot_be_pickled_or_copied_is_not_dragged_along(counts: Counts) -> None:
    """A tracer makes no object unpicklable, by its props, parent, class or object."""

    class Local(Swarm):
        def __reduce__(self) -> str:
            raise TypeError("not to be copied")

    local = Local(Unwilling())
    holder = Swarm(Unwilling(), parent=local.tracer)
    holder.extra = local.tracer  # type: ignore[attr-defined]
    for copied in (copy.copy, copy.deepcopy, _pickled):
        other: Any = copied(holder)
        assert other.extra.class_name == "Local"
        other.go()
    assert b"Local" in pickle.dumps(holder)
    assert counts("parent_object.class_name") == {"Local": 3}


def test_a_pickle_is_small(counts: Counts) -> None:
    """However large the object and the values of its props are, little is added to a pickle."""
    swarm = Swarm([0] * 100_000)
    assert len(pickle.dumps(swarm.tracer)) < 1_000


def test_a_tracer_of_a_class_a_module_or_a_name(counts: Counts) -> None:
    """Tracers of what is no ordinary object are copied and pickled as well."""
    for ctx in (Swarm, sys, "startup"):
        tracer = Tracer(ctx)
        assert copy.deepcopy(tracer).ctx is ctx
        assert copy.copy(tracer).ctx is ctx
        loaded = _pickled(tracer)
        assert loaded.class_name == tracer.class_name
        assert loaded.ctx == (ctx if isinstance(ctx, str) else None)
        loaded.trace()


def test_a_subclass_is_copied_as_itself(counts: Counts) -> None:
    """A tracer of a class derived from `Tracer` stays one."""
    for copied in (copy.copy, copy.deepcopy, _pickled):
        assert type(copied(Special("a"))) is Special


class Special(Tracer):
    """A tracer of another class."""


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
def test_a_disabled_tracer_is_always_the_same(copied: Callable[[Any], Any]) -> None:
    """The tracer that does nothing is copied and pickled as itself, tracing on or off."""
    disabled = Tracer("a")
    assert copied(disabled) is disabled
    with capture_events():
        assert copied(disabled) is disabled


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
def test_a_copy_made_while_tracing_is_off_is_disabled(
    copied: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Like any tracer that is made then, and counted among those that stay silent."""
    set_trace_function(print)
    tracer = Tracer("a")
    clear_trace_function()
    assert not copied(tracer).enabled
    with caplog.at_level("INFO"):
        set_trace_function(print)
    assert "1 tracers were made before the trace function was set" in caplog.text


def test_copies_of_spans_do_nothing(make_counting: type[Any]) -> None:
    """A span that is copied or pickled, perhaps with its object, ends once."""
    counting = make_counting()
    set_trace_function(counting)
    with Tracer("a").span() as span:
        for copied in (copy.copy, copy.deepcopy, _pickled):
            with copied(span) as other:
                other.set(a=1)
                other.fail()
            assert copied(other) is other
    assert counting.counts("id") == {None: 1}


def test_events_can_be_sent() -> None:
    """All events can be pickled and copied, as plain data."""

    class OddError(ValueError):
        """Not to be found by its name."""

    props = {"peer": "ann", "lock": threading.Lock(), 7: Unwilling()}
    caller = Caller("go", "a.py", "a", 1, 2, props)  # type: ignore[arg-type]
    traced = TracedObject("Swarm", 3, {"topic": Unwilling()}, Unwilling())
    event = TraceEvent(Unwilling(), traced, None, caller)  # type: ignore[arg-type]
    span = SpanEvent(
        "id", traced, traced, caller, 0.5, "error", OddError, Upstream("Cart", "add"), 0.1
    )
    for copied in (copy.deepcopy, _pickled):
        other: Any = copied(event)
        assert other.id == "<unprintable Unwilling>"
        assert (other.object.class_name, other.object.id) == ("Swarm", 3)
        assert (other.object.ctx, other.object.tracer, other.parent_object) == (None, None, None)
        assert other.object.props == {"topic": "<unprintable Unwilling>"}
        assert (other.caller.function_name, other.caller.line, other.caller.column) == ("go", 1, 2)
        assert other.caller.props["peer"] == "ann"
        assert other.caller.props["7"] == "<unprintable Unwilling>"
        ended: Any = copied(span)
        assert (ended.duration, ended.result, ended.busy) == (0.5, "error", 0.1)
        assert (ended.exception, ended.upstream.class_name) == (ValueError, "Cart")


def test_exceptions_that_can_be_found_stay_what_they_are() -> None:
    """The class of an exception travels by its name."""
    traced, caller = TracedObject("a", 1), Caller("b", "c")
    for kind in (KeyError, subprocess.TimeoutExpired, None):
        event = SpanEvent(None, traced, None, caller, 1.0, "error", kind)
        assert _pickled(event).exception is kind


PROCESSES = """
import logging, multiprocessing, sys
from hypertrace import Tracer, set_trace_function

# What arrives before the trace function is set stays silent there, with a warning.
logging.getLogger("hypertrace").setLevel(logging.ERROR)

class Swarm:
    def __init__(self):
        self.tracer = Tracer(self, {"lock": multiprocessing})
    def go(self):
        self.tracer.trace()
        with self.tracer.span():
            return type(self.tracer), self.tracer.enabled, isinstance(self.tracer, Tracer)

events = []

def ask(swarm, queue):
    swarm.go()
    set_trace_function(events.append)
    Swarm().go()
    queue.put((swarm, swarm.go()[1:], events))

if __name__ == "__main__":
    set_trace_function(lambda event: None)
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    child = context.Process(target=ask, args=(Swarm(), queue))
    child.start()
    swarm, answer, events = queue.get(timeout=50)
    child.join(50)
    assert child.exitcode == 0
    assert answer == (False, True), answer
    assert [event.caller.function_name for event in events] == ["go", "go"], events
    assert not swarm.tracer.enabled
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_not_forked(method: str, tmp_path: Path) -> None:
    """An object with a tracer travels to another process and back, and so do events."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    ended = subprocess.run(
        [sys.executable, script, method],
        env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
