"""Slot of the trace function: set, clear, get and fan out; and tracers made too early."""

import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from functools import partial, wraps
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from hypertrace import (
    TraceEvent,
    TraceFunction,
    Tracer,
    _dispatch,
    clear_trace_function,
    fan_out,
    get_trace_function,
    set_trace_function,
    swallowed_errors,
)
from hypertrace._trace_functions import is_bindable
from hypertrace.testing import capture_events
from hypertrace_prometheus import PrometheusExporter

NO_KEY: Any = ["cannot be hashed"]


class Swarm:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def connect(self) -> None:
        self.tracer.trace()
        self.tracer.trace("id")
        self.tracer.trace(peer=1)
        self.tracer.trace("id", {"peer": 1})


def test_the_slot_holds_what_was_set() -> None:
    """The trace function that was set last is the one, until it is cleared."""
    assert get_trace_function() is None
    set_trace_function(print)
    assert get_trace_function() is print
    set_trace_function(repr)
    assert get_trace_function() is repr
    clear_trace_function()
    clear_trace_function()
    assert get_trace_function() is None


@pytest.mark.parametrize("function", [None, "print", 1])
def test_only_callables_are_trace_functions(function: Any) -> None:
    """An object that is not callable raises at once, and the slot does not change."""
    set_trace_function(print)
    with pytest.raises(TypeError, match="set_trace_function takes a function of one event"):
        set_trace_function(function)
    with pytest.raises(TypeError, match="fan_out takes a function of one event"):
        fan_out(print, function)
    assert get_trace_function() is print


@pytest.mark.parametrize("function", [Swarm, list, PrometheusExporter])
def test_a_class_is_no_trace_function(function: Any) -> None:
    """A class raises at once, and the message says to make an instance."""
    for setter in (set_trace_function, lambda it: fan_out(print, it)):
        message = (
            rf"{function.__name__} is a class: make an instance .*{function.__name__}\(\.\.\.\)"
        )
        with pytest.raises(TypeError, match=message):
            setter(function)
    assert get_trace_function() is None


def test_what_a_class_makes_is_a_trace_function() -> None:
    """Instances, class methods and partial calls of a class are trace functions."""

    class Collecting:
        @classmethod
        def take(cls, event: TraceEvent) -> None:
            """Do nothing."""

        def __call__(self, event: TraceEvent) -> None:
            """Do nothing."""

    for function in (Collecting(), Collecting.take, partial(Swarm)):
        set_trace_function(function)
        assert get_trace_function() == function


async def _coroutine(event: TraceEvent) -> None:
    del event


def _generator(event: TraceEvent) -> Iterator[TraceEvent]:
    yield event


async def _asynchronous_generator(event: TraceEvent) -> AsyncIterator[TraceEvent]:
    yield event


class _Coroutine:
    async def __call__(self, event: TraceEvent) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "function",
    [
        _coroutine,
        _generator,
        _asynchronous_generator,
        partial(_coroutine),
        _Coroutine(),
        _Coroutine().__call__,
    ],
)
def test_what_only_starts_when_called_is_no_trace_function(function: Any) -> None:
    """Coroutine and generator functions raise at once: no code would await or iterate them."""
    for setter in (set_trace_function, fan_out):
        with pytest.raises(TypeError, match="has to be awaited or iterated"):
            setter(function)
    assert get_trace_function() is None


def test_an_object_that_is_marked_as_a_coroutine_function_is_no_trace_function() -> None:
    """An object that says that it has to be awaited, such as a mock, raises at once."""
    with pytest.raises(TypeError, match="has to be awaited or iterated"):
        set_trace_function(AsyncMock())
    assert get_trace_function() is None


def test_clear_silences_and_set_revives(make_counting: type[Any]) -> None:
    """After clearing, all enabled tracers stop at once; after setting again, all work again."""
    counting = make_counting()
    set_trace_function(counting)
    swarms = [Swarm() for _ in range(3)]
    late = Swarm()
    for expected in (12, 24, 36):
        for swarm in swarms:
            swarm.connect()
        clear_trace_function()
        for swarm in [*swarms, late, Swarm()]:
            swarm.connect()
        assert sum(counting.counts("id").values()) == expected
        set_trace_function(counting)
    late.connect()
    assert sum(counting.counts("id").values()) == 40


def test_another_trace_function_takes_over_at_once(make_counting: type[Any]) -> None:
    """Replaced, a trace function gets nothing more, whatever was bound for it."""
    functions = [make_counting() for _ in range(3)]
    set_trace_function(functions[0])
    swarm = Swarm()
    for times, function in enumerate(functions, 1):
        set_trace_function(function)
        for _ in range(times):
            swarm.connect()
    assert [sum(f.counts("id").values()) for f in functions] == [4, 8, 12]
    set_trace_function(functions[0])
    swarm.connect()
    assert [sum(f.counts("id").values()) for f in functions] == [8, 8, 12]


def test_kinds_of_trace_functions_take_over_from_each_other(make_counting: type[Any]) -> None:
    """Events go from recorders to a plain function and back."""
    counting = make_counting()
    set_trace_function(counting)
    swarm = Swarm()
    swarm.connect()
    with capture_events() as events:
        swarm.connect()
    swarm.connect()
    assert len(events) == 4
    assert sum(counting.counts("id").values()) == 8


def test_tracers_made_too_early_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """Setting a trace function warns how many tracers stay silent, of which classes."""
    for i in range(30):
        Tracer(f"early{i // 2}")
    with caplog.at_level(logging.INFO):
        set_trace_function(print)
        set_trace_function(repr)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("hypertrace", "WARNING")
    assert record.getMessage().startswith("30 tracers were made before the trace function was set")
    assert "of early0, early1, early2, early3, early4 and 10 other classes; " in record.getMessage()
    assert "call set_trace_function() or attach() before these objects" in record.getMessage()


def test_tracers_made_while_cleared_are_reported_too(caplog: pytest.LogCaptureFixture) -> None:
    """Those made since a trace function was cleared are reported, as a warning the first time."""
    with caplog.at_level(logging.INFO):
        set_trace_function(print)
        Tracer("enabled")
        for made in (Swarm, "other", "other"):
            clear_trace_function()
            Tracer(made)
            set_trace_function(print)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert all("1 tracers" in record.getMessage() for record in caplog.records)
    names = [record.getMessage().partition(" of ")[2].split(";")[0] for record in caplog.records]
    assert names == ["Swarm", "other", "other"]


def test_nothing_is_said_when_nothing_is_too_early(caplog: pytest.LogCaptureFixture) -> None:
    """Without tracers made before, setting a trace function logs nothing."""
    with caplog.at_level(logging.INFO):
        set_trace_function(print)
    assert caplog.records == []


class Failing:
    """Fails in the methods that are named, otherwise counts."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.records = Counter[str | None]()

    def _may_fail(self, name: str) -> None:
        if name in self.names:
            raise LookupError(name)

    def __call__(self, event: TraceEvent) -> None:
        self._may_fail("__call__")
        self.records[event.id] += 1

    def share_key(self, *_: object) -> Hashable:
        self._may_fail("share_key")
        key: Hashable = NO_KEY if "hash" in self.names else 1
        return key

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        self._may_fail("bind")
        return lambda: self._record(event.id)

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        self._may_fail("bind")
        return lambda props: self._record(event.id)

    def _record(self, id_: str | None) -> None:
        self._may_fail("record")
        self.records[id_] += 1


def _plain_failure(_: TraceEvent) -> None:
    raise LookupError


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fan_out_serves_all(count: int, make_counting: type[Any]) -> None:
    """Each of several trace functions gets everything, plain or bound."""
    functions = [make_counting() for _ in range(count)]
    set_trace_function(fan_out(*functions))
    swarms = [Swarm(), Swarm()]
    for _ in range(3):
        for swarm in swarms:
            swarm.connect()
    for function in functions:
        assert function.counts("id") == {None: 12, "id": 12}
        assert function.counts("caller.props") == {None: 12, (("peer", 1),): 12}


def test_fan_out_to_one_that_distinguishes_objects(make_numbering: type[Any]) -> None:
    """One that distinguishes objects still does so beside one that does not."""
    apart = make_numbering()
    set_trace_function(fan_out(Failing(), apart))
    swarms = [Swarm() for _ in range(3)]
    for swarm in swarms:
        swarm.connect()
    assert apart.counts("object.id") == {swarm.tracer.object_id: 4 for swarm in swarms}


def test_fan_out_keeps_the_order() -> None:
    """Trace functions are called in the order given."""
    order: list[str] = []
    functions = [lambda _, name=name: order.append(name) for name in "abc"]
    set_trace_function(fan_out(*functions))
    Tracer("a").trace()
    assert order == ["a", "b", "c"]


def test_fan_out_can_be_bound_if_all_can(make_counting: type[Any]) -> None:
    """Bindable ones give a bindable one; with a plain one among them events are built."""
    counting = make_counting()
    assert is_bindable(fan_out(Failing(), counting)) == is_bindable(counting)
    assert not is_bindable(fan_out(Failing(), print))


def test_fan_out_within_fan_out(make_counting: type[Any]) -> None:
    """A fan-out is a trace function like any other."""
    one, two, three = make_counting(), make_counting(), make_counting()
    set_trace_function(fan_out(fan_out(one, two), three))
    swarm = Swarm()
    swarm.connect()
    swarm.connect()
    assert [sum(f.counts("id").values()) for f in (one, two, three)] == [8, 8, 8]


class Standing:
    """Stands for another trace function, as an exporter does for its metrics."""

    def __init__(self, forwards_to: Any) -> None:
        self._other = forwards_to
        self.called = 0

    @property
    def forwards_to(self) -> Any:
        return self._other

    def __call__(self, event: TraceEvent) -> None:
        self.called += 1
        self._other(event)


def test_one_may_stand_for_another(make_counting: type[Any]) -> None:
    """Events reach the one that it stands for as if that one was set, and it stays the one set."""
    counting = make_counting()
    standing = Standing(Standing(counting))
    for function in (counting, standing):
        set_trace_function(function)
        assert get_trace_function() is function
        for _ in range(3):
            Swarm().connect()
    assert counting.counts("id") == {None: 12, "id": 12}
    # One that takes events only is called with them by the one that stands for it.
    assert standing.called == (0 if is_bindable(counting) else 12)


def test_in_fan_out_those_that_stand_for_the_same_count_once(make_counting: type[Any]) -> None:
    """Each event is given once to the one they stand for, whatever else is in the `fan_out`."""
    counting, other = make_counting(), make_counting()
    one, two = Standing(counting), Standing(Standing(counting))
    for functions in ((one, two), (one, other, two), (counting, one), (fan_out(one), other)):
        set_trace_function(fan_out(*functions))
        Swarm().connect()
    assert counting.counts("id") == {None: 8, "id": 8}
    assert other.counts("id") == {None: 4, "id": 4}
    assert is_bindable(fan_out(one, other)) == is_bindable(counting)


def test_several_that_stand_for_the_same_one_count_once(make_counting: type[Any]) -> None:
    """Trace functions that stand for the same one are that one, also in other fan-outs."""
    one, other = make_counting(), make_counting()
    nested = fan_out(Standing(one), Standing(other))
    function = fan_out(Standing(one), Standing(Standing(one)), one, nested)
    assert is_bindable(function) == is_bindable(one)
    set_trace_function(function)
    swarm = Swarm()
    swarm.connect()
    swarm.connect()
    assert [sum(f.counts("id").values()) for f in (one, other)] == [8, 8]


class Forwarding:
    """Stands for another trace function by an attribute of the object, not of its class."""

    def __init__(self, forwards_to: Any) -> None:
        self.forwards_to = forwards_to

    def __call__(self, event: TraceEvent) -> None:
        self.forwards_to(event)


def test_the_one_stood_for_may_be_an_attribute_of_the_object(make_counting: type[Any]) -> None:
    """A `forwards_to` that is set in `__init__` counts like a property of the class."""
    counting, other = make_counting(), make_counting()
    function = fan_out(Forwarding(counting), Standing(counting), Forwarding(fan_out(other)), other)
    assert is_bindable(function) == is_bindable(counting)
    set_trace_function(function)
    Swarm().connect()
    assert [sum(f.counts("id").values()) for f in (counting, other)] == [4, 4]


def test_a_function_that_wraps_one_stands_for_none() -> None:
    """What `functools.wraps` copies to a function does not send events past it."""
    seen: list[TraceEvent] = []

    @wraps(Forwarding(print_nothing))
    def wrapper(event: TraceEvent) -> None:
        seen.append(event)

    set_trace_function(fan_out(wrapper, seen.append))
    Tracer("a").trace()
    assert len(seen) == 2


class Unbound:
    """A trace function whose attributes cannot be looked at, as those of a proxy without object."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self, event: TraceEvent) -> None:
        pass


def test_attributes_that_cannot_be_looked_at_do_not_matter() -> None:
    """What an object raises when it is asked for attributes is not raised where it is set."""
    for function in (Unbound(), fan_out(Unbound(), print_nothing)):
        set_trace_function(function)
        Tracer("a").trace()
    assert swallowed_errors() == 0


def test_one_that_makes_up_attributes_stands_for_none() -> None:
    """A mock has any attribute, and gets its events itself."""
    mock = Mock()
    set_trace_function(fan_out(mock, print_nothing))
    Tracer("a").trace()
    assert mock.call_count == 1


async def _awaited(_: TraceEvent) -> None:
    pass


@pytest.mark.parametrize("other", [Tracer, _awaited], ids=["a class", "a coroutine function"])
@pytest.mark.parametrize("make", [Standing, Forwarding])
def test_the_one_stood_for_must_be_a_trace_function(make: Any, other: Any) -> None:
    """What is refused as a trace function is refused behind one that stands for it, too."""
    for configure in (set_trace_function, fan_out):
        with pytest.raises(TypeError, match=r"a trace function (is called|runs when)"):
            configure(make(other))


@pytest.mark.parametrize("other", [None, 7, "name"], ids=str)
def test_an_attribute_of_that_name_may_be_anything(other: Any) -> None:
    """A trace function whose `forwards_to` is none keeps its events."""
    seen: list[TraceEvent] = []

    class Odd:
        forwards_to = other

        def __call__(self, event: TraceEvent) -> None:
            seen.append(event)

    for function in (Odd(), fan_out(Odd(), print_nothing)):
        set_trace_function(function)
        Tracer("a").trace()
    assert len(seen) == 2


def print_nothing(_: TraceEvent) -> None:
    pass


def test_one_that_stands_for_itself_gets_its_events() -> None:
    """Trace functions that stand for each other in a circle do not hang the program."""
    seen: list[TraceEvent] = []

    class Circle:
        @property
        def forwards_to(self) -> Any:
            return self

        def __call__(self, event: TraceEvent) -> None:
            seen.append(event)

    circle = Circle()
    for function in (circle, fan_out(circle, print_nothing)):
        set_trace_function(function)
        Tracer("a").trace()
    assert len(seen) == 2


def test_fan_out_of_nothing_is_a_mistake() -> None:
    """Without trace functions there is nothing to make one of."""
    with pytest.raises(ValueError, match="at least one"):
        fan_out()


@pytest.mark.parametrize("failing_first", [True, False])
@pytest.mark.parametrize("failure", ["record", "bind", "share_key", "hash", "plain"])
def test_one_that_raises_does_not_stop_the_others(
    failure: str, make_counting: type[Any], *, failing_first: bool
) -> None:
    """Wherever one of several trace functions fails, the others get every event."""
    counting = make_counting()
    failing: TraceFunction = _plain_failure if failure == "plain" else Failing(failure, "__call__")
    functions = [failing, counting] if failing_first else [counting, failing]
    set_trace_function(fan_out(*functions))
    swarm = Swarm()
    for _ in range(3):
        swarm.connect()
    assert counting.counts("id") == {None: 6, "id": 6}
    assert swallowed_errors() > 0


def test_one_that_cannot_bind_tries_again() -> None:
    """A bind that failed is tried at the next call, and succeeds when it can."""
    failing, other = Failing("bind"), Failing()
    set_trace_function(fan_out(failing, other))
    swarm = Swarm()
    swarm.connect()
    assert swallowed_errors() == 4
    failing.names = ()
    swarm.connect()
    assert failing.records == {None: 2, "id": 2}
    assert other.records == {None: 4, "id": 4}
    assert swallowed_errors() == 4


def test_fan_out_lets_interrupts_pass(make_counting: type[Any]) -> None:
    """An interrupt in one of several passes at once."""

    def interrupt(_: TraceEvent) -> None:
        raise KeyboardInterrupt

    counting = make_counting()
    set_trace_function(fan_out(interrupt, counting))
    swarm = Swarm()
    with pytest.raises(KeyboardInterrupt):
        swarm.connect()
    set_trace_function(counting)
    swarm.connect()
    assert sum(counting.counts("id").values()) == 4


def test_the_last_that_is_set_by_threads_at_once_is_the_only_one_called(
    make_counting: type[Any],
) -> None:
    """When several threads set trace functions at once, nothing reaches any but the last."""
    for _ in range(50):
        functions = [make_counting() for _ in range(4)]
        ready = threading.Barrier(4)

        def set_one(function: Any, ready: threading.Barrier = ready) -> None:
            ready.wait()
            set_trace_function(function)
            Swarm().connect()

        threads = [threading.Thread(target=set_one, args=[f]) for f in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(_dispatch._active_targets) == 1
        assert _dispatch._active_targets == [_dispatch.target]
